"""The tables, and what they say, as text."""

from typing import Iterable

import numpy as np

from minipig.evidence.tables.hypotheses import DIRECTIONS, DISTANCES, TESTED, gain, hypotheses
from minipig.evidence.tables.protocol import Protocol


def hypotheses_text(one: dict, two: dict, protocol: Protocol) -> str:
    """Each hypothesis as text: estimate, interval and bound, or why it cannot be judged yet."""
    try:
        judged = hypotheses(one, two, protocol)
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


def points(mean: float, low: float, high: float) -> str:
    """A gain in points with its interval, if it has one: "+1.2 (+0.3 to +2.1)"."""
    text = f"{100 * mean:+.1f}"
    return f"{text} ({100 * low:+.1f} to {100 * high:+.1f})" if np.isfinite(low) else text


def table_text(table: int, rows: dict[str, dict[str, list[float]]], protocol: Protocol) -> str:
    """A table as text: mean ± standard deviation; Table 2 in percent, with the gain over real.

    Table 1 of phantoms has a second part, and a note on how few directions decide its distances.
    """
    if not rows:
        return "the table is empty: it begins with fold 0, of which no row is computed yet"
    text = columns(lines_of(table, rows, protocol))
    by_direction = {name: row for name, row in rows.items() if "dimension" in row}
    if by_direction:
        dimension = np.mean(next(iter(by_direction.values()))["dimension"])
        text += ["", *columns(cells_of(by_direction, DIRECTIONS))]
        text += ["note: fd, kd and fd_mirrored rest on features of effective dimension"]
        text[-1] += f" {dimension:.1f}: few directions decide them; fd_spread counts more alike"
    lengths = {len(values) for row in rows.values() for values in row.values()}
    counts = " or ".join(map(str, sorted(lengths)))
    return "\n".join([*text, f"mean ± standard deviation over {counts} values"])


def lines_of(
    table: int, rows: dict, protocol: Protocol, keys: Iterable[str] | None = None
) -> list[list[str]]:
    """The cells of a table, headings first; Table 2's last column is the gain over real."""
    if table == 1:
        return cells_of(rows, keys or DISTANCES)
    lines = cells_of(rows, keys or TESTED, scale=100, digits=1)
    lines[0].append("gain in Dice (95 %)")
    shared = ("dice", protocol.segmenter_seeds, protocol.folds)
    for name, cells in zip(rows, lines[1:]):
        cells.append("")
        if "real" in rows and name != "real":
            mean, low, high = (100 * v for v in gain(rows, name, "real", *shared))
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


def verdict(rows: dict, protocol: Protocol) -> str:
    """Sentences on PIG's pairs: beside real pairs, and beside or for classical augmentation."""
    n = protocol.synthetic
    shared = ("dice", protocol.segmenter_seeds, protocol.folds)
    sentences = []
    both, more = f"real+classical+PIG_{n}", f"real+classical-more_{2 * n}"
    for row, base, what in (
        (f"real+PIG_{n}", "real", f"{n} pairs of PIG change the Dice of real pairs alone"),
        (both, "real+classical", f"{n} pairs of PIG change the Dice of classical augmentation"),
        (both, more, f"{n} pairs of PIG for half of {2 * n} classical ones change the Dice"),
    ):
        if row not in rows or base not in rows:
            continue
        mean, low, high = (100 * v for v in gain(rows, row, base, *shared))
        change = f"{what} by {mean:+.1f} points"
        if not np.isfinite(low):
            sentences.append(f"{change}; two folds or more are needed to say how sure that is")
            continue
        sure = "they help" if low > 0 else "they harm" if high < 0 else "not certain either way"
        sentences.append(f"{change} (95 % interval {low:+.1f} to {high:+.1f}): {sure}")
    return "\n".join(sentences)
