"""PIG in one network: guider and model_y share a trunk, and so have half the parameters.

The trunk has two channels in and out. As the guider it is given (x_t, y_t) and answers in the first, as model_y it is given
(guide, y_t) and answers in the second; a constant third channel tells it which of the two it is.
"""

import torch
from torch import Tensor, nn

from ..guider import Clean, NoisyPair, guider_loss, slice_loss
from ..unet import PairedUNet
from . import pig
from .start import Start


class TwoHeads(nn.Module):
    """Both denoisers of a pair model, `model_x` and `model_y`, on one PairedUNet of these settings."""

    def __init__(self, settings: dict):
        super().__init__()
        self.trunk = PairedUNet(channels=2, guide=1, **settings)

    def model_x(self, x_t: Tensor, t: Tensor, y_t: Tensor) -> Tensor:
        return self.trunk(torch.cat([x_t, y_t], dim=1), t, torch.full_like(y_t, -1))[:, :1]

    def model_y(self, y_t: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        return self.trunk(torch.cat([guide, y_t], dim=1), t, torch.full_like(y_t, 1))[:, 1:]


def loss(net: TwoHeads, pair: NoisyPair) -> Tensor:
    """Algorithm 1 and model_y's loss under `Clean`, half of each."""
    return (guider_loss(net.model_x, pair) + slice_loss(net.model_y, pair, Clean())) / 2


def draw(net: TwoHeads, start: Start) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each."""
    return pig.draw(net.model_x, net.model_y, start)
