"""What a pair model can do besides: a slice for a mask, a mask for a slice, a lesion put into a healthy breast.

To condition Algorithm 2 on what is known of a pair, its denoisers are made to know it: where a pixel is given, their
estimate, Eq. (6), *is* that pixel. The walk needs no change. On it a given pixel holds at every level t what Eq. (3) says,
sqrt(abar_t) z0 + sqrt(1 - abar_t) eps, so the other pixels, and the other chain, look at it as they did in training.

Given the whole mask, this is exact but for the walk's steps: a model_y that has learnt from clean masks asks for nothing
else. Given the slice, or a part of it, it is an approximation (the "replacement" of Ho et al. 2022, arXiv 2204.03458,
Sec. 3.1): at level t the rest sees y_t, not y0, and what it took from the noise of y_t it keeps. Corrections
(`sampler.corrected`) draw that noise anew and let the rest move, at each level. They come near the truth if levels and
corrections are raised together: a step's own error, which narrows what is drawn, is made as often as the step is taken.
"""

import torch
from torch import Tensor

from .guider import Denoiser
from .sampler import SOLVERS, PairModel, corrected, walk
from .schedule import Schedule
from .seeds import SampleNoise


def knows(z0: Tensor, schedule: Schedule, model: Denoiser | None = None) -> Denoiser:
    """A denoiser whose estimate is z0 (B, C, H, W) at every level, but where z0 is NaN: there `model` is asked."""
    unknown = z0.isnan()
    asked = bool(unknown.any())

    def denoiser(z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
        eps = schedule.eps(z, t, z0)
        return torch.where(unknown, model(z, t, guide), eps) if asked else eps

    return denoiser


def given(pair: PairModel, mask: Tensor | None = None, slice_: Tensor | None = None) -> PairModel:
    """The pair model that knows this of a pair: (B, C, H, W) each, NaN where a pixel is to be drawn; None: all are."""
    model_x, model_y = (
        model if z0 is None else knows(z0, pair.schedule, model)
        for model, z0 in ((pair.model_x, mask), (pair.model_y, slice_))
    )
    return PairModel(model_x, model_y, pair.schedule, pair.rule)


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
    """Draw what is not given of N pairs: masks ±1 and slices in [-1, 1], (N, 1, H, W) each, on the device of what is given.

    mask: ±1; slice_: [-1, 1]; NaN where a pixel is to be drawn, None if all are. They count as pairs first, first + 1, ... of
    `seed`, whose noise depends on these numbers alone. corrections: how often a step is taken again at each of `steps`
    levels; None are as many as it takes: none, by second order, for slices of whole given masks, else 16 at 64 levels. Slices
    of given masks are right by a rule that trains on clean masks. Raises ValueError if nothing is given, for parts that do
    not belong together, or values out of range.
    """
    if mask is None and slice_ is None:
        raise ValueError("nothing is given to complete: to draw whole pairs, use sampler.sample")
    known = mask if slice_ is None else slice_
    if mask is not None and (mask.shape, mask.device) != (known.shape, known.device):
        there = [f"{tuple(z0.shape)} on {z0.device}" for z0 in (mask, known)]
        raise ValueError(f"masks and slices do not belong together: {there[0]}, and {there[1]}")
    if mask is not None and mask.dtype == torch.bool:
        raise ValueError("a mask is ±1 here, not True and False: give 2.0 * mask - 1")
    if mask is not None and not (mask.isnan() | (mask.abs() == 1)).all():
        raise ValueError(f"a mask is ±1, or NaN where it is to be drawn, not {mask[(mask.abs() != 1) & ~mask.isnan()][0]:g}")
    if slice_ is not None and (slice_.abs() > 1).any():
        raise ValueError(f"a slice is in [-1, 1], or NaN where it is to be drawn, not {slice_[slice_.abs() > 1][0]:g}")
    if corrections is None:
        corrections = 0 if slice_ is None and not mask.isnan().any() else 16
    if corrections < 0:
        raise ValueError(f"corrections are 0 or more, not {corrections}")
    if steps is None:
        steps = SOLVERS["dpm++2m"]["steps"] if corrections == 0 else 64
    grid = pair.schedule.grid(steps, "log-snr")

    drawn = []
    for rows in torch.arange(len(known)).split(batch):
        parts = [z0 if z0 is None else z0[rows.to(z0.device)].float() for z0 in (mask, slice_)]
        noise, knowing = SampleNoise(seed, range(first + rows[0], first + rows[-1] + 1), known.device), given(pair, *parts)
        x_T, y_T = (noise(tuple(known.shape[1:])) for _ in range(2))
        if corrections == 0:
            states = walk(knowing, x_T, y_T, grid, order=2)
        else:
            states = corrected(knowing, x_T, y_T, grid, noise, corrections)
        for last in states:  # only the last is kept
            pass
        drawn.append((torch.where(last.x0_hat > 0, 1.0, -1.0), last.y0_hat))
    return tuple(torch.cat(z0) for z0 in zip(*drawn))
