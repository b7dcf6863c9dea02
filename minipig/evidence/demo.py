"""The main job, end to end: phantoms in, a trained pair model, synthetic pairs, and a segmenter that is better for them."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import plot
from ..claim import claim_folder
from ..data import PairFolder
from ..files import held, write_json
from ..pairs import Pairs
from ..phantoms import phantoms
from ..rules import RULES
from ..run import Config, load_data, require, train_pair
from ..sampler import SOLVERS, PairModel, grid_of, sample, walk
from ..schedule import Schedule
from ..seeds import SampleNoise
from ..segmentation import SCORES, SegmentationUNet
from ..train import Training
from .metrics import pair_agreement, score_pairs, train_segmenter

# seeds of phantoms that the generator never sees; its own are drawn by config.seed
FRESH, TEST, JUDGE = 1001, 1002, 1003
JUDGE_PAIRS, TEST_PAIRS = 8000, 600
JUDGE_STEPS, SEGMENTER_STEPS = 600, 300
SEEDS = 3  # segmenters a training set
SETS = ("real", "real+synthetic", "real+fresh")


@dataclass(frozen=True)
class Demo:
    """The demo's size. synthetic: pairs to sample; sampling_steps: of 1024, by the solver of that name."""

    pair: Config = field(default_factory=Config)
    synthetic: int = 400
    sampling_steps: int = 50
    solver: str = "ddim"

    def __post_init__(self):
        grid_of(RULES[self.pair.rule](), Schedule(), self.sampling_steps, self.solver)
        require(1, synthetic=self.synthetic)
        if self.pair.seed in (FRESH, TEST, JUDGE):
            raise ValueError(f"seed {self.pair.seed} draws the phantoms that the demo tests on; choose another")


def run_demo(out: Path, demo: Demo, device: torch.device) -> dict:
    """Do what is not yet done in `out`; write PNG pairs, figures, `metrics.json` and `config.json` there; the metrics."""
    real, _ = load_data(demo.pair)
    claim_folder(out, asdict(demo))
    clock = Stopwatch(out / "seconds.json")
    size = demo.pair.size
    test = phantoms(TEST_PAIRS, size, TEST)

    with clock:
        pair = train_pair(out / "pair", demo.pair, real, device)
    with clock:
        synthetic = sample_folder(
            out / "synthetic", pair, demo.synthetic, size, demo.sampling_steps, demo.pair.seed, device, solver=demo.solver
        )
        draw_figures(out, pair, synthetic, 256, demo.pair.seed, device)
    with clock:
        agreement = measure_agreement(demo.pair, synthetic, device, out / "segmenters" / "judge.ckpt")

    fresh = phantoms(demo.synthetic, size, FRESH)
    segmentation = {name: {score: [] for score in SCORES} for name in SETS}
    for seed in range(SEEDS):
        for name, pairs in zip(SETS, (real, real + synthetic, real + fresh)):
            with clock:
                training = Training(steps=SEGMENTER_STEPS, batch=32, rate=3e-3, seed=seed)
                checkpoint = out / "segmenters" / f"{name}_{seed}.ckpt"
                net = train_segmenter(pairs, training, device, checkpoint, f"segmenter on {name}, seed {seed}")
                for score, value in score_pairs(net, test).items():
                    segmentation[name][score].append(value)
    metrics = {"seconds": clock.seconds, "segmentation": segmentation, "pair_agreement": agreement}
    write_json(out / "metrics.json", metrics | {"demo": asdict(demo)})
    print(table(segmentation))
    return metrics


def sample_folder(
    folder: Path,
    pair: PairModel,
    n: int,
    size: tuple[int, int],
    steps: int,
    seed: int,
    device: torch.device,
    batch: int = 64,
    solver: str = "ddim",
) -> Pairs:
    """Sample pairs into `folder` as PNG, batch by batch, until it holds n (or more: none is deleted). What PairFolder reads.

    Raises ValueError if another process is at it.
    """
    manifest = folder / "manifest.csv"
    with held(manifest):
        done = len(manifest.read_text().splitlines()) - 1 if manifest.exists() else 0  # it is only ever replaced whole
        todo = sample(pair, n - done, size, steps, seed, batch=batch, device=device, first=done, solver=solver)
        with tqdm(total=n, initial=done, desc="sampling pairs", disable=None, leave=False) as bar:
            for masks, images in todo:
                names = [f"synthetic_{i:05d}.png" for i in range(done, done + len(masks))]
                Pairs(masks > 0, images, names, [name.removesuffix(".png") for name in names]).save(folder)
                done += len(masks)
                bar.update(len(masks))
    pairs = PairFolder(folder)
    print(f"{folder}: {len(pairs)} pairs, lesions cover {pairs.masks.float().mean():.1%} of the pixels")
    return pairs


