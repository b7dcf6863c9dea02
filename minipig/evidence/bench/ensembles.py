"""Score several masks of one slice: as a probability of lesion at each pixel, and as one mask.

The probability is their mean. The one mask is the one that agrees best with the others; the
majority's would be nearly empty where each mask is sure of another place.
"""

import numpy as np
from scipy import stats
from torch import Tensor

from minipig.segmentation import scores

BINS = np.linspace(0, 1, 11)  # of predicted probability


def central(masks: Tensor) -> Tensor:
    """The mask of largest mean Dice with the others, for each slice: of (samples, n, 1, H, W)."""
    # a mask's Dice with itself is included: it is the same for all
    agreement = sum(np.stack([dice_of(a.float(), b) for a in masks]) for b in masks)
    return masks[agreement.argmax(0), np.arange(masks.shape[1])]


def dice_of(probability: Tensor, masks: Tensor) -> np.ndarray:
    """Dice of each image; a pixel is lesion if its probability is above one half."""
    return scores(probability - 0.5, masks)["dice"].numpy()


def with_interval(values: np.ndarray) -> list[float]:
    """Mean and 95 % bootstrap interval over the images, each of another patient."""
    how = dict(n_resamples=200, method="basic", rng=np.random.default_rng(0))
    ends = stats.bootstrap((values,), np.mean, **how).confidence_interval
    return [float(values.mean()), float(ends.low), float(ends.high)]


def forecast(probability: Tensor, masks: Tensor, members: int | None = None) -> dict:
    """Brier score and calibration of a probability of lesion.

    brier: the mean squared error. calibration: for each of BINS, (mean prediction, share that is
    lesion, number of pixels); calibration_error: their mean distance, weighted by the number.
    members: how many masks `probability` is the mean of: the Brier score is corrected for the error
    of such a mean (Ferro 2014, doi:10.1002/qj.2270); the calibration error is not.
    """
    p = probability.flatten().numpy().astype(np.float64)
    truth = masks.flatten().numpy()
    place = np.clip(np.digitize(p, BINS) - 1, 0, len(BINS) - 2)
    bins = []
    for k in np.unique(place):
        inside = place == k
        bins.append((float(p[inside].mean()), float(truth[inside].mean()), int(inside.sum())))
    spread = p * (1 - p) / (members - 1) if members else 0
    error = sum(abs(mean - share) * count for mean, share, count in bins) / len(p)
    return {
        "brier": float(((p - truth) ** 2 - spread).mean()),
        "calibration": bins,
        "calibration_error": float(error),
    }
