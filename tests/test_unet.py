"""PairedUNet: shapes, sizes, guides, and the noise that a fresh network predicts."""

from functools import partial

import pytest
import torch

from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.unet import PRESETS, PairedUNet


def noise(*shape, key=0):
    return torch.randn(shape, generator=generator("test", key))


def shaken(net, key=0):
    """`net` after a random change of all weights: a fresh network's last layer is zero."""
    draw = generator("weights", key)
    for p in net.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=draw)
    return net


@pytest.mark.parametrize("preset", ["tiny", "cpu"])
@pytest.mark.parametrize("size", [(32, 32), (48, 64), (64, 64), (8, 24)])
def test_any_size_that_the_levels_divide(preset, size):
    net = PairedUNet(**PRESETS[preset])
    z = noise(2, 1, *size)
    assert net(z, torch.tensor([1, 1024]), z).shape == z.shape


def test_other_sizes_are_refused_with_the_multiple():
    z = noise(1, 1, 36, 64)
    with pytest.raises(ValueError, match="multiples of 8, not 36x64"):
        PairedUNet(**PRESETS["cpu"])(z, torch.ones(1).long(), z)


def test_unconditional_and_joint_networks():
    t = torch.tensor([7])
    z = noise(1, 1, 16, 16)
    assert PairedUNet(guide=0, **PRESETS["tiny"])(z, t).shape == z.shape
    pair = noise(1, 2, 16, 16)
    assert PairedUNet(channels=2, guide=0, **PRESETS["tiny"])(pair, t).shape == pair.shape
    guide = noise(1, 3, 16, 16)
    assert PairedUNet(guide=3, **PRESETS["tiny"])(z, t, guide).shape == z.shape


def test_a_missing_and_a_wrong_guide_are_refused():
    net = PairedUNet(**PRESETS["tiny"])
    z = noise(1, 1, 16, 16)
    t = torch.tensor([7])
    with pytest.raises(ValueError, match="guide channels: 1 needed, 0 given"):
        net(z, t)
    with pytest.raises(ValueError, match="guide channels: 1 needed, 3 given"):
        net(z, t, noise(1, 3, 16, 16))


def test_predict_takes_two_values():
    with pytest.raises(ValueError, match="'eps' or 'v', not 'x0'"):
        PairedUNet(predict="x0")


@pytest.mark.parametrize("schedule", [None, Schedule.linear(), Schedule.cosine()])
def test_v_prediction_starts_from_the_noise_shortcut(schedule):
    """A fresh network's v is 0: eps = sqrt(1 - abar_t) z_t, and x0_hat = sqrt(abar_t) z_t."""
    net = PairedUNet(**PRESETS["tiny"], schedule=schedule)
    schedule = schedule or Schedule.linear()
    assert net.schedule == schedule
    z = noise(3, 1, 16, 16)
    t = torch.tensor([1, 400, 1000])
    eps = net(z, t, z)
    signal, sigma = schedule.scales(t, z)
    assert torch.allclose(eps, sigma * z)
    assert torch.allclose(schedule.x0_hat(z, t, eps), signal * z, atol=1e-4)


def test_a_v_predicting_network_obeys_its_schedule():
    """Equal weights: the layers' answer v, and eps of it by the network's own schedule."""
    z = noise(3, 1, 16, 16)
    t = torch.tensor([1, 400, 1024])
    answers = []
    for schedule in (Schedule.linear(), Schedule.cosine()):
        build = partial(PairedUNet, **PRESETS["tiny"], schedule=schedule)
        signal, sigma = schedule.scales(t, z)
        answers.append((shaken(seeded_network(build, 0))(z, t, z) - sigma * z) / signal)
    v, again = answers
    assert v.abs().max() > 0.1
    assert torch.allclose(v[:2], again[:2], atol=1e-4)  # at t = 1024 the signal is all but 0


def test_the_network_uses_time_guide_and_image():
    """After a random change of all weights, the output depends on each input."""
    net = shaken(PairedUNet(**PRESETS["tiny"]))
    z = noise(1, 1, 16, 16)
    g = noise(1, 1, 16, 16, key=1)
    t = torch.tensor([5])
    base = net(z, t, g)
    for changed in (net(z + 1, t, g), net(z, t + 500, g), net(z, t, g + 1)):
        assert (changed - base).abs().max() > 1e-3


@pytest.mark.parametrize("base, mults", [(28, (1, 2, 4)), (52, (1, 2)), (100, (1, 2))])
def test_widths_that_32_does_not_divide(base, mults):
    net = PairedUNet(base=base, mults=mults, groups=4, attention=())
    z, t = torch.randn(2, 1, 16, 16), torch.tensor([1, 9])
    assert net(z, t, z).shape == z.shape


def test_paper_preset_is_the_released_configuration():
    net = PairedUNet(**PRESETS["paper"])
    assert (net.base, net.blocks, net.fold, net.predict, net.multiple) == (32, 2, 1, "eps", 32)
    widths = [net.down[i].block.conv2.out_channels for i in range(0, 12, 2)]
    assert widths == [32, 32, 64, 64, 128, 128]
