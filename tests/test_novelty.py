"""Novelty: a copier, a model that draws anew, and runs whose training data are not at hand."""

from dataclasses import replace

import pytest
import torch

from minipig.data.classical import with_deformed
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.novelty import measure_novelty, novelty, verdict, with_mirrored
from minipig.training.config import Config, load_data

SIZE = (16, 16)
RUN = Config(size=SIZE, pairs=240, preset="tiny", seed=3, holdout=0.2)


@pytest.fixture(scope="module")
def data():
    return load_data(RUN)


def copies(pairs, n=40):
    noise = 0.02 * torch.randn(n, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    rows = pairs.subset(range(n))
    return Pairs(rows.masks, rows.images + noise, rows.names, rows.patients)


@pytest.mark.parametrize("n", [4, 16, 40])
def test_a_copier_is_told_with_few_samples_and_few_strangers(data, n):
    known, strangers = data
    copier = novelty(copies(known, n), known, strangers)
    assert copier["nearer"] == copier["close"] == 1
    assert copier["chance"] == pytest.approx(0.8, abs=0.02)
    assert "the model repeats training slices" in verdict(copier)


def test_a_model_that_draws_anew_is_not_called_a_copier(data):
    known, strangers = data
    fresh = novelty(phantoms(200, SIZE, seed=77, slices=1), known, strangers)
    assert abs(fresh["nearer"] - fresh["chance"]) < 2 * fresh["error"] and fresh["close"] < 0.2
    known, strangers = load_data(replace(RUN, holdout=0.5))  # enough of them
    other_side = novelty(copies(strangers, 16), known, strangers)
    assert other_side["nearer"] == 0
    assert verdict(other_side).startswith("no copying is seen, which is no proof of privacy; look")


def test_what_cannot_tell_copies_says_so_and_what_to_raise(data):
    """Though every sample leans, chance may be why."""
    many = {"nearer": 1.0, "close": 0.0, "unknown": False}
    few = many | {"chance": 0.9, "strangers": 13, "error": 0.09}
    told = "13 held-out patients are too few to tell copies; train with a larger --holdout, or more"
    assert verdict(few).startswith(told)
    one = many | {"chance": 0.5, "strangers": 40, "error": 0.506}
    assert verdict(one).startswith("so few samples cannot tell copies; raise -n; look at")
    assert verdict(one | {"error": 0.1}).startswith("the model leans towards its training slices")
    known, strangers = load_data(replace(RUN, holdout=0.5))
    alone = novelty(copies(strangers, 1), known, strangers)
    assert "so few samples cannot tell copies; raise -n" in verdict(alone)


def test_slices_of_unknown_patients_are_no_patients(data, tmp_path):
    known, strangers = load_data(replace(RUN, holdout=0.5))
    named = novelty(copies(strangers, 16), known, strangers)
    unnamed = Pairs(strangers.masks, strangers.images, strangers.names, strangers.names)
    for others in (unnamed, with_mirrored(unnamed)):
        found = novelty(copies(strangers, 16), known, others)
        assert "patients are unknown, so strangers may be slices of few" in verdict(found)
    assert "unknown" not in verdict(named)
    few = novelty(copies(strangers, 16), known, unnamed.subset(range(8)))
    assert verdict(few).startswith("8 held-out slices are too few to tell copies")


@pytest.mark.parametrize("patients, slices, known", [(50, 10, 35), (400, 1, 360), (100, 4, 90)])
def test_false_alarms_are_rare_whatever_the_slices_of_a_patient(patients, slices, known):
    """Points around the place of their patient, and samples of the same law that copy nothing."""
    draw = torch.Generator().manual_seed(0)

    def world(patients, slices):
        place = torch.randn(patients, 1, 4, 4, generator=draw).repeat_interleave(slices, 0)
        images = place + 0.3 * torch.randn(place.shape, generator=draw)
        names = [str(i // slices) for i in range(len(images))]
        return Pairs(images > 0, images, names, names)

    said = []
    for _ in range(60):
        pairs, samples = world(patients, slices), world(64, 1)
        parts = (range(known * slices), range(known * slices, len(pairs)))
        said.append(verdict(novelty(samples, *(pairs.subset(part) for part in parts))))
    assert sum("leans" in sentence for sentence in said) <= 4
    assert not any("repeats" in sentence for sentence in said)


def test_few_strangers_are_said_to_be_too_few(data):
    found = novelty(copies(data[0]), data[0], data[1].subset(range(8)))
    assert "2 held-out patients are too few to tell" in verdict(found)


def test_mirrored_copies_of_a_mirrored_training_are_copies(data, tmp_path):
    turned = copies(data[0])
    turned.images = turned.images.flip(-1)
    assert measure_novelty(tmp_path, turned, replace(RUN, mirror=True))["close"] == 1


def test_copies_of_deformed_slices_are_copies(data, tmp_path):
    """Strangers are deformed as often, and no patient is made up."""
    run = replace(RUN, deformed=3 * len(data[0]))
    bent = with_deformed(data[0], run.deformed, run.seed, None).subset(
        range(len(data[0]), 2 * len(data[0]))
    )
    found = measure_novelty(tmp_path, bent, run)
    plain = measure_novelty(tmp_path, copies(data[0]), RUN)
    assert found["close"] == 1 and found["nearer"] == 1
    assert abs(found["chance"] - plain["chance"]) < 0.01
    assert found["strangers"] == plain["strangers"] and not found["unknown"]
    turned = replace(run, mirror=True)
    second = with_deformed(data[0], run.deformed, run.seed, None).subset(
        range(2 * len(data[0]), 3 * len(data[0]))
    )
    second.images = second.images.flip(-1)
    assert measure_novelty(tmp_path, second, turned)["close"] == 1
    strangers = Pairs(data[1].masks, data[1].images, *2 * [data[1].names])
    unnamed = with_deformed(strangers, 40, run.seed, None)
    assert novelty(bent, data[0], unnamed)["unknown"]


def test_the_most_suspicious_samples_are_drawn(data, tmp_path, capsys):
    assert measure_novelty(tmp_path, copies(data[0]), RUN)["nearer"] == 1
    assert capsys.readouterr().out.startswith("novelty: the model repeats training slices; look at")
    assert (tmp_path / "nearest.png").stat().st_size > 5000


def test_phantoms_of_a_run_without_held_out_patients_are_compared_with_fresh_ones(data, tmp_path):
    run = replace(RUN, holdout=0)
    found = measure_novelty(tmp_path, copies(load_data(run)[0]), run)
    assert found["chance"] == 0.5 and found["nearer"] == 1


def test_what_cannot_be_measured_is_told(data, tmp_path, capsys):
    gone = replace(RUN, data=str(tmp_path / "gone"))
    assert measure_novelty(tmp_path, copies(data[0]), gone) is None
    assert "novelty is not measured: " in (told := capsys.readouterr().out) and "gone" in told
    data[0].save(tmp_path / "mine")
    all_known = replace(RUN, data=str(tmp_path / "mine"), holdout=0)
    assert measure_novelty(tmp_path, copies(data[0]), all_known) is None
    assert "no patients are held out; train with --holdout 0.1" in capsys.readouterr().out
    assert not (tmp_path / "nearest.png").exists()
