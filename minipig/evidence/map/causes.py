"""`minipig causes`, the pilot of the map: what makes pairs pay, one change at a time.

OUT/seed_S/SETUP/fold_0.json  the records of a seed and a setup, for resuming
OUT/causes.json               {"effects": [...], "rows": {SETUP/SOURCE: {seed: ...}}, "provenance",
                              "protocols": {SETUP: the settings of its last seed}}
OUT/causes.png                the effects as a figure
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from matplotlib.figure import Figure

from minipig.data.files import locked, write_figure, write_json
from minipig.evidence.map.cells import Cell, compute, recorded
from minipig.evidence.methods.registry import METHODS
from minipig.evidence.metrics import interval
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.gains import differences_figure
from minipig.evidence.tables.hypotheses import INDEPENDENT
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.runner import check, provenance
from minipig.evidence.tables.text import columns, points

SEEDS = (21, 22, 23)
GENERATORS = ("SegGuidedDif", "PIG")  # one model_y; the masks of the first are training masks
# how generators are trained, where it is not as for the tables
SETUPS = {
    "as-tables": {},
    "deformed-3000": dict(deformed=8192, steps=3000),
    "3000": dict(steps=3000),
    "deformed": dict(deformed=8192),
    "deformed-6000": dict(deformed=8192, steps=6000),
    "others-2500": dict(deformed=8192, steps=3000, others=2100),
    "others-5000": dict(deformed=8192, steps=3000, others=4600),
    "deformed-9000": dict(deformed=8192, steps=9000),
}


@dataclass(frozen=True)
class Cause:
    """A change; what it changes, and what into: SETUP/SOURCE, where {} is each generator."""

    name: str
    before: str
    after: str

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(the generator, or the source if it is none; before; after), each with its setup."""
        names = GENERATORS if "{}" in self.before + self.after else [self.before.split("/")[1]]
        for name in names:
            yield name, self.before.format(name), self.after.format(name)


CAUSES = (
    # data and length
    Cause("3,000 steps for 1,000", "as-tables/{}", "3000/{}"),
    Cause("8,192 deformed pairs", "as-tables/{}", "deformed/{}"),
    Cause("3,000 steps, with these", "deformed/{}", "deformed-3000/{}"),
    Cause("6,000 for 3,000 steps", "deformed-3000/{}", "deformed-6000/{}"),
    Cause("9,000 for 3,000 steps", "deformed-3000/{}", "deformed-9000/{}"),
    Cause("told which are deformed", "deformed-3000/{}", "deformed-3000/{}-told"),
    Cause("2,500 phantoms for 400", "deformed-3000/{}", "others-2500/{}"),
    Cause("5,000 phantoms for 400", "deformed-3000/{}", "others-5000/{}"),
    # the samples
    Cause("samples mirrored", "deformed-3000/{}", "deformed-3000/{}-flipped"),
    Cause("samples deformed", "deformed-3000/{}", "deformed-3000/{}-deformed"),
    Cause(
        "deformed masks as well",
        "deformed-3000/SegGuidedDif",
        "deformed-3000/SegGuidedDif-bentmasks",
    ),
    Cause("samples of middle agreement", "deformed-3000/{}", "deformed-3000/{}-middle"),
    # how real and other pairs are mixed
    Cause("half of each batch real", "deformed-3000/{}", "deformed-3000/{}-half"),
    Cause("real pairs last", "deformed-3000/{}", "deformed-3000/{}-first"),
    Cause("half of each batch real", "deformed-3000/classical", "deformed-3000/classical-half"),
    Cause("real pairs last", "deformed-3000/classical", "deformed-3000/classical-first"),
    # the guide rule
    Cause("the rule sign", "deformed-3000/PIG", "deformed-3000/PIG-sign"),
    Cause("the rule matched", "deformed-3000/PIG", "deformed-3000/PIG-matched"),
    # beside classical augmentation
    Cause("a generator's as well", "deformed-3000/classical", "deformed-3000/classical+{}"),
    Cause("twice as many", "deformed-3000/classical", "deformed-3000/classical-more"),
)


