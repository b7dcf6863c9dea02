"""Each guide rule against its equation, and the limits in which rules become one another."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minipig.extras.solvers import SOLVERS
from minipig.guider import NoisyPair, model_y_loss
from minipig.rules import (
    RULES,
    TRAINED_AS,
    Augmented,
    Binarised,
    Blank,
    Clean,
    Dithered,
    LesionWeighted,
    Matched,
    Noisy,
    Previous,
    Sign,
    Strength,
    loss_of,
    trained_as,
)
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule.linear()
COSINE = Schedule.cosine()


def pair(n=6, size=8, schedule=SCHEDULE):
    draw = generator("rules", 0)
    x0 = torch.where(torch.rand((n, 1, size, size), generator=draw) > 0.7, 1.0, -1.0)
    return NoisyPair.draw(x0, 0.5 * x0, schedule, draw, lambda z, t, y: 0.3 * z + 0.1 * y)


def state(n=3, size=8, t=500):
    draw = generator("rules", 1)
    xt, x0_hat, x_next = torch.randn((3, n, 1, size, size), generator=draw)
    fields = dict(t=t, t_next=t - 4, xt=xt, x0_hat=x0_hat, x_next=x_next)
    return SimpleNamespace(**fields, schedule=SCHEDULE)


@pytest.mark.parametrize("schedule", [SCHEDULE, COSINE], ids=["linear", "cosine"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_trains_and_walks(name, schedule):
    rule = RULES[name]()
    p = pair(schedule=schedule)
    weight = torch.ones(1, requires_grad=True)
    loss_of(rule)(lambda z, t, guide: weight * (z + guide), p).backward()
    assert weight.grad.isfinite().all() and rule.train(p).shape == p.x0.shape
    model = PairModel(lambda z, t, y: 0.1 * z, lambda z, t, g: 0.1 * (z + g), schedule, rule)
    for at in walk(model, *torch.randn(2, 3, 1, 8, 8), schedule.grid(8)):
        assert rule.sample(at).shape == at.xt.shape and rule.sample(at).isfinite().all()
    assert at.y0_hat.isfinite().all()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_depends_on_its_argument_alone(name):
    """Twice the same guide, on new objects, and no random number is drawn."""
    before = torch.get_rng_state()
    assert torch.equal(RULES[name]().train(pair()), RULES[name]().train(pair()))
    assert torch.equal(RULES[name]().sample(state()), RULES[name]().sample(state()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", TRAINED_AS)
def test_rules_that_share_a_model_y_train_alike_and_sample_apart(name):
    mine = RULES[name]()
    other = RULES[trained_as(name)]()
    assert torch.equal(mine.train(pair()), other.train(pair()))
    assert type(mine).train is type(other).train and not hasattr(mine, "loss")
    assert not torch.equal(mine.sample(state()), other.sample(state()))


def test_a_rule_is_trained_as_itself_unless_it_shares_a_model_y():
    assert trained_as("sign") == "clean" and trained_as("my_rule.py:Mine") == "my_rule.py:Mine"
    for name in RULES:
        assert trained_as(trained_as(name)) == trained_as(name)


def test_a_rules_own_loss_replaces_the_mean_square():
    class Own(Clean):
        def loss(self, model_y, pair):
            return model_y_loss(model_y, pair, self) + 7

    p = pair()

    def model_y(z, t, guide):
        return 0.5 * z + 0.1 * guide

    assert torch.equal(loss_of(Clean())(model_y, p), model_y_loss(model_y, p, Clean()))
    assert torch.equal(loss_of(Own())(model_y, p), model_y_loss(model_y, p, Clean()) + 7)


def test_a_rule_may_wrap_model_y_in_sampling():
    class Opposite(Clean):
        def asks(self, model_y):
            return lambda z, t, guide: -model_y(z, t, guide)

    def model_y(z, t, guide):
        return z + guide

    plain = PairModel(lambda z, t, y: 0.1 * z, model_y, SCHEDULE, Clean())
    opposite = replace(plain, rule=Opposite())
    by_hand = replace(plain, model_y=lambda z, t, guide: -model_y(z, t, guide))
    z = torch.ones(1, 1, 2, 2)
    assert plain.guided_y is model_y
    assert torch.equal(opposite.guided_y(z, None, z), -2 * z)
    noise = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for solver in SOLVERS.values():  # every walk asks the rule
        one, other, same = (
            next(solver.walk(p, *noise, SCHEDULE.grid(3))) for p in (plain, opposite, by_hand)
        )
        assert torch.equal(one.x0_hat, other.x0_hat) and not torch.equal(one.y0_hat, other.y0_hat)
        assert torch.equal(other.y0_hat, same.y0_hat)


def test_a_guide_may_have_several_channels():
    """Two channels, mask and noisy mask, in training and in sampling."""

    class Both:
        def train(self, pair):
            return torch.cat([pair.x0, pair.xt], dim=1)

        def sample(self, state):
            return torch.cat([state.x0_hat, state.xt], dim=1)

    def model_y(z, t, guide):
        assert guide.shape == (len(z), 2, 8, 8)
        return z + guide.sum(1, keepdim=True)

    rule = Both()
    assert loss_of(rule)(model_y, pair()).isfinite()
    model = PairModel(lambda z, t, y: 0.1 * z, model_y, SCHEDULE, rule)
    *_, last = walk(model, *torch.randn(2, 3, 1, 8, 8), SCHEDULE.grid(3))
    assert last.y0_hat.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("schedule", [SCHEDULE, COSINE], ids=["linear", "cosine"])
@pytest.mark.parametrize("steps", [25, 256, 1000, 1024])
def test_previous_is_the_next_level_of_the_samplers_grid(steps, schedule):
    grid = schedule.grid(steps)
    x0 = torch.ones(steps, 1, 1, 1)
    p = NoisyPair(x0, x0, torch.tensor(grid[:-1]), 2 * x0, x0, schedule)
    expected = schedule.add_noise(x0, torch.tensor(grid[1:]), 2 * x0)
    assert torch.equal(Previous(steps).train(p), expected)


def test_previous_moves_any_level_as_far_on_as_the_grid_does():
    """Between two levels of the grid the move is in proportion: 3, between 4 and 0, goes to 0."""
    x0 = torch.ones(1024, 1, 1, 1)
    p = NoisyPair(x0, x0, torch.full((1024,), 3), 2 * x0, x0, SCHEDULE)
    assert torch.equal(Previous(256).train(p), p.x0)
    assert Previous().steps == 256


def test_a_walk_arrives_where_previous_was_trained():
    """A guider that knows mask and noise: the sampler's x_next is Eq. (9) at the next level."""
    p = pair()
    t = int(p.t[0])
    s = max(level for level in SCHEDULE.grid(256) if level < t)
    model = PairModel(lambda z, t, y: p.eps_1[:1], lambda z, t, g: z, SCHEDULE, Previous(256))
    at = next(walk(model, p.xt[:1], p.yt[:1], [t, s, 0], clip=False))
    expected = SCHEDULE.add_noise(p.x0[:1], s, p.eps_1[:1])
    assert torch.allclose(Previous().sample(at), expected, atol=1e-3)


