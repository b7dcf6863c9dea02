"""GroupNorm against torch's own: values and gradients, in both memory layouts and number formats."""

import pytest
import torch
from torch import nn

from minipig.norm import GroupNorm
from minipig.seeds import generator


def both_norms(groups, channels, dtype):
    norms = []
    for kind in (GroupNorm, nn.GroupNorm):
        norm, draw = kind(groups, channels), generator("norm", groups)
        for p in norm.parameters():
            p.data = torch.randn(p.shape, generator=draw).to(dtype)
        norms.append(norm)
    return norms


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_values_and_gradients_are_torchs(layout, groups, dtype, tolerance):
    draw = generator("image", 0)
    h, dy = (torch.randn((3, 8, 5, 6), generator=draw).to(dtype).to(memory_format=layout) for _ in range(2))
    h = (3 + 2 * h).requires_grad_()
    results = []
    for norm in both_norms(groups, 8, dtype):
        y = norm(h)
        results.append([y, *torch.autograd.grad(y, [h, norm.weight, norm.bias], dy)])
    for ours, theirs in zip(*results):
        assert ours.dtype == dtype and (ours - theirs).abs().max() < tolerance * theirs.abs().max()
    assert results[0][1].is_contiguous(memory_format=layout)


def test_the_gradient_is_the_slope():
    """By finite differences, which know nothing of formulas."""
    norm, _ = both_norms(2, 4, torch.float64)
    h = torch.randn((2, 4, 3, 3), generator=generator("image", 1), dtype=torch.float64).to(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(norm, h.requires_grad_())


def test_bfloat16_images_with_float32_weights():
    """As under autocast: every gradient within a rounding of bfloat16 of the float32 one."""
    norm, theirs = both_norms(4, 8, torch.float32)
    h, dy = (torch.randn((2, 8, 16, 16), generator=generator("image", k)).bfloat16() for k in (2, 3))
    exact = torch.autograd.grad(theirs(whole := h.float().requires_grad_()), [whole, theirs.weight, theirs.bias], dy.float())
    h = h.to(memory_format=torch.channels_last).requires_grad_()
    y = norm(h)
    assert y.dtype == torch.bfloat16
    for ours, truth in zip(torch.autograd.grad(y, [h, norm.weight, norm.bias], dy), exact):
        assert (ours.float() - truth).norm() < 0.01 * truth.norm()
