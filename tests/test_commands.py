"""The commands: the main experiment in miniature, and one line for every error."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minipig import commands, rules, running
from minipig.cli import main, parser
from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.data.folder import PairFolder
from minipig.data.phantoms import phantoms
from minipig.evidence import demo, judge
from minipig.evidence.lab import runner as lab
from minipig.evidence.lab import variants
from minipig.evidence.tables.protocol import Protocol
from minipig.guider import model_x_loss
from minipig.running import explain
from minipig.training import curves
from minipig.training import run as training_run
from minipig.training.config import Config, load_data
from minipig.training.devices import machine
from minipig.training.run import load_pair, weights_of

TINY = "--preset tiny --steps 3 --batch 2 --size 16".split()
COSINE = "train --schedule cosine --preset tiny --size 16 --steps 6 --pairs 16 --device cpu".split()
OWN = """
class Mine:
    def train(self, pair):
        return pair.x0

    def sample(self, state):
        return 0.5 * state.x0_hat


class Halved:
    def train(self, pair):
        return pair.x0
"""


def run(*args):
    return main([str(a) for a in args])


def sampled(trained, out, *options):
    """Pairs of a run in three steps."""
    assert run("sample", trained, "--sampling-steps", 3, "--out", out, *options) == 0
    return PairFolder(out)


def equal(folder, other):
    """Whether two runs have equal weights, bit by bit."""
    mine, theirs = (load_checkpoint(f / "pair.pt", {"model_x", "model_y"}) for f in (folder, other))
    return all(
        torch.equal(weight, theirs[name][key])
        for name in ("model_x", "model_y")
        for key, weight in mine[name].items()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    phantoms(16, (16, 16)).save(root)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder):
    out = tmp_path_factory.mktemp("runs") / "mine"
    assert run("train", "--data", folder, *TINY, "--holdout", 0.25, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def cosine(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cosine"
    assert run(*COSINE, "--out", out) == 0
    return out


@pytest.fixture
def my_rule(tmp_path):
    path = tmp_path / "my_rule.py"
    path.write_text(OWN)
    return path


def test_demo_in_miniature(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "JUDGE_PAIRS", 8)
    monkeypatch.setattr(judge, "JUDGE_STEPS", 2)
    monkeypatch.setattr(judge, "TEST_PAIRS", 8)
    monkeypatch.setattr(demo, "SEGMENTER_STEPS", 2)
    command = ["demo", *TINY, "--pairs", 8, "--synthetic", 6, "--sampling-steps", 2]
    command += ["--out", tmp_path]
    assert run(*command) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["segmentation"]) == {"real", "real+synthetic", "real+fresh"}
    for row in metrics["segmentation"].values():
        assert set(row) == {"dice", "iou", "precision", "recall"}
        assert all(len(values) == 3 for values in row.values())
    assert set(metrics["pair_agreement"]) == {"synthetic", "fresh", "details"}
    assert metrics["seconds"] > 0
    assert len(PairFolder(tmp_path / "synthetic")) == 6
    for name in ("samples.png", "figure_3.png", "method.png", "pair/losses.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300
    assert json.loads((tmp_path / "config.json").read_text())["config"]["pair"]["preset"] == "tiny"
    told = capsys.readouterr().out
    assert "gain in Dice" in told
    results, report = told.splitlines()[-2:]
    assert report == f"report: {tmp_path}/report.html" and (tmp_path / "report.html").exists()
    for name in results.removeprefix(f"results in {tmp_path}: ").split(", "):
        assert (tmp_path / name).exists()
    # an interrupted demo resumes, and ends with the same figures
    before = metrics["segmentation"]
    (tmp_path / "metrics.json").unlink()
    figure = tmp_path / "figure_3.png"
    drawn = figure.stat().st_mtime_ns
    assert run(*command) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["segmentation"] == before
    assert figure.stat().st_mtime_ns == drawn  # it is not drawn again


def test_a_quick_demo_ends_with_samples_and_says_what_it_left_out(tmp_path, capsys):
    command = ["demo", "--quick", "--pairs", 8, "--size", 16, "--steps", 2, "--out", tmp_path]
    assert run(*command) == 0
    told = capsys.readouterr().out
    assert "left out, since this was quick: whether masks and slices agree, and whether" in told
    results = told.splitlines()[-2].removeprefix(f"results in {tmp_path}: ").split(", ")
    assert all((tmp_path / name).exists() for name in results)
    assert len(PairFolder(tmp_path / "synthetic")) == 64
    assert not {"metrics.json", "segmenters"} & {path.name for path in tmp_path.iterdir()}
    assert run(*command) == 0  # it resumes
    assert "quick" in refused(capsys, *[word for word in command if word != "--quick"])


def test_an_option_beside_quick_is_kept(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(commands, "run_demo", lambda out, demo, device: asked.append(demo))
    monkeypatch.setattr(running, "write_report", lambda *_: tmp_path)
    for line in ("--quick", "--quick --synthetic 7 --preset cpu --solver ddim --steps 9"):
        assert run("demo", *line.split(), "--out", tmp_path) == 0
    quick, mine = asked
    assert (quick.synthetic, quick.pair.preset, quick.pair.steps) == (64, "tiny", 270)
    assert (quick.solver, quick.sampling_steps) == ("quick", 15)
    assert (mine.synthetic, mine.pair.preset, mine.pair.steps) == (7, "cpu", 9)
    assert (mine.solver, mine.sampling_steps) == ("ddim", 15)


def test_a_training_says_from_which_step_it_goes_on(tmp_path, capfd, monkeypatch):
    command = ["train", *TINY, "--pairs", 8, "--holdout", 0, "--steps", 6, "--out", tmp_path]
    calls = iter(range(9))

    def stopped(net, pair):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return model_x_loss(net, pair)

    monkeypatch.setattr(training_run, "model_x_loss", stopped)
    assert run(*command) == 130
    step = load_checkpoint(tmp_path / "model_x.ckpt", {"step"})["step"]
    monkeypatch.undo()
    capfd.readouterr()
    assert run(*command) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "goes on" in line]
    assert 1 < step < 6 and told == [f"training model_x: goes on from step {step}"]


def test_train_and_sample_on_a_folder(trained, capsys):
    five = sampled(trained, trained / "five", "-n", 5, "--batch", 2)
    assert five.size == (16, 16) and len(five) == 5 and (trained / "five" / "figure_3.png").exists()
    figure, other = (trained / "five" / name for name in ("samples.png", "figure_3.png"))
    first, drawn = figure.read_bytes(), figure.stat().st_mtime_ns
    sampled(trained, trained / "five", "-n", 5)  # nothing new: nothing is drawn again
    assert figure.stat().st_mtime_ns == drawn
    other.unlink()
    sampled(trained, trained / "five", "-n", 5)
    assert other.exists()
    extended = sampled(trained, trained / "five", "-n", 8, "--batch", 8)  # three more
    assert figure.read_bytes() != first
    eight = sampled(trained, trained / "eight", "-n", 8, "--batch", 8)
    assert len(extended) == 8 and (extended.images - eight.images).abs().max() <= 1 / 127.5 + 1e-6
    assert "8 pairs" in capsys.readouterr().out


def test_a_rule_that_is_trained_alike_may_sample_and_no_other(trained, capsys):
    by_sign = sampled(trained, trained / "by sign", "-n", 2, "--rule", "sign")
    by_clean = sampled(trained, trained / "by clean", "-n", 2)
    assert not torch.equal(by_sign.images, by_clean.images)
    line = refused(capsys, "sample", trained, "--rule", "matched")
    assert "was trained with the rule clean; matched needs its own training" in line
    line = refused(capsys, "sample", trained, "--sampling-steps", 3, "--out", trained / "by sign")
    assert "rule 'sign' there, 'clean' here" in line


def test_a_run_with_other_weights_is_another_run_and_a_copy_is_not(
    trained, tmp_path, monkeypatch, capsys
):
    again = tmp_path / "again"
    shutil.copytree(trained, again, ignore=shutil.ignore_patterns("*.ckpt"))
    options = ("-n", 2, "--sampling-steps", 3, "--out", tmp_path / "drawn")
    assert run("sample", again, *options) == 0
    monkeypatch.chdir(tmp_path)
    assert run("sample", "again", *options, "--rule", "clean") == 0
    saved = load_checkpoint(again / "pair.pt", {"model_y"})
    saved["model_y"] = {name: weight + 1 for name, weight in saved["model_y"].items()}
    save_checkpoint(again / "pair.pt", saved)
    line = refused(capsys, "sample", "again", *options)
    assert "was made with another configuration (weights " in line


def test_losses_can_be_looked_at_during_training(tmp_path, monkeypatch):
    seen = []
    write = curves.write_figure
    monkeypatch.setattr(training_run, "REDRAW", 1)
    monkeypatch.setattr(
        curves, "write_figure", lambda path, figure: seen.append(path) or write(path, figure)
    )
    assert run("train", *TINY, "--pairs", 8, "--device", "cpu", "--out", tmp_path) == 0
    # after each of three steps of either network, and at the end
    assert seen == [tmp_path / "losses.png"] * 7


def test_agreement_is_measured_against_held_out_patients(trained, monkeypatch):
    monkeypatch.setattr(judge, "JUDGE_STEPS", 2)
    sampled(trained, trained / "two", "-n", 2, "--agreement")
    agreement = json.loads((trained / "two" / "agreement.json").read_text())
    details = agreement.pop("details")
    assert set(agreement) == {"synthetic", "fresh"} and all(0 <= v <= 1 for v in agreement.values())
    assert {"mean", "error", "floor", "area", "empty", "pairs", "patients"} == set(
        details["synthetic"]
    )


def test_the_judge_of_a_run_that_cannot_be_written_is_kept_with_the_samples(trained, monkeypatch):
    monkeypatch.setattr(judge, "JUDGE_STEPS", 2)
    monkeypatch.setattr(commands.os, "access", lambda path, mode: False)
    sampled(trained, trained / "apart", "-n", 2, "--agreement")
    assert (trained / "apart" / "judge.ckpt").exists()


def test_what_was_measured_of_fewer_samples_is_removed(trained, monkeypatch, capsys):
    monkeypatch.setattr(judge, "JUDGE_STEPS", 2)
    sampled(trained, trained / "grown", "-n", 2, "--agreement")
    sampled(trained, trained / "grown", "-n", 2)
    assert (trained / "grown" / "agreement.json").exists()  # of the same samples
    shutil.copytree(trained / "grown", trained / "copy", copy_function=shutil.copyfile)
    os.utime(trained / "copy" / "manifest.csv")  # the last that was copied
    sampled(trained, trained / "copy", "-n", 2)
    assert (trained / "copy" / "agreement.json").exists()
    (trained / "copy" / "samples.png").unlink()  # is drawn again, and the pairs are the same
    sampled(trained, trained / "copy", "-n", 2)
    assert (trained / "copy" / "agreement.json").exists()
    assert (trained / "copy" / "samples.png").exists()
    monkeypatch.setattr(commands, "measure_novelty", lambda *_: None)  # its data cannot be read
    sampled(trained, trained / "grown", "-n", 3)
    assert not any((trained / "grown" / name).exists() for name in commands.MEASURED)
    assert "the agreement was of other samples, and is removed" in capsys.readouterr().out


def test_sizes_that_are_not_square(tmp_path):
    options = "--preset tiny --steps 2 --batch 2 --pairs 8 --size 24x16 --holdout 0".split()
    assert run("train", *options, "--rule", "matched", "--out", tmp_path / "run") == 0
    assert run("sample", tmp_path / "run", "-n", 2, "--sampling-steps", 2) == 0
    assert PairFolder(tmp_path / "run" / "samples").size == (24, 16)


@pytest.mark.parametrize("preset, size", [("gpu", (128, 128)), ("paper", (512, 512))])
def test_large_presets_take_a_training_step_and_two_sampling_steps(tmp_path, preset, size):
    """At their full size, one pair at a time, in the number format that is fast here."""
    quick = "bfloat16" if machine(torch.device("cpu"))["bfloat16"] else "float32"
    options = f"--steps 1 --batch 1 --pairs 2 --holdout 0 --format {quick}".split()
    assert run("train", "--preset", preset, *options, "--out", tmp_path) == 0
    assert run("sample", tmp_path, "-n", 1, "--sampling-steps", 2, "--batch", 1) == 0
    assert PairFolder(tmp_path / "samples").size == size


# going on from a run


def test_a_training_goes_on_from_a_run_with_its_settings(tmp_path, capsys):
    options = ("--preset", "tiny", "--pairs", 12, "--size", 16, "--steps", 3, "--batch", 2)
    options += ("--holdout", 0.25, "--seed", 3, "--device", "cpu", "--mirror", "--deformed", 9)
    assert run("train", *options, "--keep", "best", "--out", tmp_path / "run") == 0
    told = capsys.readouterr().out
    assert "(and 4 held out) and 9 deformed ones at 16x16" in told and "held-out loss" in told
    assert run("train", "--from", tmp_path / "run", "--steps", 4, "--out", tmp_path / "on") == 0
    before, config = (load_pair(tmp_path / name)[1] for name in ("run", "on"))
    assert config.steps == 4 and config.start == weights_of(tmp_path / "run")
    assert config == replace(before, steps=4, start=config.start)
    assert before.keep == "best" and before.deformed == 9
    # on from there, on other data, and with another rule and rate
    assert run("phantoms", "-n", 12, "--size", 16, "--out", tmp_path / "other") == 0
    other = ("--data", tmp_path / "other", "--rule", "matched", "--rate", 0.01, "--holdout", 0.5)
    assert run("train", "--from", tmp_path / "on", *other, "--out", tmp_path / "tuned") == 0
    tuned = load_pair(tmp_path / "tuned")[1]
    assert (tuned.rule, tuned.rate, tuned.holdout, tuned.seed) == ("matched", 0.01, 0.5, 3)
    assert tuned.start == weights_of(tmp_path / "on")


@pytest.mark.parametrize(
    "options, message",
    [
        (("--preset", "cpu"), "has networks of --preset tiny, not cpu; leave --preset out"),
        (("--schedule", "cosine"), "has networks of --schedule linear, not cosine; leave"),
        (("--holdout", 0.5), "were trained on by .* and would now be held out; leave --holdout"),
        (("--seed", 3), "were held out by .* and would now be trained on; leave --holdout"),
        (("--steps", 0), "steps must be at least 1, not 0"),
        (("--pairs", 7), "--pairs is a number of phantoms; leave it out: the run has a folder"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(trained, capsys, options, message):
    line = refused(capsys, "train", "--from", trained, *options, "--out", trained / "on")
    assert re.search(message, line)


def test_images_that_were_held_out_are_not_trained_on_afterwards(trained, folder, tmp_path, capsys):
    """Whatever the folder is called, whatever has been added to it, and whatever came between."""
    twin = shutil.copytree(folder, tmp_path / "twin")
    other = ("--data", tmp_path / "other")
    phantoms(12, (16, 16), seed=5).save(tmp_path / "other")
    assert run("train", "--from", trained, *other, "--out", tmp_path / "between") == 0
    for start in (trained, tmp_path / "between"):
        for options in (("--seed", 3), ("--holdout", 0)):
            again = ("train", "--from", start, "--data", twin, *options, "--out", tmp_path / "on")
            line = refused(capsys, *again)
            assert re.search("[1-9][0-9]* images, such as S0P.*, were held out by ", line)
    same = ("--data", f"{folder}/", "--seed", 3)
    assert "were held out by" in refused(capsys, "train", "--from", trained, *same)
    larger = ("--data", twin, "--size", 32, "--holdout", 0)  # the same files at another size
    assert "were held out by" in refused(capsys, "train", "--from", trained, *larger)
    assert run("train", "--from", trained, "--data", twin, "--out", tmp_path / "on") == 0


def test_of_a_run_on_all_patients_none_can_be_held_out(tmp_path, capsys):
    out = tmp_path / "all"
    assert run("train", *TINY, "--pairs", 8, "--holdout", 0, "--out", out) == 0
    for options in (("--holdout", 0.5), ("--holdout", 0.5, "--size", 32)):
        line = refused(capsys, "train", "--from", out, *options)
        assert f"were trained on by {out} and would now be held out; leave --holdout" in line
    assert run("train", "--from", out, "--seed", 3, "--out", tmp_path / "on") == 0


def test_a_rule_that_has_changed_does_not_keep_its_weights_from_going_on(tmp_path, my_rule):
    options = (*TINY, "--pairs", 8, "--holdout", 0, "--rule", f"{my_rule}:Mine")
    assert run("train", *options, "--out", tmp_path / "run") == 0
    my_rule.write_text(OWN.replace("0.5", "0.25"))
    for name, rule in (("same", f"{my_rule}:Mine"), ("other", "clean")):
        on = ("--rule", rule, "--out", tmp_path / name)
        assert run("train", "--from", tmp_path / "run", *on) == 0


def test_a_run_that_is_not_there_cannot_be_gone_on_from(tmp_path, capsys):
    line = refused(capsys, "train", "--from", tmp_path / "no", "--out", tmp_path / "on")
    assert "no does not exist" in line


# the cosine schedule: the same commands, and never mixed with the linear one


def test_a_cosine_run_names_its_schedule(cosine):
    assert json.loads((cosine / "config.json").read_text())["config"]["schedule"] == "cosine"
    assert load_checkpoint(cosine / "pair.pt", {"config"})["config"]["schedule"] == "cosine"
    for name in ("model_x", "model_y"):
        saved = load_checkpoint(cosine / f"{name}.ckpt", {"schedule"})
        assert saved["schedule"]["name"] == "cosine"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit], ids=["Ctrl-C", "killed"])
@pytest.mark.parametrize("name", ["model_x", "model_y"])
def test_an_interrupted_cosine_run_resumes_to_the_same_weights(
    cosine, tmp_path, monkeypatch, name, stop
):
    """Ctrl-C saves the last step; after a kill the network starts from its last checkpoint."""
    fit = training_run.fit

    def interrupted(net, loss, pairs, training, checkpoint, **how):
        def stopped(model, pair):
            if checkpoint.stem == name and len(done) == 4:
                raise stop
            return loss(model, pair)

        done = []
        for progress in fit(net, stopped, pairs, training, checkpoint, **how):
            done.append(progress.step)
            yield progress

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "fit", interrupted)
        if stop is KeyboardInterrupt:
            assert run(*COSINE, "--out", tmp_path) == 130
        else:
            with pytest.raises(SystemExit):
                run(*COSINE, "--out", tmp_path)
    assert not (tmp_path / "pair.pt").exists()
    if stop is KeyboardInterrupt:
        assert load_checkpoint(tmp_path / f"{name}.ckpt", {"step"})["step"] == 4
    assert run(*COSINE, "--out", tmp_path) == 0
    assert equal(tmp_path, cosine)


def test_a_cosine_run_is_sampled(cosine, tmp_path):
    pairs = sampled(cosine, tmp_path / "ddim", "-n", 3)
    fast = sampled(cosine, tmp_path / "fast", "-n", 3, "--solver", "dpm++2m")
    assert len(pairs) == len(fast) == 3 and not torch.equal(pairs.images, fast.images)
    linear = tmp_path / "linear"
    shutil.copytree(cosine, linear)
    saved = load_checkpoint(linear / "pair.pt", {"config"})
    saved["config"]["schedule"] = "linear"
    save_checkpoint(linear / "pair.pt", saved)
    assert not torch.equal(sampled(linear, tmp_path / "as linear", "-n", 3).images, pairs.images)


@pytest.mark.parametrize("finished", [True, False])
def test_a_cosine_run_is_not_resumed_as_linear(cosine, tmp_path, capsys, finished):
    out = tmp_path / "run"
    shutil.copytree(cosine, out)
    if not finished:
        (out / "pair.pt").unlink()
        (out / "model_y.ckpt").unlink()
    linear = [word for word in COSINE if word not in ("--schedule", "cosine")]
    line = refused(capsys, *linear, "--out", out)
    assert "schedule 'cosine' there, 'linear' here" in line and "give another --out" in line
    (out / "config.json").unlink()  # the checkpoint names its schedule, too
    line = refused(capsys, *linear, "--out", out)
    assert "model_x.ckpt was made on the schedule cosine, not linear" in line


# a guide rule of one's own, in a file


def test_a_rule_in_a_file_is_trained_and_sampled(my_rule, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", *TINY, "--pairs", 8, "--rule", f"{my_rule}:Mine", "--out", out]
    assert run(*command) == 0
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["rule"] == f"{my_rule}:Mine" and re.fullmatch(
        "[0-9a-f]{6}", config["rule_version"]
    )
    mine = sampled(out, out / "samples", "-n", 2)
    # the same networks, since both rules are trained on clean masks
    clean = tmp_path / "clean"
    assert run("train", *TINY, "--pairs", 8, "--out", clean) == 0
    assert equal(out, clean) and "rule_version" not in (clean / "config.json").read_text()
    assert not torch.equal(mine.images, sampled(clean, clean / "samples", "-n", 2).images)
    # the same file elsewhere is the same rule, a changed one is another
    copy = tmp_path / "elsewhere" / "my_rule.py"
    copy.parent.mkdir()
    shutil.copy(my_rule, copy)
    sampled(out, out / "samples", "-n", 2, "--rule", f"{copy}:Mine")
    assert run(*command) == 0
    my_rule.write_text(OWN.replace("0.5", "0.25"))
    assert "rule_version '" in refused(capsys, *command)
    assert "Mine has changed since" in refused(capsys, "sample", out, "-n", 2)
    line = refused(capsys, "sample", out, "-n", 2, "--rule", f"{my_rule}:Mine")
    assert "rule_version '" in line  # other samples are in that folder


def test_a_rule_edited_while_it_is_trained_is_the_former_until_the_end(
    my_rule, tmp_path, monkeypatch
):
    def edited(net, pair):
        my_rule.write_text(OWN.replace("0.5", "0.25"))
        return model_x_loss(net, pair)

    monkeypatch.setattr(training_run, "model_x_loss", edited)
    out = tmp_path / "run"
    assert run("train", *TINY, "--pairs", 8, "--rule", f"{my_rule}:Mine", "--out", out) == 0


@pytest.fixture
def quick(monkeypatch):
    """The lab's exact worlds in few steps, and its registries restored."""
    monkeypatch.setattr(lab, "STEPS", (4,))
    registries = (rules.RULES, variants.VARIANTS, variants.LAB_NETWORKS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before):
        registry.clear()
        registry.update(content)


