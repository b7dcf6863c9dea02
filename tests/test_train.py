"""The loop: data order, learning rate, average, and a kill -9 that leaves no trace in the weights."""

import multiprocessing
import time
from dataclasses import asdict

import pytest
import torch

from minipig.files import load_checkpoint, save_checkpoint
from minipig.guider import NoisyPair, guider_loss
from minipig.phantoms import phantoms
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.train import Training, batch_indices, fit, pick_device, rate, update_average
from minipig.unet import PRESETS, PairedUNet

TRAINING = Training(steps=80, batch=4, warmup=5, mirror=True, seed=3)


def loss(model, x0, y0, draw):
    return guider_loss(model, NoisyPair.draw(x0, y0, Schedule(), draw))


def train(checkpoint, training=TRAINING, every=4):
    torch.set_num_threads(1)  # equal threads, equal sums
    net = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)
    for progress in fit(net, loss, phantoms(10, (16, 16)), training, checkpoint, every):
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


def test_a_finished_training_is_not_repeated(tmp_path, undisturbed):
    train(tmp_path / "net.ckpt")
    start = (tmp_path / "net.ckpt").stat().st_mtime_ns
    assert train(tmp_path / "net.ckpt").step == TRAINING.steps
    assert (tmp_path / "net.ckpt").stat().st_mtime_ns == start


def test_training_learns(undisturbed):
    """On equal noise, new to both, the trained network predicts better than the untrained one."""
    x0, y0 = phantoms(64, (16, 16), seed=1)[:]
    fresh = seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)
    with torch.no_grad():
        before, after = (loss(net, x0, y0, generator("test", 0)).item() for net in (fresh, undisturbed[0].model))
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


def test_average_is_exponential():
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.9 * a.weight.detach() + 0.1 * b.weight.detach()
    update_average(a, b, 0.9)
    assert torch.allclose(a.weight, expected)


def test_a_loss_that_is_not_finite_stops_the_training():
    net = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(FloatingPointError, match="the loss is nan, its gradient nan at step 1"):
        list(fit(net, lambda m, x0, y0, g: m(y0).mean() * float("nan"), phantoms(4, (16, 16)), TRAINING))
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
        list(fit(net, lambda m, x0, y0, g: (m(y0) * 0).sqrt().sum(), phantoms(4, (16, 16)), TRAINING, tmp_path / "n.ckpt", 1))
    assert all(torch.isfinite(p).all() for p in net.parameters()) and not (tmp_path / "n.ckpt").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_truncated_checkpoints_are_told(tmp_path, undisturbed, keep):
    path = tmp_path / "net.ckpt"
    save_checkpoint(path, undisturbed[1])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="net.ckpt is not a whole checkpoint .*delete it to start afresh"):
        train(path)


def test_device_is_chosen_or_given():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"
    for name in ("warp", "meta"):
        with pytest.raises(ValueError, match=f"'{name}' is not a device"):
            pick_device(name)
