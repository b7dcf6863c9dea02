"""Pictures: pairs with the mask's contour over the slice, the paper's Fig. 3, and loss curves. Each returns a Figure."""

import io
from pathlib import Path
from typing import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .files import write_atomically
from .sampler import State

OUTLINE = ("black", "yellow")  # a dark line under a light one is seen on any grey, and in a greyscale print


def show_slice(ax: plt.Axes, image: Tensor, mask: Tensor | None = None) -> None:
    """Draw one slice (H, W) in [-1, 1] on fixed grey levels, with the outline of its mask (lesion > 0) if given."""
    image, mask = image.cpu().numpy(), None if mask is None else mask.cpu().numpy() > 0
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
    """The paper's Fig. 3: x0_hat and y0_hat after the steps `at` (1-based) of a walk, side by side, a row for each sample."""
    kept = {step: state for step, state in enumerate(states, start=1) if step in at}
    batch, _, height, width = next(iter(kept.values())).x_t.shape
    samples, side = min(samples, batch), 1.15
    size = (2 * side * len(kept), side * samples * height / width + 0.3)
    fig, axes = plt.subplots(samples, 2 * len(kept), figsize=size, squeeze=False, layout="constrained")
    for column, (step, state) in enumerate(kept.items()):
        for i in range(samples):
            for ax, estimate in zip(axes[i, 2 * column : 2 * column + 2], (state.x0_hat, state.y0_hat)):
                show_slice(ax, estimate[i, 0].cpu())
        axes[0, 2 * column].set_title(rf"$\hat{{x}}_0$, step {step}", fontsize=9)
        axes[0, 2 * column + 1].set_title(rf"$\hat{{y}}_0$, step {step}", fontsize=9)
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
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150, format="png")
    plt.close(figure)
    write_atomically(path, picture.getvalue())
