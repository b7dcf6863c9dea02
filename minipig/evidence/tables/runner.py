"""`minipig table1` and `minipig table2`: the paper's tables in miniature, with every comparator.

RESULTS/config.json  the protocol; fold_K.json: the records of fold K, for resuming
RESULTS/table1.json  {"rows": {name: {"fd": [one a fold], "kd": ..., ...}}, "provenance": ...}
RESULTS/table2.json  the same with {"dice": [fold 0 seed 0, fold 0 seed 1, fold 1 seed 0, ...], ...}
                     in 0..1 on the fold's test patients, and "fresh_dice" on fresh phantoms
RESULTS/gains.png    the gains of Table 2 over real pairs only, fold by fold
RESULTS/samples.png  samples of every method, controls left out, whose samples are in WORK;
                     nearest.png: with the nearest real ones
"""

import json
import platform
from pathlib import Path
from typing import Iterable

import numpy as np
import torch
from tqdm import tqdm

from minipig.data.files import locked, write_figure, write_json
from minipig.evidence.tables.drawing import SHOWN, sheets
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.gains import gains_figure
from minipig.evidence.tables.hypotheses import DIRECTIONS, DISTANCES
from minipig.evidence.tables.plan import plan, table1_sources
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.records import commit
from minipig.evidence.tables.table1 import measure, measure_unit
from minipig.evidence.tables.table2 import row_name, segment, segment_unit
from minipig.evidence.tables.text import hypotheses_text, table_text, verdict
from minipig.segmentation import SCORES


def run_table(
    table: int,
    protocol: Protocol,
    out: Path,
    work: Path,
    device: torch.device,
    folds: list[int] | None = None,
    sources: list[str] | None = None,
) -> dict:
    """Compute the missing records of these folds and sources (default: all); write the table.

    The table holds all that is recorded. Raises ValueError for an unknown fold or source, or if
    `out` belongs to another protocol.
    """
    check("--folds", folds, range(protocol.folds))
    chosen = range(protocol.folds) if folds is None else folds
    known = list(dict.fromkeys(source for source, *_ in plan(protocol, table, 0)))
    check("--rows", sources, known)
    asked, sources = sources or [], known if sources is None else sources
    experiment = Experiment(protocol, out, work, device)
    first = experiment.folds[0]
    pairs = first.train + first.test
    experiment.claim()
    print(f"{pairs.counted} in {protocol.folds} folds")
    for note in pairs.notes:
        print(f"note: {note}")

    units = [(experiment.folds[k], *unit) for k in chosen for unit in plan(protocol, table, k)]
    units = [unit for unit in units if unit[1] in sources]
    found = {source for _, source, *_ in units}
    if absent := [source for source in asked if source not in found]:
        which = f"{', '.join(absent)} in the folds {', '.join(map(str, chosen))}"
        print(f"note: there is no row {which}: controls are of fold 0 alone")
    for unit in tqdm(units, f"table {table}", unit="record", disable=None):
        (measure if table == 1 else segment)(experiment, *unit)

    with locked(out / f"table{table}.json", wait=True):  # the last to write has read all records
        rows = table_rows(experiment, table)
        result = {"rows": rows, "provenance": provenance(experiment)}
        write_json(out / f"table{table}.json", result)
        if table == 2 and "real" in rows and len(rows) > 1:
            figure = gains_figure(rows, protocol.segmenter_seeds, protocol.folds)
            write_figure(out / "gains.png", figure)
    print(table_text(table, rows, protocol))
    other = out / "table1.json"
    if table == 2 and (sentences := verdict(rows, protocol)):
        print(sentences)
    if table == 2 and protocol.phantom and other.exists():
        print(hypotheses_text(json.loads(other.read_text())["rows"], rows, protocol))
    methods = [source for source in table1_sources(protocol) if source in experiment.methods]
    drawn = [source for source in methods if experiment.samples_path(first, source).exists()]
    if table == 1 and drawn:
        n = min(SHOWN, protocol.measured)
        samples = {source: experiment.samples(first, source, n) for source in drawn}
        for name, figure in sheets(first.train, samples).items():
            write_figure(out / name, figure)
    return result


def check(option: str, given: Iterable | None, known: Iterable) -> None:
    """Raise ValueError for what is given and not known."""
    if unknown := sorted(set(given or ()) - set(known)):
        problem = f"{option} cannot be {', '.join(map(str, unknown))}"
        raise ValueError(f"{problem}; choose from {', '.join(map(str, known))}")


def table_rows(experiment: Experiment, table: int) -> dict[str, dict[str, list[float]]]:
    """The recorded rows, each over the folds 0, 1, ... before the first that is incomplete."""
    keys = (*DISTANCES, *DIRECTIONS, "dimension") if table == 1 else SCORES
    rows: dict[str, dict[str, list[float]]] = {}
    incomplete = set()
    for fold, records in zip(experiment.folds, experiment.records):
        found: dict[str, list[dict | None]] = {}
        for arguments in plan(experiment.protocol, table, fold.number):
            unit = (measure_unit if table == 1 else segment_unit)(experiment, fold, *arguments)
            name = arguments[0] if table == 1 else row_name(*arguments[:2])
            found.setdefault(name, []).append(records.find(*unit))
        incomplete |= {name for name, made in found.items() if None in made}
        for name in (name for name in found if name not in incomplete):
            row = rows.setdefault(name, {})
            for i, record in enumerate(found[name]):
                values = {key: record[key] for key in keys if key in record}
                if "fresh" in record:
                    values["fresh_dice"] = record["fresh"]["dice"]
                for key, value in values.items():
                    # an older record may lack it: then the row ends before that fold
                    if len(row.get(key, ())) == fold.number * len(found[name]) + i:
                        row.setdefault(key, []).append(value)
    return rows


def provenance(experiment: Experiment, *others: Experiment) -> dict:
    """Where the numbers come from: configuration, seeds, versions, machine, commit, seconds.

    Configuration, seeds and patients (to learn from, in fold 0) are those of the first, the seconds
    those of all experiments, by kind of record; for samples they are those of the last time that
    some were drawn. The commit is that of the table; each record names its own.
    """
    p = experiment.protocol
    seconds: dict[str, float] = {}
    for records in (r for one in (experiment, *others) for r in one.records):
        for name, record in records.units.items():
            kind = name.split("/")[0]
            seconds[kind] = round(seconds.get(kind, 0) + record["seconds"], 1)
    networks = "the first seven digits of their unit's hash"
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    machine = {"threads": torch.get_num_threads(), "processor": platform.machine()}
    return dict(
        configuration=p.written(),
        patients=len(set(experiment.folds[0].train.patients)),
        seeds={"data": p.seed, "segmenters": p.segmenter_seeds, "networks": networks},
        versions={"python": platform.python_version()} | versions,
        machine={"device": str(experiment.device)} | machine,
        commit=commit(),
        seconds=seconds,
    )
