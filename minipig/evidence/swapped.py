"""PIG with its roles swapped: the slice is guessed first, looking at the noisy mask, and its clean estimate guides the mask.

Proposition 1 is as true with x and y exchanged, so the walk needs no change: it is handed the slice as its first chain.
"""

from torch import Tensor, nn

from ..guider import Denoiser, NoisyPair
from .start import Start, signs


def mask_loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean (eps_1 - net(x_t, t, y0))^2. (The slice's guider is model_y of the rule `Noisy`.)"""
    return (pair.eps_1 - net(pair.xt, pair.t, pair.y0)).square().mean()


def draw(slice_guider: Denoiser, mask_net: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each."""
    state = start.walk(slice_guider, mask_net)
    return signs(state.y0_hat), state.x0_hat
