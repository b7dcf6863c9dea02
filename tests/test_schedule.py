"""Eq. (2), (3), (6), (7) against their statistics, each other, and the schedulers of diffusers on equal noise."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule()


def normal(*shape, key=0, dtype=torch.float64):
    return torch.randn(shape, generator=generator("test", key), dtype=dtype)


def test_tables_are_indexed_by_the_papers_t():
    assert SCHEDULE.abar.dtype == torch.float64 and len(SCHEDULE.abar) == 1025
    assert SCHEDULE.abar[0] == 1 and SCHEDULE.beta[1] == 1e-4 and SCHEDULE.beta[1024] == 0.02
    assert SCHEDULE.abar[1] == 1 - 1e-4
    assert (SCHEDULE.abar.diff() < 0).all()


@pytest.mark.parametrize("bad", [dict(T=0), dict(beta_1=0.0), dict(beta_1=0.5, beta_T=0.1), dict(beta_T=1.0)])
def test_impossible_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="a schedule needs"):
        Schedule(**bad)


def test_a_schedule_is_made_of_its_abar_again():
    again = Schedule.of(SCHEDULE.abar[1:])
    assert again.T == 1024 and torch.equal(again.abar, SCHEDULE.abar)
    assert torch.allclose(again.beta, SCHEDULE.beta, atol=1e-12)


@pytest.mark.parametrize("bad", [[0.9, 0.9], [0.5, 0.8], [1.0, 0.5], [0.5, 0.0]])
def test_an_abar_that_does_not_fall_or_reaches_an_end_is_refused(bad):
    with pytest.raises(ValueError, match="abar must fall"):
        Schedule.of(torch.tensor(bad))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 256, 1000, 1023, 1024])
def test_grids_run_from_T_to_0_in_distinct_moves(steps):
    grid = SCHEDULE.grid(steps)
    assert grid[0] == 1024 and grid[-1] == 0 and len(grid) == steps + 1
    assert all(t > s for t, s in zip(grid, grid[1:]))
    longest, shortest = max(t - s for t, s in zip(grid, grid[1:])), min(t - s for t, s in zip(grid, grid[1:]))
    assert longest - shortest <= 1


@pytest.mark.parametrize("steps", [0, -1, 1025])
def test_a_grid_of_no_or_too_many_steps_is_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} sampling steps asked for; this schedule allows 1 to 1024"):
        SCHEDULE.grid(steps)


@pytest.mark.parametrize("t", [1, 200, 1024])
def test_forward_noise_has_the_moments_of_eq_3(t):
    n, z0 = 200_000, 0.7
    zt = SCHEDULE.add_noise(torch.full((n, 1), z0, dtype=torch.float64), t, normal(n, 1, key=t))
    abar = SCHEDULE.abar[t]
    assert abs(zt.mean() - abar.sqrt() * z0) < 4 * ((1 - abar) / n).sqrt()
    assert abs(zt.var() / (1 - abar) - 1) < 4 * (2 / n) ** 0.5


def test_eq_2_iterated_is_eq_3():
    """The same path noise, added up by hand with the weights that iterating Eq. (2) gives it, is one eps of unit variance."""
    z0, steps = normal(5, 1, key=1), 300
    noise = normal(steps, 5, 1, key=2)
    zt, eps_sum = z0, torch.zeros_like(z0)
    for t in range(1, steps + 1):
        zt = SCHEDULE.noise_step(zt, t, noise[t - 1])
        eps_sum = (1 - SCHEDULE.beta[t]).sqrt() * eps_sum + SCHEDULE.beta[t].sqrt() * noise[t - 1]
    weights = SCHEDULE.beta[1 : steps + 1] * SCHEDULE.abar[steps] / SCHEDULE.abar[1 : steps + 1]
    assert torch.isclose(weights.sum(), 1 - SCHEDULE.abar[steps], rtol=1e-12)
    eps = eps_sum / (1 - SCHEDULE.abar[steps]).sqrt()
    assert torch.allclose(zt, SCHEDULE.add_noise(z0, steps, eps), rtol=0, atol=1e-12)


def test_eq_6_inverts_eq_3_at_mixed_times_and_in_float32():
    z0, eps = normal(4, 1, 3, 3, dtype=torch.float32), normal(4, 1, 3, 3, key=1, dtype=torch.float32)
    t = torch.tensor([1, 10, 500, 1024])
    zt = SCHEDULE.add_noise(z0, t, eps)
    assert zt.dtype == torch.float32
    error = (SCHEDULE.x0_hat(zt, t, eps) - z0).abs().amax((1, 2, 3))
    assert (error < torch.tensor([1e-6, 1e-6, 1e-5, 1e-3])).all()  # 1 / sqrt(abar) amplifies rounding
    assert torch.allclose(SCHEDULE.eps(zt, t, z0), eps, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 8, 64, 256, 1024])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_steps_equal_the_ddim_of_diffusers(steps, eta):
    """First, middle and last move, to a relative 1e-5 on equal noise; clipping off."""
    theirs = DDIMScheduler(1024, beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    grid = SCHEDULE.grid(steps)
    assert [t + 1 for t in theirs.timesteps.tolist()] == grid[:-1]
    for i in {0, steps // 2, steps - 1}:
        z, eps, fresh = (normal(2, 1, 4, 4, key=k, dtype=torch.float32) for k in (i, i + 1, i + 2))
        expected = theirs.step(eps, theirs.timesteps[i], z, eta=eta, variance_noise=fresh if eta else None).prev_sample
        ours = SCHEDULE.step(SCHEDULE.x0_hat(z, grid[i], eps), eps, grid[i], grid[i + 1], eta, fresh)
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("steps", [2, 64, 1024])
def test_eta_one_equals_the_ddpm_of_diffusers(steps):
    theirs = DDPMScheduler(1024, beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    grid = SCHEDULE.grid(steps)
    for i in {0, steps // 2, steps - 1}:
        z, eps = (normal(2, 1, 4, 4, key=k, dtype=torch.float32) for k in (i, i + 1))
        fresh = torch.randn(z.shape, generator=generator("fresh", i))
        expected = theirs.step(eps, theirs.timesteps[i], z, generator=generator("fresh", i)).prev_sample
        ours = SCHEDULE.step(SCHEDULE.x0_hat(z, grid[i], eps), eps, grid[i], grid[i + 1], 1.0, fresh)
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_eta_one_is_the_gaussian_posterior():
    """Eq. (7) with eta = 1 and s = t - 1 has the mean and variance of q(z_{t-1} | z_t, z_0), for every t."""
    t = torch.arange(2, 1025)
    s, abar, beta = t - 1, SCHEDULE.abar, SCHEDULE.beta
    variance = beta[t] * (1 - abar[s]) / (1 - abar[t])
    like = torch.zeros(len(t), 1, dtype=torch.float64)
    assert torch.allclose(SCHEDULE.sigma(t, s, 1.0, like)[:, 0] ** 2, variance, rtol=1e-9)
    z, z0 = normal(len(t), 1), normal(len(t), 1, key=1)
    mean = SCHEDULE.step(z0, SCHEDULE.eps(z, t, z0), t, s, 1.0, torch.zeros_like(z))[:, 0]
    a, b = abar[s].sqrt() * beta[t] / (1 - abar[t]), (1 - beta[t]).sqrt() * (1 - abar[s]) / (1 - abar[t])
    assert torch.allclose(mean, a * z0[:, 0] + b * z[:, 0], rtol=1e-9, atol=1e-9)


def test_the_log_snr_grid_has_exactly_the_levels_asked_for_and_is_even():
    for steps in range(1, 1025):
        grid = SCHEDULE.grid(steps, "log-snr")
        assert grid[0] == 1024 and grid[-1] == 0 and len(grid) == steps + 1
        assert all(t > s for t, s in zip(grid, grid[1:])), steps
    snr = SCHEDULE.log_snr(torch.tensor(SCHEDULE.grid(16, "log-snr")[:-1]))
    assert (snr.diff() / snr.diff().mean() - 1).abs().max() < 0.4  # whole levels are coarse at the clean end
    assert (snr.diff()[:8] / snr.diff().mean() - 1).abs().max() < 0.02
    assert SCHEDULE.grid(1024, "log-snr") == SCHEDULE.grid(1024)
    with pytest.raises(ValueError, match="'uniform' or 'log-snr'"):
        SCHEDULE.grid(10, "cosine")


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers, under a newer numpy
@pytest.mark.parametrize("steps", [2, 5, 25])
def test_second_order_equals_the_solver_of_diffusers(steps):
    """DPM-Solver++(2M), midpoint, last step first order, on equal noise estimates of a model that bends."""
    theirs = DPMSolverMultistepScheduler(
        1024, 1e-4, 0.02, "linear", algorithm_type="dpmsolver++", final_sigmas_type="zero", lower_order_final=False
    )
    grid = SCHEDULE.grid(steps, "log-snr")
    theirs.set_timesteps(timesteps=[t - 1 for t in grid[:-1]])
    ours = other = torch.randn(2, 1, 4, 4, generator=generator("2m", steps))
    before, u = None, None
    for t, s in zip(grid, grid[1:]):
        bend = [torch.sin(z * (1 + t / 1024)) for z in (ours, other)]
        x0_hat = SCHEDULE.x0_hat(ours, t, bend[0])
        aim = SCHEDULE.extrapolate(x0_hat, before, u, t, s) if u and s else x0_hat
        ours = SCHEDULE.step(aim, SCHEDULE.eps(ours, t, aim), t, s)
        other = theirs.step(bend[1], t - 1, other).prev_sample
        assert (ours - other).abs().max() < 1e-3 * other.abs().max(), t
        u, before = t, x0_hat
