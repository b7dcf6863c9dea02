"""Each guide rule against its equation, written out again; and the limits in which rules become one another."""

from types import SimpleNamespace

import pytest
import torch

from minipig.guider import Clean, Matched, NoisyPair, Previous
from minipig.rules import RULES, Augmented, Binarised, Dithered, LesionWeighted, Noisy, Sign, Strength, asked, loss_of
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule()


def pair(n=6, size=8):
    draw = generator("rules", 0)
    x0 = torch.where(torch.rand((n, 1, size, size), generator=draw) > 0.7, 1.0, -1.0)
    return NoisyPair.draw(x0, 0.5 * x0, SCHEDULE, draw, lambda z, t, y: 0.3 * z + 0.1 * y)


def state(n=3, size=8, t=500):
    draw = generator("rules", 1)
    x_t, x0_hat, x_next = torch.randn((3, n, 1, size, size), generator=draw)
    return SimpleNamespace(t=t, t_next=t - 4, x_t=x_t, x0_hat=x0_hat, x_next=x_next, schedule=SCHEDULE)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_trains_and_walks(name):
    rule, p = RULES[name](), pair()
    weight = torch.ones(1, requires_grad=True)
    loss_of(rule)(lambda z, t, guide: weight * (z + guide), p).backward()
    assert weight.grad.isfinite().all() and rule.train(p).shape == p.x0.shape
    model_y = asked(rule, lambda z, t, g: 0.1 * (z + g))
    for at in walk(
        PairModel(lambda z, t, y: 0.1 * z, model_y, SCHEDULE, rule), *torch.randn(2, 3, 1, 8, 8), SCHEDULE.grid(8)
    ):
        assert rule.sample(at).shape == at.x_t.shape and rule.sample(at).isfinite().all()
    assert at.y0_hat.isfinite().all()


def test_previous_is_the_next_level_of_the_samplers_grid():
    for steps, spacing in ((256, "uniform"), (25, "log-snr"), (1024, "uniform")):
        grid = SCHEDULE.grid(steps, spacing)
        x0 = torch.ones(len(grid) - 1, 1, 1, 1)
        p = NoisyPair(x0, x0, torch.tensor(grid[:-1]), 2 * x0, x0, SCHEDULE)
        assert torch.equal(Previous(steps, spacing).train(p), SCHEDULE.add_noise(x0, torch.tensor(grid[1:]), 2 * x0))
    p = NoisyPair(x0, x0, torch.full((1024,), 3), 2 * x0, x0, SCHEDULE)  # between the last two levels, 4 and 0
    assert torch.equal(Previous(256).train(p), p.x0)


def test_a_walk_arrives_where_previous_was_trained():
    """With a guider that knows mask and noise, the sampler's x_next is Eq. (9) at the next level."""
    p = pair()
    t, grid = int(p.t[0]), SCHEDULE.grid(256)
    s = max(level for level in grid if level < t)
    model = PairModel(lambda z, t, y: p.eps_1[:1], lambda z, t, g: z, SCHEDULE, Previous(256))
    at = next(walk(model, p.xt[:1], p.yt[:1], [t, s, 0], clip=False))
    assert torch.allclose(Previous().sample(at), SCHEDULE.add_noise(p.x0[:1], s, p.eps_1[:1]), atol=1e-3)


def test_augmented_runs_from_clean_to_noisy():
    p, s = pair(), state()
    assert torch.equal(Augmented(0).train(p), p.x0) and torch.equal(Augmented(1).train(p), p.xt)
    assert torch.equal(Augmented(0).sample(s), s.x0_hat) and torch.allclose(Augmented(1).sample(s), s.x_t, atol=1e-5)
    half = SCHEDULE.step(s.x0_hat, SCHEDULE.eps(s.x_t, 500, s.x0_hat), 500, 250)
    assert torch.allclose(Augmented(0.5).sample(s), half, atol=1e-6)  # a DDIM step to half the level


def test_noisy_is_the_other_chain():
    p, s = pair(), state()
    assert Noisy().train(p) is p.xt and Noisy().sample(s) is s.x_t


@pytest.mark.parametrize("window", [5, 1])
def test_binarised_is_the_releases(window):
    """Written out with loops: clamp, mean of what lies in the frame, three quarters between least and largest."""
    s, r = state(), window // 2
    found = (Binarised() if window == 5 else Binarised(window)).sample(s)
    for i in range(3):
        z, smooth = s.x0_hat[i, 0].clamp(-1, 1), torch.empty(8, 8)
        for v in range(8):
            for u in range(8):
                smooth[v, u] = z[max(v - r, 0) : v + r + 1, max(u - r, 0) : u + r + 1].mean()
        bar = smooth.min() + 0.75 * (smooth.max() - smooth.min())
        assert torch.equal(found[i, 0] > 0, smooth > bar)
    assert set(found.unique().tolist()) == {-1.0, 1.0} and torch.equal(Binarised().train(pair()), Matched().train(pair()))


def test_the_lesion_weight_is_a_sigmoid_of_the_guide():
    p = pair()
    weight = torch.exp(p.x0_hat) / (1 + torch.exp(p.x0_hat))
    expected = (weight * (p.eps_2 - 0.5 * p.yt) ** 2).mean()
    assert torch.allclose(LesionWeighted().loss(lambda z, t, g: 0.5 * z, p), expected)
    assert torch.sigmoid(torch.tensor(1.0)) / torch.sigmoid(torch.tensor(-1.0)) == pytest.approx(2.718, abs=1e-3)


def test_strength_drops_one_mask_in_ten_and_doubles_what_the_mask_says():
    p = pair(4000, 1)
    shown = Strength().train(p)
    dropped = (shown == 0).flatten()
    assert dropped.double().mean() == pytest.approx(0.1, abs=4 * (0.09 / 4000) ** 0.5)
    assert torch.equal(shown[~dropped], p.x0[~dropped])
    assert abs(torch.corrcoef(torch.stack([dropped.float(), p.eps_2.flatten()]))[0, 1]) < 4 / 4000**0.5
    z, guide = torch.randn(2, 3, 1, 8, 8)
    model_y = lambda z, t, g: z + g.sin()  # noqa: E731
    assert torch.allclose(Strength(1.0).asks(model_y)(z, None, guide), model_y(z, None, guide), atol=1e-6)
    assert torch.allclose(Strength(3.0).asks(model_y)(z, None, guide), z + 3 * guide.sin(), atol=1e-5)


def test_sign_and_dithered_show_masks_and_dithered_averages_to_the_estimate():
    s = state()
    s.x0_hat = s.x0_hat.clamp(-1, 1)
    total = torch.zeros_like(s.x0_hat)
    for t in range(1, 1025):
        s.t = t
        shown = Dithered().sample(s)
        assert set(shown.unique().tolist()) <= {-1.0, 1.0}
        total += shown
    assert (total / 1024 - s.x0_hat).abs().max() < 0.01
    assert torch.equal(Sign().sample(s), torch.where(s.x0_hat > 0, 1.0, -1.0))
    for rule in (Sign(), Dithered(), Clean()):
        p = pair()
        assert rule.train(p) is p.x0
