"""The variants of the lab by name: every guide rule, and other walks and networks.

`enter("mine", Mine, version="1")` adds a rule from outside the package, such as a notebook's.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Callable

import torch
from torch import Tensor

from minipig.data.checks import check_choice
from minipig.evidence.methods import joint, pig, registry, two_heads, two_times
from minipig.evidence.methods.batch import Batch, signs
from minipig.evidence.methods.registry import NETWORKS, PIG_CLEAN, Method, Network, paired
from minipig.extras.own_rules import make_rule
from minipig.extras.solvers import SOLVERS, corrected
from minipig.guider import Denoiser, GuideRule
from minipig.rules import RULES, TRAINED_AS, Clean, loss_of
from minipig.sampler import PairModel


@torch.no_grad()
def with_corrections(guider: Denoiser, model_y: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """The rule Clean on the corrected walk, which is of first order."""
    pair = PairModel(guider, model_y, batch.schedule, Clean())
    grid = SOLVERS[batch.solver].grid(batch.schedule, batch.steps)
    x_T = batch.noise((1, *batch.size))
    y_T = batch.noise((1, *batch.size))
    for last in corrected(pair, x_T, y_T, grid, batch.noise):
        pass  # only the last state is kept
    return signs(last.x0_hat), last.y0_hat


@dataclass(frozen=True)
class Variant:
    """draw(*networks, batch) -> (masks ±1, slices).

    calls: network calls in a step; share: of the lab's steps that it takes, so that it costs no
    more than the others; version: "" if built in, else "-" and that of `enter`.
    """

    networks: tuple[str, ...]
    draw: Callable[..., tuple[Tensor, Tensor]]
    calls: int = 2
    share: float = 1.0
    version: str = ""

    def source(self, name: str, solver: str) -> str:
        """The name of its samples."""
        return f"{name}{self.version}@{solver}"


VARIANTS = {
    "sequential": Variant(("mask", "model_y-clean"), registry.new_masks_first),
    "finished": Variant(PIG_CLEAN, registry.finished_masks, calls=3),
    "finished-fewer": Variant(PIG_CLEAN, registry.finished_masks, calls=3, share=2 / 3),
    "corrected": Variant(PIG_CLEAN, with_corrections, calls=4),
    "swapped": Variant(("model_y-noisy", "mask-by-slice"), pig.draw_swapped),
    "joint": Variant(("joint",), joint.draw, calls=1),
    "two-heads": Variant(("two-heads",), two_heads.draw),
    "two-times": Variant(("two-times",), two_times.draw, calls=1),
}

LAB_NETWORKS = NETWORKS | {
    "mask-by-slice": Network(paired, pig.mask_loss),
    "two-heads": Network(two_heads.TwoHeads, two_heads.loss),
    "two-times": Network(two_times.TwoTimes, two_times.loss),
}


def enter(
    name: str, rule: type[GuideRule], version: str | None = None, trained_as: str | None = None
) -> None:
    """Add a guide rule to the lab under `name`, or replace its earlier version.

    rule: a class whose rule() is a guide rule of one channel. version: any text, a new one whenever
    the rule changes, so that stale results are not reused. trained_as: the rule in the lab whose
    model_y it shares, if the two differ in sampling alone. Raises ValueError if the version is
    missing, the name is built in, `rule` is not such a class or fails `check_rule`, or `trained_as`
    is unknown or has another loss.
    """
    if not version:
        needs = f"{name} needs a version: enter({name!r}, ..., version='1')"
        raise ValueError(f"{needs}; give a new one whenever the rule changes")
    if name in VARIANTS and not VARIANTS[name].version:
        raise ValueError(f"{name} is built in; give your rule another name")
    if not isinstance(rule, type):
        raise ValueError(f"{name} must be a class with the methods train and sample, not {rule!r}")
    if trained_as is not None:
        check_choice("rule", trained_as, RULES)
        if getattr(rule, "loss", None) is not getattr(RULES[trained_as], "loss", None):
            raise ValueError(f"{name} has its own loss and needs its own model_y: omit trained_as")
    make_rule(rule, f"{name}: {rule.__name__}")
    register(name, rule, trained_as, f"-{version}")


def register(name: str, rule: type[GuideRule], trained_as: str | None, version: str) -> None:
    """`enter` without its checks.

    Rules that share the model_y of this rule's last version will share that of the new one.
    """
    before = VARIANTS.get(name)
    network = f"model_y-{name}{version}"
    if trained_as:
        network = VARIANTS[trained_as].networks[1]
    elif network not in NETWORKS:
        LAB_NETWORKS[network] = Network(paired, loss_of(rule()), ("guider",), guided=True)
    if before and before.networks[1] == f"model_y-{name}{before.version}":
        for other, variant in VARIANTS.items():
            if variant.networks == before.networks:
                VARIANTS[other] = replace(variant, networks=("guider", network))
    RULES[name] = rule
    calls = 1 + calls_of(rule())
    draw = partial(pig.draw, rule=rule())
    VARIANTS[name] = Variant(("guider", network), draw, calls, version=version)


def calls_of(rule: GuideRule) -> int:
    """The number of calls of model_y in one step under this rule."""
    calls = []

    def model_y(z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        calls.append(t)
        return z

    z = torch.zeros(1, 1, 8, 8)
    PairModel(None, model_y, None, rule).guided_y(z, torch.ones(1, dtype=torch.long), z)
    return len(calls)


for _name, _rule in tuple(RULES.items()):
    register(_name, _rule, TRAINED_AS.get(_name), version="")


def lab_methods(solver: str, steps: int) -> dict[str, Method]:
    """Every variant as a method of the tables, on its share of the steps, by its source's name."""
    return {
        v.source(name, solver): Method(v.networks, v.draw, solver, int(v.share * steps))
        for name, v in VARIANTS.items()
    }
