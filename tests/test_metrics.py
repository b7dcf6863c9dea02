"""Fréchet distance against closed forms; pair agreement on pairs that agree, and on pairs that do not."""

import numpy as np
import pytest
import scipy.linalg
import torch

from minipig.evidence.metrics import frechet_distance, pair_agreement, score_pairs, train_segmenter
from minipig.pairs import Pairs
from minipig.phantoms import phantoms
from minipig.train import Training


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


def test_frechet_distance_of_general_gaussians_by_the_matrix_root():
    A, B = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    root = scipy.linalg.sqrtm(scipy.linalg.sqrtm(A) @ B @ scipy.linalg.sqrtm(A)).real
    expected = np.trace(A + B - 2 * root)
    assert frechet_distance(with_moments([1, 1], A), with_moments([1, 1], B)) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_survives_fewer_samples_than_features():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(5, 20)), draw.normal(size=(6, 20))
    assert np.isfinite(frechet_distance(a, b)) and frechet_distance(a, b) > 0


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"not \(4, 2\) and \(4, 3\)"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))


def test_agreement_falls_when_masks_are_exchanged():
    """A judge trained for a moment on easy pairs: bright lesions. Rolling the masks by one pair breaks the agreement."""
    pairs = phantoms(64, (16, 16), seed=8)
    easy = Pairs(pairs.masks, torch.where(pairs.masks, 1.0, -1.0), pairs.names, pairs.patients)
    judge = train_segmenter(easy, Training(steps=40, batch=16, rate=3e-3, warmup=5))
    swapped = Pairs(pairs.masks.roll(4, 0), easy.images, pairs.names, pairs.patients)
    assert pair_agreement(judge, easy) > 0.9 > 0.5 > pair_agreement(judge, swapped)
    assert set(score_pairs(judge, easy)) == {"dice", "iou", "precision", "recall"}
    assert pair_agreement(judge, easy) == score_pairs(judge, easy)["dice"]
    assert not any(torch.isnan(p).any() for p in judge.parameters())
