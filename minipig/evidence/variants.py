"""The variants of the lab by name: every guide rule, and the walks and networks that are not the default; all else is.

`enter("mine", Mine)` brings in a rule from outside the package, such as a cell of a notebook.
"""

from dataclasses import dataclass, replace
from typing import Callable

import torch
from torch import Tensor

from ..guider import Clean, Denoiser, GuideRule
from ..rules import RULES, TRAINED_AS, asked, loss_of
from ..sampler import SOLVERS, PairModel, corrected
from ..schedule import Schedule
from . import pig, swapped, two_heads
from .checked import checked
from .fingerprint import fingerprint
from .methods import METHODS, NETWORKS, Method, Network, paired
from .start import Start, signs


def by_rule(rule: GuideRule):
    """How pairs are drawn under a guide rule, by both chains at once."""

    def draw(guider: Denoiser, model_y: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
        return pig.draw(guider, asked(rule, model_y), start, rule)

    return draw


def with_corrections(guider: Denoiser, model_y: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
    """The default rule on the corrected walk, which is of first order."""
    schedule = Schedule()
    pair = PairModel(guider, model_y, schedule, Clean())
    grid = schedule.grid(start.steps, SOLVERS[start.solver]["spacing"])
    with torch.no_grad():
        x_T, y_T = (start.noise((1, *start.size)) for _ in range(2))
        for last in corrected(pair, x_T, y_T, grid, start.noise):
            pass
    return signs(last.x0_hat), last.y0_hat


@dataclass(frozen=True)
class Variant:
    """draw(*networks, start) -> (masks ±1, slices); calls of a network a step; share: of the lab's steps, those it takes, so
    that it costs no more than others; version: that of a rule which may change."""

    networks: tuple[str, ...]
    draw: Callable[..., tuple[Tensor, Tensor]]
    calls: int = 2
    share: float = 1.0
    version: str = ""

    def source(self, name: str, solver: str) -> str:
        """What its samples are called."""
        return f"{name}{self.version}@{solver}"


VARIANTS = {
    "sequential": Variant(METHODS["SegGuidedDif-newmasks"].networks, METHODS["SegGuidedDif-newmasks"].draw),
    "finished": Variant(METHODS["PIG-finished"].networks, METHODS["PIG-finished"].draw, calls=3),
    "finished-fewer": Variant(METHODS["PIG-finished"].networks, METHODS["PIG-finished"].draw, calls=3, share=2 / 3),
    "corrected": Variant(("guider", "model_y-clean"), with_corrections, calls=4),
    "swapped": Variant(("model_y-noisy", "mask-by-slice"), swapped.draw),
    "joint": Variant(("joint",), METHODS["joint"].draw, calls=1),
    "two-heads": Variant(("two-heads",), two_heads.draw),
}

LAB_NETWORKS = NETWORKS | {
    "mask-by-slice": Network(paired, swapped.mask_loss),
    "two-heads": Network(two_heads.TwoHeads, two_heads.loss),
}


def enter(name: str, rule: type[GuideRule], trained_as: str | None = None, version: str | None = None) -> None:
    """A guide rule into the lab under a new `name`, a row of its own from now on; entered again, it takes its own place.

    rule: a class, of which rule() is a guide rule of one channel. trained_as: the rule in the lab whose model_y it shares, if
    it only samples apart. version: None is the rule's `fingerprint`, so that a rule that has been changed is trained and
    measured anew. Raises ValueError for the name of what the package brings, what is not such a class, guides that are not
    finite tensors of the mask's shape, a rule that is not there to be shared or learns by another loss, and one whose source
    cannot be read.
    """
    if name in VARIANTS and not VARIANTS[name].version:
        raise ValueError(f"{name} is in the package already; give your rule another name")
    if not isinstance(rule, type) or not all(callable(getattr(rule, method, None)) for method in ("train", "sample")):
        raise ValueError(f"{name}: a rule is a class with the methods train and sample, not {rule!r}")
    if trained_as is not None and trained_as not in RULES:
        raise ValueError(f"there is no rule {trained_as} to share model_y with; there are {', '.join(RULES)}")
    if trained_as is not None and getattr(rule, "loss", None) is not getattr(RULES[trained_as], "loss", None):
        raise ValueError(f"{name} has a loss of its own, which the model_y of {trained_as} does not learn by")
    try:
        own = rule()
    except TypeError as error:
        raise ValueError(f"{name}: {rule.__name__}() must do without arguments ({error}); give each a default") from error
    checked(own)
    register(name, rule, trained_as, "-" + (version or fingerprint(rule)))


def register(name: str, rule: type[GuideRule], trained_as: str | None, version: str) -> None:
    """`enter`, unchecked; those that share the model_y of the rule's last version share the new one's."""
    own, old = f"model_y-{name}{version}", VARIANTS[name].networks if name in VARIANTS else None
    network = VARIANTS[trained_as].networks[1] if trained_as else own
    LAB_NETWORKS.setdefault(network, Network(paired, loss_of(rule()), ("guider",), guided=True))
    if old and old[1] == f"model_y-{name}{VARIANTS[name].version}":
        for other, variant in VARIANTS.items():
            VARIANTS[other] = replace(variant, networks=("guider", network)) if variant.networks == old else variant
    RULES[name] = rule
    VARIANTS[name] = Variant(("guider", network), by_rule(rule()), 1 + calls_of(rule()), version=version)


def calls_of(rule: GuideRule) -> int:
    """How often Algorithm 2 asks model_y under this rule, a step."""
    calls = []

    def model_y(z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        calls.append(t)
        return z

    asked(rule, model_y)(torch.zeros(1, 1, 8, 8), torch.ones(1, dtype=torch.long), torch.zeros(1, 1, 8, 8))
    return len(calls)


for _name, _rule in tuple(RULES.items()):
    register(_name, _rule, TRAINED_AS.get(_name), version="")


def lab_methods(solver: str, steps: int) -> dict[str, Method]:
    """Every variant as a method of the workshop, each on its share of the solver's steps."""
    return {v.source(name, solver): Method(v.networks, v.draw, solver, int(v.share * steps)) for name, v in VARIANTS.items()}
