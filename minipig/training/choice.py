"""The number format and memory layout that train fastest here, found by trying them.

What pays depends on the processor, the size of the images and the batch, so before a training each
candidate takes a few steps. What a trial has found is kept in the user's cache, so a second
training of the same kind skips it, and a resumed one goes on as it began (checkpoint.py). Results
change by rounding only.
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

from minipig.data.files import locked, write_json
from minipig.guider import NoisyPair
from minipig.training.devices import machine, rank, wait_for_device
from minipig.training.memory import free_memory
from minipig.training.speed import Speed, laid_out, part_of
from minipig.unet import PairedUNet

Seconds = dict[str, float | None]  # of a step, by candidate; None: it cannot be taken here
Speeds = dict[str, Speed]  # by candidate
CANDIDATES = {
    "float32": dict(bfloat16=False, channels_last=False),
    "float32, channels last": dict(bfloat16=False, channels_last=True),
    "bfloat16": dict(bfloat16=True, channels_last=False),
    "bfloat16, channels last": dict(bfloat16=True, channels_last=True),
}
WORTH = 200  # steps in all: a shorter training has ended before a trial has paid
LONG = 1.0  # seconds: a longer step is tried with fewer pairs


def decided(
    speed: Speed, net: nn.Module, loss: Callable, pair: NoisyPair, steps: int
) -> tuple[Speed, Seconds]:
    """`speed` with its open options decided, and the trial that decided, if one did.

    For `steps` steps on batches like `pair`. Number format and layout: the fastest of the
    CANDIDATES that agree with `speed`; the plainest for fewer than WORTH steps. Recomputing: if the
    memory that is free would not hold what a step keeps. `net` and the random state stay as they
    are. Under torchrun the first process decides for all.
    """
    number, processes = rank()
    most = -(-len(pair.x0) // (speed.accumulate * processes))  # pairs that are computed at once
    possible = {
        name: replace(speed, **how)
        for name, how in CANDIDATES.items()
        if all(getattr(speed, field) in (None, value) for field, value in how.items())
    }
    worth = steps >= WORTH and len(possible) > 1
    decision = [None]
    if number == 0:
        device = next(net.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            seconds = tried(possible, net, loss, pair, most) if worth else {}
            works = {name: value for name, value in seconds.items() if value is not None}
            speed = possible[min(works, key=works.get, default=next(iter(possible)))]
            if speed.recompute is None:
                speed = replace(speed, recompute=too_large(net, loss, pair, most, speed.bfloat16))
        decision = [(speed, seconds)]
    if distributed.is_initialized():
        distributed.broadcast_object_list(decision)
    return decision[0]


def tried(
    speeds: Speeds, net: nn.Module, loss: Callable, pair: NoisyPair, most: int, again=False
) -> Seconds:
    """`trial` of these candidates for this step, whose result is kept in the cache.

    again: try, even if the cache has it.
    """
    recompute = any(speed.recompute for speed in speeds.values())
    key = described(net, most, pair.x0.shape[2:]) + ", recomputing" * recompute
    seconds = kept_trials().get(key, {})
    # if all had failed, it was by the loss, or for memory that was short then
    if again or not speeds.keys() <= seconds.keys() or not any(map(seconds.get, speeds)):
        seconds = trial(speeds, net, loss, pair, most)
        with suppress(OSError), locked(cache(), wait=True):  # it may be impossible to write
            kept = kept_trials()
            write_json(cache(), kept | {key: kept.get(key, {}) | seconds})
    return {name: seconds[name] for name in speeds}


def described(net: nn.Module, most: int, size: tuple[int, int]) -> str:
    """The machine and the step, as the cache names them; `most` pairs are computed at once."""
    here = machine(next(net.parameters()).device)
    name = " ".join([here["name"], *here.get("bfloat16", [])])
    weights = sum(w.numel() for w in net.parameters())
    step = f"{type(net).__name__} of {weights} weights, {most} pairs of {size[0]}x{size[1]}"
    return f"{name}, {here['threads']} threads, torch {here['torch']}: {step}"


def cache() -> Path:
    """The file of all trials."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "minipig" / "speed.json"


def kept_trials() -> dict[str, Seconds]:
    """{machine and step: seconds} in the cache; empty without a file that can be read."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        kept = json.loads(cache().read_text())
        for seconds in kept.values():
            sum(value or 0.0 for value in seconds.values())  # raises if it is damaged
        return kept
    return {}


def trial(speeds: Speeds, net: nn.Module, loss: Callable, pair: NoisyPair, most: int) -> Seconds:
    """Time a step with `most` pairs by each candidate, in turn, on copies of `net`."""
    device = next(net.parameters()).device
    networks = {name: laid_out(copy.deepcopy(net), how).train() for name, how in speeds.items()}

    def seconds(name: str, rows: int) -> float | None:
        part = part_of(pair, torch.arange(rows), device)
        start = time.perf_counter()
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=speeds[name].bfloat16):
                value = loss(networks[name], part)
            value.backward()
            wait_for_device(device)
        except (RuntimeError, ValueError):  # memory is short, or the device lacks the format
            return None
        finally:
            networks[name].zero_grad()
        return time.perf_counter() - start

    # one pair: the first call of each also prepares the libraries, so it counts only if it is long
    found = {name: seconds(name, 1) for name in speeds}
    for name, first in found.items():
        if first is not None and (first < LONG or device.type == "cuda"):
            found[name] = seconds(name, 1)
    best = min((value for value in found.values() if value is not None), default=LONG)
    rows = most if device.type == "cuda" else min(most, max(1, int(LONG / best)))
    found = {name: value and value * most for name, value in found.items()}
    if rows == 1:
        return found
    near = [name for name, value in found.items() if value and value < 3 * best * most]
    times = {name: [] for name in near}
    for _ in range(3):  # in turn, as the machine may be busy for a moment
        for name in near:
            times[name].append(seconds(name, rows))
    for name, values in times.items():
        found[name] = None if None in values else min(values) * most / rows
    return found


def too_large(net: nn.Module, loss: Callable, pair: NoisyPair, most: int, bfloat16: bool) -> bool:
    """Whether `most` pairs would keep more than is free for their backward pass."""
    if not isinstance(net, PairedUNet):
        return False
    device = next(net.parameters()).device
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    one = part_of(pair, torch.arange(1), device)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss(net, one)
    except torch.OutOfMemoryError:
        return True
    weights = sum((2 if bfloat16 else 4) * w.numel() for w in net.parameters())  # or copies of them
    return most * max(0, sum(kept.values()) - weights) > 0.7 * free_memory(device)


def told(speed: Speed | None, seconds: Seconds) -> str:
    """What was decided and why, as the end of a line; "" if nothing had to be."""
    if speed is None:
        return ""
    name = next(name for name, how in CANDIDATES.items() if how == speed.format)
    text = f", in {name}" + ", recomputing" * speed.recompute
    each = [
        f"{name} {'failed' if value is None else round(1000 * value)}"
        for name, value in seconds.items()
    ]
    return f"{text} (trial, ms: {'; '.join(each)})" if each else text
