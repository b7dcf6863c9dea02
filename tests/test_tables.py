"""The tables in miniature: folds without leaks, records made once, resuming, hypotheses."""

import json
import multiprocessing
import re
import runpy
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pytest
import torch
from scipy import stats

import minipig
from minipig.data.checks import HELD_OUT
from minipig.data.classical import augment
from minipig.data.files import write_json
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence import metrics
from minipig.evidence.lab import ranking
from minipig.evidence.markdown import spelt, table_markdown
from minipig.evidence.methods.registry import METHODS, NETWORKS
from minipig.evidence.tables import plan, records, runner, table1
from minipig.evidence.tables.drawing import experiment_figure, sheets
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.gains import differences_figure, gains_figure
from minipig.evidence.tables.hypotheses import (
    COMPARATORS,
    DIRECTIONS,
    DISTANCES,
    INDEPENDENT,
    TESTED,
    gain,
    hypotheses,
    replicas,
)
from minipig.evidence.tables.protocol import Protocol, folds_of
from minipig.evidence.tables.records import Records, digest
from minipig.evidence.tables.runner import run_table
from minipig.evidence.tables.table2 import segment_unit, training_set
from minipig.evidence.tables.text import hypotheses_text, table_text, verdict
from minipig.training.loop import fit
from minipig.unet import PairedUNet

CPU = torch.device("cpu")
WHOLE_WALKS = dict(METHODS)  # before short_walks
RESULTS = Path(__file__).parent.parent / "data_samples" / "results"
PER_FOLD = ("2-fresh", "1-floor", "1-unknown")  # held-out phantoms that each fold has its own of
SMALL = Protocol(
    pairs=24,
    size=(16, 16),
    folds=2,
    preset="tiny",
    steps=3,
    batch=4,
    synthetic=4,
    segmenter_steps=2,
    segmenter_batch=4,
    measured=4,
    reference=8,
    test=8,
    judge_pairs=8,
    judge_steps=2,
)


