"""Channels last and recomputing change nothing; the group norm has torch's values and gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minipig.extras.frugal import (
    ChannelsLastAttention,
    ChannelsLastGroupNorm,
    RecomputedStage,
    channels_last,
    recomputing,
)
from minipig.seeds import generator, seeded_network
from minipig.unet import PRESETS, Attention, PairedUNet

SHAPE = PRESETS["paper"] | dict(base=8, groups=8)


def frugal(seed=0):
    """The network with both changes."""
    return recomputing(channels_last(plain(seed)))


def plain(seed=0):
    return seeded_network(lambda: PairedUNet(**SHAPE), seed)


def noise(*shape, key=0):
    return torch.randn(shape, generator=generator("image", key))


def shaken(net):
    """`net` after a random change of all weights: a new network's last layer is zero."""
    draw = generator("weights", 1)
    for p in net.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=draw)
    return net


def gradients(net, z, t, guide):
    """The network's output, and the gradients of its mean square by each weight."""
    out = net(z, t, guide)
    return [out, *torch.autograd.grad(out.square().mean(), list(net.parameters()))]


INPUTS = (noise(2, 1, 64, 32), torch.tensor([5, 900]), noise(2, 1, 64, 32, key=1))


# --- the network -----------------------------------------------------------------------------


def test_names_and_initial_weights_are_equal():
    net = plain(3)
    ours = frugal(3).state_dict()
    theirs = net.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    net.load_state_dict(ours)


def test_outputs_and_gradients_are_equal():
    """Recomputed and channels last, against torch's own layers: up to rounding in float32."""
    nets = [shaken(make()) for make in (frugal, plain)]
    results = [gradients(net, *INPUTS) for net in nets]
    for ours, theirs in zip(*results):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7
    with torch.no_grad():
        assert torch.allclose(nets[0](*INPUTS), results[0][0], atol=1e-5)


def test_a_deep_copy_is_frugal_too():
    """The training loop averages the weights of a deep copy."""
    net = shaken(frugal())
    copied = copy.deepcopy(net)
    assert [type(m) for m in copied.modules()] == [type(m) for m in net.modules()]
    kinds = {type(module) for module in copied.modules()}
    assert {PairedUNet, ChannelsLastGroupNorm, RecomputedStage} <= kinds
    for ours, theirs in zip(gradients(copied, *INPUTS), gradients(net, *INPUTS)):
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        next(copied.parameters()).add_(1.0)
    assert not torch.equal(next(copied.parameters()), next(net.parameters()))


def test_both_can_be_undone():
    net = recomputing(channels_last(frugal(), on=False), on=False)
    assert [type(m) for m in net.modules()] == [type(m) for m in plain().modules()]
    assert all(p.is_contiguous() for p in net.parameters())


def test_it_keeps_less_for_the_backward_pass():
    """Bytes of the tensors that autograd saves."""

    def saved(net):
        sizes = []
        pack = lambda tensor: sizes.append(tensor.nbytes) or tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(*INPUTS)
        return sum(sizes)

    assert saved(frugal()) < 0.5 * saved(plain())


# --- its group norm --------------------------------------------------------------------------


def both_norms(groups, channels, dtype):
    norms = []
    for kind in (ChannelsLastGroupNorm, nn.GroupNorm):
        norm = kind(groups, channels)
        draw = generator("norm", groups)
        for p in norm.parameters():
            p.data = torch.randn(p.shape, generator=draw).to(dtype)
        norms.append(norm)
    return norms


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_values_and_gradients_are_torchs(layout, groups, dtype, tolerance):
    h, dy = (noise(3, 8, 5, 6, key=k).to(dtype).to(memory_format=layout) for k in (0, 1))
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
    h = noise(2, 4, 3, 3, key=1).double().to(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(norm, h.requires_grad_())


def test_bfloat16_images_with_float32_weights():
    """As under autocast: every gradient within a rounding of bfloat16 of the float32 one."""
    norm, theirs = both_norms(4, 8, torch.float32)
    h, dy = (noise(2, 8, 16, 16, key=k).bfloat16() for k in (2, 3))
    whole = h.float().requires_grad_()
    inputs = [whole, theirs.weight, theirs.bias]
    exact = torch.autograd.grad(theirs(whole), inputs, dy.float())
    h = h.to(memory_format=torch.channels_last).requires_grad_()
    y = norm(h)
    assert y.dtype == torch.bfloat16
    for ours, truth in zip(torch.autograd.grad(y, [h, norm.weight, norm.bias], dy), exact):
        assert (ours.float() - truth).norm() < 0.01 * truth.norm()


@pytest.mark.parametrize("bfloat16, training", [(True, True), (True, False), (False, True)])
def test_the_fused_kernel_is_left_where_its_backward_pass_is_slow(monkeypatch, bfloat16, training):
    """And nowhere else, as it needs no matrix of pixels by pixels."""
    plain = seeded_network(lambda: Attention(32, 8), 0)
    nn.init.normal_(plain.out.weight)  # zero at first
    net = channels_last(copy.deepcopy(plain))
    assert isinstance(net, ChannelsLastAttention)
    fused = []
    attend = F.scaled_dot_product_attention

    def spy(*qkv):
        fused.append(torch.backends.cuda.flash_sdp_enabled())
        return attend(*qkv)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    h = torch.randn(2, 32, 4, 4, generator=generator("h", 0))
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), torch.set_grad_enabled(training):
        ours = net(h.to(memory_format=torch.channels_last))
        theirs = plain(h)
    assert fused == [not (bfloat16 and training), True]
    assert torch.allclose(ours.float(), theirs.float(), atol=3e-2 if bfloat16 else 1e-5)
