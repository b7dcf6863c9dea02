"""`minipig map`: when do pairs pay? Gains in Dice by number of patients, for every method.

OUT/seed_S/patients_N/fold_0.json  the records of a seed and N patients, for resuming;
                                   patients_N_steps_M: of segmenters that stop after M steps
OUT/map.json                       {"dice": {source: {patients: {seed: ...}}}, "hypotheses",
                                   "provenance", "protocols": the settings by folder}
OUT/map.png                        the gains as a figure

The primary measure is the Dice on test phantoms, mean of a row's segmenters; its unit is the seed.
No seed is added after looking. Two real sets follow by the same recipe, in five folds. The map's
estimate of a difference, at the nearest number of patients, comes true if the set's interval, with
shared patients allowed for, contains it and is at most ten points wide; in direction alone if the
set's mean has its sign.
"""

from dataclasses import replace
from pathlib import Path
from typing import Iterable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from minipig.data.files import write_figure, write_json
from minipig.data.phantoms import SLICES
from minipig.evidence.map.cells import Cell, compute, recorded
from minipig.evidence.metrics import interval
from minipig.evidence.tables.hypotheses import INDEPENDENT
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.runner import check, provenance
from minipig.evidence.tables.text import columns, points

PATIENTS = (10, 25, 50, 100, 200)
FEW = PATIENTS[:2]
SEEDS = (31, 32, 33, 34)
# of every generator, and what changes it, written down when two of the pilot's three seeds were
# known: another setup of `minipig causes` takes its place if its pairs are worth more for both
# generators in all three seeds, and by a point or more on average, of longer training for each
# doubling of the steps; never one with others' phantoms, which have masks. Changes of samples,
# mixes and rules do not enter: they would be other rows than those claimed below.
RECIPE = dict(deformed=8192, steps=3000, replica=True)
OLD_MASKS = ("SegGuidedDif", "ControlNet")  # rivals that are given training masks
BENT_MASKS = tuple(f"{name}-bentmasks" for name in OLD_MASKS)  # and these deformed as well
GENERATORS = (*OLD_MASKS, "SegGuidedDif-newmasks", "joint", "PIG")
CLASSICAL = ("classical", "classical-upright", "classical-more")
SHORT = (100, 150)  # steps of further segmenters of few real pairs, which learn them by heart soon

# written down before any of the map was computed:
# claim, the row and those that it is compared with, bound in Dice, numbers of patients
HYPOTHESES = {
    "H4": ("gain of PIG over real only", "PIG", ("real",), 0.0818, (100,)),
    "H5": ("gain of classical and PIG over classical", "classical+PIG", ("classical",), 0.02, FEW),
    "H6": (
        "PIG ahead of the best rival with training masks, or these deformed",
        "PIG",
        OLD_MASKS + BENT_MASKS,
        0.0224,
        FEW,
    ),
}
# told beside them: H4 can come of deformations alone, H5 of 4,096 pairs, H6 of new masks
COMPANIONS = (
    ("PIG", "classical"),
    ("classical+PIG", "classical-more"),
    ("PIG", "SegGuidedDif-newmasks"),
)

