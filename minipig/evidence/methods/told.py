"""PIG and SegGuidedDif whose networks are told whether a pair is deformed, and sampled as if not.

So Karras et al. 2022 (arXiv 2206.00364) keep augmentation from leaking into samples. Here it is one
more channel of the guide, 1 or -1 everywhere, which the training pairs carry behind their mask.
"""

from dataclasses import replace
from functools import partial
from typing import Callable

import torch
from torch import Tensor, nn

from minipig.data.classical import DEFORMED
from minipig.data.pairs import Pairs
from minipig.evidence.methods import pig, seg_guided
from minipig.evidence.methods.batch import Batch
from minipig.guider import Denoiser, NoisyPair
from minipig.unet import PairedUNet


def build(settings: dict, *parents: nn.Module) -> PairedUNet:
    """A network of PIG with one more guide channel."""
    return PairedUNet(**settings | {"guide": 2})


def with_flag(pairs: Pairs, *parents: nn.Module) -> Pairs:
    """The same pairs; behind each mask a channel that is true if the pair is deformed."""
    flags = torch.tensor([name.startswith(DEFORMED) for name in pairs.names])
    planes = flags[:, None, None, None].expand_as(pairs.masks)
    return replace(pairs, masks=torch.cat([pairs.masks, planes], 1))


def shown(net: Denoiser, flag: Tensor) -> Denoiser:
    """The network with the flag, (B, 1, H, W), behind its guide."""
    return lambda z, t, guide: net(z, t, torch.cat([guide, flag], 1))


def told(loss: Callable) -> Callable:
    """The loss of a network that is shown the flag of pairs from `with_flag`."""

    def told_loss(net: nn.Module, pair: NoisyPair) -> Tensor:
        (mask, flag), noise = pair.x0.split(1, 1), pair.eps_1[:, :1]
        return loss(shown(net, flag), replace(pair, x0=mask, eps_1=noise))

    return told_loss


def untold(draw: Callable, *networks_and_batch: nn.Module | Batch) -> tuple[Tensor, Tensor]:
    """The masks and slices of `draw` by networks that are told: not deformed."""
    *networks, batch = networks_and_batch
    flag = -torch.ones_like(batch.masks)
    return draw(*(shown(net, flag) for net in networks), batch)


draw_pig = partial(untold, pig.draw)
draw_seg_guided = partial(untold, seg_guided.draw)
