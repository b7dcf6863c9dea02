"""Tell when the steps of a training become slow because other work has come to the processor."""

import time
from collections import deque
from statistics import median
from typing import Callable

import torch

STEPS = 11  # whose median counts
JUMP = 3.0  # times the fastest median so far


class Pace:
    """The time of steps, and one message when it jumps.

    Torch's threads wait for each other after every operation, and do so by running on the spot. If
    another program has one of their cores, all wait for the one that shares it: two threads can
    then be slower than one.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.ends = deque(maxlen=STEPS + 1)
        self.fastest = float("inf")
        self.told = False

    def step(self) -> str:
        """Call it after each step. Returns the message, once, when the time has jumped; else ""."""
        self.ends.append(self.clock())
        if len(self.ends) <= STEPS or self.told:
            return ""
        times = list(self.ends)
        seconds = median(end - start for start, end in zip(times, times[1:]))
        self.fastest = min(self.fastest, seconds)
        threads = torch.get_num_threads()
        if threads == 1 or seconds < JUMP * self.fastest:
            return ""
        self.told = True
        return (
            f"note: a step takes {seconds:.2g} s, and took {self.fastest:.2g} s before. If other "
            f"work has come to the processor, {threads} threads wait for it, and one is faster: "
            "stop this (Ctrl-C), and repeat it with OMP_NUM_THREADS=1 set; it resumes"
        )
