"""What follows from the rows of a benchmark, and the report as text.

runner.py explains the keys of a report and of its rows.
"""

import math

import numpy as np

from minipig.extras.solvers import SOLVERS

WALKS = [solver.steps for solver in SOLVERS.values()]  # two network calls in each step


def summarise(report: dict) -> None:
    """Add to the report what follows from the measurements of its rows."""
    rows = report["rows"]
    for row in rows.values():
        seconds = row["seconds"]
        row |= dict(median=float(np.median(seconds)), min=min(seconds), max=max(seconds))
    matmuls = [row for row in rows.values() if row["what"] == "matmul"]
    peaks = {row["network"]: row["forward_flops"] / row["median"] for row in matmuls}
    for name, row in rows.items():
        if row["what"] == "sample":
            calls = 2 * row["steps"] * math.ceil(row["pairs"] / row["batch"])
            seconds = [row["median"] * S / row["steps"] / row["pairs"] for S in WALKS]
            row["per_pair"] = dict(zip(map(str, WALKS), seconds))
        else:
            calls = 3 if row["what"] == "train" else 1
        peak = peaks.get("bfloat16" if row["bfloat16"] else "float32")
        row["peak_share"] = peak and calls * row["forward_flops"] / row["median"] / peak
        plain = rows.get(name.replace(f"/{row['network']}/", "/plain/"))
        row["time_ratio"] = plain and row["median"] / plain["median"]
        row["memory_ratio"] = plain and row["peak_bytes"] / plain["peak_bytes"]
    report["exponents"] = exponents(list(rows.values()))
    report["sampling_memory"] = {
        str(row["pairs"]): row["peak_bytes"]
        for row in rows.values()
        if (row["what"], row["network"], row["size"], row["steps"]) == ("sample", "ours", 64, 2)
    }


def exponent(x: list[float], y: list[float]) -> float:
    """The e of y ~ x^e, by least squares in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def exponents(rows: list[dict]) -> dict[str, float]:
    """How time and memory of our network grow with pixels (from 64x64), batch, sampling steps."""
    ours = [row for row in rows if row["network"] == "ours"]
    steps = [row for row in ours if row["what"] == "train" and row["preset"] == "paper"]
    walks = [row for row in ours if (row["what"], row["size"], row["pairs"]) == ("sample", 64, 16)]
    series = {
        # name: (the axis, its power, rows)
        "train ~ pixels": ("size", 2, [r for r in steps if r["batch"] == 1 and r["size"] >= 64]),
        "train ~ batch": ("batch", 1, [r for r in steps if r["size"] == 128]),
        "sample ~ steps": ("steps", 1, walks),
    }
    found = {}
    for name, (key, power, points) in series.items():
        if len({row[key] for row in points}) > 1:
            x = [row[key] ** power for row in points]
            memory = [max(row["peak_bytes"] - row["base_bytes"], 1) for row in points]
            found[f"time: {name}"] = exponent(x, [row["median"] for row in points])
            found[f"memory: {name}"] = exponent(x, memory)
    return found


def table(report: dict) -> str:
    """The report as text: a line for each row, then what follows from several rows."""
    lines = [
        f"{'what':22}{'network':28}{'image':>6}{'batch':>6}{'median s (min..max)':>26}"
        f"{'base GB':>8}{'peak GB':>8}{'M weights':>10}{'GFLOP':>8}{'% of peak':>10}"
        "  time, memory / plain"
    ]
    trials, pairs = [], {}
    for row in report["rows"].values():
        what = row["what"]
        image = f"{row['size']}x{row['size']}, batch {row['batch']}"
        if what == "sample":
            what = f"sample {row['pairs']}, {row['steps']} steps"
            label = f"{row['network']} {image}"
            each = ", ".join(f"{steps} steps {s:.3g} s" for steps, s in row["per_pair"].items())
            pairs[label] = f"a pair, {label}: {each}"  # of several lengths, the last
        elif what == "trial":
            each = ", ".join(f"{name} {s:.3g}" for name, s in row["candidates"].items() if s)
            trials.append(f"seconds a step, {row['preset']} {image}: {each}")
        spread = f"{row['median']:.3g} ({row['min']:.3g}..{row['max']:.3g})"
        line = f"{what:22}{row['network']:28}{row['size']:6}{row['batch']:6}{spread:>26}"
        line += "".join(f"{row[key] / 1e9:8.2f}" for key in ("base_bytes", "peak_bytes"))
        line += f"{row['parameters'] / 1e6:10.2f}{row['forward_flops'] / 1e9:8.2f}"
        line += f"{100 * row['peak_share']:10.0f}" if row["peak_share"] else " " * 10
        if row["time_ratio"]:
            line += f"  {row['time_ratio']:.2f}, {row['memory_ratio']:.2f}"
        lines.append(line)
    lines += trials
    lines += pairs.values()
    for n, peak in report["sampling_memory"].items():
        lines.append(f"peak of sampling {n} pairs: {peak / 1e9:.2f} GB")
    lines += [f"exponent of {name}: {e:.2f}" for name, e in report["exponents"].items()]
    lines += [f"{name}: {why}" for name, why in (report["failed"] | report["left_out"]).items()]
    return "\n".join(lines)
