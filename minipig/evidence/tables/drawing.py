"""The experiment in one picture: what each network learns from, and what each table measures."""

from functools import partial

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minipig.data.phantoms import SLICES
from minipig.evidence.tables.protocol import Protocol
from minipig.plot import arrow

HALF = (1.55, 0.6)  # of a box's width and height
ARROWS = (
    ("train", "generator"),
    ("generator", "samples"),
    ("known", "judge"),
    ("samples", "table 1"),
    ("judge", "table 1"),
    ("reference", "table 1"),
    ("segmenter", "table 2"),
    ("test", "table 2"),
)


def experiment_figure(protocol: Protocol) -> Figure:
    """One fold of the experiment on phantoms: data white, networks grey, results framed in bold.

    Every number in it is the protocol's.
    """
    p = protocol
    test = p.pairs // p.folds
    train = p.pairs - test
    taught = f"{p.segmenter_steps} steps of {p.segmenter_batch}"
    data = dict(facecolor="white", linewidth=1)
    network = dict(facecolor="0.87", linewidth=1)
    result = dict(facecolor="white", linewidth=2.5)
    boxes = {
        "train": (0, 4, f"{train} real pairs\nof the other folds", data),
        "generator": (4, 4, f"generator\n{p.steps:,} steps of {p.batch}", network),
        "samples": (8, 4, f"{p.synthetic:,} samples,\n{p.measured} of them measured", data),
        "segmenter": (8, 6, f"segmenter, {p.segmenter_seeds} seeds\n{taught}", network),
        "test": (8, 8, f"{p.test:,} fresh phantoms,\nand the fold's {test} pairs", data),
        "known": (0, 2, f"{p.judge_pairs:,} fresh phantoms\nof other patients", data),
        "judge": (4, 2, f"judge: a segmenter\n{p.judge_steps:,} steps", network),
        "reference": (8, 0, f"{p.reference:,} fresh phantoms,\none a patient", data),
        "table 1": (12, 2, "Table 1: distance,\npair agreement", result),
        "table 2": (12, 7, "Table 2: Dice\nof its outlines", result),
    }
    fig, ax = plt.subplots(figsize=(7.5, 4.9))
    fig.subplots_adjust(0, 0, 1, 1)
    join = partial(arrow, ax, color="black", linewidth=1)
    for x, y, words, style in boxes.values():
        corner = (x - HALF[0], y - HALF[1])
        ax.add_patch(plt.Rectangle(corner, 2 * HALF[0], 2 * HALF[1], edgecolor="black", **style))
        ax.text(x, y, words, ha="center", va="center", fontsize=8.5)
    for start, end in ARROWS:
        (x, y, *_), (u, v, *_) = boxes[start], boxes[end]
        join((x + HALF[0], y), (u - HALF[0], v))
    (x, y, *_), (u, v, *_) = boxes["train"], boxes["segmenter"]
    join((u, y + HALF[1]), (u, v - HALF[1]))
    elbow = "angle,angleA=90,angleB=0,rad=0"
    join((x, y + HALF[1]), (u - HALF[0], v), connectionstyle=elbow)

    # the folds: whole patients; the last is tested here, and each is in its turn
    side = 2 * HALF[0] / p.folds
    top = boxes["test"][1]
    for fold in range(p.folds):
        fill = "0.3" if fold == p.folds - 1 else "white"
        corner = (x - HALF[0] + side * fold, top - side / 2)
        ax.add_patch(plt.Rectangle(corner, side, side, facecolor=fill, edgecolor="black"))
    words = f"{p.pairs} pairs of {p.pairs // SLICES} patients, in {p.folds} folds"
    ax.text(x - HALF[0], top + side, words, fontsize=8.5)
    join((x - side, top - side / 2), (x - side, y + HALF[1]))
    join((x + HALF[0], top), (boxes["test"][0] - HALF[0], top))
    ax.set(xlim=(-1.8, 13.8), ylim=(-1, 9))
    ax.axis("off")
    return fig
