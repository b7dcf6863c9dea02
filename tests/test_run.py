"""A run: its configuration, its folder, and the pair model that is loaded from it."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from minipig.data.checks import HELD_OUT
from minipig.data.classical import augment
from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.data.phantoms import phantoms
from minipig.rules import Clean, Sign
from minipig.sampler import sample
from minipig.schedule import Schedule
from minipig.training import config as run_config
from minipig.training import curves, run
from minipig.training.config import Config, check_room, load_data, network
from minipig.training.curves import read_curves
from minipig.training.run import load_pair, load_start, train_pair, weights_of
from minipig.unet import PairedUNet

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
TINY = Config(pairs=8, size=(16, 16), preset="tiny", steps=3, batch=2)
OWN = """
import torch

class Faint:
    def train(self, pair):
        return 0.5 * pair.x0

    def sample(self, state):
        return 0.5 * state.x0_hat
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "clean"
    train_pair(out, TINY, load_data(TINY)[0], CPU)
    return out


@pytest.fixture(scope="module")
def cosine(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cosine"
    config = replace(TINY, schedule="cosine")
    train_pair(out, config, load_data(config)[0], CPU)
    return out


def copied(run, folder):
    """A copy of a run."""
    return Path(shutil.copytree(run, folder / "copy"))


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(steps=0), "steps must be at least 1, not 0"),
        (dict(batch=0), "batch must be at least 1, not 0"),
        (dict(deformed=-1), "deformed must be at least 0, not -1"),
        (dict(seed=-1), "seed must be at least 0, not -1"),
        (dict(seed=2**31), "seed must be below 2147483648"),
        (dict(rate=0.0), "rate must be above 0, not 0.0"),
        (dict(rate=float("nan")), "rate must be above 0, not nan"),
        (dict(holdout=1.0), "holdout must be at least 0 and below 1, not 1.0"),
        (dict(holdout=-0.1), "holdout must be at least 0 and below 1"),
        (dict(schedule="square"), "unknown schedule square; choose one of linear, cosine"),
    ],
)
def test_impossible_configurations_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)


@pytest.mark.parametrize("use", HELD_OUT)
def test_held_out_phantoms_are_not_trained_on(use):
    for seed in (HELD_OUT[use][0], HELD_OUT[use][-1]):
        with pytest.raises(ValueError, match=rf"seed {seed} is kept for testing \({use}\)"):
            Config(seed=seed)
        assert Config(data="folder", seed=seed).seed == seed  # real data have no such seeds


def test_the_schedule_goes_by_its_name():
    assert Config().noise_schedule == Schedule.linear()
    assert Config(schedule="cosine").noise_schedule == Schedule.cosine()


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_networks_are_built_on_the_schedule(name):
    config = Config(preset="tiny", schedule=name)
    net = network(config, 0)
    assert type(net) is PairedUNet and net.predict == "v" and net.schedule == config.noise_schedule
    again = network(config, 0).state_dict()
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.values()))
    assert not torch.equal(net.enter.weight, network(config, 1).enter.weight)


def test_a_size_that_the_network_cannot_halve_is_refused_before_data_are_read():
    with pytest.raises(ValueError, match="multiples of 8, not 20x20"):
        load_data(replace(TINY, data="missing", size=(20, 20)))


def test_networks_learn_from_deformed_pairs_as_well(trained, tmp_path, monkeypatch):
    """Of the pairs trained on alone, not mirrored; what is measured beside stays real."""
    config = replace(TINY, pairs=16, holdout=0.25, deformed=30)
    pairs, held_out = load_data(config)
    learnt = []
    real_fit = run.fit
    monkeypatch.setattr(
        run, "fit", lambda *args, **how: learnt.append(args[2]) or real_fit(*args, **how)
    )
    train_pair(tmp_path / "run", config, pairs, CPU, held_out=held_out)
    expected = pairs + augment(pairs, 30, config.seed, None)
    assert [part.fingerprint() for part in learnt] == 2 * [expected.fingerprint()]
    start = load_start(tmp_path / "run")
    assert start.config == config and start.seen == set(pairs.known_by())


def test_deformed_pairs_that_do_not_fit_into_memory_are_refused(monkeypatch):
    monkeypatch.setattr(run_config, "free_memory", lambda device: 8e9)
    large = replace(TINY, data="missing", size=(512, 512), deformed=9000)
    with pytest.raises(
        ValueError, match="9,000 deformed pairs of 512x512 need 35.4 GB, and 8.0 are"
    ):
        check_room(large)


def test_data_are_phantoms_or_a_folder(tmp_path):
    pairs, held_out = load_data(TINY)
    assert len(pairs) == 8 and pairs.size == (16, 16) and held_out is None
    assert pairs.fingerprint() == phantoms(8, (16, 16), 0).fingerprint()
    phantoms(6, (20, 16)).save(tmp_path)
    pairs, held_out = load_data(replace(TINY, data=str(tmp_path)))
    assert len(pairs) == 6 and pairs.size == (16, 16) and held_out is None
    with pytest.raises(FileNotFoundError):
        load_data(replace(TINY, data=str(tmp_path / "missing")))


