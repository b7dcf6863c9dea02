"""Pictures: pairs, Fig. 3, the method, the network, loss curves. Each returns a Figure."""

from functools import partial
from typing import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor, nn

from minipig.sampler import State
from minipig.unet import PairedUNet

# a dark line under a light one is seen on any grey, and in a greyscale print
OUTLINE = ("black", "yellow")


def course_style() -> None:
    """Figures of the notebooks: 9 points at 90 pixels an inch, stored at twice the pixels."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # part of Jupyter

    set_matplotlib_formats("retina")
    plt.rcParams.update({"figure.dpi": 90, "font.size": 9})


def show_slice(ax: plt.Axes, image: Tensor, mask: Tensor | None = None) -> None:
    """Draw a slice (H, W) in [-1, 1] on fixed grey levels, with the outline of its mask (> 0)."""
    ax.imshow(image.cpu().numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    if mask is not None and 0 < (mask > 0).sum() < mask.numel():
        for colour, width in zip(OUTLINE, (2.0, 0.9)):
            ax.contour(mask.cpu().numpy() > 0, levels=[0.5], colors=colour, linewidths=width)
    ax.set_xticks([])
    ax.set_yticks([])


def pair_grid(
    masks: Tensor, images: Tensor, columns: int = 8, title: str = "", names: list[str] | None = None
) -> Figure:
    """A sheet of pairs, (N, 1, H, W) each: every slice, with its mask's outline, above its mask.

    names: written over the slices; of long ones, the end.
    """
    rows = -(-len(images) // columns)
    aspect = images.shape[2] / images.shape[3]
    size = (1.1 * columns, 2.2 * rows * aspect + (0.4 if title else 0))
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
            above.set_title(name[-16:].replace("$", r"\$"), fontsize=7, pad=2)
    fig.suptitle(title)
    return fig


def figure_3(
    states: Iterable[State], at: tuple[int, ...] = (64, 128, 192, 256), samples: int = 4
) -> Figure:
    """The paper's Fig. 3: x0_hat and y0_hat after the steps `at` (1-based), a row a sample."""
    kept = {step: state for step, state in enumerate(states, start=1) if step in at}
    batch, _, height, width = next(iter(kept.values())).xt.shape
    samples = min(samples, batch)
    side = 1.05
    size = (2 * side * len(kept), side * samples * height / width + 0.5)
    grid = dict(figsize=size, squeeze=False, layout="constrained")
    fig, axes = plt.subplots(samples, 2 * len(kept), **grid)
    for column, (step, state) in enumerate(kept.items()):
        of_x = axes[:, 2 * column]
        of_y = axes[:, 2 * column + 1]
        for i in range(samples):
            show_slice(of_x[i], state.x0_hat[i, 0])
            show_slice(of_y[i], state.y0_hat[i, 0])
        of_x[0].set_title(f"step {step}:\nmask $\\hat{{x}}_0$", fontsize=11)
        of_y[0].set_title("\nslice $\\hat{y}_0$", fontsize=11)
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
            at, values = zip(*sorted(points.items()))
            best = min(points, key=points.get)
            marker = dict(color=f"C{i}", marker="osD^"[i % 4], linestyle="none", zorder=3)
            label = f"{name}, held out;\nlowest at step {best}"
            ax.plot(at, values, markersize=4, markeredgecolor="black", **marker, label=label)
            edge = dict(markersize=9, markerfacecolor="none", markeredgewidth=1.5)
            ax.plot(best, points[best], **marker, **edge)
    error = "squared error in the noise,\nrunning mean"
    ax.set(title="losses", xlabel="training step", ylabel=error, yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves
    return fig


def arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float], **style) -> None:
    """Draw an arrow; style: of matplotlib's FancyArrowPatch."""
    usual = dict(arrowstyle="-|>", shrinkA=0, shrinkB=0, color="0.2", linewidth=1.3)
    ax.annotate("", end, start, arrowprops=usual | style)


