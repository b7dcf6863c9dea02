"""What goes wrong at night: kills, Ctrl-C, a full disk, a vanished file, two processes at one run.

In CI each command is killed three times; `pytest -m faults` kills each twenty times.
"""

import json
import multiprocessing
import os
import re
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minipig.cli import main
from minipig.data import folder as data
from minipig.data.files import load_checkpoint
from minipig.data.folder import PairFolder
from minipig.data.phantoms import phantoms
from minipig.evidence import judge
from minipig.evidence.tables import experiment
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.runner import run_table
from minipig.training import loop, run

resource = pytest.importorskip("resource", reason="Windows has neither limits nor fork servers")
EVERY = 10  # steps from checkpoint to checkpoint, here
SMALL = dict(preset="tiny", size=(16, 16), pairs=20, folds=2, steps=12, batch=4, synthetic=4)
SEGMENTER = dict(segmenter_steps=12, segmenter_batch=4)
MEASURES = dict(measured=4, reference=8, test=8, judge_pairs=8, judge_steps=12)
TABLE = Protocol(**SMALL, **SEGMENTER, **MEASURES)
TRAIN = "train --preset tiny --steps 40 --batch 8 --pairs 24 --out".split()


def train_command(out):
    return main([*TRAIN, str(out)])


def sample_command(trained, out):
    options = "-n 192 --sampling-steps 6 --out".split()
    return main(["sample", str(trained), *options, str(out)])


def prepare_command(src, out):
    layout = ["--images", "images/*.png", "--masks", "masks/{stem}.png", "--patient", "(P[0-9]+)"]
    return main(["prepare", str(src), str(out), *layout])


def table_command(out):
    return not run_table(2, TABLE, out, out / "work", torch.device("cpu"), [0], ["real", "PIG"])


def child(command, out, step, place, limit=None):
    """Run a command in a process of its own, one thread; report its step, and the file it saves."""
    torch.set_num_threads(1)
    # a shell starts its background processes deaf to Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(out.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    fit = loop.fit

    def reported(net, loss, pairs, training, checkpoint=None, **options):
        step.value = 0
        place.value = str(checkpoint or "").encode()
        for progress in fit(net, loss, pairs, training, checkpoint, every=EVERY, **options):
            step.value = progress.step
            yield progress

    run.fit = experiment.fit = judge.fit = reported
    os._exit(command(out))


class Child:
    def __init__(self, command, out, limit=None):
        self.out = out
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["minipig.commands"])
        self.step = server.Value("i", 0)
        self.place = server.Array("c", 400)
        arguments = (command, out, self.step, self.place, limit)
        self.process = server.Process(target=child, args=arguments)
        self.process.start()

    def wait_for(self, step):
        deadline = time.monotonic() + 60
        while self.step.value < step:
            assert self.process.is_alive() and time.monotonic() < deadline
            time.sleep(0.001)

    def end(self, sign=None):
        """Its exit status, after a signal."""
        with suppress(ProcessLookupError):  # it may have ended by itself
            if sign:
                os.kill(self.process.pid, sign)
        self.process.join()
        return self.process.exitcode

    def lost(self):
        """How many steps were done and not saved."""
        path = Path(self.place.value.decode())
        if path.is_file():
            return max(0, self.step.value - load_checkpoint(path, {"step"})["step"])
        key = path.stem.split("-")[-1]  # a table's checkpoint is deleted when its record is written
        recorded = key and any(key in record.read_text() for record in self.out.glob("fold_*.json"))
        return 0 if recorded else self.step.value


def whole(folder):
    """Every file under its final name can be read to its end."""
    for path in folder.rglob("*"):
        if path.suffix in (".pt", ".ckpt", ".best"):
            load_checkpoint(path, set())
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".html":
            assert path.read_text().endswith("</html>\n")
        elif path.suffix == ".csv":
            assert path.read_text().endswith("\n")
        else:
            assert path.is_dir() or path.suffix in (".part", ".lock"), path


