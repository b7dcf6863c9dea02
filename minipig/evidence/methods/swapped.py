"""PIG with its roles swapped: a guider of the slice sees the noisy mask, and guides the mask.

Proposition 1 is symmetric in x and y, so the walk needs no change: the slice is its first chain.
"""

from torch import Tensor, nn

from minipig.evidence.methods.batch import Batch, signs
from minipig.guider import Denoiser, NoisyPair


def mask_loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean (eps_1 - net(x_t, t, y0))^2. (The slice's guider is model_y of the rule `Noisy`.)"""
    return (pair.eps_1 - net(pair.xt, pair.t, pair.y0)).square().mean()


def draw(slice_guider: Denoiser, mask_net: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each."""
    state = batch.walk(slice_guider, mask_net)
    return signs(state.y0_hat), state.x0_hat
