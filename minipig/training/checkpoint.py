"""The state of a training: saved in a file as it goes and on interruption, and resumed exactly."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator

import torch

from minipig.data.files import load_checkpoint, locked, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.schedule import Schedule
from minipig.training.devices import held_back, rank
from minipig.training.loss_log import LossLog
from minipig.training.speed import Speed

KEYS = {"training", "data", "schedule", "step", "losses", "model", "average", "optimiser"}
KEYS |= {"speed", "predict"}


@dataclass
class Checkpoint:
    """The state of one training. path: the file it is saved in, None for nowhere.

    training: the settings; progress: a training.loop.Progress.
    """

    path: Path | None
    training: dict
    pairs: Pairs
    schedule: Schedule
    progress: Any
    optimiser: torch.optim.Optimizer
    losses: LossLog
    saved = 0  # the step in the file

    def __post_init__(self):
        self.writes = self.path is not None and rank()[0] == 0
        self.data = self.pairs.fingerprint() if self.path is not None else ""
        self.began_in = {}  # the number format and layout, of a resumed training
        self.keep_buffers()

    @contextmanager
    def kept(self) -> Iterator["Checkpoint"]:
        """Resume the file if it exists, and keep other processes from training into it.

        If the block is interrupted (Ctrl-C, or its generator is closed), the last whole step is
        saved. Raises ValueError if the file is damaged, in use, or belongs to another training.
        """
        with locked(self.path) if self.writes else nullcontext():
            if self.path is not None and self.path.exists():
                self.resume()
            try:
                yield self
            except (KeyboardInterrupt, GeneratorExit):
                self.save_whole_step()
                raise

    def keep_buffers(self) -> None:
        """Copy the batch statistics of a whole step; the next forward pass changes them."""
        self.buffers = [buffer.clone() for buffer in self.progress.model.buffers()]

    @contextmanager
    def update(self):
        """The update of weights, average and step, which an interruption waits for.

        If it fails all the same, nothing is saved.
        """
        with held_back():
            self.buffers = None  # while the step is not whole
            yield
            self.keep_buffers()

    def save(self) -> None:
        """Write the state after `progress.step` steps."""
        if not self.writes:
            return
        progress = self.progress
        state = {
            "training": self.training,
            "data": self.data,
            "schedule": {"name": self.schedule.name, "beta": self.schedule.beta},
            "step": progress.step,
            "losses": progress.losses[: progress.step],
            "model": progress.model.state_dict(),
            "average": progress.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "speed": progress.speed.format,
            "predict": getattr(progress.model, "predict", None),
        }
        save_checkpoint(self.path, state)
        self.saved = progress.step

    def save_whole_step(self) -> None:
        """After an interruption: write the last whole step, if it is not in the file."""
        if not self.writes or self.buffers is None or self.saved == self.progress.step:
            return
        self.losses.read()
        for buffer, before in zip(self.progress.model.buffers(), self.buffers):
            buffer.copy_(before)
        self.save()

    def resume(self) -> None:
        """Load the file into networks, optimiser and progress; raises ValueError as `check`."""
        state = load_checkpoint(self.path, KEYS)
        self.check(state)
        try:
            self.progress.model.load_state_dict(state["model"])
            self.progress.average.load_state_dict(state["average"])
        except RuntimeError as error:
            message = f"{self.path} was saved from a different architecture; use another folder"
            raise ValueError(message) from error
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress.step = self.saved = state["step"]
        self.began_in = state["speed"]
        self.progress.losses.extend(state["losses"])
        self.keep_buffers()

    def as_before(self, speed: Speed) -> Speed:
        """`speed`, whose open options are those that a resumed training began with."""
        given = {name: value for name, value in speed.format.items() if value is not None}
        return replace(speed, **self.began_in | given)

    def lay_out_moments(self) -> None:
        """Bring Adam's moments into the memory layout of their weights, which may be another."""
        for weight, moments in self.optimiser.state.items():
            for name, value in moments.items():
                if value.shape == weight.shape:
                    moments[name] = torch.empty_like(weight).copy_(value)

    def check(self, state: dict) -> None:
        """Raise ValueError if the state is of other settings, pairs, schedule or prediction."""
        mine = getattr(self.progress.model, "predict", None)
        if state["predict"] != mine:
            problem = f"{self.path} is of a network that predicts {state['predict']}, not {mine}"
            raise ValueError(f"{problem}: use that, or another folder")
        theirs = state["training"]
        ours = self.training
        if theirs != ours:
            differ = [
                f"{k} = {v}, not {ours.get(k)}" for k, v in theirs.items() if v != ours.get(k)
            ]
            problem = f"{self.path} was made with {'; '.join(differ)}"
            raise ValueError(f"{problem}: use that, or another folder")
        if state["data"] != self.data:
            problem = f"{self.path} was made from other pairs than those given now"
            raise ValueError(f"{problem}; give the former, or another folder")
        schedule = Schedule(state["schedule"]["beta"][1:], state["schedule"]["name"])
        if schedule != self.schedule:
            raise ValueError(
                f"{self.path} was made on the schedule {schedule.name}, not {self.schedule.name}; "
                f"use {schedule.name}, or another folder"
            )
