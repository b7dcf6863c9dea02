"""Algorithm 2: sample pairs, from noise to mask and slice.

Two chains of noise, Eq. (8)-(10), are reversed together, Eq. (11). By Proposition 1, Eq. (12), a
joint step is a mask step and then a slice step: one turn of the loop in `walk`, the block of
Fig. 2. The loop knows two denoisers, a schedule, a grid and a guide rule, and nothing of networks:
the ideal denoisers of an exactly known world can take their place.
"""

from dataclasses import dataclass, replace
from typing import Callable, Iterator

import torch
from torch import Tensor

from minipig.guider import Denoiser, GuideRule
from minipig.schedule import Schedule, check_schedule
from minipig.seeds import SampleNoise


@dataclass
class PairModel:
    """Two denoisers, the schedule they were trained on (else ValueError), and a guide rule."""

    model_x: Denoiser
    model_y: Denoiser
    schedule: Schedule
    rule: GuideRule

    def __post_init__(self):
        for model in (self.model_x, self.model_y):
            check_schedule(model, self.schedule)

    @property
    def guided_y(self) -> Denoiser:
        """model_y as the rule calls it in sampling: through `asks`, if the rule has it."""
        return self.rule.asks(self.model_y) if hasattr(self.rule, "asks") else self.model_y


@dataclass
class State:
    """One step, from level t to level t_next < t. All tensors (B, C, H, W).

    A guide rule sees it after the mask's half of the step, when y0_hat and y_next are still None.
    """

    t: int
    t_next: int
    xt: Tensor
    yt: Tensor
    x0_hat: Tensor
    x_next: Tensor
    schedule: Schedule
    y0_hat: Tensor | None = None
    y_next: Tensor | None = None


def walk(
    pair: PairModel, x_T: Tensor, y_T: Tensor, grid: list[int], eta=0.0, noise=None, clip=True
) -> Iterator[State]:
    """Algorithm 2: yield the state of each step from level grid[0] = T down to grid[-1] = 0.

    Each chain is the reverse process of Eq. (4) by the step of Eq. (5); each is the other's
    condition. x_T, y_T: (B, C, H, W), standard normal. eta: 0 (the paper) is deterministic; 1 on a
    grid of all levels is DDPM; above 0, noise((C, H, W)) -> (B, C, H, W) draws the fresh eps of
    Eq. (7). clip: hold x0_hat and y0_hat to [-1, 1]. The last state's are the result.
    """
    if not 0 <= eta <= 1 or (eta > 0 and noise is None):
        raise ValueError(f"eta is {eta}; it must be 0 (DDIM) to 1 (DDPM), above 0 with noise")
    schedule = pair.schedule
    fresh = noise if eta > 0 else lambda shape: None
    x = x_T
    y = y_T
    for t, s in zip(grid, grid[1:]):
        # eps_x = model_x(x_t, y_t, t): the guider looks at the noisy slice; x0_hat by Eq. (6)
        x0_hat, eps_x = denoise(pair.model_x, x, t, y, schedule, clip)
        # p_x(x_{t-1} | x_t, y_t), the first factor of Eq. (12), by Eq. (7)
        x_next = schedule.step(x0_hat, eps_x, t, s, eta, fresh(x.shape[1:]))
        state = State(t, s, x, y, x0_hat, x_next, schedule)
        # eps_y = model_y(x0_hat, y_t, t): x0_hat takes the place of x_{t-1}; y0_hat by Eq. (6)
        y0_hat, eps_y = denoise(pair.guided_y, y, t, pair.rule.sample(state), schedule, clip)
        # p_y(y_{t-1} | x_{t-1}, y_t), the second factor of Eq. (12), by Eq. (7)
        y_next = schedule.step(y0_hat, eps_y, t, s, eta, fresh(y.shape[1:]))
        yield replace(state, y0_hat=y0_hat, y_next=y_next)
        x = x_next
        y = y_next


def denoise(
    model: Denoiser, zt: Tensor, t: int, guide: Tensor | None, schedule: Schedule, clip: bool
) -> tuple[Tensor, Tensor]:
    """z0_hat by Eq. (6), and eps; clip: z0_hat is held to [-1, 1], and eps recomputed from it."""
    eps = model(zt, torch.full((len(zt),), t, device=zt.device), guide)
    z0_hat = schedule.x0_hat(zt, t, eps)
    if clip:
        z0_hat = z0_hat.clamp(-1, 1)
        eps = schedule.eps(zt, t, z0_hat)
    return z0_hat, eps


@dataclass(frozen=True)
class Solver:
    """How to sample: a generator of states, called as `walk` is, and the grid of its levels.

    steps: how many moves if the user gives no number.
    """

    walk: Callable[..., Iterator[State]] = walk
    grid: Callable[[Schedule, int], list[int]] = Schedule.grid
    steps: int = 256

    def levels(self, pair: PairModel, steps: int | None = None) -> list[int]:
        """The grid. Raises ValueError for steps that the schedule or the rule does not allow."""
        grid = self.grid(pair.schedule, self.steps if steps is None else steps)
        trained = getattr(pair.rule, "steps", None)  # optional: see GuideRule
        if trained is not None and grid != pair.schedule.grid(trained):
            rule = type(pair.rule).__name__
            raise ValueError(f"{rule} needs the solver ddim with {trained} sampling steps")
        return grid


DDIM = Solver()  # the paper's: first order, 256 uniform steps


@torch.no_grad()
def sample(
    pair: PairModel,
    n: int,
    size: tuple[int, int],
    steps: int | None = None,
    seed: int = 0,
    eta: float = 0.0,
    batch: int = 64,
    device: torch.device | str = "cpu",
    first: int = 0,
    solver: Solver = DDIM,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs first .. first + n - 1 of `seed`, at most `batch` at a time, on the CPU.

    Each pair of tensors is (masks, slices), (B, 1, H, W) float32: masks ±1 (x0_hat > 0), slices in
    [-1, 1]. Pair i starts from noise that depends on `seed` and i alone. size: height and width;
    steps: default, the solver's number. Raises ValueError as `Solver.levels` does.
    """
    grid = solver.levels(pair, steps)
    for start in range(first, first + n, batch):
        noise = SampleNoise(seed, range(start, min(start + batch, first + n)), device)
        x_T = noise((1, *size))
        y_T = noise((1, *size))
        for state in solver.walk(pair, x_T, y_T, grid, eta, noise):
            pass  # only the last state is kept
        yield torch.where(state.x0_hat > 0, 1.0, -1.0).cpu(), state.y0_hat.cpu()
