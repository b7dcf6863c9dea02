"""Algorithm 2 with denoisers that are known exactly, and the independence of samples."""

import pytest
import torch

from minipig.rules import Clean, Matched, Previous
from minipig.sampler import DDIM, PairModel, Solver, State, denoise, sample, walk
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator
from minipig.unet import PRESETS, PairedUNet

SCHEDULE = Schedule.linear()


def point(z0, schedule=SCHEDULE):
    """The ideal denoiser of a data set of one image: all that is not z0 is noise."""
    return lambda z, t, guide: schedule.eps(z, t, z0)


@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule.cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 10, 256, 1024])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_one_point_is_returned_from_any_noise(steps, eta, schedule):
    draw = generator("point", 0)
    x0 = 2 * torch.rand((1, 1, 4, 5), generator=draw, dtype=torch.float64) - 1
    y0 = 2 * torch.rand((1, 1, 4, 5), generator=draw, dtype=torch.float64) - 1
    noise = SampleNoise(0, range(3))
    x_T = 3 * noise((1, 4, 5)).double()
    y_T = 3 * noise((1, 4, 5)).double()
    pair = PairModel(point(x0, schedule), point(y0, schedule), schedule, Clean())
    states = list(walk(pair, x_T, y_T, schedule.grid(steps), eta, noise))
    assert len(states) == steps
    last = states[-1]
    for final, truth in (
        (last.x0_hat, x0),
        (last.y0_hat, y0),
        (last.x_next, x0),
        (last.y_next, y0),
    ):
        assert (final - truth).abs().max() < 1e-5


def test_states_are_algorithm_2():
    """model_x sees y_t, model_y sees the x0_hat of the same step, and levels follow the grid."""
    calls = []

    def model(name):
        def denoiser(z, t, guide):
            calls.append((name, z, t, guide))
            return 0.1 * z + 0.2 * guide

        return denoiser

    noise = SampleNoise(0, range(2))
    grid = SCHEDULE.grid(4)
    pair = PairModel(model("x"), model("y"), SCHEDULE, Matched())
    states = list(walk(pair, noise((1, 2, 2)), noise((1, 2, 2)), grid, clip=False))
    assert [(s.t, s.t_next) for s in states] == list(zip(grid, grid[1:]))
    for state, (a, b), after in zip(states, zip(calls[::2], calls[1::2]), states[1:] + [None]):
        t, s = state.t, state.t_next
        assert a[0] == "x" and a[1] is state.xt and a[3] is state.yt and (a[2] == t).all()
        assert b[0] == "y" and b[1] is state.yt and b[3] is state.x0_hat and (b[2] == t).all()
        eps_x = 0.1 * state.xt + 0.2 * state.yt
        assert torch.equal(state.x0_hat, SCHEDULE.x0_hat(state.xt, t, eps_x))
        assert torch.equal(state.x_next, SCHEDULE.step(state.x0_hat, eps_x, t, s))
        eps_y = 0.1 * state.yt + 0.2 * state.x0_hat
        assert torch.equal(state.y0_hat, SCHEDULE.x0_hat(state.yt, t, eps_y))
        assert torch.equal(state.y_next, SCHEDULE.step(state.y0_hat, eps_y, t, s))
        assert after is None or (after.xt is state.x_next and after.yt is state.y_next)


def test_a_rule_sees_the_state_between_the_two_halves_of_a_step():
    seen = []

    class Watching:
        def sample(self, state):
            seen.append((state.x_next is not None, state.y0_hat, state.y_next))
            return state.x0_hat

    z = torch.ones(1, 1, 2, 2)
    states = list(walk(PairModel(point(z), point(z), SCHEDULE, Watching()), z, z, [9, 5, 0]))
    assert seen == [(True, None, None)] * 2
    assert all(state.y0_hat is not None and state.y_next is not None for state in states)


def test_clipping_holds_the_estimates_and_recomputes_eps():
    wild = PairModel(lambda z, t, g: -z, lambda z, t, g: -z, SCHEDULE, Clean())
    noise = SampleNoise(0, range(2))
    for state in walk(wild, noise((1, 4, 4)), noise((1, 4, 4)), SCHEDULE.grid(8)):
        assert state.x0_hat.abs().max() <= 1 and state.y0_hat.abs().max() <= 1
        eps = SCHEDULE.eps(state.yt, state.t, state.y0_hat)
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
        how = dict(steps=6, seed=seed, eta=eta, batch=batch, first=first)
        return torch.cat([y for _, y in sample(networks, n, (16, 24), **how)])

    whole = run(5, 5)
    assert torch.allclose(whole, run(5, 2), atol=1e-4)
    assert torch.allclose(whole[3:], run(2, 2, first=3), atol=1e-4)
    assert torch.equal(whole, run(5, 5))
    assert (whole - run(5, 5, seed=8)).abs().max() > 0.1
    assert (whole[0] - whole[1]).abs().max() > 0.1


def test_mask_and_slice_start_from_independent_noise():
    starts = {}

    def first_seen(name):
        def model(z, t, guide):
            starts.setdefault(name, z.flatten())
            return z

        return model

    pair = PairModel(first_seen("x"), first_seen("y"), SCHEDULE, Clean())
    next(sample(pair, 8, (32, 32), steps=1))
    correlation = torch.corrcoef(torch.stack([starts["x"], starts["y"]]))[0, 1]
    assert abs(correlation) < 4 / len(starts["x"]) ** 0.5


