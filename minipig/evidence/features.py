"""Features of slices and masks, by which two sets of pairs are compared.

*Plain* features need no training and have a meaning each: power by frequency, grey levels, the
mask's shape. *Learnt* features are the deepest ones of a segmenter, averaged over the image; they
take the place of the Inception network's in the usual FID. Both can be computed on a whole slice or
on the crop around its lesion.
"""

import numpy as np
import torch
from torch import Tensor

from minipig.data.pairs import Pairs
from minipig.segmentation import SegmentationUNet, predict


def plain_features(pairs: Pairs) -> np.ndarray:
    """Plain features of slice and mask (its area and eccentricity), (N, W/2 + 5) float64."""
    masks = mask_statistics(pairs.masks)[:, :2]
    return np.column_stack([plain_slice_features(pairs.images), masks])


def plain_slice_features(images: Tensor) -> np.ndarray:
    """Plain features of slices (N, 1, H, W), (N, W/2 + 3) float64.

    The logarithm of the power at 1, 2, ... W/2 cycles a width; mean, standard deviation and mean
    gradient of the grey levels.
    """
    y = images[:, 0].double().numpy()
    height, width = images.shape[2:]
    down, across = np.fft.fftfreq(height, 1 / width)[:, None], np.fft.fftfreq(width, 1 / width)
    frequency = np.hypot(down, across).round()
    ring = frequency.reshape(-1, 1) == np.arange(1, width // 2 + 1)
    power = (np.abs(np.fft.fft2(y, norm="ortho")) ** 2).reshape(len(y), -1) @ (ring / ring.sum(0))
    gradient = sum(np.abs(np.diff(y, axis=axis)).mean((1, 2)) for axis in (1, 2))
    return np.column_stack([np.log(power + 1e-9), y.mean((1, 2)), y.std((1, 2)), gradient])


def mask_statistics(masks: Tensor) -> np.ndarray:
    """Area, eccentricity and centre of bool masks (N, 1, H, W), (N, 4) float64.

    The area is a share of the pixels; the eccentricity is 0 for a disc and near 1 for a line; the
    centre, down and across, is a share of each side. Empty masks: 0, 0 and the middle.
    """
    rows = []
    for mask in masks[:, 0].numpy():
        places = np.argwhere(mask)
        minor, major = np.linalg.eigvalsh(np.cov(places.T)) if len(places) > 1 else (1, 1)
        centre = (places.mean(0) + 0.5) / mask.shape if len(places) else (0.5, 0.5)
        rows.append([mask.mean(), np.sqrt(1 - max(minor, 0) / major), *centre])
    return np.array(rows)


@torch.no_grad()
def learnt_features(net: SegmentationUNet, images: Tensor, batch: int = 256) -> np.ndarray:
    """The deepest features of a segmenter, averaged over each image: (N, 1, H, W) -> (N, D)."""
    net.eval()
    device = next(net.parameters()).device
    pooled = [net.encode(part.to(device))[-1].mean((2, 3)).cpu() for part in images.split(batch)]
    return torch.cat(pooled).double().numpy()


def predicted_lesions(net: SegmentationUNet, images: Tensor) -> Tensor:
    """Predicted masks, (N, 1, H, W) bool; where there is no lesion, the likeliest pixel."""
    logits = predict(net, images)
    return (logits > 0) | (logits == logits.amax((2, 3), keepdim=True))


def crops(images: Tensor, masks: Tensor, side: int) -> Tensor:
    """Squares (N, 1, side, side) of images (N, 1, H, W) around the centre of each mask.

    They are moved inwards where they would leave the image. Raises ValueError if `side` is larger
    than the image.
    """
    height, width = images.shape[2:]
    if side > min(height, width):
        raise ValueError(f"a crop of {side} pixels does not fit into images of {height}x{width}")
    cut = []
    for image, (v, u) in zip(images, mask_statistics(masks)[:, 2:] * (height, width)):
        top = int(np.clip(round(v - side / 2), 0, height - side))
        left = int(np.clip(round(u - side / 2), 0, width - side))
        cut.append(image[:, top : top + side, left : left + side])
    return torch.stack(cut)
