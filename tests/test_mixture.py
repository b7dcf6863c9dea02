"""Worlds of a few masks: ideal denoisers against scores and brute force, and rules on them."""

import pytest
import torch
from torch.distributions import Normal

from minipig.guider import NoisyPair, model_x_loss
from minipig.rules import Clean, Dithered, Matched, Noisy, Previous, Sign, Strength
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator
from minipig.worlds.mixture import TrainingSet, lattice
from minipig.worlds.verdict import WORLDS, column

SCHEDULE = Schedule.linear()
BINARY = WORLDS["binary"]  # lesion with probability .2; y | x ~ N(x, .3^2)
THREE = WORLDS["three levels"]  # -1, 0, 1 of probability .3, .4, .3; y | x ~ N(x^2, .3^2)


def normal(*shape, key):
    return torch.randn(shape, generator=generator("exact", key), dtype=torch.float64)


def normals(n, *keys):
    """Tensors of n pixels, one for each key."""
    return [normal(n, 1, 1, 1, key=key) for key in keys]


def finish(pair, x_T, y_T, grid):
    for state in walk(pair, x_T, y_T, grid, clip=False):
        pass
    return state


def shares(world, pair, steps=256, n=50):
    """How often each level comes out of n^2 equally likely starts."""
    last = finish(pair, *lattice(n), SCHEDULE.grid(steps))
    nearest = (last.x0_hat.flatten(1) - world.levels.flatten()).abs().argmin(1)
    return (torch.bincount(nearest, minlength=len(world.levels)) / n**2).tolist()


# --- ideal denoisers ---------------------------------------------------------------------------


def density(world, t, xt, yt):
    """log p(x_t, y_t) of a one-pixel world, by torch.distributions."""
    a = SCHEDULE.abar[t].sqrt()
    b = (1 - SCHEDULE.abar[t]).sqrt()
    x = Normal(a * world.levels.flatten(), b)
    y = Normal(a * world.means.flatten(), (b**2 + (a * world.spread) ** 2).sqrt())
    return (world.prior.log() + x.log_prob(xt[:, None]) + y.log_prob(yt[:, None])).logsumexp(1)


@pytest.mark.parametrize("world", [BINARY, THREE])
@pytest.mark.parametrize("t", [1, 50, 400, 1024])
def test_mixture_denoisers_are_the_score_too(world, t):
    xt, yt = (normal(40, key=key).requires_grad_() for key in (11, 12))
    score_x, score_y = torch.autograd.grad(density(world, t, xt, yt).sum(), (xt, yt))
    x, y = (z.detach().reshape(-1, 1, 1, 1) for z in (xt, yt))
    b = (1 - SCHEDULE.abar[t]).sqrt()
    levels = torch.full((40,), t)
    pair = world.pair("joint")
    assert torch.allclose(pair.model_x(x, levels, y).flatten(), -b * score_x, atol=1e-7)
    assert torch.allclose(pair.model_y(y, levels, x).flatten(), -b * score_y, atol=1e-7)


@pytest.mark.parametrize("t", [20, 200, 600])
def test_matched_says_as_much_as_x_t(t):
    """E[eps_2 | x0_hat, y_t], computed from (x0_hat, y_t) alone, is E[eps_2 | x_t, y_t]."""
    n = 500
    levels = torch.full((n,), t)
    (y0,) = normals(n, 13)
    pair = NoisyPair.draw(THREE.levels[torch.arange(n) % 3], y0, SCHEDULE, generator("matched", t))
    pair.t = levels
    joint = THREE.pair("joint")
    x0_hat = SCHEDULE.x0_hat(pair.xt, levels, joint.model_x(pair.xt, levels, pair.yt))
    found = THREE.pair("matched").model_y(pair.yt, levels, x0_hat)
    assert torch.allclose(found, joint.model_y(pair.yt, levels, pair.xt), atol=1e-6)


def test_a_guide_of_a_clean_mask_is_exact_on_the_levels():
    yt = column(0.4, -0.3)
    x0 = column(-1, 0)
    a = SCHEDULE.abar[300].sqrt()
    b = (1 - SCHEDULE.abar[300]).sqrt()
    expected = b * (yt - a * x0**2) / (b**2 + (0.3 * a) ** 2)
    found = THREE.pair("clean").model_y(yt, torch.tensor([300, 300]), x0)
    assert torch.allclose(found, expected, atol=1e-12)


def test_shares_of_the_binary_world():
    for guide in ("joint", "clean"):
        assert shares(BINARY, BINARY.pair(guide)) == pytest.approx([0.8, 0.2], abs=0.002)
    clean = BINARY.pair("clean")
    halved = shares(BINARY, PairModel(clean.model_x, clean.model_y, SCHEDULE, Sign()))
    assert halved == pytest.approx([0.9, 0.1], abs=0.002)


