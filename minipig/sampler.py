"""Algorithm 2 as one generator that walks a pair from noise to mask and slice.

The reverse process of the two chains of Eq. (8), with the noise of Eq. (9) and (10), goes by joint steps, Eq. (11). By
Proposition 1, Eq. (12), such a step is a mask's step and then a slice's: one turn of the loop below, the block of Fig. 2.
The walk knows two denoisers, a schedule, a grid and a guide rule, and nothing of networks: trained U-Nets and the ideal
denoisers of an exactly known world are exchangeable here.
"""

from dataclasses import dataclass
from typing import Callable, Iterator

import torch
from torch import Tensor

from .guider import Denoiser, GuideRule, Previous
from .schedule import Schedule
from .seeds import SampleNoise

SOLVERS = {
    # name: how a walk is spaced, its order, and how many steps it needs; the first is the paper's
    "ddim": dict(spacing="uniform", order=1, steps=256),
    "dpm++2m": dict(spacing="log-snr", order=2, steps=25),
}


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
    pair: PairModel,
    x_T: Tensor,
    y_T: Tensor,
    grid: list[int],
    eta: float = 0.0,
    noise=None,
    clip: bool = True,
    order: int = 1,
) -> Iterator[State]:
    """Algorithm 2: yield the state of each step from level grid[0] = T down to grid[-1] = 0.

    Each chain is the reverse walk of Eq. (4) with the Gaussian step of Eq. (5), and each is the other's condition c.

    x_T, y_T: (B, C, H, W) standard normal. eta: 0 (the paper) is deterministic, 1 with every level in the grid is DDPM;
    eta > 0 asks `noise(shape)` for the fresh eps of Eq. (7). clip: x0_hat and y0_hat are held to [-1, 1] (eps follows).
    order: 2 moves onto estimates extrapolated to the middle of each step but the first and the last (DPM-Solver++(2M)).
    The result is the last state's x0_hat and y0_hat. Raises ValueError unless 0 <= eta <= 1, and eta = 0 if order is 2.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta runs from 0 (DDIM) to 1 (DDPM), not {eta}")
    if order not in (1, 2) or (order == 2 and eta > 0):
        raise ValueError(f"the order is 1, or 2 with eta = 0, not {order} with eta = {eta}")
    schedule, x, y = pair.schedule, x_T, y_T

    def denoise(model: Denoiser, z: Tensor, t: int, guide: Tensor) -> tuple[Tensor, Tensor]:
        eps = model(z, torch.full((len(z),), t, device=z.device), guide)
        z0_hat = schedule.x0_hat(z, t, eps)  # Eq. (6)
        if not clip:
            return z0_hat, eps
        z0_hat = z0_hat.clamp(-1, 1)
        return z0_hat, schedule.eps(z, t, z0_hat)

    def move(z: Tensor, z0_hat: Tensor, eps: Tensor, t: int, s: int, past: tuple[int, Tensor] | None) -> Tensor:
        if order == 2 and past and s > 0:
            z0_hat = schedule.extrapolate(z0_hat, past[1], past[0], t, s)
            eps = schedule.eps(z, t, z0_hat)
        return schedule.step(z0_hat, eps, t, s, eta, None if eta == 0 else noise(z0_hat.shape[1:]))  # Eq. (7)

    last = None
    for t, s in zip(grid[:-1], grid[1:]):
        x0_hat, eps_x = denoise(pair.model_x, x, t, y)
        state = State(t, s, x, y, x0_hat, move(x, x0_hat, eps_x, t, s, last and (last.t, last.x0_hat)), schedule)
        state.y0_hat, eps_y = denoise(pair.model_y, y, t, pair.rule.sample(state))
        state.y_next = move(y, state.y0_hat, eps_y, t, s, last and (last.t, last.y0_hat))
        yield state
        x, y, last = state.x_next, state.y_next, state


def corrected(
    pair: PairModel, x_T: Tensor, y_T: Tensor, grid: list[int], noise: Callable, corrections: int = 1, clip: bool = True
) -> Iterator[State]:
    """Algorithm 2 with corrections at each level: a step is taken, undone with fresh `noise(shape)`, and taken again.

    As RePaint resamples (Lugmayr et al. 2022, arXiv 2201.09865): both chains may so agree on what they missed. First order,
    and 1 + corrections times the network calls of `walk`.
    """
    x, y = x_T, y_T
    for t, s in zip(grid, grid[1:]):
        (state,) = walk(pair, x, y, [t, s], clip=clip)
        kept = pair.schedule.scales(t, x)[0] / pair.schedule.scales(s, x)[0]  # of the signal at s, by Eq. (3)
        for _ in range(corrections):
            x, y = (kept * z + (1 - kept**2).sqrt() * noise(z.shape[1:]) for z in (state.x_next, state.y_next))
            (state,) = walk(pair, x, y, [t, s], clip=clip)
        yield state
        x, y = state.x_next, state.y_next


def grid_of(rule: GuideRule, schedule: Schedule, steps: int | None, solver: str) -> list[int]:
    """The levels that a solver takes in so many steps; None is what it needs.

    Raises ValueError if steps is not in 1..T, or not those that the rule `Previous` was trained for.
    """
    kind = SOLVERS[solver]
    steps = kind["steps"] if steps is None else steps
    if isinstance(rule, Previous) and (rule.steps, rule.spacing) != (steps, kind["spacing"]):
        learnt = f"{rule.steps} steps, spaced {rule.spacing}"
        raise ValueError(f"the rule previous is trained for {learnt}: it cannot be sampled in {steps} by {solver}")
    return schedule.grid(steps, kind["spacing"])


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
    solver: str = "ddim",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs first .. first + n - 1 of `seed`, at most `batch` at a time, as (mask, slice) on the CPU.

    size: height and width. Masks are ±1 (x0_hat > 0), slices in [-1, 1], both (B, 1, H, W) float32. Pair i starts from
    noise that depends on `seed` and i alone, whatever the batch. solver: one of SOLVERS; steps: None is
    what it needs. Raises ValueError as `grid_of` does.
    """
    grid, order = grid_of(pair.rule, pair.schedule, steps, solver), SOLVERS[solver]["order"]
    for start in range(first, first + n, batch):
        noise = SampleNoise(seed, range(start, min(start + batch, first + n)), device)
        for state in walk(pair, noise((1, *size)), noise((1, *size)), grid, eta, noise, order=order):
            pass
        yield torch.where(state.x0_hat > 0, 1.0, -1.0).cpu(), state.y0_hat.cpu()
