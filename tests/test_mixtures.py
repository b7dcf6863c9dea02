"""Ideal denoisers of worlds of few masks against scores and brute force, and what guide rules lead to there."""

import pytest
import torch
from torch.distributions import Normal

from minipig.guider import Clean, Matched, NoisyPair, Previous, guider_loss
from minipig.mixtures import Mixture, TrainingSet, lattice
from minipig.rules import Dithered, Noisy, Sign, Strength
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule()


def column(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def normal(*shape, key):
    return torch.randn(shape, generator=generator("exact", key), dtype=torch.float64)


def finish(pair, x_T, y_T, grid):
    for state in walk(pair, x_T, y_T, grid, clip=False):
        pass
    return state


def binary():
    """One pixel, lesion with probability .2; y | x ~ N(x, .3^2)."""
    return Mixture(column(-1, 1), torch.tensor([0.8, 0.2], dtype=torch.float64), lambda u: u, 0.3)


def three_levels():
    return Mixture(column(-1, 0, 1), torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64), lambda u: u**2, 0.3)


def shares(world, pair, steps=256, n=50):
    """How often each level comes out of n^2 equally likely starts."""
    last = finish(pair, *lattice(n), SCHEDULE.grid(steps))
    nearest = (last.x0_hat.flatten(1) - world.levels.flatten()).abs().argmin(1)
    return (torch.bincount(nearest, minlength=len(world.levels)) / n**2).tolist()


def density(world, t, x_t, y_t):
    """log p(x_t, y_t) of a one-pixel world, written by torch.distributions."""
    a, b = SCHEDULE.abar[t].sqrt(), (1 - SCHEDULE.abar[t]).sqrt()
    levels, means = world.levels.flatten(), world.means.flatten()
    x, y = Normal(a * levels, b), Normal(a * means, (b**2 + (a * world.spread) ** 2).sqrt())
    return (world.prior.log() + x.log_prob(x_t[:, None]) + y.log_prob(y_t[:, None])).logsumexp(1)


@pytest.mark.parametrize("world", [binary(), three_levels()])
@pytest.mark.parametrize("t", [1, 50, 400, 1024])
def test_mixture_denoisers_are_the_score_too(world, t):
    n = 40
    x_t, y_t = (z.requires_grad_() for z in (normal(n, key=11), normal(n, key=12)))
    score_x, score_y = torch.autograd.grad(density(world, t, x_t, y_t).sum(), (x_t, y_t))
    x, y = (z.detach().reshape(-1, 1, 1, 1) for z in (x_t, y_t))
    b, levels, pair = (1 - SCHEDULE.abar[t]).sqrt(), torch.full((n,), t), world.pair("joint")
    assert torch.allclose(pair.model_x(x, levels, y).flatten(), -b * score_x, atol=1e-7)
    assert torch.allclose(pair.model_y(y, levels, x).flatten(), -b * score_y, atol=1e-7)


@pytest.mark.parametrize("t", [20, 200, 600])
def test_matched_says_as_much_as_x_t(t):
    """E[eps_2 | x0_hat, y_t], computed from (x0_hat, y_t) alone, is E[eps_2 | x_t, y_t]."""
    world, n, levels = three_levels(), 500, torch.full((500,), t)
    pair = NoisyPair.draw(world.levels[torch.arange(n) % 3], normal(n, 1, 1, 1, key=13), SCHEDULE, generator("matched", t))
    pair.t = levels
    joint, matched = world.pair("joint"), world.pair("matched")
    x0_hat = SCHEDULE.x0_hat(pair.xt, levels, joint.model_x(pair.xt, levels, pair.yt))
    told = matched.model_y(pair.yt, levels, x0_hat)
    assert torch.allclose(told, joint.model_y(pair.yt, levels, pair.xt), atol=1e-6)


def test_shares_of_the_binary_world():
    world = binary()
    for guide in ("joint", "clean"):
        assert shares(world, world.pair(guide)) == pytest.approx([0.8, 0.2], abs=0.002)
    clean = world.pair("clean")
    halved = shares(world, PairModel(clean.model_x, clean.model_y, SCHEDULE, Sign()))
    assert halved == pytest.approx([0.9, 0.1], abs=0.002)


