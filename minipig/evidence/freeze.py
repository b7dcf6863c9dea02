"""python -m minipig.evidence.freeze FILE: how many real pairs, and how long does a segmenter learn? Asked before all else.

A sensible experiment leaves room between real only and the ceiling (as many fresh phantoms as a generator will add), trains
its segmenters for as long as serves both rows, and has seeds whose noise is small against that room. This measures all three
on phantoms alone, and writes them to the JSON file FILE.

The phantoms are those that the tables use: the first real ones, the fresh ones of fold 0, and the 2,000 that segmenters are
tested on. So the choice favours a segmenter that suits these, in every row alike; no generator had been trained.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from ..files import write_json
from ..phantoms import phantoms
from ..train import Training
from .metrics import score_pairs, train_segmenter
from .protocol import Protocol
from .usefulness import FRESH, TEST

# real pairs of a fold, steps and rate of a segmenter; the first is what was chosen
CASES = [
    (400, 300, 1e-2),
    (400, 200, 1e-2),
    (400, 600, 1e-2),
    (400, 150, 3e-3),
    (400, 300, 3e-3),
    (400, 600, 3e-3),
    (200, 300, 1e-2),
]
SEEDS = 2


def freeze(out: Path, protocol: Protocol, cases: list[tuple[int, int, float]] = CASES) -> dict:
    """Dice on fresh phantoms of segmenters trained on real only, and on real and protocol.synthetic fresh ones."""
    test, found = phantoms(protocol.test, protocol.size, TEST), []
    fresh = phantoms(protocol.synthetic, protocol.size, FRESH)
    for pairs, steps, rate in tqdm(cases, desc="freezing", disable=None):
        real = phantoms(pairs, protocol.size, protocol.seed)
        row = {"pairs": pairs, "steps": steps, "rate": rate}
        for name, known in (("real", real), ("real+fresh", real + fresh)):
            trainings = [Training(steps, protocol.segmenter_batch, rate, seed=seed) for seed in range(SEEDS)]
            row[name] = [score_pairs(train_segmenter(known, training), test)["dice"] for training in trainings]
        found.append(row)
        print(row)
        result = {"protocol": asdict(protocol), "torch": torch.__version__, "cases": found}
        write_json(out, result)
    return result


if __name__ == "__main__":
    freeze(Path(sys.argv[1]), Protocol())
