"""python -m minipig table1 | table2: the paper's two tables in miniature, with every comparator, from whatever is recorded.

RESULTS/config.json  the protocol; fold_K.json: the records of fold K, from which an interrupted run goes on
RESULTS/table1.json  {"rows": {name: {"fd": [one a fold], "kd": ..., "fd_lesion": ..., ...}}, "provenance": ...}
RESULTS/table2.json  {"rows": {name: {"dice": [fold 0 seed 0, fold 0 seed 1, fold 1 seed 0, ...], "iou": ..., ...}}, ...};
                     scores in 0..1 over the fold's test patients, "fresh_dice" over many fresh phantoms
RESULTS/samples.png  equal seeds of every method, side by side
"""

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
from ..files import write_json
from ..run import claim_folder
from ..segmentation import SCORES
from .likeness import measure
from .methods import METHODS
from .metrics import interval
from .protocol import Protocol
from .units import commit
from .usefulness import row_name, segment
from .workshop import Workshop

COMPARATORS = ("LDM", "SegGuidedDif", "ControlNet", "joint")
CONTROLS = ("SegGuidedDif-newmasks", "PIG-finished", "PIG-matched-oldmasks", "joint-wide")  # phantoms, first fold
DISTANCES = ("fd", "kd", "fd_lesion", "fd_plain", "agreement", "nearer")

# Written down before any generator was compared, the paper's own margins: what is claimed, the bound, and its side
HYPOTHESES = {
    "H1": ("Fréchet distance of PIG, by that of DDIM", 0.503, "at most"),
    "H2": ("gain in Dice of real+PIG over real only", 0.0818, "at least"),
    "H3": ("gain in Dice of real+PIG over the best comparator", 0.0224, "at least"),
}


def sources_1(protocol: Protocol) -> list[str]:
    """The rows of Table 1 in every fold; "real" is the floor, "training" what copies of the training pairs would get."""
    if not protocol.phantom:
        return ["training", "joint", "SegGuidedDif", "PIG"]
    return ["real", "training", "DDPM", "DDIM", "DPM++", *COMPARATORS, "PIG", "PIG-matched"]


