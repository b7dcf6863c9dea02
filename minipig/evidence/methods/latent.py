"""LDM (Rombach et al. 2022, arXiv 2112.10752): mask-conditioned diffusion of latents.

The autoencoder halves both sides and keeps two channels, half as many numbers as pixels. A small
Kullback-Leibler term makes the latents about standard normal; then they are scaled to mean 0 and
variance 1. The diffusion sees the mask with 2x2 pixels as four channels, so nothing of it is lost,
and works on the same grid as the other networks. It differs from the original in two ways: the
squared error replaces the adversarial and perceptual losses, since no perceptual network exists for
small grey images, and the diffusion is trained on mean latents, without the autoencoder's noise.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minipig.data.pairs import Pairs
from minipig.evidence.methods.batch import Batch
from minipig.extras.conditional import knows
from minipig.guider import NoisyPair
from minipig.rules import loss_of
from minipig.unet import PairedUNet

WIDTHS = (64, 64, 64)
SIDE, CHANNELS = 2, 2  # SIDE x SIDE pixels become one latent pixel with CHANNELS numbers
KL = 1e-4  # weight of the Kullback-Leibler term


def convolutions(*channels: int) -> nn.Sequential:
    """3x3 convolutions from each number of channels to the next, with SiLU between them."""
    layers = []
    for c, out in zip(channels, channels[1:]):
        layers += [nn.Conv2d(c, out, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(nn.Module):
    """Slices (B, 1, H, W) to latents (B, CHANNELS, H/2, W/2) and back."""

    def __init__(self):
        super().__init__()
        self.down = convolutions(SIDE**2, *WIDTHS, 2 * CHANNELS)
        self.up = convolutions(CHANNELS, *WIDTHS, SIDE**2)
        self.register_buffer("mean", torch.full((1, CHANNELS, 1, 1), 0.0))
        self.register_buffer("spread", torch.full((1, CHANNELS, 1, 1), 1.0))

    def encode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, before scaling."""
        mean, log_variance = self.down(F.pixel_unshuffle(y, SIDE)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, z: Tensor) -> Tensor:
        """The slices of unscaled latents."""
        return F.pixel_shuffle(self.up(z), SIDE)


def autoencoder_loss(net: Autoencoder, pair: NoisyPair) -> Tensor:
    """Squared error of the slice decoded from noisy latents, plus KL times their divergence.

    The divergence is that from the standard normal. The latents' noise is a part of eps_2, which
    has no other use here.
    """
    mean, log_variance = net.encode(pair.y0)
    noise = F.pixel_unshuffle(pair.eps_2, SIDE)[:, :CHANNELS]
    decoded = net.decode(mean + (log_variance / 2).exp() * noise)
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
    return (decoded - pair.y0).square().mean() + KL * divergence


@torch.no_grad()
def latents(net: Autoencoder, images: Tensor) -> Tensor:
    """Mean latents of slices (N, 1, H, W), before scaling, on the CPU."""
    device = next(net.parameters()).device
    return torch.cat([net.encode(part.to(device))[0].cpu() for part in images.split(256)])


def fit_scale(net: Autoencoder, pairs: Pairs) -> None:
    """Set the scale that gives the latents of `pairs` mean 0 and variance 1 in every channel."""
    z = latents(net, pairs.images)
    net.mean.copy_(z.mean((0, 2, 3), keepdim=True))
    net.spread.copy_(z.std((0, 2, 3), keepdim=True))


def to_latents(pairs: Pairs, net: Autoencoder) -> Pairs:
    """The pairs with scaled latents in place of slices, for training the diffusion."""
    return replace(pairs, images=(latents(net, pairs.images) - net.mean.cpu()) / net.spread.cpu())


def build(settings: dict) -> PairedUNet:
    """The diffusion's network, on the latents' own grid: no folding."""
    return PairedUNet(channels=CHANNELS, guide=SIDE**2, **settings | {"fold": 1})


class FoldedMask:
    """The guide rule `Clean` with SIDE x SIDE pixels of the mask as channels of one pixel."""

    def train(self, pair: NoisyPair) -> Tensor:
        return F.pixel_unshuffle(pair.x0, SIDE)

    def sample(self, state) -> Tensor:
        return F.pixel_unshuffle(state.x0_hat, SIDE)


loss = loss_of(FoldedMask())


@torch.no_grad()
def draw(autoencoder: Autoencoder, net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The given masks, and slices for them, (B, 1, H, W) each."""
    how = dict(y_channels=CHANNELS, y_size=tuple(side // SIDE for side in batch.size))
    guider = knows(batch.masks, batch.schedule)
    # latents have no bounds, so they are not clipped
    z = batch.walk(guider, net, rule=FoldedMask(), clip=False, **how).y0_hat
    slices = autoencoder.decode(z * autoencoder.spread + autoencoder.mean)
    return batch.masks, slices.clamp(-1, 1)
