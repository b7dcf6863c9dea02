"""Losses that are not finite stop a training before they do harm; a GPU's are read late."""

import pytest
import torch

from minipig.data.files import load_checkpoint
from minipig.data.phantoms import phantoms
from minipig.training.loop import Training, fit
from minipig.training.loss_log import LossLog

TRAINING = Training(steps=80, batch=4, warmup=5, mirror=True, seed=3)
PAIRS = phantoms(4, (16, 16))


@pytest.fixture
def late(monkeypatch):
    """The branch of a GPU, whose results are not waited for."""
    monkeypatch.setattr("minipig.training.loss_log.waits_for_results", lambda device: False)


def run(net, loss, path=None, every=200):
    return list(fit(net, loss, PAIRS, TRAINING, path, every))


def broken_at(step):
    """A loss that is finite but for one step."""
    calls = []

    def loss(model, pair):
        calls.append(0)
        return model(pair.y0).mean() * (float("nan") if len(calls) == step else 1.0)

    return loss


def test_a_loss_that_is_not_finite_stops_the_training():
    net = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(FloatingPointError, match="the loss is nan .* norm nan at step 1,"):
        run(net, broken_at(1))
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_the_error_names_the_pairs_and_a_remedy():
    def nothing(step):
        return [f"{step}_{i}.png" for i in range(10)]

    losses = LossLog([], nothing, 3e-4)
    losses.add(6, torch.tensor(1.0), torch.tensor(2.0))
    with pytest.raises(FloatingPointError) as caught:
        losses.add(7, torch.tensor(float("inf")), torch.tensor(2.0))
    line = str(caught.value)
    assert "at step 8, on 7_0.png, 7_1.png" in line and "7_7.png and 2 others" in line
    assert "with a rate below 0.0003" in line and "\n" not in line


def test_an_infinite_gradient_stops_before_the_weights(tmp_path):
    net = torch.nn.Conv2d(1, 1, 1)
    path = tmp_path / "n.ckpt"
    with pytest.raises(FloatingPointError, match="gradient's norm"):
        run(net, lambda m, pair: (m(pair.y0) * 0).sqrt().sum(), path, 1)
    assert all(torch.isfinite(p).all() for p in net.parameters()) and not path.exists()


def test_losses_are_read_after_each_step_on_a_cpu():
    values = []
    losses = LossLog(values, str, 3e-4)
    losses.add(0, torch.tensor(0.5), torch.tensor(1.0))
    assert values == [0.5] and not losses.unread


def test_losses_of_a_gpu_are_read_when_the_state_is_saved(late):
    net = torch.nn.Conv2d(1, 1, 1)
    steps = fit(net, lambda m, pair: m(pair.y0).mean(), PAIRS, Training(steps=5, batch=4), every=3)
    assert [len(progress.losses) for progress in steps] == [0, 0, 3, 3, 5]
    values = []
    losses = LossLog(values, str, 3e-4)
    for step in range(5):
        losses.add(step, torch.tensor(float(step)), torch.tensor(1.0))
        assert values == []
    losses.read()
    losses.read()
    assert values == [0, 1, 2, 3, 4]


def test_losses_that_are_read_late_are_the_same(late, monkeypatch):
    def linear(model, pair):
        return model(pair.y0).square().mean()

    def curve():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = torch.nn.Conv2d(1, 1, 1)
        return run(net, linear, every=8)[-1].losses

    read_late = curve()
    monkeypatch.undo()
    assert read_late == curve() and len(read_late) == 80


def test_losses_that_are_read_late_stop_before_a_bad_state_is_saved(tmp_path, late):
    net = torch.nn.Conv2d(1, 1, 1)
    path = tmp_path / "n.ckpt"
    with pytest.raises(FloatingPointError, match="the loss is nan .* norm nan at step 6,"):
        run(net, broken_at(6), path, every=4)
    saved = load_checkpoint(path, set())
    assert saved["step"] == len(saved["losses"]) == 4
    assert all(torch.isfinite(w).all() for w in saved["model"].values())


def test_losses_that_were_not_read_yet_are_saved_on_interruption(tmp_path, late):
    path = tmp_path / "n.ckpt"
    net = torch.nn.Conv2d(1, 1, 1)
    steps = fit(net, lambda m, pair: m(pair.y0).mean(), PAIRS, TRAINING, path, every=50)
    while next(steps).step < 7:
        pass
    steps.close()
    saved = load_checkpoint(path, set())
    assert saved["step"] == len(saved["losses"]) == 7
