"""The loop: data order, learning rate, average, and a kill -9 that leaves no trace in the weights."""

import multiprocessing
import time
from dataclasses import asdict

import pytest
import torch

from minipig.devices import pick_device
from minipig.files import load_checkpoint, save_checkpoint
from minipig.guider import NoisyPair, guider_loss
from minipig.phantoms import phantoms
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.segmentation import SegmentationUNet
from minipig.train import Speed, Training, batch_indices, fit, rate, update_average
from minipig.unet import PRESETS, PairedUNet

TRAINING = Training(steps=80, batch=4, warmup=5, mirror=True, seed=3)


def train(checkpoint, training=TRAINING, every=4):
    torch.set_num_threads(1)  # equal threads, equal sums
    net = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)
    for progress in fit(net, guider_loss, phantoms(10, (16, 16)), training, checkpoint, every):
        pass
    return progress


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("whole")
    yield train(folder / "net.ckpt"), load_checkpoint(folder / "net.ckpt", set())
    torch.set_num_threads(threads)


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


def test_ctrl_c_in_a_step_leaves_the_statistics_of_batches_as_before_it(tmp_path):
    """A network with BatchNorm: the interrupted step's forward pass has moved them, and the step will be taken again."""
    pairs, training, calls = phantoms(10, (16, 16)), Training(steps=12, batch=4, warmup=2), []

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
        for progress in fit(net, segment(stops), pairs, training, tmp_path / name, every=5):
            pass
        return progress

    with pytest.raises(KeyboardInterrupt):
        run("stopped", stops=8)
    assert load_checkpoint(tmp_path / "stopped", set())["step"] == 7
    again, whole = run("stopped"), run("whole")
    assert len(calls) == 12 and equal(again.model.state_dict(), whole.model.state_dict())
    assert equal(again.average.state_dict(), whole.average.state_dict())


def test_a_finished_training_is_not_repeated(tmp_path, undisturbed):
    train(tmp_path / "net.ckpt")
    start = (tmp_path / "net.ckpt").stat().st_mtime_ns
    assert train(tmp_path / "net.ckpt").step == TRAINING.steps
    assert (tmp_path / "net.ckpt").stat().st_mtime_ns == start


def test_training_learns(undisturbed):
    """On equal noise, new to both, the trained network predicts better than the untrained one."""
    pair = NoisyPair.draw(*phantoms(64, (16, 16), seed=1)[:], Schedule(), generator("test", 0))
    fresh = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)
    with torch.no_grad():
        before, after = (guider_loss(net, pair).item() for net in (fresh, undisturbed[0].model))
    assert len(undisturbed[0].losses) == 80 and after < 0.9 * before


def test_every_epoch_shows_every_pair_once():
    training = Training(batch=4, seed=1)
    order = torch.cat([batch_indices(10, training, step) for step in range(5)])
    assert order[:10].sort().values.tolist() == order[10:].sort().values.tolist() == list(range(10))
    assert order[:10].tolist() != order[10:].tolist()
    big = batch_indices(3, Training(batch=7), 0)
    assert big[:3].sort().values.tolist() == big[3:6].sort().values.tolist() == [0, 1, 2]


def test_rate_warms_up_and_decays_to_zero():
    training = Training(steps=1000, rate=2e-3, warmup=100)
    rates = [rate(training, step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-5) and max(rates) < 2e-3 and 90 < rates.index(max(rates)) < 105 and rates[-1] < 1e-7
    assert rates[500] == pytest.approx(1e-3)
    assert rate(Training(rate=2e-3, warmup=0), 0) == pytest.approx(2e-3)


def test_average_is_exponential():
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.9 * a.weight.detach() + 0.1 * b.weight.detach()
    update_average(a, b, 0.9)
    assert torch.allclose(a.weight, expected)


def test_a_loss_that_is_not_finite_stops_the_training():
    net = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(FloatingPointError, match="the loss is nan, its gradient nan at step 1"):
        list(fit(net, lambda m, pair: m(pair.y0).mean() * float("nan"), phantoms(4, (16, 16)), TRAINING))
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_foreign_checkpoints_are_refused(tmp_path, undisturbed):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, undisturbed[1])
    with pytest.raises(ValueError, match="net.ckpt belongs to .*'steps': 80.*choose another folder"):
        train(path, Training(steps=41, batch=4, warmup=5, mirror=True, seed=3))
    save_checkpoint(path, undisturbed[1] | {"data": "others"})
    with pytest.raises(ValueError, match="net.ckpt was trained on other pairs"):
        train(path)
    save_checkpoint(path, {"step": 3})
    with pytest.raises(ValueError, match="net.ckpt is no checkpoint of minipig"):
        train(path)
    save_checkpoint(path, undisturbed[1] | {"model": {"weight": torch.zeros(1)}, "training": asdict(TRAINING)})
    with pytest.raises(ValueError, match="net.ckpt holds another network"):
        train(path)


