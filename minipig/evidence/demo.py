"""The main job: real pairs, a trained pair model, synthetic pairs, segmenters trained on them."""

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from minipig.data.checks import check_counts, held_out
from minipig.data.files import claim_folder, write_json
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import measure_agreement, score_pairs, train_judge, train_segmenter
from minipig.evidence.tables.text import cells_of, columns
from minipig.extras.own_rules import find_rule
from minipig.extras.solvers import SOLVERS
from minipig.sampler import PairModel
from minipig.segmentation import SCORES
from minipig.training.config import Config, load_data
from minipig.training.loop import Training
from minipig.training.run import train_pair
from minipig.training.sampling import draw_figures, figures_are_current, sample_folder

SEGMENTER_STEPS = 300
SEGMENTER_SEEDS = 3  # segmenters of each training set
FIGURE_STEPS = 64  # sampling steps of figure_3.png
LEFT_OUT = (
    "left out, since this was quick: whether masks and slices agree, and whether the pairs help a "
    "segmenter; the samples are those of a small network that has seen little"
)


@dataclass(frozen=True)
class Demo:
    """The settings of the main job; synthetic: number of pairs to sample; quick: stop there."""

    pair: Config = field(default_factory=Config)
    synthetic: int = 400
    sampling_steps: int = 50
    solver: str = "ddim"
    quick: bool = False

    def __post_init__(self):
        check_counts(1, synthetic=self.synthetic)
        rule = find_rule(self.pair.rule)()
        pair = PairModel(None, None, self.pair.noise_schedule, rule)
        SOLVERS[self.solver].levels(pair, self.sampling_steps)  # raises if they do not fit


def run_demo(out: Path, demo: Demo, device: torch.device) -> dict:
    """Run the main job in `out`, and return the content of metrics.json; each step resumes.

    A quick one ends with the samples, and returns nothing.

    Raises ValueError if `out` belongs to another configuration.
    """
    real, _ = load_data(demo.pair)  # 1. real pairs of mask and slice
    claim_folder(out, asdict(demo))
    with stopwatch(out / "seconds.json"):
        pair = train_pair(out / "pair", demo.pair, real, device)  # 2. train the guider and model_y
        synthetic = sample_pairs(out, demo, pair, device)  # 3. sample new pairs, Algorithm 2
        if demo.quick:
            print(LEFT_OUT)
            return {}
        judge, fresh = train_judge(demo.pair, device, out / "segmenters" / "judge.ckpt")
        agreement = measure_agreement(judge, synthetic, fresh)  # 4. do mask and slice agree?
        scores = compare_segmenters(out, real, synthetic, fresh, device)  # 5. do the pairs help?
    metrics = json.loads((out / "seconds.json").read_text())
    metrics |= {"segmentation": scores, "pair_agreement": agreement, "demo": asdict(demo)}
    write_json(out / "metrics.json", metrics)
    print(segmentation_table(scores))
    return metrics


def sample_pairs(out: Path, demo: Demo, pair: PairModel, device: torch.device) -> Pairs:
    """The synthetic pairs, in out/synthetic, and three figures of them in `out`."""
    size, seed = demo.pair.size, demo.pair.seed
    how = (demo.synthetic, size, demo.sampling_steps, seed, device)
    pairs = sample_folder(out / "synthetic", pair, *how, solver=demo.solver)
    # those that its rule is trained for, if it names them
    steps = getattr(find_rule(demo.pair.rule)(), "steps", FIGURE_STEPS)
    if not figures_are_current(out, pairs):
        draw_figures(out, pair, pairs, steps, seed, device)
    return pairs


def compare_segmenters(
    out: Path, real: Pairs, synthetic: Pairs, test: Pairs, device: torch.device
) -> dict[str, dict[str, list[float]]]:
    """Scores on `test` of segmenters trained on real pairs alone, with synthetic, and with fresh.

    {training set: {score: [one a seed]}}. There are as many fresh pairs as synthetic ones. All are
    trained for equally many steps, and equal seeds start from equal weights.
    """
    fresh = phantoms(len(synthetic), real.size, held_out("demo-fresh"))
    sets = {"real": real, "real+synthetic": real + synthetic, "real+fresh": real + fresh}
    found = {name: {score: [] for score in SCORES} for name in sets}
    for seed in range(SEGMENTER_SEEDS):
        training = Training(steps=SEGMENTER_STEPS, batch=32, rate=3e-3, seed=seed)
        for name, pairs in sets.items():
            checkpoint = out / "segmenters" / f"{name}_{seed}.ckpt"
            label = f"segmenter on {name}, seed {seed}"
            net = train_segmenter(pairs, training, device, checkpoint, label)
            for score, value in score_pairs(net, test).items():
                found[name][score].append(value)
    return found


def segmentation_table(found: dict[str, dict[str, list[float]]]) -> str:
    """The scores as text: mean ± standard deviation in percent, and the paired gain in Dice."""
    lines = cells_of(found, SCORES, scale=100, digits=1)
    lines[0] = ["training set", *SCORES, "gain in Dice (paired)"]
    base = np.array(found["real"]["dice"])
    for line in lines[1:]:
        gain = 100 * (np.array(found[line[0]]["dice"]) - base)
        said = f"{gain.mean():+.1f}, standard error {stats.sem(gain):.1f}"
        line.append(said if line[0] != "real" else "")
    said = f"percent; mean ± standard deviation over {len(base)} seeds"
    return "\n".join([*columns(lines), said])


@contextmanager
def stopwatch(path: Path):
    """Add the seconds of this block to those in the JSON file `path`, also if it is interrupted."""
    before = json.loads(path.read_text())["seconds"] if path.exists() else 0.0
    start = time.monotonic()
    try:
        yield
    finally:
        write_json(path, {"seconds": before + time.monotonic() - start})
