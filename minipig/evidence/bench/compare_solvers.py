"""Compare solvers: sample one trained run by each, from equal noise, against fresh phantoms."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy.stats import sem  # the standard error of the mean

from minipig.data.checks import check_counts, held_out
from minipig.data.files import claim_folder, write_json
from minipig.evidence.bench.runner import machine
from minipig.evidence.features import plain_features
from minipig.evidence.judge import pair_agreement, train_judge
from minipig.evidence.metrics import frechet_distance
from minipig.evidence.tables.table1 import independent_phantoms
from minipig.evidence.tables.text import columns
from minipig.extras.solvers import SOLVERS
from minipig.sampler import PairModel, sample
from minipig.training.run import load_pair, weights_of
from minipig.training.sampling import sample_folder

# the first is the reference; dpm++2m-100 is close to the limit of short steps
CASES = {
    "ddim-256": ("ddim", 256),
    "dpm++2m-10": ("dpm++2m", 10),
    "dpm++2m-15": ("dpm++2m", 15),
    "dpm++2m-20": ("dpm++2m", 20),
    "dpm++2m-25": ("dpm++2m", 25),
    "dpm++2m-100": ("dpm++2m", 100),
    "quick-15": ("quick", 15),
    "ddim-25": ("ddim", 25),
}
MEASURES = {
    "agreement": "pair agreement",
    "frechet": "Fréchet distance",
    "finest": "finest power",  # excess of its logarithm over fresh phantoms', by their spread
}
TIMED = 16  # pairs, in one batch


def run_solvers(out: Path, run: Path, n: int, seeds: int, device: torch.device, work: Path) -> dict:
    """Sample and measure n pairs a seed by each of CASES; print a table, and write `out` (JSON).

    "measured" has each seed's values; "summary" their mean and standard error, and those of the
    paired difference to the first case; "seconds" are timed at the end. The row "fresh" is n other
    phantoms, one slice a patient: the best possible values. Judge, samples and finished rows are
    kept in the folder `work`, for resuming. Raises ValueError for a run not on phantoms, or whose
    rule does not fit one of the solvers.
    """
    check_counts(2, n=n, seeds=seeds)
    pair, config = load_pair(run, device)
    if config.data != "phantom":
        raise ValueError(f"{run} was trained on {config.data}; --solvers needs a run on phantoms")
    for solver, steps in CASES.values():  # before anything is trained
        SOLVERS[solver].levels(pair, steps)
    asked = {"run": asdict(config), "weights": weights_of(run), "n": n, "cases": CASES}
    claim_folder(work, asked)
    judge, _ = train_judge(config, device, work / "judge.ckpt")
    measured = {name: [] for name in (*CASES, "fresh")}
    for seed in range(seeds):
        other = independent_phantoms(2 * n, config.size, held_out("solvers", seed))
        truth = plain_features(other.subset(range(n)))
        for name, rows in measured.items():
            path = work / f"{name}_{seed}.json"
            if not path.exists():
                pairs = other.subset(range(n, 2 * n))
                if name in CASES:
                    solver, steps = CASES[name]
                    how = (n, config.size, steps, seed, device)
                    pairs = sample_folder(work / f"{name}_{seed}", pair, *how, solver=solver)
                scale = truth.std(0)
                features = plain_features(pairs)
                row = {
                    "agreement": pair_agreement(judge, pairs),
                    "frechet": frechet_distance(features / scale, truth / scale),
                    "finest": ((features - truth).mean(0) / scale)[config.size[1] // 2 - 1],
                }
                write_json(path, row)
            rows.append(json.loads(path.read_text()))
    seconds = {name: seconds_a_pair(pair, config.size, *c, device) for name, c in CASES.items()}
    result = {"asked": asked | {"seeds": seeds}, "machine": machine(device)}
    result |= {"measured": measured, "summary": summary(measured), "seconds": seconds}
    write_json(out, result)
    print(table(result))
    return result


def seconds_a_pair(
    pair: PairModel, size: tuple[int, int], solver: str, steps: int, device: torch.device
) -> float:
    """The seconds of one batch of TIMED pairs of this size, divided by their number."""
    for count in (2, steps):  # a short walk first, to warm up
        start = time.monotonic()
        list(sample(pair, TIMED, size, count, device=device, solver=SOLVERS[solver]))
    return (time.monotonic() - start) / TIMED


def summary(measured: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard error over the seeds, of values and of differences to the first case."""
    first = next(iter(measured.values()))
    found = {}
    for name, rows in measured.items():
        found[name] = {}
        for key in rows[0]:
            values, of_first = (np.array([row[key] for row in part]) for part in (rows, first))
            found[name][key] = {
                "mean": values.mean(),
                "error": sem(values),
                "difference": (values - of_first).mean(),
                "difference_error": sem(values - of_first),
            }
    return found


def table(result: dict) -> str:
    """Mean ± standard error of each case; below it the paired difference to the first case."""
    lines = [["", *MEASURES.values(), "seconds a pair"]]
    for i, (name, row) in enumerate(result["summary"].items()):
        means = [f"{v['mean']:.3f} ± {v['error']:.3f}" for v in row.values()]
        seconds = result["seconds"].get(name)
        lines.append([name, *means, f"{seconds:.3f}" if seconds else ""])
        if i > 0:
            more = [f"{v['difference']:+.3f} ± {v['difference_error']:.3f}" for v in row.values()]
            lines.append(["  paired", *more, ""])
    seeds, n = result["asked"]["seeds"], result["asked"]["n"]
    said = f"mean ± standard error over {seeds} seeds of {n} pairs"
    return "\n".join([*columns(lines), said])