def method_figure(states: list[State]) -> Figure:
    """The method in one picture: Algorithm 2 from noise to a pair, and what each network sees.

    states: those to show, of one walk; of each, the first sample. A column is a turn of the loop.
    """
    height, width = states[0].xt.shape[2:]
    h = height / width  # of a picture, whose width is 1
    floor = {"y_t": 0, r"\hat{y}_0": h + 0.2, r"\hat{x}_0": 2 * h + 1.3, "x_t": 3 * h + 2.4}
    pitch = 2.05  # from one column to the next
    right, top = pitch * len(states), 4 * h + 3.1
    fig, ax = plt.subplots(figsize=(7.5, 7.5 * (top + 0.5) / (right - 0.05)))
    fig.subplots_adjust(0, 0, 1, 1)
    join = partial(arrow, ax)
    middle = dict(ha="center", va="center", fontsize=12)
    box = dict(boxstyle="round,pad=0.25", facecolor="white", edgecolor="0.2")

    for column, state in enumerate(states):
        x = pitch * column
        first, last = column == 0, column == len(states) - 1
        for name, image in zip(floor, (state.yt, state.y0_hat, state.x0_hat, state.xt)):
            inset = ax.inset_axes((x, floor[name], 1, h), transform=ax.transData)
            belongs = state.x0_hat[0, 0] if last and "y}" in name else None
            show_slice(inset, image[0, 0], belongs)
            inset.set_aspect("auto")  # fills its frame
            ax.text(x + 1.07, floor[name] + h / 2, f"${name}$", fontsize=14, va="center")
        for model, above, below in (
            ("model_x", "x_t", r"\hat{x}_0"),
            ("model_y", r"\hat{x}_0", r"\hat{y}_0"),
        ):
            at_y = (floor[above] + floor[below] + h) / 2
            handed = dict(color="black", linewidth=4) if model == "model_y" else {}
            join((x + 0.5, floor[above]), (x + 0.5, at_y + 0.15), **handed)
            join((x + 0.5, at_y - 0.15), (x + 0.5, floor[below] + h))
            ax.text(x + 0.5, at_y, model, family="monospace", bbox=box, **middle)
            join((x - 0.17, at_y), (x + 0.02, at_y))  # both networks see the noisy slice
            if first:
                ax.text(x + 0.6, at_y - 0.34, "Eq. (6)", fontsize=12, va="center")
        up_to_both = ((x, x - 0.17, x - 0.17), (0.15 * h, 0.15 * h, at_y + h + 1.1))
        ax.plot(*up_to_both, color="0.2", linewidth=1.3)
        if first:
            ax.text(x + 0.62, floor[r"\hat{x}_0"] - 0.2, "guides", fontsize=12, va="center")
        ax.text(x + 0.5, top - 0.35, f"$t$ = {state.t}", **middle)
        for noisy, estimate, made, aside in (
            ("x_t", r"\hat{x}_0", "new mask", 0.2),
            ("y_t", r"\hat{y}_0", "new slice", -0.2),
        ):
            y, belief = floor[noisy] + h / 2, floor[estimate] + h / 2
            if last:
                frame = dict(facecolor="none", edgecolor="black", linewidth=2, zorder=5)
                corner = (x - 0.02, floor[estimate] - 0.02)
                ax.add_patch(plt.Rectangle(corner, 1.04, h + 0.04, **frame))
                ax.text(x + 1.09, belief - 0.42, made.replace(" ", "\n"), fontsize=12, va="center")
            else:  # many steps, each from the noisy image and the estimate
                join((x + 1.35, y), (x + pitch - 0.02, y), linestyle=(0, (3, 2)), zorder=3)
                join((x + 1.38, belief), (x + 1.54, y), linestyle=":", color="0.4")
                ax.text(x + 1.54, y + aside, "Eq. (7)", **middle)
    key = "dashed: many steps      dotted: with the estimate      yellow: outline of the new mask"
    ax.text((right - 0.75) / 2, -0.25, key, **middle | dict(fontsize=11))
    ax.set(xlim=(-0.3, right - 0.35), ylim=(-0.4, top + 0.1))
    ax.axis("off")
    return fig