@pytest.fixture(scope="module", autouse=True)
def short_walks():
    """Two steps each: what is tested here is the protocol, not its numbers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in METHODS.items():
            patch.setitem(METHODS, name, replace(method, steps=2))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Both tables of both folds, made from nothing."""
    out = tmp_path_factory.mktemp("tables")
    return out, {table: run_table(table, SMALL, out, out / "work", CPU) for table in (2, 1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real pairs on disk; a slice of one patient is filed under another's name as well."""
    root, pairs = tmp_path_factory.mktemp("real"), phantoms(24, (16, 16), seed=4)
    twin = pairs.subset([0])
    (pairs + Pairs(twin.masks, twin.images, ["twin.png"], ["somebody else"])).save(root)
    return root


# --- folds and leaks ---


def test_no_patient_and_no_identical_image_is_on_both_sides_of_a_fold(folder):
    for protocol in (
        Protocol(pairs=60, size=(16, 16)),
        Protocol(data=str(folder), size=(16, 16), folds=3),
    ):
        folds = folds_of(protocol)
        assert len(folds) == protocol.folds
        for fold in folds:
            assert not set(fold.train.patients) & set(fold.test.patients)
            both = torch.cdist(
                fold.train.images.flatten(1).double(), fold.test.images.flatten(1).double()
            )
            assert both.min() > 0
            assert len(fold.train) + len(fold.test) == sum(len(f.test) for f in folds)
        names = [name for fold in folds for name in fold.test.names]
        assert len(names) == len(set(names))  # every pair is tested on once


def test_a_folders_folds_are_in_no_order_of_patients(folder):
    """So that the first pairs of a fold, or the first masks that a method is given, are not those
    of a few patients.
    """
    for fold in folds_of(Protocol(data=str(folder), size=(16, 16), folds=3)):
        assert fold.train.patients != sorted(fold.train.patients)


def test_too_few_patients_for_the_folds_are_told_at_once(tmp_path):
    phantoms(12, (16, 16), seed=4).save(tmp_path)
    with pytest.raises(ValueError, match=": 3 patients are too few for 5 folds; add some"):
        folds_of(Protocol(data=str(tmp_path), size=(16, 16)))
    pairs = phantoms(5, (16, 16), seed=4)
    Pairs(pairs.masks, pairs.images, pairs.names, list("abcde")).save(tmp_path / "single")
    with pytest.raises(ValueError, match="a fold has 1 of 5 pairs; it needs 2 or more"):
        folds_of(Protocol(data=str(tmp_path / "single"), size=(16, 16)))


def test_the_twin_would_leak_if_folds_went_by_patient_alone(folder):
    (fold,) = [
        fold
        for fold in folds_of(Protocol(data=str(folder), size=(16, 16), folds=3))
        if "twin.png" in fold.test.names
    ]
    assert "S4P0000_0.png" in fold.test.names


def spy_on_fit(monkeypatch):
    """The pairs given to the one loop that trains all networks, call by call."""
    seen = []

    def spy(net, loss, pairs, *rest, **more):
        seen.append(pairs)
        return fit(net, loss, pairs, *rest, **more)

    monkeypatch.setattr("minipig.evidence.tables.experiment.fit", spy)
    return seen


def test_a_generator_and_a_segmenter_learn_from_the_folds_training_patients_alone(
    tmp_path, monkeypatch
):
    seen = spy_on_fit(monkeypatch)
    experiment = Experiment(SMALL, tmp_path, tmp_path / "work", CPU)
    fold = experiment.folds[1]
    for name in METHODS:
        experiment.samples(fold, name, 2)
    assert len(seen) == len(NETWORKS)  # every network once, though methods share them
    test = set(fold.test.patients)
    for pairs in seen:
        assert pairs.patients == fold.train.patients and not test & set(pairs.patients)
    for source, n in (("real", 0), ("classical", 30), ("fresh", 8), ("PIG", 2)):
        pairs = training_set(experiment, fold, source, n)
        assert len(pairs) == len(fold.train) + n and not test & set(pairs.patients)
        assert torch.equal(pairs.masks[: len(fold.train)], fold.train.masks)
    own = experiment.samples(fold, "PIG", 4)
    flipped = training_set(experiment, fold, "PIG-flipped", 4).subset(range(-4, 0))
    for mine, turned in ((own.masks, flipped.masks), (own.images, flipped.images)):
        assert torch.equal(turned[::2], mine[::2])  # every second one is upside down
        assert torch.equal(turned[1::2], mine[1::2].flip(2))
    deformed = training_set(experiment, fold, "PIG-deformed", 4).images[-4:]
    assert torch.equal(deformed, augment(own, 4, SMALL.seed, -2).images)
    union = training_set(experiment, fold, "classical+PIG-deformed", 4).images
    assert torch.equal(union[:-4], training_set(experiment, fold, "classical", 4).images)
    assert torch.equal(union[-4:], deformed)
    upright = training_set(experiment, fold, "classical-upright", 30).images[-30:]
    turned = training_set(experiment, fold, "classical", 30).images[-30:]
    assert 5 < sum(torch.equal(a, b) for a, b in zip(upright, turned)) < 25
    both = training_set(experiment, fold, "classical+PIG", 2)
    assert torch.equal(both.images[-2:], experiment.samples(fold, "PIG", 2).images)
    assert torch.equal(both.images[:-2], training_set(experiment, fold, "classical", 2).images)
    given = experiment.samples(
        fold, "SegGuidedDif", 4
    ).masks  # the masks that are given are those of training pairs, in turn
    assert torch.equal(given, fold.train.masks[:4])


def test_one_joint_network_learns_twice_as_long(tmp_path, monkeypatch):
    steps = []

    def spy(net, loss, pairs, training, *rest, **more):
        steps.append(training.steps)
        return fit(net, loss, pairs, training, *rest, **more)

    monkeypatch.setattr("minipig.evidence.tables.experiment.fit", spy)
    experiment = Experiment(SMALL, tmp_path, tmp_path / "work", CPU)
    for name in ("joint", "joint-twice"):
        experiment.samples(experiment.folds[0], name, 2)
    assert steps == [SMALL.steps, 2 * SMALL.steps]


def test_generators_may_learn_from_deformed_pairs_too_and_are_still_given_real_masks(
    tmp_path, monkeypatch
):
    seen = spy_on_fit(monkeypatch)
    experiment = Experiment(replace(SMALL, deformed=5), tmp_path, tmp_path / "work", CPU)
    fold = experiment.folds[0]
    given = experiment.samples(fold, "SegGuidedDif", 4).masks
    assert torch.equal(given, fold.train.masks[:4])
    (pairs,) = seen
    assert torch.equal(pairs.images, training_set(experiment, fold, "classical", 5).images)
    assert not set(fold.test.patients) & set(pairs.patients)


def test_phantoms_for_measuring_are_nobody_elses():
    seeds = [seed for uses in HELD_OUT.values() for seed in uses]
    assert len(seeds) == len(set(seeds)) and SMALL.seed not in seeds
    assert all(len(HELD_OUT[f"table{use}"]) >= Protocol.folds for use in PER_FOLD)
    with pytest.raises(ValueError, match=r"seed 5101 is kept for testing \(table2-test\)"):
        Protocol(seed=5101)
    with pytest.raises(ValueError, match="folds must be at most 100, not 101: so many"):
        Protocol(folds=101)
    with pytest.raises(ValueError, match="judge_seed must be at most 99, not 100: so many"):
        Protocol(judge_seed=100)
    for own in (dict(replica=True), dict(others=4)):
        with pytest.raises(ValueError, match="seed must be at most 99, not 100: so many"):
            Protocol(seed=100, **own)
    assert Protocol(folds=100, judge_seed=99, seed=100).folds == 100
    assert len(HELD_OUT["generators"]) == len(HELD_OUT["map-fresh"]) == len(HELD_OUT["map-test"])


def test_another_schedule_is_another_network_and_reaches_training_networks_and_sampling(
    tmp_path, monkeypatch
):
    trained, sampled = [], []

    def spy(net, *rest, schedule, **more):
        unets = [part for part in net.modules() if isinstance(part, PairedUNet)]
        trained.append((schedule.name, {unet.schedule.name for unet in unets}))
        return fit(net, *rest, schedule=schedule, **more)

    def spied(draw):
        def spy(*arguments):
            sampled.append(arguments[-1].schedule.name)
            return draw(*arguments)

        return spy

    monkeypatch.setattr("minipig.evidence.tables.experiment.fit", spy)
    methods = {name: replace(m, draw=spied(m.draw)) for name, m in METHODS.items()}
    places = (tmp_path, tmp_path / "work", CPU)
    linear, cosine = (
        Experiment(replace(SMALL, schedule=name), *places, methods) for name in ("linear", "cosine")
    )
    folds = linear.folds[0], cosine.folds[0]
    assert linear.data_key(folds[0]) == cosine.data_key(folds[1])
    for name in NETWORKS:
        assert linear.network_key(folds[0], name) != cosine.network_key(folds[1], name)
    for name in METHODS:
        assert linear.samples_key(folds[0], name) != cosine.samples_key(folds[1], name)
    for name in ("PIG", "ControlNet", "LDM", "joint"):
        cosine.samples(folds[1], name, 2)
    assert sampled == ["cosine"] * 4
    autoencoder = ("cosine", set())
    assert len(trained) == 7 and trained.count(autoencoder) == 1
    assert all(each in (autoencoder, ("cosine", {"cosine"})) for each in trained)
    assert SMALL.noise_schedule.name == "linear"
    with pytest.raises(ValueError, match="unknown schedule square; choose one of linear, cosine"):
        replace(SMALL, schedule="square")


# --- the tables ---


@pytest.mark.parametrize(
    "name", ["phantom", "phantom_500_steps", "phantom_3000_steps", "phantom_replicas/seed_01"]
)
def test_the_committed_records_give_the_committed_tables(name):
    config = json.loads((RESULTS / name / "config.json").read_text())["config"]
    protocol = Protocol(**config | {"size": tuple(config["size"])})
    experiment = Experiment(protocol, RESULTS / name, Path("nowhere"), CPU, WHOLE_WALKS)
    for table in (1, 2):
        committed = json.loads((RESULTS / name / f"table{table}.json").read_text())["rows"]
        rows = runner.table_rows(experiment, table)
        assert rows == committed and list(rows) == list(committed)


def test_every_row_has_a_value_for_every_fold_and_seed(done):
    out, results = done
    one, two = results[1]["rows"], results[2]["rows"]
    assert {
        "real",
        "real+classical",
        "real+LDM_4",
        "real+SegGuidedDif_4",
        "real+ControlNet_4",
        "real+joint_4",
    } <= set(two)
    assert {"real+PIG_2", "real+PIG_4", "real+PIG_6", "real+fresh_4", "real+PIG-matched_4"} <= set(
        two
    )
    assert {"real+classical+SegGuidedDif_4", "real+classical+PIG_4"} <= set(two)
    assert {"DDPM", "DDIM", "joint", "PIG", "real", "training"} <= set(one)
    for name, row in two.items():
        control = name in {f"real+{control}_4" for control in plan.CONTROLS}
        assert set(row) == {"dice", "iou", "precision", "recall", "fresh_dice"}
        assert {len(values) for values in row.values()} == {2 if control else 4}
        assert all(0 <= value <= 1 for values in row.values() for value in values)
    for name, row in one.items():
        assert {"fd", "kd", "fd_lesion", "fd_plain"} <= set(row) and ("nearer" in row) == (
            name != "training"
        )
        assert {"fd_mirrored", "fd_spread", "coverage"} <= set(row)
        assert ("agreement" in row) == (name not in ("DDPM", "DDIM", "DPM++"))
        assert {len(values) for values in row.values()} == {1 if name in plan.CONTROLS else 2}
    for table, result in results.items():
        assert json.loads((out / f"table{table}.json").read_text()) == json.loads(
            json.dumps(result)
        )
        assert set(result["provenance"]) == {
            "configuration",
            "patients",
            "seeds",
            "versions",
            "machine",
            "commit",
            "seconds",
        }
    assert all((out / name).stat().st_size > 10_000 for name in ("samples.png", "nearest.png"))
    assert (out / "gains.png").stat().st_size > 10_000


def test_gains_are_drawn_fold_by_fold():
    """Of three folds with two seeds each; a row may have fewer, and one alone has no interval."""
    rows = {
        "real": {"dice": [0.4, 0.5, 0.5, 0.5, 0.6, 0.6]},
        "real+PIG_4": {"dice": [0.5, 0.6, 0.5, 0.7, 0.6, 0.6]},
        "real+classical": {"dice": [0.7, 0.8]},
    }
    fig = gains_figure(rows, parts=3)
    (ax,) = fig.axes  # classical gains most, in the one fold that it has
    assert [text.get_text() for text in ax.get_yticklabels()] == ["classical", "PIG, 4 pairs"]
    lines = {line.get_marker(): line for line in ax.lines if line.get_color() == "C0"}
    assert np.allclose(lines["|"].get_xdata(), [10, 10, 0]) and set(lines["|"].get_ydata()) == {1}
    assert np.allclose(lines["o"].get_xdata(), 20 / 3)
    assert np.allclose(lines["None"].get_xdata(), 100 * np.array(metrics.interval([0.1, 0.1, 0.0])))
    others = {line.get_marker() for line in ax.lines if line.get_color() == "black"}
    assert others == {"|", "D"}
    shown = [text.get_text() for text in fig.legends[0].get_texts()]
    assert shown == ["mean, PIG's pairs", "mean, other pairs", "a fold", "95 % interval"]
    only = gains_figure({name: rows[name] for name in ("real", "real+PIG_4")}, parts=3)
    assert "mean, other pairs" not in [text.get_text() for text in only.legends[0].get_texts()]


def test_differences_are_drawn_under_their_headings():
    fig = differences_figure({"a": {"b": np.array([0.01, 0.03]), "c": np.array([0.02])}}, "seed")
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "c"]
    means = [line.get_data() for line in ax.lines if line.get_marker() == "D"]
    assert np.allclose(means, [[[2], [1]], [[2], [2]]])
    told = [text.get_text() for text in ax.texts]
    assert told[0].startswith("+2.0 (") and told[1] == "+2.0"  # one alone has no interval


def test_values_are_in_the_order_of_folds_and_seeds(done):
    out, results = done
    for fold in (0, 1):
        records = json.loads((out / f"fold_{fold}.json").read_text())
        for seed in (0, 1):
            record = records[f"segment/real+PIG_4/{seed}"]
            row = results[2]["rows"]["real+PIG_4"]
            assert row["dice"][2 * fold + seed] == record["dice"]
            assert row["fresh_dice"][2 * fold + seed] == record["fresh"]["dice"]
        assert results[1]["rows"]["PIG"]["fd"][fold] == records["measure/PIG"]["fd"]
        assert (
            records["samples/PIG"]["drawn"] == 2 and records["samples/DDPM"]["drawn"] == 4
        )  # PIG's: 2, 2, and 2 more
        assert (
            records["network/guider"]["parameters"] > 0
            and records["network/guider"]["forward_flops"] > 0
        )


def test_what_is_recorded_is_not_made_again_even_without_weights_and_samples(done, monkeypatch):
    out, results = done
    monkeypatch.setattr(Experiment, "network", lambda *_: pytest.fail("a network was asked for"))
    monkeypatch.setattr(Experiment, "samples", lambda *_: pytest.fail("samples were asked for"))
    for table in (1, 2):
        assert run_table(table, SMALL, out, Path("nowhere"), CPU)["rows"] == results[table]["rows"]


def test_older_records_are_kept_where_the_samples_are_gone(done, tmp_path, monkeypatch):
    """Those of the first fold lack a value: they are not made again, and the row ends before it."""
    out, results = done
    for path in out.glob("*.json"):
        shutil.copy(path, tmp_path)
    shutil.copy(out / "judge.pt", tmp_path)
    path = tmp_path / "fold_0.json"
    units = json.loads(path.read_text())
    for unit in units.values():
        unit.pop("fd_mirrored", None)
    path.write_text(json.dumps(units))
    monkeypatch.setattr(Experiment, "network", lambda *_: pytest.fail("a network was asked for"))
    monkeypatch.setattr(Experiment, "samples", lambda *_: pytest.fail("samples were asked for"))
    rows = run_table(1, SMALL, tmp_path, Path("nowhere"), CPU)["rows"]
    assert "fd_mirrored" not in rows["PIG"] and rows["PIG"]["fd"] == results[1]["rows"]["PIG"]["fd"]
    assert not (tmp_path / "nearest.png").exists()


def test_a_table_has_what_another_process_has_recorded_meanwhile(tmp_path):
    early = Experiment(SMALL, tmp_path, tmp_path / "work", CPU)
    other = Records(tmp_path / "fold_1.json")
    fold = early.folds[1]
    for seed in (0, 1):
        name, key = segment_unit(early, fold, "real", 0, seed)
        other.save(name, {"key": key, "dice": seed / 10, "seconds": 0})
        name, key = segment_unit(early, early.folds[0], "real", 0, seed)
        early.records[0].save(name, {"key": key, "dice": seed / 100, "seconds": 0})
    assert runner.table_rows(early, 2)["real"]["dice"] == [0.0, 0.01, 0.0, 0.1]


def test_samples_that_are_there_are_not_drawn_again_under_the_lock(done):
    out, _ = done
    experiment = Experiment(SMALL, out, out / "work", CPU)
    fold, before = experiment.folds[0], dict(experiment.records[0].units)
    experiment.draw(fold, "PIG", experiment.samples_path(fold, "PIG"), 2)  # another has drawn them
    assert experiment.records[0].units == before


def test_what_the_protocol_refuses(tmp_path):
    with pytest.raises(ValueError, match="rate must be above 0, not 0.0"):
        Protocol(rate=0.0)
    with pytest.raises(ValueError, match="phantom names the built-in data; rename the folder"):
        Protocol(data=str(tmp_path / "phantom"))


def test_judges_of_two_folders_share_a_work_folder(tmp_path):
    for seed in (1, 2):
        phantoms(12, (16, 16), seed=seed).save(tmp_path / str(seed))
        settings = dict(size=(16, 16), folds=2, judge_steps=1)
        protocol = Protocol(data=str(tmp_path / str(seed)), **settings)
        experiment = Experiment(protocol, tmp_path / f"out{seed}", tmp_path / "work", CPU)
        table1.load_judge(experiment, experiment.folds[0])
    assert len(list((tmp_path / "work" / "fold_0").glob("judge-*.pt"))) == 2


def test_a_row_that_these_folds_lack_is_told(tmp_path, capsys):
    run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [1], ["PIG-finished"])
    assert "note: there is no row PIG-finished in the folds 1: controls" in capsys.readouterr().out
    run_table(1, SMALL, tmp_path, tmp_path / "work", CPU, [])
    assert "there is no row" not in capsys.readouterr().out  # none was asked for