def result(folder):
    """All that a command promises, but for the seconds that it took."""
    if (folder / "table2.json").exists():
        return json.loads((folder / "table2.json").read_text())["rows"]
    if (folder / "pair.pt").exists():
        saved = load_checkpoint(folder / "pair.pt", {"model_x", "model_y"})
        weights = {
            f"{net}.{key}": w.tolist()
            for net in ("model_x", "model_y")
            for key, w in saved[net].items()
        }
        return weights | {"losses": (folder / "losses.csv").read_text()}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("images", "masks", ".")
        for path in folder.glob(f"{part}/[!.]*.[pc]*")
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("calm") / "run"
    assert Child(train_command, out).end() == 0
    return out


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    phantoms(200, (64, 64)).save(root)
    return root


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.faults)])
@pytest.mark.parametrize("name", ["train", "sample", "table", "prepare"])
def test_killed_at_random_moments_it_ends_as_if_nothing_had_been(
    tmp_path, trained, published, name, kills
):
    command = {
        "train": train_command,
        "sample": partial(sample_command, trained),
        "table": table_command,
        "prepare": partial(prepare_command, published),
    }[name]
    rng = np.random.default_rng(kills)
    start = time.monotonic()
    assert Child(command, tmp_path / "calm").end() == 0
    duration = time.monotonic() - start
    calm = result(tmp_path / "calm")
    lost = []
    runs = 0
    ended = True
    while len(lost) < kills or not ended:
        out = tmp_path / f"disturbed_{runs}"
        worker = Child(command, out)
        sign = None
        if len(lost) < kills:
            worker.process.join(rng.uniform(0, duration))
            sign = signal.SIGKILL
        if (status := worker.end(sign)) == -signal.SIGKILL:
            lost.append(worker.lost())
            ended = False
        else:
            assert status == 0, out.with_suffix(".err").read_text()
            assert result(out) == calm
            runs += 1
            ended = True
        if out.exists():
            whole(out)
    assert max(lost) <= EVERY and runs >= 1
    print(f"{name}: {len(lost)} kills in {runs} runs; steps lost: {lost}; no difference")


def last_line(out):
    """What a command wrote last to its log; before it, only a training's signs of life."""
    *before, line = out.with_suffix(".err").read_text().strip().splitlines()
    assert all(re.fullmatch(r"training model_[xy]: step .* left", each) for each in before)
    return line


@pytest.mark.parametrize("sign, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_saves_the_very_step(tmp_path, trained, sign, status):
    out = tmp_path / "run"
    worker = Child(train_command, out)
    worker.wait_for(23)
    assert worker.end(sign) == status
    assert worker.lost() == 0 and load_checkpoint(out / "model_x.ckpt", {"step"})["step"] % EVERY
    line = last_line(out)
    assert line == "minipig: stopped; repeat the same command to resume"
    assert Child(train_command, out).end() == 0 and result(out) == result(trained)


def test_a_file_that_cannot_grow_stops_it_and_what_was_saved_is_kept(tmp_path, trained):
    out = tmp_path / "run"
    assert Child(train_command, out, limit=50_000).end() == 2
    line = last_line(out)
    assert "File too large; what was saved is kept" in line and "\n" not in line
    whole(out)
    assert Child(train_command, out).end() == 0 and result(out) == result(trained)


def test_a_second_process_is_refused(tmp_path, trained, capsys):
    out = tmp_path / "run"
    worker = Child(train_command, out)
    worker.wait_for(3)
    os.kill(worker.process.pid, signal.SIGSTOP)  # however fast it is, it is not done yet
    assert train_command(out) == 2
    os.kill(worker.process.pid, signal.SIGCONT)
    line = f"another process is writing {out}/model_x.ckpt; wait for it"
    assert line in capsys.readouterr().err
    assert worker.end() == 0 and result(out) == result(trained)
    assert train_command(out) == 0  # and afterwards nobody stands in the way


def test_a_file_that_vanishes_is_named(tmp_path, monkeypatch):
    phantoms(4, (16, 16)).save(tmp_path)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    read = data.read_image

    def vanishing(path):
        (tmp_path / "images" / names[2]).unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(data, "read_image", vanishing)
    with pytest.raises(ValueError, match=f"{names[2]} cannot be read as an image .*No such file"):
        PairFolder(tmp_path)