def test_shares_of_the_three_level_world():
    joint = THREE.pair("joint")
    assert shares(THREE, joint) == pytest.approx([0.299, 0.402, 0.299], abs=0.001)
    assert shares(THREE, THREE.pair("clean")) == pytest.approx([0.196, 0.608, 0.196], abs=0.001)
    matched = shares(THREE, THREE.pair("matched"), 64, 30)
    assert matched == pytest.approx(shares(THREE, joint, 64, 30), abs=1e-3)


@pytest.mark.parametrize("t", [50, 400])
def test_swapped_denoisers_by_bayes_rule(t):
    """E[eps_2 | y_t, x_t] is joint's; E[x0 | x_t, y0] by torch.distributions, y0 being clean."""
    xt, yt, y0 = normals(40, 21, 22, 23)
    levels = torch.full((40,), t)
    swapped = THREE.swapped()
    expected = THREE.pair("joint").model_y(yt, levels, xt)
    assert torch.allclose(swapped.model_x(yt, levels, xt), expected, atol=1e-12)
    a = SCHEDULE.abar[t].sqrt()
    b = (1 - SCHEDULE.abar[t]).sqrt()
    x = Normal(a * THREE.levels.flatten(), b).log_prob(xt.flatten(1))
    y = Normal(THREE.means.flatten(), THREE.spread).log_prob(y0.flatten(1))
    posterior = (THREE.prior.log() + x + y).softmax(1)
    x0 = (posterior @ THREE.levels.flatten()).reshape(-1, 1, 1, 1)
    assert torch.allclose(swapped.model_y(xt, levels, y0), (xt - a * x0) / b, atol=1e-9)


def test_swapped_roles_halve_the_rare_mask_though_both_networks_are_ideal():
    y_T, x_T = lattice(50)
    last = finish(BINARY.swapped(), y_T, x_T, SCHEDULE.grid(256))
    assert (last.y0_hat > 0).double().mean().item() == pytest.approx(0.108, abs=0.002)


def test_lattice_starts_are_equally_likely():
    x, y = lattice(100)
    assert x.shape == y.shape == (10_000, 1, 1, 1)
    assert abs(x.mean()) < 1e-12 and abs((x * y).mean()) < 1e-12
    assert x.var() == pytest.approx(1, abs=0.02)


def test_an_unknown_guide_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown guide 'macthed'; choose one of joint, matched"):
        BINARY.pair("macthed")


# --- a training set ----------------------------------------------------------------------------


def training_set():
    masks = torch.where(normal(5, 1, 4, 4, key=16) > 0.5, 1.0, -1.0).double()
    return TrainingSet(masks, normal(5, 1, 4, 4, key=17).clamp(-1, 1))


def test_the_perfect_network_returns_its_training_pairs():
    world = training_set()
    x_T, y_T = (normal(40, 1, 4, 4, key=key) for key in (18, 19))
    last = finish(world.pair("joint"), x_T, y_T, SCHEDULE.grid(64))
    samples = torch.cat([last.x0_hat, last.y0_hat], 1).flatten(1)
    pairs = torch.cat([world.levels, world.means], 1).flatten(1)
    distance, index = torch.cdist(samples, pairs).min(1)
    assert distance.max() < 1e-6 and len(index.unique()) == 5


def test_no_denoiser_beats_the_ideal_one_on_its_own_data():
    """The ideal's loss is a floor: any other answer, here a slightly stretched one, loses more."""
    world = training_set()
    index = torch.arange(5).repeat(800)
    pair = NoisyPair.draw(world.levels[index], world.means[index], SCHEDULE, generator("floor", 0))
    ideal = world.pair("joint").model_x
    floor = model_x_loss(ideal, pair)
    for stretch in (0.95, 1.05):
        assert model_x_loss(lambda x, t, y: stretch * ideal(x, t, y), pair) > floor  # noqa: B023


def test_a_training_set_has_no_guide_between_its_masks():
    with pytest.raises(ValueError, match="the guide clean needs f as a function"):
        training_set().pair("clean")


# --- rules -------------------------------------------------------------------------------------


def answer(world, rule, yt, t, guide):
    """What the rule's ideal model_y predicts."""
    return world.pair(rule).model_y(yt, torch.full((len(yt),), t), guide)


def test_rules_that_lose_nothing_have_the_joint_denoiser():
    t = 300
    xt, yt = normals(60, 14, 15)
    state = next(walk(THREE.pair("joint"), xt, yt, [t, t - 4], clip=False))
    exact = answer(THREE, "joint", yt, t, xt)
    assert (answer(THREE, Matched(), yt, t, state.x0_hat) - exact).abs().max() < 2e-3
    assert (answer(THREE, Noisy(), yt, t, xt) - exact).abs().max() < 2e-3


@pytest.mark.parametrize(
    "name, rule", [("matched", Matched()), ("joint", Noisy()), ("previous", Previous(64))]
)
def test_a_rule_samples_as_the_guide_of_its_name(name, rule):
    by_name = shares(THREE, THREE.pair(name, SCHEDULE.grid(64)), 64, 20)
    assert shares(THREE, THREE.pair(rule), 64, 20) == pytest.approx(by_name, abs=0.003)


class SignOfMatched(Matched):
    """One bit of the estimate, in training too."""

    def train(self, pair):
        return pair.x0_hat.sign()


