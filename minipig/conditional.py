"""What a pair model can do besides: a slice for a mask, a mask for a slice, a lesion put into a healthy breast.

To condition Algorithm 2 on what is known of a pair, its denoisers are made to know it: where a pixel is given, their
estimate, Eq. (6), *is* that pixel. The walk needs no change. On it a given pixel holds at every level t what Eq. (3) says,
sqrt(abar_t) z0 + sqrt(1 - abar_t) eps, so the other pixels, and the other chain, look at it as they did in training.

Given the whole mask, this is exact: a clean-mask model_y asks for nothing else than x0. Given the slice, or a part of it, it
is an approximation (the "replacement" of Ho et al. 2022, arXiv 2204.03458, Sec. 3.1): at level t the rest sees y_t, not y0,
and what it took from the noise of y_t it keeps. Corrections (`sampler.corrected`) draw that noise anew and let the rest move,
at each level. More corrections come nearer to the truth, as long as the levels are fine enough: a step's own error, which
narrows what is drawn, is made as often as the step is taken.
"""

import torch
from torch import Tensor

from .guider import Denoiser
from .sampler import PairModel, corrected
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
    steps: int = 64,
    corrections: int = 16,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw what is not given of B pairs: masks ±1 and slices in [-1, 1], (B, 1, H, W) each, on the device of what is given.

    mask: ±1; slice_: [-1, 1]; NaN where a pixel is to be drawn, None if all are. Pair i starts from noise that depends on
    `seed` and i alone. steps: levels, evenly spaced in the log SNR; each takes 1 + corrections steps of first order. Raises
    ValueError if nothing is given, or two batches of different shape.
    """
    if mask is None and slice_ is None:
        raise ValueError("nothing is given to complete: to draw whole pairs, use sampler.sample")
    known = mask if slice_ is None else slice_
    if mask is not None and mask.shape != known.shape:
        raise ValueError(f"masks and slices do not belong together: {tuple(mask.shape)} and {tuple(known.shape)}")
    noise, shape = SampleNoise(seed, range(len(known)), known.device), tuple(known.shape[1:])
    grid = pair.schedule.grid(steps, "log-snr")
    for state in corrected(given(pair, mask, slice_), noise(shape), noise(shape), grid, noise, corrections):
        pass
    return torch.where(state.x0_hat > 0, 1.0, -1.0), state.y0_hat
