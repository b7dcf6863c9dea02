"""PairedUNet: shapes, sizes, guides, and the noise that a fresh network predicts."""

import pytest
import torch

from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.unet import PRESETS, PairedUNet


def noise(*shape, key=0):
    return torch.randn(shape, generator=generator("test", key))


@pytest.mark.parametrize("preset", ["tiny", "cpu"])
@pytest.mark.parametrize("size", [(32, 32), (48, 64), (64, 64), (8, 24)])
def test_any_size_that_the_levels_divide(preset, size):
    net, z = PairedUNet(**PRESETS[preset]), noise(2, 1, *size)
    assert net(z, torch.tensor([1, 1024]), z).shape == z.shape


def test_other_sizes_are_refused_with_the_multiple():
    with pytest.raises(ValueError, match="multiples of 8, not 36x64"):
        PairedUNet(**PRESETS["cpu"])(noise(1, 1, 36, 64), torch.ones(1).long(), noise(1, 1, 36, 64))


def test_unconditional_and_joint_networks():
    t, z = torch.tensor([7]), noise(1, 1, 16, 16)
    assert PairedUNet(guide=0, **PRESETS["tiny"])(z, t).shape == z.shape
    pair = noise(1, 2, 16, 16)
    assert PairedUNet(channels=2, guide=0, **PRESETS["tiny"])(pair, t).shape == pair.shape


def test_a_missing_and_a_wrong_guide_are_refused():
    net, z, t = PairedUNet(**PRESETS["tiny"]), noise(1, 1, 16, 16), torch.tensor([7])
    with pytest.raises(ValueError, match="a guide of 1 channels and was given no guide"):
        net(z, t)
    with pytest.raises(ValueError, match="was given a guide of 3 channels"):
        net(z, t, noise(1, 3, 16, 16))


def test_predict_takes_two_values():
    with pytest.raises(ValueError, match="'eps' or 'v', not 'x0'"):
        PairedUNet(predict="x0")


def test_v_prediction_starts_from_the_noise_shortcut():
    """A fresh network's last layer is zero: v = 0, so eps = sqrt(1 - abar_t) z_t, and x0_hat = sqrt(abar_t) z_t."""
    schedule, z, t = Schedule(), noise(3, 1, 16, 16), torch.tensor([1, 400, 1024])
    eps = PairedUNet(**PRESETS["tiny"])(z, t, z)
    signal, sigma = schedule.scales(t, z)
    assert torch.allclose(eps, sigma * z) and torch.allclose(schedule.x0_hat(z, t, eps), signal * z, atol=1e-4)


def test_the_network_uses_time_guide_and_image():
    """After a random change of all weights, the output depends on each input."""
    net, draw = PairedUNet(**PRESETS["tiny"]), generator("weights", 0)
    for p in net.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=draw)
    z, g, t = noise(1, 1, 16, 16), noise(1, 1, 16, 16, key=1), torch.tensor([5])
    base = net(z, t, g)
    for changed in (net(z + 1, t, g), net(z, t + 500, g), net(z, t, g + 1)):
        assert (changed - base).abs().max() > 1e-3


def test_paper_preset_is_the_released_configuration():
    net = PairedUNet(**PRESETS["paper"])
    assert (net.base, net.blocks, net.fold, net.predict, net.multiple) == (32, 2, 1, "eps", 32)
    assert [net.down[i].block.conv2.out_channels for i in range(0, 12, 2)] == [32, 32, 64, 64, 128, 128]


def test_a_frugal_network_is_the_same_function_with_the_same_gradients():
    """Recomputed and channels-last, against remembered and contiguous: outputs and gradients to rounding."""
    t, z, g = torch.tensor([5, 900]), noise(2, 1, 64, 32), noise(2, 1, 64, 32, key=1)
    shape = PRESETS["paper"] | dict(base=8, groups=8)
    nets = [seeded_network(lambda frugal=frugal: PairedUNet(**shape | dict(frugal=frugal)), 0) for frugal in (True, False)]
    results = []
    for net in nets:
        draw = generator("weights", 1)
        for p in net.parameters():  # a fresh network's last layer is zero, and hides the rest
            p.data += 0.05 * torch.randn(p.shape, generator=draw)
        out = net(z, t, g)
        results.append([out, *torch.autograd.grad(out.square().mean(), list(net.parameters()))])
    for frugal, plain in zip(*results):
        assert (frugal - plain).norm() <= 1e-4 * plain.norm() + 1e-7
    with torch.no_grad():
        assert torch.allclose(nets[0](z, t, g), results[0][0], atol=1e-5)