def test_a_rule_that_loses_something_has_a_conditional_mean():
    """Given sign(x0_hat) and y_t, against the mean over 400,000 draws with nearly this y_t."""
    t = 300
    n = 400_000
    draw = generator("lossy", 0)
    lesion = torch.rand((n, 1, 1, 1), generator=draw, dtype=torch.float64) < 0.2
    x0 = torch.where(lesion, 1.0, -1.0).double()
    noise = [torch.randn(x0.shape, generator=draw, dtype=torch.float64) for _ in range(3)]
    y0 = x0 + 0.3 * noise[0]
    eps_2 = noise[2]
    xt = SCHEDULE.add_noise(x0, t, noise[1])
    yt = SCHEDULE.add_noise(y0, t, eps_2)
    sign = BINARY.x0_hat(t, xt, BINARY.from_y(yt, t)).sign()
    for value in (-1.0, 1.0):
        for y in (-0.5, 0.0, 0.5):
            near = eps_2[((yt - y).abs() < 0.02) & (sign == value)]
            error = near.std() / len(near) ** 0.5
            found = answer(BINARY, SignOfMatched(), column(y), t, column(value)).item()
            assert abs(found - near.mean()) < 4 * error + 0.01


def test_a_clean_mask_network_interpolates_between_masks():
    """Linearly, which is f itself in this world."""
    t = 300
    (yt,) = normals(5, 20)
    guide = column(-1, -0.5, 0, 0.3, 1)
    found = answer(BINARY, Clean(), yt, t, guide)
    assert torch.allclose(found, answer(BINARY, "clean", yt, t, guide), atol=1e-9)
    one = torch.ones_like(guide)
    beyond = answer(BINARY, Clean(), yt, t, 3 * one)
    assert torch.allclose(beyond, answer(BINARY, "clean", yt, t, one), atol=1e-9)


class RoundedEstimate(Matched):
    """Trained on the estimate's sign, and shown the estimate."""

    def train(self, pair):
        return pair.x0_hat.sign().float()


@pytest.mark.parametrize("rule", [Strength(), RoundedEstimate()])
def test_between_guides_of_training_the_answer_changes_with_the_guide(rule):
    """The more lesion is shown, the less of y_t is noise."""
    yt = column(0.1, 0.1, 0.1, 0.1, 0.1)
    found = answer(BINARY, rule, yt, 300, column(-1, -0.9, -0.5, 0.5, 1)).flatten()
    assert (found.diff() < -1e-3).all()


class Peeping(Matched):
    def train(self, pair):
        return pair.y0


class Wide(Matched):
    def train(self, pair):
        return torch.cat([pair.x0, pair.xt], 1)


def test_an_invalid_training_guide_is_named():
    yt = column(0.1)
    guide = column(0.5)
    with pytest.raises(ValueError, match="Peeping.train uses y0 or eps_2, unknown in sampling"):
        answer(BINARY, Peeping(), yt, 300, guide)
    with pytest.raises(ValueError, match=r"Wide.train returned \(202, 2, 1, 1\), not \(202, 1, "):
        answer(BINARY, Wide(), yt, 300, guide)


def test_the_levels_of_a_batch_must_be_equal():
    for guide, name in ((Matched(), "Matched"), ("previous", "previous")):
        pair = BINARY.pair(guide, SCHEDULE.grid(1024))
        with pytest.raises(
            ValueError, match=f"the ideal model_y of {name} needs one t for a whole"
        ):
            pair.model_y(column(0.1, 0.2), torch.tensor([300, 301]), column(0.5, 0.5))
    with pytest.raises(ValueError, match="the guide previous needs the grid of the walk"):
        BINARY.pair("previous")


@pytest.mark.parametrize("guide", ["matched", "one-way", Matched()])
def test_guides_for_one_pixel_are_refused_for_more(guide):
    levels = torch.tensor([[-1.0, -1.0], [1.0, -1.0]], dtype=torch.float64).reshape(2, 1, 1, 2)
    with pytest.raises(
        ValueError, match="for masks of 2 pixels joint, clean, previous, independent"
    ):
        TrainingSet(levels, levels).pair(guide)
    z, t = levels[:1], torch.tensor([300])
    assert TrainingSet(levels, levels).pair("joint").model_y(z, t, z).shape == z.shape


def test_dithering_is_exact_where_the_sign_is_not():
    """With a step for each level: the lesions' share and the slices' spread are the joint's."""
    found = {}
    for name, guide in (("joint", "joint"), ("dithered", Dithered()), ("sign", Sign())):
        last = finish(BINARY.pair(guide), *lattice(20), SCHEDULE.grid(1024))
        lesion = last.x0_hat.flatten() > 0
        error = last.y0_hat.flatten() - torch.where(lesion, 1.0, -1.0)
        found[name] = [lesion.double().mean().item(), error.std().item()]
    assert found["dithered"] == pytest.approx(found["joint"], abs=0.005)
    assert found["sign"][0] == pytest.approx(0.1, abs=0.01)