# marker, line, colour, label; readable without colour
STYLES = {
    "fresh": ("", ":", "0.4", "as many more real pairs"),
    "classical": ("s", "--", "C1", "classical augmentation"),
    "classical-more": ("D", "--", "C1", "twice as much classical"),
    "SegGuidedDif": ("v", "-", "C2", "SegGuidedDif, old masks"),
    "ControlNet": ("^", "-", "C3", "ControlNet, old masks"),
    "SegGuidedDif-newmasks": ("<", "-", "C4", "SegGuidedDif, new masks"),
    "joint": ("x", "-", "C0", "one joint network"),
    "PIG": ("o", "-", "black", "PIG"),
}
BESIDE = {f"classical+{name}": name for name in GENERATORS}
PANELS = {
    "real": ("Added to real pairs", ("fresh", "classical", *GENERATORS)),
    "classical": ("Added to classical augmentation", ("classical-more", *BESIDE)),
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
    counts = {"real": 0, "classical-more": 2 * n}
    sources = ("real", "fresh", *CLASSICAL, *GENERATORS, *BENT_MASKS, *BESIDE)
    rows = tuple((source, counts.get(source, n)) for source in sources)
    return {
        (count, seed): Cell(f"patients_{count}", protocol(count, seed), rows)
        for seed in seeds
        for count in patients
    }


def shorter(steps: int) -> str:
    """The name of the row of real pairs alone whose segmenters take so many steps."""
    return f"real, {steps} steps"


def short_cells(seeds: tuple[int, ...] = SEEDS) -> dict[tuple[int, int, int], Cell]:
    """Segmenters of few real pairs alone that stop earlier, by (patients, seed, steps)."""
    return {
        (count, seed, steps): Cell(
            f"patients_{count}_steps_{steps}",
            replace(protocol(count, seed), segmenter_steps=steps),
            (("real", 0),),
        )
        for seed in seeds
        for count in FEW
        for steps in SHORT
    }


def collected(out: Path, work: Path) -> dict[str, dict]:
    """The Dice on test phantoms, mean of the segmenters: {source: {patients: {seed: Dice}}}."""
    values: dict[str, dict] = {}
    parts = {(*key, None): cell for key, cell in cells().items()} | short_cells()
    for (count, seed, steps), cell in parts.items():
        for source, value in recorded(cell, out, work).items():
            if "dice" in value:
                row = values.setdefault(shorter(steps) if steps else source, {})
                row.setdefault(str(count), {})[str(seed)] = float(np.mean(value["dice"]))
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
    """Each hypothesis: {"claim", "bound", "verdict", "patients": {count: {"over", ...}}}.

    Every number of patients is judged alone, as soon as all replicas are there, and all must hold.
    "over" is the best rival, chosen by the values that PIG is compared with, which favours the
    rival; "interval" is 95 %. shown: the intervals lie above the bound; holds: the estimates reach
    it, and the intervals lie above 0; refuted: an interval lies below the bound; fails: none of
    these; undecided: replicas are missing.
    """
    results = {}
    for name, (claim, source, bases, bound, counts) in HYPOTHESES.items():
        found: dict[str, dict] = {}
        for count in counts:
            over = {base: difference(values, source, base, count) for base in bases}
            if {len(change) for change in over.values()} == {len(SEEDS)}:
                base = min(over, key=lambda base: over[base].mean())
                mean, ends = float(over[base].mean()), interval(over[base], INDEPENDENT)
                found[str(count)] = dict(over=base, estimate=mean, interval=list(ends))
        results[name] = dict(claim=claim, bound=bound, patients=found)
        whole = len(found) == len(counts)
        results[name]["verdict"] = verdict(found.values(), bound) if whole else "undecided"
    return results


def verdict(found: Iterable[dict], bound: float) -> str:
    """The word for these estimates and intervals; see `judged`."""
    found = list(found)
    low, high = np.transpose([part["interval"] for part in found])
    if (low >= bound).all():
        return "shown"
    if (high < bound).any():
        return "refuted"
    reached = all(part["estimate"] >= bound for part in found)
    return "holds" if reached and (low > 0).all() else "fails"


def map_text(values: dict) -> str:
    """Gains by number of patients, in points of Dice, then the hypotheses."""
    text = []
    tables = {
        "over real": [
            (name, name, "real") for name in ("fresh", *CLASSICAL, *GENERATORS, *BENT_MASKS)
        ],
        "over classical": [(name, name, "classical") for name in ("classical-more", *BESIDE)],
        "beside the hypotheses": [(f"{name} over {base}", name, base) for name, base in COMPANIONS],
    }
    for title, rows in tables.items():
        lines = [[f"{title}, by patients", *map(str, PATIENTS)]]
        for label, source, base in rows:
            row = gains(values, base, (source,)).get(source, {})
            line = [label]
            for count in PATIENTS:
                seeds = len(difference(values, source, base, count))
                told = points(*row[str(count)]) if seeds else ""
                line.append(told + (f" [{seeds}]" if 0 < seeds < len(SEEDS) else ""))
            if row:
                lines.append(line)
        text += [*columns(lines), ""]
    if any("[" in line for line in text):
        text.append(f"[n]: n of {len(SEEDS)} replicas so far")
    lines = [["real only, Dice by steps of the segmenter", *map(str, FEW)]]
    for source in ("real", *map(shorter, SHORT)):
        dice = [values.get(source, {}).get(str(count), {}) for count in FEW]
        told = [f"{100 * np.mean([*each.values()]):.1f}" if each else "" for each in dice]
        lines.append([source, *told])
    text += [*columns(lines), ""]
    for name, found in judged(values).items():
        parts = [
            f"{points(part['estimate'], *part['interval'])} over {part['over']} at {count}"
            for count, part in found["patients"].items()
        ]
        told = f"{name} {found['claim']}, at least {100 * found['bound']:.2f}: "
        text.append(told + "; ".join([*parts, found["verdict"]]))
    return "\n".join(text)


def map_figure(values: dict) -> Figure:
    """Two panels: gains over real pairs alone, and over classical augmentation; bars are 95 %."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained", sharex=True)
    for ax, (base, (title, sources)) in zip(axes, PANELS.items()):
        rows = gains(values, base, sources)
        for i, (source, row) in enumerate(rows.items()):
            name = BESIDE.get(source, source)
            marker, line, colour, label = STYLES[name]
            counts = [count for count in PATIENTS if str(count) in row]
            mean, low, high = 100 * np.array([row[str(count)] for count in counts]).T
            # beside each other, so that no bar hides another
            places = np.array(counts) * 1.03 ** (i - len(rows) / 2)
            width = 2.2 if name == "PIG" else 1.1
            style = dict(marker=marker, linestyle=line, color=colour, linewidth=width)
            bars = np.stack([mean - low, high - mean])
            ax.errorbar(places, mean, bars, label=label, elinewidth=0.7, capsize=2, **style)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(title=title, xlabel="patients with masks", ylabel="gain in Dice, points")
        ax.set_xscale("log")
        ax.set_xticks(PATIENTS, map(str, PATIENTS), minor=False)
        ax.set_xticks([], minor=True)
    shown = {}  # each label once
    for ax in axes:
        lines, labels = ax.get_legend_handles_labels()
        shown = dict(zip(labels, lines)) | shown
    fig.legend(shown.values(), shown, loc="outside lower center", ncols=4, fontsize=8)
    return fig


def run_map(
    out: Path,
    work: Path,
    device: torch.device,
    counts: list[int] | None = None,
    seeds: list[int] | None = None,
    sources: list[str] | None = None,
) -> dict:
    """Make the missing records of these cells and sources (default: all).

    Print, draw and write what all records say. Raises ValueError for an unknown number of patients,
    seed or source.
    """
    check("--patients", counts, PATIENTS)
    check("--seeds", seeds, SEEDS)
    seeds = tuple(seeds or SEEDS)
    chosen = [*cells(tuple(counts or PATIENTS), seeds).values()]
    short = short_cells(seeds).items()
    chosen += [cell for (count, *_), cell in short if count in (counts or PATIENTS)]
    check("--rows", sources, [name for name, _ in chosen[0].rows])
    if sources is not None:
        rows = [tuple(row for row in cell.rows if row[0] in sources) for cell in chosen]
        chosen = [replace(cell, rows=some) for cell, some in zip(chosen, rows)]
    compute(chosen, out, work, device)
    dice = collected(out, work)
    made = [*cells().values(), *short_cells().values()]
    result = {"dice": dice, "hypotheses": judged(dice)}
    result["provenance"] = provenance(*(cell.experiment(out, work, device) for cell in made))
    result["protocols"] = {cell.name: cell.protocol.written() for cell in made}
    write_json(out / "map.json", result)
    write_figure(out / "map.png", map_figure(dice))
    print(map_text(dice))
    return result
