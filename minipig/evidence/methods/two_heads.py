"""PIG in one network: guider and model_y share a trunk, with half the parameters.

The trunk has two channels in and out. As the guider it gets (x_t, y_t) and predicts in the first,
as model_y it gets (guide, y_t) and predicts in the second; a constant third channel, -1 or 1, says
which of the two it is.
"""

import torch
from torch import Tensor, nn

from minipig.evidence.methods import pig
from minipig.evidence.methods.batch import Batch
from minipig.guider import NoisyPair, model_x_loss, model_y_loss
from minipig.rules import Clean
from minipig.unet import PairedUNet


class TwoHeads(nn.Module):
    """Both denoisers of a pair model, `model_x` and `model_y`, on one PairedUNet."""

    def __init__(self, settings: dict):
        super().__init__()
        self.trunk = PairedUNet(channels=2, guide=1, **settings)

    def model_x(self, xt: Tensor, t: Tensor, yt: Tensor) -> Tensor:
        return self.trunk(torch.cat([xt, yt], dim=1), t, torch.full_like(yt, -1))[:, :1]

    def model_y(self, yt: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        return self.trunk(torch.cat([guide, yt], dim=1), t, torch.full_like(yt, 1))[:, 1:]


def loss(net: TwoHeads, pair: NoisyPair) -> Tensor:
    """Algorithm 1's loss and model_y's under `Clean`, half of each."""
    return (model_x_loss(net.model_x, pair) + model_y_loss(net.model_y, pair, Clean())) / 2


def draw(net: TwoHeads, batch: Batch) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each."""
    return pig.draw(net.model_x, net.model_y, batch)