def test_folds_done_apart_and_in_another_order_are_the_same(done, tmp_path):
    _, results = done
    part = run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [1])
    assert part["rows"] == {}  # the table is over the folds 0, 1, ... that are there
    assert run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [0])["rows"] == results[2]["rows"]
    with pytest.raises(ValueError, match="--folds cannot be 2; choose from 0, 1"):
        run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [2])


def test_rows_can_be_made_alone(done, tmp_path):
    _, results = done
    one = run_table(1, SMALL, tmp_path, tmp_path / "work", CPU, [0], ["DPM++"])["rows"]
    two = run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [0], ["PIG"])["rows"]
    assert list(one) == ["DPM++"] and list(two) == ["real+PIG_2", "real+PIG_4", "real+PIG_6"]
    assert (
        one["DPM++"]["fd"] == results[1]["rows"]["DPM++"]["fd"][:1]
        and (tmp_path / "nearest.png").exists()
    )
    assert two["real+PIG_6"]["dice"] == results[2]["rows"]["real+PIG_6"]["dice"][:2]
    weights = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "work" / "fold_0").glob("*.pt")}
    assert weights == {
        "slice",
        "DPM++",
        "guider",
        "model_y-clean",
        "PIG",
    }  # what other rows need was not made


def test_a_prefix_of_samples_does_not_depend_on_how_many_are_drawn(done):
    out, _ = done
    experiment = Experiment(SMALL, out, out / "work", CPU)
    few, more = (experiment.samples(experiment.folds[0], "PIG", n) for n in (2, 6))
    assert torch.equal(few.images, more.images[:2]) and torch.equal(few.masks, more.masks[:2])


