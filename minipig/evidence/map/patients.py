"""When do pairs pay? Gains in Dice by the number of patients with masks, for every method."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from minipig.data.phantoms import SLICES
from minipig.evidence.map.cells import Cell, recorded
from minipig.evidence.metrics import interval
from minipig.evidence.tables.hypotheses import INDEPENDENT
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.text import columns

PATIENTS = (10, 25, 50, 100, 200)
SEEDS = (31, 32, 33, 34)
RECIPE = dict(deformed=8192, steps=3000)  # of every generator; `minipig causes` may change it
OLD_MASKS = ("SegGuidedDif", "ControlNet")  # rivals that are given training masks
GENERATORS = (*OLD_MASKS, "SegGuidedDif-newmasks", "joint", "PIG")
CLASSICAL = ("classical", "classical-upright", "classical-more")

# written down before any of the map was computed: claim, bound in Dice, numbers of patients
HYPOTHESES = {
    "H4": ("gain of PIG over real only", 0.0818, (100,)),
    "H5": ("gain of classical and PIG over classical", 0.02, (10, 25)),
    "H6": ("PIG ahead of the best rival with training masks", 0.0224, (10, 25)),
}


def protocol(patients: int, seed: int) -> Protocol:
    """The recipe with so many patients to learn from; the test fold has a quarter as many."""
    pairs = SLICES * -(-5 * patients // 4)
    return replace(Protocol(pairs=pairs, seed=seed), **RECIPE)


def cells(
    patients: tuple[int, ...] = PATIENTS, seeds: tuple[int, ...] = SEEDS
) -> dict[tuple[int, int], Cell]:
    """The experiments of the map by (number of patients, seed), seed after seed."""
    n = Protocol.synthetic
    rows = [("real", 0), ("fresh", n), *((name, n) for name in CLASSICAL[:2])]
    rows += [("classical-more", 2 * n), *((name, n) for name in GENERATORS)]
    rows += [(f"classical+{name}", n) for name in GENERATORS]
    return {
        (count, seed): Cell(f"patients_{count}", protocol(count, seed), tuple(rows))
        for seed in seeds
        for count in patients
    }


def collected(out: Path, work: Path, made: dict[tuple[int, int], Cell]) -> dict[str, dict]:
    """The Dice on fresh phantoms, mean of the segmenters: {source: {patients: {seed: Dice}}}."""
    values: dict[str, dict] = {}
    for (count, seed), cell in made.items():
        for source, value in recorded(cell, out, work).items():
            if "dice" in value:
                by_seed = values.setdefault(source, {}).setdefault(str(count), {})
                by_seed[str(seed)] = float(np.mean(value["dice"]))
    return values


def difference(values: dict, source: str, base: str, patients: int) -> np.ndarray:
    """The Dice of a source minus that of its base, one a seed that has both."""
    mine, other = (values.get(name, {}).get(str(patients), {}) for name in (source, base))
    return np.array([mine[seed] - other[seed] for seed in mine if seed in other])


def gains(values: dict, base: str, sources: tuple[str, ...]) -> dict[str, dict]:
    """Gains over `base`: {source: {patients: [mean, low, high]}}, 95 % over the seeds."""
    rows: dict[str, dict] = {}
    for source in sources:
        for count in PATIENTS:
            change = difference(values, source, base, count)
            if len(change):
                row = rows.setdefault(source, {})
                row[str(count)] = [float(change.mean()), *interval(change, INDEPENDENT)]
    return rows


def judged(values: dict) -> dict[str, dict]:
    """Estimate, 95 % interval and verdict of each hypothesis, where its rows are complete.

    Several numbers of patients: the mean over them, seed by seed. The best rival is chosen by the
    values that PIG is compared with, which favours the rival. "holds": the estimate reaches the
    bound; "sure": the whole interval is above 0.
    """
    results = {}
    for name, (claim, bound, counts) in HYPOTHESES.items():
        pairs = {
            "H4": [("PIG", "real")],
            "H5": [("classical+PIG", "classical")],
            "H6": [("PIG", rival) for rival in OLD_MASKS],
        }[name]
        changes = []
        for source, base in pairs:
            parts = [difference(values, source, base, count) for count in counts]
            if {len(part) for part in parts} == {len(SEEDS)}:
                changes.append((np.mean(parts, 0), base))
        if len(changes) < len(pairs):
            continue
        change, base = min(changes, key=lambda one: one[0].mean())
        low, high = interval(change, INDEPENDENT)
        results[name] = dict(claim=claim, over=base, bound=bound, estimate=float(change.mean()))
        results[name] |= dict(interval=[low, high], holds=bool(change.mean() >= bound))
        results[name]["sure"] = bool(low > 0)
    return results


def map_text(values: dict) -> str:
    """Gains by number of patients, in points of Dice, then the hypotheses."""
    text = []
    beside = tuple(f"classical+{name}" for name in GENERATORS)
    for base, sources in (
        ("real", ("fresh", *CLASSICAL, *GENERATORS)),
        ("classical", ("classical-more", *beside)),
    ):
        lines = [[f"over {base}, by patients", *map(str, PATIENTS)]]
        for source, row in gains(values, base, sources).items():
            lines.append([source, *(points(row.get(str(count))) for count in PATIENTS)])
        text += [*columns(lines), ""]
    for name, found in judged(values).items():
        told = points([found["estimate"], *found["interval"]])
        verdict = "holds" if found["holds"] else "fails"
        text.append(
            f"{name} {found['claim']}: {told}; at least {100 * found['bound']:.2f}: {verdict}"
        )
    return "\n".join(text)


def points(estimate: list[float] | None) -> str:
    """A gain in points with its interval: "+1.2 (+0.3 to +2.1)"."""
    if estimate is None:
        return ""
    mean, low, high = (100 * value for value in estimate)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" if np.isfinite(low) else f"{mean:+.1f}"
