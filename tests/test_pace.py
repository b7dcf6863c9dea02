"""A jump in the time of a step is told, once, and nothing else is."""

import pytest
import torch

from minipig.training import loop
from minipig.training.pace import JUMP, STEPS, Pace


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def messages(seconds):
    """What is told after each of these steps."""
    now = [sum(seconds[:i]) for i in range(len(seconds) + 1)]
    pace = Pace(iter(now).__next__)
    return [pace.step() for _ in now]


def test_a_jump_is_told_once_with_both_times_and_the_remedy():
    told = [m for m in messages([0.1] * 30 + [0.5] * 60) if m]
    assert len(told) == 1
    for words in ("0.5 s", "0.1 s", "2 threads", "OMP_NUM_THREADS=1", "resumes"):
        assert words in told[0]


def test_it_comes_when_most_of_the_last_steps_are_slow():
    told = messages([0.1] * 30 + [0.5] * 60)
    first = next(i for i, message in enumerate(told) if message)
    assert 30 + STEPS // 2 <= first <= 30 + STEPS


@pytest.mark.parametrize(
    "seconds",
    [
        [0.1] * 100,
        [0.1] * 20 + [0.1 * (JUMP - 0.1)] * 80,
        [5.0] + [0.1] * 50 + [5.0] + [0.1] * 50,  # a trial, a picture, a checkpoint
        [0.5] * 50 + [0.1] * 50,
        [0.5] * (STEPS - 1),
    ],
    ids=["even", "a little slower", "single slow steps", "faster", "short"],
)
def test_nothing_else_is_told(seconds):
    assert not any(messages(seconds))


def test_one_thread_waits_for_no_other(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not any(messages([0.1] * 30 + [0.5] * 60))


def test_a_training_tells_it_on_the_error_stream(monkeypatch, capsys):
    class Busy:
        def step(self):
            return "note: busy"

    monkeypatch.setattr(loop, "Pace", Busy)
    progress = loop.Progress(1, 1, [0.5], None, None)
    steps = (p for p in [progress])
    assert loop.finish(steps) is progress
    out, err = capsys.readouterr()
    assert "note: busy" in err and "note" not in out
