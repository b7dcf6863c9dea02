"""`minipig causes`: what could make pairs pay, one change at a time.

OUT/seed_S/SETUP/fold_0.json  the records of a seed and a setup, for resuming
OUT/causes.json               {"effects": [...], "rows": {SETUP/SOURCE: {seed: ...}}, "provenance"}
"""

from pathlib import Path

import torch

from minipig.data.files import write_json
from minipig.evidence.map.causes import SEEDS, cells, collected, effects, effects_text
from minipig.evidence.map.cells import compute
from minipig.evidence.tables.runner import provenance


def run_causes(out: Path, work: Path, device: torch.device, seeds: list[int] | None = None) -> dict:
    """Make the missing records of these seeds (default: all); print and write what all say.

    Raises ValueError for an unknown seed.
    """
    if unknown := sorted(set(seeds or ()) - set(SEEDS)):
        known = ", ".join(map(str, SEEDS))
        raise ValueError(f"--seeds cannot be {unknown[0]}; choose from {known}")
    compute(cells(tuple(seeds or SEEDS)), out, work, device)
    made = cells()
    rows = collected(out, work, made)
    found = effects(rows)
    experiments = [cell.experiment(out, work, device) for cell in made]
    result = {"effects": found, "rows": rows, "provenance": provenance(*experiments)}
    write_json(out / "causes.json", result)
    print(effects_text(found))
    return result