def test_shares_of_the_three_level_world():
    world = three_levels()
    assert shares(world, world.pair("joint")) == pytest.approx([0.299, 0.402, 0.299], abs=0.001)
    assert shares(world, world.pair("matched"), 64, 30) == pytest.approx(shares(world, world.pair("joint"), 64, 30), abs=1e-3)
    assert shares(world, world.pair("clean")) == pytest.approx([0.196, 0.608, 0.196], abs=0.001)


def test_rules_that_lose_nothing_learn_the_joint_denoiser():
    world, t, n = three_levels(), 300, 60
    x_t, y_t, levels = normal(n, 1, 1, 1, key=14), normal(n, 1, 1, 1, key=15), torch.full((n,), t)
    joint = world.pair("joint")
    state = next(walk(joint, x_t, y_t, [t, t - 4], clip=False))
    exact = joint.model_y(y_t, levels, x_t)
    assert (world.pair(Matched()).model_y(y_t, levels, state.x0_hat) - exact).abs().max() < 2e-3
    assert (world.pair(Noisy()).model_y(y_t, levels, x_t) - exact).abs().max() < 2e-3


class SignOfMatched(Matched):
    """One bit of the estimate, in training too."""

    def train(self, pair):
        return pair.x0_hat.sign()


def test_a_rule_that_loses_something_learns_a_conditional_mean():
    """Given sign(x0_hat) and y_t, against the mean over 400,000 draws with nearly this y_t."""
    world, t, n = binary(), 300, 400_000
    draw = generator("lossy", 0)
    x0 = torch.where(torch.rand((n, 1, 1, 1), generator=draw, dtype=torch.float64) < 0.2, 1.0, -1.0).double()
    y0 = x0 + 0.3 * torch.randn(x0.shape, generator=draw, dtype=torch.float64)
    eps_1, eps_2 = (torch.randn(x0.shape, generator=draw, dtype=torch.float64) for _ in range(2))
    x_t, y_t = SCHEDULE.add_noise(x0, t, eps_1), SCHEDULE.add_noise(y0, t, eps_2)
    sign = world.x0_hat(t, x_t, world.from_y(y_t, t)).sign()
    for value in (-1.0, 1.0):
        for y in (-0.5, 0.0, 0.5):
            near = ((y_t - y).abs() < 0.02) & (sign == value)
            mean, error = eps_2[near].mean(), eps_2[near].std() / near.sum() ** 0.5
            told = world.pair(SignOfMatched()).model_y(column(y), torch.tensor([t]), column(value))
            assert abs(told.item() - mean) < 4 * error + 0.01


def test_a_guide_of_a_clean_mask_is_exact_on_the_levels():
    world, t = three_levels(), torch.tensor([300, 300])
    y_t, x0 = column(0.4, -0.3), column(-1, 0)
    a, b = SCHEDULE.abar[300].sqrt(), (1 - SCHEDULE.abar[300]).sqrt()
    expected = b * (y_t - a * x0**2) / (b**2 + (0.3 * a) ** 2)
    assert torch.allclose(world.pair("clean").model_y(y_t, t, x0), expected, atol=1e-12)


# ---------------------------------------------------------------- a training set


def training_set():
    masks = torch.where(normal(5, 1, 4, 4, key=16) > 0.5, 1.0, -1.0).double()
    return TrainingSet(masks, normal(5, 1, 4, 4, key=17).clamp(-1, 1))


def test_the_perfect_network_returns_its_training_pairs():
    world = training_set()
    last = finish(world.pair("joint"), normal(40, 1, 4, 4, key=18), normal(40, 1, 4, 4, key=19), SCHEDULE.grid(64))
    pairs, samples = (torch.cat([x, y], 1).flatten(1) for x, y in ((world.levels, world.means), (last.x0_hat, last.y0_hat)))
    distance, index = torch.cdist(samples, pairs).min(1)
    assert distance.max() < 1e-6 and len(index.unique()) == 5


def test_no_denoiser_beats_the_ideal_one_on_its_own_data():
    """The ideal's loss is a floor: any other answer, here a slightly stretched one, loses more."""
    world = training_set()
    index = torch.arange(5).repeat(800)
    pair = NoisyPair.draw(world.levels[index], world.means[index], SCHEDULE, generator("floor", 0))
    ideal = world.pair("joint").model_x
    floor = guider_loss(ideal, pair)
    for stretch in (0.95, 1.05):
        assert guider_loss(lambda x, t, y: stretch * ideal(x, t, y), pair) > floor  # noqa: B023


