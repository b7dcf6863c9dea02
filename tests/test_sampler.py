"""Algorithm 2 with denoisers that are known exactly, and the independence of samples."""

import pytest
import torch

from minipig.exact import Gaussian
from minipig.guider import Clean, Matched, Previous
from minipig.sampler import PairModel, corrected, sample, walk
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator
from minipig.unet import PRESETS, PairedUNet

SCHEDULE = Schedule()


def point(z0):
    """The ideal denoiser of a data set of one image: all that is not z0 is noise."""
    return lambda z, t, guide: SCHEDULE.eps(z, t, z0)


@pytest.mark.parametrize("steps", [1, 2, 10, 256, 1024])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_one_point_is_returned_from_any_noise(steps, eta):
    draw = generator("point", 0)
    x0, y0 = (2 * torch.rand((1, 1, 4, 5), generator=draw, dtype=torch.float64) - 1 for _ in range(2))
    noise = SampleNoise(0, range(3))
    x_T, y_T = (3 * noise((1, 4, 5)).double() for _ in range(2))
    states = list(walk(PairModel(point(x0), point(y0), SCHEDULE, Clean()), x_T, y_T, SCHEDULE.grid(steps), eta, noise))
    assert len(states) == steps
    for final, truth in ((states[-1].x0_hat, x0), (states[-1].y0_hat, y0), (states[-1].x_next, x0), (states[-1].y_next, y0)):
        assert (final - truth).abs().max() < 1e-5


def test_states_are_algorithm_2():
    """Order and contents: model_x sees y_t, model_y sees the x0_hat of the same step, levels follow the grid."""
    calls = []

    def model(name):
        def denoise(z, t, guide):
            calls.append((name, z, t, guide))
            return 0.1 * z + 0.2 * guide

        return denoise

    z = SampleNoise(0, range(2))
    grid = SCHEDULE.grid(4)
    states = list(walk(PairModel(model("x"), model("y"), SCHEDULE, Matched()), z((1, 2, 2)), z((1, 2, 2)), grid, clip=False))
    assert [(s.t, s.t_next) for s in states] == list(zip(grid, grid[1:]))
    for state, (a, b), after in zip(states, zip(calls[::2], calls[1::2]), states[1:] + [None]):
        assert a[0] == "x" and a[1] is state.x_t and a[3] is state.y_t and (a[2] == state.t).all()
        assert b[0] == "y" and b[1] is state.y_t and b[3] is state.x0_hat
        eps_x = 0.1 * state.x_t + 0.2 * state.y_t
        assert torch.equal(state.x0_hat, SCHEDULE.x0_hat(state.x_t, state.t, eps_x))
        assert torch.equal(state.x_next, SCHEDULE.step(state.x0_hat, eps_x, state.t, state.t_next))
        assert after is None or (after.x_t is state.x_next and after.y_t is state.y_next)


def test_clipping_holds_the_estimates_and_recomputes_eps():
    wild = PairModel(lambda z, t, g: -z, lambda z, t, g: -z, SCHEDULE, Clean())
    noise = SampleNoise(0, range(2))
    for state in walk(wild, noise((1, 4, 4)), noise((1, 4, 4)), SCHEDULE.grid(8)):
        assert state.x0_hat.abs().max() <= 1 and state.y0_hat.abs().max() <= 1
        eps = SCHEDULE.eps(state.y_t, state.t, state.y0_hat)
        assert torch.equal(state.y_next, SCHEDULE.step(state.y0_hat, eps, state.t, state.t_next))


@pytest.fixture(scope="module")
def networks():
    nets = []
    for seed in (0, 1):
        net = PairedUNet(**PRESETS["tiny"]).eval().requires_grad_(False)
        draw = generator("weights", seed)
        for p in net.parameters():
            p += 0.05 * torch.randn(p.shape, generator=draw)
        nets.append(net)
    return PairModel(*nets, SCHEDULE, Clean())


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sample_i_depends_on_seed_and_i_alone(networks, eta):
    def run(n, batch, first=0, seed=7):
        parts = list(sample(networks, n, (16, 24), steps=6, seed=seed, eta=eta, batch=batch, first=first))
        return torch.cat([y for _, y in parts])

    whole = run(5, 5)
    assert torch.allclose(whole, run(5, 2), atol=1e-4) and torch.allclose(whole[3:], run(2, 2, first=3), atol=1e-4)
    assert torch.equal(whole, run(5, 5))
    assert (whole - run(5, 5, seed=8)).abs().max() > 0.1 and (whole[0] - whole[1]).abs().max() > 0.1


def test_mask_and_slice_start_from_independent_noise():
    starts = {}

    def first_seen(name):
        def model(z, t, guide):
            starts.setdefault(name, z.flatten())
            return z

        return model

    next(sample(PairModel(first_seen("x"), first_seen("y"), SCHEDULE, Clean()), 8, (32, 32), steps=1))
    correlation = torch.corrcoef(torch.stack([starts["x"], starts["y"]]))[0, 1]
    assert abs(correlation) < 4 / len(starts["x"]) ** 0.5


def test_samples_are_masks_and_slices_in_range(networks):
    (x, y), (x_last, _) = sample(networks, 3, (16, 16), steps=3, batch=2)
    assert x.shape == y.shape == (2, 1, 16, 16) and len(x_last) == 1
    assert set(x.unique().tolist()) <= {-1.0, 1.0} and y.abs().max() <= 1


