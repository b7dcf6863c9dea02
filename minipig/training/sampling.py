"""Sample a pair model into a folder of PNG files, in the layout that training reads."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from minipig import plot
from minipig.data.files import locked, write_figure, write_json
from minipig.data.folder import PairFolder
from minipig.data.heartbeat import Heartbeat
from minipig.data.manifest import rows_of
from minipig.data.pairs import Pairs
from minipig.extras.solvers import SOLVERS
from minipig.sampler import PairModel, State, sample
from minipig.seeds import SampleNoise

SHOWN = ".shown.json"  # the fingerprint of the pairs that a folder's figures and measures are of


def sample_folder(
    folder: Path,
    pair: PairModel,
    n: int,
    size: tuple[int, int],
    steps: int | None,
    seed: int,
    device: torch.device,
    batch: int = 64,
    solver: str = "ddim",
) -> Pairs:
    """Sample the pairs 0 to n - 1 into `folder`, batch by batch; return all that it holds.

    It goes on after the last number in its manifest. Raises ValueError if another process samples
    into it.
    """
    manifest = folder / "manifest.csv"
    with locked(manifest):
        listed = rows_of(manifest) if manifest.exists() else {}  # always a whole file
        done = max(map(number_of, listed), default=-1) + 1
        heartbeat = Heartbeat("sampling", unit="pair")
        heartbeat.step(done, n, {})  # starts its clock
        with tqdm(total=n, initial=done, desc="sampling pairs", disable=None, leave=False) as bar:

            def told(pair: PairModel, x_T: Tensor, y_T: Tensor, grid: list[int], *rest):
                """The walk, which tells after each step how far the pairs of its batch are."""
                walk = SOLVERS[solver].walk(pair, x_T, y_T, grid, *rest)
                for step, state in enumerate(walk, start=1):
                    at = done + len(x_T) * step // (len(grid) - 1)
                    bar.update(at - bar.n)
                    if line := heartbeat.step(at, n, {}):
                        print(line, file=sys.stderr, flush=True)
                    yield state

            how = dict(batch=batch, device=device, first=done)
            how["solver"] = replace(SOLVERS[solver], walk=told)
            for masks, images in sample(pair, n - done, size, steps, seed, **how):
                stems = [f"synthetic_{i:05d}" for i in range(done, done + len(masks))]
                Pairs(masks > 0, images, [f"{stem}.png" for stem in stems], stems).save(folder)
                done += len(masks)
        for kind in ("images", "masks"):  # of a batch that was not finished
            for path in (folder / kind).glob("synthetic_*.png"):
                if number_of(path.name) >= done:
                    path.unlink()
    pairs = PairFolder(folder)
    if (removed := done - len(pairs)) > 0:
        remedy = "they are not drawn again; remove the folder and repeat, or raise -n"
        print(f"note: {removed} pairs were removed from {folder}: {remedy}")
    share = pairs.masks.float().mean()
    print(f"{folder}: {len(pairs)} pairs, lesions cover {share:.1%} of the pixels")
    return pairs


def number_of(name: str) -> int:
    """The number of a sampled pair by its file name; -1 of any other name."""
    found = re.fullmatch(r"synthetic_(\d{5,})\.png", name)
    return int(found[1]) if found else -1


def first_states(
    n: int,
    pair: PairModel,
    size: tuple[int, int],
    steps: int,
    seed: int,
    device: torch.device,
    solver: str,
) -> Iterator[State]:
    """The walk of the pairs 0 to n - 1 of `seed` once more, state by state."""
    noise = SampleNoise(seed, range(n), device)
    x_T = noise((1, *size))
    y_T = noise((1, *size))
    return SOLVERS[solver].walk(pair, x_T, y_T, SOLVERS[solver].levels(pair, steps))


def shows(out: Path, pairs: Pairs) -> bool:
    """Whether what was drawn and measured in `out` is of these pairs."""
    path = out / SHOWN
    return path.exists() and json.loads(path.read_text()) == {"pairs": pairs.fingerprint()}


def figures_are_current(out: Path, pairs: Pairs) -> bool:
    """Whether `out` has all figures, and they are of these pairs."""
    names = ("figure_3.png", "method.png", "samples.png")
    return all((out / name).exists() for name in names) and shows(out, pairs)


@torch.no_grad()
def draw_figures(
    out: Path,
    pair: PairModel,
    pairs: Pairs,
    steps: int,
    seed: int,
    device: torch.device,
    solver: str = "ddim",
) -> None:
    """samples.png: the first 32 pairs; figure_3.png: four of them at each quarter of the steps.

    method.png: the first on its way, in the picture of the method.
    """
    shown = min(4, len(pairs))
    states = first_states(shown, pair, pairs.size, steps, seed, device, solver)
    quarters = tuple(-(-steps * k // 4) for k in (1, 2, 3, 4))
    columns = []  # of the method figure; all states would not fit into memory

    def seen() -> Iterator[State]:
        for step, state in enumerate(states, start=1):
            if step in (1, *quarters[1:]):
                columns.append(state)
            yield state

    write_figure(out / "figure_3.png", plot.figure_3(seen(), at=quarters))
    write_figure(out / "method.png", plot.method_figure(columns))
    write_figure(out / "samples.png", plot.pair_grid(*pairs[:32], title="synthetic pairs"))
    write_json(out / SHOWN, {"pairs": pairs.fingerprint()})
