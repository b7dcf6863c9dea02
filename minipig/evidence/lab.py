"""python -m minipig lab: every guide rule, walk and network at equal budget, first in exact worlds, then trained; ranked.

An idea is a small class (rules.py). The exact worlds say in seconds whether an ideal model_y would do right by it; a short
training says whether a small network can; the ranking says where it stands. The trained part is the phantom protocol of the
tables, a fold for each seed, so that what the tables have trained is not trained again if they share their work folder.
A rule from outside the package: `variants.enter("mine", Mine)`, and then `run_lab(..., names=["mine", "clean"])`.

OUT.json        {"rows": {name: {"exact": {world: {steps: total variation}}, "fd": [one a seed], "fd_lesion": ...,
                "agreement": ..., "dice": ..., "parameters": ..., "calls": ..., ...}}, "provenance": ...}; the best first
OUT/fold_K.json the records of seed K, from which an interrupted run goes on; OUT/samples.png: equal noise, side by side
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from .. import plot
from ..files import write_json
from ..rules import RULES
from ..run import claim_folder
from ..sampler import SOLVERS
from ..train import Training
from .likeness import measure
from .metrics import score_pairs, train_segmenter
from .protocol import Fold, Protocol
from .tables import SHOWN, provenance, sheet
from .units import digest
from .usefulness import TEST, many
from .variants import LAB_NETWORKS, VARIANTS, lab_methods
from .workshop import Workshop
from .worlds import STEPS, WORLDS, exact_verdict

LAB = Protocol(measured=256)  # half of the tables' samples: at 256 steps each costs five times as much
MEASURES = {"fd": -1, "fd_lesion": -1, "agreement": 1, "dice": 1}  # of a trained variant, and which way is better


def alone(workshop: Workshop, fold: Fold, source: str) -> dict:
    """The record of a segmenter that has learnt from a variant's samples alone: its scores on many fresh phantoms."""
    p = workshop.protocol
    own = dict(source=workshop.samples_key(fold, source), measured=p.measured, steps=p.segmenter_steps, test=p.test)
    own |= dict(batch=p.segmenter_batch, rate=p.segmenter_rate)
    name, key, records = f"alone/{source}", digest(own), workshop.records[fold.number]
    if record := records.find(name, key):
        return record
    pairs, checkpoint = workshop.samples(fold, source, p.measured), workshop.checkpoint(fold, name, key)

    def work() -> dict:
        training = Training(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate, seed=fold.number)
        label = f"seed {fold.number}: segmenter on {source}"
        net = train_segmenter(pairs, training, workshop.device, checkpoint, label)
        return score_pairs(net, many(p.test, p.size, TEST))

    return records.make(name, key, work, checkpoint=checkpoint)


