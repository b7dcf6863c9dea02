"""The variants of the lab by name: every guide rule, and the walks and networks that are not the default; all else is.

`enter("mine", Mine)` brings in a rule from outside the package, such as a cell of a notebook.
"""

from dataclasses import dataclass
from inspect import getmembers, getsource, isfunction
from typing import Callable

import torch
from torch import Tensor

from ..guider import Clean, Denoiser, GuideRule
from ..rules import RULES, TRAINED_AS, asked, loss_of
from ..sampler import PairModel, corrected
from ..schedule import Schedule
from . import pig, swapped, two_heads
from .methods import METHODS, NETWORKS, Method, Network, paired
from .start import Start, signs
from .units import digest


def by_rule(rule: GuideRule):
    """How pairs are drawn under a guide rule, by both chains at once."""

    def draw(guider: Denoiser, model_y: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
        return pig.draw(guider, asked(rule, model_y), start, rule)

    return draw


def with_corrections(guider: Denoiser, model_y: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
    """The default rule on the corrected walk."""
    pair, grid = PairModel(guider, model_y, Schedule(), Clean()), Schedule().grid(start.steps)
    with torch.no_grad():
        x_T, y_T = (start.noise((1, *start.size)) for _ in range(2))
        *_, last = corrected(pair, x_T, y_T, grid, start.noise)
    return signs(last.x0_hat), last.y0_hat


@dataclass(frozen=True)
class Variant:
    """draw(*networks, start) -> (masks ±1, slices); calls of a network a step; share: of the lab's steps, that it takes;
    version: that of a rule which may change."""

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

    rule: a class, of which rule() is a guide rule. trained_as: the rule in the lab whose model_y it shares, if it only
    samples apart. version: None is a hash of the rule's methods and attributes, so that a rule that has been changed is
    trained and measured anew. Raises ValueError for the name of what the package brings, a rule that is not there to be
    shared, or one whose source cannot be read.
    """
    if name in VARIANTS and not VARIANTS[name].version:
        raise ValueError(f"{name} is in the package already; give your rule another name")
    if trained_as is not None and trained_as not in RULES:
        raise ValueError(f"there is no rule {trained_as} to share model_y with; there are {', '.join(RULES)}")
    version = fingerprint(rule) if version is None else version
    network = VARIANTS[trained_as].networks[1] if trained_as else f"model_y-{name}{version}"
    LAB_NETWORKS.setdefault(network, Network(paired, loss_of(rule()), ("guider",), guided=True))
    RULES[name] = rule
    calls = 3 if hasattr(rule, "asks") else 2
    VARIANTS[name] = Variant(("guider", network), by_rule(rule()), calls, version=version)


def fingerprint(rule: type[GuideRule]) -> str:
    """A short hash of the source of a rule's methods, and of the attributes of rule()."""
    try:
        methods = {of: getsource(method) for of, method in getmembers(rule, isfunction)}
    except OSError as error:
        raise ValueError(
            f"the source of {rule.__name__} cannot be read; give a version, and a new one with each change"
        ) from error
    values = {of: repr(value) for of, value in getmembers(rule()) if not of.startswith("__") and not callable(value)}
    return "-" + digest(methods | values)[:6]


for _name, _rule in tuple(RULES.items()):
    enter(_name, _rule, TRAINED_AS.get(_name), version="")


def lab_methods(solver: str, steps: int) -> dict[str, Method]:
    """Every variant as a method of the workshop, all on one solver; `finished-fewer` has the default's number of calls."""
    return {v.source(name, solver): Method(v.networks, v.draw, solver, int(v.share * steps)) for name, v in VARIANTS.items()}
