"""Speed options change results by rounding only: parts of a batch, bfloat16, torch.compile."""

import pytest
import torch

from minipig.data.phantoms import phantoms
from minipig.guider import NoisyPair, model_x_loss
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.training.loop import Training, fit
from minipig.training.speed import Speed, part_of
from minipig.unet import PRESETS, PairedUNet


def curve(**speed):
    """The losses of 20 steps on a fixed set."""
    net = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)
    training = Training(steps=20, batch=6, warmup=5, mirror=True, seed=3)
    *_, last = fit(net, model_x_loss, phantoms(10, (16, 16)), training, speed=Speed(**speed))
    return torch.tensor(last.losses)


@pytest.fixture(scope="module")
def plain():
    return curve(bfloat16=False)


def test_accumulation_changes_nothing(plain):
    """Whole batches, and parts of 2 + 2 + 1 + 1 pairs."""
    assert (plain - curve(bfloat16=False, accumulate=4)).abs().max() < 1e-5


def test_part_of_a_pair_has_the_same_levels_and_noise():
    def model_x(z, t, guide):
        return torch.zeros_like(z)

    schedule = Schedule.linear()
    p = NoisyPair.draw(*phantoms(8, (16, 16))[:], schedule, generator("part"), model_x)
    rows = torch.tensor([5, 2])
    part = part_of(p, rows, torch.device("cpu"))
    for name in ("x0", "y0", "t", "eps_1", "eps_2", "xt", "yt", "x0_hat"):
        assert torch.equal(getattr(part, name), getattr(p, name)[rows])
    assert part.model_x is model_x and part.schedule is schedule


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="6 pairs are too few for 7 parts"):
        curve(accumulate=7)


def test_autocast_trains_as_float32_does(plain):
    """The branch of a GPU, and of a CPU that is fast at it: the same to the format's rounding."""
    assert 0 < (curve(bfloat16=True) - plain).abs().max() < 0.02


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
def test_a_compiled_network_learns_the_same():
    """Two convolutions, as compiling a U-Net takes minutes."""

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Conv2d(2, 4, 3, padding=1)
            self.b = torch.nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, z, t, guide):
            return self.b(torch.nn.functional.silu(self.a(torch.cat([z, guide], dim=1))))

    short = Training(steps=5, batch=4, warmup=1)
    curves = []
    for compiled in (False, True):
        net = seeded_network(Small, 0)
        speed = Speed(compiled=compiled, bfloat16=False)
        *_, last = fit(net, model_x_loss, phantoms(10, (16, 16)), short, speed=speed)
        curves.append(torch.tensor(last.losses))
        assert last.model is net and not any("_orig_mod" in key for key in net.state_dict())
    assert (curves[0] - curves[1]).abs().max() < 1e-4
