"""What a slice and its mask are measured by, before two sets of them are compared.

Two kinds of features: *plain* ones, which need no training and can be read (power by frequency, grey levels, the mask's
shape), and *learnt* ones, the pooled answers of a segmentation network's deepest level, which play the part that the
Inception network's have in the usual FID. Both can be taken of a whole slice or of the crop around its lesion.
"""

import numpy as np
import torch
from torch import Tensor

from ..pairs import Pairs
from ..segmentation import SegmentationUNet, predict


def plain_features(pairs: Pairs) -> np.ndarray:
    """Features of slice and mask that need no training, (N, W/2 + 5) float64: plain_slice_features and the first two of
    mask_statistics, the share of pixels that the mask covers and its eccentricity."""
    return np.column_stack([plain_slice_features(pairs.images), mask_statistics(pairs.masks)[:, :2]])


def plain_slice_features(images: Tensor) -> np.ndarray:
    """Of slices (N, 1, H, W), (N, W/2 + 3) float64: the logarithm of the power at 1, 2, ... W/2 cycles a width, and the mean,
    spread and mean gradient of the grey levels."""
    y, (height, width) = images[:, 0].double().numpy(), images.shape[2:]
    frequency = np.hypot(np.fft.fftfreq(height, 1 / width)[:, None], np.fft.fftfreq(width, 1 / width)).round()
    ring = frequency.reshape(-1, 1) == np.arange(1, width // 2 + 1)
    power = (np.abs(np.fft.fft2(y, norm="ortho")) ** 2).reshape(len(y), -1) @ (ring / ring.sum(0))
    gradient = sum(np.abs(np.diff(y, axis=axis)).mean((1, 2)) for axis in (1, 2))
    return np.column_stack([np.log(power + 1e-9), y.mean((1, 2)), y.std((1, 2)), gradient])


def mask_statistics(masks: Tensor) -> np.ndarray:
    """Of bool masks (N, 1, H, W), (N, 4) float64: area (share of the pixels), eccentricity (0 a disc, towards 1 a line), and
    the centre, down and across, each as a share of the side. An empty mask: area and eccentricity 0, in the middle."""
    rows = []
    for mask in masks[:, 0].numpy():
        places = np.argwhere(mask)
        minor, major = np.linalg.eigvalsh(np.cov(places.T)) if len(places) > 1 else (1, 1)
        centre = (places.mean(0) + 0.5) / mask.shape if len(places) else (0.5, 0.5)
        rows.append([mask.mean(), np.sqrt(1 - max(minor, 0) / major), *centre])
    return np.array(rows)


@torch.no_grad()
def learnt_features(net: SegmentationUNet, images: Tensor, batch: int = 256) -> np.ndarray:
    """The deepest features of a trained segmenter, averaged over the image: (N, 1, H, W) -> (N, D) float64, on the CPU."""
    net.eval()
    device = next(net.parameters()).device
    pooled = [net.encode(part.to(device))[-1].mean((2, 3)).cpu() for part in images.split(batch)]
    return torch.cat(pooled).double().numpy()


def where_a_lesion_seems(net: SegmentationUNet, images: Tensor) -> Tensor:
    """Masks (N, 1, H, W) bool of where `net` sees a lesion; where it sees none, of its likeliest pixel. Never empty, so that
    slices without masks can be asked about their lesions too."""
    logits = predict(net, images)
    return (logits > 0) | (logits == logits.amax((2, 3), keepdim=True))


def crops(images: Tensor, masks: Tensor, side: int) -> Tensor:
    """Squares of `side` pixels around the centre of each mask, moved inwards where they would leave the image:
    (N, 1, H, W) -> (N, 1, side, side)."""
    height, width = images.shape[2:]
    if side > min(height, width):
        raise ValueError(f"a crop of {side} pixels does not fit into images of {height}x{width}")
    cut = []
    for image, (v, u) in zip(images, mask_statistics(masks)[:, 2:] * (height, width)):
        top, left = (int(np.clip(round(c - side / 2), 0, end - side)) for c, end in ((v, height), (u, width)))
        cut.append(image[:, top : top + side, left : left + side])
    return torch.stack(cut)
