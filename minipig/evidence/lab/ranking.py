"""The rows of the lab, whose keys runner.py explains: made for each seed, ranked, and as text."""

from statistics import median_low

import numpy as np
from scipy import stats

from minipig.evidence.judge import score_pairs, train_segmenter
from minipig.evidence.lab.variants import VARIANTS
from minipig.evidence.metrics import BETTER
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold
from minipig.evidence.tables.records import digest
from minipig.evidence.tables.table1 import measure, measure_unit
from minipig.evidence.tables.table2 import fresh_test, trained_for
from minipig.evidence.tables.text import columns
from minipig.worlds.verdict import WORLDS

RANKED = ("fd", "fd_lesion", "agreement", "dice")
EACH = (*RANKED, "nearer")  # what a trained row has for each seed


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


def alone_unit(experiment: Experiment, fold: Fold, source: str) -> tuple[str, str]:
    """The name and the key of the record that `alone` makes."""
    p = experiment.protocol
    key = dict(steps=p.segmenter_steps, batch=p.segmenter_batch, rate=p.segmenter_rate)
    key |= dict(source=experiment.samples_key(fold, source), measured=p.measured, test=p.test)
    return f"alone/{source}", digest(key)


def alone(experiment: Experiment, fold: Fold, source: str) -> dict:
    """The scores on fresh phantoms of a segmenter trained on a variant's samples alone."""
    p = experiment.protocol
    unit = alone_unit(experiment, fold, source)
    records = experiment.records[fold.number]
    if record := records.find(*unit):
        return record
    checkpoint = experiment.checkpoint_path(fold, *unit)
    pairs = experiment.samples(fold, source, p.measured)
    training = trained_for(p.segmenter_steps, p, fold.number)
    label = f"seed {fold.number}: segmenter on {source}"
    with records.making(*unit) as record:
        net = train_segmenter(pairs, training, experiment.device, checkpoint, label)
        record |= score_pairs(net, fresh_test(p))
    checkpoint.unlink(missing_ok=True)  # another process may have done it
    return record


def trained_rows(experiment: Experiment, solver: str) -> dict[str, dict]:
    """The records of every variant: values by seed; costs, as (lower) medians over the seeds."""
    rows: dict[str, dict] = {}
    spent: dict[str, list[dict]] = {}
    for fold in experiment.folds:
        find = experiment.records[fold.number].find
        for name, variant in VARIANTS.items():
            source = variant.source(name, solver)
            record = find(*measure_unit(experiment, fold, source))
            dice = find(*alone_unit(experiment, fold, source))
            if record and dice and "agreement" in record:
                values = record | {"dice": dice["dice"], "seeds": fold.number}
                for key in ("seeds", *EACH):
                    rows.setdefault(name, {}).setdefault(key, []).append(values[key])
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


def ranked(rows: dict[str, dict]) -> dict[str, dict]:
    """The rows, best first.

    Trained rows by their mean rank in RANKED, of means over the seeds that all of them have; then
    the others by their total variation at most steps.
    """
    trained = {name: row for name, row in rows.items() if "seeds" in row}
    seeds = [set(row["seeds"]) for row in trained.values()]
    common = set.intersection(*seeds) if seeds else set()

    def mean(row: dict, key: str) -> float:
        values = zip(row["seeds"], row[key])
        return np.mean([value for seed, value in values if seed in common or not common])

    ranks = []
    for key in RANKED:
        values = [-BETTER[key] * mean(row, key) for row in trained.values()]
        ranks.append(stats.rankdata(values))
    score = dict(zip(trained, np.mean(ranks, axis=0)))
    for name in rows.keys() - trained.keys():
        verdicts = [list(found.values())[-1] for found in rows[name].get("exact", {}).values()]
        score[name] = len(rows) + (np.mean(verdicts) if verdicts else 1)
    return {name: rows[name] for name in sorted(rows, key=lambda name: (score[name], name))}


def show(rows: dict[str, dict]) -> str:
    """The rows as text: total variation in the exact worlds, mean ± standard error, and costs."""
    lines = [["", *(f"exact, {world}" for world in WORLDS), *EACH, "seeds", "calls", "parameters"]]
    for name, row in rows.items():
        line = [name]
        for world in WORLDS:
            line.append(f"{[*row['exact'][world].values()][-1]:.3f}" if "exact" in row else "")
        for key in EACH:
            values = np.array(row.get(key, []))
            error = f" ± {stats.sem(values):.3f}" if values.size > 1 else ""
            line.append(f"{values.mean():.3f}{error}" if values.size else "")
        counts = [len(row.get("seeds", [])), row.get("calls"), row.get("parameters")]
        lines.append([*line, *(f"{count:,}" if count else "" for count in counts)])
    filled = [column for column in zip(*lines) if any(column[1:])]
    return "\n".join(columns(list(zip(*filled))))
