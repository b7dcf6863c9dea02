"""What the tables say: gains with intervals, and the three hypotheses."""

import json
from math import inf
from pathlib import Path
from typing import Iterable

import numpy as np

from minipig.evidence.metrics import interval
from minipig.evidence.tables.protocol import Protocol
from minipig.segmentation import SCORES

COMPARATORS = ("LDM", "SegGuidedDif", "ControlNet", "joint")
DISTANCES = ("fd", "kd", "fd_lesion", "fd_plain", "agreement", "nearer", "neighbour")
# of phantoms; older records have no such values
DIRECTIONS = ("fd_mirrored", "fd_spread", "precision", "recall", "coverage")
TESTED = (*SCORES, "fresh_dice")
INDEPENDENT = inf  # the number of parts of the data, for values that each have data of their own

# fixed before any generator was compared: claim, bound (the paper's own margin), and its side
HYPOTHESES = {
    "H1": ("Fréchet distance of PIG divided by that of DDIM", 0.503, "at most"),
    "H2": ("gain in Dice of real+PIG over real only", 0.0818, "at least"),
    "H3": ("gain in Dice of real+PIG over the best comparator", 0.0224, "at least"),
}


def replicas(folder: Path) -> list[dict]:
    """The rows of Tables 1 and 2 of all experiments in `folder`, pooled as if they were folds.

    Each experiment has its own patients, networks and judge (phantoms for measuring are shared), so
    of one fold each the values are INDEPENDENT. Raises ValueError if there is none, or if they
    differ in their rows, measures or number of folds.
    """
    pooled = []
    for name in ("table1.json", "table2.json"):
        tables = [json.loads(path.read_text())["rows"] for path in sorted(folder.glob(f"*/{name}"))]
        if not tables:
            raise ValueError(f"{folder} has no experiments with a {name}")
        sizes = [
            {row: {key: len(v) for key, v in values.items()} for row, values in table.items()}
            for table in tables
        ]
        if any(size != sizes[0] for size in sizes):
            what = "rows, measures or number of folds"
            raise ValueError(f"the {len(tables)} files {name} in {folder} differ in their {what}")
        rows = {}
        for row, first in tables[0].items():
            rows[row] = {key: [v for table in tables for v in table[row][key]] for key in first}
        pooled.append(rows)
    return pooled


def common_folds(rows: dict, names: Iterable[str], key: str, seeds: int) -> list[np.ndarray]:
    """The values of each row, (folds, seeds), over their common folds; ValueError without one."""
    shortest = min(names, key=lambda name: len(rows.get(name, {}).get(key, ())))
    folds = len(rows.get(shortest, {}).get(key, ())) // seeds
    if folds == 0:
        raise ValueError(f"no fold has all {key} of the row {shortest} yet; compute it first")
    return [np.array(rows[name][key][: folds * seeds]).reshape(folds, seeds) for name in names]


def gain(
    rows: dict,
    row: str,
    base: str,
    key: str = "dice",
    seeds: int = Protocol.segmenter_seeds,
    parts: float = Protocol.folds,
) -> tuple[float, float, float]:
    """Mean and 95 % interval of row minus base, paired by fold and seed over their common folds."""
    a, b = common_folds(rows, (row, base), key, seeds)
    return (float((a - b).mean()), *interval(a - b, parts))


def hypotheses(
    one: dict, two: dict, protocol: Protocol, parts: float | None = None
) -> dict[str, dict]:
    """Estimate, 95 % interval and verdict of each hypothesis, over its rows' common folds.

    parts: of the data (default: the folds).
    "holds": the estimate is within the bound; "decided": the whole interval is on one side of it.
    The best comparator is chosen by the values that PIG is compared with, which favours the
    comparator: the best of several is partly the luckiest. Raises ValueError if there is no common
    fold.
    """
    n, seeds, parts = protocol.synthetic, protocol.segmenter_seeds, parts or protocol.folds
    pig, ddim = common_folds(one, ("PIG", "DDIM"), "fd", seeds=1)
    mine = f"real+PIG_{n}"
    rivals = [f"real+{name}_{n}" for name in COMPARATORS]
    dice = dict(zip((mine, *rivals), common_folds(two, (mine, *rivals), "dice", seeds)))
    best = max(rivals, key=lambda row: dice[row].mean())
    real_pig, real = common_folds(two, (mine, "real"), "dice", seeds)
    values = {"H1": pig / ddim, "H2": real_pig - real, "H3": dice[mine] - dice[best]}
    judged = {}
    for name, (claim, bound, side) in HYPOTHESES.items():
        estimate = float(values[name].mean())
        low, high = interval(values[name], parts)
        h = dict(claim=claim, bound=bound, side=side, estimate=estimate, interval=[low, high])
        h["holds"] = estimate <= bound if side == "at most" else estimate >= bound
        h["decided"] = bool(low > bound or high < bound)
        judged[name] = h
    judged["H3"]["best"] = best
    return judged
