"""Lines for a log: how far a long job is, where no terminal shows its progress bar."""

import sys
import time
from typing import Callable

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
        self.wanted = not sys.stderr.isatty() and "ipykernel" not in sys.modules

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


def in_words(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} s"