def test_held_out_patients_are_not_trained_on():
    known, held_out = load_data(replace(TINY, pairs=40, holdout=0.25))
    assert len(known) + len(held_out) == 40 and 4 <= len(held_out) <= 16
    assert not set(known.patients) & set(held_out.patients)


def test_a_run_has_its_files_and_the_pair_model_of_its_weights(trained):
    files = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    assert files == {
        "config.json",
        "losses.csv",
        "losses.png",
        "model_x.ckpt",
        "model_y.ckpt",
        "pair.pt",
    }
    losses, held_out = read_curves(trained)
    assert not held_out  # nobody was held out
    assert set(losses) == {"model_x", "model_y"} and all(len(v) == 3 for v in losses.values())
    pair, config = load_pair(trained)
    assert config == TINY and type(pair.rule) is Clean and pair.schedule == Schedule.linear()
    for name, net in (("model_x", pair.model_x), ("model_y", pair.model_y)):
        assert not net.training and not any(p.requires_grad for p in net.parameters())
        average = load_checkpoint(trained / f"{name}.ckpt", {"average"})["average"]
        for key, weight in net.state_dict().items():
            assert torch.equal(weight, average[key].half().float())


def test_the_two_networks_share_neither_weights_nor_noise(trained):
    seeds = [
        load_checkpoint(trained / f"{name}.ckpt", set())["training"]["seed"]
        for name in ("model_x", "model_y")
    ]
    assert seeds == [0, 1]
    pair, _ = load_pair(trained)
    assert not torch.equal(pair.model_x.enter.weight, pair.model_y.enter.weight)


def test_a_training_goes_on_from_a_run_s_weights_with_noise_of_its_own(trained, tmp_path):
    start = load_start(trained)
    config = replace(TINY, start=weights_of(trained), rate=1e-12)
    train_pair(tmp_path / "on", config, load_data(config)[0], CPU, start=start)
    for name in ("model_x", "model_y"):
        runs = (tmp_path / "on", trained)
        mine, theirs = (load_checkpoint(at / f"{name}.ckpt", set()) for at in runs)
        for key, weight in start.networks[name].state_dict().items():
            assert torch.allclose(mine["average"][key], weight, atol=1e-6)
        assert mine["training"]["seed"] % 2 == theirs["training"]["seed"] % 2
        assert mine["training"]["seed"] != theirs["training"]["seed"]
    # other weights, other noise
    again = replace(config, start=weights_of(tmp_path / "on")[::-1])
    with pytest.raises(ValueError, match="or go on from this run: --from .*on and another --out"):
        train_pair(tmp_path / "on", again, load_data(config)[0], CPU, start=start)


def test_a_finished_run_is_not_trained_again(trained, tmp_path, monkeypatch):
    out = copied(trained, tmp_path)
    before = {name: (out / name).read_bytes() for name in ("model_x.ckpt", "model_y.ckpt")}
    monkeypatch.setattr(run, "model_x_loss", None)  # any step would fail
    train_pair(out, TINY, load_data(TINY)[0], CPU)
    assert all((out / name).read_bytes() == content for name, content in before.items())
    assert weights_of(out) == weights_of(trained)


def test_a_run_that_lost_its_end_is_completed(trained, tmp_path):
    """Equal weights: model_y is trained again, from the guider's checkpoint."""
    out = copied(trained, tmp_path)
    for name in ("pair.pt", "model_y.ckpt", "losses.csv"):
        (out / name).unlink()
    train_pair(out, TINY, load_data(TINY)[0], CPU)
    mine, theirs = (load_checkpoint(at / "pair.pt", {"model_y"}) for at in (out, trained))
    for key, weight in theirs["model_y"].items():
        assert torch.allclose(mine["model_y"][key].float(), weight.float(), atol=1e-3)


def test_losses_are_drawn_as_they_fall(tmp_path, monkeypatch):
    """After each of three steps of either network, and at the end."""
    drawn = []
    write = curves.write_figure
    monkeypatch.setattr(run, "REDRAW", 1)
    monkeypatch.setattr(curves, "write_figure", lambda *a: drawn.append(a[0].name) or write(*a))
    train_pair(tmp_path / "run", TINY, load_data(TINY)[0], CPU)
    assert drawn == ["losses.png"] * 7


def test_a_folder_of_another_configuration_is_refused(trained, tmp_path):
    out = copied(trained, tmp_path)
    for change, message in (
        (dict(steps=4), "steps 3 there, 4 here"),
        (dict(rule="matched"), "rule 'clean' there, 'matched' here"),
        (dict(schedule="cosine"), "schedule 'linear' there, 'cosine' here"),
    ):
        with pytest.raises(ValueError, match=message):
            train_pair(out, replace(TINY, **change), load_data(TINY)[0], CPU)