def test_another_protocol_is_refused_in_the_same_folder(done):
    out, _ = done
    with pytest.raises(ValueError, match="segmenter_steps 2 there, 5 here"):
        run_table(2, replace(SMALL, segmenter_steps=5), out, out / "work", CPU)


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "fold_0.json").write_text('{"segment')
    with pytest.raises(ValueError, match="fold_0.json is damaged"):
        Records(tmp_path / "fold_0.json")


def test_a_unit_made_under_another_key_is_made_anew(tmp_path):
    records = Records(tmp_path / "r.json")
    for x in (1, 2):
        assert records.find("a", digest({"x": x})) is None
        with records.making("a", digest({"x": x})) as record:
            record["value"] = x
        assert records.find("a", digest({"x": x})) == record
    assert list(records.units["a"]) == ["key", "commit", "seconds", "value"]
    assert Records(tmp_path / "r.json").units["a"]["value"] == 2
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1}) != digest({"x": 1, "y": 3})


def test_two_processes_on_one_fold_keep_each_others_records(tmp_path):
    path = tmp_path / "r.json"
    one, two = Records(path), Records(path)
    with one.making("a", "k"), two.making("b", "k"):
        pass
    assert Records(path).units.keys() == {"a", "b"}


def test_what_fails_is_not_recorded(tmp_path):
    records = Records(tmp_path / "r.json")
    with pytest.raises(KeyboardInterrupt), records.making("a", "k"):
        raise KeyboardInterrupt
    assert records.units == {} and not records.path.exists()