def cells(seeds: tuple[int, ...] = SEEDS) -> list[Cell]:
    """Every experiment that the causes need, and real and fresh pairs beside them."""
    n = Protocol.synthetic
    sources: dict[str, list[str]] = {setup: list(GENERATORS) for setup in SETUPS}
    sources["deformed-3000"] += ["real", "fresh"]
    for cause in CAUSES:
        for _, *both in cause.rows():
            for setup, source in (place.split("/") for place in both):
                sources[setup].append(source)
    made = []
    counts = {"real": 0, "classical-more": 2 * n}
    for setup, names in sources.items():
        rows = tuple((name, counts.get(name, n)) for name in dict.fromkeys(names))
        # with deformed masks most of the samples that are judged would be SegGuidedDif's own
        judged = tuple(name for name, _ in rows if name in METHODS and not METHODS[name].bent_masks)
        for seed in seeds:
            made.append(Cell(setup, replace(Protocol(seed=seed), **SETUPS[setup]), rows, judged))
    return made


def collected(made: list[tuple[Cell, Experiment]]) -> dict[str, dict[str, dict]]:
    """What is recorded: {SETUP/SOURCE: {seed: {"dice": [...], "agreement": ..., ...}}}."""
    values: dict[str, dict[str, dict]] = {}
    for cell, experiment in made:
        for source, value in recorded(cell, experiment).items():
            values.setdefault(f"{cell.name}/{source}", {})[str(cell.protocol.seed)] = value
    return values


def effects(values: dict[str, dict[str, dict]]) -> list[dict]:
    """Of each cause and generator: Dice before and after, and their difference, paired by seed.

    {"cause", "of", "before", "after", "difference", "interval": 95 %, "by_seed": {seed: ...}}, over
    the seeds that have both, or no row if none has. The seeds share their test phantoms, so an
    interval, null for a single seed, is about other training patients and trainings alone.
    """
    rows = []
    for cause in CAUSES:
        for of, *both in cause.rows():
            before, after = (values.get(place, {}) for place in both)
            seeds = [s for s in before if "dice" in before[s] and "dice" in after.get(s, {})]
            if not seeds:
                continue
            old, new = (np.array([part[s]["dice"] for s in seeds]) for part in (before, after))
            ends = [*interval(new - old, INDEPENDENT)] if len(seeds) > 1 else None
            found = dict(cause=cause.name, of=of, before=old.mean(), after=new.mean())
            found |= dict(difference=(new - old).mean(), interval=ends)
            found["by_seed"] = dict(zip(seeds, (new - old).mean(1).tolist()))
            rows.append(found)
    return rows


def effects_text(rows: list[dict]) -> str:
    """The effects as a table, Dice in percent."""
    lines = [["", "of", "before", "after", "difference (95 %)", "seeds"]]
    for row in rows:
        change = points(row["difference"], *(row["interval"] or [np.nan] * 2))
        dice = [f"{100 * row[key]:.1f}" for key in ("before", "after")]
        lines.append([row["cause"], row["of"], *dice, change, str(len(row["by_seed"]))])
    text = columns(lines)
    text.append("intervals: given the test phantoms, which the seeds share")
    text.append(f"{len(rows)} differences: about one in twenty would seem certain by chance")
    return "\n".join(text)


def effects_figure(rows: list[dict]) -> Figure:
    """The effects as a figure."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        groups.setdefault(row["cause"], {})[row["of"]] = np.array([*row["by_seed"].values()])
    return differences_figure(groups, "seed", INDEPENDENT)


def run_causes(out: Path, work: Path, device: torch.device, seeds: list[int] | None = None) -> dict:
    """Make the missing records of these seeds (default: all); print and write what all say.

    Raises ValueError for an unknown seed.
    """
    check("--seeds", seeds, SEEDS)
    compute("causes", cells(tuple(seeds or SEEDS)), out, work, device)
    with locked(out / "causes.json", wait=True):  # the last to write has read all records
        made = [(cell, cell.experiment(out, work, device)) for cell in cells()]
        rows = collected(made)
        result = {"effects": effects(rows), "rows": rows}
        result["provenance"] = provenance(*(experiment for _, experiment in made))
        result["protocols"] = {cell.name: cell.protocol.written() for cell, _ in made}
        write_json(out / "causes.json", result)
        write_figure(out / "causes.png", effects_figure(result["effects"]))
    print(effects_text(result["effects"]))
    return result
