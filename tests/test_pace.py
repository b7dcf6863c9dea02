"""A jump in the time of a step is told, once, and nothing else is."""

import time

import pytest
import torch
from torch import nn

from minipig.training import loop
from minipig.training.pace import JUMP, PATIENCE, STEPS, Pace


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.fixture
def messages(monkeypatch):
    """messages(seconds): what is told after each of these steps."""

    def told(seconds):
        now = [sum(seconds[:i]) for i in range(len(seconds) + 1)]
        monkeypatch.setattr(time, "perf_counter", iter(now).__next__)
        pace = Pace()
        return [pace.step() for _ in now]

    return told


def test_a_jump_is_told_once_with_both_times_and_the_remedy(messages):
    told = [m for m in messages([0.1] * 30 + [0.5] * 60) if m]
    assert len(told) == 1
    for words in ("0.5 s", "0.1 s", "fewer threads than 2", "OMP_NUM_THREADS=1"):
        assert words in told[0]


def test_it_comes_when_steps_have_stayed_slow(messages):
    told = messages([0.1] * 30 + [0.5] * 60)
    first = next(i for i, message in enumerate(told) if message)
    slow = 30 + STEPS // 2 + 1  # most of the last steps
    assert slow <= first <= slow + PATIENCE / 0.5 + 1


@pytest.mark.parametrize(
    "seconds",
    [
        [0.1] * 100,
        [0.1] * 20 + [0.1 * (JUMP - 0.1)] * 80,
        [5.0] + [0.1] * 50 + [5.0] + [0.1] * 50,  # a trial, a picture, a checkpoint
        [0.5] * 50 + [0.1] * 50,
        [0.1] * 30 + [0.5] * 20 + [0.1] * 30 + [0.5] * 20,
        [0.01] * 30 + [0.05] * 100,
    ],
    ids=["even", "a little slower", "single slow steps", "faster", "moments", "short steps"],
)
def test_nothing_else_is_told(messages, seconds):
    assert not any(messages(seconds))


def test_one_thread_waits_for_no_other(messages, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not any(messages([0.1] * 30 + [0.5] * 60))


class Busy:
    def step(self):
        return "note: busy"


@pytest.mark.parametrize(
    "device, process, told", [("cpu", 0, True), ("meta", 0, False), ("cpu", 1, False)]
)
def test_the_first_process_tells_it_of_a_cpu(monkeypatch, capsys, device, process, told):
    monkeypatch.setattr(loop, "Pace", Busy)
    monkeypatch.setattr(loop, "rank", lambda: (process, 2))
    progress = loop.Progress(1, 1, [0.5], nn.Linear(1, 1, device=device), None)
    assert loop.finish(p for p in [progress]) is progress
    out, err = capsys.readouterr()
    assert ("note: busy" in err) == told and "note" not in out