def test_a_rule_in_a_file_is_the_same_under_any_spelling(my_rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["train", *TINY, "--pairs", 8, "--holdout", 0, "--out", "run"]
    for spelling in ("my_rule.py", "./my_rule.py", my_rule):
        assert run(*command, "--rule", f"{spelling}:Mine") == 0
    monkeypatch.chdir(tmp_path / "run")  # from anywhere
    assert run("sample", ".", "-n", 1, "--sampling-steps", 2) == 0
    assert run("train", "--from", ".", "--out", "../on") == 0


@pytest.mark.parametrize("rule", ["FILE:Mine", "sign"])
def test_the_lab_ranks_a_rule_beside_blank_matched_and_clean(
    rule, my_rule, tmp_path, capsys, quick
):
    out = tmp_path / "lab.json"
    given = rule.replace("FILE", str(my_rule))
    assert run("lab", "--rule", given, "--quick", "--out", out) == 0
    name = rule.replace("FILE", "my_rule.py")
    rows = json.loads(out.read_text())["rows"]
    assert set(rows) == {name, "blank", "matched", "clean"}
    assert all(set(row) == {"exact"} for row in rows.values())
    told = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in told[1:5]} == set(rows)
    assert told[-1] == f"written to {out}" and not (tmp_path / "lab").exists()


