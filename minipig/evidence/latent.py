"""LDM (Rombach et al. 2022, arXiv 2112.10752): a small autoencoder, and mask-conditioned diffusion among its latents.

The autoencoder halves both sides and keeps two channels, half as many numbers as the slice has pixels. Its latents are about
standard normal by a small Kullback-Leibler term, and exactly of mean 0 and variance 1 once they are scaled. The diffusion
sees the mask with 2x2 pixels in the channels of one, so none of it is lost, and works on the same grid as all other networks
here, which fold slices likewise. (The original's adversarial and perceptual losses need networks that small grey images
do not have; the plain squared error stands for them, and the diffusion learns from mean latents, without the noise that the
autoencoder was trained under.)
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..conditional import knows
from ..guider import NoisyPair, slice_loss
from ..pairs import Pairs
from ..schedule import Schedule
from ..unet import PairedUNet
from .start import Start

SIDE, CHANNELS = 2, 2  # a latent pixel stands for SIDE x SIDE pixels, in CHANNELS numbers
KL = 1e-4  # the weight of the Kullback-Leibler term, by number


def convolutions(*channels: int) -> nn.Sequential:
    """3x3 convolutions from each number of channels to the next, with SiLU between them."""
    layers = []
    for c, out in zip(channels, channels[1:]):
        layers += [nn.Conv2d(c, out, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(nn.Module):
    """Slices (B, 1, H, W) to latents (B, CHANNELS, H/2, W/2) and back."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.down = convolutions(SIDE**2, width, width, width, 2 * CHANNELS)
        self.up = convolutions(CHANNELS, width, width, width, SIDE**2)
        for name, value in (("mean", 0.0), ("spread", 1.0)):
            self.register_buffer(name, torch.full((1, CHANNELS, 1, 1), value))

    def encode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, before scaling."""
        mean, log_variance = self.down(F.pixel_unshuffle(y, SIDE)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, z: Tensor) -> Tensor:
        """The slice of latents, before scaling."""
        return F.pixel_shuffle(self.up(z), SIDE)


def autoencoder_loss(net: Autoencoder, pair: NoisyPair) -> Tensor:
    """Squared error of the slice decoded from noisy latents, plus KL times their divergence from the standard normal.

    The latents' noise is a part of eps_2, which is standard normal and of no other use here.
    """
    mean, log_variance = net.encode(pair.y0)
    noise = F.pixel_unshuffle(pair.eps_2, SIDE)[:, :CHANNELS]
    back = net.decode(mean + (log_variance / 2).exp() * noise)
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
    return (back - pair.y0).square().mean() + KL * divergence


@torch.no_grad()
def latents(net: Autoencoder, images: Tensor) -> Tensor:
    """Mean latents of slices (N, 1, H, W), before scaling, on the CPU."""
    device = next(net.parameters()).device
    return torch.cat([net.encode(part.to(device))[0].cpu() for part in images.split(256)])


def fit_scale(net: Autoencoder, pairs: Pairs) -> None:
    """Set the scale by which the latents of `pairs` have mean 0 and variance 1 in every channel."""
    z = latents(net, pairs.images)
    net.mean.copy_(z.mean((0, 2, 3), keepdim=True)), net.spread.copy_(z.std((0, 2, 3), keepdim=True))


def to_latents(pairs: Pairs, net: Autoencoder) -> Pairs:
    """The pairs with scaled latents in place of slices: what the diffusion learns from."""
    return replace(pairs, images=(latents(net, pairs.images) - net.mean.cpu()) / net.spread.cpu())


def build(settings: dict) -> PairedUNet:
    """The diffusion's network, on the latents' own grid: no folding."""
    return PairedUNet(channels=CHANNELS, guide=SIDE**2, **settings | {"fold": 1})


class ShownFolded:
    """A guide rule: the mask, with SIDE x SIDE pixels in the channels of one; clean in training, x0_hat in sampling."""

    def train(self, pair: NoisyPair) -> Tensor:
        return F.pixel_unshuffle(pair.x0, SIDE)

    def sample(self, state) -> Tensor:
        return F.pixel_unshuffle(state.x0_hat, SIDE)


loss = partial(slice_loss, rule=ShownFolded())


def draw(autoencoder: Autoencoder, net: nn.Module, start: Start) -> tuple[Tensor, Tensor]:
    """The masks that were given, and slices for them, (B, 1, H, W) each. Latents have no bounds, so nothing is clipped."""
    small = tuple(side // SIDE for side in start.size)
    guider = knows(start.masks, Schedule())
    z = start.walk(guider, net, y_channels=CHANNELS, y_size=small, rule=ShownFolded(), clip=False).y0_hat
    with torch.no_grad():
        return start.masks, autoencoder.decode(z * autoencoder.spread + autoencoder.mean).clamp(-1, 1)
