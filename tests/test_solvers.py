"""Second order, corrections and the log-SNR grid, against their definitions and diffusers."""

from functools import partial

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from minipig.extras.solvers import (
    SOLVERS,
    corrected,
    extrapolate,
    log_snr,
    log_snr_grid,
    power_grid,
    second_order,
)
from minipig.rules import Clean, Matched, Previous
from minipig.sampler import DDIM, PairModel, Solver, sample, walk
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator
from minipig.worlds.gaussian import Gaussian

SCHEDULE = Schedule.linear()
SCHEDULES = [SCHEDULE, Schedule.cosine()]


def mixing(z, t, guide):
    """A denoiser that depends on both of its images."""
    return 0.1 * z + 0.2 * guide


def test_the_log_snr_is_that_of_eq_3():
    t = torch.tensor([1, 500, 1024])
    signal, noise = SCHEDULE.scales(t, torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(log_snr(SCHEDULE, t), 2 * (signal / noise).log(), rtol=1e-9)
    assert log_snr(SCHEDULE, 0) == float("inf")


@pytest.mark.parametrize("levels", [log_snr_grid, power_grid])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["linear", "cosine"])
def test_a_grid_has_exactly_the_levels_asked_for(schedule, levels):
    for steps in range(1, 1025):
        grid = levels(schedule, steps)
        assert grid[0] == 1024 and grid[-1] == 0 and len(grid) == steps + 1
        assert all(t > s for t, s in zip(grid, grid[1:])), steps
    assert grid == schedule.grid(1024)


def test_the_log_snr_grid_is_even():
    moves = log_snr(SCHEDULE, torch.tensor(log_snr_grid(SCHEDULE, 16)[:-1])).diff()
    uneven = (moves / moves.mean() - 1).abs()
    assert uneven.max() < 0.4  # whole levels are coarse at the clean end
    assert uneven[:8].max() < 0.02


def test_the_power_grid():
    assert power_grid(SCHEDULE, 4) == [1024, 619, 304, 91, 0]  # 1024 (i / 4)^1.75, rounded
    assert power_grid(SCHEDULE, 4, power=2) == [1024, 576, 256, 64, 0]
    assert power_grid(SCHEDULE, 64, power=1) == SCHEDULE.grid(64)
    assert power_grid(SCHEDULE, 512, power=3)[-4:] == [3, 2, 1, 0]  # moved apart


@pytest.mark.parametrize("levels", [log_snr_grid, power_grid])
@pytest.mark.parametrize("steps", [0, -1, 1025])
def test_a_grid_of_no_or_too_many_steps_is_refused(steps, levels):
    with pytest.raises(ValueError, match=f"steps must be from 1 to 1024, not {steps}"):
        levels(SCHEDULE, steps)


def test_extrapolation_is_a_straight_line_in_the_log_snr():
    """Estimates on a line are continued to the middle of the step."""
    u, t, s = 900, 700, 300
    snr = log_snr(SCHEDULE, torch.arange(1025))
    slope = torch.randn(2, 1, 3, 3, generator=generator("slope", 0), dtype=torch.float64)
    found = extrapolate(SCHEDULE, 1 + slope * snr[t], 1 + slope * snr[u], u, t, s)
    assert torch.allclose(found, 1 + slope * (snr[t] + snr[s]) / 2, atol=1e-9)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers, under a newer numpy
@pytest.mark.parametrize("steps", [2, 5, 25])
def test_second_order_equals_the_solver_of_diffusers(steps):
    """DPM-Solver++(2M), midpoint, last step first order, on equal estimates of a model that bends.

    The mask's half of the walk, whose guide this model ignores.
    """
    how = dict(algorithm_type="dpmsolver++", final_sigmas_type="zero", lower_order_final=False)
    theirs = DPMSolverMultistepScheduler(1024, 1e-4, 0.02, "linear", **how)
    grid = log_snr_grid(SCHEDULE, steps)
    theirs.set_timesteps(timesteps=[t - 1 for t in grid[:-1]])

    def bend(z, t, guide):
        return torch.sin(z * (1 + t[0] / 1024))

    other = torch.randn(2, 1, 4, 4, generator=generator("2m", steps))
    pair = PairModel(bend, bend, SCHEDULE, Clean())
    states = list(second_order(pair, other, other, grid, clip=False))
    assert len(states) == steps
    for state in states:
        eps = bend(other, torch.tensor([state.t]), None)
        other = theirs.step(eps, state.t - 1, other).prev_sample
        assert (state.x_next - other).abs().max() < 1e-3 * other.abs().max(), state.t


