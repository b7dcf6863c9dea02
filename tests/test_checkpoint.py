"""Checkpoints: a kill -9 leaves no trace in the weights; files of other trainings are refused."""

import multiprocessing
import signal
import time
from dataclasses import replace

import pytest
import torch

from minipig.data.files import load_checkpoint, locked, save_checkpoint
from minipig.data.phantoms import phantoms
from minipig.guider import model_x_loss
from minipig.schedule import Schedule
from minipig.seeds import seeded_network
from minipig.segmentation import SegmentationUNet
from minipig.training import loop
from minipig.training.checkpoint import KEYS
from minipig.training.devices import terminable
from minipig.training.loop import Training, fit
from minipig.unet import PRESETS, PairedUNet

TRAINING = Training(steps=80, batch=4, warmup=5, mirror=True, seed=3)
SHORT = Training(steps=12, batch=4, warmup=2)


def steps_of(checkpoint, training=TRAINING, every=4, schedule=None, preset="tiny", pairs=10, **how):
    torch.set_num_threads(1)  # equal threads, equal sums
    options = PRESETS[preset] | dict(schedule=schedule) | how
    net = seeded_network(lambda: PairedUNet(**options), 0)
    data = phantoms(pairs, (16, 16))
    return fit(net, model_x_loss, data, training, checkpoint, every, schedule=schedule)


def train(*args, **kwargs):
    *_, progress = steps_of(*args, **kwargs)
    return progress


@pytest.fixture(scope="module", autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The last progress of a whole training, and its checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "net.ckpt"
    return train(path), load_checkpoint(path, KEYS)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The same of a short one."""
    path = tmp_path_factory.mktemp("short") / "net.ckpt"
    return train(path, SHORT), load_checkpoint(path, KEYS)


def equal(a, b):
    """Bit-equal states, however nested."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_a_training_killed_mid_step_resumes_bit_equal(tmp_path, undisturbed):
    checkpoint = tmp_path / "net.ckpt"
    process = multiprocessing.get_context("spawn").Process(target=train, args=(checkpoint,))
    process.start()
    deadline = time.monotonic() + 120
    while not (checkpoint.exists() and load_checkpoint(checkpoint, set())["step"] >= 8):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -9
    killed_at = load_checkpoint(checkpoint, set())["step"]
    assert 8 <= killed_at < TRAINING.steps
    resumed = train(checkpoint)
    assert equal(load_checkpoint(checkpoint, set()), undisturbed[1])
    assert equal(resumed.average.state_dict(), undisturbed[0].average.state_dict())
    assert resumed.losses == undisturbed[0].losses


@pytest.mark.parametrize("stop", [1, 5, 8, 11])
def test_a_training_that_is_left_early_saves_the_last_step_and_resumes_bit_equal(
    tmp_path, short, stop
):
    """The generator is closed, as by a `break` in a notebook's loop."""
    path = tmp_path / "net.ckpt"
    steps = steps_of(path, SHORT, every=5)
    for progress in steps:
        if progress.step == stop:
            break
    steps.close()
    assert load_checkpoint(path, KEYS)["step"] == len(load_checkpoint(path, KEYS)["losses"]) == stop
    resumed = list(steps_of(path, SHORT, every=5))
    assert [p.step for p in resumed] == [stop, *range(stop + 1, 13)]
    assert equal(load_checkpoint(path, KEYS), short[1])
    assert not list(tmp_path.glob(".*.lock"))


def test_what_is_saved_already_is_not_written_again(tmp_path):
    path = tmp_path / "net.ckpt"
    steps = steps_of(path, SHORT, every=5)
    while next(steps).step < 5:
        pass
    written = path.stat().st_mtime_ns
    steps.close()
    assert path.stat().st_mtime_ns == written


def test_ctrl_c_in_a_step_leaves_the_statistics_of_batches_as_before_it(tmp_path):
    """The forward pass of the interrupted step changed them, and the step is taken again."""
    pairs = phantoms(10, (16, 16))
    calls = []

    def segment(stops):
        def loss(net, pair):
            calls.append(pair)
            error = (net(pair.y0) - pair.x0).square().mean()
            if len(calls) == stops:
                raise KeyboardInterrupt
            return error

        return loss

    def run(name, stops=None):
        calls.clear()
        net = seeded_network(lambda: SegmentationUNet(8), 0)
        *_, progress = fit(net, segment(stops), pairs, SHORT, tmp_path / name, every=5)
        return progress

    with pytest.raises(KeyboardInterrupt):
        run("stopped", stops=8)
    assert load_checkpoint(tmp_path / "stopped", set())["step"] == 7
    again = run("stopped")
    whole = run("whole")
    assert len(calls) == 12 and equal(again.model.state_dict(), whole.model.state_dict())
    assert equal(again.average.state_dict(), whole.average.state_dict())


def test_ctrl_c_amid_the_update_saves_no_half_updated_weights(tmp_path, monkeypatch, short):
    """The weights are of step 8, their average of step 7: the file keeps step 5."""
    path = tmp_path / "net.ckpt"
    calls = []

    def interrupted(average, model, keep):
        calls.append(keep)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return update(average, model, keep)

    update = loop.update_average
    monkeypatch.setattr(loop, "update_average", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(path, SHORT, every=5)
    assert load_checkpoint(path, KEYS)["step"] == 5
    monkeypatch.undo()
    train(path, SHORT, every=5)
    assert equal(load_checkpoint(path, KEYS), short[1])


def test_an_error_saves_nothing(tmp_path):
    """Only an interruption does: after an error the state may be what caused it."""
    path = tmp_path / "net.ckpt"
    steps = steps_of(path, SHORT, every=5)
    while next(steps).step < 7:
        pass
    with pytest.raises(RuntimeError, match="broken"):
        steps.throw(RuntimeError("broken"))
    assert load_checkpoint(path, KEYS)["step"] == 5


def test_a_finished_training_is_not_repeated(tmp_path, undisturbed):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, undisturbed[1])
    start = path.stat().st_mtime_ns
    again = train(path)
    assert again.step == TRAINING.steps and again.losses == undisturbed[0].losses
    assert equal(again.average.state_dict(), undisturbed[0].average.state_dict())
    assert path.stat().st_mtime_ns == start


def test_without_a_checkpoint_nothing_is_written(tmp_path, monkeypatch, short):
    monkeypatch.chdir(tmp_path)
    assert equal(train(None, SHORT).model.state_dict(), short[0].model.state_dict())
    assert not list(tmp_path.iterdir())


def test_checkpoints_of_other_trainings_are_refused(tmp_path, short):
    path = tmp_path / "net.ckpt"
    state = short[1]
    save_checkpoint(path, state)
    with pytest.raises(ValueError, match="net.ckpt was made with steps = 12, not "):
        train(path, replace(SHORT, steps=41))
    with pytest.raises(ValueError, match="made with batch = 4, not 5; seed = 0, not 1: use that"):
        train(path, replace(SHORT, batch=5, seed=1))
    with pytest.raises(ValueError, match="net.ckpt was made from other pairs"):
        train(path, SHORT, pairs=11)
    with pytest.raises(ValueError, match="is of a network that predicts v, not eps: use that"):
        train(path, SHORT, predict="eps")
    with pytest.raises(ValueError, match="net.ckpt was saved from a different architecture"):
        train(path, SHORT, preset="cpu")
    save_checkpoint(path, {"step": 3})
    with pytest.raises(ValueError, match="net.ckpt is not a checkpoint of minipig"):
        train(path, SHORT)


def test_a_checkpoint_in_use_is_refused(tmp_path):
    path = tmp_path / "net.ckpt"
    with locked(path), pytest.raises(ValueError, match="another process is writing .*net.ckpt"):
        train(path, SHORT)
    assert train(path, SHORT).step == 12


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_truncated_checkpoints_are_refused(tmp_path, short, keep):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, short[1])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="net.ckpt is unreadable .*if it is damaged, delete it"):
        train(path, SHORT)


