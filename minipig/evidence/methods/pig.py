"""PIG: the guider of Algorithm 1, model_y under a guide rule, and Algorithm 2."""

from functools import partial

from torch import Tensor

from minipig.evidence.methods.batch import Batch, signs
from minipig.guider import Denoiser, GuideRule, model_y_loss
from minipig.rules import Clean, LesionWeighted, Matched

matched_loss = partial(model_y_loss, rule=Matched())
weighted_loss = LesionWeighted().loss


def draw(
    guider: Denoiser, model_y: Denoiser, batch: Batch, rule: GuideRule = Clean()
) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each.

    `Clean`, `Matched` and `LesionWeighted` differ in training alone; `Clean`, `Sign` and `Dithered`
    differ in sampling alone, and so do `Matched` and `Binarised`.
    """
    state = batch.walk(guider, model_y, rule=rule)
    return signs(state.x0_hat), state.y0_hat
