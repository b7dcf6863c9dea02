"""A batch of samples, which every method draws by the same walk as PIG, Algorithm 2.

The walk needs two denoisers, one a chain. An unconditional model has no mask chain, and a joint
network has both in one chain: there the other chain is `absent`. For a model that is *given* masks,
the guider is replaced by `extras.conditional.knows`, which returns these masks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minipig.extras.solvers import SOLVERS
from minipig.guider import Denoiser, GuideRule
from minipig.rules import Clean
from minipig.sampler import PairModel, State
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise


def absent(z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
    """The denoiser of a chain without channels, (B, 0, H, W)."""
    return z


@dataclass
class Batch:
    """The samples to draw, and how.

    noise: one stream a sample; size: height and width; masks: (B, 1, H, W), ±1, training masks for
    the methods that need some; schedule: that of the networks; solver, steps, eta: of the walk.
    """

    noise: SampleNoise
    size: tuple[int, int]
    masks: Tensor
    schedule: Schedule
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
        rule: GuideRule = Clean(),
        y_size: tuple[int, int] | None = None,
        clip: bool = True,
    ) -> State:
        """The last state of Algorithm 2 with these denoisers; y_size: of the slice chain."""
        solver = SOLVERS[self.solver]
        x_T = self.noise((x_channels, *self.size))
        y_T = self.noise((y_channels, *(y_size or self.size)))
        pair = PairModel(model_x, model_y, self.schedule, rule)
        grid = solver.grid(self.schedule, self.steps)
        for state in solver.walk(pair, x_T, y_T, grid, self.eta, self.noise, clip):
            pass  # only the last state is kept
        return state


def signs(x0_hat: Tensor) -> Tensor:
    """The mask of an estimate: ±1."""
    return torch.where(x0_hat > 0, 1.0, -1.0)
