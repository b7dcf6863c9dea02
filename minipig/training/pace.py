"""Tell when the steps of a training become slow, as when other work comes to the processor."""

import time
from collections import deque
from statistics import median

import torch

STEPS = 11  # whose median counts
JUMP = 3.0  # times the fastest median so far
PATIENCE = 10.0  # seconds that it must last


class Pace:
    """The time of steps on a CPU, and one message when it has jumped.

    Torch's threads wait for each other after every operation, and do so by running on the spot. If
    another program has one of their cores, all wait for the one that shares it.
    """

    def __init__(self):
        self.ends = deque(maxlen=STEPS + 1)
        self.fastest = float("inf")
        self.slow_since = None
        self.told = False

    def step(self) -> str:
        """Call it after each step. Returns the message, once, when steps stay slow; else ""."""
        now = time.perf_counter()
        self.ends.append(now)
        threads = torch.get_num_threads()
        if len(self.ends) <= STEPS or self.told or threads == 1:
            return ""
        times = list(self.ends)
        seconds = median(end - start for start, end in zip(times, times[1:]))
        self.fastest = min(self.fastest, seconds)
        if seconds < JUMP * self.fastest:
            self.slow_since = None
            return ""
        if self.slow_since is None:
            self.slow_since = now
        self.told = now - self.slow_since >= PATIENCE
        return self.told * (
            f"note: a step takes {seconds:.2g} s, and took {self.fastest:.2g} s before; if other "
            f"work has come to the processor, fewer threads than {threads} may be faster "
            "(OMP_NUM_THREADS=1)"
        )
