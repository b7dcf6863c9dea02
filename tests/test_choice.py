"""The choice of number format and layout: tried once, kept, overridable, and without a trace."""

import json

import pytest
import torch

from minipig.data.phantoms import phantoms
from minipig.guider import NoisyPair, model_x_loss
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.training import choice
from minipig.training.choice import CANDIDATES, WORTH, cache, decided, described, told, trial
from minipig.training.loop import Training, fit
from minipig.training.speed import Speed
from minipig.unet import PRESETS, PairedUNet

SHAPE = (8, (16, 16))
PAIRS = phantoms(*SHAPE)
PAIR = NoisyPair.draw(*PAIRS[:], Schedule.linear(), generator("choice", 0))


def tiny():
    return seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def best(monkeypatch):
    """best(name): as if a trial had found this candidate the fastest."""

    def found(name):
        seconds = {other: 1.0 + (other != name) for other in CANDIDATES}
        monkeypatch.setattr(choice, "trial", lambda *_: seconds)

    return found


def test_a_trial_times_every_candidate_and_leaves_the_network_as_it_was():
    net = tiny()
    kinds = [type(module) for module in net.modules()]
    seconds = trial(net, model_x_loss, PAIR, 8)
    assert list(seconds) == list(CANDIDATES) and min(seconds.values()) > 0
    assert [type(module) for module in net.modules()] == kinds
    assert all(p.grad is None for p in net.parameters())
    assert all(map(torch.equal, net.state_dict().values(), tiny().state_dict().values()))


def test_a_trial_computes_no_more_pairs_at_once_than_the_training():
    """Batches of eight in parts of two; a candidate that runs out of memory is not taken."""
    seen = []

    def loss(net, pair):
        seen.append(len(pair.x0))
        if torch.is_autocast_enabled("cpu"):
            raise torch.OutOfMemoryError("as a GPU says it")
        return model_x_loss(net, pair)

    speed = decided(Speed(accumulate=4), tiny(), loss, PAIR, WORTH)
    assert set(seen) <= {1, 2} and speed.bfloat16 is False
    (seconds,) = json.loads(cache().read_text()).values()
    assert [name for name, value in seconds.items() if value == float("inf")] == [
        "bfloat16",
        "bfloat16, channels last",
    ]


def test_it_is_tried_once_for_a_machine_and_a_step(monkeypatch):
    net = tiny()
    decided(Speed(), net, model_x_loss, PAIR, WORTH)
    kept = json.loads(cache().read_text())
    assert list(kept) == [described(net, *SHAPE)] and "8 pairs of 16x16" in described(net, *SHAPE)
    monkeypatch.setattr(choice, "trial", lambda *_: pytest.fail("it was tried before"))
    decided(Speed(), net, model_x_loss, PAIR, WORTH)
    cache().write_text("damaged")
    with pytest.raises(pytest.fail.Exception):
        decided(Speed(), net, model_x_loss, PAIR, WORTH)


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_fastest_is_taken(best, name):
    best(name)
    speed = decided(Speed(accumulate=2), tiny(), model_x_loss, PAIR, WORTH)
    assert speed == Speed(accumulate=2, recompute=False, **CANDIDATES[name])


def test_what_is_given_is_kept(best):
    best("bfloat16, channels last")
    net = tiny()
    speed = decided(Speed(bfloat16=False), net, model_x_loss, PAIR, WORTH)
    assert speed.bfloat16 is False  # the faster of the two in float32, here as fast
    given = Speed(bfloat16=False, channels_last=True, recompute=True)
    assert decided(given, net, model_x_loss, PAIR, WORTH) == given


def test_a_short_training_is_plain_and_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(choice, "trial", lambda *_: pytest.fail("not worth it"))
    speed = decided(Speed(), tiny(), model_x_loss, PAIR, WORTH - 1)
    assert speed == Speed(bfloat16=False, channels_last=False, recompute=False)


def test_it_recomputes_if_memory_is_short(monkeypatch):
    """A step of the tiny network on eight pairs keeps some megabytes."""
    net = tiny()
    for free, expected in ((1e6, True), (1e9, False)):
        monkeypatch.setattr(choice, "free_memory", lambda device, free=free: free)
        assert decided(Speed(), net, model_x_loss, PAIR, 1).recompute is expected
        segmenter = torch.nn.Conv2d(1, 1, 3)  # has no stages to recompute
        assert decided(Speed(), segmenter, model_x_loss, PAIR, 1).recompute is False


def test_free_memory_is_that_of_the_system():
    assert 1e6 < choice.free_memory(torch.device("cpu"))


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    speed = decided(Speed(), tiny(), model_x_loss, PAIR, WORTH)
    assert None not in (speed.bfloat16, speed.channels_last, speed.recompute)


def test_the_line_names_the_choice_and_what_was_tried():
    net = tiny()
    speed = Speed(bfloat16=True, channels_last=True, recompute=True)
    assert told(None, net, *SHAPE) == ""
    assert told(speed, net, *SHAPE) == ", in bfloat16, channels last, recomputing"
    trial(net, model_x_loss, PAIR, 8)
    line = told(speed, net, *SHAPE)
    assert "(tried before, ms a step: float32 " in line
    assert all(f"{name} " in line for name in CANDIDATES)


def test_a_training_may_be_resumed_in_another_layout(tmp_path):
    """Its losses go on as in an undisturbed one, to rounding: Adam's moments change layout, too."""
    training = Training(steps=12, batch=4, warmup=2)

    def losses(path, *speeds):
        for last, speed in zip((6, 12), speeds):
            steps = fit(tiny(), model_x_loss, PAIRS, training, path, speed=speed)
            for progress in steps:
                if progress.step == last:
                    break
            steps.close()
        return torch.tensor(progress.losses)

    plain, last = (Speed(bfloat16=False, channels_last=way) for way in (False, True))
    whole = losses(tmp_path / "whole.ckpt", plain, plain)
    for name, ways in {"a": (plain, last), "b": (last, plain)}.items():
        assert (losses(tmp_path / f"{name}.ckpt", *ways) - whole).abs().max() < 1e-5
