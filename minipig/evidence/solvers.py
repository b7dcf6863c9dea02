"""What does a faster solver cost? Pairs of one trained run, by each solver from equal noise, measured on fresh phantoms."""

import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..claim import claim_folder
from ..files import write_json
from ..phantoms import SLICES, phantoms
from ..run import load_pair, require, weights_of
from ..sampler import PairModel, sample
from .demo import sample_folder, train_judge
from .features import plain_features
from .metrics import frechet_distance, pair_agreement

# the first is the reference; the longest of second order is where all walks end if their steps are made shorter
CASES = {"ddim-256": ("ddim", 256), "dpm++2m-25": ("dpm++2m", 25), "dpm++2m-100": ("dpm++2m", 100), "ddim-25": ("ddim", 25)}
MEASURES = {"agreement": "pair agreement", "frechet": "Fréchet distance"}
TIMED = 16  # pairs, in one batch
FRESH = 3001  # + a seed draws the phantoms that this seed's samples are compared with


def run_solvers(out: Path, run: Path, n: int, seeds: int, device: torch.device, work: Path) -> dict:
    """compare_solvers, its table on the screen and its result in the JSON file `out`; repeat it to go on where it was."""
    result = compare_solvers(run, n, seeds, device, work)
    write_json(out, result)
    print(table(result))
    return result


def compare_solvers(
    run: Path, n: int, seeds: int, device: torch.device, work: Path, cases: dict[str, tuple[str, int]] = CASES
) -> dict:
    """Sample n pairs a seed from the phantom run by each of `cases`, name: (solver, steps), and measure them.

    "measured" holds each seed's values, "summary" their mean and standard error, and those of the paired difference to the
    first case; "seconds" are timed in one go at the end. The row "fresh" is what n other phantoms get, one slice a patient:
    only by chance is a generator better. Judge, samples and finished rows are kept in the folder `work`, to go on from.
    Raises ValueError for a run that is not of phantoms.
    """
    require(2, n=n, seeds=seeds)
    pair, config = load_pair(run, device)
    if config.data != "phantom" or FRESH <= config.seed < FRESH + seeds:
        raise ValueError(f"{run} has learnt from {config.data}, seed {config.seed}; solvers are compared on fresh phantoms")
    asked = {"run": asdict(config), "weights": weights_of(run), "n": n, "cases": cases}
    claim_folder(work, asked)
    judge, _ = train_judge(config, device, work / "judge.ckpt")
    measured = {name: [] for name in (*cases, "fresh")}
    for seed in range(seeds):
        other = phantoms(2 * SLICES * n, config.size, FRESH + seed).subset(range(0, 2 * SLICES * n, SLICES))
        truth = plain_features(other.subset(range(n)))
        for name, rows in measured.items():
            path, folder = work / f"{name}_{seed}.json", work / f"{name}_{seed}"
            if not path.exists():
                pairs = other.subset(range(n, 2 * n))
                if name in cases:
                    solver, steps = cases[name]
                    pairs = sample_folder(folder, pair, n, config.size, steps, seed, device, solver=solver)
                distance = frechet_distance(plain_features(pairs) / truth.std(0), truth / truth.std(0))
                write_json(path, {"agreement": pair_agreement(judge, pairs), "frechet": distance})
            rows.append(json.loads(path.read_text()))
    machine = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    result = {"asked": asked | {"seeds": seeds}, "machine": machine | {"threads": torch.get_num_threads()}}
    seconds = {name: seconds_a_pair(pair, config.size, *case, device) for name, case in cases.items()}
    return result | {"measured": measured, "summary": summary(measured), "seconds": seconds}


def seconds_a_pair(pair: PairModel, size: tuple[int, int], solver: str, steps: int, device: torch.device) -> float:
    """Seconds of one batch of TIMED pairs of `size`, (height, width), by the number of pairs."""
    for count in (2, steps):  # a first, short walk warms up
        start = time.monotonic()
        list(sample(pair, TIMED, size, count, device=device, solver=solver))
    return (time.monotonic() - start) / TIMED


def summary(measured: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Of each case and measure: mean and standard error over the seeds, and those of the difference to the first case."""

    def compare(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        values = {
            "mean": a.mean(),
            "error": a.std(ddof=1),
            "difference": (a - b).mean(),
            "difference_error": (a - b).std(ddof=1),
        }
        return {key: value / len(a) ** 0.5 if "error" in key else value for key, value in values.items()}

    seeds = {name: {m: np.array([row[m] for row in rows]) for m in rows[0]} for name, rows in measured.items()}
    first = next(iter(seeds.values()))
    return {name: {m: compare(values, first[m]) for m, values in row.items()} for name, row in seeds.items()}


def table(result: dict) -> str:
    """Mean ± standard error of each case and measure; beneath it, the paired difference to the first case."""
    lines = [f"{'':12}" + "".join(f"{title:>20}" for title in (*MEASURES.values(), "seconds a pair"))]
    for i, (name, row) in enumerate(result["summary"].items()):
        seconds = f"{result['seconds'][name]:20.3f}" if name in result["seconds"] else ""
        lines.append(f"{name:12}" + "".join(f"{v['mean']:12.3f} ± {v['error']:.3f}" for v in row.values()) + seconds)
        if i > 0:
            differences = (f"{v['difference']:+12.3f} ± {v['difference_error']:.3f}" for v in row.values())
            lines.append(f"{'  paired':12}" + "".join(differences))
    return "\n".join(lines + [f"mean ± standard error over {result['asked']['seeds']} seeds of {result['asked']['n']} pairs"])