def write_records(path, mine):
    own = Records(path)
    for i in range(50):
        own.save(f"{mine}/{i}", {"key": "k"})


def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    path, processes = tmp_path / "r.json", multiprocessing.get_context("spawn")
    both = [processes.Process(target=write_records, args=(path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert Records(path).units.keys() == {f"{name}/{i}" for name in "ab" for i in range(50)}


def test_the_commit_is_named_where_there_is_one(monkeypatch):
    def git(words, **_):
        if words[1] == "ls-files":
            return subprocess.CompletedProcess(words, 0 if stdout else 128)
        return subprocess.CompletedProcess(words, returncode, stdout)

    monkeypatch.setattr(records.subprocess, "run", git)
    for stdout, returncode, expected in (
        ("c0ffee\n", 0, "c0ffee"),
        ("c0ffee\n", 1, "c0ffee+"),
        ("", 128, None),  # no repository, or one that the package is no part of
    ):
        assert records.commit.__wrapped__() == expected
    monkeypatch.setattr(
        records.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("git"))
    )
    assert records.commit.__wrapped__() is None
    assert records.PACKAGE == Path(minipig.__file__).parent  # a change anywhere in it adds the +


def test_lesion_crops_fit_the_judge_at_every_size(tmp_path):
    for size in ((24, 32), (40, 40), (16, 16), (56, 64)):
        experiment = Experiment(
            replace(SMALL, size=size, judge_steps=1),
            tmp_path / str(size),
            tmp_path / str(size),
            CPU,
        )
        pairs = phantoms(4, size, seed=3)
        assert table1.feature_sets(experiment, pairs, masked=True)["fd_lesion"].shape[0] == 4, size


def test_a_record_of_other_settings_is_no_row(done, tmp_path):
    out, _ = done
    for fold in (0, 1):
        records = json.loads((out / f"fold_{fold}.json").read_text())
        records["segment/real/0"]["key"] = "of another time"
        (tmp_path / f"fold_{fold}.json").write_text(json.dumps(records))
    rows = runner.table_rows(Experiment(SMALL, tmp_path, tmp_path, CPU), 2)
    assert "real" not in rows and "real+PIG_4" in rows


def test_a_fold_of_which_a_seed_is_missing_is_no_part_of_a_row(done, tmp_path):
    out, _ = done
    for fold in (0, 1):
        records = json.loads((out / f"fold_{fold}.json").read_text())
        if fold == 1:
            del records["segment/real/1"]
        (tmp_path / f"fold_{fold}.json").write_text(json.dumps(records))
    rows = runner.table_rows(Experiment(SMALL, tmp_path, tmp_path, CPU), 2)
    whole = runner.table_rows(Experiment(SMALL, out, out, CPU), 2)
    assert rows["real"]["dice"] == whole["real"]["dice"][: SMALL.segmenter_seeds]
    assert table_text(2, rows, SMALL)


def test_keys_depend_on_what_decides_a_unit_and_on_nothing_else(tmp_path):
    def key(protocol, name="PIG"):
        experiment = Experiment(protocol, tmp_path, tmp_path, CPU)
        return experiment.samples_key(experiment.folds[0], name)

    assert key(SMALL) == key(replace(SMALL, segmenter_steps=9, test=5))
    for change in (
        dict(deformed=3),
        dict(steps=4),
        dict(pairs=28),
        dict(seed=1),
        dict(rate=2e-3),
        dict(batch=5),
        dict(size=(16, 24)),
    ):
        assert key(replace(SMALL, **change)) != key(SMALL), change
    assert key(SMALL) == key(replace(SMALL, judge_seed=1))
    assert len({key(SMALL, name) for name in METHODS}) == len(METHODS)
    measured = []
    for seed in (0, 1):
        experiment = Experiment(replace(SMALL, judge_seed=seed), tmp_path, tmp_path, CPU)
        measured.append(table1.measure_unit(experiment, experiment.folds[0], "PIG")[1])
    assert measured[0] != measured[1]


def test_another_judge_is_another_network_and_measures_the_same_samples(done, tmp_path):
    out, results = done
    shutil.copytree(out / "work", tmp_path / "work")
    other = run_table(
        1, replace(SMALL, judge_seed=1), tmp_path / "out", tmp_path / "work", CPU, sources=["PIG"]
    )["rows"]
    mine = results[1]["rows"]["PIG"]
    assert other["PIG"]["fd"] != mine["fd"] and other["PIG"]["fd_plain"] == mine["fd_plain"]


def test_real_data_have_their_own_rows_and_yardsticks(folder, tmp_path):
    protocol = replace(SMALL, data=str(folder), pairs=1)
    two = run_table(2, protocol, tmp_path, tmp_path / "work", CPU, [0])["rows"]
    one = run_table(1, protocol, tmp_path, tmp_path / "work", CPU, [0])["rows"]
    names = ["joint", "SegGuidedDif", "PIG", "SegGuidedDif-newmasks", "PIG-finished"]
    assert list(two) == ["real", "real+classical", "real+classical-more_8"] + [
        f"real+{n}_4" for n in (*names[:3], "classical+PIG", *names[3:])
    ]
    assert list(one) == ["training", *names]
    bent = plan.table2_sources(replace(protocol, deformed=8))[-1]
    assert bent == ("SegGuidedDif-bentmasks", 4) not in plan.table2_sources(protocol)
    assert all(set(row) == {"dice", "iou", "precision", "recall"} for row in two.values())
    assert all({"fd", "kd", "fd_lesion", "agreement"} <= set(row) for row in one.values())
    assert [name for name, row in one.items() if "neighbour" in row] == names
    assert (
        str(folder)
        not in (tmp_path / "config.json").read_text() + (tmp_path / "table2.json").read_text()
    )
    assert json.loads((tmp_path / "config.json").read_text())["content"]  # of the pairs, by hash


# --- what is said of them ---


def test_gain_is_paired_by_fold_and_seed():
    rows = {"a": {"dice": [0.5, 0.7, 0.6, 0.6]}, "b": {"dice": [0.4, 0.6, 0.3, 0.3, 0.9, 0.9]}}
    mean, low, high = gain(rows, "a", "b")
    assert mean == pytest.approx((0.1 + 0.3) / 2)  # fold 0: 0.1, fold 1: 0.3; fold 2 has no partner
    half = (
        12.7062 * np.hypot(0.1, -0.1) * np.sqrt(1 / 2 + 1 / 4)
    )  # two folds of five; Student's t, 1 degree of freedom
    assert low < mean < high and high - mean == pytest.approx(half, rel=1e-4)
    with pytest.raises(ValueError, match="no fold has all dice of the row c yet"):
        gain(rows | {"c": {"dice": [0.5]}}, "a", "c")


@pytest.mark.parametrize(
    "gains, sure",
    [
        ((0.05, 0.06, 0.05, 0.04), "(95 % interval +3.0 to +7.0): they help"),
        ((-0.05, -0.06, -0.05, -0.04), "(95 % interval -7.0 to -3.0): they harm"),
        ((0.05, -0.06, 0.05, -0.04), "not certain either way"),
    ],
)
def test_the_end_of_table_2_says_whether_pairs_help(gains, sure):
    """Four folds of four, one seed: half a width is t(3) sd sqrt(1/4 + 1/3) = 1.98 points."""
    base = [0.5, 0.6, 0.7, 0.55]
    more = [a + b for a, b in zip(base, gains)]
    rows = {"real": {"dice": base}, "real+PIG_64": {"dice": more}}
    protocol = Protocol(synthetic=64, segmenter_seeds=1, folds=4)
    text = verdict(rows, protocol)
    start = f"64 pairs of PIG change the Dice of real pairs alone by {100 * np.mean(gains):+.1f}"
    assert text.startswith(start) and text.endswith(sure) and "\n" not in text
    both = rows | {"real+classical": {"dice": more}, "real+classical+PIG_64": {"dice": base}}
    lines = verdict(both, protocol).splitlines()
    assert lines[0] == text and len(lines) == 2
    assert f"of classical augmentation by {-100 * np.mean(gains):+.1f} points" in lines[1]
    both |= {"real+classical-more_128": {"dice": [a + 0.01 for a in base]}}
    assert verdict(both, protocol).splitlines()[:2] == lines
    assert verdict(both, protocol).splitlines()[2] == (
        "64 pairs of PIG for half of 128 classical ones change the Dice by -1.0 points"
        " (95 % interval -1.0 to -1.0): they harm"
    )


def test_one_fold_does_not_say_how_sure_it_is_and_other_rows_say_nothing():
    rows = {"real": {"dice": [0.5]}, "real+PIG_64": {"dice": [0.6]}}
    protocol = Protocol(synthetic=64, segmenter_seeds=1)
    assert verdict(rows, protocol).endswith(
        "by +10.0 points; two folds or more are needed to say how sure that is"
    )
    assert verdict(rows, replace(protocol, synthetic=32)) == ""
    assert verdict({"real": rows["real"]}, protocol) == ""


def test_hypotheses_are_judged_by_the_papers_margins():
    def dice(value):
        return {"dice": [value + d for d in (0, 0.001, 0.002, 0.001)]}

    two = {"real": dice(0.5), "real+PIG_2048": dice(0.6)} | {
        f"real+{c}_2048": dice(0.55) for c in COMPARATORS
    }
    one = {"DDIM": {"fd": [2.0, 2.0]}, "PIG": {"fd": [0.9, 1.0]}}
    judged = hypotheses(one, two, Protocol())
    assert [v["holds"] for v in judged.values()] == [True, True, True]
    assert judged["H1"]["estimate"] == pytest.approx(0.475)
    assert judged["H2"]["estimate"] == pytest.approx(0.1) and judged["H3"][
        "estimate"
    ] == pytest.approx(0.05)
    header, *lines = hypotheses_text(one, two, Protocol()).splitlines()
    assert header.split() == ["estimate", "95", "%", "interval", "bound"] and len(lines) == 3
    low, high = judged["H1"]["interval"]
    assert lines[0].startswith("H1 Fréchet distance of PIG")
    assert lines[0].split()[-7:] == f"0.475 {low:.3f} to {high:.3f} at most 0.503".split()
    assert [v["decided"] for v in judged.values()] == [
        False,
        True,
        True,
    ]  # folds that differ leave H1 open
    two["real+joint_2048"] = dice(0.59)
    assert not hypotheses(one, two, Protocol())["H3"]["holds"]
    assert (
        hypotheses({"DDIM": {"fd": [2.0]}, "PIG": {"fd": [1.1]}}, two, Protocol())["H1"]["holds"]
        is False
    )


def test_replicas_are_read_as_folds_that_share_nothing(tmp_path):
    draw = np.random.default_rng(0)
    rival = [f"real+{name}_2048" for name in COMPARATORS]
    for k in range(6):
        one = {name: {"fd": [float(draw.uniform(0.4, 0.6))]} for name in ("PIG", "DDIM")}
        two = {
            name: {"dice": draw.uniform(0.4, 0.6, 2).tolist()}
            for name in ("real", "real+PIG_2048", *rival)
        }
        for table, rows in ((1, one), (2, two)):
            write_json(tmp_path / f"seed_{k}" / f"table{table}.json", {"rows": rows})
    one, two = replicas(tmp_path)
    assert (
        one["PIG"]["fd"][5:]
        == json.loads((tmp_path / "seed_5" / "table1.json").read_text())["rows"]["PIG"]["fd"]
    )
    differences = (
        np.subtract(two["real+PIG_2048"]["dice"], two["real"]["dice"]).reshape(6, 2).mean(1)
    )
    own = stats.t.interval(
        0.95, 5, differences.mean(), stats.sem(differences)
    )  # scipy's, of independent values
    judged = hypotheses(one, two, Protocol(), INDEPENDENT)
    assert (
        judged["H2"]["interval"]
        == pytest.approx(own)
        == gain(two, "real+PIG_2048", "real", parts=INDEPENDENT)[1:]
    )
    path = tmp_path / "seed_3" / "table2.json"
    rows = json.loads(path.read_text())["rows"]
    write_json(path, {"rows": rows | {"real": {"dice": [0.5] * 4}}})  # two folds of this row
    with pytest.raises(ValueError, match="differ in their rows, measures or number of folds"):
        replicas(tmp_path)
    write_json(path, {"rows": {"real": {"dice": [0.5, 0.5]}}})
    with pytest.raises(ValueError, match="the 6 files table2.json in .* differ in their rows"):
        replicas(tmp_path)
    with pytest.raises(ValueError, match="elsewhere has no experiments with a table1.json"):
        replicas(tmp_path / "elsewhere")


def test_hypotheses_compare_the_same_folds_only():
    """Where one row is ahead of another, what both have is compared: neither broadcast nor averaged
    over other folds.
    """
    two = {"real": {"dice": [0.5] * 4}, "real+PIG_2048": {"dice": [0.6, 0.6, 0.2, 0.2]}}
    two |= {f"real+{c}_2048": {"dice": [0.55, 0.55]} for c in COMPARATORS}
    two["real+joint_2048"] = {
        "dice": [0.5, 0.5, 0.9, 0.9]
    }  # the best of all, but in a fold that the others lack
    one = {"DDIM": {"fd": [2.0]}, "PIG": {"fd": [1.0, 8.0, 8.0]}}
    judged = hypotheses(one, two, Protocol())
    assert judged["H1"]["estimate"] == pytest.approx(0.5)
    assert judged["H2"]["estimate"] == pytest.approx(-0.1)
    assert (
        judged["H3"]["estimate"] == pytest.approx(0.05)
        and judged["H3"]["best"] != "real+joint_2048"
    )
    assert hypotheses_text({"PIG": {"fd": [1.0]}}, two, Protocol()).startswith(
        "hypotheses: no fold has all fd of the row DDIM"
    )


def test_the_shown_table_has_a_line_for_each_row(done):
    _, results = done
    lines = table_text(2, results[2]["rows"], SMALL).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(results[2]["rows"])
    assert (
        "gain in Dice" in lines[0] and lines[-1] == "mean ± standard deviation over 2 or 4 values"
    )
    text = table_text(1, results[1]["rows"], SMALL)
    assert "fd_lesion" in text.splitlines()[0]
    dimension = results[1]["rows"]["real"]["dimension"][0]
    assert f"of effective dimension {dimension:.1f}: few directions decide them" in text


def test_a_fold_is_planned_without_repetition():
    for table in (1, 2):
        for fold in (0, 1):
            units = plan.plan(SMALL, table, fold)
            assert len(units) == len(set(units))
    assert len(plan.plan(SMALL, 2, 0)) > len(plan.plan(SMALL, 2, 1))  # controls, on one fold


def test_the_sheets_show_equal_seeds_side_by_side_and_what_each_is_nearest_to():
    known, samples = phantoms(6, (16, 16), seed=1), phantoms(4, (16, 16), seed=2)
    copies = known.subset([5, 3])
    figures = sheets(known, {"PIG": samples, "copier": copies})
    rows = {name: {ax.get_ylabel(): ax for ax in figure.axes} for name, figure in figures.items()}
    assert list(rows["samples.png"]) == ["real", "PIG", "copier"]
    beside = rows["nearest.png"]
    assert list(beside) == ["PIG", "nearest to PIG", "copier", "nearest to copier"]
    shown = {name: ax.images[0].get_array() for name, ax in beside.items()}
    assert np.array_equal(shown["copier"], shown["nearest to copier"])
    for k, i in enumerate((5, 3)):
        drawn = shown["copier"][:, 17 * k : 17 * k + 16]  # a column lies between two slices
        assert np.array_equal(drawn, known.images[i, 0])
    for figure in figures.values():
        matplotlib.pyplot.close(figure)


def test_preregister_measures_room_and_seeds(tmp_path):
    script = Path(__file__).parent.parent / "data_samples" / "results" / "phantom" / "freeze.py"
    preregister = runpy.run_path(str(script))["preregister"]
    result = preregister(tmp_path / "freeze.json", SMALL, [(8, 2, 1e-2), (4, 3, 1e-3)])
    assert [(row["pairs"], row["steps"]) for row in result["cases"]] == [(8, 2), (4, 3)]
    assert all(
        len(row[name]) == 2 and 0 <= min(row[name])
        for row in result["cases"]
        for name in ("real", "real+fresh")
    )
    assert json.loads((tmp_path / "freeze.json").read_text()) == json.loads(json.dumps(result))
    assert np.isfinite(result["cases"][0]["real"]).all()


def test_the_picture_of_the_experiment_tells_the_numbers_of_the_protocol():
    settings = dict(pairs=60, folds=3, steps=1100, batch=12, synthetic=1300, measured=14, test=16)
    settings |= dict(reference=22, judge_pairs=17, judge_steps=18)
    settings |= dict(segmenter_steps=19, segmenter_batch=21, segmenter_seeds=5)
    (ax,) = experiment_figure(Protocol(**settings)).axes
    words = " ".join(text.get_text() for text in ax.texts)
    told = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\b", words)}
    derived = {40, 20, 15}  # pairs to train on and to test on, and patients
    assert told == set(settings.values()) | derived | {1, 2}  # and the two tables
    tested = [patch.get_facecolor()[0] < 0.5 for patch in ax.patches]
    assert sum(tested) == 1  # fold


@pytest.mark.parametrize(
    "row, name",
    [
        ("real", "real pairs only"),
        ("real+PIG_2048", "PIG, 2,048 pairs"),
        ("real+classical+PIG-finished_64", "classical and PIG, mask finished first, 64 pairs"),
        ("DPM++", "DPM++"),
    ],
)
def test_rows_have_names_for_people(row, name):
    assert spelt(row) == name
    assert spelt("real", table=1) == "other real slices"


def test_an_empty_table_says_what_it_waits_for():
    assert "begins with fold 0" in table_text(2, {}, SMALL)


def test_every_measure_has_a_better_side_but_those_of_copying():
    assert set(DISTANCES) - set(metrics.BETTER) == {"nearer", "neighbour"}
    assert {*TESTED, *DIRECTIONS, *ranking.RANKED} <= set(metrics.BETTER)


def test_a_markdown_table_marks_the_best_that_a_method_reached_in_all_folds():
    rows = {
        "real": {"fd": [0.1, 0.1], "agreement": [0.9, 0.9]},
        "DDIM": {"fd": [0.4, 0.6]},
        "PIG": {"fd": [0.7, 0.8], "agreement": [0.5, 0.5]},
        "joint": {"fd": [0.3], "agreement": [0.8]},  # one fold alone
        "LDM": {"fd": [0.9, 0.9], "agreement": [0.3999, 0.5999]},  # the same mean as it is printed
    }
    title, rule, *lines = table_markdown(1, rows).splitlines()
    assert title == "|  | Fréchet distance, slice | pair agreement |" and rule.count("--:") == 2
    assert lines[1] == "| DDIM | **0.500 ± 0.141** |  |"
    assert lines[2] == "| PIG | 0.750 ± 0.071 | **0.500 ± 0.000** |"
    assert "**" not in lines[0] + lines[3]
    assert lines[4] == "| LDM | 0.900 ± 0.000 | **0.500 ± 0.141** |"
    assert len(table_markdown(1, rows, ["agreement"]).splitlines()[0].split("|")) == 4
