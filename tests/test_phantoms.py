"""Phantoms: reproducible, one anatomy for each patient, 1/f^3 texture, lesions hard to see."""

from pathlib import Path

import numpy as np
import pytest
import torch

from minipig.data.folder import PairFolder
from minipig.data.phantoms import SLICES, phantoms, power_law

SAMPLES = Path(__file__).parent.parent / "data_samples" / "phantoms"


def test_a_larger_draw_only_appends():
    small, large = phantoms(6, seed=3), phantoms(11, seed=3)
    assert torch.equal(small.images, large.images[:6]) and small.names == large.names[:6]
    assert not torch.equal(phantoms(6, seed=4).images, small.images)


def test_slices_of_a_patient_share_the_anatomy():
    pairs = phantoms(200)
    assert len(set(pairs.patients)) == 200 // SLICES
    flat = pairs.images.flatten(1).numpy()
    correlation = np.corrcoef(flat)
    same = np.array(pairs.patients)[:, None] == np.array(pairs.patients)
    off = ~np.eye(len(flat), dtype=bool)
    assert correlation[same & off].mean() > 0.95 > correlation[~same].mean() + 0.05


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 64), (256, 128)])
def test_every_size_has_a_breast_and_a_lesion_in_it(size):
    pairs = phantoms(8, size)
    assert (
        pairs.size == size and pairs.images.abs().max() <= 1 and pairs.images.dtype == torch.float32
    )
    area = pairs.masks.float().mean((1, 2, 3))
    assert (area > 0.003).all() and (area < 0.25).all()
    assert (pairs.images[:, :, 0, -1] < -0.8).all()  # air in the corner away from the chest wall


def test_the_texture_follows_its_power_law():
    """Radially averaged power of many fields: the slope of log power against log f is -3."""
    draw, n = np.random.default_rng(0), 64
    power = np.mean([np.abs(np.fft.fft2(power_law(draw, (n, n)))) ** 2 for _ in range(200)], axis=0)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(n) * n, np.fft.fftfreq(n) * n))
    rings = np.arange(2, 24)
    mean = [power[(f >= r - 0.5) & (f < r + 0.5)].mean() for r in rings]
    assert abs(np.polyfit(np.log(rings), np.log(mean), 1)[0] + 3) < 0.1


def test_lesions_are_brighter_than_their_surroundings_but_not_than_all_tissue():
    pairs = phantoms(400, seed=5)
    inside = np.array([y[m].mean() for y, m in zip(pairs.images, pairs.masks)])
    brightest = np.array([y[~m].quantile(0.98) for y, m in zip(pairs.images, pairs.masks)])
    hidden = (inside < brightest).mean()
    assert 0.2 < hidden < 0.9


def test_the_committed_samples_are_redrawn_within_one_grey_level():
    stored = PairFolder(SAMPLES)
    fresh = phantoms(len(stored), stored.size, seed=0)
    assert len(stored) >= 24 and len(set(stored.patients)) >= 6
    assert stored.names == fresh.names and stored.patients == fresh.patients
    assert (stored.images - fresh.images).abs().max() * 127.5 <= 1
    assert torch.equal(stored.masks, fresh.masks)


@pytest.mark.parametrize("bad", [dict(n=0), dict(n=4, size=(8, 32))])
def test_invalid_counts_and_sizes_raise(bad):
    with pytest.raises(
        ValueError, match="phantoms need n >= 1 and sides of at least 16 pixels, not n="
    ):
        phantoms(**bad)


def test_a_healthy_phantom_is_the_same_breast_without_its_mass():
    ill, healthy = phantoms(40, seed=5), phantoms(40, seed=5, healthy=True)
    assert not healthy.masks.any() and healthy.patients == ill.patients
    brighter = ill.images - healthy.images
    far = torch.nn.functional.max_pool2d(ill.masks.float(), 9, 1, 4) == 0
    assert brighter.min() >= 0 and brighter[far].max() < 0.05 and brighter[ill.masks].median() > 0.2


def test_one_slice_of_each_patient_is_its_first():
    every = phantoms(5 * SLICES, (16, 24), seed=3)
    first = every.subset(range(0, 5 * SLICES, SLICES))
    alone = phantoms(5, (16, 24), seed=3, slices=1)
    assert torch.equal(alone.images, first.images) and torch.equal(alone.masks, first.masks)
    assert alone.names == first.names and alone.patients == first.patients
