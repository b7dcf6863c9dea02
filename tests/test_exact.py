"""Ideal denoisers against scores and brute force, and Algorithm 2's law in closed form."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from minipig.exact import (
    FIELDS,
    Gaussian,
    wasserstein_2,
)
from minipig.guider import Clean
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule()


def column(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def normal(*shape, key):
    return torch.randn(shape, generator=generator("exact", key), dtype=torch.float64)


SCALAR = Gaussian(torch.tensor([[0.25, 0.225], [0.225, 0.25]], dtype=torch.float64))  # variance 1/4, correlation .9


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
    assert covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt() == pytest.approx(0.66, abs=0.005)
    assert distances("sequential")[-1] < 1e-5
    independent = SCALAR.outcome("independent", SCHEDULE.grid(1024))[1]
    assert abs(independent[0, 1]) < 1e-12 and independent[0, 0] == pytest.approx(0.25, abs=0.002)


def affine_map(run, d):
    """offset and matrix of an affine map of (x_T, y_T), found by running it on 0 and on the unit vectors."""
    starts = torch.cat([torch.zeros(1, 2 * d, dtype=torch.float64), torch.eye(2 * d, dtype=torch.float64)])
    ends = run(starts[:, :d], starts[:, d:])
    return ends[0], (ends[1:] - ends[0]).T


def finish(pair, x_T, y_T, grid):
    for state in walk(pair, x_T, y_T, grid, clip=False):
        pass
    return state


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("guide", [*FIELDS, "sequential"])
def test_the_sampler_is_the_closed_form(name, guide):
    """sampler.walk on the ideal denoisers is an affine map; its mean and covariance are those of `outcome`."""
    world, grid = WORLDS[name], SCHEDULE.grid(32)
    d = len(world.x0)

    def run(x_T, y_T):
        x_T, y_T = (z.reshape(-1, *world.shape) for z in (x_T, y_T))
        if guide == "sequential":
            mask = finish(world.pair("independent"), x_T, y_T, grid).x0_hat
            known = PairModel(lambda x, t, y: SCHEDULE.eps(x, t, mask), world.pair("clean").model_y, SCHEDULE, Clean())
            last = finish(known, x_T, y_T, grid)
        else:
            last = finish(world.pair(guide, grid), x_T, y_T, grid)
        return torch.cat([last.x0_hat.flatten(1), last.y0_hat.flatten(1)], 1)

    offset, matrix = affine_map(run, d)
    mean, covariance = world.outcome(guide, grid)
    assert torch.allclose(offset, mean, atol=1e-8) and torch.allclose(matrix @ matrix.T, covariance, atol=1e-8)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("guide", [*FIELDS])
def test_a_walk_told_by_its_starts_is_the_closed_form(name, guide):
    """`walked` runs the sampler itself, `outcome` multiplies matrices."""
    world, grid = WORLDS[name], SCHEDULE.grid(16)
    for ours, theirs in zip(world.walked(guide, grid), world.outcome(guide, grid)):
        assert torch.allclose(ours, theirs, atol=1e-8)


@pytest.mark.parametrize("guide", ["joint", "matched", "clean"])
def test_second_order_at_25_steps_is_no_worse_than_ddim_at_256(guide):
    def distance(steps):
        law = SCALAR.walked(guide, SCHEDULE.grid(steps, "log-snr"), order=2)
        return wasserstein_2(*law, SCALAR.mean, SCALAR.covariance)

    assert distance(25) < distances(guide)[2]
    assert [distance(s) for s in (20, 22, 25)] == pytest.approx([1.1e-4, 7.1e-5, 4.7e-5], rel=0.02)
    slope = math.log2(distance(50) / distance(100)) / 2  # of W2 itself, before whole levels bound the grid
    assert slope > 1.7, slope


@pytest.mark.parametrize("guide", [*FIELDS])
def test_samples_have_the_closed_forms_covariance(guide):
    """The same with chance: 20,000 pairs, every entry within five standard errors."""
    n, grid = 20_000, SCHEDULE.grid(16)
    last = finish(SCALAR.pair(guide, grid), normal(n, 1, 1, 1, key=5), normal(n, 1, 1, 1, key=6), grid)
    measured = torch.cov(torch.cat([last.x0_hat.flatten(1), last.y0_hat.flatten(1)], 1).T)
    _, c = SCALAR.outcome(guide, grid)
    error = ((c.diag()[:, None] * c.diag()[None] + c**2) / n).sqrt()
    assert ((measured - c).abs() < 5 * error).all()


@pytest.mark.parametrize("guide", ["joint", "matched", "clean", "previous"])
def test_an_image_world_is_sampled_truly(guide):
    world = WORLDS["image"]
    rough, fine = (wasserstein_2(*world.outcome(guide, SCHEDULE.grid(S)), world.mean, world.covariance) for S in (64, 1024))
    assert fine < 2e-3 * world.covariance.trace() and fine < rough / 10


def test_ideal_denoisers_are_the_score_of_the_noisy_pair():
    """Tweedie: E[eps | x_t, y_t] = -sqrt(1 - abar_t) times the gradient of log p(x_t, y_t)."""
    world, t = WORLDS["image"], torch.tensor([3, 200, 900])
    pair = world.pair("joint")
    for level in t.tolist():
        (a, b), z = world.scales(level), normal(3, 12, key=7).requires_grad_()
        law = MultivariateNormal(a * world.mean, a**2 * world.covariance + b**2 * torch.eye(12, dtype=torch.float64))
        score = torch.autograd.grad(law.log_prob(z).sum(), z)[0]
        x_t, y_t = (part.reshape(3, 1, 2, 3) for part in z.detach().split(6, 1))
        levels = torch.full((3,), level)
        eps = torch.cat([pair.model_x(x_t, levels, y_t).flatten(1), pair.model_y(y_t, levels, x_t).flatten(1)], 1)
        assert torch.allclose(eps, -b * score, atol=1e-8)


def test_a_batch_may_mix_levels():
    pair, t = SCALAR.pair("clean"), torch.tensor([5, 700, 5])
    y_t, x0 = normal(3, 1, 1, 1, key=8), normal(3, 1, 1, 1, key=9)
    one_by_one = [pair.model_y(y_t[i : i + 1], t[i : i + 1], x0[i : i + 1]) for i in range(3)]
    assert torch.allclose(pair.model_y(y_t, t, x0), torch.cat(one_by_one), atol=1e-14)


def test_conditionals_are_schur_complements():
    world = WORLDS["image"]
    A, B, C = world.covariance[:6, :6], world.covariance[6:, :6], world.covariance[6:, 6:]
    value = normal(2, 6, key=10)
    mean, covariance = world.given(world.y0, world.x0, value)
    expected = world.mean[6:] + (value - world.mean[:6]) @ np.linalg.solve(A, B.T)
    assert torch.allclose(mean, torch.as_tensor(expected), atol=1e-8)
    assert torch.allclose(covariance, C - B @ torch.linalg.inv(A) @ B.T, atol=1e-8)


def test_an_unknown_guide_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'macthed' is no guide.*joint, matched, clean"):
        SCALAR.pair("macthed")


def test_a_covariance_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="need a covariance of 12x12, not"):
        Gaussian(torch.eye(4).double(), shape=(1, 2, 3))
