"""When do pairs pay, and what makes them pay: both in miniature, resumed; what they need."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from minipig.data.checks import HELD_OUT, held_out
from minipig.data.classical import augment
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import score_pairs
from minipig.evidence.map import causes, design, patients
from minipig.evidence.map import cells as map_cells
from minipig.evidence.map.causes import CAUSES, SETUPS, cells, effects, effects_text, run_causes
from minipig.evidence.map.cells import BASES
from minipig.evidence.map.design import GENERATORS, PATIENTS
from minipig.evidence.map.figure import map_figure
from minipig.evidence.map.patients import map_text, run_map
from minipig.evidence.map.place import place_text
from minipig.evidence.map.verdicts import gains, judged, verdict
from minipig.evidence.methods import told
from minipig.evidence.methods.batch import Batch
from minipig.evidence.methods.registry import METHODS
from minipig.evidence.tables import table2
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Protocol, folds_of
from minipig.evidence.tables.table2 import parts, real_segmenter, training_set
from minipig.guider import NoisyPair, model_x_loss
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator
from minipig.segmentation import predict, scores
from minipig.training.loop import fit, rate
from minipig.unet import PRESETS

CPU = torch.device("cpu")
SMALL = Protocol(
    seed=21,
    pairs=20,
    size=(16, 16),
    preset="tiny",
    steps=2,
    batch=4,
    synthetic=4,
    segmenter_steps=3,
    segmenter_batch=4,
    measured=4,
    test=4,
    judge_pairs=4,
    judge_steps=2,
)
SHOWN = ("told which are deformed", "2,500 phantoms for 400", "real pairs last", "twice as many")


@pytest.fixture(autouse=True)
def short_walks(monkeypatch):
    for name, method in METHODS.items():
        monkeypatch.setitem(METHODS, name, replace(method, steps=2))


@pytest.fixture
def miniature(monkeypatch):
    """The cells of four causes, with a few pairs and steps in the place of thousands."""

    def small(seeds=(21, 22)):
        made = []
        for cell in whole(seeds):
            p = replace(SMALL, seed=cell.protocol.seed)
            p = replace(
                p, deformed=cell.protocol.deformed // 2048, others=cell.protocol.others // 700
            )
            rows = tuple((source, n // 512) for source, n in cell.rows)
            made.append(replace(cell, protocol=p, rows=rows))
        return made

    whole = causes.cells
    monkeypatch.setattr(causes, "CAUSES", tuple(c for c in CAUSES if c.name in SHOWN))
    monkeypatch.setattr(causes, "SETUPS", {k: SETUPS[k] for k in ("deformed-3000", "others-2500")})
    monkeypatch.setattr(causes, "cells", small)
    return small


def test_causes_are_computed_once_and_told(miniature, tmp_path, monkeypatch, capsys):
    first = run_causes(tmp_path, tmp_path / "work", CPU, [21])
    assert {tuple(row["by_seed"]) for row in first["effects"]} == {("21",)}
    assert "NaN" not in (tmp_path / "causes.json").read_text()  # which is no JSON
    result = run_causes(tmp_path, tmp_path / "work", CPU)
    assert json.loads((tmp_path / "causes.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "causes.png").stat().st_size > 10_000
    assert {row["cause"] for row in result["effects"]} == set(SHOWN)
    assert {tuple(row["by_seed"]) for row in result["effects"]} == {("21", "22")}
    record = result["rows"]["deformed-3000/PIG-told"]["21"]
    assert len(record["dice"]) == 2 and set(record["losses"]) == {"guider-told", "model_y-told"}
    assert all(0 <= record[key] <= 1 for key in ("agreement", "nearer", "nearer_known"))
    assert len(result["rows"]["deformed-3000/real"]["21"]["dice"]) == BASES["real"] == 6
    line = capsys.readouterr().out.splitlines()[-3]
    assert line.split()[:4] == ["twice", "as", "many", "classical"] and line.endswith(" 2")

    def never(*_, **__):
        raise AssertionError("computed again")

    for place in ("experiment.fit", "table2.train_segmenter"):
        monkeypatch.setattr(f"minipig.evidence.tables.{place}", never)
    again = run_causes(tmp_path, tmp_path / "work", CPU)
    assert again["rows"] == result["rows"]
    with pytest.raises(ValueError, match="--seeds cannot be 4; choose from 21, 22, 23"):
        run_causes(tmp_path, tmp_path / "work", CPU, [4])
    # interrupted between the two segmenters of a row
    path = tmp_path / "seed_22" / "deformed-3000" / "fold_0.json"
    records = json.loads(path.read_text())
    del records["segment/real+PIG-told_4/1"]
    path.write_text(json.dumps(records))
    made = [(cell, cell.experiment(tmp_path, tmp_path / "work", CPU)) for cell in miniature()]
    rows = causes.collected(made)
    told = [row for row in effects(rows) if row["cause"].startswith("told")]
    assert {row["of"]: list(row["by_seed"]) for row in told} == {
        "SegGuidedDif": ["21", "22"],
        "PIG": ["21"],
    }


def test_an_effect_is_the_mean_difference_over_the_seeds_that_have_both():
    rng = np.random.default_rng(0)
    before, after = rng.random((3, 2)), rng.random((3, 2))
    values = {
        "deformed-3000/PIG": {str(s): {"dice": before[s].tolist()} for s in range(3)},
        "deformed-3000/PIG-sign": {str(s): {"dice": after[s].tolist()} for s in range(3)},
        "deformed-3000/PIG-matched": {"0": {}, "1": {"dice": [0.5, 0.7]}},
    }
    sign, matched = effects(values)
    assert (sign["cause"], sign["of"]) == ("the rule sign", "PIG")
    assert sign["by_seed"] == pytest.approx(dict(zip("012", (after - before).mean(1))))
    assert sign["difference"] == pytest.approx((after - before).mean())
    test = stats.ttest_1samp((after - before).mean(1), 0).confidence_interval(0.95)
    assert sign["interval"] == pytest.approx(list(test))
    assert matched["difference"] == pytest.approx(0.6 - before[1].mean())
    assert "(" not in effects_text([matched]).splitlines()[1]  # one seed has no interval


def test_every_cause_changes_one_thing():
    for cause in CAUSES:
        (setup, source), (other, changed) = (p.split("/") for p in (cause.before, cause.after))
        assert (setup == other) != (source == changed), cause
        different = SETUPS[setup].items() ^ SETUPS[other].items()
        assert len({name for name, _ in different}) <= 1, cause
    of_pig = [rows for cause in CAUSES for rows in cause.rows() if "PIG" in rows[0]]
    assert len(of_pig) == len({after for _, _, after in of_pig})


def test_the_causes_have_seeds_of_their_own():
    folders = [cell.name for cell in cells()]
    assert len(folders) == 3 * len(SETUPS)
    assert {cell.protocol.seed for cell in cells()} == {21, 22, 23}


# --- the map


def made_up(**by_source):
    """Dice by source: a number, or a function of patients and seed."""
    values = {}
    for source, dice in by_source.items():
        for count in PATIENTS:
            row = values.setdefault(source.replace("_", "+"), {}).setdefault(str(count), {})
            for seed in design.SEEDS:
                row[str(seed)] = dice(count, seed) if callable(dice) else dice
    return values


def test_each_number_of_patients_is_the_number_that_is_learnt_from():
    for count in PATIENTS:
        fold = folds_of(design.protocol(count, 31))[0]
        assert len(set(fold.train.patients)) == count and len(fold.train) == 4 * count
        assert len(set(fold.test.patients)) == -(-5 * count // 4) - count


def test_a_gain_is_paired_by_seed_and_has_students_interval():
    rng = np.random.default_rng(0)
    change = dict(zip(design.SEEDS, rng.normal(0.05, 0.01, 4)))
    values = made_up(real=lambda n, s: s / 100, PIG=lambda n, s: s / 100 + change[s] * n)
    row = gains(values, "real", ("PIG", "joint"))
    assert set(row) == {"PIG"} and set(row["PIG"]) == set(map(str, PATIENTS))
    test = stats.ttest_1samp([10 * c for c in change.values()], 0).confidence_interval(0.95)
    expected = [10 * np.mean(list(change.values())), *test]
    assert row["PIG"]["10"] == pytest.approx(expected)


def test_the_hypotheses_of_the_map():
    rivals = dict.fromkeys(("ControlNet", "ControlNet-bentmasks"), 0.5)
    values = made_up(
        real=0.5,
        classical=0.6,
        PIG=lambda n, s: 0.5 + (0.09 if n == 100 else 0.05 if n < 100 else 0) + s / 1e4,
        SegGuidedDif=lambda n, s: 0.52 if n == 10 else 0.5,
        classical_PIG=lambda n, s: 0.63 if n == 10 else 0.64,
        **rivals | {"SegGuidedDif-bentmasks": lambda n, s: 0.53 if n == 25 else 0.5},
    )
    found = judged(values)
    extra = np.mean(design.SEEDS) / 1e4
    (h4,) = found["H4"]["patients"].values()
    assert h4["estimate"] == pytest.approx(0.09 + extra) and found["H4"]["verdict"] == "shown"
    h5 = found["H5"]["patients"]
    assert [h5[n]["estimate"] for n in ("10", "25")] == pytest.approx([0.03, 0.04])
    # each number of patients has its best rival, and all must be beaten by the bound
    h6 = found["H6"]["patients"]
    assert [h6[n]["over"] for n in ("10", "25")] == ["SegGuidedDif", "SegGuidedDif-bentmasks"]
    assert h6["25"]["estimate"] == pytest.approx(0.02 + extra) and found["H6"]["verdict"] == "shown"
    del values["PIG"]["25"]["32"]  # one replica less
    assert {k: v["verdict"] for k, v in judged(values).items()} == {
        "H4": "shown",
        "H5": "shown",
        "H6": "undecided",
    }
    text = map_text(values)
    assert "H5 gain of classical and PIG over classical, at least 2.00: +3.0" in text
    assert "[3]" in text and "[n]: n of 4 replicas so far" in text


@pytest.mark.parametrize(
    "found, word",
    [
        ([(0.03, 0.025)], "shown"),
        ([(0.03, 0.01)], "holds"),
        ([(0.09, -0.1)], "fails"),  # the estimate alone does not suffice
        ([(0.015, 0.005)], "fails"),
        ([(0.011, 0.01)], "refuted"),
        ([(0.06, 0.059), (-0.01, -0.011)], "refuted"),  # the mean of both counts for nothing
    ],
)
def test_the_word_for_a_hypothesis(found, word):
    """By estimates and lower ends; the upper ends lie as far above."""
    parts = [dict(estimate=mid, interval=[low, 2 * mid - low]) for mid, low in found]
    assert verdict(parts, 0.02) == word


def test_the_best_rival_alone_decides():
    """A worse one whose values scatter does not make PIG fail; without one replica, nobody does."""
    rng = np.random.default_rng(0)
    scattered = dict(zip(design.SEEDS, 0.5 + 0.2 * rng.normal(size=4)))
    rivals = {"ControlNet": 0.5, "ControlNet-bentmasks": 0.5}
    values = made_up(PIG=0.6, SegGuidedDif=0.57, **rivals)
    values |= made_up(**{"SegGuidedDif-bentmasks": lambda n, s: scattered[s]})
    found = judged(values)["H6"]
    assert {part["over"] for part in found["patients"].values()} == {"SegGuidedDif"}
    assert found["verdict"] == "shown"
    del values["ControlNet"]["10"]["34"]
    found = judged(values)["H6"]
    assert found["verdict"] == "undecided" and set(found["patients"]) == {"25"}


def test_a_lead_over_one_rival_bounds_that_over_the_best():
    """Nobody needs to be computed any more once a rival is nearer to PIG than the claim allows."""
    values = made_up(PIG=0.6, SegGuidedDif=lambda n, s: 0.59 if n == 10 else 0.5)
    found = judged(values)["H6"]
    assert found["verdict"] == "cannot hold" and not found["patients"]
    assert {n: part["over"] for n, part in found["so_far"].items()} == dict.fromkeys(
        ("10", "25"), "SegGuidedDif"
    )
    assert "+1.0 (+1.0 to +1.0) over SegGuidedDif at 10, other rivals missing" in map_text(values)
    del values["SegGuidedDif"]["10"]["31"]  # one replica less, and nothing is known
    assert judged(values)["H6"]["verdict"] == "undecided"


@pytest.mark.parametrize("patients, count", [(9, 10), (70, 50), (71, 100), (400, 200)])
def test_a_set_is_told_of_the_nearest_number_of_patients(patients, count):
    gain = {n: n / 1e4 for n in PATIENTS}  # another at each number
    values = made_up(real=0.5, classical=0.6, PIG=lambda n, s: 0.5 + gain[n], classical_PIG=0.58)
    values |= made_up(**{"classical-more": 0.61})
    text = place_text(values, patients)
    assert f"drawn images of {count} patients; yours are {patients}:" in text
    words = [line.split() for line in text.splitlines()[1:4]]
    assert {(source, base): float(mean) for source, _, base, mean, *_ in words} == {
        ("classical", "real"): 10.0,
        ("PIG", "real"): round(100 * gain[count], 1),
        ("classical+PIG", "classical-more"): -3.0,
    }


def test_a_set_far_from_the_map_is_told_nothing():
    values = made_up(real=0.5, classical=0.6, PIG=0.55, classical_PIG=0.58)
    values |= made_up(**{"classical-more": 0.61})
    assert "none near your 401" in place_text(values, 401)
    for count in (10, 25, 50, 200):
        del values["PIG"][str(count)]["34"]  # a replica is missing
    assert "knows 100 of patients, none near your 49" in place_text(values, 49)
    assert "drawn images of 100" in place_text(values, 50)
    assert "knows no number of patients" in place_text({}, 50)


def test_the_figure_has_each_method_once():
    names = {name: 0.5 for name in ("real", "fresh", "classical", "SegGuidedDif", "PIG")}
    fig = map_figure(made_up(**names, classical_PIG=0.6))
    (legend,) = fig.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert sorted(labels) == sorted(set(labels)) and len(labels) == 4
    assert [ax.get_title() for ax in fig.axes] == [
        "Added to real pairs",
        "Added to classical augmentation",
    ]


def test_the_figure_has_no_bar_where_a_replica_is_missing():
    values = made_up(real=0.5, PIG=lambda n, s: 0.5 + s / 1e3)
    del values["PIG"]["25"]["34"]
    panel = map_figure(values).axes[0]
    ((bars,),) = (line[2] for line in panel.containers)
    ends = [len(segment) for segment in bars.get_segments()]  # points that are not NaN
    assert ends == [0 if count == 25 else 2 for count in PATIENTS]


def test_the_map_is_computed_part_by_part(tmp_path, monkeypatch, capsys):
    whole = patients.cells

    def small(counts=(10, 25), seeds=(31, 32)):
        made = whole(counts, seeds)
        for key, cell in made.items():
            rows = tuple((source, n // 512) for source, n in cell.rows if source in few)
            protocol = replace(SMALL, seed=cell.protocol.seed, pairs=cell.protocol.pairs // 2)
            made[key] = replace(cell, protocol=protocol, rows=rows)
        return made

    def short(seeds=(31, 32)):
        made = whole_short(seeds)
        for (count, seed, steps), cell in made.items():
            protocol = small((count,), (seed,))[count, seed].protocol
            made[count, seed, steps] = replace(
                cell, protocol=replace(protocol, segmenter_steps=steps // 50)
            )
        return made

    few, whole_short = ("real", "classical", "PIG", "classical+PIG"), patients.short_cells
    monkeypatch.setattr(patients, "cells", small)
    monkeypatch.setattr(patients, "short_cells", short)
    first = run_map(tmp_path, tmp_path / "work", CPU, [10], [31])
    assert list(first["dice"]["PIG"]) == ["10"] and list(first["dice"]["PIG"]["10"]) == ["31"]
    result = run_map(tmp_path, tmp_path / "work", CPU, [10, 25], [31, 32])
    assert result["dice"]["PIG"]["10"]["31"] == first["dice"]["PIG"]["10"]["31"]
    assert {count: list(row) for count, row in result["dice"]["classical+PIG"].items()} == {
        "10": ["31", "32"],
        "25": ["31", "32"],
    }
    assert json.loads((tmp_path / "map.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert set(result["dice"]["real, 100 steps"]) == {"10", "25"}
    assert result["protocols"]["patients_10_steps_150"]["segmenter_steps"] == 3
    told = capsys.readouterr().out
    assert "over classical, by patients" in told and "real, 150 steps" in told
    with pytest.raises(ValueError, match="--patients cannot be 7; choose from 10, 25, 50, 100"):
        run_map(tmp_path, tmp_path / "work", CPU, [7])
    with pytest.raises(ValueError, match="--rows cannot be pig; choose from real, classical, PIG"):
        run_map(tmp_path, tmp_path / "work", CPU, sources=["pig"])
    some = run_map(tmp_path / "some", tmp_path / "work", CPU, [10], [31], ["classical", "PIG"])
    assert some["dice"] == {
        name: {"10": {"31": result["dice"][name]["10"]["31"]}} for name in some["dice"]
    }
    assert set(some["dice"]) == {"classical", "PIG"}
    assert [path.name for path in (tmp_path / "some" / "seed_31").iterdir()] == ["patients_10"]


def test_rivals_and_pig_have_the_same_recipe_and_rows():
    for (count, seed), cell in design.cells().items():
        assert (cell.protocol.seed, cell.name) == (seed, f"patients_{count}")
        sources = dict(cell.rows)
        for name in GENERATORS:
            assert sources[name] == sources[f"classical+{name}"] == cell.protocol.synthetic
        assert {k: getattr(cell.protocol, k) for k in design.RECIPE} == design.RECIPE


# --- what a segmenter learns from


@pytest.mark.parametrize("steps, warm", [(50, 16), (150, 50), (300, 100), (3000, 100)])
def test_a_short_training_of_a_segmenter_reaches_its_rate(steps, warm):
    training = table2.trained_for(steps, SMALL, seed=7)
    assert (training.steps, training.warmup, training.seed) == (steps, warm, 7)
    assert max(rate(training, step) for step in range(steps)) > 0.74 * training.rate


@pytest.mark.parametrize(
    "source, expected",
    [
        (
            "classical+PIG-sign-middle-deformed-half",
            ("PIG-sign", ["-middle", "-deformed"], "-half"),
        ),
        ("SegGuidedDif-flipped", ("SegGuidedDif", ["-flipped"], "")),
        ("classical-first", ("classical", [], "-first")),
        ("PIG-finished-fewer", ("PIG-finished-fewer", [], "")),
    ],
)
def test_a_source_is_read_part_by_part(source, expected):
    assert parts(source) == expected


def test_samples_of_middle_agreement_are_neither_the_best_nor_the_worst(tmp_path):
    experiment = Experiment(SMALL, tmp_path, tmp_path / "work", CPU)
    fold = experiment.folds[0]
    drawn = phantoms(40, SMALL.size, seed=4)
    kept = table2.middle(experiment, fold, lambda n: drawn.subset(range(n)), 20)
    dice = scores(predict(real_segmenter(experiment, fold), drawn.images), drawn.masks)["dice"]
    chosen = [drawn.names.index(name) for name in kept.names]
    assert chosen == sorted(set(chosen)) and len(chosen) == 20
    others = [i for i in range(40) if i not in chosen]
    below = [i for i in others if dice[i] <= dice[chosen].min()]
    above = [i for i in others if dice[i] >= dice[chosen].max()]
    assert len(below) >= 10 and len(above) >= 10 and set(below) | set(above) == set(others)


def test_half_of_each_batch_is_real_if_real_pairs_are_repeated(tmp_path):
    experiment = Experiment(SMALL, tmp_path, tmp_path / "work", CPU)
    fold = experiment.folds[0]
    pairs = training_set(experiment, fold, "classical-half", 3 * len(fold.train))
    real = [name in fold.train.names for name in pairs.names]
    assert np.mean(real) == 0.5
    alone = training_set(experiment, fold, "classical-first", 5)
    assert torch.equal(alone.images, augment(fold.train, 5, SMALL.seed, -2).images)


def test_real_pairs_come_last_and_go_on_from_the_same_network(tmp_path, monkeypatch):
    seen = []

    def spy(net, loss, pairs, training, *rest, **more):
        start = {name: w.clone() for name, w in net.state_dict().items()}
        seen.append((pairs.names, training.steps, start, net))
        return fit(net, loss, pairs, training, *rest, **more)

    monkeypatch.setattr("minipig.evidence.judge.fit", spy)
    experiment = Experiment(SMALL, tmp_path, tmp_path / "work", CPU)
    fold = experiment.folds[0]
    table2.segment(experiment, fold, "classical-first", 4, 0)
    (first, steps, start, _), (last, more, middle, _) = seen
    assert not set(first) & set(last) and last == fold.train.names
    assert (steps, more) == (2, 1)  # of three
    assert any(not torch.equal(start[name], middle[name]) for name in start)
    assert score_pairs(seen[1][3], fold.test)["dice"] >= 0


# --- what networks learn from


def test_others_teach_generators_alone(tmp_path, monkeypatch):
    seen = []

    def spy(net, loss, pairs, *rest, **more):
        seen.append(pairs)
        return fit(net, loss, pairs, *rest, **more)

    monkeypatch.setattr("minipig.evidence.tables.experiment.fit", spy)
    few = Experiment(SMALL, tmp_path / "few", tmp_path / "work", CPU)
    many = Experiment(replace(SMALL, others=8, deformed=3), tmp_path / "many", few.work, CPU)
    fold = many.folds[0]
    assert few.network_key(fold, "guider") != many.network_key(fold, "guider")
    many.network(fold, "guider")
    (pairs,) = seen
    assert len(pairs) == len(fold.train) + 8 + 3
    others = set(pairs.patients) - set(fold.train.patients)
    assert len(others) == 2 and not others & set(fold.test.patients)
    given = many.samples(fold, "SegGuidedDif", 2)
    assert torch.equal(given.masks, fold.train.masks[:2])  # and the masks are training masks
    assert training_set(many, fold, "real", 0) is fold.train


def test_networks_are_told_which_pairs_are_deformed_and_sampled_as_if_none():
    real = phantoms(4, (16, 16), seed=4)
    pairs = told.with_flag(real + augment(real, 4, 0, -2))
    x0, y0 = pairs[:]
    assert torch.equal(x0[:, :1], (real + augment(real, 4, 0, -2))[:][0])
    assert torch.equal(x0[:, 1].mean((1, 2)), torch.tensor([-1.0] * 4 + [1.0] * 4))
    net = told.build(PRESETS["tiny"])
    pair = NoisyPair.draw(x0, y0, Schedule.linear(), generator("test"))
    guides = []

    def watched(z, t, guide):
        guides.append(guide)
        return net(z, t, guide)

    loss = told.told(model_x_loss)(watched, pair)
    (guide,) = guides
    assert torch.equal(guide[:, 1:], x0[:, 1:]) and torch.equal(guide[:, :1], pair.yt)
    expected = net(pair.xt[:, :1], pair.t, guide)
    assert loss.item() == pytest.approx((pair.eps_1[:, :1] - expected).square().mean().item())
    guides.clear()
    noise = SampleNoise(0, range(2))
    batch = Batch(noise, (16, 16), x0[:2, :1], Schedule.linear(), steps=2)
    for draw, networks in ((told.draw_pig, 2), (told.draw_seg_guided, 1)):
        x, y = draw(*[watched] * networks, batch)
        assert x.shape == y.shape == (2, 1, 16, 16)
    assert guides and all((guide[:, 1:] == -1).all() for guide in guides)


# --- what is drawn anew


def test_a_replica_has_test_phantoms_and_fresh_pairs_of_its_own():
    shared, own, other = (
        replace(SMALL, seed=seed, replica=replica)
        for seed, replica in ((21, False), (21, True), (22, True))
    )
    tests = [table2.fresh_test(p).fingerprint() for p in (shared, own, other)]
    assert len(set(tests)) == 3
    assert tests[1] == phantoms(4, (16, 16), HELD_OUT["map-test"][21]).fingerprint()
    assert tests[0] == table2.fresh_test(replace(shared, seed=22)).fingerprint()
    cells_of = [experiment_of(p) for p in (shared, own, other)]
    fresh = [training_set(e, e.folds[0], "fresh", 4).fingerprint() for e in cells_of]
    units = {table2.segment_unit(e, e.folds[0], "real", 0, 0) for e in cells_of}
    assert len(set(fresh)) == len(units) == 3
    assert all(cell.protocol.replica for cell in design.cells().values())


def experiment_of(protocol):
    """An experiment that writes nothing."""
    return Experiment(protocol, Path("nowhere"), Path("nowhere"), CPU)


def test_given_masks_are_training_masks_or_deformed_ones_as_well(tmp_path):
    protocol = replace(SMALL, deformed=40, synthetic=24)
    experiment = Experiment(protocol, tmp_path, tmp_path / "work", CPU)
    fold = experiment.folds[0]
    given = {
        name: experiment.samples(fold, name, 24).masks
        for name in ("SegGuidedDif", "SegGuidedDif-bentmasks", "ControlNet-bentmasks")
    }
    n = len(fold.train)
    assert n == 16 and torch.equal(given["SegGuidedDif"][n:], fold.train.masks[: 24 - n])
    bent = experiment.known(fold).masks[:24]
    assert torch.equal(given["SegGuidedDif-bentmasks"], bent)
    assert torch.equal(given["ControlNet-bentmasks"], bent) and not torch.equal(bent[n:], bent[:8])


def test_others_cannot_be_added_to_a_folder():
    with pytest.raises(
        ValueError, match="others are phantoms, and cannot be added to mine; give 0"
    ):
        Protocol(data="mine", others=4)


def test_what_was_learnt_is_compared_with_strangers_deformed_as_often(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(
        map_cells.metrics, "share_nearer", lambda *images: compared.append(images) or 0.5
    )
    protocol = replace(SMALL, deformed=20, others=8)
    cell = map_cells.Cell("one", protocol, (), ("joint",))
    experiment = cell.experiment(tmp_path, tmp_path / "work", CPU)
    map_cells.quality(experiment, fold := experiment.folds[0], "joint")
    (samples, train, fresh), (again, learnt, strangers) = compared
    assert torch.equal(samples, again) and len(train) == len(fresh) == len(fold.train)
    assert torch.equal(learnt, experiment.known(fold).images) and len(strangers) == len(learnt)
    drawn = phantoms(24, (16, 16), held_out("table1-unknown", 0))
    bent = augment(drawn, 20, protocol.seed, protocol.mirror_axis)
    assert torch.equal(strangers, (drawn + bent).images)