def test_second_order_shows_the_estimate_and_moves_onto_the_extrapolated_one():
    guides = []

    def model_y(z, t, guide):
        guides.append(guide)
        return 0.3 * z - 0.1 * guide

    pair = PairModel(mixing, model_y, SCHEDULE, Matched())
    grid = log_snr_grid(SCHEDULE, 6)
    noise = SampleNoise(0, range(2))
    states = list(second_order(pair, noise((1, 2, 2)), noise((1, 2, 2)), grid, clip=False))
    assert [(s.t, s.t_next) for s in states] == list(zip(grid, grid[1:]))
    for last, state, shown in zip([None] + states, states, guides):
        assert shown is state.x0_hat
        assert last is None or (state.xt is last.x_next and state.yt is last.y_next)
        for z, z0_hat, z_next, before in (
            (state.xt, state.x0_hat, state.x_next, last and last.x0_hat),
            (state.yt, state.y0_hat, state.y_next, last and last.y0_hat),
        ):
            if last and state.t_next > 0:
                z0_hat = extrapolate(SCHEDULE, z0_hat, before, last.t, state.t, state.t_next)
            eps = SCHEDULE.eps(z, state.t, z0_hat)
            expected = SCHEDULE.step(z0_hat, eps, state.t, state.t_next)
            assert (z_next - expected).norm() <= 1e-5 * expected.norm()
    assert torch.allclose(states[-1].x_next, states[-1].x0_hat, atol=1e-6)


def test_second_order_holds_the_estimates_if_it_clips():
    def wild(z, t, guide):
        return -z

    noise = SampleNoise(0, range(2))
    pair = PairModel(wild, wild, SCHEDULE, Clean())
    for state in second_order(pair, noise((1, 4, 4)), noise((1, 4, 4)), SCHEDULE.grid(8)):
        assert state.x0_hat.abs().max() <= 1 and state.y0_hat.abs().max() <= 1


@pytest.mark.parametrize("eta", [0.5, 1.0, -1.0])
def test_a_second_order_walk_with_noise_is_refused(eta):
    z = torch.zeros(1, 1, 2, 2)
    pair = PairModel(mixing, mixing, SCHEDULE, Clean())
    with pytest.raises(ValueError, match="eta must be 0"):
        next(second_order(pair, z, z, [4, 0], eta))


def test_solvers_are_chosen_by_name():
    """The default is the paper's; each takes its own number of steps, or the one that is given."""
    assert list(SOLVERS) == ["ddim", "dpm++2m", "quick"] and SOLVERS["ddim"] is DDIM
    assert SOLVERS["dpm++2m"].walk is second_order and SOLVERS["dpm++2m"].grid is log_snr_grid
    assert SOLVERS["quick"].walk is second_order and SOLVERS["quick"].grid is power_grid
    calls = []

    def counting(z, t, guide):
        calls.append(int(t[0]))
        return torch.zeros_like(z)

    pair = PairModel(counting, counting, SCHEDULE, Clean())
    second = SOLVERS["dpm++2m"]
    for keywords, grid in (
        ({}, SCHEDULE.grid(256)),
        (dict(solver=SOLVERS["ddim"]), SCHEDULE.grid(256)),
        (dict(solver=second), log_snr_grid(SCHEDULE, 25)),
        (dict(solver=second, steps=7), log_snr_grid(SCHEDULE, 7)),
        (dict(solver=SOLVERS["quick"]), power_grid(SCHEDULE, 15)),
    ):
        calls.clear()
        next(sample(pair, 1, (2, 2), **keywords))
        assert calls[::2] == calls[1::2] == grid[:-1]


