"""The losses of a training: left on the device until they are read, and checked when they are."""

import math
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from torch import Tensor

from minipig.training.devices import waits_for_results


@dataclass
class LossLog:
    """Losses and gradient norms: read after each step on a CPU, every `every` steps on a GPU.

    values: the list they are appended to; names(step): the pairs of a batch, for an error;
    training: a training.loop.Training.
    """

    values: list[float]
    every: int
    names: Callable[[int], list[str]]
    training: Any
    unread: list[tuple[int, Tensor]] = field(default_factory=list)

    def due(self, step: int) -> bool:
        """Whether the state is saved after step `step`, 0-based."""
        return (step + 1) % self.every == 0 or step + 1 == self.training.steps

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Take the loss and the gradient's norm of a step; raises FloatingPointError as `read`."""
        self.unread.append((step, torch.stack([loss, norm])))
        if self.due(step) or waits_for_results(loss.device):
            self.read()

    def read(self) -> None:
        """Append what is on the device; raises FloatingPointError if a value is not finite."""
        numbers = torch.stack([both for _, both in self.unread]).tolist() if self.unread else []
        steps = [step for step, _ in self.unread]
        self.unread.clear()
        for step, (loss, norm) in zip(steps, numbers):
            self.values.append(loss)
            if not math.isfinite(loss + norm):
                raise FloatingPointError(self.explain(step, loss, norm))

    def explain(self, step: int, loss: float, norm: float) -> str:
        """What was not finite, where, and what to do."""
        names = self.names(step)
        batch = ", ".join(names[:8]) + (f" and {len(names) - 8} others" if len(names) > 8 else "")
        return (
            f"the loss is {loss} and the gradient's norm {norm} at step {step + 1}, on {batch}; "
            f"start again in another folder with a rate below {self.training.rate:.2g}"
        )
