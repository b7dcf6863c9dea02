"""minipig bench: time and memory of a training step and of a sampled pair, beside other networks.

Every row is measured in a process of its own, so that its peak memory is its own. The rounds go
over all rows in turn, so that a busy minute of the machine does not fall on one row alone. The
report is written after every process. Its keys:

machine          device, its name, platform, processors, threads, versions of the libraries
quick, rounds    what was asked for
rows             {name: row}. A row has the fields of worker.Row and what worker.py prints:
                 seconds (all timed runs) and first_seconds (each process's first); peak_bytes and
                 base_bytes (of the process with the highest peak); parameters; forward_flops (of
                 one call on a batch); bfloat16, channels_last, recompute; loss; device; of a
                 "trial" the candidates' seconds. From these follow median, min, max;
                 peak_share (of the measured matrix-multiply peak; a backward pass counts as two
                 forward passes); time_ratio and memory_ratio to `plain`; per_pair, seconds by each
                 solver's number of steps, of a "sample"
failed           {name: the last line that the process printed}
left_out         {name: why}
exponents        {"time: train ~ pixels": e, ...}, least squares in logs; memory above the base
sampling_memory  {pairs: peak_bytes} at one batch size
"""

import json
import os
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

from minipig.data.files import write_json
from minipig.evidence.bench.networks import RIVALS, SPEEDS
from minipig.evidence.bench.report import summarise, table
from minipig.evidence.bench.worker import Row
from minipig.training import devices

LIMIT = {True: 560, False: 12 * 3600}  # quick or not: seconds after which no process runs


def plan(quick: bool, device: torch.device) -> list[Row]:
    """All rows, the most important first."""
    everyone = ("ours", "plain", *RIVALS)
    small = ((32, 64), (64, 16))  # size and batch in the preset cpu
    side = 2048 if device.type == "cpu" else 8192
    rows = [Row("train", network) for network in ("ours", "plain")]
    rows += [Row("matmul", kind, size=side) for kind in ("float32", "bfloat16")]
    candidates = [name for name in SPEEDS if name not in ("ours", "ours-compiled")]
    rows += [Row("train", network) for network in (*candidates, *RIVALS)]
    rows += [Row("train", network, "cpu", *shape) for shape in small for network in everyone]
    rows += [Row("train", "ours", size=size) for size in (64, 128, 256)]
    rows += [Row("train", "ours", size=128, batch=batch) for batch in (2, 4, 8)]
    rows += [Row("sample", network, steps=2, pairs=1) for network in ("ours", "plain")]
    rows += [Row("sample", "ours", "cpu", 64, 16, steps, 16) for steps in (2, 4, 8)]
    rows += [Row("sample", "ours", "cpu", 64, 16, 2, pairs) for pairs in (64, 256)]
    if not quick:
        rows += [Row("train", network, batch=2) for network in everyone]
        for size, batch in small:
            rows += [Row("sample", name, "cpu", size, batch, 4, batch) for name in everyone]
        rows += [Row("sample", network, steps=2, pairs=1) for network in RIVALS]
        rows += [Row("sample", "ours", "cpu", 64, 16, steps, 16) for steps in (16, 32)]
        rows += [Row("train", "ours", size=32), Row("train", "ours", size=128, batch=16)]
        rows += [Row("train", network, "tiny", 32, 64) for network in ("ours", "ours-compiled")]
    budget = 2.5 if quick else 15.0
    rows = [replace(row, budget=budget) for row in dict.fromkeys(rows)]
    ours = [row for row in rows if (row.what, row.network) == ("train", "ours")]
    before = {row: replace(row, what="trial") for row in ours}  # "ours" is what a trial chooses
    return [part for row in rows for part in ((before[row], row) if row in before else (row,))]


def lacking(row: Row) -> str:
    """What this machine lacks to measure the row; "" if nothing."""
    if row.network in RIVALS and find_spec(row.network.replace("-", "_")) is None:
        return f"{row.network} is not installed"
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if row.network == "ours-compiled" and not any(map(shutil.which, compilers)):
        return "torch.compile needs a C++ compiler"
    return ""


def run_child(row: Row, device: torch.device, seconds: float) -> dict:
    """measure(row, device) in a new process; RuntimeError with its last line if it fails."""
    module = [sys.executable, "-m", "minipig.evidence.bench.worker"]
    command = [*module, json.dumps(asdict(row)), str(device)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"stopped after {seconds:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])


def add(rows: dict[str, dict], row: Row, new: dict) -> None:
    """Add the measurements of one process to those of earlier rounds."""
    if old := rows.get(row.name):
        higher = max(old, new, key=lambda run: run["peak_bytes"])
        new = new | {key: higher[key] for key in ("peak_bytes", "base_bytes")}
        new |= {key: old[key] + new[key] for key in ("seconds", "first_seconds")}
    rows[row.name] = asdict(row) | new


def machine(device: torch.device) -> dict:
    """What this machine is, and the versions of the libraries."""
    info = devices.machine(device)
    for library in RIVALS:
        with suppress(PackageNotFoundError):
            info[library] = version(library)
    return info


def run_bench(out: Path, quick: bool, device: torch.device) -> dict:
    """Measure, print the table, and return the report (also in `out`). Quick: ten minutes."""
    rows = plan(quick, device)
    rounds = 2 if quick else 3
    left_out = {row.name: why for row in rows if (why := lacking(row))}
    for why in sorted(set(left_out.values())):
        print(f"{why}: its rows are left out")
    report = dict(machine=machine(device), quick=quick, rounds=rounds)
    report |= dict(rows={}, failed={}, left_out=left_out)
    if not out.exists():  # an earlier report stays until there is something new
        write_json(out, report)  # raises before anything is measured if it cannot be written
    turns = [(turn, row) for turn in range(rounds) for row in rows if row.name not in left_out]
    start = time.monotonic()
    cost = {}
    for turn, row in tqdm(turns, desc="bench", disable=None, leave=False):
        began = time.monotonic()
        left = LIMIT[quick] - (began - start)
        if row.name in report["failed"] or (row.what == "trial" and turn > 0):
            continue
        if left > cost.get(row.name, 10):
            try:
                add(report["rows"], row, run_child(row, device, min(left, 3600)))
            except RuntimeError as error:
                report["failed"][row.name] = str(error)
                tqdm.write(f"{row.name} failed: {error}")
            cost[row.name] = time.monotonic() - began
        elif row.name not in report["rows"]:
            left_out[row.name] = f"no time left in round {turn + 1} of {rounds}"
        summarise(report)
        write_json(out, report)
    print(table(report))
    return report
