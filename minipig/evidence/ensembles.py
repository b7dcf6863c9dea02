"""What several masks of one slice are worth together: as a probability of lesion at each pixel, and as one mask.

Their mean is the probability. If one mask is asked for, it is the one that agrees best with the others; the majority's would
be nearly empty where each mask is sure of another place.
"""

import numpy as np
import torch
from torch import Tensor

from ..segmentation import scores
from .metrics import resampled

BINS = np.linspace(0, 1, 11)  # of predicted probability


def central(masks: Tensor) -> Tensor:
    """Of each slice's masks, (samples, n, 1, H, W), bool, the one whose Dice with the others is largest on average."""
    agreement = sum(torch.from_numpy(np.stack([dice_of(a.float(), b) for a in masks])) for b in masks)  # itself counts alike
    return masks[agreement.argmax(0), torch.arange(masks.shape[1])]


def dice_of(probability: Tensor, masks: Tensor) -> np.ndarray:
    """Dice of each image, where lesion is what has a probability above one half."""
    return scores(probability - 0.5, masks)["dice"].numpy()


def with_interval(values: np.ndarray) -> list[float]:
    """Mean and 95 % bootstrap interval over the images, each another patient's."""
    return [float(values.mean()), *resampled(np.mean, values, seed=0)]


def forecast(probability: Tensor, masks: Tensor, members: int | None = None) -> dict:
    """The Brier score, a mean squared error; and calibration: of the pixels in each of BINS of predicted probability,
    (mean prediction, share that is lesion, number); calibration_error: their mean distance, weighted by number.

    members: how many masks `probability` is the mean of. A few masks know a probability in steps of 1 / members only, for
    which the Brier score is made up (Ferro 2014, doi:10.1002/qj.2270); the calibration error is not.
    """
    p, truth = probability.flatten().numpy().astype(np.float64), masks.flatten().numpy()
    place = np.clip(np.digitize(p, BINS) - 1, 0, len(BINS) - 2)
    bins = [(p[place == k].mean(), truth[place == k].mean(), (place == k).sum()) for k in np.unique(place)]
    return {
        "brier": float(((p - truth) ** 2 - (p * (1 - p) / (members - 1) if members else 0)).mean()),
        "calibration": [(float(mean), float(share), int(count)) for mean, share, count in bins],
        "calibration_error": float(sum(abs(mean - share) * count for mean, share, count in bins) / len(p)),
    }
