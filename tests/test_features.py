"""Features on images whose features are known."""

import numpy as np
import pytest
import torch

from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.features import (
    crops,
    learnt_features,
    mask_statistics,
    plain_features,
    predicted_lesions,
)
from minipig.seeds import seeded_network
from minipig.segmentation import SegmentationUNet


def test_features_are_what_they_say():
    """A wave of 3 cycles a width, and masks whose shape is known."""
    u = torch.arange(16) / 16
    wave = (0.5 * torch.cos(2 * torch.pi * 3 * u)).expand(16, 16)
    masks = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    masks[0, 0, 4:8, 4:8] = masks[1, 0, 5, 2:12] = masks[2, 0, 5, 5] = (
        True  # a square, a line, a dot, nothing
    )
    values = plain_features(Pairs(masks, wave.repeat(4, 1, 1, 1), [""] * 4, [""] * 4))
    assert values.shape == (4, 8 + 5) and values.dtype == np.float64 and np.isfinite(values).all()
    assert (values[:, :8].argmax(1) == 2).all()
    mean, spread, gradient, area, eccentricity = values[:, 8:].T
    assert (
        np.allclose(mean, 0, atol=1e-6)
        and np.allclose(spread, 0.5 / 2**0.5, rtol=1e-5)
        and (gradient > 0.3).all()
    )
    assert np.allclose(area * 256, [16, 10, 1, 0])
    assert np.allclose(eccentricity, [0, 1, 0, 0], atol=1e-6)


def test_features_tell_phantoms_from_blurred_ones_and_take_any_shape():
    pairs = phantoms(8, (16, 24), seed=5)
    sharp = plain_features(pairs)
    smooth = plain_features(
        Pairs(
            pairs.masks,
            torch.nn.functional.avg_pool2d(pairs.images, 3, 1, 1),
            pairs.names,
            pairs.patients,
        )
    )
    assert sharp.shape == (8, 12 + 5)
    assert (smooth[:, 8:12] < sharp[:, 8:12]).all() and np.array_equal(
        smooth[:, -2:], sharp[:, -2:]
    )


def test_a_masks_centre_is_a_share_of_each_side():
    masks = torch.zeros(3, 1, 16, 32, dtype=torch.bool)
    masks[0, 0, 4:8, 4:8] = masks[1, 0, 15, 31] = True  # a square, the last corner, nothing
    area, eccentricity, down, across = mask_statistics(masks).T
    assert np.allclose(area * 512, [16, 1, 0]) and np.allclose(eccentricity, 0, atol=1e-6)
    assert np.allclose(down, [6 / 16, 15.5 / 16, 0.5]) and np.allclose(
        across, [6 / 32, 31.5 / 32, 0.5]
    )


def test_learnt_features_are_the_deepest_levels_means_whatever_the_batch():
    net = seeded_network(lambda: SegmentationUNet(base=4), 0).eval()
    images = phantoms(5, (16, 24), seed=1).images
    values = learnt_features(net, images, batch=2)
    assert values.shape == (5, 32) and values.dtype == np.float64
    assert np.allclose(values, net.encode(images)[3].mean((2, 3)).detach(), atol=1e-6)
    assert values.std(0).max() > 0  # they tell images apart


class Seer(torch.nn.Module):
    """A segmenter whose logits are the image itself, less a threshold."""

    def __init__(self):
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, y):
        return y - self.threshold


def test_a_lesion_seems_to_be_where_it_is_seen_or_else_where_it_is_likeliest():
    images = torch.zeros(2, 1, 8, 8)
    images[0, 0, 2:4, 2:4], images[1, 0, 5, 6] = 1.0, 0.3
    seen = predicted_lesions(Seer(), images)
    assert torch.equal(seen[0], images[0] > 0.5)
    assert seen[1].sum() == 1 and seen[1, 0, 5, 6]


def test_crops_are_centred_on_the_lesion_and_stay_inside():
    masks = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    masks[0, 0, 6:10, 4:8] = masks[1, 0, 0, 15] = True  # inside, a corner, nothing
    v, u = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    cut = crops((100 * v + u).expand(3, 1, 16, 16), masks, 8)
    assert cut.shape == (3, 1, 8, 8)
    assert [int(c[0, 0, 0]) for c in cut] == [
        402,
        8,
        404,
    ]  # 100 * row + column of each crop's first pixel
    with pytest.raises(ValueError, match="17 pixels does not fit into images of 16x16"):
        crops(torch.zeros(1, 1, 16, 16), masks[:1], 17)
