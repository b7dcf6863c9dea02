"""DDPM (Ho et al. 2020, arXiv 2006.11239) and DDIM (Song et al. 2021, arXiv 2010.02502): slices alone, from noise.

One network for both: they share the loss, and differ in the walk. DDPM takes all T levels with fresh noise at each, eta = 1;
DDIM takes few, without. They make no masks, so they stand in Table 1 only.
"""

from torch import Tensor, nn

from ..guider import Denoiser, NoisyPair
from ..unet import PairedUNet
from .start import NOTHING, Start, absent


def build(settings: dict) -> PairedUNet:
    """A network that is shown nothing but the noisy image."""
    return PairedUNet(guide=0, **settings)


def loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean (eps_2 - net(y_t, t))^2."""
    return (pair.eps_2 - net(pair.yt, pair.t)).square().mean()


def mask_loss(net: nn.Module, pair: NoisyPair) -> Tensor:
    """Mean (eps_1 - net(x_t, t))^2: the same for masks alone, which tells new masks apart from a good guider."""
    return (pair.eps_1 - net(pair.xt, pair.t)).square().mean()


def draw(net: Denoiser, start: Start) -> Tensor:
    """Images (B, 1, H, W) in [-1, 1]: the walk of one chain, beside one without channels."""
    return start.walk(absent, net, x_channels=NOTHING).y0_hat