def test_samples_are_masks_and_slices_in_range(networks):
    (x, y), (x_last, _) = sample(networks, 3, (16, 16), steps=3, batch=2)
    assert x.shape == y.shape == (2, 1, 16, 16) and len(x_last) == 1
    assert set(x.unique().tolist()) <= {-1.0, 1.0} and y.abs().max() <= 1


def test_sampling_draws_no_graph_and_takes_256_steps_by_default():
    weight = torch.ones(1, requires_grad=True)
    levels = []

    def model(z, t, guide):
        levels.append(int(t[0]))
        return weight * z

    masks, slices = next(sample(PairModel(model, model, SCHEDULE, Clean()), 2, (4, 4)))
    assert not masks.requires_grad and not slices.requires_grad
    assert levels[::2] == levels[1::2] == SCHEDULE.grid(256)[:-1] == list(range(1024, 0, -4))


def test_a_denoiser_is_any_callable():
    """A function, an object with __call__, a lambda: no network is needed, and no guide is read."""
    x0 = torch.where(torch.rand((1, 1, 4, 6), generator=generator("mask", 0)) > 0.5, 1.0, -1.0)

    class Half:
        def __call__(self, z, t, guide=None):
            return SCHEDULE.eps(z, t, 0.5 * guide)

    masks, slices = next(
        sample(PairModel(point(x0), Half(), SCHEDULE, Clean()), 3, (4, 6), steps=5)
    )
    assert torch.equal(masks, x0.expand(3, 1, 4, 6))
    assert torch.allclose(slices, 0.5 * masks, atol=1e-5)


def test_networks_of_another_schedule_are_refused():
    net = PairedUNet(**PRESETS["tiny"], schedule=Schedule.cosine())
    with pytest.raises(ValueError, match="a network has .*cosine.*, not .*linear"):
        PairModel(net, net, Schedule.linear(), Clean())
    PairModel(net, net, Schedule.cosine(), Clean())
    paper = PairedUNet(**PRESETS["tiny"] | {"predict": "eps"}, schedule=Schedule.cosine())
    PairModel(paper, paper, Schedule.linear(), Clean())  # it answers with eps: no schedule in it


def test_a_walk_from_outside_the_package_is_a_solver():
    """The mask first, over all levels, by a guider that sees no slice; then the slice."""
    seen = []

    def mask_first(pair, x_T, y_T, grid, eta=0.0, noise=None):
        x = x_T
        y = y_T
        for t, s in zip(grid, grid[1:]):
            x0_hat, eps = denoise(pair.model_x, x, t, torch.zeros_like(y_T), SCHEDULE, clip=True)
            x = SCHEDULE.step(x0_hat, eps, t, s)
        for t, s in zip(grid, grid[1:]):
            state = State(t, s, x_T, y, x0_hat, x, pair.schedule)
            guide = pair.rule.sample(state)
            seen.append((t, guide))
            state.y0_hat, eps = denoise(pair.model_y, y, t, guide, SCHEDULE, clip=True)
            state.y_next = SCHEDULE.step(state.y0_hat, eps, t, s)
            yield state
            y = state.y_next

    x0 = torch.where(torch.rand((1, 1, 4, 6), generator=generator("mask", 0)) > 0.5, 1.0, -1.0)
    pair = PairModel(point(x0), lambda z, t, g: SCHEDULE.eps(z, t, -0.5 * g), SCHEDULE, Clean())
    for solver, steps, grid in (
        (Solver(mask_first), None, SCHEDULE.grid(256)),
        (Solver(mask_first, steps=7), None, SCHEDULE.grid(7)),
        (Solver(mask_first, steps=7), 3, SCHEDULE.grid(3)),
        (Solver(mask_first, grid=lambda schedule, steps: [schedule.T, 9, 0]), None, [1024, 9, 0]),
    ):
        seen.clear()
        masks, slices = next(sample(pair, 2, (4, 6), steps, solver=solver))
        assert torch.equal(masks, x0.expand(2, 1, 4, 6)) and torch.allclose(slices, -0.5 * masks)
        assert [t for t, _ in seen] == grid[:-1]
        assert all(torch.allclose(guide, masks, atol=1e-5) for _, guide in seen)


@pytest.mark.parametrize("steps", [0, -3, 1025])
def test_steps_outside_the_schedule_are_refused(networks, steps):
    with pytest.raises(ValueError, match=f"steps must be from 1 to 1024, not {steps}"):
        next(sample(networks, 1, (16, 16), steps=steps))


def test_the_previous_mask_is_sampled_on_the_levels_it_was_trained_for(networks):
    pair = PairModel(networks.model_x, networks.model_y, SCHEDULE, Previous(4))
    assert len(next(sample(pair, 1, (16, 16), steps=4))) == 2
    assert DDIM.levels(pair, 4) == SCHEDULE.grid(4)
    for how in (dict(steps=5), {}):
        with pytest.raises(
            ValueError, match="Previous needs the solver ddim with 4 sampling steps"
        ):
            next(sample(pair, 1, (16, 16), **how))


@pytest.mark.parametrize("eta", [-0.5, 1.1, 2.0, float("nan")])
def test_an_eta_without_meaning_is_refused(networks, eta):
    with pytest.raises(ValueError, match="eta is .*; it must be 0"):
        next(sample(networks, 1, (16, 16), steps=2, eta=eta))
