"""What the rows of both tables say: gains with their intervals, the hypotheses, and the tables as text."""

import json
from math import inf
from pathlib import Path
from typing import Iterable

import numpy as np

from ..segmentation import SCORES
from .metrics import interval
from .protocol import Protocol

COMPARATORS = ("LDM", "SegGuidedDif", "ControlNet", "joint")
DISTANCES = ("fd", "kd", "fd_lesion", "fd_plain", "agreement", "nearer", "neighbour")
SEEDS, PARTS = Protocol.segmenter_seeds, Protocol.folds  # of a row of Table 2 in each fold; of the data
APART = inf  # parts of data that are drawn anew for each value: nothing is shared

# Written down before any generator was compared, the paper's own margins: what is claimed, the bound, and its side
HYPOTHESES = {
    "H1": ("Fréchet distance of PIG, by that of DDIM", 0.503, "at most"),
    "H2": ("gain in Dice of real+PIG over real only", 0.0818, "at least"),
    "H3": ("gain in Dice of real+PIG over the best comparator", 0.0224, "at least"),
}


def replicas(folder: Path) -> list[dict]:
    """The rows of Table 1 and of Table 2 over the experiments in `folder`, a folder each, as if they were folds.

    Each has data, networks and a judge of its own (--seed, --judge-seed), so its values count as APART. Raises ValueError if
    there are none, or if they have not the same rows.
    """
    pooled = []
    for name in ("table1.json", "table2.json"):
        tables = [json.loads(path.read_text())["rows"] for path in sorted(folder.glob(f"*/{name}"))]
        if not tables or any(table.keys() != tables[0].keys() for table in tables):
            raise ValueError(f"{folder} holds {len(tables)} experiments with a {name}, or not the same rows in all of them")
        rows = {row: {key: [v for table in tables for v in table[row][key]] for key in tables[0][row]} for row in tables[0]}
        pooled.append(rows)
    return pooled


def folds_shared(rows: dict, names: Iterable[str], key: str, seeds: int) -> list[np.ndarray]:
    """The values of these rows as (folds, seeds) each, over the folds 0, 1, ... that all of them have.

    Raises ValueError if there is none.
    """
    short = min(names, key=lambda name: len(rows.get(name, {}).get(key, ())))
    folds = len(rows.get(short, {}).get(key, ())) // seeds
    if folds == 0:
        raise ValueError(f"there is no {key} of the row {short} yet, in one whole fold; make it first")
    return [np.array(rows[name][key][: folds * seeds]).reshape(folds, seeds) for name in names]


def gain(
    rows: dict, row: str, base: str, key: str = "dice", seeds: int = SEEDS, parts: float = PARTS
) -> tuple[float, float, float]:
    """Mean and 95 % interval of row minus base, paired by fold and seed, over the folds that both have."""
    a, b = folds_shared(rows, (row, base), key, seeds)
    return (float((a - b).mean()), *interval(a - b, parts))


def hypotheses(one: dict, two: dict, protocol: Protocol, parts: float | None = None) -> dict[str, dict]:
    """Estimate, 95 % interval and verdict of each hypothesis, from the rows of both tables; parts: None are the folds.

    "holds": the estimate keeps to the bound; "decided": so does all of the interval, or none of it. Each is over the folds
    that all its rows have; raises ValueError if there is none. Who is the best comparator is seen in the very values that PIG
    is then compared with, which favours the comparators: the best of several is partly the luckiest.
    """
    n, seeds, parts = protocol.synthetic, protocol.segmenter_seeds, parts or protocol.folds
    pig, ddim = folds_shared(one, ("PIG", "DDIM"), "fd", seeds=1)
    mine, base, *others = (f"real+PIG_{n}", "real", *(f"real+{name}_{n}" for name in COMPARATORS))
    dice = dict(zip((mine, *others), folds_shared(two, (mine, *others), "dice", seeds)))
    best = max(others, key=lambda row: dice[row].mean())
    found = {
        "H1": (float((pig / ddim).mean()), *interval(pig / ddim, parts)),
        "H2": gain(two, mine, base, seeds=seeds, parts=parts),
        "H3": (float((dice[mine] - dice[best]).mean()), *interval(dice[mine] - dice[best], parts)),
    }
    judged = {}
    for name, (estimate, low, high) in found.items():
        claim, bound, side = HYPOTHESES[name]
        holds = estimate <= bound if side == "at most" else estimate >= bound
        judged[name] = dict(claim=claim, bound=bound, side=side, estimate=estimate, interval=[low, high], holds=holds)
        judged[name]["decided"] = bool(low > bound or high < bound)
    return judged | {"H3": judged["H3"] | {"best": best}}


def verdicts(one: dict, two: dict, protocol: Protocol, parts: float | None = None) -> str:
    """The hypotheses in a line each, or why they cannot be judged yet."""
    try:
        judged = hypotheses(one, two, protocol, parts)
    except ValueError as error:
        return f"hypotheses: {error}"
    lines = []
    for name, h in judged.items():
        low, high = h["interval"]
        found = f"{h['estimate']:.3f}" + (f" (95 %: {low:.3f} to {high:.3f})" if np.isfinite(low) else " in one fold")
        verdict = ("holds" if h["holds"] else "does not hold") + (", undecided" if not h["decided"] else "")
        lines.append(
            f"{name} {verdict}: {h['claim']}{' ' + h['best'] if 'best' in h else ''} {h['side']} {h['bound']}? {found}"
        )
    return "\n".join(lines)


def show(table: int, rows: dict[str, dict[str, list[float]]], seeds: int = SEEDS, parts: float = PARTS) -> str:
    """Mean ± standard deviation of each row; of Table 2 in percent, with the paired gain in Dice over real only."""
    keys = [key for key in (DISTANCES if table == 1 else (*SCORES, "fresh_dice")) if any(key in row for row in rows.values())]
    scale, digits = (1, 3) if table == 1 else (100, 1)
    names, cells = [""], [list(keys) + (["gain in Dice (95 %)"] if table == 2 else [])]
    for name, row in rows.items():
        names.append(name)
        cells.append([])
        for key in keys:
            values = scale * np.array(row.get(key, []))
            spread = f" ± {values.std(ddof=1):.{digits}f}" if values.size > 1 else ""
            cells[-1].append(f"{values.mean():.{digits}f}{spread}" if values.size else "")
        if table == 2:
            mean, low, high = (
                (100 * v for v in gain(rows, name, "real", seeds=seeds, parts=parts)) if "real" in rows else [np.nan] * 3
            )
            known = name != "real" and np.isfinite(low)
            cells[-1].append(f"{mean:+.1f} ({low:+.1f}..{high:+.1f})" if known else "")
    widths = [max(map(len, column)) + 2 for column in zip(*cells)]
    lines = [
        f"{name:{max(map(len, names))}}" + "".join(f"{cell:>{width}}" for cell, width in zip(line, widths))
        for name, line in zip(names, cells)
    ]
    counts = sorted({len(row[keys[0]]) for row in rows.values()})
    return "\n".join([*lines, f"mean ± standard deviation over {' or '.join(map(str, counts))} values"])
