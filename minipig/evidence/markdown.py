"""Tables for a notebook to draw: as Markdown, measures and rows in words."""

import re
from typing import Iterable

import numpy as np

from minipig.evidence.metrics import BETTER
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.text import lines_of

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
    "classical-known": "all classical that generators learn from",
    "classical-upright": "classical, not mirrored",
    "SegGuidedDif-newmasks": "SegGuidedDif, new masks",
    "SegGuidedDif-bentmasks": "SegGuidedDif, deformed masks",
    "ControlNet-bentmasks": "ControlNet, deformed masks",
    "PIG-finished": "PIG, mask finished first",
    "PIG-finished-fewer": "PIG, mask finished first, fewer steps",
    "PIG-matched-oldmasks": "PIG-matched, training masks",
    "joint-twice": "joint, twice the steps",
    "joint-wide": "joint, twice as wide",
}


def table_markdown(
    table: int, rows: dict[str, dict[str, list[float]]], keys: Iterable[str] | None = None
) -> str:
    """A table of results in words, in bold the best that a method reached.

    keys: the measures to show, of either part of the table. Rows of real pairs are no method, and
    rows of fewer folds than others do not compete.
    """
    lines = lines_of(table, rows, Protocol(), keys)
    bold = set()
    for column, key in enumerate(lines[0]):
        most = max((len(row.get(key, [])) for row in rows.values()), default=0)
        means = {
            line: BETTER[key] * np.mean(row[key])
            for line, (name, row) in enumerate(rows.items(), start=1)
            if key in BETTER and len(row.get(key, [])) == most and not is_real(name)
        }
        if means:
            shown = {line: lines[line][column].partition(" ±")[0] for line in means}
            best = shown[max(means, key=means.get)]
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
