"""The tables, and what they say, as text."""

import re
from typing import Iterable

import numpy as np

from minipig.evidence.tables.hypotheses import DIRECTIONS, DISTANCES, TESTED, gain, hypotheses
from minipig.evidence.tables.protocol import Protocol

# what people call the measures and the rows
MEASURES = {
    "fd": "Fréchet distance, slice",
    "kd": "kernel distance, slice",
    "fd_lesion": "Fréchet distance, lesion",
    "fd_plain": "Fréchet distance, plain features",
    "fd_mirrored": "Fréchet distance, mirrored",
    "fd_spread": "Fréchet distance, directions alike",
    "agreement": "pair agreement",
    "nearer": "nearer to training slices",
    "neighbour": "distance to the nearest",
    "dice": "Dice",
    "iou": "IoU",
    "fresh_dice": "Dice on fresh phantoms",
}
NAMES = {
    "real": "real pairs only",
    "fresh": "fresh real",
    "training": "training pairs",
    "classical-more": "twice as many classical",
    "classical-upright": "classical, not mirrored",
    "SegGuidedDif-newmasks": "SegGuidedDif, new masks",
    "PIG-finished": "PIG, mask finished first",
    "PIG-finished-fewer": "PIG, mask finished first, fewer steps",
    "PIG-matched-oldmasks": "PIG-matched, training masks",
    "joint-twice": "joint, twice the steps",
    "joint-wide": "joint, twice as wide",
}
LOW = ("fd", "kd", "fd_lesion", "fd_plain", "fd_mirrored", "fd_spread")
BEST = dict.fromkeys(LOW, min) | dict.fromkeys(("agreement", *TESTED), max)


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
    text = columns(lines_of(table, rows, seeds, parts))
    by_direction = {name: row for name, row in rows.items() if "dimension" in row}
    if by_direction:
        dimension = np.mean(next(iter(by_direction.values()))["dimension"])
        text += ["", *columns(cells_of(by_direction, DIRECTIONS))]
        text += ["note: fd, kd and fd_mirrored rest on features of effective dimension"]
        text[-1] += f" {dimension:.1f}: few directions decide them; fd_spread counts more alike"
    lengths = {len(values) for row in rows.values() for values in row.values()}
    counts = " or ".join(map(str, sorted(lengths)))
    return "\n".join([*text, f"mean ± standard deviation over {counts} values"])


def table_markdown(
    table: int,
    rows: dict[str, dict[str, list[float]]],
    keys: Iterable[str] | None = None,
    seeds: int = Protocol.segmenter_seeds,
    parts: float = Protocol.folds,
) -> str:
    """The same for a notebook to draw: names spelt out, in bold the best that a method reached.

    keys: the measures to show, of either part of the table. Rows of real pairs are no method, and
    rows of fewer folds than others do not compete.
    """
    lines = lines_of(table, rows, seeds, parts, keys)
    bold = set()
    for column, key in enumerate(lines[0]):
        most = max((len(row.get(key, [])) for row in rows.values()), default=0)
        means = {
            line: np.mean(row[key])
            for line, (name, row) in enumerate(rows.items(), start=1)
            if key in BEST and len(row.get(key, [])) == most and not is_real(name)
        }
        if means:
            shown = {line: lines[line][column].partition(" ±")[0] for line in means}
            best = shown[BEST[key](means, key=means.get)]
            bold |= {(line, column) for line in means if shown[line] == best}
    lines[0] = [MEASURES.get(key, key) for key in lines[0]]
    for line in lines[1:]:
        line[0] = spelt(line[0], table)
    return markdown(lines, bold)


def is_real(row: str) -> bool:
    """Whether a row has real pairs alone, which no method made."""
    return set(row.partition("_")[0].split("+")) <= {"real", "fresh", "training"}


def markdown(lines: list[list[str]], bold: Iterable[tuple[int, int]] = ()) -> str:
    """Cells, the first line being the headings, as a Markdown table; some (line, column) bold."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    for line, column in bold:
        cells[line][column] = f"**{cells[line][column]}**"
    rule = [":--", *["--:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (cells[0], rule, *cells[1:]))


def spelt(row: str, table: int = 2) -> str:
    """A row's name for people: real+classical+PIG_2048 -> classical and PIG, 2,048 pairs.

    table: in Table 1 the row `real` is a measured sample, not what a segmenter learns from.
    """
    if (row, table) == ("real", 1):
        return "other real slices"
    sources, _, count = row.removeprefix("real+").partition("_")
    # DPM++ is one name
    names = re.split(r"(?<!\+)\+(?!\+)", sources)
    spelt_out = " and ".join(NAMES.get(name, name) for name in names)
    return spelt_out + (f", {int(count):,} pairs" if count else "")


def lines_of(
    table: int,
    rows: dict[str, dict[str, list[float]]],
    seeds: int,
    parts: float,
    keys: Iterable[str] | None = None,
) -> list[list[str]]:
    """The cells of a table, headings first; Table 2's last column is the gain over real."""
    if table == 1:
        return cells_of(rows, keys or DISTANCES)
    lines = cells_of(rows, keys or TESTED, scale=100, digits=1)
    lines[0].append("gain in Dice (95 %)")
    for name, cells in zip(rows, lines[1:]):
        cells.append("")
        if "real" in rows and name != "real":
            mean, low, high = (100 * v for v in gain(rows, name, "real", "dice", seeds, parts))
            cells[-1] = f"{mean:+.1f} ({low:+.1f}..{high:+.1f})" if np.isfinite(low) else ""
    return lines


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
