"""PairedUNet: the noise-prediction network of both chains, eps = net(z_t, t, guide).

As in the paper, it sees the noisy image and, concatenated, its guide: model_x sees (x_t, y_t),
model_y sees (y_t, guide). `extras/frugal.py` makes it fast at 512x512.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minipig.schedule import Schedule

PRESETS = {
    # the arguments of PairedUNet; `paper` is the released network
    "tiny": dict(base=24, mults=(1, 2, 2), blocks=1, attention=(2,), groups=8, fold=2, predict="v"),
    "cpu": dict(base=32, mults=(1, 2, 2), blocks=1, attention=(2,), groups=8, fold=2, predict="v"),
    "cpu128": dict(
        base=48, mults=(1, 1, 2), blocks=1, attention=(2,), groups=8, fold=4, predict="v"
    ),
    "gpu": dict(base=64, mults=(1, 2, 2, 4), blocks=2, attention=(3,), groups=32, predict="v"),
    "paper": dict(base=32, mults=(1, 1, 2, 2, 4, 4), blocks=2, attention=(5,), groups=32),
}


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of t at dim / 2 frequencies from 1 towards 1e-4: (B,) -> (B, dim)."""
    frequency = torch.exp(-math.log(1e4) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias 0: at first it adds nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ResBlock(nn.Module):
    """Two convolutions with the time embedding between, and a shortcut. C -> C' channels."""

    def __init__(self, channels: int, out: int, time: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time, out)
        self.norm2 = nn.GroupNorm(groups, out)
        self.conv2 = zeroed(nn.Conv2d(out, out, 3, padding=1))  # a block starts as its shortcut
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        residual = self.conv1(F.silu(self.norm1(h)))
        residual = residual + self.time(time)[:, :, None, None]  # (B, C') -> (B, C', 1, 1)
        return self.shortcut(h) + self.conv2(F.silu(self.norm2(residual)))


class Attention(nn.Module):
    """Self-attention over the pixels, in heads of about 32 channels: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        most = max(1, channels // 32)
        self.heads = next(n for n in range(most, 0, -1) if channels % n == 0)
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(h))
        q, k, v = rearrange(qkv, "b (n heads c) h w -> n b heads (h w) c", n=3, heads=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)  # softmax(q k^T / sqrt(c)) v
        return h + self.out(rearrange(attended, "b heads (h w) c -> b (heads c) h w", h=h.shape[2]))


class Stage(nn.Module):
    """A residual block, then attention on the levels that have it; on the way up, with a skip."""

    def __init__(self, channels: int, out: int, time: int, groups: int, attention: bool):
        super().__init__()
        self.block = ResBlock(channels, out, time, groups)
        self.attention = Attention(out, groups) if attention else nn.Identity()

    def forward(self, h: Tensor, time: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            h = torch.cat([h, skip], dim=1)
        return self.attention(self.block(h, time))


class PairedUNet(nn.Module):
    """The denoiser of one chain: (z_t, t, guide) -> eps.

    channels, guide: channels of z_t (2: a joint network) and of the guide (0: unconditional).
    base, mults, blocks: width of the first level, its multiple and residual blocks on each level.
    attention: the levels with attention; 0 is the finest.
    fold: fold x fold pixels become channels before the first layer: 2 makes 32x32 a 16x16 task.
    predict: "eps", as in the paper, or "v" = sqrt(abar) eps - sqrt(1 - abar) z0 (Salimans and Ho
    2022, arXiv 2202.00512), turned into eps = sqrt(1 - abar) z_t + sqrt(abar) v on `schedule`: a
    narrow network need not carry z_t's noise through to its end. Either way it returns eps.
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
        schedule: Schedule | None = None,
    ):
        super().__init__()
        if predict not in ("eps", "v"):
            raise ValueError(f"predict must be 'eps' or 'v', not {predict!r}")
        self.channels = channels
        self.guide = guide
        self.base = base
        self.blocks = blocks
        self.fold = fold
        self.predict = predict
        self.schedule = schedule or Schedule.linear()
        self.multiple = fold * 2 ** (len(mults) - 1)  # of pixels, in height and width
        time = 4 * base
        layers = (nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.time = nn.Sequential(*layers)
        self.enter = nn.Conv2d((channels + guide) * fold**2, base, 3, padding=1)

        levels = [(base * m, level in attention) for level, m in enumerate(mults)]
        c = base
        skips = [c]  # channels of the skip connections, finest first
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for width, attends in levels:
            if self.down:  # before each level but the first
                self.shrink.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
            for _ in range(blocks):
                self.down.append(Stage(c, width, time, groups, attends))
                c = width
                skips.append(c)
        self.skip_channels = tuple(skips)  # for ControlNet
        self.middle = nn.ModuleList(Stage(c, c, time, groups, attends) for attends in (True, False))
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for width, attends in reversed(levels):
            if self.up:  # likewise
                self.grow.append(nn.Conv2d(c, c, 3, padding=1))
            for _ in range(blocks + 1):
                self.up.append(Stage(c + skips.pop(), width, time, groups, attends))
                c = width
        out = zeroed(nn.Conv2d(c, channels * fold**2, 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(groups, c), nn.SiLU(), out)

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError unless every level can halve `height` and `width`."""
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"sides must be multiples of {self.multiple}, not {height}x{width}")

    def forward(self, z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
        """z_t (B, C, H, W), t (B,) integers 1..T, guide (B, G, H, W) or None -> eps like z_t.

        eps is float32. Raises ValueError for a size that the levels do not divide, or another G.
        """
        self.check_size(*z.shape[2:])
        channels = 0 if guide is None else guide.shape[1]
        if channels != self.guide:
            raise ValueError(f"guide channels: {self.guide} needed, {channels} given")
        inputs = z if guide is None else torch.cat([z, guide], dim=1)
        time = self.time(time_embedding(t, self.base))  # (B, 4 base)
        h = self.enter(F.pixel_unshuffle(inputs, self.fold))  # (B, base, H / fold, W / fold)
        h, skips = self.encode(h, time)
        return self.answer(self.decode(h, skips, time), z, t)

    def encode(self, h: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Down and through the middle: the coarsest features, and the skips, finest first."""
        skips = [h]
        for i, stage in enumerate(self.down):
            level, block = divmod(i, self.blocks)
            if level > 0 and block == 0:
                h = self.shrink[level - 1](h)  # (B, C, H, W) -> (B, C, H / 2, W / 2)
                skips.append(h)
            h = stage(h, time)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, time)
        return h, skips

    def decode(self, h: Tensor, skips: list[Tensor], time: Tensor) -> Tensor:
        """Up, with a skip into every stage: the last layer's prediction, still folded."""
        for i, (stage, skip) in enumerate(zip(self.up, reversed(skips))):
            level, block = divmod(i, self.blocks + 1)  # level 0 is the coarsest here
            if level > 0 and block == 0:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
                h = self.grow[level - 1](h)  # (B, C, H / 2, W / 2) -> (B, C, H, W)
            h = stage(h, time, skip)
        return self.leave(h)

    def answer(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """eps from the last layer: (B, C fold^2, H / fold, W / fold) -> (B, C, H, W) float32."""
        out = F.pixel_shuffle(out, self.fold).float()
        if self.predict == "eps":
            return out
        signal, noise = self.schedule.scales(t, z)
        return noise * z + signal * out
