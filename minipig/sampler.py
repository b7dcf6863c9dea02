"""Algorithm 2 as one generator that walks a pair from noise to mask and slice.

The reverse process of the two chains of Eq. (8), with the noise of Eq. (9) and (10), goes by joint steps, Eq. (11). By
Proposition 1, Eq. (12), such a step is a mask's step and then a slice's: one turn of the loop below, the block of Fig. 2.
The walk knows two denoisers, a schedule, a grid and a guide rule, and nothing of networks: trained U-Nets and the ideal
denoisers of an exactly known world are exchangeable here.
"""

from dataclasses import dataclass
from typing import Iterator

import torch
from torch import Tensor

from .guider import Denoiser, GuideRule
from .schedule import Schedule
from .seeds import SampleNoise


@dataclass
class PairModel:
    """What Algorithm 2 needs: two denoisers, the schedule they were trained on, and the guide rule that joins them."""

    model_x: Denoiser
    model_y: Denoiser
    schedule: Schedule
    rule: GuideRule


@dataclass
class State:
    """One step of the walk, at level t on its way to level t_next < t. All tensors (B, C, H, W).

    A guide rule sees it after the mask's half of the step: x0_hat and x_next are there, y0_hat and y_next not yet.
    """

    t: int
    t_next: int
    x_t: Tensor
    y_t: Tensor
    x0_hat: Tensor
    x_next: Tensor
    schedule: Schedule
    y0_hat: Tensor | None = None
    y_next: Tensor | None = None


def walk(
    pair: PairModel, x_T: Tensor, y_T: Tensor, grid: list[int], eta: float = 0.0, noise=None, clip: bool = True
) -> Iterator[State]:
    """Algorithm 2: yield the state of each step from level grid[0] = T down to grid[-1] = 0.

    Each chain is the reverse walk of Eq. (4) with the Gaussian step of Eq. (5), and each is the other's condition c.

    x_T, y_T: (B, C, H, W) standard normal. eta: 0 (the paper) is deterministic, 1 with every level in the grid is DDPM;
    eta > 0 asks `noise(shape)` for the fresh eps of Eq. (7). clip: x0_hat and y0_hat are held to [-1, 1] (eps follows).
    The result is the last state's x0_hat and y0_hat. Raises ValueError unless 0 <= eta <= 1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta runs from 0 (DDIM) to 1 (DDPM), not {eta}")
    schedule, x, y = pair.schedule, x_T, y_T

    def denoise(model: Denoiser, z: Tensor, t: int, guide: Tensor) -> tuple[Tensor, Tensor]:
        eps = model(z, torch.full((len(z),), t, device=z.device), guide)
        z0_hat = schedule.x0_hat(z, t, eps)  # Eq. (6)
        if not clip:
            return z0_hat, eps
        z0_hat = z0_hat.clamp(-1, 1)
        return z0_hat, schedule.eps(z, t, z0_hat)

    def move(z0_hat: Tensor, eps: Tensor, t: int, s: int) -> Tensor:
        return schedule.step(z0_hat, eps, t, s, eta, None if eta == 0 else noise(z0_hat.shape[1:]))  # Eq. (7)

    for t, s in zip(grid[:-1], grid[1:]):
        x0_hat, eps_x = denoise(pair.model_x, x, t, y)
        state = State(t, s, x, y, x0_hat, move(x0_hat, eps_x, t, s), schedule)
        state.y0_hat, eps_y = denoise(pair.model_y, y, t, pair.rule.sample(state))
        state.y_next = move(state.y0_hat, eps_y, t, s)
        yield state
        x, y = state.x_next, state.y_next


@torch.no_grad()
def sample(
    pair: PairModel,
    n: int,
    size: tuple[int, int],
    steps: int = 256,
    seed: int = 0,
    eta: float = 0.0,
    batch: int = 64,
    device: torch.device | str = "cpu",
    first: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs first .. first + n - 1 of `seed`, at most `batch` at a time, as (mask, slice) on the CPU.

    size: height and width. Masks are ±1 (x0_hat > 0), slices in [-1, 1], both (B, 1, H, W) float32. Pair i starts from
    noise that depends on `seed` and i alone, whatever the batch. Raises ValueError if steps is not in 1..T.
    """
    grid = pair.schedule.grid(steps)
    for start in range(first, first + n, batch):
        noise = SampleNoise(seed, range(start, min(start + batch, first + n)), device)
        for state in walk(pair, noise((1, *size)), noise((1, *size)), grid, eta, noise):
            pass
        yield torch.where(state.x0_hat > 0, 1.0, -1.0).cpu(), state.y0_hat.cpu()
