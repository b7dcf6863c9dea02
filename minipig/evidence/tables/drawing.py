"""Pictures: the experiment, and samples of several methods, also beside what they copy."""

from functools import partial

import matplotlib.pyplot as plt
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from minipig.data.pairs import Pairs
from minipig.data.phantoms import SLICES
from minipig.evidence.metrics import nearest
from minipig.evidence.tables.protocol import Protocol
from minipig.plot import arrow, show_slice

SHOWN = 8  # samples of each method in the figures
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


def sheets(known: Pairs, samples: dict[str, Pairs]) -> dict[str, Figure]:
    """Two figures by file name.

    samples.png: the first samples of every method, equal seeds in a column, below real pairs;
    nearest.png, for copies: each sample above the training pair with the nearest slice.
    """
    beside = {}
    for source, pairs in samples.items():
        index = nearest(pairs.images, known.images).indices.tolist()
        beside |= {source: pairs, f"nearest to {source}": known.subset(index)}
    return {"samples.png": sheet({"real": known} | samples), "nearest.png": sheet(beside)}


def sheet(rows: dict[str, Pairs]) -> Figure:
    """A figure of pairs by name, one row each: slices with the outline of their mask."""
    height, width = next(iter(rows.values())).size
    shown = min(map(len, rows.values()))
    size = (shown * (width + 1) / height + 2.2, 1.1 * len(rows))
    fig, axes = plt.subplots(len(rows), 1, figsize=size, squeeze=False, layout="constrained")
    for ax, (name, pairs) in zip(axes[:, 0], rows.items()):
        image, mask = strip(pairs.images[:shown], 1.0), strip(pairs.masks[:shown] * 2.0 - 1, -1.0)
        show_slice(ax, image, mask)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return fig


def strip(images: Tensor, between: float) -> Tensor:
    """Images (N, 1, H, W) side by side, `between` in a column after each: (H, N (W + 1))."""
    return rearrange(F.pad(images, (0, 1), value=between), "n 1 h w -> h (n w)")
