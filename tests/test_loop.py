"""The loop: the order of the data, the learning rate, the average, and the schedule."""

from contextlib import closing

import numpy as np
import pytest
import torch

from minipig.data.files import load_checkpoint
from minipig.data.phantoms import phantoms
from minipig.guider import NoisyPair, model_x_loss, model_y_loss
from minipig.rules import Matched
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.training import loop
from minipig.training.checkpoint import KEYS
from minipig.training.loop import (
    Training,
    batch_indices,
    finish,
    fit,
    noisy_batch,
    rate,
    update_average,
)
from minipig.unet import PRESETS, PairedUNet

TRAINING = Training(steps=80, batch=4, warmup=5, mirror=True, seed=3)
PAIRS = phantoms(10, (16, 16))


def tiny(seed=0, **options):
    return seeded_network(lambda: PairedUNet(**PRESETS["tiny"], **options), seed)


class Spy(torch.nn.Module):
    """A network of one weight that keeps what its loss is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen = []

    def loss(self, net, pair):
        self.seen.append(pair)
        return (net.weight * pair.yt).square().mean()


@pytest.mark.parametrize("schedule", [None, Schedule.cosine()], ids=["linear", "cosine"])
def test_training_learns(schedule):
    """On equal noise, new to both, the trained network predicts better than the untrained one."""
    net = tiny(schedule=schedule)
    *_, last = fit(net, model_x_loss, PAIRS, TRAINING, schedule=schedule)
    unseen = phantoms(64, (16, 16), seed=1)[:]
    pair = NoisyPair.draw(*unseen, schedule or Schedule.linear(), generator("test", 0))
    with torch.no_grad():
        before = model_x_loss(tiny(schedule=schedule), pair).item()
        after = model_x_loss(last.model, pair).item()
    assert len(last.losses) == 80 and last.model is net and after < 0.9 * before


def test_a_progress_comes_after_each_step():
    steps = list(fit(tiny(), model_x_loss, PAIRS, Training(steps=3, batch=2)))
    assert [(p.step, p.steps) for p in steps] == [(1, 3), (2, 3), (3, 3)]
    last = steps[-1]
    assert last.recent == pytest.approx(sum(last.losses) / 3) and len(last.losses) == 3
    assert not any(p.requires_grad for p in last.average.parameters())
    assert last.average is not last.model and not last.average.training


def test_the_noise_is_that_of_the_given_schedule():
    """The batch of every step, and its noise, are a function of the training and the schedule."""
    training = Training(steps=4, batch=6, mirror=True, seed=5)
    for schedule in (None, Schedule.linear(T=20), Schedule.cosine(T=20)):
        spy = Spy()
        list(fit(spy, spy.loss, PAIRS, training, schedule=schedule))
        for step, pair in enumerate(spy.seen):
            wanted = noisy_batch(PAIRS, training, step, schedule or Schedule.linear(), None)
            for name in ("x0", "y0", "t", "eps_1", "eps_2", "xt", "yt"):
                assert torch.equal(getattr(pair, name), getattr(wanted, name))
            assert pair.schedule == (schedule or Schedule.linear())


def test_a_guider_gives_the_estimate_and_is_not_trained():
    guider = tiny(1)
    before = [p.clone() for p in guider.parameters()]

    def loss(net, pair):
        assert pair.model_x is guider
        return model_y_loss(net, pair, Matched())

    list(fit(tiny(), loss, PAIRS, Training(steps=2, batch=2), guider=guider))
    assert all(torch.equal(a, b) for a, b in zip(before, guider.parameters()))
    assert all(p.grad is None for p in guider.parameters())


def test_every_epoch_shows_every_pair_once():
    training = Training(batch=4, seed=1)
    order = torch.cat([batch_indices(10, training, step) for step in range(5)])
    first = order[:10]
    second = order[10:]
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()
    big = batch_indices(3, Training(batch=7), 0)
    assert big[:3].sort().values.tolist() == big[3:6].sort().values.tolist() == [0, 1, 2]


def test_mirroring_turns_half_of_the_pairs_mask_and_slice_together():
    many = Training(batch=400, seed=2)
    plain = noisy_batch(PAIRS, many, 0, Schedule.linear(), None)
    mirrored = noisy_batch(PAIRS, Training(batch=400, seed=2, mirror=True), 0, plain.schedule, None)
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(mirrored.y0, plain.y0)]
    assert 160 < sum(turned) < 240
    for i, flip in enumerate(turned):
        assert flip or torch.equal(mirrored.y0[i], plain.y0[i])
        assert torch.equal(mirrored.x0[i], plain.x0[i].flip(-1) if flip else plain.x0[i])


def test_rate_warms_up_and_decays_to_zero():
    training = Training(steps=1000, rate=2e-3, warmup=100)
    rates = [rate(training, step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-5) and rates[-1] < 1e-7
    assert max(rates) < 2e-3 and 90 < rates.index(max(rates)) < 105
    assert rates[500] == pytest.approx(1e-3)
    assert rate(Training(rate=2e-3, warmup=0), 0) == pytest.approx(2e-3)


def test_average_is_exponential():
    a = torch.nn.Linear(2, 2)
    b = torch.nn.Linear(2, 2)
    expected = 0.9 * a.weight.detach() + 0.1 * b.weight.detach()
    update_average(a, b, 0.9)
    assert torch.allclose(a.weight, expected)


def test_the_average_has_the_statistics_of_batches_and_their_counter():
    a = torch.nn.BatchNorm2d(1)
    b = torch.nn.BatchNorm2d(1)
    b(torch.full((4, 1, 2, 2), 10.0))  # running mean 1
    update_average(a, b, 0.75)
    assert a.running_mean.item() == pytest.approx(0.25) and a.num_batches_tracked == 1


def test_tied_weights_and_unsaved_buffers_are_averaged_once():
    def net(value):
        made = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False) for _ in range(2)])
        made[1].weight = made[0].weight
        made.register_buffer("unsaved", torch.tensor(float(value)), persistent=False)
        torch.nn.init.constant_(made[0].weight, value)
        return made

    mean = net(1)
    update_average(mean, net(2), 0.9)
    assert mean[0].weight.item() == pytest.approx(1.1) == mean.unsaved.item()


def test_a_network_that_is_looked_at_goes_on_training():
    seen = []
    for progress in fit(torch.nn.BatchNorm2d(1), bright, PAIRS, Training(steps=4, batch=2)):
        seen.append(int(progress.model.num_batches_tracked))
        progress.model.eval()
    assert seen == [1, 2, 3, 4]


def bright(net, pair):
    return net(pair.y0).square().mean()


def test_numbers_of_numpy_can_be_resumed(tmp_path):
    how = Training(steps=np.int64(6), batch=np.int64(4), rate=np.float64(1e-3))
    with closing(fit(tiny(), model_x_loss, PAIRS, how, tmp_path / "net.ckpt")) as steps:
        while next(steps).step < 3:
            pass
    *_, last = fit(tiny(), model_x_loss, PAIRS, how, tmp_path / "net.ckpt")
    assert last.step == 6 and type(how.rate) is float


def test_a_training_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        Training(steps=0)


def test_finish_runs_to_the_end_and_returns_the_last_progress(capsys):
    last = finish(fit(tiny(), model_x_loss, PAIRS, Training(steps=3, batch=2)), "tiny")
    assert last.step == last.steps == 3 and len(last.losses) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_finish_closes_the_training_if_it_is_interrupted(tmp_path, monkeypatch):
    """Ctrl-C between two steps, as in the progress bar: the training is saved."""
    path = tmp_path / "net.ckpt"
    updates = []

    class Bar(loop.tqdm):
        def update(self, n=1):
            updates.append(n)
            if len(updates) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(loop, "tqdm", Bar)
    steps = fit(tiny(), model_x_loss, PAIRS, Training(steps=5, batch=2), path)
    with pytest.raises(KeyboardInterrupt):
        finish(steps)
    assert load_checkpoint(path, KEYS)["step"] == 2 and next(steps, None) is None
