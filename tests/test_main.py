"""The command line, as a user meets it: the main job in miniature, and one line with status 2 for bad input."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from minipig import __main__ as cli
from minipig import plot
from minipig import run as minipig_run
from minipig.__main__ import explain, main, parser
from minipig.data import PairFolder
from minipig.evidence.protocol import Protocol
from minipig.phantoms import phantoms

TINY = ["--preset", "tiny", "--steps", "3", "--batch", "2", "--size", "16"]


def run(*args):
    return main([str(a) for a in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    phantoms(16, (16, 16)).save(root)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder):
    out = tmp_path_factory.mktemp("runs") / "mine"
    assert run("train", "--data", folder, *TINY, "--holdout", "0.25", "--out", out) == 0
    return out


def test_demo_in_miniature(tmp_path, monkeypatch, capsys):
    from minipig.evidence import demo

    monkeypatch.setattr(demo, "JUDGE_PAIRS", 8), monkeypatch.setattr(demo, "JUDGE_STEPS", 2)
    monkeypatch.setattr(demo, "TEST_PAIRS", 8), monkeypatch.setattr(demo, "SEGMENTER_STEPS", 2)
    command = ["demo", *TINY, "--pairs", "8", "--synthetic", "6", "--sampling-steps", "2", "--out", tmp_path]
    assert run(*command) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["segmentation"]) == {"real", "real+synthetic", "real+fresh"}
    for row in metrics["segmentation"].values():
        assert set(row) == {"dice", "iou", "precision", "recall"} and all(len(v) == 3 for v in row.values())
    assert set(metrics["pair_agreement"]) == {"synthetic", "fresh"} and metrics["seconds"] > 0
    assert len(PairFolder(tmp_path / "synthetic")) == 6
    for name in ("samples.png", "figure_3.png", "pair/losses.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300
    assert json.loads((tmp_path / "config.json").read_text())["config"]["pair"]["preset"] == "tiny"
    assert "gain in Dice" in capsys.readouterr().out
    before = metrics["segmentation"]
    (tmp_path / "metrics.json").unlink()  # an interrupted demo goes on, and ends with the same figures
    assert run(*command) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["segmentation"] == before


def test_train_and_sample_on_a_folder(trained, capsys):
    assert run("sample", trained, "-n", 5, "--steps", 3, "--batch", 2, "--out", trained / "five") == 0
    five = PairFolder(trained / "five")
    assert five.size == (16, 16) and len(five) == 5 and (trained / "five" / "figure_3.png").exists()
    assert run("sample", trained, "-n", 8, "--steps", 3, "--batch", 8, "--out", trained / "five") == 0  # three more
    assert run("sample", trained, "-n", 8, "--steps", 3, "--batch", 8, "--out", trained / "eight") == 0
    extended, eight = PairFolder(trained / "five"), PairFolder(trained / "eight")
    assert len(extended) == 8 and (extended.images - eight.images).abs().max() <= 1 / 127.5 + 1e-6
    assert "8 pairs" in capsys.readouterr().out


def test_a_rule_that_trains_alike_may_sample_and_no_other(trained, capsys):
    assert run("sample", trained, "-n", 2, "--steps", 3, "--rule", "sign", "--out", trained / "by sign") == 0
    assert run("sample", trained, "-n", 2, "--steps", 3, "--out", trained / "by clean") == 0
    by_sign, by_clean = (PairFolder(trained / name) for name in ("by sign", "by clean"))
    assert not torch.equal(by_sign.images, by_clean.images)
    assert "was trained by the rule clean; matched needs another training" in refused(
        capsys, "sample", trained, "--rule", "matched"
    )
    assert "rule 'sign' there, 'clean' here" in refused(capsys, "sample", trained, "--steps", 3, "--out", trained / "by sign")


def test_a_run_that_was_trained_anew_is_another_and_one_by_another_path_is_not(trained, tmp_path, monkeypatch, capsys):
    again = tmp_path / "again"
    shutil.copytree(trained, again, ignore=shutil.ignore_patterns("*.ckpt"))
    ask = ("-n", 2, "--steps", 3, "--out", tmp_path / "drawn")
    assert run("sample", again, *ask) == 0
    monkeypatch.chdir(tmp_path)
    assert run("sample", "again", *ask, "--rule", "clean") == 0
    saved = torch.load(again / "pair.pt", weights_only=True)
    saved["model_y"] = {name: weight + 1 for name, weight in saved["model_y"].items()}
    torch.save(saved, again / "pair.pt")
    assert "was made with another configuration (weights " in refused(capsys, "sample", "again", *ask)


def test_the_losses_can_be_looked_at_while_they_are_learnt(tmp_path, monkeypatch):
    seen, save = [], plot.save
    monkeypatch.setattr(minipig_run, "LOOK", 1)
    monkeypatch.setattr(plot, "save", lambda figure, path: seen.append(path.name) or save(figure, path))
    assert run("train", *TINY, "--pairs", 8, "--device", "cpu", "--out", tmp_path) == 0
    assert seen == ["losses.png"] * 7  # after each of three steps of either network, and at the end


def test_agreement_is_measured_against_held_out_patients(trained, monkeypatch):
    from minipig.evidence import demo

    monkeypatch.setattr(demo, "JUDGE_STEPS", 2)
    assert run("sample", trained, "-n", 2, "--steps", 2, "--agreement", "--out", trained / "two") == 0
    agreement = json.loads((trained / "two" / "agreement.json").read_text())
    assert set(agreement) == {"synthetic", "fresh"} and all(0 <= v <= 1 for v in agreement.values())


def test_sizes_that_are_not_square(tmp_path):
    arguments = ["--preset", "tiny", "--steps", 2, "--batch", 2, "--pairs", 8, "--size", "24x16", "--holdout", 0]
    assert run("train", *arguments, "--rule", "matched", "--out", tmp_path / "run") == 0
    assert run("sample", tmp_path / "run", "-n", 2, "--steps", 2) == 0
    assert PairFolder(tmp_path / "run" / "samples").size == (24, 16)


@pytest.mark.parametrize("preset", ["gpu", "paper"])
def test_large_presets_take_two_training_and_two_sampling_steps(tmp_path, preset):
    """At their full size, 128x128 and 512x512, one pair at a time."""
    arguments = ["--preset", preset, "--steps", 2, "--batch", 1, "--pairs", 2, "--holdout", 0]
    assert run("train", *arguments, "--out", tmp_path) == 0
    assert run("sample", tmp_path, "-n", 1, "--steps", 2, "--batch", 1) == 0
    assert PairFolder(tmp_path / "samples").size == {"gpu": (128, 128), "paper": (512, 512)}[preset]


# Bad input: one line that names the file, the value and the remedy; status 2; no traceback.


def refused(capsys, *args) -> str:
    capsys.readouterr()
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minipig: ") and captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["train", "--data", "nowhere"], "nowhere/images is not a folder"),
        (["train", "--size", "36"], "multiples of 8, not 36x36"),
        (["train", "--steps", "0"], "steps must be at least 1, not 0"),
        (["train", "--batch", "0"], "batch must be at least 1, not 0"),
        (["train", "--rate", "-1"], "rate must be above 0, not -1.0"),
        (["train", "--holdout", "1.5"], "holdout must be at least 0 and below 1, not 1.5"),
        (["train", "--pairs", "0"], "phantoms need n >= 1"),
        (["train", "--seed", "-1"], "seed must be at least 0, not -1"),
        (["train", "--device", "warp"], "'warp' is not a device"),
        (["demo", "--sampling-steps", "0"], "0 sampling steps asked for"),
        (["demo", "--sampling-steps", "1025"], "1025 sampling steps asked for"),
        (["demo", "--synthetic", "0"], "synthetic must be at least 1, not 0"),
        (["demo", "--seed", "1002"], "seed 1002 draws the phantoms that the demo tests on"),
        (["phantoms", "--seed", "-1"], "seed must be at least 0, not -1"),
        (["sample", "nowhere", "-n", "0"], "n must be at least 1, not 0"),
        (["sample", "nowhere", "--batch", "0"], "batch must be at least 1, not 0"),
        (["sample", "nowhere"], "nowhere does not exist: train it first"),
    ],
)
def test_bad_arguments(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments, "--out", tmp_path / "out")


@pytest.mark.parametrize("steps", [0, 1025])
def test_bad_sampling_steps(trained, capsys, steps):
    assert f"{steps} sampling steps asked for" in refused(capsys, "sample", trained, "--steps", steps)


def test_a_bad_mask_is_named(tmp_path, capsys):
    phantoms(8, (16, 16)).save(tmp_path)
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "masks" / "S0P0000_1.png")
    said = refused(capsys, "train", "--data", tmp_path, *TINY, "--out", tmp_path / "out")
    assert "masks/S0P0000_1.png has 256 values" in said and "threshold it first" in said


def test_one_patient_is_not_split(tmp_path, capsys):
    phantoms(4, (16, 16)).save(tmp_path)
    said = refused(capsys, "train", "--data", tmp_path, *TINY, "--out", tmp_path / "out")
    assert "cannot split 4 pairs of 1 patient(s)" in said and "--holdout 0" in said


def test_empty_masks_are_counted_and_told(tmp_path, capsys):
    phantoms(8, (16, 16)).save(tmp_path)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "masks" / "S0P0000_1.png")
    assert run("train", "--data", tmp_path, *TINY, "--holdout", 0, "--out", tmp_path / "out") == 0
    assert "note: 1 of 8 masks are empty at 16x16" in capsys.readouterr().out


def test_another_configuration_in_the_same_folder(trained, folder, capsys):
    said = refused(capsys, "train", "--data", folder, *TINY, "--holdout", "0.25", "--rate", "0.5", "--out", trained)
    assert "was made with another configuration (rate 0.002 there, 0.5 here); give another --out" in said


def test_folders_of_others_are_left_alone(trained, folder, tmp_path, capsys):
    assert "holds pairs that are not ours" in refused(capsys, "sample", trained, "--out", folder)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json is no configuration of minipig" in refused(capsys, "sample", trained, "--out", tmp_path)
    (tmp_path / "demo" / "pair").mkdir(parents=True)
    assert "is a demo's folder; its run is" in refused(capsys, "sample", tmp_path / "demo")


def test_agreement_needs_held_out_patients(folder, tmp_path, capsys):
    assert run("train", "--data", folder, *TINY, "--holdout", 0, "--out", tmp_path) == 0
    assert "--agreement needs held-out patients" in refused(capsys, "sample", tmp_path, "--agreement")


def test_truncated_and_unfinished_runs(trained, tmp_path, capsys):
    (tmp_path / "half").mkdir()
    assert "half is none: it has no config.json" in refused(capsys, "sample", tmp_path / "half")
    shutil.copy(trained / "config.json", tmp_path / "half")
    assert "has not finished training" in refused(capsys, "sample", tmp_path / "half")
    whole = (trained / "pair.pt").read_bytes()
    (tmp_path / "half" / "pair.pt").write_bytes(whole[: len(whole) // 2])
    assert "pair.pt is not a whole checkpoint" in refused(capsys, "sample", tmp_path / "half")
    saved = torch.load(trained / "pair.pt", weights_only=True)
    for wrong in ({"preset": "cpu"}, {"preset": "huge"}, {"rule": "none"}, {"colour": 1}):
        torch.save(saved | {"config": saved["config"] | wrong}, tmp_path / "half" / "pair.pt")
        assert "pair.pt holds a configuration or networks" in refused(capsys, "sample", tmp_path / "half")
    torch.save({}, tmp_path / "half" / "pair.pt")
    assert "pair.pt is no checkpoint of minipig" in refused(capsys, "sample", tmp_path / "half")


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    """A file stands where the folder should be: the same error as a read-only place, also for root."""
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(capsys, "train", *TINY, "--out", tmp_path / "file" / "run")


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(capsys, "train", *TINY, "--out", tmp_path / "run")


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["sample"], ["phantoms"]])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args([*command, "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and "examples:" in said and "goes on where it was" in said


def test_as_a_process_without_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "minipig", "train", "--data", "nowhere"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and re.fullmatch(r"minipig: nowhere/images is not a folder.*\n", done.stderr)


def test_importing_the_package_has_no_side_effect(tmp_path):
    code = "import torch; s = torch.get_rng_state(); import minipig.__main__; print(torch.equal(s, torch.get_rng_state()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "") and not list(tmp_path.iterdir())


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_table", interrupted), monkeypatch.setattr(cli, "run_bench", interrupted)
    assert run("table2", "--out", tmp_path / "t") == 130
    assert capsys.readouterr().err == "minipig: stopped; repeat the same command to go on\n"
    assert run("bench", "--out", tmp_path / "b.json") == 130
    assert capsys.readouterr().err == f"minipig: stopped; {tmp_path / 'b.json'} keeps what was measured\n"


def test_the_table_commands_hand_over_what_was_asked(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cli, "run_table", lambda *arguments: asked.append(arguments))
    assert run("table1", "--folds", 0, 3, "--rows", "PIG", "joint", "--steps", 7, "--pairs", 60, "--out", tmp_path) == 0
    assert run("table2", "--data", "somewhere/set", "--size", "24x32", "--work", tmp_path / "w") == 0
    (table, protocol, out, work, _, folds, rows), (other, real, real_out, real_work, _, all_folds, all_rows) = asked
    assert (table, protocol, folds, rows) == (1, Protocol(steps=7, pairs=60), [0, 3], ["PIG", "joint"])
    assert (out, work) == (tmp_path, tmp_path / "work")
    assert (other, all_folds, all_rows) == (2, None, None)
    assert real == Protocol(data="somewhere/set", size=(24, 32))
    assert (real_out.as_posix(), real_work) == ("runs/tables/set", tmp_path / "w")
    assert "runs/tables/set/table2.json holds it" in capsys.readouterr().out


def test_tables_refuse_folds_and_folders_that_are_not_there(tmp_path, capsys):
    assert run("table2", "--folds", 5, "--out", tmp_path) == 2
    assert "folds run from 0 to 4, not 5" in capsys.readouterr().err
    assert run("table2", "--rows", "PIG", "DDIM", "--out", tmp_path) == 2
    assert "table 2 has no row DDIM; it has real, fresh, classical, LDM" in capsys.readouterr().err
    assert run("table1", "--data", tmp_path / "nothing", "--out", tmp_path / "o") == 2
    assert "nothing/images is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_memory_that_ran_out_is_told_with_what_helps():
    """For train a smaller batch would be another training, which the same folder refuses."""
    for command, cure in (("train", "--accumulate 2"), ("sample RUN", "lower --batch"), ("table1", "smaller --size")):
        assert cure in explain(torch.OutOfMemoryError("CUDA out of memory"), parser().parse_args(command.split()))


def test_the_rule_previous_is_not_demonstrated_in_other_steps_than_it_learns(tmp_path, capsys):
    assert "cannot be sampled in 50 by ddim" in refused(capsys, "demo", "--rule", "previous", "--out", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("kind", ["--solvers", "--completions"])
def test_a_benchmark_goes_into_a_file(trained, tmp_path, capsys, kind):
    assert "--out is a file, such as" in refused(capsys, "bench", kind, trained, "--out", tmp_path / "bb")


def test_an_error_that_only_speaks_of_memory_is_not_told_as_a_lack_of_it(monkeypatch):
    def fails(*_):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setitem(cli.COMMANDS, "phantoms", fails)
    with pytest.raises(RuntimeError, match="illegal"):
        run("phantoms", "--out", "nowhere")
