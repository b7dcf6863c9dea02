"""The map as a figure: gains by number of patients, a line a method."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from minipig.evidence.map.design import BENT_MASKS, BESIDE, GENERATORS, LARGER, PATIENTS, SEEDS
from minipig.evidence.map.verdicts import difference, gains

# marker, line, colour, label; readable without colour
STYLES = {
    "fresh": ("", ":", "0.4", "as many more real pairs"),
    "classical": ("s", "--", "C1", "classical augmentation"),
    "classical-more": ("D", "--", "C1", "twice as much classical"),
    "classical-known": ("P", ":", "C1", "all classical that generators learn from"),
    "SegGuidedDif": ("v", "-", "C2", "SegGuidedDif, old masks"),
    "SegGuidedDif-bentmasks": (">", ":", "C2", "SegGuidedDif, old masks deformed"),
    "ControlNet": ("^", "-", "C3", "ControlNet, old masks"),
    "ControlNet-bentmasks": ("1", ":", "C3", "ControlNet, old masks deformed"),
    "SegGuidedDif-newmasks": ("<", "-", "C4", "SegGuidedDif, new masks"),
    "joint": ("x", "-", "C0", "one joint network"),
    "PIG": ("o", "-", "black", "PIG"),
}
PANELS = {
    "real": ("Added to real pairs", ("fresh", "classical", *GENERATORS, *BENT_MASKS)),
    "classical": ("Added to classical augmentation", (*LARGER, *BESIDE)),
}


def map_figure(values: dict) -> Figure:
    """Two panels: gains over real pairs alone, and over classical augmentation.

    Bars are 95 %; where a replica is missing there is none.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained", sharex=True, sharey=True)
    for ax, (base, (title, sources)) in zip(axes, PANELS.items()):
        rows = gains(values, base, sources)
        for i, (source, row) in enumerate(rows.items()):
            name = BESIDE.get(source, source)
            marker, line, colour, label = STYLES[name]
            counts = [count for count in PATIENTS if str(count) in row]
            mean, low, high = 100 * np.array([row[str(count)] for count in counts]).T
            # beside each other, so that no bar hides another
            places = np.array(counts) * 1.05 ** (i - (len(rows) - 1) / 2)
            width = 2.2 if name == "PIG" else 1.1
            style = dict(marker=marker, linestyle=line, color=colour, linewidth=width)
            whole = [len(difference(values, source, base, n)) == len(SEEDS) for n in counts]
            bars = np.where(whole, np.stack([mean - low, high - mean]), np.nan)
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
