"""One network for both chains, each at a noise level of its own: UniDiffuser.

Bao et al. 2023, arXiv 2303.06555. Trained at independent levels t of the mask and s of the slice,
it knows every conditional law: with s = t it samples pairs, as `joint` does; with the slice given,
s = 1 (of T), masks for it, without the approximation of extras/conditional.py; and the other way
round. The guider of PIG is its half at s = t, SegGuidedDif's network its half at t = 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minipig.evidence.methods import joint
from minipig.evidence.methods.batch import Batch
from minipig.guider import NoisyPair
from minipig.unet import PairedUNet, time_embedding


class TwoTimes(nn.Module):
    """(x_t, t, y_s, s) -> (eps_1, eps_2), (B, 1, H, W) each; t, s: (B,) integers 1..T."""

    def __init__(self, settings: dict):
        super().__init__()
        self.trunk = PairedUNet(channels=2, guide=0, **settings)
        width = 4 * self.trunk.base
        layers = (nn.Linear(self.trunk.base, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.slice_time = nn.Sequential(*layers)

    def forward(self, xt: Tensor, t: Tensor, ys: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        trunk, both = self.trunk, torch.cat([xt, ys], dim=1)
        trunk.check_size(*both.shape[2:])
        time = trunk.time(time_embedding(t, trunk.base))
        time = time + self.slice_time(time_embedding(s, trunk.base))
        h, skips = trunk.encode(trunk.enter(F.pixel_unshuffle(both, trunk.fold)), time)
        out = trunk.decode(h, skips, time)
        return trunk.answer(out, both, t)[:, :1], trunk.answer(out, both, s)[:, 1:]


def loss(net: TwoTimes, pair: NoisyPair) -> Tensor:
    """Mean over both chains of (eps - net(x_t, t, y_s, s))^2; s is the previous pair's t."""
    s = pair.t.roll(1)  # as random as t, and independent of it
    ys = pair.schedule.add_noise(pair.y0, s, pair.eps_2)
    eps_x, eps_y = net(pair.xt, pair.t, ys, s)
    return ((pair.eps_1 - eps_x).square().mean() + (pair.eps_2 - eps_y).square().mean()) / 2


def draw(net: TwoTimes, batch: Batch) -> tuple[Tensor, Tensor]:
    """Masks ±1 and slices in [-1, 1], (B, 1, H, W) each: both chains at equal levels."""
    return joint.draw(
        lambda both, t, guide: torch.cat(net(both[:, :1], t, both[:, 1:], t), 1), batch
    )
