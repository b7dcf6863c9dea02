"""Pictures: pairs with the mask's contour over the slice, the paper's Fig. 3, and loss curves. Each returns a Figure."""

from pathlib import Path
from typing import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .sampler import State

OUTLINE = ("black", "yellow")  # a dark line under a light one is seen on any grey, and in a greyscale print


def show_slice(ax: plt.Axes, image: Tensor, mask: Tensor | None = None) -> None:
    """Draw one slice (H, W) in [-1, 1] on fixed grey levels, with the outline of its mask (lesion > 0) if given."""
    image, mask = image.numpy(), None if mask is None else mask.numpy() > 0
    ax.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    if mask is not None and mask.any() and not mask.all():
        for colour, width in zip(OUTLINE, (2.0, 0.9)):
            ax.contour(mask, levels=[0.5], colors=colour, linewidths=width)
    ax.set_xticks([]), ax.set_yticks([])


def pair_grid(masks: Tensor, images: Tensor, columns: int = 8, title: str = "", width: float = 1.1) -> Figure:
    """A sheet of pairs, each slice above its mask and with the mask's contour. masks, images: (N, 1, H, W)."""
    rows = -(-len(images) // columns)
    aspect = images.shape[2] / images.shape[3]
    size = (columns * width, 2 * rows * width * aspect + (0.4 if title else 0))
    fig, axes = plt.subplots(2 * rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for i, (mask, image) in enumerate(zip(masks[:, 0], images[:, 0])):
        above, below = axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]
        show_slice(above, image, mask)
        show_slice(below, (mask > 0) * 2 - 1)
    fig.suptitle(title)
    return fig


def figure_3(states: Iterable[State], at: tuple[int, ...] = (64, 128, 192, 256), samples: int = 4) -> Figure:
    """The paper's Fig. 3: x0_hat and y0_hat of a few samples after the steps `at` (1-based) of a walk, side by side."""
    kept = {step: state for step, state in enumerate(states, start=1) if step in at}
    samples = min(samples, len(next(iter(kept.values())).x_t))
    fig, axes = plt.subplots(
        2 * samples, len(kept), figsize=(1.25 * len(kept) + 0.6, 2.5 * samples), squeeze=False, layout="constrained"
    )
    for column, (step, state) in enumerate(kept.items()):
        axes[0, column].set_title(f"step {step}", fontsize=9)
        for i in range(samples):
            show_slice(axes[2 * i, column], state.x0_hat[i, 0].cpu())
            show_slice(axes[2 * i + 1, column], state.y0_hat[i, 0].cpu())
    for i in range(samples):
        axes[2 * i, 0].set_ylabel(r"$\hat{x}_0$"), axes[2 * i + 1, 0].set_ylabel(r"$\hat{y}_0$")
    return fig


def loss_curves(losses: dict[str, list[float]], window: int = 50) -> Figure:
    """Each loss, as a running mean over `window` steps, against the training step, both axes logarithmic."""
    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    for style, (name, values) in zip(("-", "--", "-.", ":"), losses.items()):
        w = max(1, min(window, len(values) // 4))
        ax.plot(np.arange(w, len(values) + 1), np.convolve(values, np.ones(w) / w, mode="valid"), style, label=name)
    ax.set(xlabel="training step", ylabel="mean squared error in eps", xscale="log", yscale="log")
    ax.legend()
    return fig


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG and close it."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