def test_blank_shows_zeros_so_that_model_y_works_alone():
    p = pair()
    s = state()
    assert torch.equal(Blank().train(p), torch.zeros_like(p.x0))
    assert torch.equal(Blank().sample(s), torch.zeros_like(s.xt))
    assert Blank().train(p).dtype == p.x0.dtype and trained_as("blank") == "blank"
    double = state()
    double.xt = double.xt.double()
    assert Blank().sample(double).dtype == torch.float64

    def slices(model_x, rule):
        model = PairModel(model_x, lambda z, t, g: 0.3 * z + g, SCHEDULE, rule)
        x_T, y_T = torch.randn(2, 3, 1, 8, 8, generator=generator("blank", 0))
        return [at.y0_hat for at in walk(model, x_T, y_T, SCHEDULE.grid(4))][-1]

    def another(z, t, y):
        return z - y

    for rule, equal in ((Blank(), True), (Clean(), False)):
        found = slices(lambda z, t, y: 0.1 * z, rule)
        assert torch.equal(found, slices(another, rule)) is equal


def test_augmented_runs_from_clean_to_noisy():
    p = pair()
    s = state()
    assert torch.equal(Augmented(0).train(p), p.x0) and torch.equal(Augmented(1).train(p), p.xt)
    assert torch.equal(Augmented(0).sample(s), s.x0_hat)
    assert torch.allclose(Augmented(1).sample(s), s.xt, atol=1e-5)
    half = SCHEDULE.step(s.x0_hat, SCHEDULE.eps(s.xt, 500, s.x0_hat), 500, 250)
    found = Augmented(0.5).sample(s)
    assert torch.allclose(found, half, atol=1e-6)  # a DDIM step to half the level


def test_noisy_is_the_other_chain():
    p = pair()
    s = state()
    assert Noisy().train(p) is p.xt and Noisy().sample(s) is s.xt


@pytest.mark.parametrize("window", [5, 1])
def test_binarised_is_the_releases(window):
    """By loops: clamp, mean of what lies in the frame, three quarters from lowest to highest."""
    s = state()
    r = window // 2
    found = (Binarised() if window == 5 else Binarised(window)).sample(s)
    for i in range(3):
        z = s.x0_hat[i, 0].clamp(-1, 1)
        smooth = torch.empty(8, 8)
        for v in range(8):
            for u in range(8):
                smooth[v, u] = z[max(v - r, 0) : v + r + 1, max(u - r, 0) : u + r + 1].mean()
        bar = smooth.min() + 0.75 * (smooth.max() - smooth.min())
        assert torch.equal(found[i, 0] > 0, smooth > bar)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(Binarised().train(pair()), Matched().train(pair()))


def test_the_lesion_weight_is_a_sigmoid_of_the_guide():
    p = pair()
    weight = torch.exp(p.x0_hat) / (1 + torch.exp(p.x0_hat))
    expected = (weight * (p.eps_2 - 0.5 * p.yt) ** 2).mean()
    assert torch.allclose(loss_of(LesionWeighted())(lambda z, t, g: 0.5 * z, p), expected)
    ratio = torch.sigmoid(torch.tensor(1.0)) / torch.sigmoid(torch.tensor(-1.0))
    assert ratio == pytest.approx(2.718, abs=1e-3)


def test_strength_drops_one_mask_in_ten_and_doubles_what_the_mask_says():
    p = pair(4000, 1)
    shown = Strength().train(p)
    dropped = (shown == 0).flatten()
    assert dropped.double().mean() == pytest.approx(0.1, abs=4 * (0.09 / 4000) ** 0.5)
    assert torch.equal(shown[~dropped], p.x0[~dropped])
    both = torch.stack([dropped.float(), p.eps_2.flatten()])
    assert abs(torch.corrcoef(both)[0, 1]) < 4 / 4000**0.5
    z, guide = torch.randn(2, 3, 1, 8, 8)

    def model_y(z, t, g):
        return z + g.sin()

    def asked_with(w):
        return PairModel(None, model_y, SCHEDULE, Strength(w)).guided_y(z, None, guide)

    assert torch.allclose(asked_with(1.0), model_y(z, None, guide), atol=1e-6)
    assert torch.allclose(asked_with(3.0), z + 3 * guide.sin(), atol=1e-5)


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
