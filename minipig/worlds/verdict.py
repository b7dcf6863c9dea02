"""The exact verdict on a guide rule: the error of an ideal model_y trained by it, in seconds.

Two worlds of one pixel, whose slices are normal around a function of the mask, so that the ideal
denoisers are known for any rule (mixture.py). Every error at the end of Algorithm 2 comes from the
rule or from the number of steps. At 64 steps about .03 remains even for rules that lose nothing,
such as `noisy`. A useful rule is better than `blank`.
"""

from copy import copy
from functools import cache

import numpy as np
import torch
from torch import Tensor

from minipig.extras.own_rules import check_rule
from minipig.guider import GuideRule
from minipig.rules import RULES
from minipig.sampler import State, walk
from minipig.schedule import Schedule
from minipig.worlds.mixture import Mixture, lattice

STEPS = (16, 64)
FIFTHS = 5
RESAMPLES = 200  # of the walks, for the error of a verdict
BESIDE = ("blank", "matched", "clean")  # the rules that every other is compared with


def column(*values: float) -> Tensor:
    """Pixels, (N, 1, 1, 1) float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def worlds(schedule: Schedule | None = None) -> dict[str, Mixture]:
    """The two worlds on a schedule (default: linear)."""
    two = column(0.8, 0.2).flatten()
    three = column(0.3, 0.4, 0.3).flatten()
    return {
        "binary": Mixture(column(-1, 1), two, lambda u: u, 0.3, schedule),
        "three levels": Mixture(column(-1, 0, 1), three, lambda u: u**2, 0.3, schedule),
    }


WORLDS = worlds()


def cells(world: Mixture, last: State) -> Tensor:
    """The cell of each pair, (B,): the level of its mask, and the fifth of that level's slices."""
    level = (last.x0_hat.flatten(1) - world.levels.flatten()).abs().argmin(1)
    rank = torch.special.ndtr((last.y0_hat.flatten() - world.means.flatten()[level]) / world.spread)
    return level * FIFTHS + (rank * FIFTHS).long().clamp(max=FIFTHS - 1)


def total_variation(world: Mixture, cell: Tensor) -> float:
    """Between the pairs in these cells, (B,), and the true law: 0 (equal) to 1."""
    found = torch.bincount(cell, minlength=len(world.levels) * FIFTHS) / len(cell)
    return (found - world.prior.repeat_interleave(FIFTHS) / FIFTHS).abs().sum().item() / 2


def sampling_error(world: Mixture, cell: Tensor) -> float:
    """The standard deviation of the total variation over bootstrap resamples of the walks.

    That is the error of as many walks from independent starts. Ours start from a lattice, which is
    more even, so the true error is smaller.
    """
    draw = np.random.default_rng(0)
    chosen = draw.integers(len(cell), size=(RESAMPLES, len(cell)))
    again = [cell[row] for row in torch.from_numpy(chosen)]
    return float(np.std([total_variation(world, part) for part in again], ddof=1))


def verdict(
    rule: GuideRule, steps: int, starts: int = 40, schedule: Schedule | None = None
) -> dict[str, tuple[float, float]]:
    """Total variation and sampling error of starts^2 pairs at the end of Algorithm 2, by world.

    A rule with a number of `steps` is trained for these. Raises ValueError for an invalid rule, and
    for one with `pixelwise = False`.
    """
    if not getattr(check_rule(rule), "pixelwise", True):
        name = type(rule).__name__
        raise ValueError(f"{name} needs several pixels, so it has no exact verdict: train it")
    if hasattr(rule, "steps"):
        rule = copy(rule)
        rule.steps = steps
    found = {}
    for name, world in worlds(schedule).items():
        *_, last = walk(world.pair(rule), *lattice(starts), world.schedule.grid(steps), clip=False)
        cell = cells(world, last)
        error = sampling_error(world, cell)
        found[name] = (round(total_variation(world, cell), 4), round(error, 4))
    return found


def exact_verdict(
    rule: GuideRule, steps: int, starts: int = 40, schedule: Schedule | None = None
) -> dict[str, float]:
    """The total variation after `steps` steps, by world; raises ValueError as `verdict` does."""
    found = verdict(rule, steps, starts, schedule)
    return {world: distance for world, (distance, _) in found.items()}


def compared(rule: GuideRule, steps: int = 64) -> dict[str, dict]:
    """The verdict on `rule` beside those on BESIDE: see `beside`."""
    others = {name: built_in(name, steps) for name in BESIDE}
    return beside({"rule": verdict(rule, steps)} | others)


@cache
def built_in(name: str, steps: int) -> dict[str, tuple[float, float]]:
    """`verdict` on a rule of rules.py, computed once."""
    return verdict(RULES[name](), steps)


def beside(verdicts: dict[str, dict[str, tuple[float, float]]]) -> dict[str, dict]:
    """Compare the verdict on "rule" with that on each rule in BESIDE.

    {world: {"rule": (total variation, sampling error), "blank": ..., "matched": ..., "clean": ...,
    "sentence": ...}}.
    """
    found = {}
    for world in WORLDS:
        row = {name: one[world] for name, one in verdicts.items()}
        found[world] = row | {"sentence": sentence(row)}
    return found


def sentence(row: dict[str, tuple[float, float]]) -> str:
    """Whether the rule is better than `blank`, and whether it differs from the exact `matched`.

    Two verdicts differ if they are further apart than twice the sampling error of their difference.
    """

    def differs(name: str) -> float:
        """How much larger the rule's verdict is; 0 if that may be chance."""
        (mine, error), (other, its_error) = row["rule"], row[name]
        return mine - other if abs(mine - other) > 2 * np.hypot(error, its_error) else 0.0

    gain = differs("blank")
    better = "better than" if gain < 0 else "worse than" if gain > 0 else "no better than"
    same = "different" if differs("matched") else "indistinguishable"
    return f"{better} blank, {same} from matched"


def show_verdict(verdict: dict[str, dict]) -> str:
    """What `compared` returns as text, one line for each world."""
    lines = []
    for world, row in verdict.items():
        beside = ", ".join(f"{name} {row[name][0]:.3f}" for name in BESIDE)
        mine, error = row["rule"]
        lines.append(f"{world:13}{mine:.3f} ± {error:.3f} ({beside}): {row['sentence']}")
    return "\n".join(lines)
