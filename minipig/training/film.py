"""A film of one pair coming out of noise, as a GIF that a web page can show."""

import io
from pathlib import Path

import torch
from PIL import Image, ImageSequence

from minipig import plot
from minipig.data.files import write_atomically
from minipig.extras.solvers import SOLVERS
from minipig.sampler import PairModel
from minipig.seeds import SampleNoise

FRAMES, GREYS = 32, 32  # at most; more of either makes a larger file
SHOWN, LAST = 125, 2500  # milliseconds of a frame, and of the last


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
    noise = SampleNoise(seed, range(1), device)
    x_T = noise((1, *size))
    y_T = noise((1, *size))
    walk = SOLVERS[solver].walk(pair, x_T, y_T, SOLVERS[solver].levels(pair, steps))
    wanted = {round(step) for step in torch.linspace(1, steps, min(FRAMES, steps)).tolist()}
    states = [state for step, state in enumerate(walk, start=1) if step in wanted]
    whole = path.with_name(f".{path.name}")
    plot.film(states).save(whole, "pillow")
    with Image.open(whole) as film:
        frames = [
            frame.convert("L").quantize(GREYS, dither=Image.Dither.NONE)
            for frame in ImageSequence.Iterator(film)
        ]
    whole.unlink()
    times = [SHOWN] * (len(frames) - 1) + [LAST]
    content = io.BytesIO()
    first, *others = frames
    first.save(content, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    write_atomically(path, content.getvalue())
