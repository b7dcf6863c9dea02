"""On a GPU: every preset, both number formats, equal noise, resuming elsewhere, memory.

Skipped where there is no GPU. GPU_TESTS=cpu tries the tests themselves on a CPU, at small sizes.
"""

import os
from contextlib import closing

import pytest
import torch
from torch import nn

from minipig.data.phantoms import phantoms
from minipig.extras.solvers import SOLVERS
from minipig.guider import model_x_loss, model_y_loss
from minipig.rules import Clean
from minipig.sampler import PairModel, sample
from minipig.schedule import Schedule
from minipig.seeds import seeded_network
from minipig.training.loop import Training, finish, fit
from minipig.training.speed import Speed
from minipig.unet import PRESETS, PairedUNet

DEVICE = os.environ.get("GPU_TESTS", "cuda")
ON_GPU = DEVICE == "cuda"
pytestmark = pytest.mark.skipif(
    ON_GPU and not torch.cuda.is_available(), reason="there is no GPU; nothing here was tested"
)
only_gpu = pytest.mark.skipif(not ON_GPU, reason="a CPU has no such memory, and compiles slowly")
SIZES = {"tiny": 32, "cpu": 32, "cpu128": 64, "gpu": 64, "paper": 512 if ON_GPU else 64}
FLOAT32 = Speed(bfloat16=False, channels_last=False, recompute=False)


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """Without TF32, whose ten bits are fewer than what is compared here."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def network(preset, seed=0, device=DEVICE):
    """A network whose last layers are not zero, as if it had been trained."""
    net = seeded_network(lambda: PairedUNet(**PRESETS[preset]), seed)
    for weight in net.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.02)
    return net.to(device)


def trained(net, pairs, steps=2, speed=FLOAT32, **how):
    return finish(fit(net, model_x_loss, pairs, Training(steps, batch=2), speed=speed, **how))


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_network_of_each_preset_trains_and_samples(preset, bfloat16):
    size = (SIZES[preset], SIZES[preset])
    pairs = phantoms(4, size, seed=0)
    speed = Speed(bfloat16=bfloat16, channels_last=True, recompute=preset == "paper")
    ends = [trained(network(preset, seed), pairs, speed=speed) for seed in (0, 1)]
    assert all(torch.tensor(end.losses).isfinite().all() for end in ends)
    pair = PairModel(*(end.average for end in ends), Schedule.linear(), Clean())
    ((masks, slices),) = sample(pair, 1, size, steps=3, device=DEVICE, solver=SOLVERS["dpm++2m"])
    assert masks.device.type == slices.device.type == "cpu" and slices.isfinite().all()


@pytest.mark.parametrize("preset", ["tiny", "cpu"])
def test_equal_noise_gives_equal_pairs_on_either_device(preset):
    drawn = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)  # for the layers that would be zero
        nets = (network(preset, seed, device) for seed in (0, 1))
        pair = PairModel(*nets, Schedule.linear(), Clean())
        how = dict(steps=25, device=device, solver=SOLVERS["dpm++2m"])
        drawn.append(next(sample(pair, 4, (32, 32), **how))[1])
    assert (drawn[0] - drawn[1]).abs().max() < 1e-4


@pytest.mark.parametrize("first, then", [(DEVICE, "cpu"), ("cpu", DEVICE)])
def test_a_training_resumes_on_another_device(tmp_path, first, then):
    pairs, steps = phantoms(8, (32, 32), seed=0), Training(6, batch=4)
    ends = {}
    for name, stop in (("whole", 6), ("halves", 3)):
        how = dict(checkpoint=tmp_path / f"{name}.ckpt", speed=FLOAT32)
        net = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0).to(first)
        with closing(fit(net, model_x_loss, pairs, steps, **how)) as training:
            for progress in training:
                if progress.step == stop:
                    break
        if stop < 6:
            net = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0).to(then)
            progress = finish(fit(net, model_x_loss, pairs, steps, **how))
        ends[name] = torch.tensor(progress.losses)
    assert torch.allclose(ends["whole"], ends["halves"], rtol=1e-3)


@only_gpu
def test_the_paper_s_batch_fits_and_recomputing_saves_memory():
    """Batches of 6 at 512x512, as in the released configuration."""
    pairs, peaks = phantoms(6, (512, 512), seed=0), {}
    for recompute in (False, True):
        torch.cuda.reset_peak_memory_stats()
        speed = Speed(bfloat16=True, channels_last=True, recompute=recompute)
        steps = fit(network("paper"), model_x_loss, pairs, Training(2, batch=6), speed=speed)
        finish(steps)
        peaks[recompute] = torch.cuda.max_memory_allocated() / 1e9
        print(f"preset paper, 6 of 512x512, recompute {recompute}: {peaks[recompute]:.1f} GB")
    assert peaks[True] < 0.8 * peaks[False] and peaks[True] < 24  # a common card


@only_gpu
def test_a_compiled_network_learns_the_same():
    pairs = phantoms(4, (32, 32), seed=0)
    losses = [
        trained(network("tiny"), pairs, speed=Speed(compiled=compiled, bfloat16=False)).losses
        for compiled in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_model_y_trains_beside_a_frozen_guider_of_the_same_device():
    pairs = phantoms(4, (32, 32), seed=0)
    guider = network("tiny").eval().requires_grad_(False)
    loss = lambda net, pair: model_y_loss(net, pair, Clean())  # noqa: E731
    end = finish(
        fit(network("tiny", 1), loss, pairs, Training(2, batch=2), guider=guider, speed=FLOAT32)
    )
    assert torch.tensor(end.losses).isfinite().all()
