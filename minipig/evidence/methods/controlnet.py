"""ControlNet (Zhang et al. 2023, arXiv 2302.05543): an unconditional network made to follow a mask.

The network is frozen. A trainable copy of its encoder also sees the mask; what it finds is added to
the inputs of the frozen decoder, through 1x1 convolutions that start at zero: before the first
step, the whole is the unconditional network. Loss and sampling are those of SegGuidedDif.
"""

import copy

from torch import Tensor, nn

from minipig.unet import PairedUNet, time_embedding


def zero_convolution(channels: int, out: int) -> nn.Conv2d:
    """A 1x1 convolution that starts at zero."""
    layer = nn.Conv2d(channels, out, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ControlNet(nn.Module):
    """The denoiser (y_t, t, mask) -> eps on an unconditional PairedUNet, frozen in place."""

    def __init__(self, frozen: PairedUNet):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.control = copy.deepcopy(frozen).requires_grad_(True)
        del self.control.up, self.control.grow, self.control.leave  # only the encoder is copied
        self.show = zero_convolution(frozen.fold**2, frozen.base)
        self.tell = nn.ModuleList(zero_convolution(c, c) for c in frozen.skip_channels)
        self.tell_middle = zero_convolution(frozen.skip_channels[-1], frozen.skip_channels[-1])

    def forward(self, z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        net, control = self.frozen, self.control
        folded = net.fold_in(z)
        embedding = time_embedding(t, net.base)
        time = net.time(embedding)
        h, skips = net.encode(net.enter(folded), time)
        shown = control.enter(folded) + self.show(net.fold_in(guide))
        found, levels = control.encode(shown, control.time(embedding))
        skips = [skip + tell(level) for skip, tell, level in zip(skips, self.tell, levels)]
        return net.answer(net.decode(h + self.tell_middle(found), skips, time), z, t)
