"""How good are generated pairs? Agreement of mask and slice, and the Fréchet distance between two sets of features."""

from pathlib import Path

import numpy as np
import torch

from ..exact import wasserstein_2
from ..pairs import Pairs
from ..seeds import seeded_network
from ..segmentation import SCORES, SegmentationUNet, predict, scores, segmentation_loss
from ..train import Training, finish, fit


def train_segmenter(
    pairs: Pairs,
    training: Training,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    label: str = "",
) -> SegmentationUNet:
    """A segmenter trained on `pairs` (its averaged weights), initialised and fed by training.seed; resumes `checkpoint`."""
    net = seeded_network(SegmentationUNet, training.seed).to(device)
    steps = fit(net, lambda net, pair: segmentation_loss(net(pair.y0), pair.x0), pairs, training, checkpoint)
    return finish(steps, training, label).average


def score_pairs(segmenter: SegmentationUNet, pairs: Pairs) -> dict[str, float]:
    """Mean over the images of the segmenter's Dice, IoU, precision and recall against the pairs' masks, each in [0, 1]."""
    per_image = scores(predict(segmenter, pairs.images), pairs.masks)
    return {name: per_image[name].mean().item() for name in SCORES}


def pair_agreement(judge: SegmentationUNet, pairs: Pairs) -> float:
    """Dice of `judge` on the pairs' slices against the pairs' own masks: do slice and mask show the same lesion?

    The judge must never have seen the generator's output. Its score on fresh real pairs is what a perfect generator gets.
    """
    return score_pairs(judge, pairs)["dice"]


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Fréchet distance (squared 2-Wasserstein) between Gaussians fitted to two feature sets, (N, D) and (M, D), N, M >= 2.

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)); Heusel et al. 2017. Raises ValueError if the features do not fit.
    """
    a, b = (np.asarray(f, dtype=np.float64) for f in (features_a, features_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (N, D) and (M, D) with N, M >= 2, not {a.shape} and {b.shape}")
    moments = [torch.from_numpy(m) for f in (a, b) for m in (f.mean(0), np.atleast_2d(np.cov(f, rowvar=False)))]
    return wasserstein_2(*moments)
