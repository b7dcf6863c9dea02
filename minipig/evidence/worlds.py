"""The exact verdict on a guide rule: what an ideal model_y that has learnt by it leaves wrong, in seconds and untrained.

Two worlds of one pixel each, whose slices are normal about a function of the mask, so that the ideal denoisers are known for
any rule (mixtures.py). What is wrong at the end of Algorithm 2 there is the fault of the rule, and of the steps; counted in
cells, even a rule that loses nothing keeps some .03 at 64 steps (`noisy` is such a rule, and so a floor to compare with).
"""

import torch
from torch import Tensor

from ..guider import GuideRule
from ..mixtures import Mixture, lattice
from ..rules import asked
from ..sampler import State, walk
from ..schedule import Schedule
from .checked import checked


def column(*values: float) -> Tensor:
    """Pixels (B, 1, 1, 1), float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


WORLDS = {
    "binary": Mixture(column(-1, 1), column(0.8, 0.2).flatten(), lambda u: u, spread=0.3),
    "three levels": Mixture(column(-1, 0, 1), column(0.3, 0.4, 0.3).flatten(), lambda u: u**2, spread=0.3),
}
STEPS = (16, 64)
FIFTHS = 5


def total_variation(world: Mixture, last: State) -> float:
    """Between the pairs at the end of a walk and the true ones, 0 to 1; a pair counts by its mask's level and by the fifth of
    that level's slices in which its slice lies."""
    level = (last.x0_hat.flatten(1) - world.levels.flatten()).abs().argmin(1)
    rank = torch.special.ndtr((last.y0_hat.flatten() - world.means.flatten()[level]) / world.spread)
    cell = level * FIFTHS + (rank * FIFTHS).long().clamp(max=FIFTHS - 1)
    found = torch.bincount(cell, minlength=len(world.levels) * FIFTHS) / len(cell)
    return (found - world.prior.repeat_interleave(FIFTHS) / FIFTHS).abs().sum().item() / 2


def exact_verdict(rule: GuideRule, steps: int, starts: int = 20) -> dict[str, float]:
    """The total variation that is left in each world, where an ideal model_y has learnt what `rule` shows in training and is
    asked what it shows in sampling: starts^2 walks of so many steps, from equally likely noise.

    Raises ValueError for what is no rule (`checked`), and for one that says `pixelwise = False`: it needs more than a pixel.
    """
    found = {}
    if not getattr(checked(rule), "pixelwise", True):
        raise ValueError(f"{type(rule).__name__} needs more than a pixel; these worlds of one pixel have no verdict on it")
    for name, world in WORLDS.items():
        pair = world.pair(rule)
        pair.model_y = asked(rule, pair.model_y)
        *_, last = walk(pair, *lattice(starts), Schedule().grid(steps), clip=False)
        found[name] = round(total_variation(world, last), 4)
    return found
