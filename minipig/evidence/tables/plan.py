"""Which rows the tables have, and which record each of them needs."""

from typing import Callable

from minipig.evidence.tables.hypotheses import COMPARATORS
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.table1 import measure
from minipig.evidence.tables.table2 import segment

# other guide rules; the last two were added after two folds of PIG
OTHER_RULES = ("PIG-matched", "PIG-sign", "PIG-dithered")
# new masks, finished before model_y sees them; of phantoms, the first fold only
NEW_MASKS = ("SegGuidedDif-newmasks", "PIG-finished")
# what the released code does, each part alone, then both; PIG-thresholded was added after a first
# look at PIG-binarised
RELEASE = ("PIG-binarised", "PIG-thresholded", "PIG-weighted", "PIG-release")
CONTROLS = (*NEW_MASKS, "PIG-matched-oldmasks", "joint-wide", *RELEASE)  # phantoms, first fold


def table1_sources(protocol: Protocol) -> list[str]:
    """The rows of Table 1 in every fold; "real" are fresh phantoms, "training" training pairs."""
    if not protocol.phantom:
        return ["training", "joint", "SegGuidedDif", "PIG", *NEW_MASKS]
    return ["real", "training", "DDPM", "DDIM", "DPM++", *COMPARATORS, "PIG", *OTHER_RULES]


def table2_sources(protocol: Protocol) -> list[tuple[str, int]]:
    """The rows of Table 2 in every fold: (source, number of its pairs)."""
    n = protocol.synthetic
    rows = [("real", 0)]
    if not protocol.phantom:
        names = ("classical", "joint", "SegGuidedDif", "PIG", "classical+PIG", *NEW_MASKS)
        return rows + [(name, n) for name in names]
    rows += [(name, n) for name in ("fresh", "classical", *COMPARATORS)]
    rows += [("PIG", n // 2), ("PIG", n), ("PIG", 3 * n // 2)]
    return rows + [(s, n) for s in (*OTHER_RULES, "classical+SegGuidedDif", "classical+PIG")]


def plan(protocol: Protocol, table: int, fold: int) -> list[tuple[Callable, tuple]]:
    """The records of a table in one fold: (function, its further arguments)."""
    controls = CONTROLS if protocol.phantom and fold == 0 else ()
    if table == 1:
        return [(measure, (source,)) for source in (*table1_sources(protocol), *controls)]
    rows = table2_sources(protocol) + [(name, protocol.synthetic) for name in controls]
    return [(segment, (*row, seed)) for row in rows for seed in range(protocol.segmenter_seeds)]