@pytest.mark.parametrize("schedule", [None, Schedule.linear(), Schedule.cosine()])
def test_a_checkpoint_names_its_schedule(tmp_path, schedule):
    path = tmp_path / "net.ckpt"
    train(path, SHORT, schedule=schedule)
    saved = load_checkpoint(path, KEYS | {"schedule"})["schedule"]
    wanted = schedule or Schedule.linear()
    assert saved["name"] == wanted.name and torch.equal(saved["beta"], wanted.beta)


def test_a_v_predicting_network_on_the_cosine_schedule_resumes_bit_equal(tmp_path, short):
    cosine = Schedule.cosine()
    whole = train(tmp_path / "whole.ckpt", SHORT, schedule=cosine)
    steps = steps_of(tmp_path / "net.ckpt", SHORT, schedule=Schedule.cosine())
    while next(steps).step < 6:
        pass
    steps.close()
    resumed = train(tmp_path / "net.ckpt", SHORT, schedule=cosine)
    assert resumed.losses == whole.losses
    assert equal(resumed.model.state_dict(), whole.model.state_dict())
    assert not equal(resumed.model.state_dict(), short[0].model.state_dict())


def test_resuming_under_another_schedule_is_refused(tmp_path, short):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, short[1])
    with pytest.raises(ValueError, match="net.ckpt .*linear.*, not .*cosine.*another folder"):
        train(path, SHORT, schedule=Schedule.cosine())
    with pytest.raises(ValueError, match="net.ckpt .*linear.*, not .*another folder"):
        train(path, SHORT, schedule=Schedule.linear(T=100))
    train(tmp_path / "cosine.ckpt", SHORT, schedule=Schedule.cosine())
    with pytest.raises(ValueError, match="cosine.ckpt .*cosine.*, not .*linear.*another folder"):
        train(tmp_path / "cosine.ckpt", SHORT)


def test_a_schedule_of_ones_own_is_resumed(tmp_path):
    own = Schedule.of(Schedule.cosine(T=50).abar[1:])
    path = tmp_path / "net.ckpt"
    next(steps := steps_of(path, SHORT, schedule=own))
    steps.close()
    assert train(path, SHORT, schedule=Schedule.of(Schedule.cosine(T=50).abar[1:])).step == 12
    with pytest.raises(ValueError, match="net.ckpt .*custom.*another folder"):
        train(path, SHORT, schedule=Schedule.of(Schedule.cosine(T=60).abar[1:]))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_an_update_waits_for_its_end(tmp_path, monkeypatch, sign):
    """The step that it interrupts is whole, and saved."""
    path = tmp_path / "net.ckpt"
    steps = []
    update = loop.update_average

    def interrupted(average, model, keep):
        steps.append(1)
        if len(steps) == 7:
            signal.raise_signal(sign)
        update(average, model, keep)

    monkeypatch.setattr(loop, "update_average", interrupted)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a job behind a shell has none
    try:
        with terminable(), pytest.raises(KeyboardInterrupt):
            list(steps_of(path, SHORT, every=50))
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert load_checkpoint(path, KEYS)["step"] == 7
