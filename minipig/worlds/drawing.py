"""Pictures of a finite world: its graph, and a table of its probabilities."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.image import AxesImage
from torch import Tensor

from minipig.worlds.finite import two_chains

ROW = {"x": 1, "y": 0}  # masks above, slices below, what both share between them


def place(name: str) -> tuple[float, float]:
    """Where a variable stands: by its letter and its level; a noise, n2, stands before 2."""
    level = int(name[1:])
    return (level, ROW[name[0]]) if name[0] in ROW else (level - 0.5, 0.5)


def draw_graph(ax: plt.Axes, keys: list[str], title: str = "") -> None:
    """The graph of a world with these tables: an arrow to each variable from those it looks at.

    Bold: the tables that Eq. (8) does not have. A double arrow: the pair of a table without a bar.
    """
    eq_8 = two_chains(9)
    for key in keys:
        style = dict(shrinkA=10, shrinkB=10, color="k", lw=2)
        if key in eq_8:
            style |= dict(color="0.45", lw=1)
        left, _, right = key.partition("|")
        made = left.split()
        if len(made) == 2:
            both = dict(arrowprops=style | dict(arrowstyle="<|-|>"))
            ax.annotate("", place(made[0]), place(made[1]), **both)
        for name in made:
            for seen in right.split():
                (start, row), (end, same) = place(seen), place(name)
                bend = -0.35 if same == row and end - start > 1 else 0  # around what is between
                how = dict(arrowstyle="-|>", connectionstyle=f"arc3,rad={bend}")
                ax.annotate("", place(name), place(seen), arrowprops=style | how)
    names = {name for key in keys for name in key.replace("|", " ").split()}
    circle = dict(boxstyle="circle", fc="0.92", ec="k")
    for name in names:
        label = rf"${name[0]}_{name[1:]}$"
        ax.annotate(label, place(name), ha="center", va="center", bbox=circle)
    last = max(place(name)[0] for name in names)
    ax.set(xlim=(-0.4, last + 0.4), ylim=(-0.45, 1.5), title=title)
    ax.axis("off")


def draw_table(
    ax: plt.Axes, table: Tensor, rows: list[str], columns: list[str], title: str
) -> AxesImage:
    """Probabilities (rows, columns) as greys, up to 0.3, and as numbers without their 0."""
    values = table.numpy()
    image = ax.imshow(values, cmap="gray_r", vmin=0, vmax=0.3)
    for (i, j), value in np.ndenumerate(values):
        style = dict(ha="center", va="center", fontsize=8, color="w" if value > 0.15 else "k")
        ax.text(j, i, f"{value:.2f}".removeprefix("0"), **style)
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), title=title)
    ax.set(xticklabels=columns, yticklabels=rows)
    ax.tick_params(axis="x", rotation=60)
    return image
