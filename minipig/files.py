"""Files that appear whole or not at all, and checkpoints that cannot execute code."""

import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one move, through a neighbouring temporary file. Raises OSError (disk full, read-only)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def held(path: Path, wait: bool = False):
    """No other process builds `path` while this block runs; a lock dies with its process. Raises ValueError if one does, or
    waits for its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    lock = FileLock(place)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise ValueError(f"another process is at work on {path}; let it finish, or choose another folder") from error
    try:
        yield
    finally:
        if not wait:  # who waits may hold this very file already
            place.unlink(missing_ok=True)
        lock.release()


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_png(path: Path, grey: np.ndarray) -> None:
    """Write an array (H, W) of uint8 or uint16."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state`, a dictionary of tensors and plain values; `path` is always the old file or the whole new one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, keys: set[str]) -> dict:
    """Read a checkpoint onto the CPU. Raises ValueError for a truncated file, or one without these keys."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... for the many ways to be broken
        raise ValueError(f"{path} is not a whole checkpoint ({type(error).__name__}); delete it to start afresh") from error
    lacking = sorted(keys - state.keys()) if isinstance(state, dict) else sorted(keys)
    if lacking:
        raise ValueError(f"{path} is no checkpoint of minipig: it lacks {', '.join(lacking)}; delete it to start afresh")
    return state
