"""A network made faster or smaller for training, with the same weights and, to rounding, outputs.

channels_last  The channels of a pixel lie side by side in memory, which makes convolutions of large
               images faster on a CPU. Torch's backward pass of group norm is very slow in this
               layout, so group norm gets its own; attention's is, too, in bfloat16, so it goes by
               plain matrix products.
recomputing    Of each stage of a PairedUNet only the inputs are kept for the backward pass, which
               computes the rest again: less memory, more time.

Both change a network in place, and back. training/choice.py decides whether they pay.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from minipig.unet import Attention, PairedUNet, Stage


def channels_last(net: nn.Module, on: bool = True) -> nn.Module:
    """Put the weights into the layout channels last (off: torch's own), with the group norms."""
    exchange(net, {nn.GroupNorm: ChannelsLastGroupNorm, Attention: ChannelsLastAttention}, on)
    return net.to(memory_format=torch.channels_last if on else torch.contiguous_format)


def recomputing(net: nn.Module, on: bool = True) -> nn.Module:
    """Let a PairedUNet's stages keep their inputs alone for the backward pass (off: everything)."""
    exchange(net, {Stage: RecomputedStage}, on)
    if isinstance(net, PairedUNet):
        net.leave.__class__ = RecomputedLayers if on else nn.Sequential
    return net


def exchange(net: nn.Module, kinds: dict[type, type], on: bool) -> None:
    """Modules of one class become those of another with the same weights; off: the other way."""
    kinds = kinds if on else {new: old for old, new in kinds.items()}
    for module in net.modules():
        module.__class__ = kinds.get(type(module), type(module))


def recompute(forward, *inputs: Tensor | None) -> Tensor:
    """forward(*inputs); only the inputs are kept for the backward pass."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    # nothing in it is random
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)


class RecomputedStage(Stage):
    def forward(self, h: Tensor, time: Tensor, skip: Tensor | None = None) -> Tensor:
        return recompute(super().forward, h, time, skip)


class RecomputedLayers(nn.Sequential):
    def forward(self, h: Tensor) -> Tensor:
        return recompute(super().forward, h)


class ChannelsLastAttention(Attention):
    """Attention without torch's fused kernel where that is slow: its backward pass on a CPU."""

    def forward(self, h: Tensor) -> Tensor:
        if h.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            with sdpa_kernel(SDPBackend.MATH):
                return super().forward(h)
        return super().forward(h)


class ChannelsLastGroupNorm(nn.GroupNorm):
    """nn.GroupNorm with another backward pass for channels-last inputs on a CPU."""

    def forward(self, h: Tensor) -> Tensor:
        last = h.is_contiguous(memory_format=torch.channels_last) and not h.is_contiguous()
        if last and self.affine and h.device.type == "cpu" and torch.is_grad_enabled():
            return _ChannelsLast.apply(h, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(h)


class _ChannelsLast(torch.autograd.Function):
    """y = w z + b, z = (h - mean) / deviation over the pixels and channels of a group.

    dh = (w dy - mean(w dy) - z mean(w dy z)) / deviation is, in each channel, linear in dy and h.
    """

    @staticmethod
    def forward(ctx, h, weight, bias, groups, eps):
        B, C, H, W = h.shape
        y, mean, inverse = torch.native_group_norm(h, weight, bias, B, C, H * W, groups, eps)
        ctx.save_for_backward(h, weight, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        h, weight, mean, inverse = ctx.saved_tensors
        C, H, W = h.shape[1:]
        groups = mean.shape[1]

        def each(group: Tensor) -> Tensor:
            """One number for each group, (B, groups) -> one for each channel, (B, C)."""
            return group.to(weight.dtype).repeat_interleave(C // groups, dim=1)

        def average(channel: Tensor) -> Tensor:
            """Sums over the pixels of each channel, (B, C) -> means over its group, (B, C)."""
            return each(channel.unflatten(1, (groups, -1)).sum(2)) * groups / (C * H * W)

        mean = each(mean)
        inverse = each(inverse)
        dbias = dy.sum((2, 3), dtype=weight.dtype)
        dweight = inverse * ((dy * h).sum((2, 3), dtype=weight.dtype) - mean * dbias)
        slope = inverse**2 * average(weight * dweight)
        level = inverse * average(weight * dbias)
        # in each sample and channel dh = of_dy dy + of_h h + rest, since z = inverse (h - mean)
        factors = (inverse * weight, -slope, slope * mean - level)
        of_dy, of_h, rest = (z.to(h.dtype)[:, :, None, None] for z in factors)
        return (dy * of_dy).addcmul_(h, of_h).add_(rest), dweight.sum(0), dbias.sum(0), None, None