def test_the_lab_ranks_a_rule_beside_the_rows_that_are_given(my_rule, tmp_path, quick):
    out = tmp_path / "lab.json"
    line = ["lab", "--rule", f"{my_rule}:Mine", "--rows", "sign", "--quick", "--out", out]
    assert run(*line) == 0
    assert set(json.loads(out.read_text())["rows"]) == {"my_rule.py:Mine", "sign"}


@pytest.mark.parametrize("command", ["train", "demo", "lab --quick", "sample RUN"])
@pytest.mark.parametrize(
    "rule, message",
    [
        ("blurred", "unknown rule blurred; .*clean, matched, .*, or a class in a file"),
        ("FILE", "unknown rule .*my_rule.py; .*clean, matched, .*: FILE.py:CLASS"),
        ("missing.py:Mine", "missing.py is missing; give its path: --rule FILE.py:Mine"),
        ("FILE:Yours", "my_rule.py has no class Yours"),
        ("FILE:Halved", "is not an object with the methods train and sample"),
        ("raises.py:Mine", "raises.py cannot be run: ZeroDivisionError: division by zero"),
        ("wrong.py:Mine", "wrong.py cannot be run: SyntaxError"),
    ],
)
def test_a_rule_that_cannot_be_used_is_explained(
    command, rule, message, my_rule, trained, tmp_path, monkeypatch, capsys
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "raises.py").write_text("1 / 0")
    (here / "wrong.py").write_text("class Mine\n")
    given = rule.replace("FILE", str(my_rule))
    words = [str(trained) if word == "RUN" else word for word in command.split()]
    line = refused(capsys, *words, "--rule", given, "--out", here / "out.json")
    assert re.search(message, line), line
    assert not (here / "out.json").exists()


