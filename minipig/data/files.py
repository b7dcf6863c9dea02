"""Atomic writes, checkpoints that cannot execute code, and folders of one configuration."""

import csv
import io
import json
import os
import platform
import re
import secrets
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image

# a write's own (processes in containers have equal numbers), short enough beside any name, hidden
PART = re.compile(r"\.minipig-[0-9a-f]{16}\.part")
OLD = 3600  # seconds: nobody writes one file for so long


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file and rename it to `path`, which is never half written.

    The temporary file is this write's own: of several processes that write `path`, the last wins.
    Raises OSError that names `path` (disk full, read-only folder).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".minipig-{secrets.token_hex(8)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def files_in(folder: Path) -> Iterator[Path]:
    """The files in a folder and its folders, but those that a process was killed while writing."""
    for path in folder.rglob("*"):
        if not PART.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            yield path


def remove_leftovers(folder: Path) -> None:
    """Remove the files that processes were killed while writing, once they are OLD."""
    for path in folder.rglob(".minipig-*.part"):
        with suppress(OSError):  # another process may remove it, too
            if PART.fullmatch(path.name) and time.time() - path.stat().st_mtime > OLD:
                path.unlink()


@contextmanager
def locked(path: Path, wait: bool = False):
    """Lock `path` against other processes while this block runs; a lock ends with its process.

    If another process holds the lock: wait for it, or raise ValueError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    lock = FileLock(place)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        problem = f"another process is writing {path}; wait for it, or use another folder"
        raise ValueError(problem) from error
    try:
        yield
    finally:
        try:
            if not wait:  # a waiting process may have opened the lock file already
                place.unlink(missing_ok=True)
        except PermissionError:  # Windows removes no open file: afterwards, if no other has it open
            lock.release()
            with suppress(PermissionError):
                place.unlink(missing_ok=True)
        lock.release()


def write_figure(path: Path, figure) -> None:
    """Write a matplotlib figure as PNG, and close it."""
    from matplotlib.pyplot import close  # slow to import, and rarely needed

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    close(figure)
    write_atomically(path, buffer.getvalue())


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_table(path: Path, rows: Iterable[Iterable]) -> None:
    """Write rows as CSV."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_atomically(path, table.getvalue().encode())


def write_png(path: Path, grey: np.ndarray) -> None:
    """Write an array (H, W) of uint8 or uint16."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state`, a dictionary of tensors and plain values, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, keys: set[str]) -> dict:
    """Read a checkpoint onto the CPU. Raises ValueError if it is damaged or lacks one of `keys`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    # torch raises RuntimeError, UnpicklingError, EOFError, ... for damaged files
    except Exception as error:
        problem = f"{path} is unreadable ({type(error).__name__}); if it is damaged, delete it"
        raise ValueError(problem) from error
    missing = ", ".join(sorted(keys - state.keys() if isinstance(state, dict) else keys))
    if missing:
        problem = f"{path} is not a checkpoint of minipig: {missing} missing"
        raise ValueError(f"{problem}; delete it, and it is made again from the start")
    return state


def claim_folder(
    folder: Path,
    config: dict,
    option: str = "--out",
    defaults: dict | None = None,
    content: str = "",
) -> None:
    """Write `config` to folder/config.json, or compare it with the one that is there.

    option: where the user gave `folder`. defaults: settings that older folders may lack. content:
    a hash of the pairs in config["data"]: while they are the same, their folder may be elsewhere.
    What killed processes left in `folder` is removed. Raises ValueError that names the differences,
    so that the results of two configurations, or of other pairs, do not mix.
    """
    remove_leftovers(folder)
    path = folder / "config.json"
    ours = json.loads(json.dumps(config))
    if not path.exists():
        if (folder / "manifest.csv").exists():
            problem = f"{folder} is a folder of pairs, not of results"
            raise ValueError(f"{problem}; give another {option}")
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        named = {"content": content} if content else {}
        write_json(path, {"config": ours, **named, "versions": versions})
        return
    try:
        found = json.loads(path.read_text())
        theirs = flat(defaults or {}) | flat(dict(found["config"]))
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{path} is not a configuration of minipig; give another {option}"
        raise ValueError(problem) from error
    before = found.get("content", "")
    moved = before and before == content and theirs["data"] != ours["data"]
    if moved:
        theirs["data"] = ours["data"]
    settings = flat(ours)
    differ = "; ".join(
        f"{k} {theirs.get(k)!r:.300} there, {settings.get(k)!r:.300} here"
        for k in settings | theirs
        if theirs.get(k) != settings.get(k)
    )
    if differ:
        problem = f"{folder} was made with another configuration ({differ})"
        raise ValueError(f"{problem}; give another {option}")
    if before and before != content:  # older folders do not name it
        problem = f"{folder} was made from other pairs than {config['data']} holds now"
        raise ValueError(f"{problem}; restore them, or give another {option}")
    if moved:
        write_json(path, found | {"config": ours})


def flat(config: dict, prefix: str = "") -> dict:
    """Settings in settings by their full names: {"pair": {"steps": 9}} -> {"pair.steps": 9}."""
    found = {}
    for key, value in config.items():
        name = prefix + key
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found
