"""PairedUNet: the noise-prediction network of both chains, `eps = net(z_t, t, guide)`.

The paper's U-Net takes two channels: the noisy image and, concatenated, its guide. model_x looks at (x_t, y_t), model_y at
(y_t, guide). Without a guide the same class is an unconditional network; with a two-channel z_t, a joint one.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .norm import GroupNorm
from .schedule import Schedule

PRESETS = {
    # name: what the network is made of. `tiny` and `cpu` fold 2x2 pixels into channels; `paper` is the released network.
    "tiny": dict(base=24, mults=(1, 2, 2), blocks=1, attention=(2,), groups=8, fold=2, predict="v"),
    "cpu": dict(base=32, mults=(1, 2, 2), blocks=1, attention=(2,), groups=8, fold=2, predict="v"),
    "gpu": dict(base=64, mults=(1, 2, 2, 4), blocks=2, attention=(3,), groups=32, fold=1, predict="v"),
    "paper": dict(base=32, mults=(1, 1, 2, 2, 4, 4), blocks=2, attention=(5,), groups=32, fold=1, predict="eps", frugal=True),
}


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of t at `dim / 2` frequencies falling from 1 towards 1e-4, (B,) -> (B, dim)."""
    frequency = torch.exp(-math.log(1e4) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ResBlock(nn.Module):
    """Two normalised convolutions around the time embedding, and a shortcut: (B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, channels: int, out: int, time: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = GroupNorm(groups, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time, out)
        self.norm2, self.conv2 = GroupNorm(groups, out), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        nn.init.zeros_(self.conv2.weight), nn.init.zeros_(self.conv2.bias)  # every block starts as its shortcut

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        residual = self.conv1(F.silu(self.norm1(h))) + self.time(time)[:, :, None, None]
        return self.shortcut(h) + self.conv2(F.silu(self.norm2(residual)))


class Attention(nn.Module):
    """Every pixel of a coarse level looks at every other, in heads of about 32 channels."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm, self.qkv = GroupNorm(groups, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm(h)), "b (n heads c) h w -> n b heads (h w) c", n=3, heads=self.heads)
        seen = F.scaled_dot_product_attention(q, k, v)
        return h + self.out(rearrange(seen, "b heads (h w) c -> b (heads c) h w", h=h.shape[2]))


class Stage(nn.Module):
    """A residual block, followed by attention on the levels that have it; on the way up, h comes with a skip connection."""

    def __init__(self, channels: int, out: int, time: int, groups: int, attention: bool):
        super().__init__()
        self.block = ResBlock(channels, out, time, groups)
        self.attention = Attention(out, groups) if attention else nn.Identity()

    def forward(self, time: Tensor, *h: Tensor) -> Tensor:
        return self.attention(self.block(torch.cat(h, dim=1) if len(h) > 1 else h[0], time))


class PairedUNet(nn.Module):
    """The denoiser of one chain: (z_t, t, guide) -> eps.

    channels, guide: channels of z_t and of the guide (0: unconditional). base, mults, blocks: width of the first level,
    its multiple on each level, residual blocks a level. attention: the levels (0 is the finest) with attention.
    fold: pixels per side that are folded into channels at the door (1: none), which makes a 32x32 image a 16x16 problem.
    predict: what the last layer stands for. "eps" is the paper's. "v" = sqrt(abar) eps - sqrt(1 - abar) z0 (Salimans & Ho
    2022) is turned into eps at the door, eps = sqrt(1 - abar) z_t + sqrt(abar) v, so that the noise itself takes a shortcut
    past a trunk that may be too narrow to carry it. Losses and sampler see eps alone.
    frugal: for large images. The channels of a pixel lie side by side in memory, and of each stage only the inputs are
    remembered for the backward pass, which computes the rest again: the same numbers, in half the memory.
    """

    def __init__(
        self,
        channels: int = 1,
        guide: int = 1,
        base: int = 32,
        mults: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
        blocks: int = 2,
        attention: tuple[int, ...] = (5,),
        groups: int = 32,
        fold: int = 1,
        predict: str = "eps",
        frugal: bool = False,
        schedule: Schedule | None = None,
    ):
        super().__init__()
        if predict not in ("eps", "v"):
            raise ValueError(f"predict is 'eps' or 'v', not {predict!r}")
        self.channels, self.guide, self.base, self.fold, self.predict = channels, guide, base, fold, predict
        self.frugal, self.schedule = frugal, schedule or Schedule()
        self.multiple = fold * 2 ** (len(mults) - 1)
        time = 4 * base
        self.time = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.enter = nn.Conv2d((channels + guide) * fold**2, base, 3, padding=1)

        widths = [base * m for m in mults]
        c, skips = base, [base]
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Stage(c, width, time, groups, level in attention))
                c = width
                skips.append(c)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
        self.skip_channels = tuple(skips)
        self.middle = nn.ModuleList([Stage(c, c, time, groups, True), Stage(c, c, time, groups, False)])
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(Stage(c + skips.pop(), width, time, groups, level in attention))
                c = width
            if level > 0:
                self.grow.append(nn.Conv2d(c, c, 3, padding=1))
        self.leave = nn.Sequential(GroupNorm(groups, c), nn.SiLU(), nn.Conv2d(c, channels * fold**2, 3, padding=1))
        nn.init.zeros_(self.leave[-1].weight), nn.init.zeros_(self.leave[-1].bias)
        self.blocks = blocks
        if frugal:
            self.to(memory_format=torch.channels_last)

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError unless every level halves `height` and `width` without a rest."""
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"this U-Net takes heights and widths that are multiples of {self.multiple}, not {height}x{width}"
            )

    def forward(self, z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
        """z_t (B, C, H, W), t (B,) integers 1..T, guide (B, G, H, W) or None -> eps (B, C, H, W) float32.

        Raises ValueError for a size that the levels do not divide, and for a guide that the network was not built for.
        """
        self.check_size(*z.shape[2:])
        if (0 if guide is None else guide.shape[1]) != self.guide:
            given = "no guide" if guide is None else f"a guide of {guide.shape[1]} channels"
            raise ValueError(f"this network was built for a guide of {self.guide} channels and was given {given}")
        inputs = z if guide is None else torch.cat([z, guide], dim=1)
        time = self.time(time_embedding(t, self.base))
        return self.answer(self.decode(*self.encode(self.enter(self.fold_in(inputs)), time), time), z, t)

    def fold_in(self, image: Tensor) -> Tensor:
        """The image as the trunk sees it: fold x fold pixels in the channels of one."""
        return F.pixel_unshuffle(image, self.fold)

    def encode(self, h: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Down and through the middle: the coarsest features, and what the skip connections carry, finest first."""
        skips, down = [h], iter(self.down)
        for level in range(len(self.shrink) + 1):
            for _ in range(self.blocks):
                h = self.run(next(down), time, h)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
                skips.append(h)
        for stage in self.middle:
            h = self.run(stage, time, h)
        return h, skips

    def decode(self, h: Tensor, skips: list[Tensor], time: Tensor) -> Tensor:
        """Up, with a skip connection into every block: what the last layer says, still folded."""
        skips, up = list(skips), iter(self.up)
        for level in range(len(self.shrink) + 1):
            for _ in range(self.blocks + 1):
                h = self.run(next(up), time, h, skips.pop())
            if level < len(self.grow):
                h = self.grow[level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.run(self.leave, h)

    def answer(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """eps, whatever the last layer predicts; (B, C, H, W) float32."""
        out = F.pixel_shuffle(out, self.fold).float()
        if self.predict == "eps":
            return out
        signal, noise = self.schedule.scales(t, z)
        return noise * z + signal * out

    def run(self, part: nn.Module, *inputs: Tensor) -> Tensor:
        """part(*inputs), of which a frugal network in training remembers the inputs alone."""
        if self.frugal and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)  # nothing here is random
        return part(*inputs)
