"""Samples as PNG files: continued batch by batch, never by two processes, and drawn."""

import csv
import shutil

import pytest
import torch
from PIL import Image

from minipig import plot
from minipig.data.files import locked
from minipig.data.folder import PairFolder
from minipig.data.heartbeat import Heartbeat
from minipig.extras.solvers import SOLVERS
from minipig.rules import Clean, Previous
from minipig.sampler import PairModel, sample
from minipig.schedule import Schedule
from minipig.training import sampling
from minipig.training.sampling import draw_figures, sample_folder

CPU = torch.device("cpu")
GREY = 1 / 127.5 + 1e-6  # one of 255 grey levels


def pair(rule=None):
    """A model whose masks have both values, in no time."""
    schedule = Schedule.linear()
    return PairModel(
        lambda z, t, y: 0.9 * z + 0.02 * y, lambda z, t, g: 0.9 * z, schedule, rule or Clean()
    )


def drawn(folder, n, batch=64, seed=0, steps=3, solver="ddim"):
    return sample_folder(folder, pair(), n, (8, 16), steps, seed, CPU, batch, solver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_folder_holds_the_pairs_of_sample(tmp_path, solver, capsys):
    pairs = drawn(tmp_path, 5, batch=2, solver=solver)
    parts = list(sample(pair(), 5, (8, 16), 3, batch=2, solver=SOLVERS[solver]))
    masks = torch.cat([mask for mask, _ in parts])
    slices = torch.cat([image for _, image in parts])
    assert len(pairs) == 5 and pairs.size == (8, 16)
    assert torch.equal(pairs.masks, masks > 0) and 0 < pairs.masks.float().mean() < 1
    assert (pairs.images - slices).abs().max() <= GREY
    assert pairs.names == [f"synthetic_{i:05d}.png" for i in range(5)]
    line = capsys.readouterr().out
    assert f"{tmp_path}: 5 pairs, lesions cover" in line and line.count("\n") == 1


def test_a_manifest_gives_every_pair_a_patient_of_its_own(tmp_path):
    drawn(tmp_path, 3)
    rows = list(csv.DictReader((tmp_path / "manifest.csv").read_text().splitlines()))
    assert [row["patient"] for row in rows] == [f"synthetic_{i:05d}" for i in range(3)]


def test_a_folder_is_continued_and_nothing_is_deleted(tmp_path):
    drawn(tmp_path / "five", 5, batch=2)
    first = (tmp_path / "five" / "images" / "synthetic_00000.png").stat().st_mtime_ns
    continued = drawn(tmp_path / "five", 8)
    whole = drawn(tmp_path / "eight", 8)
    assert len(continued) == 8 and (continued.images - whole.images).abs().max() <= GREY
    assert (tmp_path / "five" / "images" / "synthetic_00000.png").stat().st_mtime_ns == first
    assert len(drawn(tmp_path / "five", 3)) == 8


def test_files_of_a_batch_that_was_not_finished_are_removed(tmp_path):
    """A kill between a batch's images and the manifest, and then the former number again."""
    drawn(tmp_path, 4)
    for part in ("images", "masks"):
        shutil.copy(
            tmp_path / part / "synthetic_00003.png", tmp_path / part / "synthetic_00004.png"
        )
    (tmp_path / "masks" / "synthetic_00004.png").unlink()
    assert len(drawn(tmp_path, 4)) == 4


def test_pairs_that_were_removed_are_told(tmp_path, capsys):
    drawn(tmp_path, 5)
    for part in ("images", "masks"):
        (tmp_path / part / "synthetic_00001.png").unlink()
    capsys.readouterr()
    assert len(drawn(tmp_path, 5)) == 4
    assert f"note: 1 pairs were removed from {tmp_path}: they are not" in capsys.readouterr().out


def test_pairs_that_were_removed_with_their_rows_are_not_drawn_again(tmp_path, capsys):
    """The last pairs stay, and so does a file whose name is no number."""
    drawn(tmp_path, 5)
    for part in ("images", "masks"):
        (tmp_path / part / "synthetic_00001.png").unlink()
        shutil.copy(
            tmp_path / part / "synthetic_00002.png", tmp_path / part / "synthetic_00002_b.png"
        )
    manifest = tmp_path / "manifest.csv"
    rows = [row for row in manifest.read_text().splitlines() if "00001" not in row]
    manifest.write_text("\n".join([*rows, "synthetic_00002_b.png,own", ""]))
    names = drawn(tmp_path, 3).names
    assert names == [f"synthetic_{k}.png" for k in ("00000", "00002", "00002_b", "00003", "00004")]
    assert drawn(tmp_path, 6).names == [*names, "synthetic_00005.png"]


def test_an_interrupted_sampling_is_completed(tmp_path, monkeypatch):
    """Ctrl-C while the second batch is written: whole batches are kept, and the rest is drawn."""
    calls = []
    save = sampling.Pairs.save

    def interrupted(self, folder):
        calls.append(self.names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(self, folder)

    monkeypatch.setattr(sampling.Pairs, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path / "a", 5, batch=2)
    assert len(PairFolder(tmp_path / "a")) == 2
    resumed = drawn(tmp_path / "a", 5, batch=2)
    assert torch.equal(resumed.images, drawn(tmp_path / "b", 5, batch=2).images)


def test_two_processes_do_not_sample_into_one_folder(tmp_path):
    with locked(tmp_path / "manifest.csv"):
        with pytest.raises(ValueError, match="another process is writing .*manifest.csv"):
            drawn(tmp_path, 2)
    assert len(drawn(tmp_path, 2)) == 2


def test_steps_that_the_rule_was_not_trained_for_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Previous needs the solver ddim with 4 sampling steps"):
        sample_folder(tmp_path, pair(Previous(4)), 2, (8, 8), 3, 0, CPU)
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps, at", [(8, (2, 4, 6, 8)), (6, (2, 3, 5, 6)), (1, (1, 1, 1, 1))])
def test_figures_show_samples_and_the_quarters_of_the_walk(
    tmp_path, monkeypatch, steps, at, solver
):
    seen = []
    draw = plot.figure_3

    def figure_3(states, at):
        kept = list(states)
        seen.append((len(kept), at, kept[-1].y0_hat))
        return draw(kept, at)

    monkeypatch.setattr(plot, "figure_3", figure_3)
    pairs = drawn(tmp_path, 5, steps=steps, solver=solver)
    draw_figures(tmp_path, pair(), pairs, steps, 0, CPU, solver)
    ((length, quarters, last),) = seen
    assert length == steps and quarters == at
    assert (last - pairs.images[:4]).abs().max() <= GREY  # the walk of the same samples
    for name in ("samples.png", "figure_3.png", "method.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300


def test_a_batch_tells_how_far_it_is_before_it_is_done(tmp_path, monkeypatch):
    told = []

    def step(self, at, n, losses):
        if self.label == "sampling":  # not the reading of the samples afterwards
            told.append((at, n))
        return ""

    monkeypatch.setattr(Heartbeat, "step", step)
    sample_folder(tmp_path, pair(), 6, (8, 16), 4, 0, CPU, batch=4)
    assert told == [(0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (4, 6), (5, 6), (5, 6), (6, 6)]
