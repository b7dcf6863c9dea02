"""Where every method's samples begin, and how they walk: all rivals of PIG run on Algorithm 2's own `walk`, unchanged.

The walk knows two denoisers and nothing of networks. So a rival need only say what its two chains are: that of an
unconditional model has no mask, `absent`; nor has a joint network's, whose one chain holds mask and slice; and a model that
is *given* masks has a guider who knows the answer, `knows`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..guider import Clean, Denoiser, GuideRule
from ..sampler import SOLVERS, PairModel, State, walk
from ..schedule import Schedule
from ..seeds import SampleNoise

NOTHING = 0  # channels of a chain that is not there


def absent(z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
    """The denoiser of a chain without channels, (B, 0, H, W): there is no noise to name."""
    return z


@dataclass
class Start:
    """One batch of samples to be drawn. noise: their own streams; size: height and width; masks: (B, 1, H, W), ±1, training
    masks for the methods that are given some. solver, steps, eta: how they walk."""

    noise: SampleNoise
    size: tuple[int, int]
    masks: Tensor
    solver: str = "dpm++2m"
    steps: int = 25
    eta: float = 0.0

    @torch.no_grad()
    def walk(
        self,
        model_x: Denoiser,
        model_y: Denoiser,
        x_channels: int = 1,
        y_channels: int = 1,
        rule: GuideRule = Clean(),  # noqa: B008
        y_size: tuple[int, int] | None = None,
        clip: bool = True,
    ) -> State:
        """The last state of Algorithm 2's walk with these two denoisers; y_size: if the second chain's is not `size`."""
        schedule, solver = Schedule(), SOLVERS[self.solver]
        x_T, y_T = self.noise((x_channels, *self.size)), self.noise((y_channels, *(y_size or self.size)))
        pair, grid = PairModel(model_x, model_y, schedule, rule), schedule.grid(self.steps, solver["spacing"])
        for state in walk(pair, x_T, y_T, grid, self.eta, self.noise, clip, solver["order"]):
            pass
        return state


def signs(x0_hat: Tensor) -> Tensor:
    """A finished mask: ±1."""
    return torch.where(x0_hat > 0, 1.0, -1.0)
