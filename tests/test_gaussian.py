"""Ideal denoisers against scores and brute force, and Algorithm 2's law in closed form."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from minipig.extras.solvers import log_snr_grid, second_order
from minipig.rules import Clean
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator
from minipig.worlds.gaussian import FIELDS, Gaussian, wasserstein_2

SCHEDULE = Schedule.linear()


def normal(*shape, key):
    return torch.randn(shape, generator=generator("exact", key), dtype=torch.float64)


# variance 1/4, correlation .9
SCALAR = Gaussian(torch.tensor([[0.25, 0.225], [0.225, 0.25]], dtype=torch.float64))


def image_world():
    """Masks and slices of 2x3 pixels with a random covariance and mean."""
    factor = normal(12, 12, key=1) / 4
    return Gaussian(factor @ factor.T, 0.5 * normal(12, key=2), shape=(1, 2, 3))


WORLDS = {"scalar": SCALAR, "image": image_world()}


def distances(guide, steps=(16, 64, 256, 1024)):
    outcomes = [SCALAR.outcome(guide, SCHEDULE.grid(S)) for S in steps]
    return [wasserstein_2(*outcome, SCALAR.mean, SCALAR.covariance) for outcome in outcomes]


@pytest.mark.parametrize("guide", ["joint", "matched", "clean"])
def test_three_guides_agree_and_converge_as_published(guide):
    assert distances(guide) == pytest.approx(distances("joint"), rel=1e-6)
    assert distances(guide) == pytest.approx([1.37e-2, 1.06e-3, 7.3e-5, 4.9e-6], rel=0.01)


def test_the_literal_guide_of_proposition_1_converges():
    assert distances("previous") == pytest.approx([1.09e-2, 9.97e-4, 7.3e-5, 5.0e-6], rel=0.01)


def test_ddim_is_of_first_order():
    """W2 itself falls as a power of 1/S, between .92 and .97 for neighbouring numbers of steps."""
    for guide in ("joint", "previous"):
        roots = [math.sqrt(d) for d in distances(guide, (64, 128, 256, 512, 1024))]
        slopes = [math.log2(a / b) for a, b in zip(roots, roots[1:])]
        assert all(0.9 < slope < 1.0 for slope in slopes), slopes


def test_one_way_stalls_and_sequential_does_not():
    assert distances("one-way")[1:] == pytest.approx([2.3e-2] * 3, rel=0.02)
    covariance = SCALAR.outcome("one-way", SCHEDULE.grid(1024))[1]
    correlation = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
    assert correlation == pytest.approx(0.66, abs=0.005)
    assert distances("sequential")[-1] < 1e-5
    independent = SCALAR.outcome("independent", SCHEDULE.grid(1024))[1]
    assert abs(independent[0, 1]) < 1e-12 and independent[0, 0] == pytest.approx(0.25, abs=0.002)


def finish(pair, x_T, y_T, grid):
    for state in walk(pair, x_T, y_T, grid, clip=False):
        pass
    return state


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("guide", [*FIELDS, "sequential"])
def test_the_sampler_is_the_closed_form(name, guide):
    """The walk is an affine map of its start: run it on 0 and on the unit vectors."""
    world = WORLDS[name]
    grid = SCHEDULE.grid(32)
    d = len(world.x0)
    starts = torch.cat([torch.zeros(1, 2 * d), torch.eye(2 * d)]).double()
    x_T, y_T = (z.reshape(-1, *world.shape) for z in starts.split(d, dim=1))
    if guide == "sequential":
        mask = finish(world.pair("independent"), x_T, y_T, grid).x0_hat
        known = lambda x, t, y: SCHEDULE.eps(x, t, mask)  # noqa: E731
        pair = PairModel(known, world.pair("clean").model_y, SCHEDULE, Clean())
    else:
        pair = world.pair(guide, grid)
    last = finish(pair, x_T, y_T, grid)
    ends = torch.cat([last.x0_hat.flatten(1), last.y0_hat.flatten(1)], 1)
    matrix = (ends[1:] - ends[0]).T
    mean, covariance = world.outcome(guide, grid)
    assert torch.allclose(ends[0], mean, atol=1e-8)
    assert torch.allclose(matrix @ matrix.T, covariance, atol=1e-8)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("guide", [*FIELDS])
def test_walked_is_the_closed_form(name, guide):
    """`walked` runs the sampler itself, `outcome` multiplies matrices."""
    world = WORLDS[name]
    grid = SCHEDULE.grid(16)
    for ours, theirs in zip(world.walked(guide, grid), world.outcome(guide, grid)):
        assert torch.allclose(ours, theirs, atol=1e-8)


@pytest.mark.parametrize("guide", ["joint", "matched", "clean"])
def test_second_order_at_25_steps_is_no_worse_than_ddim_at_256(guide):
    def distance(steps):
        law = SCALAR.walked(guide, log_snr_grid(SCHEDULE, steps), second_order)
        return wasserstein_2(*law, SCALAR.mean, SCALAR.covariance)

    assert distance(25) < distances(guide)[2]
    assert [distance(s) for s in (20, 22, 25)] == pytest.approx([1.1e-4, 7.1e-5, 4.7e-5], rel=0.02)
    # of W2 itself, with fewer steps than levels to choose from
    slope = math.log2(distance(50) / distance(100)) / 2
    assert slope > 1.7, slope


@pytest.mark.parametrize("guide", [*FIELDS])
def test_samples_have_the_closed_forms_covariance(guide):
    """20,000 random pairs: every entry is within five standard errors."""
    n = 20_000
    grid = SCHEDULE.grid(16)
    x_T, y_T = (normal(n, 1, 1, 1, key=key) for key in (5, 6))
    last = finish(SCALAR.pair(guide, grid), x_T, y_T, grid)
    measured = torch.cov(torch.cat([last.x0_hat.flatten(1), last.y0_hat.flatten(1)], 1).T)
    _, c = SCALAR.outcome(guide, grid)
    error = ((c.diag()[:, None] * c.diag()[None] + c**2) / n).sqrt()
    assert ((measured - c).abs() < 5 * error).all()


@pytest.mark.parametrize("guide", ["joint", "matched", "clean", "previous"])
def test_samples_of_an_image_world_converge_to_its_law(guide):
    world = WORLDS["image"]
    laws = [world.outcome(guide, SCHEDULE.grid(S)) for S in (64, 1024)]
    rough, fine = (wasserstein_2(*law, world.mean, world.covariance) for law in laws)
    assert fine < 2e-3 * world.covariance.trace() and fine < rough / 10


def test_ideal_denoisers_are_the_score_of_the_noisy_pair():
    """Tweedie: E[eps | x_t, y_t] = -sqrt(1 - abar_t) times the gradient of log p(x_t, y_t)."""
    world = WORLDS["image"]
    pair = world.pair("joint")
    for level in (3, 200, 900):
        a, b = world.scales(level)
        z = normal(3, 12, key=7).requires_grad_()
        covariance = a**2 * world.covariance + b**2 * torch.eye(12).double()
        law = MultivariateNormal(a * world.mean, covariance)
        score = torch.autograd.grad(law.log_prob(z).sum(), z)[0]
        xt, yt = (part.reshape(3, 1, 2, 3) for part in z.detach().split(6, 1))
        levels = torch.full((3,), level)
        eps = (pair.model_x(xt, levels, yt), pair.model_y(yt, levels, xt))
        eps = torch.cat([part.flatten(1) for part in eps], 1)
        assert torch.allclose(eps, -b * score, atol=1e-8)


def test_a_batch_may_mix_levels():
    pair = SCALAR.pair("clean")
    t = torch.tensor([5, 700, 5])
    yt, x0 = (normal(3, 1, 1, 1, key=key) for key in (8, 9))
    one_by_one = [pair.model_y(yt[i : i + 1], t[i : i + 1], x0[i : i + 1]) for i in range(3)]
    assert torch.allclose(pair.model_y(yt, t, x0), torch.cat(one_by_one), atol=1e-14)


def test_conditionals_are_schur_complements():
    world = WORLDS["image"]
    A, B = world.covariance[:6, :6], world.covariance[6:, :6]
    C = world.covariance[6:, 6:]
    value = normal(2, 6, key=10)
    mean, covariance = world.given(world.y0, world.x0, value)
    expected = world.mean[6:] + (value - world.mean[:6]) @ np.linalg.solve(A, B.T)
    assert torch.allclose(mean, torch.as_tensor(expected), atol=1e-8)
    assert torch.allclose(covariance, C - B @ torch.linalg.inv(A) @ B.T, atol=1e-8)


def test_an_unknown_guide_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown guide 'macthed'; choose one of joint, matched"):
        SCALAR.pair("macthed")


def test_a_covariance_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="need a covariance of 12x12, not"):
        Gaussian(torch.eye(4).double(), shape=(1, 2, 3))
