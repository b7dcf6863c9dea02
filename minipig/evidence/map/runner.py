"""`minipig map`: when do pairs pay? And `minipig causes`, its pilot: what makes them pay?

OUT/seed_S/NAME/fold_0.json  the records of a seed and an experiment, for resuming
OUT/map.json                 {"dice": {source: {patients: {seed: ...}}}, "hypotheses", ...}
OUT/map.png                  the gains as a figure
OUT/causes.json              {"effects": [...], "rows": {SETUP/SOURCE: {seed: ...}}, "provenance"}
"""

from pathlib import Path
from typing import Iterable

import torch

from minipig.data.files import write_figure, write_json
from minipig.evidence.map import causes, patients
from minipig.evidence.map.cells import Cell, compute
from minipig.evidence.map.drawing import map_figure
from minipig.evidence.tables.runner import provenance


def run_map(
    out: Path,
    work: Path,
    device: torch.device,
    counts: list[int] | None = None,
    seeds: list[int] | None = None,
) -> dict:
    """Make the missing records of these cells (default: all); print, draw and write what all say.

    Raises ValueError for an unknown number of patients or seed.
    """
    check("--patients", counts, patients.PATIENTS)
    check("--seeds", seeds, patients.SEEDS)
    chosen = patients.cells(tuple(counts or patients.PATIENTS), tuple(seeds or patients.SEEDS))
    compute(list(chosen.values()), out, work, device)
    made = patients.cells()
    dice = patients.collected(out, work, made)
    result = {"dice": dice, "hypotheses": patients.judged(dice)}
    result |= {"provenance": origins(made.values(), out, work, device)}
    write_json(out / "map.json", result)
    write_figure(out / "map.png", map_figure(dice))
    print(patients.map_text(dice))
    return result


def run_causes(out: Path, work: Path, device: torch.device, seeds: list[int] | None = None) -> dict:
    """Make the missing records of these seeds (default: all); print and write what all say.

    Raises ValueError for an unknown seed.
    """
    check("--seeds", seeds, causes.SEEDS)
    compute(causes.cells(tuple(seeds or causes.SEEDS)), out, work, device)
    made = causes.cells()
    rows = causes.collected(out, work, made)
    effects = causes.effects(rows)
    result = {"effects": effects, "rows": rows, "provenance": origins(made, out, work, device)}
    write_json(out / "causes.json", result)
    print(causes.effects_text(effects))
    return result


def check(option: str, given: list[int] | None, known: tuple[int, ...]) -> None:
    """Raise ValueError for a number that is not known."""
    if unknown := sorted(set(given or ()) - set(known)):
        choices = ", ".join(map(str, known))
        raise ValueError(f"{option} cannot be {unknown[0]}; choose from {choices}")


def origins(cells: Iterable[Cell], out: Path, work: Path, device: torch.device) -> dict:
    """Where the numbers come from; the seconds are those of all cells."""
    return provenance(*(cell.experiment(out, work, device) for cell in cells))
