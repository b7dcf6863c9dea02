"""python freeze.py FILE: fix the protocol of the tables before any comparison.

A sensible experiment leaves room between real pairs alone and the best case (as many fresh
phantoms as a generator will add), trains segmenters long enough for both, and has seeds whose
noise is small against that room. This script measures all three on phantoms, for several numbers
of real pairs and trainings, and writes the JSON file FILE.

The tables use the same phantoms, so the choice favours a segmenter that suits these, in every row
alike. No generator had been trained.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from minipig.data.checks import held_out
from minipig.data.files import write_json
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import score_pairs, train_segmenter
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.table2 import fresh_test
from minipig.training.loop import Training

# real pairs, steps and learning rate of a segmenter; the first was chosen
CASES = [
    (400, 300, 1e-2),
    (400, 200, 1e-2),
    (400, 600, 1e-2),
    (400, 150, 3e-3),
    (400, 300, 3e-3),
    (400, 600, 3e-3),
    (200, 300, 1e-2),
]


def preregister(out: Path, protocol: Protocol, cases: list[tuple] = CASES) -> dict:
    """Dice on fresh phantoms of segmenters trained on real pairs, without and with fresh ones."""
    p = protocol
    test = fresh_test(p)
    fresh = phantoms(p.synthetic, p.size, held_out("table2-fresh"))
    found = []
    for pairs, steps, rate in tqdm(cases, desc="preregistering", disable=None):
        real = phantoms(pairs, p.size, p.seed)
        row = {"pairs": pairs, "steps": steps, "rate": rate}
        for name, known in (("real", real), ("real+fresh", real + fresh)):
            row[name] = []
            for seed in range(p.segmenter_seeds):
                net = train_segmenter(known, Training(steps, p.segmenter_batch, rate, seed=seed))
                row[name].append(score_pairs(net, test)["dice"])
        found.append(row)
        print(row)
        result = {"protocol": asdict(p), "torch": torch.__version__, "cases": found}
        write_json(out, result)
    return result


if __name__ == "__main__":
    preregister(Path(sys.argv[1]), Protocol())
