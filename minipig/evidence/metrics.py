"""Distances and diversity of feature sets (used by tables/table1.py), copying, intervals."""

import numpy as np
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor

from minipig.worlds.gaussian import wasserstein_2

# of two values of a measure, the better is the higher (1) or the lower (-1)
LOW = ("fd", "kd", "fd_lesion", "fd_plain", "fd_mirrored", "fd_spread")
HIGH = ("agreement", "dice", "iou", "precision", "recall", "fresh_dice", "coverage")
BETTER = dict.fromkeys(LOW, -1) | dict.fromkeys(HIGH, 1)


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of Gaussians fitted to two feature sets, (N, D) and (M, D).

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)); Heusel et al. 2017. Raises ValueError unless
    the sets have equal D, and N, M >= 2.
    """
    moments = []
    for features in checked_features(features_a, features_b):
        covariance = np.atleast_2d(np.cov(features, rowvar=False))
        moments += [torch.from_numpy(features.mean(0)), torch.from_numpy(covariance)]
    return wasserstein_2(*moments)


def effective_dimension(features: np.ndarray) -> float:
    """In how many directions features (N, D) vary: trace(C)^2 / trace(C^2) of their covariance C.

    D if all directions vary alike, 1 if one has all the variance. Where it is small, few directions
    decide a Fréchet distance. Raises ValueError unless N >= 2.
    """
    features, _ = checked_features(features, features)
    covariance = np.atleast_2d(np.cov(features, rowvar=False))
    return float(covariance.trace() ** 2 / (covariance**2).sum())


def directions(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k directions in which features (N, D) vary most, (D, k), and their variances, (k,).

    `features @ (directions / sqrt(variances))` varies alike in all, so that a distance counts them
    alike. Raises ValueError unless N >= 2 and k <= D.
    """
    features, _ = checked_features(features, features)
    if k > features.shape[1]:
        raise ValueError(f"there are {features.shape[1]} directions, not {k}; give a smaller k")
    variances, vectors = np.linalg.eigh(np.atleast_2d(np.cov(features, rowvar=False)))
    return vectors[:, : -k - 1 : -1], np.maximum(variances[: -k - 1 : -1], 1e-12)


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two feature sets, with the kernel (a . b / D + 1)^3.

    The unbiased estimate (Binkowski et al. 2018, the KID): its mean is 0 for two sets of one
    distribution, so a value may be negative, and does not depend on N and M, as that of the Fréchet
    distance does. Raises ValueError like frechet_distance.
    """
    a, b = checked_features(features_a, features_b)

    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        k = u @ v.T / u.shape[1] + 1
        return k * k * k  # ten times as fast as k**3

    def within(u: np.ndarray) -> float:
        k = kernel(u, u)
        n = len(u)
        return (k.sum() - np.trace(k)) / (n * (n - 1))  # no sample is compared with itself

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def diversity(samples: np.ndarray, real: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall and coverage of features (N, D) beside real ones (M, D), each in [0, 1].

    Around each point of a set lies a ball that reaches to its k-th nearest neighbour in that set.
    precision: share of samples in the ball of a real point; recall: share of real points in the
    ball of a sample (Kynkäänniemi et al. 2019, arXiv 1904.06991); coverage: share of real points
    whose own ball holds a sample (Naeem et al. 2020, arXiv 2002.09797). All depend on N and M, so
    compare sets of equal size, with the values of fresh real samples. Raises ValueError unless the
    sets have equal D, and N, M > k.
    """
    samples, real = checked_features(samples, real)
    if min(len(samples), len(real)) <= k:
        few = f"there are {len(samples)} and {len(real)}"
        raise ValueError(f"{k=} needs sets of more than {k} points; {few}")
    apart = cdist(samples, real)
    # of each point to its k-th nearest other point; the nearest of all is the point itself
    around_sample, around_real = (np.sort(cdist(a, a), axis=1)[:, k] for a in (samples, real))
    return {
        "precision": float((apart <= around_real).any(1).mean()),
        "recall": float((apart <= around_sample[:, None]).any(0).mean()),
        "coverage": float((apart.min(0) <= around_real).mean()),
    }


def checked_features(features_a: np.ndarray, features_b: np.ndarray) -> list[np.ndarray]:
    """Both as float64. Raises ValueError unless they are (N, D) and (M, D), N, M >= 2."""
    a, b = (np.asarray(f, dtype=np.float64) for f in (features_a, features_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        shapes = f"{a.shape} and {b.shape}"
        raise ValueError(f"features must be (N, D) and (M, D) with N, M >= 2, not {shapes}")
    return [a, b]


def share_nearer(samples: Tensor, known: Tensor, fresh: Tensor) -> float:
    """Share of samples whose nearest `known` image is nearer than any `fresh` one; ties count half.

    known: a generator's training set; fresh: as many new real images; all (N, C, H, W), Euclidean.
    1 for a generator that copies; for one that does not, 1/2 on average over such sets. Two sets of
    a few hundred images are not equally well placed, so compare with the share of fresh images.
    """
    to_known = nearest(samples, known).values
    to_fresh = nearest(samples, fresh).values
    return ((to_known < to_fresh).double() + (to_known == to_fresh).double() / 2).mean().item()


def neighbour_ratio(samples: Tensor, known: Tensor, fresh: Tensor) -> float:
    """Median distance of `samples` to the nearest `known` image, divided by that of `fresh` images.

    All (N, C, H, W), Euclidean; `fresh` may be few. 0 for a generator that copies its training set
    `known`, 1 for one that draws like nature. Smooth images score a little below 1 as well, since
    images without detail are near to many.
    """
    return (nearest(samples, known).values.median() / nearest(fresh, known).values.median()).item()


def nearest(images: Tensor, others: Tensor) -> torch.return_types.min:
    """The nearest of `others` to each image: `.values`, Euclidean distances, and `.indices`."""
    return torch.cdist(images.flatten(1), others.flatten(1)).min(1)


def interval(
    values: np.ndarray, parts: float | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of the mean over K folds of a cross-validation; (nan, nan) for one fold.

    values: (K,) or (K, seeds); the seeds of a fold share its test images, so they are averaged
    first. parts: into how many the data are split (default K); infinity for K experiments that
    share nothing: Student's own interval.

    Student's t with the variance (1/K + 1/(parts - 1)) s^2, Nadeau and Bengio 2003: s^2/K would
    treat folds as independent, but their training sets overlap; 1/(parts - 1) is the ratio of test
    to training set. For K = parts = 5 it is half as wide again.
    """
    folds = np.asarray(values, dtype=np.float64).reshape(len(values), -1).mean(1)
    k = len(folds)
    if k < 2:
        return float("nan"), float("nan")
    quantile = stats.t.ppf((1 + level) / 2, k - 1)
    half = quantile * folds.std(ddof=1) * np.sqrt(1 / k + 1 / ((parts or k) - 1))
    return float(folds.mean() - half), float(folds.mean() + half)
