"""python -m minipig bench: what a training step and a sampled pair cost, in seconds and bytes, and who does it for less.

Every row is measured in a fresh process, so that its peak memory is its own; the rounds go over all rows in turn, so that a
busy minute of the machine does not fall on one row alone. The report, written after every process that ends, has the keys

machine         device, its name, platform, processors, threads, and the versions of python, torch and the optional libraries
quick, rounds   how much was asked for
rows            {name: row}. A row has the fields of `measure.Row` and what measure.py prints: seconds and first_seconds (all
                timed runs, and each process's first), peak_bytes and base_bytes (of the process with the highest peak),
                parameters, forward_flops (of one call on a batch), bfloat16, loss, device. And from these: median, min, max;
                peak_share (of the measured matrix-multiply peak, a backward pass counted as two forward passes); time_ratio
                and memory_ratio to `plain`, if that was measured; per_pair, seconds at 256 and at 25 steps, of a "sample"
failed          {name: the last line of what the process said}
left_out        {name: why}
exponents       {"time: train ~ pixels": e, ...}, least squares in logs; memory is what lies above the process's own base
sampling_memory {pairs: peak_bytes} at one batch size
train_step_512  {"time_ratio": ours / plain, "memory_ratio": ours / plain}, at batch 1 in the `paper` preset
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
from tqdm import tqdm

from ..files import write_json
from .measure import Row
from .reckoning import summarise, table
from .rivals import RIVALS, SWITCHED_OFF

LIMIT = {True: 560, False: 12 * 3600}  # quick or not: seconds after which no process runs


def plan(quick: bool, device: torch.device) -> list[Row]:
    """All rows, the most wanted first."""
    budget, everyone = (2.5 if quick else 15.0), ("ours", "plain", *RIVALS)
    rows = [Row("train", network) for network in ("ours", "plain")]
    rows += [Row("matmul", f, size=2048 if device.type == "cpu" else 8192) for f in ("float32", "bfloat16")]
    rows += [Row("train", network) for network in (*SWITCHED_OFF, *RIVALS)]
    rows += [Row("train", network, "cpu", *shape) for shape in ((32, 64), (64, 16)) for network in everyone]
    rows += [Row("train", "ours", size=size) for size in (64, 128, 256)]
    rows += [Row("train", "ours", size=128, batch=batch) for batch in (2, 4, 8)]
    rows += [Row("sample", network, steps=2, pairs=1) for network in ("ours", "plain")]
    rows += [Row("sample", "ours", "cpu", 64, 16, steps, 16) for steps in (2, 4, 8)]
    rows += [Row("sample", "ours", "cpu", 64, 16, 2, pairs) for pairs in (64, 256)]
    if not quick:
        rows += [Row("train", network, batch=2) for network in everyone]
        rows += [Row("sample", network, "cpu", *shape, 4, shape[1]) for shape in ((32, 64), (64, 16)) for network in everyone]
        rows += [Row("sample", network, steps=2, pairs=1) for network in RIVALS]
        rows += [Row("sample", "ours", "cpu", 64, 16, steps, 16) for steps in (16, 32)]
        rows += [Row("train", "ours", size=32), Row("train", "ours", size=128, batch=16)]
        rows += [Row("train", network, "tiny", 32, 64) for network in ("ours", "ours-compiled")]
    return [replace(row, budget=budget) for row in dict.fromkeys(rows)]


def lacking(row: Row) -> str:
    """What this machine lacks to measure the row; "" if nothing."""
    if row.network in RIVALS and find_spec(row.network.replace("-", "_")) is None:
        return f"{row.network} is not installed"
    if row.network == "ours-compiled" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        return "torch.compile needs a C++ compiler"
    return ""


def run_child(row: Row, device: torch.device, seconds: float) -> dict:
    """measure(row, device) in a fresh process. Raises RuntimeError with the last line of what it said before it failed."""
    command = [sys.executable, "-m", "minipig.evidence.measure", json.dumps(asdict(row)), str(device)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"stopped after {seconds:.0f} s") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def run_rows(rows: list[Row], rounds: int, limit: float, report: dict, out: Path | None, device: torch.device) -> None:
    """Measure all rows, round after round, into `report`, and `out` after each; none runs on after `limit` s."""
    start, cost = time.monotonic(), {}
    for turn, row in tqdm([(k, row) for k in range(rounds) for row in rows], desc="bench", disable=None, leave=False):
        left, began = limit - (time.monotonic() - start), time.monotonic()
        if row.name in report["failed"]:
            continue
        if left > cost.get(row.name, 10):
            try:
                add(report["rows"], row, run_child(row, device, min(left, 3600)))
            except RuntimeError as error:
                report["failed"][row.name] = str(error)
                tqdm.write(f"{row.name} failed: {error}")
            cost[row.name] = time.monotonic() - began
        elif row.name not in report["rows"]:
            report["left_out"][row.name] = f"no time left in round {turn + 1} of {rounds}"
        summarise(report)
        if out:
            write_json(out, report)


def add(rows: dict[str, dict], row: Row, new: dict) -> None:
    """Put what one process measured beside what earlier rounds did."""
    old = rows.get(row.name)
    if old:
        higher = max(old, new, key=lambda run: run["peak_bytes"])
        new = new | {key: higher[key] for key in ("peak_bytes", "base_bytes")}
        new |= {key: old[key] + new[key] for key in ("seconds", "first_seconds")}
    rows[row.name] = asdict(row) | new


def machine(device: torch.device) -> dict:
    """Where this was measured, and with what."""
    info = dict(device=str(device), platform=platform.platform(), processors=os.cpu_count(), threads=torch.get_num_threads())
    info["name"] = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    with suppress(OSError, StopIteration):
        if device.type == "cpu":
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            info["name"] = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for library in RIVALS:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return info | versions


def run_bench(out: Path | None, quick: bool, device: torch.device) -> dict:
    """Measure, print the table, and return the report (also in `out`). Quick: within ten minutes."""
    rows, rounds = plan(quick, device), 2 if quick else 3
    for why in sorted({lacking(row) for row in rows} - {""}):
        print(f"{why}: its rows are left out")
    left_out = {row.name: lacking(row) for row in rows if lacking(row)}
    report = dict(machine=machine(device), quick=quick, rounds=rounds, rows={}, failed={}, left_out=left_out)
    if out:
        write_json(out, report)  # refuses a place that cannot be written before anything is measured
    run_rows([row for row in rows if not lacking(row)], rounds, LIMIT[quick], report, out, device)
    print(table(report))
    return report
