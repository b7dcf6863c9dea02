"""What the tables say: gains with intervals, the three hypotheses, and the tables as text."""

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

    Each experiment has its own data, networks and judge, so the values are INDEPENDENT. Raises
    ValueError if there is none, or if their rows differ.
    """
    pooled = []
    for name in ("table1.json", "table2.json"):
        tables = [json.loads(path.read_text())["rows"] for path in sorted(folder.glob(f"*/{name}"))]
        if not tables:
            raise ValueError(f"{folder} has no experiments with a {name}")
        if any(table.keys() != tables[0].keys() for table in tables):
            raise ValueError(f"the {len(tables)} files {name} in {folder} differ in their rows")
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
    one: dict, two: dict, protocol: Protocol, parts: float | None = None, distance: str = "fd"
) -> dict[str, dict]:
    """Estimate, 95 % interval and verdict of each hypothesis, over its rows' common folds.

    parts: of the data (default: the folds). distance: that of H1, which was written down for "fd".
    "holds": the estimate is within the bound; "decided": the whole interval is on one side of it.
    The best comparator is chosen by the values that PIG is compared with, which favours the
    comparator: the best of several is partly the luckiest. Raises ValueError if there is no common
    fold.
    """
    n, seeds, parts = protocol.synthetic, protocol.segmenter_seeds, parts or protocol.folds
    pig, ddim = common_folds(one, ("PIG", "DDIM"), distance, seeds=1)
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


def verdict(
    rows: dict, n: int, seeds: int = Protocol.segmenter_seeds, parts: float = Protocol.folds
) -> str:
    """Whether PIG's n pairs help a segmenter, alone and beside classical augmentation.

    One sentence for each of the two, if its rows are there.
    """
    sentences = []
    for row, base, beside in (
        (f"real+PIG_{n}", "real", "real pairs alone"),
        (f"real+classical+PIG_{n}", "real+classical", "classical augmentation"),
    ):
        if row not in rows or base not in rows:
            continue
        mean, low, high = (100 * v for v in gain(rows, row, base, "dice", seeds, parts))
        change = f"{n} pairs of PIG change the Dice of {beside} by {mean:+.1f} points"
        if not np.isfinite(low):
            sentences.append(f"{change}; two folds or more are needed to say how sure that is")
            continue
        sure = "they help" if low > 0 else "they harm" if high < 0 else "not certain either way"
        sentences.append(f"{change} (95 % interval {low:+.1f} to {high:+.1f}): {sure}")
    return "\n".join(sentences)


def hypotheses_text(one: dict, two: dict, protocol: Protocol, parts: float | None = None) -> str:
    """Each hypothesis as text: estimate, interval and bound, or why it cannot be judged yet."""
    try:
        judged = hypotheses(one, two, protocol, parts)
    except ValueError as error:
        return f"hypotheses: {error}"
    lines = [["", "estimate", "95 % interval", "bound"]]
    for name, h in judged.items():
        low, high = h["interval"]
        between = f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "needs two folds"
        claim = f"{name} {h['claim']} {h.get('best', '')}"
        lines.append([claim, f"{h['estimate']:.3f}", between, f"{h['side']} {h['bound']}"])
    return "\n".join(columns(lines))


def columns(lines: list[list[str]]) -> list[str]:
    """Cells as lines of text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = []
    for first, *cells in lines:
        right = "".join(f"{cell:>{width + 2}}" for cell, width in zip(cells, widths[1:]))
        text.append(f"{first:{widths[0]}}{right}")
    return text


def table_text(
    table: int,
    rows: dict[str, dict[str, list[float]]],
    seeds: int = Protocol.segmenter_seeds,
    parts: float = Protocol.folds,
) -> str:
    """A table as text: mean ± standard deviation; Table 2 in percent, with the gain over real.

    Table 1 of phantoms has a second part, and a note on how few directions decide its distances.
    """
    lines = cells_of(rows, DISTANCES) if table == 1 else cells_of(rows, TESTED, scale=100, digits=1)
    if table == 2:
        lines[0].append("gain in Dice (95 %)")
        for name, cells in zip(rows, lines[1:]):
            cells.append("")
            if "real" in rows and name != "real":
                mean, low, high = (100 * v for v in gain(rows, name, "real", "dice", seeds, parts))
                cells[-1] = f"{mean:+.1f} ({low:+.1f}..{high:+.1f})" if np.isfinite(low) else ""
    text = columns(lines)
    by_direction = {name: row for name, row in rows.items() if "dimension" in row}
    if by_direction:
        dimension = np.mean(next(iter(by_direction.values()))["dimension"])
        text += ["", *columns(cells_of(by_direction, DIRECTIONS))]
        text += ["note: fd, kd and fd_mirrored rest on features of effective dimension"]
        text[-1] += f" {dimension:.1f}: few directions decide them; fd_spread counts more alike"
    lengths = {len(values) for row in rows.values() for values in row.values()}
    counts = " or ".join(map(str, sorted(lengths)))
    return "\n".join([*text, f"mean ± standard deviation over {counts} values"])


def cells_of(rows: dict, keys: Iterable[str], scale: float = 1, digits: int = 3) -> list[list[str]]:
    """A header, and for each row its name and mean ± standard deviation of each key that occurs."""
    keys = [key for key in keys if any(key in row for row in rows.values())]
    lines = [["", *keys]]
    for name, row in rows.items():
        cells = [name]
        for key in keys:
            values = scale * np.array(row.get(key, []))
            spread = f" ± {values.std(ddof=1):.{digits}f}" if values.size > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}" if values.size else "")
        lines.append(cells)
    return lines