def sources_2(protocol: Protocol) -> list[tuple[str, int]]:
    """The rows of Table 2 in every fold, as (source, how many pairs of it)."""
    n = protocol.synthetic
    if not protocol.phantom:
        return [("real", 0), *((source, n) for source in ("classical", "joint", "SegGuidedDif", "PIG", "classical+PIG"))]
    rows = [("real", 0), *((source, n) for source in ("fresh", "classical", *COMPARATORS))]
    rows += [("PIG", n // 2), ("PIG", n), ("PIG", 3 * n // 2), ("PIG-matched", n)]
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
    todo = [(workshop.folds[k], *unit) for k in chosen for unit in plan(protocol, table, k)]
    todo = [unit for unit in todo if sources is None or unit[2][0] in sources]
    with tqdm(total=len(todo), desc=f"table {table}", unit="record", disable=None) as bar:
        for fold, function, arguments in todo:
            function(workshop, fold, *arguments)
            bar.update()
    result = {"rows": table_rows(workshop, table), "provenance": provenance(workshop)}
    write_json(out / f"table{table}.json", result)
    if table == 1 and sources is None and 0 in chosen and not (out / "samples.png").exists():
        plot.save(sample_sheet(workshop), out / "samples.png")
    print(show(table, result["rows"]))
    return result


def table_rows(workshop: Workshop, table: int) -> dict[str, dict[str, list[float]]]:
    """The rows, each over the folds 0, 1, ... up to the first in which a record of it is missing."""
    p, rows, ended = workshop.protocol, {}, set()
    for k, records in enumerate(workshop.records):
        for function, arguments in plan(p, table, k):
            name = row_name(*arguments[:2]) if function is segment else arguments[0]
            unit = f"segment/{name}/{arguments[2]}" if function is segment else f"measure/{name}"
            record = records.units.get(unit)
            if record is None or name in ended:
                ended.add(name)
                continue
            row = rows.setdefault(name, {})
            for key in SCORES if function is segment else DISTANCES:
                if key in record:
                    row.setdefault(key, []).append(record[key])
            if "fresh" in record:
                row.setdefault("fresh_dice", []).append(record["fresh"]["dice"])
    return rows


def provenance(workshop: Workshop) -> dict:
    """What the numbers came from: configuration, seeds, versions, the commit that made this table (each record names that of
    its own), and seconds, by kind of unit."""
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


def gain(rows: dict, row: str, base: str, key: str = "dice", seeds: int = 2) -> tuple[float, float, float]:
    """Mean and 95 % interval of row minus base, paired by fold and seed, over the folds that both have."""
    n = min(len(rows[row][key]), len(rows[base][key])) // seeds * seeds
    difference = (np.array(rows[row][key][:n]) - np.array(rows[base][key][:n])).reshape(-1, seeds)
    return (float(difference.mean()), *interval(difference))


def hypotheses(one: dict, two: dict, n: int) -> dict[str, dict]:
    """Estimate, 95 % interval and verdict of each hypothesis, from the rows of both tables; n: pairs a row of Table 2."""
    ratio = np.array(one["PIG"]["fd"]) / one["DDIM"]["fd"]
    best = max((f"real+{name}_{n}" for name in COMPARATORS), key=lambda row: np.mean(two[row]["dice"]))
    found = {
        "H1": (float(ratio.mean()), *interval(ratio)),
        "H2": gain(two, f"real+PIG_{n}", "real"),
        "H3": gain(two, f"real+PIG_{n}", best),
    }
    verdicts = {}
    for name, (estimate, low, high) in found.items():
        claim, bound, side = HYPOTHESES[name]
        holds = estimate <= bound if side == "at most" else estimate >= bound
        verdicts[name] = dict(claim=claim, bound=bound, side=side, estimate=estimate, interval=[low, high], holds=holds)
    return verdicts | {"H3": verdicts["H3"] | {"best": best}}


def show(table: int, rows: dict[str, dict[str, list[float]]]) -> str:
    """Mean ± standard deviation of each row; of Table 2 in percent, with the paired gain in Dice over real only."""
    keys = [key for key in (DISTANCES if table == 1 else (*SCORES, "fresh_dice")) if any(key in row for row in rows.values())]
    scale, digits = (1, 3) if table == 1 else (100, 1)
    lines = [f"{'':33}" + "".join(f"{key:>17}" for key in keys) + ("" if table == 1 else "   gain in Dice (95 %)")]
    for name, row in rows.items():
        cells = [scale * np.array(row.get(key, [])) for key in keys]
        means = [f"{c.mean():9.{digits}f}" if c.size else "" for c in cells]
        spreads = [f" ± {c.std(ddof=1):5.{digits}f}" if c.size > 1 else "" for c in cells]
        line = f"{name:33}" + "".join(f"{mean + spread:17}" for mean, spread in zip(means, spreads))
        if table == 2 and name != "real" and "real" in rows and len(row["dice"]) > 2:
            mean, low, high = (100 * v for v in gain(rows, name, "real"))
            line += f"   {mean:+.1f} ({low:+.1f}..{high:+.1f})"
        lines.append(line)
    counts = sorted({len(row[keys[0]]) for row in rows.values()})
    return "\n".join([*lines, f"mean ± standard deviation over {' or '.join(map(str, counts))} values"])


def sample_sheet(workshop: Workshop, columns: int = 8) -> Figure:
    """The first samples of every method in the first fold, equal seeds in a column, each with its mask's outline."""
    fold, sources = workshop.folds[0], [s for s in sources_1(workshop.protocol) if s in METHODS]
    found = {"real": fold.train} | {s: workshop.samples(fold, s, columns) for s in sources}
    height, width = workshop.protocol.size
    fig, axes = plt.subplots(len(found), columns, figsize=(columns + 1.3, len(found) * height / width), layout="constrained")
    for row, (source, pairs) in zip(axes, found.items()):
        for i, ax in enumerate(row):
            plot.show_slice(ax, pairs.images[i, 0], pairs.masks[i, 0] * 2.0 - 1)
        row[0].set_ylabel(source, rotation=0, ha="right", va="center", fontsize=8)
    return fig