def draw_figures(
    out: Path, pair: PairModel, pairs: Pairs, steps: int, seed: int, device: torch.device, solver: str = "ddim"
) -> None:
    """samples.png, a sheet of the first 32 pairs, and figure_3.png, the walk of the first four at each quarter of `steps`."""
    noise = SampleNoise(seed, range(min(4, len(pairs))), device)
    grid, order = pair.schedule.grid(steps, SOLVERS[solver]["spacing"]), SOLVERS[solver]["order"]
    with torch.no_grad():
        states = walk(pair, noise((1, *pairs.size)), noise((1, *pairs.size)), grid, order=order)
        plot.save(plot.figure_3(states, at=tuple(-(-steps * k // 4) for k in (1, 2, 3, 4))), out / "figure_3.png")
    plot.save(plot.pair_grid(*pairs[:32], title="synthetic pairs"), out / "samples.png")


def measure_agreement(config: Config, pairs: Pairs, device: torch.device, checkpoint: Path) -> dict[str, float]:
    """Pair agreement of generated `pairs`, beside that of real pairs new to the judge: {"synthetic": d, "fresh": d}."""
    judge, fresh = train_judge(config, device, checkpoint)
    agreement = {"synthetic": pair_agreement(judge, pairs), "fresh": pair_agreement(judge, fresh)}
    share = agreement["synthetic"] / max(agreement["fresh"], 1e-9)
    print(f"pair agreement: synthetic {agreement['synthetic']:.3f}, fresh real {agreement['fresh']:.3f} ({share:.0%} of it)")
    return agreement


def train_judge(config: Config, device: torch.device, checkpoint: Path) -> tuple[SegmentationUNet, Pairs]:
    """A judge of pairs that a generator of this configuration has made, and real pairs new to the judge: its yardstick.

    The judge learns from many fresh phantoms, or from the real pairs that the generator learnt from too (so copies of them
    score well); then the yardstick is the held-out patients.
    """
    if config.data == "phantom":
        known, fresh = phantoms(JUDGE_PAIRS, config.size, JUDGE), phantoms(TEST_PAIRS, config.size, TEST)
    else:
        known, fresh = load_data(config)
    training = Training(steps=JUDGE_STEPS, batch=32, rate=3e-3, mirror=config.mirror, seed=JUDGE)
    return train_segmenter(known, training, device, checkpoint, "training the judge"), fresh


def table(segmentation: dict[str, dict[str, list[float]]]) -> str:
    """Mean and spread over the seeds, in percent, and each row's paired gain in Dice over real only."""
    lines = [f"{'training set':16}" + "".join(f"{score:>14}" for score in SCORES) + "   gain in Dice (paired)"]
    base = np.array(segmentation["real"]["dice"])
    for name, row in segmentation.items():
        cells = "".join(f"{100 * np.mean(row[s]):8.1f} ± {100 * np.std(row[s], ddof=1):3.1f}" for s in SCORES)
        gain = 100 * (np.array(row["dice"]) - base)
        error = gain.std(ddof=1) / len(gain) ** 0.5
        lines.append(f"{name:16}{cells}" + (f"   {gain.mean():+.1f}, standard error {error:.1f}" if name != "real" else ""))
    return "\n".join(lines + [f"percent; mean ± standard deviation over {len(base)} seeds"])


class Stopwatch:
    """Adds up the seconds inside its `with` blocks, over interruptions too: the sum is kept in a file."""

    def __init__(self, path: Path):
        self.path, self.seconds = path, json.loads(path.read_text())["seconds"] if path.exists() else 0.0

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *error) -> None:
        self.seconds += time.monotonic() - self.start
        write_json(self.path, {"seconds": self.seconds})
