"""The number format and memory layout that train fastest here, found by trying them.

What pays depends on the processor, the size of the images and the batch: bfloat16 without hardware
tiles halves the time of a step at 512x512 and lengthens it by a third at 32x32. So before a
training each candidate takes a few steps. Their seconds are kept in a file of the user's cache,
under a description of the machine and the step: a second or a resumed training skips the trial.
"""

import copy
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable

import torch
from torch import distributed, nn

from minipig.data.files import write_json
from minipig.guider import NoisyPair
from minipig.training.devices import machine, rank, wait_for_device
from minipig.training.speed import Speed, laid_out
from minipig.unet import PairedUNet

CANDIDATES = {
    "float32": dict(bfloat16=False, channels_last=False),
    "float32, channels last": dict(bfloat16=False, channels_last=True),
    "bfloat16": dict(bfloat16=True, channels_last=False),
    "bfloat16, channels last": dict(bfloat16=True, channels_last=True),
}
WORTH = 200  # steps: a shorter training has ended before a trial has paid
LONG = 1.0  # seconds: a longer step is tried with fewer pairs


def decided(speed: Speed, net: nn.Module, loss: Callable, pair: NoisyPair, steps: int) -> Speed:
    """`speed` with its open options decided, for `steps` steps on batches like `pair`.

    Number format and layout: the fastest of the CANDIDATES that agree with `speed`; the plainest
    for fewer than WORTH steps. Recomputing: if the memory that is free would not hold what a step
    keeps. Under torchrun the first process decides for all.
    """
    decision = [speed]
    if rank()[0] == 0:
        if None in (speed.bfloat16, speed.channels_last):
            speed = replace(speed, **fastest(speed, net, loss, pair, steps))
        if speed.recompute is None:
            speed = replace(speed, recompute=too_large(speed, net, loss, pair))
        decision = [speed]
    if distributed.is_initialized():
        distributed.broadcast_object_list(decision)
    return decision[0]


def fastest(speed: Speed, net: nn.Module, loss: Callable, pair: NoisyPair, steps: int) -> dict:
    """Number format and layout."""
    possible = {
        name: how
        for name, how in CANDIDATES.items()
        if all(getattr(speed, field) in (None, value) for field, value in how.items())
    }
    if steps < WORTH or len(possible) == 1:
        return next(iter(possible.values()))
    known = read_cache().get(described(net, len(pair.x0), pair.x0.shape[2:]))
    seconds = known or trial(net, loss, pair, share(pair, speed))
    return possible[min(possible, key=seconds.get)]


def share(pair: NoisyPair, speed: Speed) -> int:
    """The pairs of a batch that one process computes at once."""
    return -(-len(pair.x0) // (speed.accumulate * rank()[1]))


def trial(net: nn.Module, loss: Callable, pair: NoisyPair, most: int) -> dict[str, float]:
    """The seconds of a step, forward and backward, by each candidate; kept in the cache.

    At most `most` pairs are computed at once. A candidate for which memory is short: infinite.
    """
    device = next(net.parameters()).device
    speeds = {name: Speed(**how) for name, how in CANDIDATES.items()}
    networks = {name: laid_out(copy.deepcopy(net), how).train() for name, how in speeds.items()}

    def seconds(name: str, rows: int) -> float:
        part = pair.part(torch.arange(rows), device)
        start = time.perf_counter()
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=speeds[name].bfloat16):
                value = loss(networks[name], part)
            value.backward()
        except torch.OutOfMemoryError:
            return float("inf")
        wait_for_device(device)
        networks[name].zero_grad()
        return time.perf_counter() - start

    batch = len(pair.x0)
    one = seconds("float32", 1)  # the first call also prepares the libraries
    rows = min(most, max(1, int(LONG / one)))
    found = {name: [] for name in CANDIDATES}
    for _ in range(1 if one > LONG else 3):  # in turn, as the machine may be busy for a moment
        for name, values in found.items():
            values.append(seconds(name, rows))
    result = {name: min(values) * batch / rows for name, values in found.items()}
    with suppress(OSError):  # a folder that cannot be written: tried again next time
        write_json(cache(), read_cache() | {described(net, batch, pair.x0.shape[2:]): result})
    return result


def too_large(speed: Speed, net: nn.Module, loss: Callable, pair: NoisyPair) -> bool:
    """Whether a part of the batch would keep more than is free for its backward pass."""
    if not isinstance(net, PairedUNet):
        return False
    device = next(net.parameters()).device
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    one = pair.part(torch.arange(1), device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast(device.type, torch.bfloat16, enabled=speed.bfloat16):
            loss(net, one)
    weights = sum(w.nbytes for w in net.parameters())
    needed = share(pair, speed) * max(0, sum(kept.values()) - weights)
    return needed > 0.7 * free_memory(device)


def free_memory(device: torch.device) -> float:
    """Bytes that are free on the device; infinite where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(line.split()[1])
    return float("inf")


def told(speed: Speed | None, net: nn.Module, batch: int, size: tuple[int, int]) -> str:
    """What was decided and why, as the end of a line; "" if nothing had to be."""
    if speed is None:
        return ""
    format_ = "bfloat16" if speed.bfloat16 else "float32"
    words = [format_, *["channels last"] * speed.channels_last, *["recomputing"] * speed.recompute]
    text = f", in {', '.join(words)}"
    if seconds := read_cache().get(described(net, batch, size)):
        each = "; ".join(f"{name} {1000 * value:.0f}" for name, value in seconds.items())
        text += f" (tried before, ms a step: {each})"
    return text


def described(net: nn.Module, batch: int, size: tuple[int, int]) -> str:
    """The machine and the step, as the cache names them."""
    here = machine(next(net.parameters()).device)
    weights = sum(w.numel() for w in net.parameters())
    step = f"{type(net).__name__} of {weights} weights, {batch} pairs of {size[0]}x{size[1]}"
    return f"{here['name']}, {here['threads']} threads, torch {here['torch']}: {step}"


def cache() -> Path:
    """The file of all trials of this user."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "minipig" / "speed.json"


def read_cache() -> dict[str, dict[str, float]]:
    """{machine and step: {candidate: seconds}}; empty without a readable file."""
    with suppress(OSError, ValueError):
        return json.loads(cache().read_text())
    return {}