def test_the_previous_mask_is_not_sampled_on_a_log_snr_grid():
    pair = PairModel(mixing, mixing, SCHEDULE, Previous(4))
    with pytest.raises(ValueError, match="Previous needs the solver ddim with 4 sampling steps"):
        next(sample(pair, 1, (4, 4), steps=4, solver=SOLVERS["dpm++2m"]))


def test_a_corrected_step_is_taken_undone_and_taken_again():
    asked = []
    fresh = []

    def model(z, t, guide):
        asked.append((int(t[0]), z))
        return 0.1 * z + 0.2 * guide

    def noise(shape):
        fresh.append(torch.randn((2, *shape), generator=generator("fresh", len(fresh))))
        return fresh[-1]

    grid = SCHEDULE.grid(4)
    x_T, y_T = torch.randn((2, 2, 1, 3, 3), generator=generator("start", 0))
    pair = PairModel(model, model, SCHEDULE, Matched())
    states = list(corrected(pair, x_T, y_T, grid, noise, clip=False))
    assert [(s.t, s.t_next) for s in states] == list(zip(grid, grid[1:]))
    assert len(asked) == 4 * 4 and len(fresh) == 2 * 4
    (once,) = walk(pair, x_T, y_T, grid[:2], clip=False)
    t, s = grid[:2]
    ratio = SCHEDULE.abar[t] / SCHEDULE.abar[s]
    again = ratio.sqrt().float() * once.x_next + (1 - ratio).sqrt().float() * fresh[0]
    assert torch.allclose(states[0].xt, again, atol=1e-6)
    assert all(torch.equal(after.xt, asked[4 * i + 6][1]) for i, after in enumerate(states[1:]))


def test_no_corrections_are_the_first_order_walk():
    x_T, y_T = torch.randn((2, 2, 1, 3, 3), generator=generator("start", 0))
    pair = PairModel(mixing, mixing, SCHEDULE, Matched())
    plain = walk(pair, x_T, y_T, SCHEDULE.grid(4))
    for a, b in zip(corrected(pair, x_T, y_T, SCHEDULE.grid(4), None, 0), plain, strict=True):
        assert torch.equal(a.x_next, b.x_next) and torch.equal(a.y_next, b.y_next)


def test_corrections_keep_the_law_of_an_ideal_pair_model():
    """3,000 pairs after 256 corrected steps: the covariance within four standard errors and 1 %."""
    rho = 0.8
    n = 3000
    draw = generator("corrected", 0)
    world = Gaussian(torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64))

    def noise(shape):
        return torch.randn((n, *shape), generator=draw, dtype=torch.float64)

    x_T = noise((1, 1, 1))
    y_T = noise((1, 1, 1))
    *_, last = corrected(world.pair("joint"), x_T, y_T, SCHEDULE.grid(256), noise, clip=False)
    found = torch.cov(torch.cat([last.x0_hat.flatten(1), last.y0_hat.flatten(1)], 1).T)
    assert torch.allclose(found, world.covariance, atol=4 * (2 / n) ** 0.5 + 0.01)


def test_corrections_are_a_solver_too():
    """A walk with other arguments joins `sample` by a function of three lines."""

    def walk_corrected(pair, x_T, y_T, grid, eta, noise):
        return corrected(pair, x_T, y_T, grid, noise)

    pair = PairModel(mixing, mixing, SCHEDULE, Matched())
    solver = Solver(walk_corrected, steps=5)
    draw = partial(sample, pair, 3, (4, 4), solver=solver)
    masks, slices = next(draw())
    assert masks.shape == slices.shape == (3, 1, 4, 4) and slices.abs().max() <= 1
    assert torch.equal(slices, next(draw())[1])
    assert not torch.equal(slices, next(sample(pair, 3, (4, 4), steps=5))[1])
