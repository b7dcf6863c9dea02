"""DDPM (Ho et al. 2020, arXiv 2006.11239) and DDIM (Song et al. 2021, arXiv 2010.02502) of slices.

Both have the same network and loss, and differ in sampling: DDPM takes all T levels with fresh
noise at each, eta = 1; DDIM takes fewer, without noise. They make no masks, so they are in Table 1
only.
"""

from torch import Tensor, nn

from minipig.evidence.methods.batch import Batch, absent
from minipig.guider import Denoiser, NoisyPair
from minipig.unet import PairedUNet


def build(settings: dict) -> PairedUNet:
    """A network that sees only the noisy image."""
    return PairedUNet(guide=0, **settings)


def loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean (eps_2 - net(y_t, t))^2."""
    return (pair.eps_2 - net(pair.yt, pair.t)).square().mean()


def mask_loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean (eps_1 - net(x_t, t))^2: the same for masks."""
    return (pair.eps_1 - net(pair.xt, pair.t)).square().mean()


def draw(net: Denoiser, batch: Batch) -> Tensor:
    """Images (B, 1, H, W) in [-1, 1]: the walk of one chain, the other being absent."""
    return batch.walk(absent, net, x_channels=0).y0_hat
