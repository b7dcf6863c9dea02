"""python -m minipig lab: every guide rule, walk and network at equal budget, first in exact worlds, then trained; ranked.

An idea is a small class (rules.py). The exact worlds say in seconds whether an ideal model_y would do right by it; a short
training says whether a small network can; the ranking says where it stands. The trained part is the phantom protocol of the
tables, a fold for each seed, so that a network of the same name is not trained again if they share their work folder.
A rule from outside the package: `variants.enter("mine", Mine)`, and then `run_lab(..., names=["mine", "clean"])`.

OUT.json        {"rows": {name: {"exact": {world: {steps: total variation}}, "seeds": [...], "fd": [one a seed],
                "fd_lesion": ..., "agreement": ..., "dice": ..., "nearer": ..., "parameters": ..., "calls": ..., ...}},
                "provenance": ...}: all that is recorded, whoever asked for it; the best first
OUT/fold_K.json the records of seed K, from which an interrupted run goes on
OUT/samples.png equal noise, side by side, of all whose samples are in WORK
"""

from dataclasses import asdict
from pathlib import Path
from statistics import median_low

import torch
from tqdm import tqdm

from .. import plot
from ..claim import claim_folder
from ..files import write_json
from ..guider import Previous
from ..rules import RULES
from ..sampler import SOLVERS
from ..train import Training
from .likeness import measure, measure_unit
from .metrics import score_pairs, train_segmenter
from .protocol import Fold, Protocol
from .ranking import EACH, ranked, show
from .tables import SHOWN, provenance, sheet
from .units import digest
from .usefulness import TEST, many
from .variants import LAB_NETWORKS, VARIANTS, lab_methods
from .workshop import Workshop
from .worlds import STEPS, WORLDS, exact_verdict

LAB = Protocol(measured=256)  # half of the tables' samples: one costs ten times as much, at 256 steps


def alone_unit(workshop: Workshop, fold: Fold, source: str) -> tuple[str, str]:
    """The name and the key of the record that `alone` makes."""
    p = workshop.protocol
    own = dict(source=workshop.samples_key(fold, source), measured=p.measured, steps=p.segmenter_steps, test=p.test)
    return f"alone/{source}", digest(own | dict(batch=p.segmenter_batch, rate=p.segmenter_rate))


def alone(workshop: Workshop, fold: Fold, source: str) -> dict:
    """The record of a segmenter that has learnt from a variant's samples alone: its scores on many fresh phantoms."""
    p, records, (name, key) = workshop.protocol, workshop.records[fold.number], alone_unit(workshop, fold, source)
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
    """Do what is not yet recorded of these seeds (None: 0, 1, 2) and variants (None: all), write `out`, print the ranking.

    quick: the exact worlds alone. Raises ValueError for an unknown seed or variant, data that are not phantoms, an `out`
    without an ending, `previous` with another solver than DDIM, and a variant that has drawn no lesion.
    """
    possible = [name for name in VARIANTS if solver == "ddim" or name != "previous"]
    names, seeds = list(dict.fromkeys(names or possible)), sorted(set([0, 1, 2] if seeds is None else seeds))
    if unknown := set(names) - set(VARIANTS):
        raise ValueError(f"the lab has no {', '.join(sorted(unknown))}; it has {', '.join(VARIANTS)}")
    if not seeds or not set(seeds) <= set(range(protocol.folds)):
        raise ValueError(f"seeds run from 0 to {protocol.folds - 1}, not {', '.join(map(str, seeds)) or 'none'}")
    if not set(names) <= set(possible):
        raise ValueError("the rule previous is trained for the steps of ddim; leave it out, or take that solver")
    if not protocol.phantom:
        raise ValueError(f"the lab knows the truth of phantoms alone, not of {protocol.data}")
    if (folder := out.with_suffix("")) == out:
        raise ValueError(f"give {out} an ending, {out}.json: the records go into a folder of that name without one")
    workshop = Workshop(protocol, folder, work, device, lab_methods(solver, SOLVERS[solver]["steps"]), LAB_NETWORKS)
    if not quick or (folder / "config.json").exists():
        claim_folder(folder, asdict(protocol) | {"solver": solver})
    if not quick:
        todo = [(workshop.folds[k], name) for k in seeds for name in names]
        for fold, name in tqdm(todo, desc="training", unit="variant", disable=None):
            train_and_measure(workshop, fold, name, VARIANTS[name].source(name, solver))
    rows, first = trained_rows(workshop, solver), workshop.folds[seeds[0]]
    sources = {name: VARIANTS[name].source(name, solver) for name in rows}
    at_hand = {name: s for name, s in sources.items() if workshop.samples_path(first, s).exists()}
    if at_hand:
        drawn = {name: workshop.samples(first, s, min(SHOWN, protocol.measured)) for name, s in at_hand.items()}
        plot.save(sheet({"real": first.train} | drawn), folder / "samples.png")
    asked = [name for name in VARIANTS if name in rows or (name in names and name in RULES)]
    for name in tqdm(asked, desc="exact worlds", unit="variant", disable=None, leave=False):
        rows[name] = exact_row(name) | rows.get(name, {})
    result = {"rows": ranked(rows), "provenance": provenance(workshop) | {"solver": solver}}
    write_json(out, result)
    print(show(result["rows"]))
    print(f"exact: the share of pairs that is wrong after {STEPS[-1]} steps; a rule that loses nothing keeps about .03")
    return result


