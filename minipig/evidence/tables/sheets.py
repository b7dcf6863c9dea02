"""The pictures of samples: of several methods below each other, and beside what they copy."""

import matplotlib.pyplot as plt
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

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
    shown = min(map(len, rows.values()))
    size = (shown * (width + 1) / height + 2.2, 1.1 * len(rows))
    fig, axes = plt.subplots(len(rows), 1, figsize=size, squeeze=False, layout="constrained")
    for ax, (name, pairs) in zip(axes[:, 0], rows.items()):
        image, mask = strip(pairs.images[:shown], 1.0), strip(pairs.masks[:shown] * 2.0 - 1, -1.0)
        plot.show_slice(ax, image, mask)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return fig


def strip(images: Tensor, between: float) -> Tensor:
    """Images (N, 1, H, W) side by side, `between` in a column after each: (H, N (W + 1))."""
    return rearrange(F.pad(images, (0, 1), value=between), "n 1 h w -> h (n w)")