def unet_figure(net: PairedUNet, size: tuple[int, int]) -> Figure:
    """The network as it is built: levels, widths, and where time and guide enter.

    size: height and width of an image. Raises ValueError if the levels do not divide it.
    """
    net.check_size(*size)
    levels = len(net.shrink) + 1
    down = net.down[:: net.blocks]
    up = net.up[:: net.blocks + 1]
    drop, across, half = 1.6, 7.6, 1.15  # between levels, between both sides, of a box's width
    fig, ax = plt.subplots(figsize=(7.5, 7.5 * (drop * levels + 2.9) / 12.4))
    fig.subplots_adjust(0, 0, 1, 1)
    join = partial(arrow, ax)
    words = dict(ha="center", va="center", fontsize=10)

    def box(x: float, y: float, text: str, stage: nn.Module | None = None) -> None:
        attends = stage is not None and not isinstance(stage.attention, nn.Identity)
        frame = dict(facecolor="0.85" if attends else "white", edgecolor="0.2", linewidth=1.2)
        ax.add_patch(plt.Rectangle((x - half, y - 0.42), 2 * half, 0.84, zorder=2, **frame))
        ax.text(x, y, text, zorder=3, **words)
        if stage is not None:
            ax.plot(x + half, y + 0.42, "o", color="black", markersize=6, zorder=4)

    def shape(channels: int, level: int) -> str:
        height, width = (side // net.fold // 2**level for side in size)
        return f"{channels} × {height} × {width}"

    seen = net.channels + net.guide
    names = "$z_t$ and guide" if net.guide else "$z_t$"
    box(0, drop, f"{names}\n{seen} × {size[0]} × {size[1]}")
    box(across, drop, f"$\\varepsilon$\n{net.channels} × {size[0]} × {size[1]}")
    fold = f"{net.fold} × {net.fold} pixels\nbecome channels" if net.fold > 1 else ""
    ax.text(0.15, drop / 2, fold, ha="left", va="center", fontsize=9)
    turned = "back to pixels\n" * (net.fold > 1) + ("$v$ to $\\varepsilon$" * (net.predict == "v"))
    ax.text(across - 0.15, drop / 2, turned, ha="right", va="center", fontsize=9)
    join((0, drop - 0.42), (0, 0.42))
    join((across, 0.42), (across, drop - 0.42))
    for level, (before, after) in enumerate(zip(down, reversed(up))):
        x, y = 2.2 / max(4, levels - 1) * level, -drop * level
        for side, stage, count in ((x, before, net.blocks), (across - x, after, net.blocks + 1)):
            blocks = f"{count} block{'s' * (count > 1)}"
            box(side, y, f"{shape(stage.block.conv1.out_channels, level)}\n{blocks}", stage)
        join((x + half, y), (across - x - half, y), linestyle=(0, (3, 2)))
        ax.text(across / 2, y + 0.2, "skip", ha="center", va="bottom", fontsize=9)
        if level < levels - 1:
            join((x + 0.3, y - 0.42), (x + 0.3, y - drop + 0.42))
            join((across - x - 0.3, y - drop + 0.42), (across - x - 0.3, y - 0.42))
    y = -drop * levels
    narrowest = shape(down[-1].block.conv1.out_channels, levels - 1)
    box(across / 2, y, f"{narrowest}\nmiddle", net.middle[0])
    join((x + 0.3, y + drop - 0.42), (across / 2 - half, y + 0.2))
    join((across / 2 + half, y + 0.2), (across - x - 0.3, y + drop - 0.42))
    key = "channels × height × width\n● the time embedding enters every block\n"
    key += "grey: with self-attention"
    ax.text(across / 2, drop, key, linespacing=1.5, **words)
    ax.set(xlim=(-1.5, across + 1.5), ylim=(y - 0.6, drop + 0.7), aspect="equal")
    ax.axis("off")
    return fig