def exact_row(name: str) -> dict:
    """A rule's verdicts in the exact worlds; of walks and networks, and of rules that need more than a pixel, none."""
    rule = RULES.get(name)
    if rule is None or not getattr(rule, "pixelwise", True):
        return {}
    verdicts = {S: exact_verdict(rule(S) if issubclass(rule, Previous) else rule(), S) for S in STEPS}
    return {"exact": {world: {str(S): verdicts[S][world] for S in STEPS} for world in WORLDS}}


def train_and_measure(workshop: Workshop, fold: Fold, name: str, source: str) -> None:
    """Make what is not yet recorded of a variant in this fold, and the records of its networks, which tell their costs."""
    record = measure(workshop, fold, source)
    if "agreement" not in record:
        raise ValueError(f"{name} has drawn no lesion in seed {fold.number}: leave it out, or train for more steps")
    alone(workshop, fold, source)
    for net in workshop.methods[source].networks:
        if not workshop.records[fold.number].find(f"network/{net}", workshop.network_key(fold, net)):
            workshop.network(fold, net)  # trained for other results: its record lies beside its weights


def trained_rows(workshop: Workshop, solver: str) -> dict[str, dict]:
    """What is recorded of every variant: its values by seed, and its costs, each the (lower) median over the seeds."""
    rows: dict[str, dict] = {}
    spent: dict[str, list[dict]] = {}
    for fold in workshop.folds:
        for name, variant in VARIANTS.items():
            source, find = variant.source(name, solver), workshop.records[fold.number].find
            if source not in workshop.methods:
                continue
            record, dice = find(*measure_unit(workshop, fold, source)), find(*alone_unit(workshop, fold, source))
            if record and dice and "agreement" in record:
                row = rows.setdefault(name, {"seeds": []} | {key: [] for key in EACH})
                row["seeds"].append(fold.number)
                for key in EACH:
                    row[key].append((record | {"dice": dice["dice"]})[key])
                spent.setdefault(name, []).append(costs(workshop, fold, name, source))
    for name, each in spent.items():
        known = dict.fromkeys(key for cost in each for key in cost)
        rows[name] |= {key: median_low(cost[key] for cost in each if key in cost) for key in known}
    return rows


def costs(workshop: Workshop, fold: Fold, name: str, source: str) -> dict[str, float]:
    """Calls of a network for a pair; and, as far as recorded, parameters of a variant's networks, and seconds of training and
    of drawing a pair (since the last interruption, if there was one)."""
    method, find = workshop.methods[source], workshop.records[fold.number].find
    nets = [find(f"network/{net}", workshop.network_key(fold, net)) for net in method.networks]
    drawing = find(f"samples/{source}", workshop.samples_key(fold, source))
    found = {"calls": VARIANTS[name].calls * method.steps}
    if all(nets):
        found["parameters"] = sum(net["parameters"] for net in nets)
        found["training_seconds"] = round(sum(net["seconds"] for net in nets), 1)
    return found | ({"seconds_a_pair": round(drawing["seconds"] / drawing["drawn"], 3)} if drawing else {})
