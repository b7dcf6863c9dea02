"""Which rows the tables have, and which records they need."""

from minipig.evidence.tables.hypotheses import COMPARATORS
from minipig.evidence.tables.protocol import Protocol

# other guide rules; the last two were added after two folds of PIG
OTHER_RULES = ("PIG-matched", "PIG-sign", "PIG-dithered")
# new masks, finished before model_y sees them; of phantoms, the first fold only
NEW_MASKS = ("SegGuidedDif-newmasks", "PIG-finished")
# what the released code does, each part alone, then both; PIG-thresholded was added after a first
# look at PIG-binarised
RELEASE = ("PIG-binarised", "PIG-thresholded", "PIG-weighted", "PIG-release")
# phantoms, first fold; the last is the lab's finished-fewer, added for fresh samples of patients
CONTROLS = (*NEW_MASKS, "PIG-matched-oldmasks", "joint-wide", *RELEASE, "PIG-finished-fewer")

# a mirrored phantom is as likely, which classical augmentation alone is told; and both together
FLIPPED = tuple(f"{name}-flipped" for name in (*COMPARATORS, "PIG", "PIG-sign"))
UNION = tuple(f"classical+{name}-deformed" for name in ("SegGuidedDif", "ControlNet", "PIG-sign"))


def table1_sources(protocol: Protocol) -> list[str]:
    """The rows of Table 1 in every fold; "real" are fresh phantoms, "training" training pairs."""
    if not protocol.phantom:
        return ["training", "joint", "SegGuidedDif", "PIG", *NEW_MASKS]
    unmasked = ("DDPM", "DDIM", "DPM++")
    return ["real", "training", *unmasked, *COMPARATORS, "joint-twice", "PIG", *OTHER_RULES]


def table2_sources(protocol: Protocol) -> list[tuple[str, int]]:
    """The rows of Table 2 in every fold: (source, number of its pairs)."""
    n = protocol.synthetic
    rows = [("real", 0)]
    if not protocol.phantom:
        names = ("joint", "SegGuidedDif", "PIG", "classical+PIG", *NEW_MASKS)
        names += ("SegGuidedDif-bentmasks",) if protocol.deformed else ()
        return rows + [("classical", n), ("classical-more", 2 * n), *((name, n) for name in names)]
    rows += [(name, n) for name in ("fresh", "classical", "classical-upright")]
    rows += [("classical-more", 2 * n), *((name, n) for name in (*COMPARATORS, "joint-twice"))]
    rows += [("PIG", n // 2), ("PIG", n), ("PIG", 3 * n // 2)]
    both = ("classical+SegGuidedDif", "classical+PIG", *UNION)
    return rows + [(name, n) for name in (*OTHER_RULES, *both, *FLIPPED, "PIG-sign-deformed")]


def plan(protocol: Protocol, table: int, fold: int) -> list[tuple]:
    """A table's records in one fold: (source,) for Table 1, (source, pairs, seed) for Table 2."""
    controls = CONTROLS if protocol.phantom and fold == 0 else ()
    if table == 1:
        return [(source,) for source in (*table1_sources(protocol), *controls)]
    rows = table2_sources(protocol) + [(name, protocol.synthetic) for name in controls]
    return [(*row, seed) for row in rows for seed in range(protocol.segmenter_seeds)]
