"""`minipig map`: when do pairs pay? Gains in Dice by number of patients, for every method.

OUT/seed_S/patients_N/fold_0.json  the records of a seed and N patients, for resuming
OUT/map.json                       {"dice": {source: {patients: {seed: ...}}}, "hypotheses", ...}
OUT/map.png                        the gains as a figure
"""

from dataclasses import replace
from pathlib import Path

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
RECIPE = dict(deformed=8192, steps=3000)  # of every generator; `minipig causes` may change it
OLD_MASKS = ("SegGuidedDif", "ControlNet")  # rivals that are given training masks
GENERATORS = (*OLD_MASKS, "SegGuidedDif-newmasks", "joint", "PIG")
CLASSICAL = ("classical", "classical-upright", "classical-more")

# written down before any of the map was computed:
# claim, the row and those that it is compared with, bound in Dice, numbers of patients
HYPOTHESES = {
    "H4": ("gain of PIG over real only", "PIG", ("real",), 0.0818, (100,)),
    "H5": ("gain of classical and PIG over classical", "classical+PIG", ("classical",), 0.02, FEW),
    "H6": ("PIG ahead of the best rival with training masks", "PIG", OLD_MASKS, 0.0224, FEW),
}

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
    sources = ("real", "fresh", *CLASSICAL, *GENERATORS, *BESIDE)
    rows = tuple((source, counts.get(source, n)) for source in sources)
    return {
        (count, seed): Cell(f"patients_{count}", protocol(count, seed), rows)
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
    for name, (claim, source, bases, bound, counts) in HYPOTHESES.items():
        changes = []
        for base in bases:
            parts = [difference(values, source, base, count) for count in counts]
            if {len(part) for part in parts} == {len(SEEDS)}:
                changes.append((np.mean(parts, 0), base))
        if len(changes) < len(bases):
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
    for base, sources in (
        ("real", ("fresh", *CLASSICAL, *GENERATORS)),
        ("classical", ("classical-more", *BESIDE)),
    ):
        lines = [[f"over {base}, by patients", *map(str, PATIENTS)]]
        for source, row in gains(values, base, sources).items():
            estimates = [row.get(str(count)) for count in PATIENTS]
            lines.append([source, *(points(*e) if e else "" for e in estimates)])
        text += [*columns(lines), ""]
    for name, found in judged(values).items():
        told = points(found["estimate"], *found["interval"])
        verdict = "holds" if found["holds"] else "fails"
        text.append(
            f"{name} {found['claim']}: {told}; at least {100 * found['bound']:.2f}: {verdict}"
        )
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
) -> dict:
    """Make the missing records of these cells (default: all); print, draw and write what all say.

    Raises ValueError for an unknown number of patients or seed.
    """
    check("--patients", counts, PATIENTS)
    check("--seeds", seeds, SEEDS)
    chosen = cells(tuple(counts or PATIENTS), tuple(seeds or SEEDS))
    compute(list(chosen.values()), out, work, device)
    made = cells()
    dice = collected(out, work, made)
    experiments = [cell.experiment(out, work, device) for cell in made.values()]
    result = {"dice": dice, "hypotheses": judged(dice), "provenance": provenance(*experiments)}
    write_json(out / "map.json", result)
    write_figure(out / "map.png", map_figure(dice))
    print(map_text(dice))
    return result
