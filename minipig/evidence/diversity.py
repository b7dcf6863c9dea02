"""Are samples like real ones, and is every kind of real one among them? By nearest neighbours.

A Fréchet distance mixes both. Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991)
and coverage (Naeem et al. 2020, arXiv 2002.09797) tell them apart: around each point of a set lies
a ball that reaches to its k-th nearest neighbour in that set.
"""

import numpy as np
from scipy.spatial.distance import cdist

from minipig.evidence.metrics import checked_features


def diversity(samples: np.ndarray, real: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall and coverage of features (N, D) beside real ones (M, D), each in [0, 1].

    precision: share of samples in the ball of a real point; recall: share of real points in the
    ball of a sample; coverage: share of real points whose own ball holds a sample. All depend on N
    and M, so compare sets of equal size, with the values of fresh real samples. Raises ValueError
    unless the sets have equal D, and N, M > k.
    """
    samples, real = checked_features(samples, real)
    if min(len(samples), len(real)) <= k:
        few = f"there are {len(samples)} and {len(real)}"
        raise ValueError(f"{k=} needs sets of more than {k} points; {few}")
    apart = cdist(samples, real)
    around_sample, around_real = (radii(points, k) for points in (samples, real))
    return {
        "precision": float((apart <= around_real).any(1).mean()),
        "recall": float((apart <= around_sample[:, None]).any(0).mean()),
        "coverage": float((apart.min(0) <= around_real).mean()),
    }


def radii(points: np.ndarray, k: int) -> np.ndarray:
    """The distance of each point to its k-th nearest other point, (N,)."""
    return np.sort(cdist(points, points), axis=1)[:, k]  # the first is the point itself