# an error: one line that names the file, the value and the remedy; status 2; no traceback


def refused(capsys, *args) -> str:
    capsys.readouterr()
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minipig: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    "command, message",
    [
        ("train --data nowhere", "nowhere/images is not a folder"),
        ("train --size 36", "multiples of 8, not 36x36"),
        ("train --steps 0", "steps must be at least 1, not 0"),
        ("train --batch 0", "batch must be at least 1, not 0"),
        ("train --rate -1", "rate must be above 0, not -1.0"),
        ("train --holdout 1.5", "holdout must be at least 0 and below 1, not 1.5"),
        ("train --pairs 0", "pairs must be at least 1, not 0"),
        ("train --seed -1", "seed must be at least 0, not -1"),
        ("train --batch 2 --accumulate 4", "2 pairs are too few for 4 parts"),
        ("train --data D --pairs 3", "--pairs is a number of phantoms; leave it out"),
        ("table2 --data D --pairs 3", "--pairs is a number of phantoms; leave it out"),
        ("train --accumulate 0", "accumulate must be at least 1, not 0"),
        ("train --device warp", "device 'warp' cannot be used here"),
        ("demo --sampling-steps 0", "sampling steps must be from 1 to 1024, not 0"),
        ("demo --sampling-steps 1025", "sampling steps must be from 1 to 1024, not 1025"),
        ("demo --synthetic 0", "synthetic must be at least 1, not 0"),
        ("demo --seed 1002", "seed 1002 is kept for testing (demo-test)"),
        ("phantoms --seed -1", "seed must be at least 0, not -1"),
        ("sample nowhere -n 0", "n must be at least 1, not 0"),
        ("sample nowhere --batch 0", "batch must be at least 1, not 0"),
        ("sample nowhere", "nowhere does not exist; train it first"),
    ],
)
def test_bad_arguments(tmp_path, capsys, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *command.split(), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("steps", [0, 1025])
def test_bad_sampling_steps(trained, capsys, steps):
    line = refused(capsys, "sample", trained, "--sampling-steps", steps)
    assert f"sampling steps must be from 1 to 1024, not {steps}" in line


def test_a_bad_mask_is_named(tmp_path, capsys):
    phantoms(8, (16, 16)).save(tmp_path)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "masks" / "S0P0000_1.png")
    line = refused(capsys, "train", "--data", tmp_path, *TINY, "--out", tmp_path / "out")
    assert "masks/S0P0000_1.png has 256 values" in line and "prepare --threshold 127" in line


