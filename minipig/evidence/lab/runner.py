"""minipig lab: rank guide rules, walks and networks, in exact worlds and trained at equal budget.

The exact worlds say in seconds whether a rule is right for an ideal model_y; a short training says
whether it is for a small network. The training is the phantom protocol of the tables, one fold for
each seed, so that both can share networks in one work folder. For a rule of your own:
`variants.enter("mine", Mine, version="1")`, then `run_lab(..., names=["mine", "clean"])`.

OUT.json         {"rows": {name: row}, "provenance": ..., "verdicts": {rule: verdict.beside(...)}},
                 every recorded variant, the best first.
                 row: "exact" {world: {steps: total variation}}; "seeds", and for each seed one
                 "fd", "fd_lesion", "agreement", "dice", "nearer"; "parameters", "calls", ...
OUT/fold_K.json  the records of seed K, for resuming
OUT/samples.png  samples from equal noise, of every variant whose samples are in WORK
"""

from dataclasses import asdict
from pathlib import Path
from statistics import median_low

import torch
from tqdm import tqdm

from minipig.data.files import claim_folder, write_figure, write_json
from minipig.evidence.judge import score_pairs, train_segmenter
from minipig.evidence.lab.ranking import EACH, ranked, show
from minipig.evidence.lab.variants import LAB_NETWORKS, VARIANTS, lab_methods
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold, Protocol
from minipig.evidence.tables.records import digest
from minipig.evidence.tables.runner import SHOWN, provenance, sheet
from minipig.evidence.tables.table1 import measure, measure_unit
from minipig.evidence.tables.table2 import fresh_test
from minipig.extras.solvers import SOLVERS
from minipig.rules import RULES, Previous
from minipig.schedule import Schedule
from minipig.training.config import OLDER
from minipig.training.loop import Training
from minipig.worlds.verdict import BESIDE, STEPS, WORLDS, beside, show_verdict, verdict

# half of the tables' samples: each costs ten times as much, at 256 steps
LAB = Protocol(measured=256)


def alone_unit(experiment: Experiment, fold: Fold, source: str) -> tuple[str, str]:
    """The name and the key of the record that `alone` makes."""
    p = experiment.protocol
    key = dict(steps=p.segmenter_steps, batch=p.segmenter_batch, rate=p.segmenter_rate)
    key |= dict(source=experiment.samples_key(fold, source), measured=p.measured, test=p.test)
    return f"alone/{source}", digest(key)


def alone(experiment: Experiment, fold: Fold, source: str) -> dict:
    """The scores on fresh phantoms of a segmenter trained on a variant's samples alone."""
    p = experiment.protocol
    records = experiment.records[fold.number]
    unit = alone_unit(experiment, fold, source)
    if record := records.find(*unit):
        return record
    pairs = experiment.samples(fold, source, p.measured)
    checkpoint = experiment.checkpoint_path(fold, *unit)

    def work() -> dict:
        settings = (p.segmenter_steps, p.segmenter_batch, p.segmenter_rate)
        training = Training(*settings, seed=fold.number)
        label = f"seed {fold.number}: segmenter on {source}"
        net = train_segmenter(pairs, training, experiment.device, checkpoint, label)
        return score_pairs(net, fresh_test(p))

    return records.make(*unit, work, checkpoint=checkpoint)


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
    """Make the missing records, write the ranking of all records to `out`, and print it.

    seeds: to work on now, default 0, 1, 2; names: variants to work on now, default all. quick: the
    exact worlds alone. Raises ValueError for an unknown seed or variant, data other than phantoms,
    an `out` without an ending, `previous` with another solver than DDIM, and a variant that samples
    no lesion.
    """
    possible = [name for name in VARIANTS if solver == "ddim" or name != "previous"]
    names = list(dict.fromkeys(names or possible))
    seeds = sorted(set([0, 1, 2] if seeds is None else seeds))
    check(protocol, out, names, possible, seeds)
    folder = out.with_suffix("")
    methods = lab_methods(solver, SOLVERS[solver].steps)
    experiment = Experiment(protocol, folder, work, device, methods, LAB_NETWORKS)
    if not quick or (folder / "config.json").exists():
        claim_folder(folder, asdict(protocol) | {"solver": solver}, defaults=OLDER)
    if not quick:
        todo = [(experiment.folds[k], name) for k in seeds for name in names]
        for fold, name in tqdm(todo, desc="training", unit="variant", disable=None):
            train_and_measure(experiment, fold, name, VARIANTS[name].source(name, solver))
    rows = trained_rows(experiment, solver)
    draw_samples(experiment, experiment.folds[seeds[0]], rows, solver)
    known = [name for name in VARIANTS if name in rows or (name in names and name in RULES)]
    exact, verdicts = exact_verdicts(known, protocol.noise_schedule)
    for name in known:
        rows[name] = exact.get(name, {}) | rows.get(name, {})
    result = {"rows": ranked(rows), "provenance": provenance(experiment) | {"solver": solver}}
    result["verdicts"] = verdicts
    write_json(out, result)
    print(show(result["rows"]))
    print(f"exact: the share of pairs that is wrong after {STEPS[-1]} steps (total variation)")
    print("±: the standard error over seeds; below, the sampling error of an exact verdict")
    for name in result["rows"]:
        if name in names and name in verdicts:
            print(f"{name}:\n{show_verdict(verdicts[name])}")
    return result


