"""Eq. (2), (3), (6), (7) against their statistics, each other, and the schedulers of diffusers."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from minipig.schedule import SCHEDULES, Schedule
from minipig.seeds import generator

SCHEDULE = Schedule.linear()


def normal(*shape, key=0, dtype=torch.float64):
    return torch.randn(shape, generator=generator("test", key), dtype=dtype)


def test_tables_are_indexed_by_the_papers_t():
    assert SCHEDULE.abar.dtype == torch.float64 and len(SCHEDULE.abar) == 1025
    assert SCHEDULE.T == 1024 and SCHEDULE.name == "linear"
    assert SCHEDULE.beta[0] == 0 and SCHEDULE.beta[1] == 1e-4 and SCHEDULE.beta[1024] == 0.02
    assert SCHEDULE.abar[0] == 1 and SCHEDULE.abar[1] == 1 - 1e-4
    assert (SCHEDULE.abar.diff() < 0).all()


def test_the_linear_schedule_is_the_papers():
    beta = np.linspace(1e-4, 0.02, 1024)
    assert np.allclose(SCHEDULE.beta[1:], beta, rtol=1e-12, atol=0)
    assert np.allclose(SCHEDULE.abar[1:], np.exp(np.log1p(-beta).cumsum()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("T", [1, 2, 100, 1000, 1024])
def test_the_cosine_schedule_is_nichol_and_dhariwals(T):
    """Their Eq. (17), written out again in numpy: clipped betas, and abar of those."""

    def abar(t):
        return (
            np.cos((t / T + 0.008) / 1.008 * np.pi / 2) ** 2
            / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
        )

    cosine = Schedule.cosine(T)
    expected = 1.0
    for t in range(1, T + 1):
        beta = min(1 - abar(t) / abar(t - 1), 0.999)
        expected = expected * (1 - beta)
        assert cosine.beta[t].item() == pytest.approx(beta, abs=1e-12)
        assert cosine.abar[t].item() == pytest.approx(expected, rel=1e-9)
        if beta < 0.999:
            assert cosine.abar[t].item() == pytest.approx(abar(t), rel=1e-9)
    assert cosine.T == T and cosine.name == "cosine"


def test_the_cosine_schedule_is_a_schedule():
    cosine = Schedule.cosine()
    assert cosine.T == 1024 and cosine.beta.dtype == cosine.abar.dtype == torch.float64
    assert (cosine.abar.diff() < 0).all() and cosine.abar[0] == 1 and 0 < cosine.abar[-1] < 1e-6
    assert (cosine.beta[1:] > 0).all() and cosine.beta.max() == 0.999
    theirs = DDPMScheduler(1024, beta_schedule="squaredcos_cap_v2")
    assert torch.allclose(theirs.alphas_cumprod.double(), cosine.abar[1:], atol=1e-6)


@pytest.mark.parametrize(
    "bad", [dict(T=0), dict(beta_1=0.0), dict(beta_T=1.0), dict(beta_T=-0.1), dict(beta_T=np.nan)]
)
def test_impossible_schedules_are_refused(bad):
    with pytest.raises(ValueError, match=r"T >= 1 and betas in \(0, 1\)"):
        Schedule.linear(**bad)


def test_a_schedule_is_made_of_its_abar_again():
    for schedule in (SCHEDULE, Schedule.cosine()):
        again = Schedule.of(schedule.abar[1:])
        assert again.T == 1024 and again.name == "custom"
        assert torch.allclose(again.abar, schedule.abar, rtol=1e-12, atol=1e-12)
        assert torch.allclose(again.beta, schedule.beta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bad", [[0.9, 0.9], [0.5, 0.8], [1.0, 0.5], [0.5, 0.0], [0.5, np.nan]])
def test_an_abar_that_does_not_fall_or_reaches_an_end_is_refused(bad):
    with pytest.raises(ValueError, match=r"abar\[t\] must fall"):
        Schedule.of(torch.tensor(bad))


def test_schedules_are_equal_if_their_levels_are():
    assert SCHEDULE == Schedule.linear() and Schedule.cosine() == Schedule.cosine()
    assert SCHEDULE == Schedule(SCHEDULE.beta[1:], "another name")
    for other in (Schedule.cosine(), Schedule.linear(T=1000), Schedule.linear(beta_T=0.03), None):
        assert SCHEDULE != other


def test_a_schedule_of_another_processor_is_equal():
    """linspace differs in the last place between vector units."""
    other = Schedule.linear()
    other.beta *= 1 + 2.3e-16
    assert other == Schedule.linear() != Schedule.linear(beta_1=1.0001e-4)


def test_a_schedule_is_shown_by_its_name_and_its_end():
    assert repr(SCHEDULE) == f"Schedule(linear, T = 1024, abar_T = {SCHEDULE.abar[-1]:.3g})"
    assert repr(Schedule.of(torch.tensor([0.9, 0.5]))) == "Schedule(custom, T = 2, abar_T = 0.5)"


def test_schedules_have_names():
    assert list(SCHEDULES) == ["linear", "cosine"]
    for name, make in SCHEDULES.items():
        assert make().name == name and make().T == 1024


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 256, 1000, 1023, 1024])
def test_grids_run_from_T_to_0_in_distinct_moves(steps):
    grid = SCHEDULE.grid(steps)
    assert grid[0] == 1024 and grid[-1] == 0 and len(grid) == steps + 1
    moves = [t - s for t, s in zip(grid, grid[1:])]
    assert min(moves) >= 1 and max(moves) - min(moves) <= 1
    assert Schedule.cosine().grid(steps) == grid


@pytest.mark.parametrize("steps", [0, -1, 1025])
def test_a_grid_of_no_or_too_many_steps_is_refused(steps):
    with pytest.raises(ValueError, match=f"steps must be from 1 to 1024, not {steps}"):
        SCHEDULE.grid(steps)


@pytest.mark.parametrize("t", [1, 200, 1024])
def test_forward_noise_has_the_moments_of_eq_3(t):
    n = 200_000
    z0 = 0.7
    zt = SCHEDULE.add_noise(torch.full((n, 1), z0, dtype=torch.float64), t, normal(n, 1, key=t))
    abar = SCHEDULE.abar[t]
    assert abs(zt.mean() - abar.sqrt() * z0) < 4 * ((1 - abar) / n).sqrt()
    assert abs(zt.var() / (1 - abar) - 1) < 4 * (2 / n) ** 0.5


@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule.cosine()], ids=SCHEDULES)
def test_eq_2_iterated_is_eq_3(schedule):
    """Path noise, added up with the weights that Eq. (2) gives it, is one eps of unit variance."""
    z0 = normal(5, 1, key=1)
    steps = 300
    noise = normal(steps, 5, 1, key=2)
    zt = z0
    eps_sum = torch.zeros_like(z0)
    for t in range(1, steps + 1):
        zt = schedule.noise_step(zt, t, noise[t - 1])
        beta = schedule.beta[t]
        eps_sum = (1 - beta).sqrt() * eps_sum + beta.sqrt() * noise[t - 1]
    weights = schedule.beta[1 : steps + 1] * schedule.abar[steps] / schedule.abar[1 : steps + 1]
    assert torch.isclose(weights.sum(), 1 - schedule.abar[steps], rtol=1e-12)
    eps = eps_sum / (1 - schedule.abar[steps]).sqrt()
    assert torch.allclose(zt, schedule.add_noise(z0, steps, eps), rtol=0, atol=1e-12)


def test_eq_6_inverts_eq_3_at_mixed_times_and_in_float32():
    z0 = normal(4, 1, 3, 3, dtype=torch.float32)
    eps = normal(4, 1, 3, 3, key=1, dtype=torch.float32)
    t = torch.tensor([1, 10, 500, 1024])
    zt = SCHEDULE.add_noise(z0, t, eps)
    assert zt.dtype == torch.float32
    error = (SCHEDULE.x0_hat(zt, t, eps) - z0).abs().amax((1, 2, 3))
    bound = torch.tensor([1e-6, 1e-6, 1e-5, 1e-3])  # 1 / sqrt(abar) amplifies rounding
    assert (error < bound).all()
    assert torch.allclose(SCHEDULE.eps(zt, t, z0), eps, atol=1e-3)


def diffusers_scheduler(kind, steps):
    linear = dict(beta_start=1e-4, beta_end=0.02)
    scheduler = kind(1024, **linear, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [1, 2, 8, 64, 256, 1024])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_steps_equal_the_ddim_of_diffusers(steps, eta):
    """First, middle and last move, to a relative 1e-5 on equal noise; clipping off."""
    theirs = diffusers_scheduler(DDIMScheduler, steps)
    grid = SCHEDULE.grid(steps)
    assert [t + 1 for t in theirs.timesteps.tolist()] == grid[:-1]
    for i in {0, steps // 2, steps - 1}:
        t, s = grid[i], grid[i + 1]
        z, eps, fresh = (normal(2, 1, 4, 4, key=k, dtype=torch.float32) for k in (i, i + 1, i + 2))
        noise = fresh if eta else None
        moved = theirs.step(eps, theirs.timesteps[i], z, eta=eta, variance_noise=noise)
        expected = moved.prev_sample
        ours = SCHEDULE.step(SCHEDULE.x0_hat(z, t, eps), eps, t, s, eta, fresh)
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("steps", [2, 64, 1024])
def test_eta_one_equals_the_ddpm_of_diffusers(steps):
    theirs = diffusers_scheduler(DDPMScheduler, steps)
    grid = SCHEDULE.grid(steps)
    for i in {0, steps // 2, steps - 1}:
        t, s = grid[i], grid[i + 1]
        z, eps = (normal(2, 1, 4, 4, key=k, dtype=torch.float32) for k in (i, i + 1))
        fresh = torch.randn(z.shape, generator=generator("fresh", i))
        moved = theirs.step(eps, theirs.timesteps[i], z, generator=generator("fresh", i))
        expected = moved.prev_sample
        ours = SCHEDULE.step(SCHEDULE.x0_hat(z, t, eps), eps, t, s, 1.0, fresh)
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule.cosine()], ids=SCHEDULES)
def test_eta_one_is_the_gaussian_posterior(schedule):
    """Eq. (7) with eta = 1, s = t - 1: the mean and variance of q(z_{t-1} | z_t, z_0), every t."""
    t = torch.arange(2, 1025)
    s = t - 1
    abar = schedule.abar
    beta = schedule.beta
    variance = beta[t] * (1 - abar[s]) / (1 - abar[t])
    like = torch.zeros(len(t), 1, dtype=torch.float64)
    assert torch.allclose(schedule.sigma(t, s, 1.0, like)[:, 0] ** 2, variance, rtol=1e-9)
    z = normal(len(t), 1)
    z0 = normal(len(t), 1, key=1)
    mean = schedule.step(z0, schedule.eps(z, t, z0), t, s, 1.0, torch.zeros_like(z))[:, 0]
    a = abar[s].sqrt() * beta[t] / (1 - abar[t])
    b = (1 - beta[t]).sqrt() * (1 - abar[s]) / (1 - abar[t])
    assert torch.allclose(mean, a * z0[:, 0] + b * z[:, 0], rtol=1e-9, atol=1e-9)
