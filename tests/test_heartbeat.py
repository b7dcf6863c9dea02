"""Lines for a log: when they come, what they say, and where there are none."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from minipig.data import heartbeat as module
from minipig.data.heartbeat import Heartbeat, in_words


@pytest.fixture
def log(monkeypatch):
    """A process that writes to a log, in which no notebook runs."""
    modules = {name: part for name, part in sys.modules.items() if name != "ipykernel"}
    terminal = SimpleNamespace(isatty=lambda: False)
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=terminal, modules=modules))
    return module.sys


def lines(seconds_a_step, steps, first=0):
    """The lines of a training by the step that they come after."""
    now = [0.0]
    beat = Heartbeat("training model_x", clock=lambda: now[0])
    found = {}
    for step in range(first + 1, steps + 1):
        now[0] += seconds_a_step
        if line := beat.step(step, steps, {"loss": 0.25, "held-out": 0.5}):
            found[step] = line
    return found


def test_the_unit_is_said(log):
    now = [0.0]
    beat = Heartbeat("sampling", clock=lambda: now[0], unit="pair")
    assert beat.step(64, 256, {}) == ""  # resumed
    now[0] = 20
    assert beat.step(128, 256, {}) == "sampling: pair 128 of 256, 40 s left"


def test_the_first_line_comes_soon_and_one_a_minute_follows(log):
    found = lines(seconds_a_step=1, steps=300)
    assert list(found) == [11, 71, 131, 191, 251]
    losses = "loss 0.2500, held-out 0.5000"
    assert found[11] == f"training model_x: step 11 of 300, {losses}, 4.8 min left"
    assert found[251] == f"training model_x: step 251 of 300, {losses}, 49 s left"


def test_the_time_left_of_a_resumed_training_is_that_of_its_own_steps(log):
    assert lines(seconds_a_step=10, steps=300, first=200)[202].endswith("16 min left")


def test_pairs_that_take_long_to_read_are_counted_in_a_log(log, monkeypatch, capsys):
    now = iter(range(0, 100, 4))
    monkeypatch.setattr(Heartbeat.__init__, "__defaults__", (lambda: next(now), "step"))
    monkeypatch.setattr(log, "stderr", sys.stderr)
    assert list(module.watched(range(9), "reading mine")) == list(range(9))
    assert capsys.readouterr().err == "reading mine: pair 3 of 9, 36 s left\n"


def test_one_of_several_processes_writes_them(log, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not lines(seconds_a_step=1, steps=100)


def test_there_are_none_in_a_terminal_or_a_notebook(log):
    log.modules["ipykernel"] = None
    assert not lines(seconds_a_step=1, steps=100)
    del log.modules["ipykernel"]
    log.stderr.isatty = lambda: True
    assert not lines(seconds_a_step=1, steps=100)


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (4000, "67 min"),
        (9000, "2.5 h"),
        (2664000, "740 h"),
    ],
)
def test_durations_are_said_in_two_digits(seconds, words):
    assert in_words(seconds) == words


def test_a_log_gets_the_first_line_before_the_end(tmp_path):
    command = [sys.executable, "-m", "minipig", "train", "--preset", "tiny", "--pairs", "16"]
    command += ["--size", "16", "--steps", "100000", "--batch", "2", "--out", str(tmp_path)]
    quiet = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with subprocess.Popen(command, **quiet) as run:
        try:
            assert "pairs of" in run.stdout.readline() and run.poll() is None
        finally:
            run.kill()


def test_nothing_is_said_before_anything_is_done(log):
    now = [0.0]
    beat = Heartbeat("sampling", clock=lambda: now[0], unit="pair")
    beat.step(0, 64, {})
    now[0] = 20
    assert beat.step(0, 64, {}) == ""
    assert beat.step(1, 64, {}) == "sampling: pair 1 of 64, 21 min left"
