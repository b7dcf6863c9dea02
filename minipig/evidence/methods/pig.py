"""PIG: the guider of Algorithm 1, model_y under a guide rule, and Algorithm 2; and roles swapped.

Swapped, a guider of the slice sees the noisy mask, and guides the mask. Proposition 1 is symmetric
in x and y, so the walk needs no change: the slice is its first chain. The slice's guider is model_y
of the rule `Noisy`.
"""

from torch import Tensor, nn

from minipig.evidence.methods.batch import Batch, signs
from minipig.guider import Denoiser, GuideRule, NoisyPair
from minipig.rules import Clean


def draw(
    guider: Denoiser, model_y: Denoiser, batch: Batch, rule: GuideRule = Clean()
) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each.

    `Clean`, `Matched` and `LesionWeighted` differ in training alone; `Clean`, `Sign` and `Dithered`
    differ in sampling alone, and so do `Matched` and `Binarised`.
    """
    state = batch.walk(guider, model_y, rule=rule)
    return signs(state.x0_hat), state.y0_hat


def mask_loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Of swapped roles: mean (eps_1 - net(x_t, t, y0))^2."""
    return (pair.eps_1 - net(pair.xt, pair.t, pair.y0)).square().mean()


def draw_swapped(slice_guider: Denoiser, mask_net: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each."""
    state = batch.walk(slice_guider, mask_net)
    return signs(state.y0_hat), state.x0_hat
