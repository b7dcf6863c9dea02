"""ControlNet (Zhang et al. 2023, arXiv 2302.05543): a finished unconditional network learns to heed a mask.

The network is frozen. A trainable copy of its encoder sees the mask as well, and adds what it finds to what the frozen
decoder is told, through 1x1 convolutions that start at zero: before the first step the whole is the unconditional network.
Loss and drawing are SegGuidedDif's.
"""

import copy

from torch import Tensor, nn

from ..unet import PairedUNet, time_embedding


def zero_convolution(channels: int, out: int) -> nn.Conv2d:
    """A 1x1 convolution that starts at zero."""
    layer = nn.Conv2d(channels, out, 1)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    return layer


class ControlNet(nn.Module):
    """The denoiser (y_t, t, mask) -> eps that an unconditional PairedUNet becomes; it is frozen in place."""

    def __init__(self, frozen: PairedUNet):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.control = copy.deepcopy(frozen).requires_grad_(True)
        del self.control.up, self.control.grow, self.control.leave  # of the copy, the encoder alone
        self.show = zero_convolution(frozen.fold**2, frozen.base)
        self.tell = nn.ModuleList(zero_convolution(c, c) for c in frozen.skip_channels)
        self.tell_middle = zero_convolution(frozen.skip_channels[-1], frozen.skip_channels[-1])

    def forward(self, z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        net, control = self.frozen, self.control
        seen, embedding = net.fold_in(z), time_embedding(t, net.base)
        time = net.time(embedding)
        h, skips = net.encode(net.enter(seen), time)
        found, levels = control.encode(control.enter(seen) + self.show(net.fold_in(guide)), control.time(embedding))
        skips = [skip + tell(level) for skip, tell, level in zip(skips, self.tell, levels)]
        return net.answer(net.decode(h + self.tell_middle(found), skips, time), z, t)
