"""`minipig map`: when do pairs pay? Gains in Dice by number of patients, for every method.

OUT/seed_S/patients_N/fold_0.json  the records of a seed and N patients, for resuming;
                                   patients_N_steps_M: of segmenters that take M steps
OUT/map.json                       {"dice": {source: {patients: {seed: ...}}}, "hypotheses",
                                   "provenance", "protocols": the settings by folder, of its
                                   last seed}
OUT/map.png                        the gains as a figure
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from minipig.data.files import locked, write_figure, write_json
from minipig.evidence.map.cells import Cell, compute, recorded
from minipig.evidence.map.design import (
    BENT_MASKS,
    BESIDE,
    CLASSICAL,
    COMPANIONS,
    GENERATORS,
    LARGER,
    PATIENTS,
    SEEDS,
    SHORT,
    cells,
    short_cells,
    shorter,
)
from minipig.evidence.map.figure import map_figure
from minipig.evidence.map.verdicts import difference, gains, judged
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.runner import check, provenance
from minipig.evidence.tables.text import columns, points


def collected(made: dict[tuple, tuple[Cell, Experiment]]) -> dict[str, dict]:
    """The Dice on test phantoms, mean of the segmenters: {source: {patients: {seed: Dice}}}.

    made: by (patients, seed, steps of the segmenters or None).
    """
    values: dict[str, dict] = {}
    for (count, seed, steps), (cell, experiment) in made.items():
        for source, value in recorded(cell, experiment).items():
            if "dice" in value:
                row = values.setdefault(shorter(steps) if steps else source, {})
                row.setdefault(str(count), {})[str(seed)] = float(np.mean(value["dice"]))
    return values


def map_text(values: dict) -> str:
    """Gains by number of patients, in points of Dice, then the hypotheses.

    Where a replica is missing, their number stands in the place of an interval.
    """
    text = []
    known = [count for count in PATIENTS if any(str(count) in row for row in values.values())]
    tables = {
        "over real": [
            (name, name, "real") for name in ("fresh", *CLASSICAL, *GENERATORS, *BENT_MASKS)
        ],
        "over classical": [(name, name, "classical") for name in (*LARGER, *BESIDE)],
        "shorter over real": [(name, name, "real") for name in map(shorter, SHORT)],
        "beside the hypotheses": [(f"{name} over {base}", name, base) for name, base in COMPANIONS],
    }
    for title, rows in tables.items():
        lines = [[f"{title}, by patients", *map(str, known)]]
        for label, source, base in rows:
            row = gains(values, base, (source,)).get(source, {})
            line = [label]
            for count in known:
                seeds = len(difference(values, source, base, count))
                told = points(*row[str(count)]) if seeds else ""
                if 0 < seeds < len(SEEDS):  # too few to say how sure
                    told = f"{told.split()[0]} [{seeds}]"
                line.append(told)
            if row:
                lines.append(line)
        text += [*columns(lines), ""] if len(lines) > 1 else []
    if any("[" in line for line in text):
        text.append(f"[n]: n of {len(SEEDS)} replicas so far")
    for name, found in judged(values).items():
        judged_at = found["patients"] | found["so_far"]
        parts = [
            f"{points(part['estimate'], *part['interval'])} over {part['over']} at {count}"
            + ", other rivals missing" * (count in found["so_far"])
            for count, part in judged_at.items()
        ]
        told = f"{name} {found['claim']}, at least {100 * found['bound']:.2f}: "
        text.append(told + "; ".join([*parts, found["verdict"]]))
    return "\n".join(text)


def run_map(
    out: Path,
    work: Path,
    device: torch.device,
    counts: list[int] | None = None,
    seeds: list[int] | None = None,
    sources: list[str] | None = None,
) -> dict:
    """Make the missing records of these cells and sources (default: all).

    Print, draw and write what all records say. Raises ValueError for an unknown number of patients,
    seed or source.
    """
    check("--patients", counts, PATIENTS)
    check("--seeds", seeds, SEEDS)
    seeds = tuple(seeds or SEEDS)
    chosen = [*cells(tuple(counts or PATIENTS), seeds).values()]
    short = short_cells(seeds).items()
    chosen += [cell for (count, *_), cell in short if count in (counts or PATIENTS)]
    check("--rows", sources, [name for name, _ in chosen[0].rows])
    if sources is not None:
        rows = [tuple(row for row in cell.rows if row[0] in sources) for cell in chosen]
        chosen = [replace(cell, rows=some) for cell, some in zip(chosen, rows) if some]
    compute("map", chosen, out, work, device)
    with locked(out / "map.json", wait=True):  # the last to write has read all records
        whole = {(*key, None): cell for key, cell in cells().items()} | short_cells()
        made = {key: (cell, cell.experiment(out, work, device)) for key, cell in whole.items()}
        dice = collected(made)
        result = {"dice": dice, "hypotheses": judged(dice)}
        result["provenance"] = provenance(*(experiment for _, experiment in made.values()))
        result["protocols"] = {cell.name: cell.protocol.written() for cell, _ in made.values()}
        write_json(out / "map.json", result)
        write_figure(out / "map.png", map_figure(dice))
    print(map_text(dice))
    return result