def test_a_training_set_has_no_guide_between_its_masks():
    with pytest.raises(ValueError, match="between its levels"):
        training_set().pair("clean")


def test_lattice_starts_are_equally_likely():
    x, y = lattice(100)
    assert x.shape == y.shape == (10_000, 1, 1, 1) and abs(x.mean()) < 1e-12 and abs((x * y).mean()) < 1e-12
    assert x.var() == pytest.approx(1, abs=0.02)


def test_an_unknown_guide_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'macthed' is no guide.*joint, matched, clean"):
        binary().pair("macthed")


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize("name, rule", [("matched", Matched()), ("joint", Noisy()), ("previous", Previous(64))])
def test_a_rule_does_as_the_guide_of_its_name(name, rule):
    world, grid = three_levels(), SCHEDULE.grid(64)
    assert shares(world, world.pair(rule), 64, 20) == pytest.approx(shares(world, world.pair(name, grid), 64, 20), abs=0.003)


def test_a_clean_mask_network_is_taken_to_interpolate_between_masks():
    """On a straight line, which is f itself where f is straight."""
    world, t = binary(), torch.full((5,), 300)
    y_t, guide = normal(5, 1, 1, 1, key=20), column(-1, -0.5, 0, 0.3, 1)
    expected = world.pair("clean").model_y(y_t, t, guide)
    assert torch.allclose(world.pair(Clean()).model_y(y_t, t, guide), expected, atol=1e-9)
    beyond = world.pair(Clean()).model_y(y_t, t, 3 * torch.ones_like(guide))
    assert torch.allclose(beyond, world.pair("clean").model_y(y_t, t, torch.ones_like(guide)), atol=1e-9)


class RoundedEstimate(Matched):
    """Trained on the estimate's sign, and shown the estimate."""

    def train(self, pair):
        return pair.x0_hat.sign().float()


@pytest.mark.parametrize("rule", [Strength(), RoundedEstimate()])
def test_a_guide_that_leaps_has_shown_nothing_between(rule):
    """The answer between two masks, or a mask and none, is between the answers there, and changes with the guide."""
    world, t = binary(), torch.full((5,), 300)
    y_t = column(0.1, 0.1, 0.1, 0.1, 0.1)
    told = world.pair(rule).model_y(y_t, t, column(-1, -0.9, -0.5, 0.5, 1)).flatten()
    assert (told.diff() < -1e-3).all()  # the more lesion is shown, the less of y_t is noise


def test_a_rule_that_looks_where_it_must_not_is_told():
    class Peeping(Matched):
        def train(self, pair):
            return pair.y0

    class Wide(Matched):
        def train(self, pair):
            return torch.cat([pair.x0, pair.xt], 1)

    y_t, t, guide = column(0.1), torch.tensor([300]), column(0.5)
    with pytest.raises(ValueError, match="guide of Peeping looks at y0"):
        binary().pair(Peeping()).model_y(y_t, t, guide)
    with pytest.raises(ValueError, match=r"guide of Wide has the shape \(202, 2, 1, 1\)"):
        binary().pair(Wide()).model_y(y_t, t, guide)
    with pytest.raises(ValueError, match="one level at a time"):
        binary().pair(Matched()).model_y(column(0.1, 0.2), torch.tensor([300, 301]), column(0.5, 0.5))


def test_dithering_is_exact_where_the_sign_is_not():
    """With as many steps as levels: the lesions' share and the slices' spread are the joint denoisers'."""
    world, found = binary(), {}
    for name, guide in (("joint", "joint"), ("dithered", Dithered()), ("sign", Sign())):
        last = finish(world.pair(guide), *lattice(20), SCHEDULE.grid(1024))
        lesion = last.x0_hat.flatten() > 0
        found[name] = [lesion.double().mean().item(), (last.y0_hat.flatten() - torch.where(lesion, 1.0, -1.0)).std().item()]
    assert found["dithered"] == pytest.approx(found["joint"], abs=0.005)
    assert found["sign"][0] == pytest.approx(0.1, abs=0.01)
