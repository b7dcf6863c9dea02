"""Table 2: scores of segmenters trained on a fold's real pairs and on pairs of one source."""

from copy import deepcopy
from dataclasses import replace
from functools import cache, partial

from minipig.data.checks import held_out
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.judge import score_pairs, train_segmenter
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold, Protocol
from minipig.evidence.tables.records import digest
from minipig.evidence.tables.sources import parts, training_set
from minipig.training.loop import Training


@cache
def fresh_test(protocol: Protocol) -> Pairs:
    """The fresh phantoms that all segmenters are tested on."""
    return phantoms(protocol.test, protocol.size, held_out("table2-test"))


def row_name(source: str, n: int) -> str:
    """The row of Table 2: real, real+classical, real+PIG_2048, real+classical+PIG_2048, ..."""
    return {"real": "real", "classical": "real+classical"}.get(source, f"real+{source}_{n}")


def segment_unit(
    experiment: Experiment, fold: Fold, source: str, n: int, seed: int
) -> tuple[str, str]:
    """The name and the key of one segmenter's record."""
    p = experiment.protocol
    method, _, _ = parts(source)
    added = source.replace(method, experiment.samples_key(fold, method))
    key = dict(steps=p.segmenter_steps, batch=p.segmenter_batch, rate=p.segmenter_rate, seed=seed)
    key |= dict(source=added, n=n, data=experiment.data_key(fold))
    return f"segment/{row_name(source, n)}/{seed}", digest(key | dict(test=p.test))


def segment(experiment: Experiment, fold: Fold, source: str, n: int, seed: int) -> dict:
    """The record of one segmenter. All take equal steps; equal seeds start with equal weights."""
    p = experiment.protocol
    unit = segment_unit(experiment, fold, source, n, seed)
    records = experiment.records[fold.number]
    if record := records.find(*unit):
        return record
    checkpoint = experiment.checkpoint_path(fold, *unit)
    pairs = training_set(experiment, fold, source, n)
    own_seed = (p.seed * p.folds + fold.number) * p.segmenter_seeds + seed
    training = Training(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate, seed=own_seed)
    label = f"fold {fold.number}: segmenter {seed} on {row_name(source, n)}"
    with records.making(*unit) as record:
        if source.endswith("-first"):  # then a third of the steps on real pairs
            last = replace(training, steps=p.segmenter_steps // 3)
            first = replace(training, steps=p.segmenter_steps - last.steps)
            net = train_segmenter(pairs, first, experiment.device, checkpoint, label)
            net = net.requires_grad_(True)
            net = train_segmenter(fold.train, last, experiment.device, build=partial(deepcopy, net))
        else:
            net = train_segmenter(pairs, training, experiment.device, checkpoint, label)
        record |= score_pairs(net, fold.test)
        if p.phantom:
            record["fresh"] = score_pairs(net, fresh_test(p))
    checkpoint.unlink()
    return record
