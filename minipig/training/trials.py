"""What trials of number formats and layouts have found, in a file of the user's cache."""

import json
import os
from contextlib import suppress
from pathlib import Path

from torch import nn

from minipig.data.files import locked, write_json
from minipig.training.devices import machine

Seconds = dict[str, float | None]  # of a step, by candidate; None: it cannot be taken here


def described(net: nn.Module, most: int, size: tuple[int, int]) -> str:
    """The machine and the step, as the file names them; `most` pairs are computed at once."""
    here = machine(next(net.parameters()).device)
    name = " ".join([here["name"], *here.get("bfloat16", [])])
    weights = sum(w.numel() for w in net.parameters())
    step = f"{type(net).__name__} of {weights} weights, {most} pairs of {size[0]}x{size[1]}"
    return f"{name}, {here['threads']} threads, torch {here['torch']}: {step}"


def cache() -> Path:
    """The file."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "minipig" / "speed.json"


def kept_trials() -> dict[str, Seconds]:
    """{machine and step: seconds}; empty without a file that can be read."""
    with suppress(OSError, ValueError):
        kept = json.loads(cache().read_text())
        if isinstance(kept, dict) and all(map(is_trial, kept.values())):
            return kept
    return {}


def is_trial(seconds) -> bool:
    """Whether this is {candidate: seconds or None}."""
    values = seconds.values() if isinstance(seconds, dict) else ["?"]
    return all(value is None or isinstance(value, float) for value in values)


def keep(key: str, seconds: Seconds) -> None:
    """Add a trial to the file; nothing, if it cannot be written."""
    with suppress(OSError), locked(cache(), wait=True):
        kept = kept_trials()
        write_json(cache(), kept | {key: kept.get(key, {}) | seconds})