def test_steps_outside_the_schedule_are_refused(networks):
    with pytest.raises(ValueError, match="0 sampling steps"):
        next(sample(networks, 1, (16, 16), steps=0))


def test_the_previous_mask_is_sampled_on_the_levels_it_was_trained_for(networks):
    pair = PairModel(networks.model_x, networks.model_y, SCHEDULE, Previous(4))
    assert len(next(sample(pair, 1, (16, 16), steps=4))) == 2
    for how in (dict(steps=5), dict(steps=4, solver="dpm++2m")):
        with pytest.raises(ValueError, match="trained for 4 steps, spaced uniform: it cannot be sampled in"):
            next(sample(pair, 1, (16, 16), **how))


def test_an_eta_without_meaning_is_refused(networks):
    with pytest.raises(ValueError, match="eta runs from 0"):
        next(sample(networks, 1, (16, 16), steps=2, eta=2.0))


def test_second_order_keeps_the_guide_and_the_estimates_and_moves_onto_the_extrapolated_ones():
    guides = []

    def model_y(z, t, guide):
        guides.append(guide)
        return 0.3 * z - 0.1 * guide

    pair = PairModel(lambda z, t, guide: 0.1 * z + 0.2 * guide, model_y, SCHEDULE, Matched())
    grid, noise = SCHEDULE.grid(6, "log-snr"), SampleNoise(0, range(2))
    states = list(walk(pair, noise((1, 2, 2)), noise((1, 2, 2)), grid, clip=False, order=2))
    for last, state, shown in zip([None] + states, states, guides):
        assert shown is state.x0_hat
        for z, z0_hat, z_next, before in (
            (state.x_t, state.x0_hat, state.x_next, last and last.x0_hat),
            (state.y_t, state.y0_hat, state.y_next, last and last.y0_hat),
        ):
            if last and state.t_next > 0:
                z0_hat = SCHEDULE.extrapolate(z0_hat, before, last.t, state.t, state.t_next)
            expected = SCHEDULE.step(z0_hat, SCHEDULE.eps(z, state.t, z0_hat), state.t, state.t_next)
            assert (z_next - expected).norm() <= 1e-5 * expected.norm()
    assert torch.allclose(states[-1].x_next, states[-1].x0_hat, atol=1e-6)


@pytest.mark.parametrize("order, eta", [(2, 0.5), (3, 0.0), (0, 0.0)])
def test_orders_that_are_not_there_are_refused(order, eta):
    z = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="the order is 1, or 2 with eta = 0"):
        next(walk(PairModel(point(z), point(z), SCHEDULE, Clean()), z, z, [4, 0], eta, order=order))


def test_solvers_are_chosen_by_name():
    """The default is the paper's; each takes the steps that it is said to need, or as many as are asked for."""
    calls = []

    def counting(z, t, guide):
        calls.append(int(t[0]))
        return torch.zeros_like(z)

    pair = PairModel(counting, counting, SCHEDULE, Clean())
    for keywords, grid in (
        ({}, SCHEDULE.grid(256)),
        (dict(solver="dpm++2m"), SCHEDULE.grid(25, "log-snr")),
        (dict(solver="dpm++2m", steps=7), SCHEDULE.grid(7, "log-snr")),
    ):
        calls.clear()
        next(sample(pair, 1, (2, 2), **keywords))
        assert calls[::2] == calls[1::2] == grid[:-1]


def test_a_corrected_step_is_taken_undone_and_taken_again():
    asked = []

    def model(z, t, guide):
        asked.append((int(t[0]), z))
        return 0.1 * z + 0.2 * guide

    grid, fresh = SCHEDULE.grid(4), []

    def noise(shape):
        fresh.append(torch.randn((2, *shape), generator=generator("fresh", len(fresh))))
        return fresh[-1]

    x_T, y_T = torch.randn((2, 2, 1, 3, 3), generator=generator("start", 0))
    states = list(corrected(PairModel(model, model, SCHEDULE, Matched()), x_T, y_T, grid, noise, clip=False))
    assert [(s.t, s.t_next) for s in states] == list(zip(grid, grid[1:])) and len(asked) == 4 * 4 and len(fresh) == 2 * 4
    (once,) = walk(PairModel(model, model, SCHEDULE, Matched()), x_T, y_T, grid[:2], clip=False)
    t, s = grid[:2]
    ratio = SCHEDULE.abar[t] / SCHEDULE.abar[s]
    again = ratio.sqrt().float() * once.x_next + (1 - ratio).sqrt().float() * fresh[0]
    assert torch.allclose(states[0].x_t, again, atol=1e-6)
    assert all(torch.equal(after.x_t, asked[4 * i + 6][1]) for i, after in enumerate(states[1:]))


def test_corrections_keep_the_law_of_an_ideal_pair_model():
    """The Gaussian world: 3,000 pairs after 256 corrected steps have its covariance, within four standard errors and 1 %."""
    rho, n, draw = 0.8, 3000, generator("corrected", 0)
    world = Gaussian(torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64))

    def noise(shape):
        return torch.randn((n, *shape), generator=draw, dtype=torch.float64)

    *_, last = corrected(world.pair("joint"), noise((1, 1, 1)), noise((1, 1, 1)), SCHEDULE.grid(256), noise, clip=False)
    found = torch.cov(torch.cat([last.x0_hat.flatten(1), last.y0_hat.flatten(1)], 1).T)
    assert torch.allclose(found, world.covariance, atol=4 * (2 / n) ** 0.5 + 0.01)
