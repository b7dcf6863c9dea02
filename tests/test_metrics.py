"""Distances against closed forms and plain sums, copies, and the coverage of intervals."""

import numpy as np
import pytest
import scipy.linalg
import torch

from minipig.evidence.metrics import (
    directions,
    effective_dimension,
    frechet_distance,
    interval,
    kernel_distance,
    neighbour_ratio,
    share_nearer,
)


def with_moments(mean, covariance, n=50):
    """n points whose sample mean and covariance are exactly these."""
    z = np.random.default_rng(0).normal(size=(n, len(mean)))
    z = z - z.mean(0)
    white = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_equal_sets_is_zero():
    a = np.random.default_rng(0).normal(size=(40, 5))
    assert abs(frechet_distance(a, a)) < 1e-9


def test_frechet_distance_of_commuting_gaussians():
    """Diagonal covariances: |m - n|^2 + sum (s - t)^2."""
    a, b = with_moments([0, 0], np.diag([4.0, 1.0])), with_moments([3, -1], np.diag([1.0, 9.0]))
    assert frechet_distance(a, b) == pytest.approx(10 + (2 - 1) ** 2 + (1 - 3) ** 2, rel=1e-9)


def test_directions_are_those_of_most_variance():
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    a = with_moments([1, 2, 3], turned @ np.diag([9.0, 4.0, 0.25]) @ turned.T)
    vectors, variances = directions(a, 2)
    assert np.allclose(variances, [9, 4])
    assert np.allclose(np.abs(vectors.T @ turned), [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    with pytest.raises(ValueError, match="there are 3 directions, not 4; give a smaller k"):
        directions(a, 4)


def test_frechet_distance_of_general_gaussians_by_the_matrix_root():
    A, B = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    root = scipy.linalg.sqrtm(scipy.linalg.sqrtm(A) @ B @ scipy.linalg.sqrtm(A)).real
    expected = np.trace(A + B - 2 * root)
    assert frechet_distance(with_moments([1, 1], A), with_moments([1, 1], B)) == pytest.approx(
        expected, rel=1e-9
    )


def test_the_effective_dimension_counts_directions():
    assert effective_dimension(with_moments(np.zeros(4), np.eye(4))) == pytest.approx(4)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    for variances, count in (([9, 9, 0, 0], 2), ([5, 0, 0, 0], 1), ([2, 1, 1, 0], 16 / 6)):
        spread = with_moments(np.zeros(4), np.eye(4)) * np.sqrt(variances)
        assert effective_dimension(spread @ turn + 3) == pytest.approx(count)
    assert effective_dimension(np.arange(6.0).reshape(-1, 1)) == pytest.approx(1)
    with pytest.raises(ValueError, match="features must be"):
        effective_dimension(np.zeros((1, 3)))


def test_frechet_distance_survives_fewer_samples_than_features():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(5, 20)), draw.normal(size=(6, 20))
    assert np.isfinite(frechet_distance(a, b)) and frechet_distance(a, b) > 0


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"not \(4, 2\) and \(4, 3\)"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))


def test_kernel_distance_by_a_plain_double_sum():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(7, 3)), 0.5 + draw.normal(size=(9, 3))

    def k(u, v):
        return (sum(p * q for p, q in zip(u, v)) / 3 + 1) ** 3

    def among(u):
        return np.mean([k(u[i], u[j]) for i in range(len(u)) for j in range(len(u)) if i != j])

    expected = among(a) + among(b) - 2 * np.mean([k(u, v) for u in a for v in b])
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_unbiased_at_any_size_and_frechet_distance_is_not():
    """One feature, N(0, 1) and N(m, 1): the kernel's expectations are moments, (1 + xy)^3 = 1 + 3xy
    + 3x^2y^2 + x^3y^3.
    """
    m, draw = 0.7, np.random.default_rng(1)
    second, third = 1 + m**2, m**3 + 3 * m
    truth = 3 * m**2 + 3 * (second - 1) ** 2 + third**2
    kernel, frechet = {}, {}
    for n in (4, 64):
        sets = [(draw.normal(size=(n, 1)), m + draw.normal(size=(n, 1))) for _ in range(2000)]
        kernel[n] = np.array([kernel_distance(a, b) for a, b in sets])
        frechet[n] = np.array([frechet_distance(a, b) for a, b in sets])
        assert abs(kernel[n].mean() - truth) < 4 * kernel[n].std() / 2000**0.5
    assert (
        frechet[4].mean() > m**2 + 0.2 and abs(frechet[64].mean() - m**2) < 0.1
    )  # m^2 is the truth


def test_frechet_distance_of_one_law_to_itself_is_a_floor_that_falls_as_one_over_n():
    draw, features = np.random.default_rng(2), 8
    floor = {
        n: np.mean([frechet_distance(*draw.normal(size=(2, n, features))) for _ in range(40)])
        for n in (50, 200, 800)
    }
    assert 3.2 < floor[50] / floor[200] < 5 and 3.2 < floor[200] / floor[800] < 5


def test_share_nearer_is_one_for_copies_a_half_for_strangers_and_for_ties():
    draw = torch.Generator().manual_seed(0)
    known, fresh, others = torch.randn(3, 400, 1, 4, 4, generator=draw)
    assert (
        share_nearer(known[:50] + 1e-3, known, fresh) == 1
        and share_nearer(fresh[:50], known, fresh) == 0
    )
    assert abs(share_nearer(others, known, fresh) - 0.5) < 4 * 0.5 / 400**0.5
    assert share_nearer(others, known, known) == 0.5


def test_neighbour_ratio_is_zero_for_copies_and_one_for_strangers():
    draw = torch.Generator().manual_seed(0)
    known, fresh, others = torch.randn(3, 400, 1, 4, 4, generator=draw)
    assert neighbour_ratio(known[:50], known, fresh[:30]) == pytest.approx(0, abs=1e-3)
    assert neighbour_ratio(others, known, fresh[:100]) == pytest.approx(1, abs=0.05)
    assert (
        neighbour_ratio(others / 10, known, fresh[:100]) < 0.95
    )  # smooth, not copied: this too is nearer


def test_interval_averages_the_seeds_of_a_fold_and_allows_for_shared_training_sets():
    values = np.array([[1.0, 3.0], [2.0, 2.0], [4.0, 6.0], [0.0, 0.0], [3.0, 5.0]])
    folds = values.mean(1)
    half = (
        2.776445 * folds.std(ddof=1) * (1 / 5 + 1 / 4) ** 0.5
    )  # Student's t with 4 degrees of freedom
    assert interval(values) == pytest.approx((folds.mean() - half, folds.mean() + half), rel=1e-6)
    assert np.isnan(interval(values[:1])).all()
    low, high = interval(values[:3], parts=5)  # three of five: the training sets share as much
    assert (high - low) / 2 == pytest.approx(
        4.302653 * folds[:3].std(ddof=1) * (1 / 3 + 1 / 4) ** 0.5, rel=1e-6
    )


def test_interval_covers_where_students_own_does_not():
    """Five folds whose values share a fifth of their variance, as Nadeau and Bengio take it: 95 %
    of intervals hold 0.
    """
    draw, half = np.random.default_rng(3), 2.776445 / 5**0.5
    values = draw.normal(size=(4000, 1)) * 0.2**0.5 + draw.normal(size=(4000, 5)) * 0.8**0.5
    assert np.mean([low < 0 < high for low, high in map(interval, values)]) == pytest.approx(
        0.95, abs=0.012
    )
    assert np.mean(np.abs(values.mean(1)) < half * values.std(1, ddof=1)) < 0.88