def test_a_cosine_run_trains_and_samples_on_the_cosine_schedule(cosine, trained):
    assert json.loads((cosine / "config.json").read_text())["config"]["schedule"] == "cosine"
    for name in ("model_x", "model_y"):
        saved = load_checkpoint(cosine / f"{name}.ckpt", {"schedule"})["schedule"]
        assert saved["name"] == "cosine" and torch.equal(saved["beta"], Schedule.cosine().beta)
    pair, config = load_pair(cosine)
    assert config.schedule == "cosine" and pair.schedule == Schedule.cosine()
    assert pair.model_x.schedule == pair.model_y.schedule == Schedule.cosine()
    masks, slices = next(sample(pair, 2, (16, 16), steps=3))
    assert slices.abs().max() <= 1
    other, _ = load_pair(trained)
    assert not torch.equal(slices, next(sample(other, 2, (16, 16), steps=3))[1])


@pytest.mark.parametrize("side", [32, 128])
def test_the_runs_in_the_repository_load(side):
    folder = ROOT / "data_samples" / "runs" / f"phantom{side}"
    pair, config = load_pair(folder)
    assert config.size == (side, side) and config.schedule == "linear"
    masks, slices = next(sample(pair, 2, config.size, steps=3))
    assert masks.shape == slices.shape == (2, 1, side, side)
    assert (folder / "pair.pt").stat().st_size < 8e6
    start = load_start(folder)  # and say what a training that goes on may not hold out
    assert len(start.seen) + len(start.unseen) == config.pairs


def test_a_rule_that_is_trained_alike_may_sample_and_no_other(trained):
    pair, config = load_pair(trained, rule="sign")
    assert type(pair.rule) is Sign and config.rule == "clean"
    assert type(load_pair(trained, rule="clean")[0].rule) is Clean
    with pytest.raises(ValueError, match="trained with the rule clean; matched needs its own"):
        load_pair(trained, rule="matched")
    with pytest.raises(ValueError, match="unknown rule blurred; choose one of clean, matched"):
        load_pair(trained, rule="blurred")


def test_strength_wraps_model_y_in_sampling(tmp_path):
    config = replace(TINY, rule="strength")
    pair = train_pair(tmp_path / "run", config, load_data(config)[0], CPU)
    assert isinstance(pair.model_y, PairedUNet) and pair.guided_y is not pair.model_y
    masks, slices = next(sample(pair, 2, (16, 16), steps=2))
    assert slices.isfinite().all()


def test_a_rule_from_a_file_trains_and_samples(tmp_path, trained):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    config = replace(TINY, rule=f"{path}:Faint")
    pair = train_pair(tmp_path / "run", config, load_data(config)[0], CPU)
    assert type(pair.rule).__name__ == "Faint" and load_pair(tmp_path / "run")[1] == config
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    path.rename(moved)
    with pytest.raises(ValueError, match="mine.py is missing"):
        load_pair(tmp_path / "run")
    pair, _ = load_pair(tmp_path / "run", rule=f"{moved}:Faint")
    assert type(pair.rule).__name__ == "Faint"
    with pytest.raises(ValueError, match="trained with the rule clean; .*mine.py:Faint needs its"):
        load_pair(trained, rule=f"{moved}:Faint")


def test_a_folder_that_is_not_a_finished_run_is_explained(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; train it first"):
        load_pair(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not a run; give the folder of a training"):
        load_pair(tmp_path)
    out = copied(trained, tmp_path)
    (out / "pair.pt").unlink()
    with pytest.raises(
        FileNotFoundError, match="has not finished training, or is not a run; repeat its train"
    ):
        load_pair(out)
    demo = tmp_path / "demo"
    (demo / "pair").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="is a demo's folder; give its run, .*demo/pair"):
        load_pair(demo)


def test_a_pair_of_another_version_is_refused(trained, tmp_path):
    out = copied(trained, tmp_path)
    saved = load_checkpoint(out / "pair.pt", set())
    for change in (
        {"config": asdict(TINY) | {"layers": 7}},
        {"config": asdict(TINY) | {"preset": "huge"}},
        {"model_x": {"weight": torch.zeros(1)}},
    ):
        save_checkpoint(out / "pair.pt", saved | change)
        with pytest.raises(ValueError, match="written by another version of minipig; train again"):
            load_pair(out)
    (out / "pair.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="pair.pt is unreadable"):
        load_pair(out)
    train_pair(out, TINY, load_data(TINY)[0], CPU)  # as the first message says
    load_pair(out)


def test_weights_are_told_apart_by_their_hash(trained, cosine, tmp_path):
    assert weights_of(copied(trained, tmp_path)) == weights_of(trained) != weights_of(cosine)