def test_one_patient_is_not_split(tmp_path, capsys):
    phantoms(4, (16, 16)).save(tmp_path)
    line = refused(capsys, "train", "--data", tmp_path, *TINY, "--out", tmp_path / "out")
    assert "cannot split 4 pairs of 1 patient(s)" in line and "--holdout 0" in line


def test_empty_masks_are_counted_and_told(tmp_path, capsys):
    phantoms(8, (16, 16)).save(tmp_path)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "masks" / "S0P0000_1.png")
    command = ["train", "--data", tmp_path, *TINY, "--holdout", 0, "--out", tmp_path / "out"]
    assert run(*command) == 0
    assert "note: 1 of 8 masks are empty at 16x16" in capsys.readouterr().out


def test_a_held_out_part_without_a_lesion_is_told(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    phantoms(16, (16, 16)).save(data)
    config = Config(data=str(data), size=(16, 16), preset="tiny", holdout=0.25)
    for name in load_data(config)[1].names:
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(data / "masks" / name)
    assert run("train", "--data", data, *TINY, "--holdout", 0.25, "--out", out) == 0
    said = capsys.readouterr().out
    assert "note: none of the 4 pairs held out has a lesion, so their losses tell nothing" in said
    assert said.index("none of the 4") < said.index("model_x:")


def test_another_configuration_in_the_same_folder(trained, folder, capsys):
    command = ["train", "--data", folder, *TINY, "--holdout", 0.25, "--out", trained]
    line = refused(capsys, *command, "--rate", 0.5)
    message = "was made with another configuration (rate 0.002 there, 0.5 here); give another --out"
    assert f"{message}, or go on from this run: --from {trained}" in line
    line = refused(capsys, *command, "--schedule", "cosine")  # which could not go on
    assert "(schedule 'linear' there, 'cosine' here); give another --out" in line
    assert "--from" not in line


def test_the_same_pairs_under_another_name_are_the_same_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phantoms(16, (16, 16)).save("mine")
    command = ["train", *TINY, "--holdout", 0.25, "--out", "run"]
    assert run(*command, "--data", "mine") == 0
    assert run("sample", "run", "-n", 2, "--sampling-steps", 2) == 0
    weights = weights_of(Path("run"))
    for spelling in ("./mine", "mine/", tmp_path / "mine", "../" + tmp_path.name + "/mine"):
        assert run(*command, "--data", spelling) == 0
    Path("mine").rename("moved")
    capsys.readouterr()
    assert run("sample", "run", "-n", 2, "--sampling-steps", 2) == 0
    assert "if the folder is elsewhere now, repeat the train command" in capsys.readouterr().out
    assert run(*command, "--data", "moved") == 0
    monkeypatch.chdir(tmp_path / "run")  # from anywhere
    capsys.readouterr()
    assert run("sample", ".", "-n", 2, "--sampling-steps", 2) == 0
    said = capsys.readouterr().out
    assert "novelty: " in said and "not measured" not in said
    assert weights_of(Path(".")) == weights
    assert str(tmp_path / "moved") in (tmp_path / "run" / "config.json").read_text()


def test_pairs_that_have_changed_are_another_run(tmp_path, capsys):
    phantoms(16, (16, 16)).save(tmp_path / "mine")
    command = ["train", *TINY, "--holdout", 0, "--out", tmp_path / "run"]
    assert run(*command, "--data", tmp_path / "mine") == 0
    first = sorted((tmp_path / "mine" / "images").iterdir())[0]
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(first)
    line = refused(capsys, *command, "--data", tmp_path / "mine")
    assert f"was made from other pairs than {tmp_path / 'mine'} holds now; restore them" in line


def test_samples_are_not_compared_with_pairs_that_have_changed(tmp_path, capsys):
    phantoms(16, (16, 16)).save(tmp_path / "mine")
    command = ["train", "--data", tmp_path / "mine", *TINY, "--holdout", 0.25]
    assert run(*command, "--out", tmp_path / "run") == 0
    phantoms(8, (16, 16), seed=3).save(tmp_path / "mine")  # more of them
    capsys.readouterr()
    sampling = ["sample", tmp_path / "run", "-n", 2, "--sampling-steps", 2]
    assert run(*sampling) == 0
    told = "mine have changed since the run was trained on them; restore them, or train again"
    assert f"novelty is not measured: the pairs in {tmp_path}/{told}" in capsys.readouterr().out
    assert told in refused(capsys, *sampling, "--agreement")


def test_the_folder_one_is_in_gives_the_run_its_name(tmp_path, monkeypatch, capsys):
    phantoms(8, (16, 16)).save(tmp_path / "my scans")
    monkeypatch.chdir(tmp_path / "my scans")
    assert run("train", "--data", ".", *TINY, "--holdout", 0) == 0
    assert (tmp_path / "my scans" / "runs" / "my scans" / "pair.pt").exists()
    assert 'next: minipig sample "runs/my scans"' in capsys.readouterr().out


def test_folders_of_others_are_left_alone(trained, folder, tmp_path, capsys):
    line = refused(capsys, "sample", trained, "--out", folder)
    assert "is a folder of pairs, not of results" in line
    line = refused(capsys, "phantoms", "--out", folder)
    assert f"{folder} contains pairs; give a new --out" in line
    (tmp_path / "config.json").write_text("[]")
    line = refused(capsys, "sample", trained, "--out", tmp_path)
    assert "config.json is not a configuration of minipig" in line
    (tmp_path / "demo" / "pair").mkdir(parents=True)
    assert "is a demo's folder; give its run, " in refused(capsys, "sample", tmp_path / "demo")


def test_phantoms_are_drawn_again_and_not_among_pairs_of_the_user(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["phantoms", "-n", 3, "--size", 16, "--out", out]
    assert run(*command) == 0
    (out / "manifest.csv").unlink()
    (out / "masks" / "S0P0000_2.png").unlink()  # as if it had been interrupted
    (out / "masks" / f".minipig-{'0' * 16}.part").touch()
    assert run(*command) == 0 and len(PairFolder(out)) == 3
    for part in ("images", "masks"):
        (out / part / "S0P0000_0.png").rename(out / part / "mine.png")
    (out / "manifest.csv").unlink()
    told = f"{out} contains other files, such as {out}/images/mine.png; give a new --out"
    assert told in refused(capsys, *command) and not (out / "manifest.csv").exists()


def test_agreement_needs_held_out_patients(folder, tmp_path, capsys):
    assert run("train", "--data", folder, *TINY, "--holdout", 0, "--out", tmp_path) == 0
    line = refused(capsys, "sample", tmp_path, "--agreement")
    assert "--agreement needs patients not trained on" in line
    assert not (tmp_path / "samples").exists()


def test_truncated_and_unfinished_runs(trained, tmp_path, capsys):
    half = tmp_path / "half"
    half.mkdir()
    assert "half is not a run; give the folder of a training" in refused(capsys, "sample", half)
    shutil.copy(trained / "config.json", half)
    assert "has not finished training" in refused(capsys, "sample", half)
    whole = (trained / "pair.pt").read_bytes()
    (half / "pair.pt").write_bytes(whole[: len(whole) // 2])
    assert "pair.pt is unreadable" in refused(capsys, "sample", half)
    saved = load_checkpoint(trained / "pair.pt", {"config"})
    for wrong, message in (
        ({"preset": "cpu"}, "was written by another version of minipig; train again"),
        ({"preset": "huge"}, "was written by another version of minipig; train again"),
        ({"colour": 1}, "was written by another version of minipig; train again"),
        ({"rule": "none"}, "unknown rule none"),
        ({"schedule": "none"}, "unknown schedule none"),
    ):
        save_checkpoint(half / "pair.pt", saved | {"config": saved["config"] | wrong})
        assert message in refused(capsys, "sample", half)
    save_checkpoint(half / "pair.pt", {})
    assert "pair.pt is not a checkpoint of minipig" in refused(capsys, "sample", half)


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    """A file in the place of the folder gives the error of a read-only place, also to root."""
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(capsys, "train", *TINY, "--out", tmp_path / "file" / "run")


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    line = refused(capsys, "train", *TINY, "--out", tmp_path / "run")
    assert "No space left on device; what was saved is kept" in line
    assert "change --out, and repeat the command" in line


def test_as_a_process_without_traceback(tmp_path):
    command = [sys.executable, "-m", "minipig", "train", "--data", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    images = re.escape(str(tmp_path / "nowhere" / "images"))
    assert re.fullmatch(rf"minipig: {images} is not a folder.*\n", done.stderr)


def test_importing_the_package_has_no_side_effect(tmp_path):
    code = (
        "import torch; s = torch.get_rng_state(); import minipig.cli, minipig.commands; "
        "print(torch.equal(s, torch.get_rng_state()))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "") and not list(tmp_path.iterdir())


def test_an_interrupted_command_says_how_to_resume(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    for name in ("run_table", "run_bench", "run_solvers"):
        monkeypatch.setattr(commands, name, interrupted)
    resume = "minipig: stopped; repeat the same command to resume\n"
    assert run("table2", "--out", tmp_path / "t") == 130
    assert capsys.readouterr().err == resume
    out = tmp_path / "b.json"
    assert run("bench", "--out", out) == 130
    assert capsys.readouterr().err == f"minipig: stopped; what was measured is in {out}\n"
    assert run("bench", "--solvers", tmp_path, "--out", out) == 130
    assert capsys.readouterr().err == resume


def test_the_table_commands_pass_their_options_on(tmp_path, monkeypatch, capsys):
    calls = []

    def run_table(*arguments):
        calls.append(arguments)
        return {"provenance": {"patients": 80}}

    monkeypatch.setattr(commands, "run_table", run_table)
    options = "--folds 0 3 --rows PIG joint --steps 7 --pairs 60 --schedule cosine".split()
    assert run("table1", *options, "--out", tmp_path) == 0
    assert "the map" not in capsys.readouterr().out
    options = ["--data", "somewhere/set", "--size", "24x32", "--work", tmp_path / "w"]
    assert run("table2", *options) == 0
    first, second = calls
    table, protocol, out, work, _, folds, rows = first
    assert (table, folds, rows) == (1, [0, 3], ["PIG", "joint"])
    assert protocol == Protocol(steps=7, pairs=60, schedule="cosine")
    assert (out, work) == (tmp_path, tmp_path / "work")
    table, protocol, out, work, _, folds, rows = second
    assert (table, folds, rows) == (2, None, None)
    place = str(Path("somewhere/set").resolve())  # one folder, however it is spelled
    assert protocol == Protocol(data=place, size=(24, 32))
    assert (out.as_posix(), work) == ("runs/tables/set", tmp_path / "w")
    told = capsys.readouterr().out
    assert "written to runs/tables/set/table2.json" in told
    assert "drawn images of 100 patients; yours are 80:" in told


@pytest.mark.parametrize(
    "options, n", [("--solvers", 400), ("--completions", 100), ("--solvers -n 7", 7)]
)
def test_the_bench_command_passes_its_options_on(tmp_path, monkeypatch, options, n):
    calls = []
    for name in ("run_solvers", "run_completions"):
        monkeypatch.setattr(commands, name, lambda *arguments: calls.append(arguments))
    kind, *more = options.split()
    assert run("bench", kind, tmp_path / "run", *more, "--out", tmp_path / "b.json") == 0
    ((out, trained, count, *_, folder),) = calls
    assert (out, trained, count) == (tmp_path / "b.json", tmp_path / "run", n)
    assert folder == tmp_path / "b"


@pytest.mark.parametrize(
    "options, idle",
    [
        ("-n 5 --seeds 1", "the bench itself has no use for -n and --seeds"),
        ("--solvers RUN --quick", "--solvers has no use for --quick"),
        ("--completions RUN --seeds 5", "--completions has no use for --seeds"),
    ],
)
def test_the_bench_refuses_options_that_it_would_ignore(tmp_path, capsys, options, idle):
    line = refused(capsys, "bench", *options.split(), "--out", tmp_path / "b.json")
    assert f"{idle}; leave that out" in line


def test_the_lab_command_passes_its_options_on(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(commands, "run_lab", lambda *args, **options: calls.append((args, options)))
    line = "lab --rows clean --seeds 1 --solver dpm++2m --schedule cosine --out".split()
    assert run(*line, tmp_path / "l.json") == 0
    (((out, work, _, protocol), options),) = calls
    assert (out, work) == (tmp_path / "l.json", tmp_path / "l" / "work")
    assert protocol == Protocol(measured=256, schedule="cosine")
    assert options == dict(seeds=[1], names=["clean"], quick=False, solver="dpm++2m")


def test_tables_refuse_unknown_folds_rows_and_folders(tmp_path, capsys):
    out = tmp_path / "o"
    line = refused(capsys, "table2", "--folds", 5, "--out", out)
    assert "--folds cannot be 5; choose from 0, 1, 2, 3, 4" in line
    line = refused(capsys, "table2", "--rows", "PIG", "DDIM", "--out", out)
    assert "--rows cannot be DDIM; choose from real, fresh, classical, classical-upright" in line
    line = refused(capsys, "table1", "--data", tmp_path / "nothing", "--out", out)
    assert "nothing/images is not a folder" in line
    assert not out.exists()


def test_a_lack_of_memory_is_told_with_what_helps():
    """For train a smaller batch would be another training, which the same folder refuses."""
    for command, remedy in (
        ("train", "--accumulate 2"),
        ("sample RUN", "give a lower --batch"),
        ("table1", "free memory, or use a larger machine"),
    ):
        error = torch.OutOfMemoryError("CUDA out of memory")
        line = explain(error, parser().parse_args(command.split()))
        assert line.startswith("out of memory; ") and remedy in line
    line = explain(MemoryError(), parser().parse_args(["train"]))  # for data, not for a batch
    assert "free memory" in line and "--accumulate" not in line


def test_the_rule_previous_is_sampled_in_the_steps_it_is_trained_for(tmp_path, capsys):
    line = refused(capsys, "demo", "--rule", "previous", "--out", tmp_path / "demo")
    assert "Previous needs the solver ddim with 256 sampling steps" in line
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("kind", ["--solvers", "--completions"])
def test_a_benchmark_is_written_to_a_file(trained, tmp_path, capsys, kind):
    line = refused(capsys, "bench", kind, trained, "--out", tmp_path / "bb")
    assert f"--out must be a file, such as {tmp_path}/bb.json" in line


def test_an_error_that_mentions_memory_is_not_a_lack_of_it(monkeypatch):
    def fails(*_):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setitem(commands.COMMANDS, "phantoms", fails)
    with pytest.raises(RuntimeError, match="illegal"):
        run("phantoms", "--out", "nowhere")


# what the environment lacks, in one line


def test_no_compiler_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    def compile_fails(*_, **how):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in CXX")

    monkeypatch.setattr(commands, "train_pair", compile_fails)
    options = (*TINY, "--pairs", 8, "--out", tmp_path)
    line = refused(capsys, "train", *options, "--compile")
    assert "--compile needs a C++ compiler (g++, or CXX); install one, or leave --compile" in line
    with pytest.raises(RuntimeError, match="InvalidCxxCompiler"):  # else it is a defect
        run("train", *options)
    line = refused(capsys, "train", "--compile", "--data", tmp_path / "compiler")
    assert "compiler/images is not a folder" in line


def test_a_stray_world_size_is_named(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    line = refused(capsys, "train", *TINY, "--pairs", 8)
    assert (
        "not started by torchrun, though WORLD_SIZE is set (4); use torchrun, or unset it" in line
    )


@pytest.mark.parametrize("value", ["", "abc", "2.5", "0"])
@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_WORLD_SIZE"])
def test_a_number_of_processes_that_is_none_is_named(monkeypatch, capsys, tmp_path, name, value):
    monkeypatch.setenv(name, value)
    line = refused(capsys, "train", *TINY, "--pairs", 8, "--out", tmp_path / "run")
    assert f"{name} is {value!r}, and no number of processes; unset it" in line
