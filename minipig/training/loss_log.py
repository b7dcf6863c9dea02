"""Losses of a training: left on the device until they are read, and checked when they are."""

import math
from dataclasses import dataclass, field
from typing import Callable

import torch
from torch import Tensor

from minipig.training.devices import waits_for_results


@dataclass
class LossLog:
    """Losses and gradient norms: read after each step on a CPU, before each save on a GPU.

    values: the list they are appended to; names(step): the pairs of a batch, and rate: the learning
    rate, both for an error.
    """

    values: list[float]
    names: Callable[[int], list[str]]
    rate: float
    unread: list[tuple[int, Tensor]] = field(default_factory=list)

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Take the loss and the gradient's norm of a step; raises FloatingPointError as `read`."""
        self.unread.append((step, torch.stack([loss, norm])))
        if waits_for_results(loss.device):
            self.read()

    def read(self) -> None:
        """Append what is on the device; raises FloatingPointError if a value is not finite."""
        unread, self.unread = self.unread, []
        for step, both in unread:
            loss, norm = both.tolist()
            self.values.append(loss)
            if not math.isfinite(loss + norm):
                names = self.names(step)
                batch = ", ".join(names[:8])
                more = f" and {len(names) - 8} others" if len(names) > 8 else ""
                raise FloatingPointError(
                    f"the loss is {loss} and the gradient's norm {norm} at step {step + 1}, "
                    f"on {batch}{more}; "
                    f"start again in another folder with a rate below {self.rate:.2g}"
                )
