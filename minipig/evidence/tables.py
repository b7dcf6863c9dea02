"""python -m minipig table1 | table2: the paper's two tables in miniature, with every comparator, from whatever is recorded.

RESULTS/config.json  the protocol; fold_K.json: the records of fold K, from which an interrupted run goes on
RESULTS/table1.json  {"rows": {name: {"fd": [one a fold], "kd": ..., "fd_lesion": ..., ...}}, "provenance": ...}
RESULTS/table2.json  {"rows": {name: {"dice": [fold 0 seed 0, fold 0 seed 1, fold 1 seed 0, ...], "iou": ..., ...}}, ...};
                     scores in 0..1 over the fold's test patients, "fresh_dice" over many fresh phantoms
RESULTS/samples.png  equal seeds of every method, side by side; nearest.png: each with the training slice nearest to it
"""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from .. import plot
from ..claim import claim_folder
from ..files import write_json
from ..pairs import Pairs
from ..segmentation import SCORES
from .likeness import measure, measure_unit
from .metrics import nearest
from .protocol import Protocol
from .reading import COMPARATORS, DISTANCES, show, verdicts
from .units import commit
from .usefulness import row_name, segment, segment_unit
from .workshop import Workshop

VARIANTS = ("PIG-matched", "PIG-sign", "PIG-dithered")  # other guide rules; the last two were added after two folds of PIG
# what the released code does, each part alone and both; thresholded: binarised at once, after a first look at binarised
RELEASE = ("PIG-binarised", "PIG-thresholded", "PIG-weighted", "PIG-release")
WHOSE = (
    "SegGuidedDif-newmasks",
    "PIG-finished",
)  # new masks, finished before model_y sees them: of phantoms, first fold only
CONTROLS = (*WHOSE, "PIG-matched-oldmasks", "joint-wide", *RELEASE)  # phantoms, first fold
SHOWN = 8  # samples of each method in the sheets


def sources_1(protocol: Protocol) -> list[str]:
    """The rows of Table 1 in every fold; "real" is the floor, "training" what copies of the training pairs would get."""
    if not protocol.phantom:
        return ["training", "joint", "SegGuidedDif", "PIG", *WHOSE]
    return ["real", "training", "DDPM", "DDIM", "DPM++", *COMPARATORS, "PIG", *VARIANTS]


