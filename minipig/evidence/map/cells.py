"""Experiments on phantoms of several seeds, each with training patients of its own."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from minipig.data.checks import held_out
from minipig.data.classical import with_deformed
from minipig.data.phantoms import phantoms
from minipig.evidence import metrics
from minipig.evidence.judge import pair_agreement
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold, Protocol
from minipig.evidence.tables.records import digest
from minipig.evidence.tables.table1 import load_judge
from minipig.evidence.tables.table2 import segment, segment_unit
from minipig.training.held_out import HeldOut

QUALITY = ("agreement", "nearer", "nearer_known", "losses")
BATCH = 64  # noisy pairs of a held-out loss that are computed together
BASES = {"real": 6}  # segmenters of the row that varies most, over which many gains are


@dataclass(frozen=True)
class Cell:
    """The first fold of a protocol on phantoms, with some rows of Table 2: (source, pairs).

    judged: sources among them whose samples are judged as well.
    """

    name: str
    protocol: Protocol
    rows: tuple[tuple[str, int], ...]
    judged: tuple[str, ...] = ()

    def seeds(self, source: str) -> range:
        """The seeds of a row's segmenters."""
        return range(BASES.get(source, self.protocol.segmenter_seeds))

    def experiment(self, out: Path, work: Path, device: torch.device) -> Experiment:
        """Its experiment in OUT/seed_S/NAME, S the protocol's seed; the judge is OUT/judge.pt."""
        seed = f"seed_{self.protocol.seed}"
        judge = out / "judge.pt"
        return Experiment(self.protocol, out / seed / self.name, work / seed, device, judge=judge)


def quality_unit(experiment: Experiment, fold: Fold, method: str) -> tuple[str, str]:
    """The name and the key of the record of a method's quality."""
    p = experiment.protocol
    # known="alike": since strangers are deformed as often as what was learnt
    key = dict(samples=experiment.samples_key(fold, method), measured=p.measured, known="alike")
    return f"quality/{method}", digest(key | dict(judge=[p.judge_pairs, p.judge_steps]))


def quality(experiment: Experiment, fold: Fold, method: str) -> dict:
    """The record of a method's samples and networks.

    agreement: of masks and slices, by the judge. nearer: the share of samples nearer to a slice of
    the fold's own training pairs than to a fresh one, of equally many; 1/2 by chance. nearer_known:
    the same of all slices that the networks learnt from, and of fresh ones deformed as often.
    losses: of each network, on fresh phantoms.
    """
    p = experiment.protocol
    unit = quality_unit(experiment, fold, method)
    records = experiment.records[fold.number]
    if record := records.find(*unit):
        return record
    pairs = experiment.samples(fold, method, p.measured)
    with records.making(*unit) as record:
        record["agreement"] = pair_agreement(load_judge(experiment, None), pairs)
        strangers = phantoms(
            len(fold.train) + p.others, p.size, held_out("table1-unknown", fold.number)
        )
        fresh = strangers.subset(range(len(fold.train)))
        strangers = with_deformed(strangers, p.deformed, p.seed, p.mirror_axis)
        learnt = experiment.known(fold)
        for name, *parts in (("nearer", fold.train, fresh), ("nearer_known", learnt, strangers)):
            record[name] = metrics.share_nearer(pairs.images, *(part.images for part in parts))
        losses = record["losses"] = {}
        for name in experiment.methods[method].networks:
            kind = experiment.networks[name]
            parents = [experiment.network(fold, parent) for parent in kind.parents]
            guider = parents[0] if kind.guided else None
            unseen, known = (kind.data(part, *parents) for part in (fresh, fold.train))
            unsaved = experiment.work / "no file"
            measured = HeldOut(unseen, known, kind.loss, unsaved, p.noise_schedule, guider)
            losses[name] = measured.measure(experiment.network(fold, name), BATCH)
    return record


def compute(label: str, cells: list[Cell], out: Path, work: Path, device: torch.device) -> None:
    """Make the missing records of these cells. If it is interrupted, the same call goes on."""
    todo = []
    for cell in cells:
        experiment = cell.experiment(out, work, device)
        experiment.claim()
        fold = experiment.folds[0]
        for source, n in cell.rows:
            todo += [(segment, experiment, fold, source, n, seed) for seed in cell.seeds(source)]
        todo += [(quality, experiment, fold, method) for method in cell.judged]
    for function, *arguments in tqdm(todo, label, unit="record", disable=None):
        function(*arguments)


def recorded(cell: Cell, experiment: Experiment) -> dict[str, dict]:
    """What is recorded of a cell in its experiment, by source.

    {"dice": on fresh phantoms, one a segmenter, as soon as all are there; those of QUALITY: of a
    method that is judged}.
    """
    fold, find = experiment.folds[0], experiment.records[0].find
    values: dict[str, dict] = {}
    for source, n in cell.rows:
        units = [segment_unit(experiment, fold, source, n, seed) for seed in cell.seeds(source)]
        made = [find(*unit) for unit in units]
        values[source] = {"dice": [record["fresh"]["dice"] for record in made]} if all(made) else {}
    for method in cell.judged:
        if record := find(*quality_unit(experiment, fold, method)):
            values[method] |= {key: record[key] for key in QUALITY}
    return values
