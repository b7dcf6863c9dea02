"""The state of a training in a file: saved as it goes and on interruption, and resumed exactly."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import torch

from minipig.data.files import load_checkpoint, locked, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.schedule import Schedule
from minipig.training.devices import held_back, rank
from minipig.training.loss_log import LossLog
from minipig.training.speed import Speed

KEYS = {"training", "data", "step", "losses", "model", "average", "optimiser"}


class Checkpoint:
    """The state of one training. path: the file it is saved in, None for nowhere.

    training: the settings; data: the fingerprint of the pairs; progress: a training.loop.Progress.
    """

    def __init__(
        self,
        path,
        training: dict,
        data: str,
        schedule: Schedule,
        progress,
        optimiser,
        losses: LossLog,
    ):
        self.path = path
        self.training = training
        self.data = data
        self.schedule = schedule
        self.progress = progress
        self.optimiser = optimiser
        self.losses = losses
        self.resumed = False
        self.began_in = {}  # the number format and layout, of a resumed training
        self.saved = 0  # the step in the file
        self.keep_buffers()

    def keep_buffers(self) -> None:
        """Copy the batch statistics of a whole step; the next forward pass changes them."""
        self.buffers = [buffer.clone() for buffer in self.progress.model.buffers()]
        self.whole = True

    @contextmanager
    def update(self):
        """The update of weights, average and step, which an interruption waits for.

        If it fails all the same, nothing is saved.
        """
        with held_back():
            self.whole = False
            yield
            self.keep_buffers()

    def save(self) -> None:
        """Write the state after `progress.step` steps."""
        if self.path is None:
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
        }
        save_checkpoint(self.path, state)
        self.saved = progress.step

    def save_whole_step(self) -> None:
        """After an interruption: write the last whole step, if it is not in the file."""
        if self.path is None or not self.whole or self.saved == self.progress.step:
            return
        self.losses.read()
        for buffer, before in zip(self.progress.model.buffers(), self.buffers):
            buffer.copy_(before)
        self.save()

    def resume(self, path: Path) -> None:
        """Load `path` into networks, optimiser and progress; raises ValueError as `check` does."""
        state = load_checkpoint(path, KEYS)
        self.check(path, state)
        try:
            self.progress.model.load_state_dict(state["model"])
            self.progress.average.load_state_dict(state["average"])
        except RuntimeError as error:
            message = f"{path} was saved from a different architecture; use another folder"
            raise ValueError(message) from error
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress.step = self.saved = state["step"]
        self.began_in = state.get("speed", {})  # older checkpoints lack it
        self.progress.losses.extend(state["losses"])
        self.keep_buffers()
        self.resumed = True

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

    def check(self, path: Path, state: dict) -> None:
        """Raise ValueError if the state is of other settings, pairs or schedule."""
        theirs = state["training"]
        if theirs != self.training:
            differ = [f"{k} = {v}" for k, v in theirs.items() if self.training.get(k) != v]
            raise ValueError(
                f"{path} was made with {', '.join(differ)}; use that, or another folder"
            )
        if state["data"] != self.data:
            raise ValueError(f"{path} was made from other pairs; use those, or another folder")
        if "schedule" in state:
            schedule = Schedule(state["schedule"]["beta"][1:], state["schedule"]["name"])
        else:
            schedule = Schedule.linear()  # older checkpoints do not name theirs
        if schedule != self.schedule:
            raise ValueError(
                f"{path} was made on the schedule {schedule.name}, not {self.schedule.name}; "
                f"use {schedule.name}, or another folder"
            )


@contextmanager
def checkpointed(
    path: Path | None,
    training: dict,
    pairs: Pairs,
    schedule: Schedule,
    progress,
    optimiser,
    losses: LossLog,
) -> Iterator[Checkpoint]:
    """Resume `path` if it exists, and keep other processes from training into it; None: neither.

    If the block is interrupted (Ctrl-C, or its generator is closed), the last whole step is saved.
    Raises ValueError if the file is damaged, in use, or belongs to another training.
    """
    writes = path is not None and rank()[0] == 0
    data = pairs.fingerprint() if path is not None else ""
    with locked(path) if writes else nullcontext():
        file = path if writes else None
        checkpoint = Checkpoint(file, training, data, schedule, progress, optimiser, losses)
        if path is not None and path.exists():
            checkpoint.resume(path)
        try:
            yield checkpoint
        except (KeyboardInterrupt, GeneratorExit):
            checkpoint.save_whole_step()
            raise
