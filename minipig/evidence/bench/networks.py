"""The networks of the benchmark by name: ours, plain, and the U-Nets of two libraries."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minipig.data.checks import check_choice
from minipig.extras.frugal import ChannelsLastGroupNorm
from minipig.training.speed import Speed, laid_out, prepared
from minipig.unet import PRESETS, PairedUNet

RIVALS = {
    # library: its U-Net's arguments for each preset. diffusers has exactly our forward FLOPs and
    # parameters (7.13 M and 1.12 M). The other's width is the smallest multiple of 16 that is not
    # cheaper than ours: 5.42 M and 1.42 M parameters, FLOPs x 1.17 and 1.41
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

PLAIN = dict(bfloat16=False, channels_last=False, recompute=False)
SPEEDS = {
    # our training step: as fit decides it here, then each candidate that it chooses from
    "ours": Speed(recompute=False),
    "ours-recomputing": Speed(recompute=True),
    "ours-float32": Speed(**PLAIN),
    "ours-float32-last": Speed(**PLAIN | dict(channels_last=True)),
    "ours-bfloat16": Speed(**PLAIN | dict(bfloat16=True)),
    "ours-bfloat16-last": Speed(**PLAIN | dict(bfloat16=True, channels_last=True)),
    # bfloat16, channels last, with torch's group norm
    "ours-groupnorm": Speed(**PLAIN | dict(bfloat16=True, channels_last=True)),
    "ours-compiled": Speed(compiled=True, recompute=False),
}


class Rival(nn.Module):
    """Another library's U-Net as a denoiser; the guide is its second channel."""

    def __init__(self, library: str, preset: str, size: int):
        super().__init__()
        self.fold = PRESETS[preset].get("fold", 1)  # pixels become channels as in ours
        outputs = self.fold**2
        inputs = 2 * outputs
        settings = RIVALS[library][preset]
        if library == "diffusers":
            from diffusers import UNet2DModel

            channels = dict(in_channels=inputs, out_channels=outputs)
            self.net = UNet2DModel(size // self.fold, **channels, **settings)
        else:
            from denoising_diffusion_pytorch import Unet

            self.net = Unet(channels=inputs, out_dim=outputs, **settings)

    def forward(self, z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
        out = self.net(F.pixel_unshuffle(torch.cat([z, guide], dim=1), self.fold), t)
        return F.pixel_shuffle(getattr(out, "sample", out), self.fold)


def build(network: str, preset: str, size: int) -> nn.Module:
    """A new PairedUNet for images of side `size`, or a rival; SPEEDS says how ours are trained."""
    if network in RIVALS:
        return Rival(network, preset, size)
    check_choice("network", network, ("plain", *SPEEDS))
    return PairedUNet(**PRESETS[preset])


def lay_out(net: nn.Module, network: str, speed: Speed) -> nn.Module:
    """The network to call in a training step."""
    net = prepared(laid_out(net, speed), speed)
    if network == "ours-groupnorm":
        for module in net.modules():
            if isinstance(module, ChannelsLastGroupNorm):
                module.__class__ = nn.GroupNorm
    return net