def test_an_infinite_gradient_stops_before_the_weights(tmp_path):
    net = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(FloatingPointError, match="its gradient"):
        list(fit(net, lambda m, pair: (m(pair.y0) * 0).sqrt().sum(), phantoms(4, (16, 16)), TRAINING, tmp_path / "n.ckpt", 1))
    assert all(torch.isfinite(p).all() for p in net.parameters()) and not (tmp_path / "n.ckpt").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_truncated_checkpoints_are_told(tmp_path, undisturbed, keep):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, undisturbed[1])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="net.ckpt is not a whole checkpoint .*delete it to start afresh"):
        train(path)


def curve(every=200, **speed):
    """The losses of 20 steps on a fixed set."""
    net = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)
    training = Training(steps=20, batch=6, warmup=5, mirror=True, seed=3)
    *_, last = fit(net, guider_loss, phantoms(10, (16, 16)), training, every=every, speed=Speed(**speed))
    return torch.tensor(last.losses)


def test_accumulation_changes_nothing():
    """Whole batches, and parts of 2 + 2 + 1 + 1 pairs."""
    assert (curve(bfloat16=False) - curve(bfloat16=False, accumulate=4)).abs().max() < 1e-5


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="a batch of 6 cannot be shared by 1 processes in 7 parts"):
        curve(accumulate=7)


def test_autocast_trains_as_float32_does():
    """The branch that a GPU takes, and a CPU without bfloat16 does not: the same curve to the format's rounding."""
    assert 0 < (curve(bfloat16=True) - curve(bfloat16=False)).abs().max() < 0.02


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
def test_a_compiled_network_learns_the_same():
    """Two convolutions, as compiling a U-Net takes minutes."""

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, z, t, guide):
            return self.b(torch.nn.functional.silu(self.a(torch.cat([z, guide], dim=1))))

    curves, short = [], Training(steps=5, batch=4, warmup=1)
    for compiled in (False, True):
        net, speed = seeded_network(Small, 0), Speed(compiled=compiled, bfloat16=False)
        *_, last = fit(net, guider_loss, phantoms(10, (16, 16)), short, speed=speed)
        curves.append(torch.tensor(last.losses))
        assert last.model is net and not any("_orig_mod" in key for key in net.state_dict())
    assert (curves[0] - curves[1]).abs().max() < 1e-4


def test_losses_that_are_read_late_are_complete_and_stop_before_a_bad_state_is_saved(tmp_path, monkeypatch):
    """The branch of a GPU, whose results are not waited for."""
    on_time = curve(every=8)
    monkeypatch.setattr("minipig.train.waits_for_results", lambda device: False)
    assert torch.equal(curve(every=8), on_time)
    net, path = torch.nn.Conv2d(1, 1, 1), tmp_path / "n.ckpt"

    def breaks(model, pair, calls=[]):  # noqa: B006
        calls.append(0)
        return model(pair.y0).mean() * (float("nan") if len(calls) == 6 else 1.0)

    with pytest.raises(FloatingPointError, match="the loss is nan, its gradient nan at step 6"):
        list(fit(net, breaks, phantoms(4, (16, 16)), TRAINING, path, every=4))
    saved = load_checkpoint(path, set())
    assert saved["step"] == len(saved["losses"]) == 4 and all(torch.isfinite(w).all() for w in saved["model"].values())


def test_device_is_chosen_or_given():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"
    for name in ("warp", "meta"):
        with pytest.raises(ValueError, match=f"'{name}' is not a device"):
            pick_device(name)
