"""Other solvers of Algorithm 2: second order, corrections, and other grids of levels.

Each is a generator with the arguments of `sampler.walk` (`corrected`: with more noise), and shows
a guide rule the same states.
"""

from typing import Callable, Iterator

import torch
from torch import Tensor

from minipig.sampler import DDIM, PairModel, Solver, State, denoise, walk
from minipig.schedule import Schedule, Time


def second_order(
    pair: PairModel, x_T: Tensor, y_T: Tensor, grid: list[int], eta=0.0, noise=None, clip=True
) -> Iterator[State]:
    """Algorithm 2 by DPM-Solver++(2M), Lu et al. 2022, arXiv 2211.01095, Alg. 2.

    Every step but the first and the last uses estimates extrapolated to its middle. Deterministic:
    raises ValueError unless eta is 0.
    """
    if eta != 0:
        raise ValueError(f"the second-order solver draws no noise: eta must be 0, not {eta}")
    schedule = pair.schedule
    last = None

    def move(z: Tensor, z0_hat: Tensor, eps: Tensor, t: int, s: int, before: Tensor | None):
        if before is not None and s > 0:
            z0_hat = extrapolate(schedule, z0_hat, before, last.t, t, s)
            eps = schedule.eps(z, t, z0_hat)
        return schedule.step(z0_hat, eps, t, s)

    x = x_T
    y = y_T
    for t, s in zip(grid, grid[1:]):
        x0_hat, eps_x = denoise(pair.model_x, x, t, y, schedule, clip)
        x_next = move(x, x0_hat, eps_x, t, s, last and last.x0_hat)
        state = State(t, s, x, y, x0_hat, x_next, schedule)
        state.y0_hat, eps_y = denoise(pair.guided_y, y, t, pair.rule.sample(state), schedule, clip)
        state.y_next = move(y, state.y0_hat, eps_y, t, s, last and last.y0_hat)
        yield state
        x = state.x_next
        y = state.y_next
        last = state


def extrapolate(schedule: Schedule, now: Tensor, before: Tensor, u: int, t: int, s: int) -> Tensor:
    """The clean estimate half-way from level t to level s >= 1, on a straight line in the log SNR.

    The line goes through the estimates `before`, at level u > t, and `now`, at level t.
    """
    a, b, c = log_snr(schedule, torch.tensor([u, t, s])).tolist()
    return now + (c - b) / (b - a) / 2 * (now - before)


def corrected(
    pair: PairModel,
    x_T: Tensor,
    y_T: Tensor,
    grid: list[int],
    noise: Callable,
    corrections: int = 1,
    clip: bool = True,
) -> Iterator[State]:
    """Algorithm 2 with corrections: a step is undone with fresh `noise(shape)` and taken again.

    RePaint's resampling (Lugmayr et al. 2022, arXiv 2201.09865) brings the two chains to agree.
    First order; 1 + corrections times the network calls of `walk`.
    """
    x = x_T
    y = y_T
    for t, s in zip(grid, grid[1:]):
        (state,) = walk(pair, x, y, [t, s], clip=clip)
        # from s back to t, by Eq. (3): the share of the signal that is kept
        kept = pair.schedule.scales(t, x)[0] / pair.schedule.scales(s, x)[0]
        for _ in range(corrections):
            x, y = (
                kept * z + (1 - kept**2).sqrt() * noise(z.shape[1:])
                for z in (state.x_next, state.y_next)
            )
            (state,) = walk(pair, x, y, [t, s], clip=clip)
        yield state
        x = state.x_next
        y = state.y_next


def log_snr(schedule: Schedule, t: Time) -> Tensor:
    """The log of the signal-to-noise ratio abar_t / (1 - abar_t), float64; infinite at t = 0."""
    return torch.logit(schedule.abar[t])


def log_snr_grid(schedule: Schedule, steps: int) -> list[int]:
    """Levels from T to 0 in `steps` moves: uniform in the log SNR from T to 1, then 1 to 0.

    Levels are moved up where several would be equal. Raises ValueError unless 1 <= steps <= T.
    """
    T = schedule.grid(steps)[0]  # checks `steps`
    snr = log_snr(schedule, torch.arange(1, T + 1))  # falls as t grows
    targets = torch.linspace(snr[0], snr[-1], steps)
    middles = (snr[1:] + snr[:-1]) / 2  # between a level and the next
    nearest = 1 + torch.searchsorted(-middles, -targets.to(snr))
    return distinct([*nearest[:-1].tolist(), T], T)


def power_grid(schedule: Schedule, steps: int, power: float = 1.75) -> list[int]:
    """Levels T (i / steps)^power from i = steps to 0: dense near the clean image.

    power 1 is uniform, 2 the quadratic grid of Song et al. 2021, arXiv 2010.02502, App. D.3. Levels
    are moved up where several would be equal. Raises ValueError unless 1 <= steps <= T.
    """
    T = schedule.grid(steps)[0]  # checks `steps`
    return distinct([round(T * (i / steps) ** power) for i in range(1, steps + 1)], T)


def distinct(rising: list[int], T: int) -> list[int]:
    """A grid from T to 0 of these levels, the last of them T; equal ones are moved apart."""
    levels = [0]
    for i, level in enumerate(rising, start=1):
        levels.append(min(max(level, levels[-1] + 1), T - len(rising) + i))
    return levels[::-1]


SOLVERS = {
    "ddim": DDIM,
    "dpm++2m": Solver(second_order, log_snr_grid, 25),
    "quick": Solver(second_order, power_grid, 15),
}
