"""One network for both chains: mask and slice are two channels of one image, denoised together.

The plainest way to generate pairs: Eq. (11) as it stands, without Proposition 1. It is not in the
paper's tables.
"""

import torch
from torch import Tensor, nn

from minipig.evidence.methods.batch import Batch, absent, signs
from minipig.guider import Denoiser, NoisyPair
from minipig.unet import PairedUNet


def build(settings: dict) -> PairedUNet:
    """A network with two channels in and out."""
    return PairedUNet(channels=2, guide=0, **settings)


def loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean over both channels of ((eps_1, eps_2) - net((x_t, y_t), t))^2."""
    eps = torch.cat([pair.eps_1, pair.eps_2], dim=1)
    return (eps - net(torch.cat([pair.xt, pair.yt], dim=1), pair.t)).square().mean()


def draw(net: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each."""
    both = batch.walk(absent, net, x_channels=0, y_channels=2).y0_hat
    return signs(both[:, :1]), both[:, 1:]
