"""A film of one pair coming out of noise: a GIF for a web page, a player for a notebook."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.animation import FuncAnimation
from PIL import Image, ImageSequence

from minipig.plot import show_slice
from minipig.sampler import PairModel, State
from minipig.training.sampling import first_states

FRAMES, GREYS = 13, 32  # at most; of 128x128 more of either would be above 1 MB
SHOWN, LAST = 250, 2500  # milliseconds of a frame, and of the last
ICONS = {  # of matplotlib's player, as characters
    "minus": "−",
    "fast-backward": "⏮",
    "step-backward": "◁",
    "play fa-flip-horizontal": "◀",
    "pause": "⏸",
    "play": "▶",
    "step-forward": "▷",
    "fast-forward": "⏭",
    "plus": "+",
}


def film(states: list[State], width: float = 4.0, columns: int = 2) -> FuncAnimation:
    """A pair coming out of noise, a frame a state: of the first sample x_t, x0_hat, y_t, y0_hat.

    `.save(path, "pillow", fps=10)` writes a GIF. width: in inches; columns: 2 or 4.
    """
    rows = 4 // columns
    height, side = states[0].xt.shape[2:]
    size = (width, rows * (width / columns * height / side + 0.25) + 0.4)
    fig, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    fields = {
        "xt": "noisy mask $x_t$",
        "x0_hat": r"mask estimate $\hat{x}_0$",
        "yt": "noisy slice $y_t$",
        "y0_hat": r"slice estimate $\hat{y}_0$",
    }
    for ax, (field, name) in zip(axes.flat, fields.items()):
        show_slice(ax, getattr(states[0], field)[0, 0])
        ax.set_xlabel(name, fontsize=11)

    def show(frame: int) -> None:
        for ax, field in zip(axes.flat, fields):
            ax.images[0].set_data(getattr(states[frame], field)[0, 0].cpu().numpy())
        fig.suptitle(f"$t$ = {states[frame].t}", fontsize=12)

    plt.close(fig)  # or a notebook shows its last frame, too
    return FuncAnimation(fig, show, frames=len(states))


def player(states: list[State]) -> str:
    """`film` with a slider and buttons, as HTML that loads nothing from a network."""
    with plt.rc_context({"animation.frame_format": "jpeg"}):  # a third of PNG's size
        html = film(states, width=8, columns=4).to_jshtml(fps=6, default_mode="once")
    html = html.replace("<img ", '<img alt="A pair comes out of noise, frame by frame" ')
    html = re.sub(r'<link rel="stylesheet"\s+href="[^"]*">', "", html)  # a font of icons
    return re.sub(r'<i class="fa fa-([^"]*)"></i>', lambda icon: ICONS[icon[1]], html)


@torch.no_grad()
def write_film(
    path: Path,
    pair: PairModel,
    size: tuple[int, int],
    steps: int,
    seed: int,
    device: torch.device,
    solver: str = "ddim",
) -> None:
    """Walk pair 0 of `seed` once more, and write its noisy images and estimates to a GIF."""
    walk = first_states(1, pair, size, steps, seed, device, solver)
    wanted = {round(step) for step in torch.linspace(1, steps, min(FRAMES, steps)).tolist()}
    states = [state for step, state in enumerate(walk, start=1) if step in wanted]
    part = path.with_name(f".{path.name}")
    film(states).save(part, "pillow")
    with Image.open(part) as large:
        frames = [
            frame.convert("L").quantize(GREYS, dither=Image.Dither.NONE)
            for frame in ImageSequence.Iterator(large)
        ]
    times = [SHOWN] * (len(frames) - 1) + [LAST]
    first, *others = frames
    first.save(part, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    part.replace(path)
