"""Precision, recall and coverage: points counted by hand, and sets that lack one thing each."""

import numpy as np
import pytest

from minipig.evidence.metrics import diversity


def test_points_counted_by_hand():
    """On a line, with one neighbour: a ball around each point, as large as its nearest distance."""
    real = np.array([[0.0], [1.0], [10.0], [12.0]])  # balls of 1, 1, 2, 2
    samples = np.array([[0.5], [9.0], [20.0]])  # balls of 8.5, 8.5, 11
    # 20 is in no real ball; all real points are in the ball of .5 or 9; no sample near 12
    assert diversity(samples, real, k=1) == {"precision": 2 / 3, "recall": 1.0, "coverage": 3 / 4}


@pytest.fixture(scope="module")
def real():
    return np.random.default_rng(0).normal(size=(2000, 3))


def test_real_samples_set_the_scale(real):
    found = diversity(np.random.default_rng(1).normal(size=(2000, 3)), real)
    assert found["precision"] > 0.9 and found["recall"] > 0.9
    # a ball holds none of as many new points with probability 2^-k: of N + N points around its
    # centre, the k nearest would all be real
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=0.015)


def test_each_fault_lowers_what_should_fall(real):
    draw = np.random.default_rng(1)
    whole = diversity(draw.normal(size=(2000, 3)), real)
    half = diversity(np.abs(draw.normal(size=(2000, 3))) * [1, 1, 1], real)  # an eighth of space
    noisy = diversity(draw.normal(size=(2000, 3)) * 3, real)
    assert half["precision"] > 0.9 and half["recall"] < 0.5 and half["coverage"] < 0.3
    assert noisy["precision"] < 0.6 < whole["precision"] and noisy["recall"] > 0.9


def test_too_few_points_and_other_features_are_refused(real):
    with pytest.raises(ValueError, match="needs sets of more than 5 points; there are 5 and 2000"):
        diversity(real[:5], real)
    with pytest.raises(ValueError, match="features must be"):
        diversity(real[:, :2], real)
