"""The networks of the benchmark by name: ours, ours with a speed-up taken away, the plain one, and two libraries' U-Nets."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import unet
from .plain import PlainUNet

RIVALS = {
    # library: its U-Net's arguments for each preset. Forward FLOPs: diffusers as ours, to the digit, and 7.13 M and 1.12 M
    # parameters too; the other's next width that is a multiple of 16 and no cheaper, 5.42 M and 1.42 M, FLOPs x 1.17 and 1.41
    "diffusers": {
        "paper": dict(
            block_out_channels=(32, 32, 64, 64, 128, 128),
            down_block_types=("DownBlock2D",) * 5 + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * 5,
            layers_per_block=2,
            norm_num_groups=32,
            attention_head_dim=32,
        ),
        "cpu": dict(
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=32,
        ),
    },
    "denoising-diffusion-pytorch": {
        "paper": dict(dim=32, dim_mults=(1, 1, 2, 2, 4, 4)),
        "cpu": dict(dim=32, dim_mults=(1, 2, 2)),
    },
}

SWITCHED_OFF = ("ours-float32", "ours-remembering", "ours-groupnorm")  # ours with one speed-up taken away


class Rival(nn.Module):
    """Another library's U-Net as a denoiser of ours: the guide is its second channel, and it may fold pixels as ours does."""

    def __init__(self, library: str, preset: str, size: int):
        super().__init__()
        self.fold = unet.PRESETS[preset]["fold"]
        inside, outside, arguments = 2 * self.fold**2, self.fold**2, RIVALS[library][preset]
        if library == "diffusers":
            from diffusers import UNet2DModel

            self.net = UNet2DModel(size // self.fold, in_channels=inside, out_channels=outside, **arguments)
        else:
            from denoising_diffusion_pytorch import Unet

            self.net = Unet(channels=inside, out_dim=outside, **arguments)

    def forward(self, z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        out = self.net(F.pixel_unshuffle(torch.cat([z, guide], dim=1), self.fold), t)
        return F.pixel_shuffle(getattr(out, "sample", out), self.fold)


def build(network: str, preset: str, size: int) -> nn.Module:
    """A fresh network by its name in the bench, for images of this side: ours, SWITCHED_OFF, plain, or one of RIVALS.

    ours-groupnorm leaves torch's own group norm in minipig.unet, so its process should build nothing else.
    """
    settings = unet.PRESETS[preset]
    if network in RIVALS:
        return Rival(network, preset, size)
    if network == "plain":
        return PlainUNet(**{name: value for name, value in settings.items() if name != "frugal"})
    if network not in ("ours", "ours-compiled", *SWITCHED_OFF):
        raise ValueError(f"{network!r} is no network of the bench")
    if network == "ours-groupnorm":
        unet.GroupNorm = nn.GroupNorm
    return unet.PairedUNet(**settings | ({"frugal": False} if network == "ours-remembering" else {}))
