"""Pictures: pairs with their outlines, the paper's Fig. 3, loss curves. Each returns a Figure."""

from typing import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from minipig.sampler import State

# a dark line under a light one is seen on any grey, and in a greyscale print
OUTLINE = ("black", "yellow")


def show_slice(ax: plt.Axes, image: Tensor, mask: Tensor | None = None) -> None:
    """Draw a slice (H, W) in [-1, 1] on fixed grey levels, with the outline of its mask (> 0)."""
    image = image.cpu().numpy()
    mask = None if mask is None else mask.cpu().numpy() > 0
    ax.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    if mask is not None and mask.any() and not mask.all():
        for colour, width in zip(OUTLINE, (2.0, 0.9)):
            ax.contour(mask, levels=[0.5], colors=colour, linewidths=width)
    ax.set_xticks([])
    ax.set_yticks([])


def pair_grid(
    masks: Tensor,
    images: Tensor,
    columns: int = 8,
    title: str = "",
    width: float = 1.1,
    names: list[str] | None = None,
) -> Figure:
    """A sheet of pairs, (N, 1, H, W) each: every slice, with its mask's outline, above its mask.

    names: written over the slices; of long ones, the end.
    """
    rows = -(-len(images) // columns)
    aspect = images.shape[2] / images.shape[3]
    size = (columns * width, 2 * rows * width * aspect + (0.4 if title else 0))
    fig, axes = plt.subplots(2 * rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for i, (mask, image) in enumerate(zip(masks[:, 0], images[:, 0])):
        above = axes[2 * (i // columns), i % columns]
        below = axes[2 * (i // columns) + 1, i % columns]
        show_slice(above, image, mask)
        show_slice(below, (mask > 0) * 2 - 1)
        if names:
            name = names[i].encode("ascii", "replace").decode()  # the font may lack the others
            above.set_title(name[-16:].replace("$", r"\$"), fontsize=6, pad=2)
    fig.suptitle(title)
    return fig


def figure_3(
    states: Iterable[State], at: tuple[int, ...] = (64, 128, 192, 256), samples: int = 4
) -> Figure:
    """The paper's Fig. 3: x0_hat and y0_hat after the steps `at` (1-based), a row a sample."""
    kept = {step: state for step, state in enumerate(states, start=1) if step in at}
    batch, _, height, width = next(iter(kept.values())).xt.shape
    samples = min(samples, batch)
    side = 1.15
    size = (2 * side * len(kept), side * samples * height / width + 0.3)
    grid = dict(figsize=size, squeeze=False, layout="constrained")
    fig, axes = plt.subplots(samples, 2 * len(kept), **grid)
    for column, (step, state) in enumerate(kept.items()):
        of_x = axes[:, 2 * column]
        of_y = axes[:, 2 * column + 1]
        for i in range(samples):
            show_slice(of_x[i], state.x0_hat[i, 0].cpu())
            show_slice(of_y[i], state.y0_hat[i, 0].cpu())
        of_x[0].set_title(rf"$\hat{{x}}_0$, step {step}", fontsize=9)
        of_y[0].set_title(rf"$\hat{{y}}_0$, step {step}", fontsize=9)
    return fig


def loss_curves(
    losses: dict[str, list[float]],
    window: int = 50,
    held_out: dict[str, dict[int, float]] | None = None,
) -> Figure:
    """Each loss, a running mean over `window` steps, against the step; losses are logarithmic.

    held_out: {name: {step: loss}}, as points; the lowest of each is larger.
    """
    fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for i, (name, values) in enumerate(losses.items()):
        w = max(1, min(window, len(values) // 4))
        mean = np.convolve(values, np.ones(w) / w, mode="valid")
        style = dict(color=f"C{i}", linestyle=("-", "--", "-.", ":")[i % 4])
        ax.plot(np.arange(w, len(values) + 1), mean, **style, label=f"{name}, training pairs")
        if points := (held_out or {}).get(name):
            marker = dict(color=f"C{i}", marker="osD^"[i % 4], linestyle="none")
            at, values = zip(*sorted(points.items()))
            best = min(points, key=points.get)
            marker = dict(color=f"C{i}", marker="osD^"[i % 4], linestyle="none")
            label = f"{name}, held out;\nlowest at step {best}"
            ax.plot(at, values, markersize=3, **marker, label=label)
            edge = dict(markersize=9, markerfacecolor="none", markeredgewidth=1.5)
            ax.plot(best, points[best], **marker, **edge)
    ax.set(title="losses", xlabel="training step", ylabel="mean squared error in the noise")
    ax.set_yscale("log")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves
    return fig
