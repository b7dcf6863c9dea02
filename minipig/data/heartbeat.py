"""Lines for a log: how far a long job is, where no terminal shows its progress bar."""

import os
import sys
import time
from typing import Callable, Collection, Iterator

from tqdm import tqdm

FIRST, EVERY = 10.0, 60.0  # seconds until the first line, and between lines


class Heartbeat:
    """A line now and then with step, loss and time left; none in a terminal or a notebook."""

    def __init__(self, label: str, clock: Callable[[], float] = time.monotonic, unit: str = "step"):
        self.label = label
        self.unit = unit
        self.clock = clock
        self.start = 0.0
        self.first = None  # the first step of this process, which takes longer
        self.due = FIRST
        shown = sys.stderr.isatty() or "ipykernel" in sys.modules
        self.wanted = not shown and os.environ.get("RANK", "0") == "0"  # of torchrun's processes

    def step(self, step: int, steps: int, losses: dict[str, float]) -> str:
        """Call it after each step. Returns the line that is due, else ""."""
        if self.first is None:
            self.first, self.start = step, self.clock()
        spent = self.clock() - self.start
        if not self.wanted or spent < self.due or step == self.first:
            return ""
        self.due = spent + EVERY
        left = spent / (step - self.first) * (steps - step)
        told = "".join(f", {name} {value:.4f}" for name, value in losses.items())
        return f"{self.label}: {self.unit} {step} of {steps}{told}, {in_words(left)} left"


def watched(items: Collection, label: str) -> Iterator:
    """The items, each a pair: with a progress bar in a terminal, and lines in a log."""
    heartbeat = Heartbeat(label, unit="pair")
    for number, item in enumerate(tqdm(items, desc=label, disable=None, leave=False), start=1):
        yield item
        if line := heartbeat.step(number, len(items), {}):
            print(line, file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{seconds:.0f} s"
