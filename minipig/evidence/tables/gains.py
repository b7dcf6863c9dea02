"""Gains and other differences in Dice as figures: a stroke a fold, the mean, a 95 % interval."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minipig.evidence.markdown import spelt
from minipig.evidence.metrics import interval
from minipig.evidence.tables.hypotheses import common_folds, gain
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.text import points

SEEDS = Protocol.segmenter_seeds
MARKS = {"PIG": ("o", "C0"), "fresh": ("D", "C1"), "": ("D", "black")}  # by a word of the row


def kind(name: str) -> str:
    """The word of MARKS by which a row is drawn."""
    return next(word for word in MARKS if word in name)


def draw_line(
    ax: Axes, place: int, values: np.ndarray, parts: float, mark: tuple[str, str] = MARKS[""]
) -> None:
    """On line `place`: a stroke a value, (K,) in -1..1, the mean, and, of several, its interval."""
    marker, colour = mark
    if len(values) > 1:
        ends = 100 * np.array(interval(values, parts))
        style = dict(linewidth=2.5, alpha=0.4, solid_capstyle="butt")
        ax.plot(ends, [place, place], color=colour, **style)
    ax.plot(100 * values, np.full(len(values), place), "|", color=colour, markersize=6)
    ax.plot(100 * np.mean(values), place, marker, color=colour, markersize=4)


def forest(
    ax: Axes,
    rows: dict,
    names: list[str],
    key: str = "dice",
    seeds: int = SEEDS,
    parts: float = Protocol.folds,
) -> None:
    """Draw the gains of these rows of Table 2 over real pairs only, paired by fold, in points.

    parts: of the data, as for `interval` in metrics.py; a single fold has no interval.
    """
    for place, name in enumerate(names):
        row, base = common_folds(rows, (name, "real"), key, seeds)
        draw_line(ax, place, (row - base).mean(1), parts, MARKS[kind(name)])
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.set(yticks=range(len(names)), yticklabels=map(spelt, names), ylim=(len(names) - 0.5, -0.9))


def forest_key(fig: Figure, names: list[str], stroke: str) -> None:
    """Below the figure, what the marks of a forest of these rows mean; a stroke is `stroke`."""
    words = {"PIG": "mean, PIG's pairs", "fresh": "mean, fresh real pairs", "": "mean, other pairs"}
    kinds = set(map(kind, names))
    marks = [(*MARKS[word], label) for word, label in words.items() if word in kinds]
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="", markersize=6, label=label)
        for marker, colour, label in [*marks, ("|", "0.3", stroke)]
    ]
    handles.append(Line2D([], [], linewidth=2.5, alpha=0.4, color="black", label="95 % interval"))
    columns = 5 if fig.get_figwidth() > 7 else 2
    fig.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)


def gains_figure(
    rows: dict, seeds: int = SEEDS, parts: float = Protocol.folds, unit: str = "fold"
) -> Figure:
    """The gains of all rows over real pairs only, the largest first; a panel for each test set.

    rows: {name: {"dice": [unit 0 seed 0, unit 0 seed 1, ...], "fresh_dice": likewise, or none}},
    one of them "real".
    """
    panels = {"dice": f"the {unit}s' own test patients", "fresh_dice": "fresh phantoms"}
    panels = {key: title for key, title in panels.items() if key in rows["real"]}
    last = [*panels][-1]
    names = [name for name in rows if name != "real"]
    names.sort(key=lambda name: -gain(rows, name, "real", last, seeds, parts)[0])
    size = (1.6 + 3.5 * len(panels), 1.3 + 0.24 * len(names))
    shared = dict(sharex=True, sharey=True, squeeze=False, layout="constrained")
    fig, axes = plt.subplots(1, len(panels), figsize=size, **shared)
    for ax, (key, title) in zip(axes[0], panels.items()):
        forest(ax, rows, names, key, seeds, parts)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("gain in Dice, points")
    fig.suptitle("gains over real pairs only", fontsize=10)
    forest_key(fig, names, f"a {unit}")
    return fig


def differences_figure(
    groups: dict[str, dict[str, np.ndarray]], unit: str, parts: float = Protocol.folds
) -> Figure:
    """Differences in Dice, drawn in points, under the headings of their groups.

    groups: {heading: {label: one difference a `unit`, (K,), -1..1}}; parts: as for `forest`.
    """
    labels: list[str] = []
    lines = len(groups) + sum(map(len, groups.values()))
    fig, ax = plt.subplots(figsize=(8.6, 1 + 0.2 * lines), layout="constrained")
    for heading, rows in groups.items():
        labels.append(heading)
        for label, values in rows.items():
            place, ends = len(labels), interval(values, parts)
            draw_line(ax, place, values, parts)
            beside = dict(transform=ax.get_yaxis_transform(), fontsize=8, va="center")
            ax.text(1.02, place, points(np.mean(values), *ends), **beside)
            labels.append(label)
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
    for text in ax.get_yticklabels():
        if text.get_text() in groups:
            text.set(style="italic", weight="bold")
    ax.set_xlabel("difference in Dice, points")
    ax.set_title(f"stroke: one {unit}; diamond: mean; bar: 95 % interval", fontsize=9)
    return fig