def sources_2(protocol: Protocol) -> list[tuple[str, int]]:
    """The rows of Table 2 in every fold, as (source, how many pairs of it)."""
    n = protocol.synthetic
    if not protocol.phantom:
        return [
            ("real", 0),
            *((source, n) for source in ("classical", "joint", "SegGuidedDif", "PIG", "classical+PIG", *WHOSE)),
        ]
    rows = [("real", 0), *((source, n) for source in ("fresh", "classical", *COMPARATORS))]
    rows += [("PIG", n // 2), ("PIG", n), ("PIG", 3 * n // 2), *((source, n) for source in VARIANTS)]
    return [*rows, ("classical+SegGuidedDif", n), ("classical+PIG", n)]


def plan(protocol: Protocol, table: int, fold: int) -> list[tuple[Callable, tuple]]:
    """The records that one fold's part of a table is made of, as (function, arguments after workshop and fold)."""
    controls = CONTROLS if protocol.phantom and fold == 0 else ()
    if table == 1:
        return [(measure, (source,)) for source in (*sources_1(protocol), *controls)]
    rows = [*sources_2(protocol), *((name, protocol.synthetic) for name in controls)]
    return [(segment, (*row, seed)) for row in rows for seed in range(protocol.segmenter_seeds)]


def run_table(
    table: int,
    protocol: Protocol,
    out: Path,
    work: Path,
    device: torch.device,
    folds: list[int] | None = None,
    sources: list[str] | None = None,
) -> dict:
    """Do what is not yet recorded of these folds and sources (None: all), then write and print the table of all that is."""
    chosen = range(protocol.folds) if folds is None else folds
    if not set(chosen) <= set(range(protocol.folds)):
        raise ValueError(f"folds run from 0 to {protocol.folds - 1}, not {', '.join(map(str, chosen))}")
    known = [arguments[0] for _, arguments in plan(protocol, table, 0)]
    if unknown := set(sources or ()) - set(known):
        raise ValueError(f"table {table} has no row {', '.join(sorted(unknown))}; it has {', '.join(dict.fromkeys(known))}")
    workshop = Workshop(protocol, out, work, device)
    claim_folder(out, asdict(protocol) | {"data": Path(protocol.data).name})
    pairs = workshop.folds[0].train + workshop.folds[0].test
    print(f"{len(pairs)} pairs of {len(set(pairs.patients))} patients in {protocol.folds} folds", *pairs.notes, sep="; ")
    todo = [(workshop.folds[k], *unit) for k in chosen for unit in plan(protocol, table, k)]
    todo = [unit for unit in todo if sources is None or unit[2][0] in sources]
    with tqdm(total=len(todo), desc=f"table {table}", unit="record", disable=None) as bar:
        for fold, function, arguments in todo:
            function(workshop, fold, *arguments)
            bar.update()
    rows = table_rows(workshop, table)
    result = {"rows": rows, "provenance": provenance(workshop)}
    write_json(out / f"table{table}.json", result)
    drawn = [s for s in sources_1(protocol) if s in workshop.methods and (sources is None or s in sources)]
    if table == 1 and 0 in chosen and drawn and not (out / "nearest.png").exists():
        first = workshop.folds[0]
        for name, figure in sheets(first.train, {s: workshop.samples(first, s, SHOWN) for s in drawn}).items():
            plot.save(figure, out / name)
    print(show(table, rows, protocol.segmenter_seeds, protocol.folds))
    if table == 2 and protocol.phantom and (out / "table1.json").exists():
        print(verdicts(json.loads((out / "table1.json").read_text())["rows"], rows, protocol))
    return result


def table_rows(workshop: Workshop, table: int) -> dict[str, dict[str, list[float]]]:
    """The rows, each over the folds 0, 1, ... up to the first in which a record of it is missing, or of other settings."""
    p, rows, ended = workshop.protocol, {}, set()
    for k, records in enumerate(workshop.records):
        of_this_fold: dict[str, list[dict | None]] = {}
        for function, arguments in plan(p, table, k):
            name = row_name(*arguments[:2]) if function is segment else arguments[0]
            unit = segment_unit if function is segment else measure_unit
            record = records.find(*unit(workshop, workshop.folds[k], *arguments))
            of_this_fold.setdefault(name, []).append(record)
        ended |= {name for name, found in of_this_fold.items() if None in found}
        for name, found in of_this_fold.items():
            if name in ended:
                continue
            row = rows.setdefault(name, {})
            for record in found:
                for key in SCORES if table == 2 else DISTANCES:
                    if key in record:
                        row.setdefault(key, []).append(record[key])
                if "fresh" in record:
                    row.setdefault("fresh_dice", []).append(record["fresh"]["dice"])
    return rows


def provenance(workshop: Workshop) -> dict:
    """What the numbers came from: configuration, seeds, versions, the commit that made this table (each record names that of
    its own), and seconds, by kind of unit (of samples, which are drawn as they are needed, those of the last draw)."""
    p = workshop.protocol
    seconds: dict[str, float] = {}
    for name, record in ((name, record) for records in workshop.records for name, record in records.units.items()):
        kind = name.split("/")[0]
        seconds[kind] = round(seconds.get(kind, 0) + record["seconds"], 1)
    return dict(
        configuration=asdict(p) | {"data": Path(p.data).name},
        seeds={"data": p.seed, "segmenters": p.segmenter_seeds, "networks": "the first seven digits of their unit's hash"},
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        machine=dict(device=str(workshop.device), threads=torch.get_num_threads(), processor=platform.machine()),
        commit=commit(),
        seconds=seconds,
    )


def sheets(known: Pairs, samples: dict[str, Pairs]) -> dict[str, Figure]:
    """samples.png: the first samples of every method, equal seeds in a column, under the first real ones; nearest.png: each
    above the training pair whose slice is nearest to it. What is only remembered?"""
    beside = {}
    for source, pairs in samples.items():
        copied = known.subset(nearest(pairs.images, known.images).indices.tolist())
        beside |= {source: pairs, f"nearest to {source}": copied}
    return {"samples.png": sheet({"real": known} | samples), "nearest.png": sheet(beside)}


def sheet(rows: dict[str, Pairs]) -> Figure:
    """Pairs by name, a row each: slices with the outline of their mask."""
    (height, width), columns = next(iter(rows.values())).size, min(map(len, rows.values()))
    size = (columns + 1.6, len(rows) * height / width)
    fig, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for row, (name, pairs) in zip(axes, rows.items()):
        for ax, image, mask in zip(row, pairs.images[:, 0], pairs.masks[:, 0]):
            plot.show_slice(ax, image, mask * 2.0 - 1)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return fig
