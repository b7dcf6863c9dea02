"""How good are generated pairs? Agreement of mask and slice, two distances between sets of features, and memorisation."""

from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor

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
    a, b = matching(features_a, features_b)
    moments = [torch.from_numpy(m) for f in (a, b) for m in (f.mean(0), np.atleast_2d(np.cov(f, rowvar=False)))]
    return wasserstein_2(*moments)


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two feature sets, (N, D) and (M, D), with the kernel (a . b / D + 1)^3.

    Unbiased (Binkowski et al. 2018, the KID): on average 0 for two sets of one law, so that single values may be negative,
    and the same whatever N and M, unlike the Fréchet distance's. Raises ValueError if the features do not fit.
    """
    a, b = matching(features_a, features_b)

    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        k = u @ v.T / u.shape[1] + 1
        return k * k * k  # ten times as fast as k**3

    def among(u: np.ndarray) -> float:
        k = kernel(u, u)
        return (k.sum() - np.trace(k)) / (len(u) * (len(u) - 1))  # no sample is compared with itself

    return float(among(a) + among(b) - 2 * kernel(a, b).mean())


def matching(features_a: np.ndarray, features_b: np.ndarray) -> list[np.ndarray]:
    """Both as float64. Raises ValueError unless they are (N, D) and (M, D), N, M >= 2."""
    a, b = (np.asarray(f, dtype=np.float64) for f in (features_a, features_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (N, D) and (M, D) with N, M >= 2, not {a.shape} and {b.shape}")
    return [a, b]


def share_nearer(samples: Tensor, known: Tensor, fresh: Tensor) -> float:
    """The share of `samples` whose nearest neighbour among `known` is nearer than that among `fresh`; ties count half.

    All (N, C, H, W), Euclidean. With `known` a generator's training set and `fresh` as many real images drawn likewise, it
    is 1/2 on average over such sets for a generator that remembers nothing (fresh images score so too), and 1 for one that
    copies. Two single sets of a few hundred are not equally well placed, and fresh images tell: what they score is par.
    """
    near = [nearest(samples, shelf).values for shelf in (known, fresh)]
    return ((near[0] < near[1]).double() + (near[0] == near[1]).double() / 2).mean().item()


def neighbour_ratio(samples: Tensor, known: Tensor, fresh: Tensor) -> float:
    """The median distance of `samples` to their nearest neighbour among `known`, by that of `fresh` images.

    All (N, C, H, W), Euclidean; `fresh` may be few. 0 for a generator that copies its training set `known`; 1 for one that
    draws as nature does; and somewhat less for one that is merely smooth, since what has no detail is near to much.
    """
    return (nearest(samples, known).values.median() / nearest(fresh, known).values.median()).item()


def nearest(images: Tensor, shelf: Tensor) -> torch.return_types.min:
    """The nearest of `shelf` (M, C, H, W) to each image (N, C, H, W): `.values`, Euclidean distances, and `.indices`."""
    return torch.cdist(images.flatten(1), shelf.flatten(1)).min(1)


def interval(values: np.ndarray, parts: float | None = None, level: float = 0.95) -> tuple[float, float]:
    """The mean's confidence interval over K folds of a cross-validation.

    values: (K,) or (K, seeds); the seeds of a fold, which share its test images, are averaged first. parts: into how many the
    data are split, None: K; infinity for K experiments that share nothing: Student's own interval. Of one fold: nan, nan.

    Student's t with the variance (1/K + 1/(parts - 1)) s^2, Nadeau and Bengio 2003: s^2/K alone takes folds for independent,
    but their training sets share patients; 1/(parts - 1) is the ratio of test to training. Half as wide again for 5 of 5.
    """
    folds = np.asarray(values, dtype=np.float64).reshape(len(values), -1).mean(1)
    k, parts = len(folds), parts or len(folds)
    if k < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, k - 1) * folds.std(ddof=1) * np.sqrt(1 / k + 1 / (parts - 1))
    return float(folds.mean() - half), float(folds.mean() + half)


def resampled(statistic, features: np.ndarray, seed: int, level: float = 0.95, times: int = 200) -> tuple[float, float]:
    """A bootstrap interval of statistic(features) over the rows of `features`.

    The basic interval, whose resamples tell how far the statistic strays from its own centre: a resampled Fréchet distance is
    too large, since repeated rows look like a smaller set, and the percentile interval would sit above the estimate. The same
    bias is in the estimate, so the basic interval sits a little below it. Of a generator's samples, it knows nothing of how
    another training would have ended.
    """
    found = stats.bootstrap(
        (np.arange(len(features)),),
        lambda rows: statistic(features[rows]),
        n_resamples=times,
        vectorized=False,
        confidence_level=level,
        method="basic",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
