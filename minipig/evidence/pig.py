"""PIG itself: the guider of Algorithm 1, model_y under a guide rule, and Algorithm 2."""

from functools import partial

from torch import Tensor

from ..guider import Clean, Denoiser, GuideRule, Matched, slice_loss
from ..rules import LesionWeighted
from .start import Start, signs

matched_loss = partial(slice_loss, rule=Matched())
weighted_loss = LesionWeighted().loss


def draw(guider: Denoiser, model_y: Denoiser, start: Start, rule: GuideRule = Clean()) -> tuple[Tensor, Tensor]:  # noqa: B008
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each.

    `Clean`, `Matched` and `LesionWeighted` sample alike and train apart; `Clean`, `Sign` and `Dithered` train alike and
    sample apart, and so do `Matched` and `Binarised`.
    """
    state = start.walk(guider, model_y, rule=rule)
    return signs(state.x0_hat), state.y0_hat