def check(
    protocol: Protocol, out: Path, names: list[str], possible: list[str], seeds: list[int]
) -> None:
    """Raise ValueError for what run_lab cannot do."""
    if unknown := ", ".join(sorted(set(names) - set(VARIANTS))):
        raise ValueError(f"the lab has no {unknown}; choose from {', '.join(VARIANTS)}")
    if not set(names) <= set(possible):
        raise ValueError("previous is trained for the steps of ddim; use --solver ddim")
    if not seeds or not set(seeds) <= set(range(protocol.folds)):
        given = ", ".join(map(str, seeds)) or "none"
        raise ValueError(f"seeds must be from 0 to {protocol.folds - 1}, not {given}")
    if not protocol.phantom:
        raise ValueError(f"the lab needs phantoms as data, not {protocol.data}")
    if not out.suffix:
        raise ValueError(f"--out must be a file, such as {out}.json, not {out}")


def draw_samples(experiment: Experiment, fold: Fold, rows: dict, solver: str) -> None:
    """Write samples.png, if WORK has samples of any row."""
    n = min(SHOWN, experiment.protocol.measured)
    drawn = {}
    for name in rows:
        source = VARIANTS[name].source(name, solver)
        if experiment.samples_path(fold, source).exists():
            drawn[name] = experiment.samples(fold, source, n)
    if drawn:
        figure = sheet({"real": fold.train} | drawn)
        write_figure(experiment.results / "samples.png", figure)


def exact_verdicts(names: list[str], schedule: Schedule) -> tuple[dict, dict]:
    """Two dictionaries by rule, without rules of several pixels: a row's "exact", and `beside`."""
    found = {}
    for name in tqdm(dict.fromkeys([*names, *BESIDE]), "exact worlds", disable=None, leave=False):
        kind = RULES.get(name)
        if kind and getattr(kind, "pixelwise", True):
            rules = {S: kind(S) if issubclass(kind, Previous) else kind() for S in STEPS}
            found[name] = {S: verdict(rule, S, schedule=schedule) for S, rule in rules.items()}
    last = {name: by_steps[STEPS[-1]] for name, by_steps in found.items()}
    others = {name: last[name] for name in BESIDE}
    exact, verdicts = {}, {}
    for name in (name for name in names if name in found):
        by_world = {w: {str(S): found[name][S][w][0] for S in STEPS} for w in WORLDS}
        exact[name] = {"exact": by_world}
        verdicts[name] = beside({"rule": last[name]} | others)
    return exact, verdicts


def train_and_measure(experiment: Experiment, fold: Fold, name: str, source: str) -> None:
    """Make the missing records of a variant in this fold, and of its networks' costs."""
    record = measure(experiment, fold, source)
    if "agreement" not in record:
        empty = f"the samples of {name} have no lesion in seed {fold.number}"
        raise ValueError(f"{empty}; omit {name}, or give other --seeds")
    alone(experiment, fold, source)
    for net in experiment.methods[source].networks:
        key = experiment.network_key(fold, net)
        if not experiment.records[fold.number].find(f"network/{net}", key):
            experiment.network(fold, net)  # trained for other results: loads its record


def trained_rows(experiment: Experiment, solver: str) -> dict[str, dict]:
    """The records of every variant: values by seed; costs, as (lower) medians over the seeds."""
    rows: dict[str, dict] = {}
    spent: dict[str, list[dict]] = {}
    for fold in experiment.folds:
        find = experiment.records[fold.number].find
        for name, variant in VARIANTS.items():
            source = variant.source(name, solver)
            if source not in experiment.methods:
                continue
            record = find(*measure_unit(experiment, fold, source))
            dice = find(*alone_unit(experiment, fold, source))
            if record and dice and "agreement" in record:
                row = rows.setdefault(name, {"seeds": []} | {key: [] for key in EACH})
                row["seeds"].append(fold.number)
                for key in EACH:
                    row[key].append((record | {"dice": dice["dice"]})[key])
                spent.setdefault(name, []).append(costs(experiment, fold, name, source))
    for name, each in spent.items():
        for key in dict.fromkeys(key for cost in each for key in cost):
            rows[name][key] = median_low(cost[key] for cost in each if key in cost)
    return rows


def costs(experiment: Experiment, fold: Fold, name: str, source: str) -> dict[str, float]:
    """Network calls for a pair; if recorded, parameters, seconds of training, seconds a pair.

    The seconds are those since the last interruption, if there was one.
    """
    method = experiment.methods[source]
    find = experiment.records[fold.number].find
    nets = [find(f"network/{net}", experiment.network_key(fold, net)) for net in method.networks]
    drawing = find(f"samples/{source}", experiment.samples_key(fold, source))
    found = {"calls": VARIANTS[name].calls * method.steps}
    if all(nets):
        found["parameters"] = sum(net["parameters"] for net in nets)
        found["training_seconds"] = round(sum(net["seconds"] for net in nets), 1)
    if drawing:
        found["seconds_a_pair"] = round(drawing["seconds"] / drawing["drawn"], 3)
    return found