def run_lab(
    out: Path,
    work: Path,
    device: torch.device,
    protocol: Protocol = LAB,
    seeds: list[int] | None = None,
    names: list[str] | None = None,
    quick: bool = False,
    solver: str = "ddim",
) -> dict:
    """Do what is not yet recorded of these seeds and variants (None: all), write `out`, and print the ranking.

    quick: the exact worlds alone. Raises ValueError for an unknown seed or variant.
    """
    names, seeds = names or [*VARIANTS], [0, 1, 2] if seeds is None else seeds
    if unknown := set(names) - set(VARIANTS):
        raise ValueError(f"the lab has no {', '.join(sorted(unknown))}; it has {', '.join(VARIANTS)}")
    if not set(seeds) <= set(range(protocol.folds)):
        raise ValueError(f"seeds run from 0 to {protocol.folds - 1}, not {', '.join(map(str, seeds))}")
    rules = [name for name in names if name in RULES]
    rows: dict[str, dict] = {name: {} for name in (rules if quick else names)}
    for name in tqdm(rules, desc="exact worlds", unit="rule", disable=None, leave=False):
        verdicts = {S: exact_verdict(RULES[name](S) if name == "previous" else RULES[name](), S) for S in STEPS}
        rows[name]["exact"] = {world: {str(S): verdicts[S][world] for S in STEPS} for world in WORLDS}
    folder, methods = out.with_suffix(""), lab_methods(solver, SOLVERS[solver]["steps"])
    workshop = Workshop(protocol, folder, work, device, methods, LAB_NETWORKS)
    if not quick:
        claim_folder(folder, asdict(protocol) | {"solver": solver})
        todo = [(workshop.folds[k], name) for k in seeds for name in names]
        for fold, name in tqdm(todo, desc="training", unit="variant", disable=None):
            source = VARIANTS[name].source(name, solver)
            record = measure(workshop, fold, source) | {"dice": alone(workshop, fold, source)["dice"]}
            for key in (*MEASURES, "nearer"):
                rows[name].setdefault(key, []).append(record[key])
        first = workshop.folds[seeds[0]]
        drawn = {name: workshop.samples(first, VARIANTS[name].source(name, solver), SHOWN) for name in names}
        plot.save(sheet({"real": first.train} | drawn), folder / "samples.png")
        for name in names:
            rows[name] |= costs(workshop, first, name, VARIANTS[name].source(name, solver))
    result = {"rows": ranked(rows), "provenance": provenance(workshop)}
    write_json(out, result)
    print(show(result["rows"]))
    return result


def costs(workshop: Workshop, fold: Fold, name: str, source: str) -> dict[str, float]:
    """Parameters of a variant's networks, calls of a network for a pair, and seconds of training and of drawing a pair."""
    method, records = workshop.methods[source], workshop.records[fold.number]
    for net in method.networks:
        if not records.find(f"network/{net}", workshop.network_key(fold, net)):
            workshop.network(fold, net)  # trained for other results: its record lies beside its weights
    nets, drawing = [records.units[f"network/{net}"] for net in method.networks], records.units.get(f"samples/{source}")
    return dict(
        parameters=sum(net["parameters"] for net in nets),
        calls=VARIANTS[name].calls * method.steps,
        training_seconds=round(sum(net["seconds"] for net in nets), 1),
        seconds_a_pair=round(drawing["seconds"] / drawing["drawn"], 3) if drawing else None,
    )


def ranked(rows: dict[str, dict]) -> dict[str, dict]:
    """The rows, best first: by the mean of their ranks in each of MEASURES, of the mean over seeds; untrained ones by their
    total variation."""
    if all(key in row for row in rows.values() for key in MEASURES):
        values = [[sign * np.mean(row[key]) for row in rows.values()] for key, sign in MEASURES.items()]
        score = np.mean([stats.rankdata([-v for v in column]) for column in values], axis=0)
    else:
        score = [
            np.mean([list(tv.values())[-1] for tv in row["exact"].values()]) if "exact" in row else np.inf
            for row in rows.values()
        ]
    return {name: rows[name] for _, name in sorted(zip(score, rows))}


def show(rows: dict[str, dict]) -> str:
    """The ranking: total variation in the exact worlds at most steps, mean ± standard error of the trained, and costs."""
    lines = [["", *(f"exact, {world}" for world in WORLDS), *MEASURES, "nearer", "calls", "parameters"]]
    for name, row in rows.items():
        exact = [f"{row['exact'][world][str(STEPS[-1])]:.3f}" if "exact" in row else "" for world in WORLDS]
        cells = [np.array(row.get(key, [])) for key in (*MEASURES, "nearer")]
        trained = [f"{c.mean():.3f}" + (f" ± {stats.sem(c):.3f}" if c.size > 1 else "") if c.size else "" for c in cells]
        lines.append([name, *exact, *trained, *(f"{row[key]:,}" if key in row else "" for key in ("calls", "parameters"))])
    lines = list(zip(*(column for column in zip(*lines) if any(column[1:]))))  # no column without a value
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if i == 0 else '>'}{w}}" for i, (cell, w) in enumerate(zip(line, widths))) for line in lines
    )
