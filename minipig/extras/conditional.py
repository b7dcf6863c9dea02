"""Sample a slice for a mask, a mask for a slice, or a lesion into a healthy breast.

To condition Algorithm 2 on given pixels, its denoisers return these pixels as their estimate,
Eq. (6). The walk needs no change. A given pixel then has at every level t the value of Eq. (3),
sqrt(abar_t) z0 + sqrt(1 - abar_t) eps, as in training.

Given the whole mask, this is exact up to the number of steps, for a model_y trained on clean masks.
Given the slice, or a part of it, it is an approximation (the "replacement" of Ho et al. 2022, arXiv
2204.03458, Sec. 3.1): at level t the other pixels see y_t, not y0, and what they have taken from
its noise stays. Corrections (`solvers.corrected`) draw that noise again at each level. Raise levels
and corrections together: each time a step is taken it adds its own error, which narrows the
samples.
"""

import torch
from torch import Tensor

from minipig.extras.solvers import SOLVERS, corrected, log_snr_grid, second_order
from minipig.guider import Denoiser
from minipig.sampler import PairModel
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise


def knows(z0: Tensor, schedule: Schedule, model: Denoiser | None = None) -> Denoiser:
    """A denoiser whose estimate is z0 (B, C, H, W); where z0 is NaN, that of `model`."""
    unknown = z0.isnan()
    partly = bool(unknown.any())

    def denoiser(z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
        eps = schedule.eps(z, t, z0)
        return torch.where(unknown, model(z, t, guide), eps) if partly else eps

    return denoiser


def given(pair: PairModel, mask: Tensor | None = None, slice_: Tensor | None = None) -> PairModel:
    """The pair model with these pixels given: (B, C, H, W) each, NaN or None: to be sampled."""
    schedule = pair.schedule
    model_x = pair.model_x if mask is None else knows(mask, schedule, pair.model_x)
    model_y = pair.model_y if slice_ is None else knows(slice_, schedule, pair.model_y)
    return PairModel(model_x, model_y, schedule, pair.rule)


@torch.no_grad()
def complete(
    pair: PairModel,
    mask: Tensor | None = None,
    slice_: Tensor | None = None,
    steps: int | None = None,
    corrections: int | None = None,
    seed: int = 0,
    first: int = 0,
    batch: int = 64,
) -> tuple[Tensor, Tensor]:
    """Sample the rest of N pairs: masks ±1 and slices in [-1, 1], (N, 1, H, W) each.

    mask: ±1; slice_: in [-1, 1]; NaN where a pixel is to be sampled, None if all are. The noise of
    a pair depends on `seed` and its number: first, first + 1, ... corrections: how often a step is
    repeated at each of `steps` levels. Default: none, by second order, if whole masks are given and
    no slices, else 16 at 64 levels. Slices for given masks need a rule trained on clean masks.
    Raises ValueError if nothing is given, if shapes or devices differ, or for values out of range.
    """
    if mask is None and slice_ is None:
        raise ValueError("no mask and no slice is given; to sample whole pairs, use sampler.sample")
    known = mask if slice_ is None else slice_
    check_given(mask, slice_)
    if not len(known):
        raise ValueError("no pair is given")
    if corrections is None:
        corrections = 0 if slice_ is None and not mask.isnan().any() else 16
    if corrections < 0:
        raise ValueError(f"corrections must be 0 or more, not {corrections}")
    if steps is None:
        steps = SOLVERS["dpm++2m"].steps if corrections == 0 else 64
    grid = log_snr_grid(pair.schedule, steps)

    drawn = []
    for rows in torch.arange(len(known)).split(batch):
        parts = [z0 if z0 is None else z0[rows.to(z0.device)].float() for z0 in (mask, slice_)]
        noise = SampleNoise(seed, range(first + rows[0], first + rows[-1] + 1), known.device)
        knowing = given(pair, *parts)
        x_T = noise(tuple(known.shape[1:]))
        y_T = noise(tuple(known.shape[1:]))
        if corrections == 0:
            states = second_order(knowing, x_T, y_T, grid)
        else:
            states = corrected(knowing, x_T, y_T, grid, noise, corrections)
        for last in states:
            pass  # only the last state is kept
        drawn.append((torch.where(last.x0_hat > 0, 1.0, -1.0), last.y0_hat))
    masks, slices = zip(*drawn)
    return torch.cat(masks), torch.cat(slices)


def check_given(mask: Tensor | None, slice_: Tensor | None) -> None:
    """Raise ValueError if shapes or devices differ, or for values out of range; NaN is allowed."""
    if mask is not None and slice_ is not None:
        m, s = (f"{tuple(z0.shape)} on {z0.device}" for z0 in (mask, slice_))
        if m != s:
            raise ValueError(f"masks and slices differ in shape or device: {m}, {s}")
    if mask is not None and mask.dtype == torch.bool:
        raise ValueError("masks must be ±1, not True and False: give 2.0 * mask - 1")
    if mask is not None:
        wrong = mask[(mask.abs() != 1) & ~mask.isnan()]
        if len(wrong):
            raise ValueError(f"masks must be ±1, NaN where to sample, not {wrong[0]:g}")
    if slice_ is not None:
        wrong = slice_[slice_.abs() > 1]
        if len(wrong):
            raise ValueError(f"slices must be in [-1, 1], NaN where to sample, not {wrong[0]:g}")
