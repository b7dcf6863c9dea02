"""The pictures of samples: of several methods below each other, and beside what they copy."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minipig import plot
from minipig.data.pairs import Pairs
from minipig.evidence.metrics import nearest

SHOWN = 8  # samples of each method in the figures


def sheets(known: Pairs, samples: dict[str, Pairs]) -> dict[str, Figure]:
    """Figures by file name: samples.png, and nearest.png, which shows what is copied.

    samples.png: the first samples of every method, equal noise in a column, below real pairs;
    nearest.png: each sample above the training pair with the nearest slice.
    """
    beside = {}
    for source, pairs in samples.items():
        index = nearest(pairs.images, known.images).indices.tolist()
        beside |= {source: pairs, f"nearest to {source}": known.subset(index)}
    return {"samples.png": sheet({"real": known} | samples), "nearest.png": sheet(beside)}


def sheet(rows: dict[str, Pairs]) -> Figure:
    """A figure of pairs by name, one row each: slices with the outline of their mask."""
    height, width = next(iter(rows.values())).size
    columns = min(map(len, rows.values()))
    size = (columns + 1.6, len(rows) * height / width)
    fig, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for row, (name, pairs) in zip(axes, rows.items()):
        for ax, image, mask in zip(row, pairs.images[:, 0], pairs.masks[:, 0]):
            plot.show_slice(ax, image, mask * 2.0 - 1)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return fig
