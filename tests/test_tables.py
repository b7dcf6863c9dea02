"""The protocol in miniature: no leak between folds, every record made once, resumed after a kill, and tables as promised."""

import json
import multiprocessing
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from minipig.evidence import likeness, tables, units, workshop
from minipig.evidence.freeze import freeze
from minipig.evidence.methods import METHODS, NETWORKS
from minipig.evidence.protocol import Protocol, folds_of
from minipig.evidence.reading import APART, COMPARATORS, gain, hypotheses, replicas, show, verdicts
from minipig.evidence.tables import plan, run_table
from minipig.evidence.units import Records, digest
from minipig.evidence.usefulness import training_set
from minipig.evidence.workshop import Workshop
from minipig.files import write_json
from minipig.pairs import Pairs
from minipig.phantoms import phantoms

CPU = torch.device("cpu")
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
    """Two steps each, and few resamples: what is tested here is the protocol, not its numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "resampled", partial(likeness.resampled, times=5))
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
    for protocol in (Protocol(pairs=60, size=(16, 16)), Protocol(data=str(folder), size=(16, 16), folds=3)):
        folds = folds_of(protocol)
        assert len(folds) == protocol.folds
        for fold in folds:
            assert not set(fold.train.patients) & set(fold.test.patients)
            both = torch.cdist(fold.train.images.flatten(1).double(), fold.test.images.flatten(1).double())
            assert both.min() > 0
            assert len(fold.train) + len(fold.test) == sum(len(f.test) for f in folds)
        names = [name for fold in folds for name in fold.test.names]
        assert len(names) == len(set(names))  # every pair is tested on once


def test_a_folders_folds_are_in_no_order_of_patients(folder):
    """So that the first pairs of a fold, or the first masks that a method is given, are not those of a few patients."""
    for fold in folds_of(Protocol(data=str(folder), size=(16, 16), folds=3)):
        assert fold.train.patients != sorted(fold.train.patients)


def test_too_few_patients_for_the_folds_are_told_at_once(tmp_path):
    phantoms(12, (16, 16), seed=4).save(tmp_path)
    with pytest.raises(ValueError, match="5 folds need as many patients, not 3"):
        folds_of(Protocol(data=str(tmp_path), size=(16, 16)))
    pairs = phantoms(5, (16, 16), seed=4)
    Pairs(pairs.masks, pairs.images, pairs.names, list("abcde")).save(tmp_path / "single")
    with pytest.raises(ValueError, match="a fold has 1 pair to be tested on, of 5; it takes at least 2"):
        folds_of(Protocol(data=str(tmp_path / "single"), size=(16, 16)))


def test_the_twin_would_leak_if_folds_went_by_patient_alone(folder):
    (fold,) = [fold for fold in folds_of(Protocol(data=str(folder), size=(16, 16), folds=3)) if "twin.png" in fold.test.names]
    assert "S4P0000_0.png" in fold.test.names


def test_a_generator_and_a_segmenter_learn_from_the_folds_training_patients_alone(tmp_path, monkeypatch):
    """Spies on the one loop that all networks are trained by, and on what segmenters are given."""
    seen = []
    fit = workshop.fit
    monkeypatch.setattr(
        workshop, "fit", lambda net, loss, pairs, *rest, **more: seen.append(pairs) or fit(net, loss, pairs, *rest, **more)
    )
    shop = Workshop(SMALL, tmp_path, tmp_path / "work", CPU)
    fold = shop.folds[1]
    for name in METHODS:
        shop.samples(fold, name, 2)
    assert len(seen) == len(NETWORKS)  # every network once, though methods share them
    test = set(fold.test.patients)
    for pairs in seen:
        assert pairs.patients == fold.train.patients and not test & set(pairs.patients)
    for source, n in (("real", 0), ("classical", 30), ("fresh", 8), ("PIG", 2)):
        pairs = training_set(shop, fold, source, n)
        assert len(pairs) == len(fold.train) + n and not test & set(pairs.patients)
        assert torch.equal(pairs.masks[: len(fold.train)], fold.train.masks)
    both = training_set(shop, fold, "classical+PIG", 2)
    assert torch.equal(both.images[-2:], shop.samples(fold, "PIG", 2).images)
    assert torch.equal(both.images[:-2], training_set(shop, fold, "classical", 2).images)
    given = shop.samples(fold, "SegGuidedDif", 4).masks  # the masks that are given are those of training pairs, in turn
    assert torch.equal(given, fold.train.masks[:4])


def test_generators_may_learn_from_deformed_pairs_too_and_are_still_given_real_masks(tmp_path, monkeypatch):
    seen, fit = [], workshop.fit
    monkeypatch.setattr(
        workshop, "fit", lambda net, loss, pairs, *rest, **more: seen.append(pairs) or fit(net, loss, pairs, *rest, **more)
    )
    shop = Workshop(replace(SMALL, deformed=5), tmp_path, tmp_path / "work", CPU)
    fold = shop.folds[0]
    given = shop.samples(fold, "SegGuidedDif", 4).masks
    assert torch.equal(given, fold.train.masks[:4])
    (pairs,) = seen
    assert torch.equal(pairs.images, training_set(shop, fold, "classical", 5).images)
    assert not set(fold.test.patients) & set(pairs.patients)


def test_phantoms_for_measuring_are_nobody_elses():
    from minipig.evidence import demo, usefulness

    firsts = [usefulness.FRESH, usefulness.TEST, likeness.FLOOR, likeness.UNKNOWN]
    alone = [likeness.REFERENCE, likeness.JUDGE, demo.FRESH, demo.TEST, demo.JUDGE, SMALL.seed]
    seeds = [first + k for first in firsts for k in range(Protocol.folds)] + alone
    assert len(seeds) == len(set(seeds))


# --- the tables ---


def test_every_row_has_a_value_for_every_fold_and_seed(done):
    out, results = done
    one, two = results[1]["rows"], results[2]["rows"]
    assert {"real", "real+classical", "real+LDM_4", "real+SegGuidedDif_4", "real+ControlNet_4", "real+joint_4"} <= set(two)
    assert {"real+PIG_2", "real+PIG_4", "real+PIG_6", "real+fresh_4", "real+PIG-matched_4"} <= set(two)
    assert {"real+classical+SegGuidedDif_4", "real+classical+PIG_4"} <= set(two)
    assert {"DDPM", "DDIM", "joint", "PIG", "real", "training"} <= set(one)
    for name, row in two.items():
        control = name in {f"real+{control}_4" for control in tables.CONTROLS}
        assert set(row) == {"dice", "iou", "precision", "recall", "fresh_dice"}
        assert {len(values) for values in row.values()} == {2 if control else 4}
        assert all(0 <= value <= 1 for values in row.values() for value in values)
    for name, row in one.items():
        assert {"fd", "kd", "fd_lesion", "fd_plain"} <= set(row) and ("nearer" in row) == (name != "training")
        assert ("agreement" in row) == (name not in ("DDPM", "DDIM", "DPM++"))
        assert {len(values) for values in row.values()} == {1 if name in tables.CONTROLS else 2}
    for table, result in results.items():
        assert json.loads((out / f"table{table}.json").read_text()) == json.loads(json.dumps(result))
        assert set(result["provenance"]) == {"configuration", "seeds", "versions", "machine", "commit", "seconds"}
    assert all((out / name).stat().st_size > 10_000 for name in ("samples.png", "nearest.png"))


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
        low, high = records["measure/PIG"]["fd_interval"]
        assert low <= high
        assert records["samples/PIG"]["drawn"] == 2 and records["samples/DDPM"]["drawn"] == 4  # PIG's: 2, 2, and 2 more
        assert records["network/guider"]["parameters"] > 0 and records["network/guider"]["forward_flops"] > 0


def test_what_is_recorded_is_not_made_again_even_without_weights_and_samples(done, monkeypatch):
    out, results = done
    monkeypatch.setattr(Workshop, "network", lambda *_: pytest.fail("a network was asked for"))
    monkeypatch.setattr(Workshop, "samples", lambda *_: pytest.fail("samples were asked for"))
    for table in (1, 2):
        assert run_table(table, SMALL, out, Path("nowhere"), CPU)["rows"] == results[table]["rows"]


def test_folds_done_apart_and_in_another_order_are_the_same(done, tmp_path):
    _, results = done
    part = run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [1])
    assert part["rows"] == {}  # the table is over the folds 0, 1, ... that are there
    assert run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [0])["rows"] == results[2]["rows"]
    with pytest.raises(ValueError, match="folds run from 0 to 1, not 2"):
        run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [2])


def test_rows_can_be_made_alone(done, tmp_path):
    _, results = done
    one = run_table(1, SMALL, tmp_path, tmp_path / "work", CPU, [0], ["DPM++"])["rows"]
    two = run_table(2, SMALL, tmp_path, tmp_path / "work", CPU, [0], ["PIG"])["rows"]
    assert list(one) == ["DPM++"] and list(two) == ["real+PIG_2", "real+PIG_4", "real+PIG_6"]
    assert one["DPM++"]["fd"] == results[1]["rows"]["DPM++"]["fd"][:1] and (tmp_path / "nearest.png").exists()
    assert two["real+PIG_6"]["dice"] == results[2]["rows"]["real+PIG_6"]["dice"][:2]
    weights = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "work" / "fold_0").glob("*.pt")}
    assert weights == {"slice", "DPM++", "guider", "model_y-clean", "PIG"}  # what other rows need was not made


def test_a_prefix_of_samples_does_not_depend_on_how_many_are_drawn(done):
    out, _ = done
    shop = Workshop(SMALL, out, out / "work", CPU)
    few, more = shop.samples(shop.folds[0], "PIG", 2), shop.samples(shop.folds[0], "PIG", 6)
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
    assert records.make("a", digest({"x": 1}), lambda: {"value": 1})["value"] == 1
    assert records.make("a", digest({"x": 1}), lambda: pytest.fail("made twice"))["value"] == 1
    assert records.make("a", digest({"x": 2}), lambda: {"value": 2})["value"] == 2
    assert set(records.units["a"]) == {"key", "commit", "seconds", "value"}
    assert Records(tmp_path / "r.json").units["a"]["value"] == 2
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1}) != digest({"x": 1, "y": 3})


def test_two_processes_on_one_fold_keep_each_others_records(tmp_path):
    path = tmp_path / "r.json"
    one, two = Records(path), Records(path)
    one.make("a", "k", lambda: two.make("b", "k", lambda: {"value": 2}) and {"value": 1})
    assert {name: unit["value"] for name, unit in Records(path).units.items()} == {"a": 1, "b": 2}


def write_records(path, mine):
    records = Records(path)
    for i in range(50):
        records.keep(f"{mine}/{i}", {"key": "k"})


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
        return subprocess.CompletedProcess(words, returncode, stdout)

    monkeypatch.setattr(units.subprocess, "run", git)
    for stdout, returncode, expected in (("c0ffee\n", 0, "c0ffee"), ("c0ffee\n", 1, "c0ffee+"), ("", 128, None)):
        assert units.commit.__wrapped__() == expected
    monkeypatch.setattr(units.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("git")))
    assert units.commit.__wrapped__() is None


def test_lesion_crops_fit_the_judge_at_every_size(tmp_path):
    for size in ((24, 32), (40, 40), (16, 16), (56, 64)):
        shop = Workshop(replace(SMALL, size=size, judge_steps=1), tmp_path / str(size), tmp_path / str(size), CPU)
        pairs = phantoms(4, size, seed=3)
        assert likeness.features(shop, pairs, masked=True)["fd_lesion"].shape[0] == 4, size


def test_a_record_of_other_settings_is_no_row(done, tmp_path):
    out, _ = done
    for fold in (0, 1):
        records = json.loads((out / f"fold_{fold}.json").read_text())
        records["segment/real/0"]["key"] = "of another time"
        (tmp_path / f"fold_{fold}.json").write_text(json.dumps(records))
    rows = tables.table_rows(Workshop(SMALL, tmp_path, tmp_path, CPU), 2)
    assert "real" not in rows and "real+PIG_4" in rows


def test_a_fold_of_which_a_seed_is_missing_is_no_part_of_a_row(done, tmp_path):
    out, _ = done
    for fold in (0, 1):
        records = json.loads((out / f"fold_{fold}.json").read_text())
        if fold == 1:
            del records["segment/real/1"]
        (tmp_path / f"fold_{fold}.json").write_text(json.dumps(records))
    rows = tables.table_rows(Workshop(SMALL, tmp_path, tmp_path, CPU), 2)
    whole = tables.table_rows(Workshop(SMALL, out, out, CPU), 2)
    assert rows["real"]["dice"] == whole["real"]["dice"][: SMALL.segmenter_seeds]
    assert show(2, rows, SMALL.segmenter_seeds, SMALL.folds)


def test_keys_depend_on_what_decides_a_unit_and_on_nothing_else(tmp_path):
    def key(protocol, name="PIG"):
        shop = Workshop(protocol, tmp_path, tmp_path, CPU)
        return shop.samples_key(shop.folds[0], name)

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
        shop = Workshop(replace(SMALL, judge_seed=seed), tmp_path, tmp_path, CPU)
        measured.append(likeness.measure_unit(shop, shop.folds[0], "PIG")[1])
    assert measured[0] != measured[1]


def test_another_judge_is_another_network_and_measures_the_same_samples(done, tmp_path):
    out, results = done
    shutil.copytree(out / "work", tmp_path / "work")
    other = run_table(1, replace(SMALL, judge_seed=1), tmp_path / "out", tmp_path / "work", CPU, sources=["PIG"])["rows"]
    mine = results[1]["rows"]["PIG"]
    assert other["PIG"]["fd"] != mine["fd"] and other["PIG"]["fd_plain"] == mine["fd_plain"]


def test_real_data_have_their_own_rows_and_yardsticks(folder, tmp_path):
    protocol = replace(SMALL, data=str(folder), pairs=1)
    two = run_table(2, protocol, tmp_path, tmp_path / "work", CPU, [0])["rows"]
    one = run_table(1, protocol, tmp_path, tmp_path / "work", CPU, [0])["rows"]
    names = ["joint", "SegGuidedDif", "PIG", "SegGuidedDif-newmasks", "PIG-finished"]
    assert list(two) == ["real", "real+classical"] + [f"real+{n}_4" for n in (*names[:3], "classical+PIG", *names[3:])]
    assert list(one) == ["training", *names]
    assert all(set(row) == {"dice", "iou", "precision", "recall"} for row in two.values())
    assert all({"fd", "kd", "fd_lesion", "agreement"} <= set(row) for row in one.values())
    assert [name for name, row in one.items() if "neighbour" in row] == names
    assert str(folder) not in (tmp_path / "config.json").read_text() + (tmp_path / "table2.json").read_text()


# --- what is said of them ---


def test_gain_is_paired_by_fold_and_seed():
    rows = {"a": {"dice": [0.5, 0.7, 0.6, 0.6]}, "b": {"dice": [0.4, 0.6, 0.3, 0.3, 0.9, 0.9]}}
    mean, low, high = gain(rows, "a", "b")
    assert mean == pytest.approx((0.1 + 0.3) / 2)  # fold 0: 0.1, fold 1: 0.3; fold 2 has no partner
    half = 12.7062 * np.hypot(0.1, -0.1) * np.sqrt(1 / 2 + 1 / 4)  # two folds of five; Student's t, 1 degree of freedom
    assert low < mean < high and high - mean == pytest.approx(half, rel=1e-4)
    with pytest.raises(ValueError, match="no dice of the row c yet"):
        gain(rows | {"c": {"dice": [0.5]}}, "a", "c")


def test_hypotheses_are_judged_by_the_papers_margins():
    def dice(value):
        return {"dice": [value + d for d in (0, 0.001, 0.002, 0.001)]}

    two = {"real": dice(0.5), "real+PIG_2048": dice(0.6)} | {f"real+{c}_2048": dice(0.55) for c in COMPARATORS}
    one = {"DDIM": {"fd": [2.0, 2.0]}, "PIG": {"fd": [0.9, 1.0]}}
    judged = hypotheses(one, two, Protocol())
    assert [v["holds"] for v in judged.values()] == [True, True, True]
    assert judged["H1"]["estimate"] == pytest.approx(0.475)
    assert judged["H2"]["estimate"] == pytest.approx(0.1) and judged["H3"]["estimate"] == pytest.approx(0.05)
    said = verdicts(one, two, Protocol()).splitlines()
    assert len(said) == 3 and said[0].startswith("H1 holds") and "at most 0.503? 0.475 (95 %" in said[0]
    assert [v["decided"] for v in judged.values()] == [False, True, True]  # folds that differ leave H1 open
    two["real+joint_2048"] = dice(0.59)
    assert not hypotheses(one, two, Protocol())["H3"]["holds"]
    assert hypotheses({"DDIM": {"fd": [2.0]}, "PIG": {"fd": [1.1]}}, two, Protocol())["H1"]["holds"] is False


def test_replicas_are_read_as_folds_that_share_nothing(tmp_path):
    draw = np.random.default_rng(0)
    rival = [f"real+{name}_2048" for name in COMPARATORS]
    for k in range(6):
        one = {name: {"fd": [float(draw.uniform(0.4, 0.6))]} for name in ("PIG", "DDIM")}
        two = {name: {"dice": draw.uniform(0.4, 0.6, 2).tolist()} for name in ("real", "real+PIG_2048", *rival)}
        for table, rows in ((1, one), (2, two)):
            write_json(tmp_path / f"seed_{k}" / f"table{table}.json", {"rows": rows})
    one, two = replicas(tmp_path)
    assert one["PIG"]["fd"][5:] == json.loads((tmp_path / "seed_5" / "table1.json").read_text())["rows"]["PIG"]["fd"]
    differences = np.subtract(two["real+PIG_2048"]["dice"], two["real"]["dice"]).reshape(6, 2).mean(1)
    own = stats.t.interval(0.95, 5, differences.mean(), stats.sem(differences))  # scipy's, of independent values
    judged = hypotheses(one, two, Protocol(), APART)
    assert judged["H2"]["interval"] == pytest.approx(own) == gain(two, "real+PIG_2048", "real", parts=APART)[1:]
    (tmp_path / "seed_3" / "table2.json").unlink()
    write_json(tmp_path / "seed_3" / "table2.json", {"rows": {"real": {"dice": [0.5, 0.5]}}})
    with pytest.raises(ValueError, match="6 experiments with a table2.json, or not the same rows"):
        replicas(tmp_path)
    with pytest.raises(ValueError, match="0 experiments with a table1.json"):
        replicas(tmp_path / "elsewhere")


def test_hypotheses_compare_the_same_folds_only():
    """Where one row is ahead of another, what both have is compared: neither broadcast nor averaged over other folds."""
    two = {"real": {"dice": [0.5] * 4}, "real+PIG_2048": {"dice": [0.6, 0.6, 0.2, 0.2]}}
    two |= {f"real+{c}_2048": {"dice": [0.55, 0.55]} for c in COMPARATORS}
    two["real+joint_2048"] = {"dice": [0.5, 0.5, 0.9, 0.9]}  # the best of all, but in a fold that the others lack
    one = {"DDIM": {"fd": [2.0]}, "PIG": {"fd": [1.0, 8.0, 8.0]}}
    judged = hypotheses(one, two, Protocol())
    assert judged["H1"]["estimate"] == pytest.approx(0.5)
    assert judged["H2"]["estimate"] == pytest.approx(-0.1)
    assert judged["H3"]["estimate"] == pytest.approx(0.05) and judged["H3"]["best"] != "real+joint_2048"
    assert verdicts({"PIG": {"fd": [1.0]}}, two, Protocol()).startswith("hypotheses: there is no fd of the row DDIM yet")


def test_the_shown_table_has_a_line_for_each_row(done):
    _, results = done
    lines = show(2, results[2]["rows"]).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(results[2]["rows"])
    assert "gain in Dice" in lines[0] and lines[-1] == "mean ± standard deviation over 2 or 4 values"
    assert "fd_lesion" in show(1, results[1]["rows"]).splitlines()[0]


def test_a_fold_is_planned_without_repetition():
    for table in (1, 2):
        for fold in (0, 1):
            units = plan(SMALL, table, fold)
            assert len(units) == len(set(units))
    assert len(plan(SMALL, 2, 0)) > len(plan(SMALL, 2, 1))  # controls, on one fold


def test_the_sheets_show_equal_seeds_side_by_side_and_what_each_is_nearest_to():
    known, samples = phantoms(6, (16, 16), seed=1), phantoms(4, (16, 16), seed=2)
    copies = known.subset([5, 3])
    figures = tables.sheets(known, {"PIG": samples, "copier": copies})
    rows = {
        name: {ax.get_ylabel(): figure.axes[i : i + 2] for i, ax in enumerate(figure.axes) if ax.get_ylabel()}
        for name, figure in figures.items()
    }
    assert list(rows["samples.png"]) == ["real", "PIG", "copier"]
    beside = rows["nearest.png"]
    assert list(beside) == ["PIG", "nearest to PIG", "copier", "nearest to copier"]
    shown = {name: [ax.images[0].get_array() for ax in axes] for name, axes in beside.items()}
    for drawn, copied, i in zip(shown["copier"], shown["nearest to copier"], (5, 3)):
        assert np.array_equal(drawn, copied) and np.array_equal(drawn, known.images[i, 0])


def test_freeze_measures_room_and_seeds(tmp_path):
    result = freeze(tmp_path / "freeze.json", SMALL, [(8, 2, 1e-2), (4, 3, 1e-3)])
    assert [(row["pairs"], row["steps"]) for row in result["cases"]] == [(8, 2), (4, 3)]
    assert all(len(row[name]) == 2 and 0 <= min(row[name]) for row in result["cases"] for name in ("real", "real+fresh"))
    assert json.loads((tmp_path / "freeze.json").read_text()) == json.loads(json.dumps(result))
    assert np.isfinite(result["cases"][0]["real"]).all()
