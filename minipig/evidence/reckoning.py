"""What follows from a benchmark's measurements: medians, shares of the machine's peak, ratios, growth; and all of it as text.

The keys of a report and of its rows are those of bench.py.
"""

import math

import numpy as np

from ..sampler import SOLVERS
from .measure import Row

WALKS = [solver["steps"] for solver in SOLVERS.values()]  # 256 and 25, with two calls of a network in each step


def summarise(report: dict) -> None:
    """Everything that follows from the rows' measurements."""
    rows = report["rows"]
    for row in rows.values():
        row |= dict(median=float(np.median(row["seconds"])), min=min(row["seconds"]), max=max(row["seconds"]))
    peaks = {r["network"]: r["forward_flops"] / r["median"] for r in rows.values() if r["what"] == "matmul"}
    for name, row in rows.items():
        calls = {"train": 3, "matmul": 1, "sample": 2 * row["steps"] * math.ceil(row["pairs"] / row["batch"])}[row["what"]]
        peak = peaks.get("bfloat16" if row["bfloat16"] else "float32")
        row["peak_share"] = peak and calls * row["forward_flops"] / row["median"] / peak
        if row["what"] == "sample":
            row["per_pair"] = {str(s): row["median"] * s / row["steps"] / row["pairs"] for s in WALKS}
        plain = rows.get(name.replace(f"/{row['network']}/", "/plain/"))
        row["time_ratio"] = plain and row["median"] / plain["median"]
        row["memory_ratio"] = plain and row["peak_bytes"] / plain["peak_bytes"]
    report["exponents"] = exponents(list(rows.values()))
    samples = [r for r in rows.values() if (r["what"], r["network"], r["size"], r["steps"]) == ("sample", "ours", 64, 2)]
    report["sampling_memory"] = {str(r["pairs"]): r["peak_bytes"] for r in samples}
    headline = rows.get(Row("train", "ours").name, {})
    if headline.get("time_ratio"):
        report["train_step_512"] = {key: headline[key] for key in ("time_ratio", "memory_ratio")}


def exponent(x: list[float], y: list[float]) -> float:
    """The e of y ~ x^e, by least squares in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def exponents(rows: list[dict]) -> dict[str, float]:
    """How time and memory of our network grow: a step with pixels (from 64x64) and batch, sampling with its steps."""
    ours = [r for r in rows if r["network"] == "ours"]
    steps = [r for r in ours if r["what"] == "train" and r["preset"] == "paper"]
    series = {
        "train ~ pixels": ("size", 2, [r for r in steps if r["batch"] == 1 and r["size"] >= 64]),
        "train ~ batch": ("batch", 1, [r for r in steps if r["size"] == 128]),
        "sample ~ steps": ("steps", 1, [r for r in ours if r["what"] == "sample" and r["size"] == 64 and r["pairs"] == 16]),
    }
    found = {}
    for name, (key, power, points) in series.items():
        if len({r[key] for r in points}) > 1:
            x = [r[key] ** power for r in points]
            found[f"time: {name}"] = exponent(x, [r["median"] for r in points])
            found[f"memory: {name}"] = exponent(x, [max(r["peak_bytes"] - r["base_bytes"], 1) for r in points])
    return found


def table(report: dict) -> str:
    """All rows, one a line; then a pair's seconds, sampling's memory, the exponents, and the two ratios at 512x512."""
    head = f"{'what':22}{'network':28}{'image':>6}{'batch':>6}{'median s (min..max)':>26}{'base GB':>8}{'peak GB':>8}"
    lines = [head + f"{'M weights':>10}{'GFLOP':>8}{'% of peak':>10}  time, memory to plain"]
    pairs = {}
    for row in report["rows"].values():
        what, label = row["what"], f"{row['network']} {row['size']}x{row['size']}"
        if what == "sample":
            what = f"sample {row['pairs']}, {row['steps']} steps"
            label += f", batch {row['batch']}"
            pairs[label] = ", ".join(f"{steps} steps {seconds:.3g} s" for steps, seconds in row["per_pair"].items())
        spread = f"{row['median']:.3g} ({row['min']:.3g}..{row['max']:.3g})"
        line = f"{what:22}{row['network']:28}{row['size']:6}{row['batch']:6}{spread:>26}"
        line += "".join(f"{row[key] / 1e9:8.2f}" for key in ("base_bytes", "peak_bytes"))
        line += f"{row['parameters'] / 1e6:10.2f}{row['forward_flops'] / 1e9:8.2f}"
        line += f"{100 * row['peak_share']:10.0f}" if row["peak_share"] else " " * 10
        lines.append(line + (f"  {row['time_ratio']:.2f}, {row['memory_ratio']:.2f}" if row["time_ratio"] else ""))
    lines += [f"a pair, {label}: {seconds}" for label, seconds in pairs.items()]
    lines += [f"peak of sampling {n} pairs: {peak / 1e9:.2f} GB" for n, peak in report["sampling_memory"].items()]
    lines += [f"exponent of {name}: {e:.2f}" for name, e in report["exponents"].items()]
    lines += [f"{name}: {why}" for name, why in (report["failed"] | report["left_out"]).items()]
    if ratios := report.get("train_step_512"):
        shown = f"time {ratios['time_ratio']:.2f}, memory {ratios['memory_ratio']:.2f}"
        lines.append(f"a training step at 512x512, ours / plain: {shown}")
    return "\n".join(lines)
