"""The released architecture written plainly: what `bench.py` measures PairedUNet against.

PlainUNet follows the description: base width 32, multiples 1, 1, 2, 2, 4, 4, two residual blocks a level, attention at 16x16,
group norm of 32 groups. Nothing is tuned: contiguous float32, nn.GroupNorm, softmax attention written out, and autograd
remembers every intermediate result. Parameters have PairedUNet's names and shapes, so that equal weights can be loaded and
the results compared.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..schedule import Schedule


class PlainBlock(nn.Module):
    """norm, SiLU, convolution; plus time; norm, SiLU, convolution; plus shortcut: (B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, channels: int, out: int, time: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time, out)
        self.norm2 = nn.GroupNorm(groups, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        out = self.conv1(F.silu(self.norm1(h)))
        out = out + self.time(time)[:, :, None, None]
        return self.shortcut(h) + self.conv2(F.silu(self.norm2(out)))


class PlainAttention(nn.Module):
    """h + out(softmax(q k^T / sqrt(c)) v) over all pixels, in heads of c = 32 channels: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        B, C, H, W = h.shape
        q, k, v = self.qkv(self.norm(h)).reshape(B, 3, self.heads, C // self.heads, H * W).transpose(-1, -2).unbind(1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(C // self.heads), dim=-1)
        return h + self.out((weights @ v).transpose(-1, -2).reshape(B, C, H, W))


class PlainStage(nn.Module):
    """A residual block, and attention on the levels that have it."""

    def __init__(self, channels: int, out: int, time: int, groups: int, attention: bool):
        super().__init__()
        self.block = PlainBlock(channels, out, time, groups)
        self.attention = PlainAttention(out, groups) if attention else nn.Identity()

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block(h, time))


class PlainUNet(nn.Module):
    """The denoiser (z_t, t, guide) -> eps of one chain, with one channel each; arguments as PairedUNet's."""

    def __init__(
        self,
        base: int,
        mults: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        groups: int,
        fold: int,
        predict: str,
    ):
        super().__init__()
        self.base, self.fold, self.predict, self.schedule = base, fold, predict, Schedule()
        time, widths = 4 * base, [base * m for m in mults]
        self.time = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.enter = nn.Conv2d(2 * fold**2, base, 3, padding=1)
        c, skips = base, [base]
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(PlainStage(c, width, time, groups, level in attention))
                c = width
                skips.append(c)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
        self.middle = nn.ModuleList([PlainStage(c, c, time, groups, True), PlainStage(c, c, time, groups, False)])
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                self.up.append(PlainStage(c + skips.pop(), widths[level], time, groups, level in attention))
                c = widths[level]
            if level > 0:
                self.grow.append(nn.Conv2d(c, c, 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(groups, c), nn.SiLU(), nn.Conv2d(c, fold**2, 3, padding=1))
        nn.init.zeros_(self.leave[-1].weight)
        nn.init.zeros_(self.leave[-1].bias)
        self.blocks = blocks

    def forward(self, z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        """z_t, guide (B, 1, H, W), t (B,) integers 1..T -> eps (B, 1, H, W) float32."""
        frequency = torch.exp(-math.log(1e4) * torch.arange(self.base // 2, device=t.device) / (self.base // 2))
        angle = t[:, None] * frequency
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=1))
        h = self.enter(F.pixel_unshuffle(torch.cat([z, guide], dim=1), self.fold))
        skips = [h]
        for i, stage in enumerate(self.down):
            h = stage(h, time)
            skips.append(h)
            if (i + 1) % self.blocks == 0 and i + 1 < len(self.down):
                h = self.shrink[i // self.blocks](h)
                skips.append(h)
        for stage in self.middle:
            h = stage(h, time)
        for i, stage in enumerate(self.up):
            h = stage(torch.cat([h, skips.pop()], dim=1), time)
            if (i + 1) % (self.blocks + 1) == 0 and i + 1 < len(self.up):
                h = self.grow[i // (self.blocks + 1)](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        out = F.pixel_shuffle(self.leave(h), self.fold)
        if self.predict == "eps":
            return out
        signal, noise = self.schedule.scales(t, z)
        return noise * z + signal * out
