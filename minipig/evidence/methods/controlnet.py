"""ControlNet (Zhang et al. 2023, arXiv 2302.05543): an unconditional network made to follow a mask.

The network is frozen. A trainable copy of its encoder also sees the mask; what it finds is added to
the inputs of the frozen decoder, through 1x1 convolutions that start at zero: before the first
step, the whole is the unconditional network. Loss and sampling are those of SegGuidedDif.
"""

import copy

from torch import Tensor, nn
from torch.nn import functional as F

from minipig.unet import PairedUNet, time_embedding, zeroed


class ControlNet(nn.Module):
    """The denoiser (y_t, t, mask) -> eps on an unconditional PairedUNet, frozen in place."""

    def __init__(self, frozen: PairedUNet):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.control = copy.deepcopy(frozen).requires_grad_(True)
        del self.control.up, self.control.grow, self.control.leave  # only the encoder is copied
        middle = frozen.skip_channels[-1]
        self.show = zeroed(nn.Conv2d(frozen.fold**2, frozen.base, 1))
        self.tell = nn.ModuleList(zeroed(nn.Conv2d(c, c, 1)) for c in frozen.skip_channels)
        self.tell_middle = zeroed(nn.Conv2d(middle, middle, 1))

    def forward(self, z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        net, control = self.frozen, self.control
        folded = F.pixel_unshuffle(z, net.fold)
        embedding = time_embedding(t, net.base)
        time = net.time(embedding)
        h, skips = net.encode(net.enter(folded), time)
        shown = control.enter(folded) + self.show(F.pixel_unshuffle(guide, net.fold))
        found, levels = control.encode(shown, control.time(embedding))
        skips = [skip + tell(level) for skip, tell, level in zip(skips, self.tell, levels)]
        return net.answer(net.decode(h + self.tell_middle(found), skips, time), z, t)
