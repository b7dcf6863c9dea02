"""python -m minipig lab: every guide rule, walk and network at equal budget, first in exact worlds, then trained; ranked.

An idea is a small class (rules.py). The exact worlds say in seconds whether an ideal model_y would do right by it; a short
training says whether a small network can; the ranking says where it stands. The trained part is the phantom protocol of the
tables, a fold for each seed, so that what the tables have trained is not trained again if they share their work folder.
`enter("mine", Mine)` and then `run_lab(..., names=["mine", "clean"])` does all that for a rule from outside the package.

OUT.json        {"rows": {name: {"exact": {world: {steps: total variation}}, "fd": [one a seed], "fd_lesion": ...,
                "agreement": ..., "dice": ..., "parameters": ..., "calls": ..., ...}}, "provenance": ...}; the best first
OUT/fold_K.json the records of seed K, from which an interrupted run goes on; OUT/samples.png: equal noise, side by side
"""

from dataclasses import asdict, dataclass
from inspect import getmembers, getsource, isfunction
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from .. import plot
from ..files import write_json
from ..guider import Clean, Denoiser, GuideRule
from ..mixtures import Mixture, lattice
from ..rules import RULES, asked, loss_of
from ..run import claim_folder
from ..sampler import SOLVERS, PairModel, State, corrected, walk
from ..schedule import Schedule
from ..train import Training
from . import pig, swapped, two_heads
from .likeness import measure
from .methods import METHODS, NETWORKS, Method, Network, paired
from .metrics import score_pairs, train_segmenter
from .protocol import Fold, Protocol
from .start import Start, signs
from .tables import SHOWN, provenance, sheet
from .units import digest
from .usefulness import TEST, many
from .workshop import Workshop

MEASURES = {"fd": -1, "fd_lesion": -1, "agreement": 1, "dice": 1}  # of a trained variant, and which way is better

# ---- exact worlds: one pixel each, slices normal about a function of the mask


def column(*values: float) -> Tensor:
    """Pixels (B, 1, 1, 1), float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


WORLDS = {
    "binary": Mixture(column(-1, 1), column(0.8, 0.2).flatten(), lambda u: u, spread=0.3),
    "three levels": Mixture(column(-1, 0, 1), column(0.3, 0.4, 0.3).flatten(), lambda u: u**2, spread=0.3),
}
STEPS = (16, 64)
FIFTHS = 5


def total_variation(world: Mixture, last: State) -> float:
    """Between the pairs at the end of a walk and the true ones, 0 to 1; a pair counts by its mask's level and by the fifth of
    that level's slices in which its slice lies."""
    level = (last.x0_hat.flatten(1) - world.levels.flatten()).abs().argmin(1)
    rank = torch.special.ndtr((last.y0_hat.flatten() - world.means.flatten()[level]) / world.spread)
    cell = level * FIFTHS + (rank * FIFTHS).long().clamp(max=FIFTHS - 1)
    found = torch.bincount(cell, minlength=len(world.levels) * FIFTHS) / len(cell)
    return (found - world.prior.repeat_interleave(FIFTHS) / FIFTHS).abs().sum().item() / 2


def exact_verdict(rule: GuideRule, steps: int, starts: int = 20) -> dict[str, float]:
    """The total variation that is left in each world, where an ideal model_y has learnt what `rule` shows in training and is
    asked what it shows in sampling: starts^2 walks of so many steps, from equally likely noise."""
    found = {}
    for name, world in WORLDS.items():
        pair = world.pair(rule)
        pair.model_y = asked(rule, pair.model_y)
        *_, last = walk(pair, *lattice(starts), Schedule().grid(steps), clip=False)
        found[name] = round(total_variation(world, last), 4)
    return found


# ---- variants: a rule, a walk, or a network that is not the default; all else is


def by_rule(rule: GuideRule):
    """How pairs are drawn under a guide rule, by both chains at once."""

    def draw(guider: Denoiser, model_y: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
        return pig.draw(guider, asked(rule, model_y), start, rule)

    return draw


def with_corrections(guider: Denoiser, model_y: Denoiser, start: Start) -> tuple[Tensor, Tensor]:
    """The default rule on the corrected walk."""
    pair, grid = PairModel(guider, model_y, Schedule(), Clean()), Schedule().grid(start.steps)
    with torch.no_grad():
        x_T, y_T = (start.noise((1, *start.size)) for _ in range(2))
        *_, last = corrected(pair, x_T, y_T, grid, start.noise)
    return signs(last.x0_hat), last.y0_hat


@dataclass(frozen=True)
class Variant:
    """draw(*networks, start) -> (masks ±1, slices); calls of a network a step; version: that of a rule which may change."""

    networks: tuple[str, ...]
    draw: Callable[..., tuple[Tensor, Tensor]]
    calls: int = 2
    version: str = ""

    def source(self, name: str, solver: str) -> str:
        """What its samples are called."""
        return f"{name}{self.version}@{solver}"


VARIANTS = {
    "sequential": Variant(METHODS["SegGuidedDif-newmasks"].networks, METHODS["SegGuidedDif-newmasks"].draw),
    "finished": Variant(METHODS["PIG-finished"].networks, METHODS["PIG-finished"].draw, calls=3),
    "corrected": Variant(("guider", "model_y-clean"), with_corrections, calls=4),
    "swapped": Variant(("model_y-noisy", "mask-by-slice"), swapped.draw),
    "joint": Variant(("joint",), METHODS["joint"].draw, calls=1),
    "two-heads": Variant(("two-heads",), two_heads.draw),
}

LAB_NETWORKS = NETWORKS | {
    "mask-by-slice": Network(paired, swapped.mask_loss),
    "two-heads": Network(two_heads.TwoHeads, two_heads.loss),
}


def enter(name: str, rule: type[GuideRule], trained_as: str | None = None, version: str | None = None) -> None:
    """A guide rule into the lab under a new `name`, a row of its own from now on; entered again, it takes its own place.

    rule: a class, of which rule() is a guide rule. trained_as: the rule in the lab whose model_y it shares, if it only
    samples apart. version: None is a hash of the rule's methods and attributes, so that a rule that has been changed is
    trained and measured anew. Raises ValueError for the name of what the package brings, a rule that is not there to be
    shared, or one whose source cannot be read.
    """
    if name in VARIANTS and not VARIANTS[name].version:
        raise ValueError(f"{name} is in the package already; give your rule another name")
    if trained_as is not None and trained_as not in RULES:
        raise ValueError(f"there is no rule {trained_as} to share model_y with; there are {', '.join(RULES)}")
    version = fingerprint(rule) if version is None else version
    network = VARIANTS[trained_as].networks[1] if trained_as else f"model_y-{name}{version}"
    LAB_NETWORKS.setdefault(network, Network(paired, loss_of(rule()), ("guider",), guided=True))
    RULES[name] = rule
    VARIANTS[name] = Variant(("guider", network), by_rule(rule()), 3 if hasattr(rule, "asks") else 2, version)


def fingerprint(rule: type[GuideRule]) -> str:
    """A short hash of the source of a rule's methods, and of the attributes of rule()."""
    try:
        methods = {of: getsource(method) for of, method in getmembers(rule, isfunction)}
    except OSError as error:
        raise ValueError(
            f"the source of {rule.__name__} cannot be read; give a version, and a new one with each change"
        ) from error
    values = {of: repr(value) for of, value in getmembers(rule()) if not of.startswith("__") and not callable(value)}
    return "-" + digest(methods | values)[:6]


for _name, _rule in tuple(RULES.items()):
    enter(_name, _rule, {"sign": "clean", "dithered": "clean", "binarised": "matched"}.get(_name), version="")


def lab_methods(solver: str, steps: int) -> dict[str, Method]:
    """Every variant as a method of the workshop, all on one solver."""
    return {v.source(name, solver): Method(v.networks, v.draw, solver, steps) for name, v in VARIANTS.items()}


def alone(workshop: Workshop, fold: Fold, source: str) -> dict:
    """The record of a segmenter that has learnt from a variant's samples alone: its scores on many fresh phantoms."""
    p = workshop.protocol
    own = dict(source=workshop.samples_key(fold, source), measured=p.measured, steps=p.segmenter_steps, test=p.test)
    own |= dict(batch=p.segmenter_batch, rate=p.segmenter_rate)
    name, key = f"alone/{source}", digest(own)
    if record := workshop.records[fold.number].find(name, key):
        return record
    pairs = workshop.samples(fold, source, p.measured)

    def work() -> dict:
        training = Training(p.segmenter_steps, p.segmenter_batch, p.segmenter_rate, seed=fold.number)
        net = train_segmenter(pairs, training, workshop.device, label=f"seed {fold.number}: segmenter on {source}")
        return score_pairs(net, many(p.test, p.size, TEST))

    return workshop.records[fold.number].make(name, key, work)


# ---- the lab


def run_lab(
    out: Path,
    work: Path,
    device: torch.device,
    protocol: Protocol = Protocol(),  # noqa: B008
    seeds: list[int] | None = None,
    names: list[str] | None = None,
    quick: bool = False,
    solver: str = "ddim",
) -> dict:
    """Do what is not yet recorded of these seeds and variants (None: all), write `out`, and print the ranking.

    quick: the exact worlds alone. Raises ValueError for an unknown seed or variant.
    """
    names, seeds = names or [*VARIANTS], [0, 1, 2] if seeds is None else seeds
    if unknown := set(names) - set(VARIANTS):
        raise ValueError(f"the lab has no {', '.join(sorted(unknown))}; it has {', '.join(VARIANTS)}")
    if not set(seeds) <= set(range(protocol.folds)):
        raise ValueError(f"seeds run from 0 to {protocol.folds - 1}, not {', '.join(map(str, seeds))}")
    rules = [name for name in names if name in RULES]
    rows: dict[str, dict] = {name: {} for name in (rules if quick else names)}
    for name in tqdm(rules, desc="exact worlds", unit="rule", disable=None, leave=False):
        verdicts = {S: exact_verdict(RULES[name](S) if name == "previous" else RULES[name](), S) for S in STEPS}
        rows[name]["exact"] = {world: {str(S): verdicts[S][world] for S in STEPS} for world in WORLDS}
    folder, methods = out.with_suffix(""), lab_methods(solver, SOLVERS[solver]["steps"])
    workshop = Workshop(protocol, folder, work, device, methods, LAB_NETWORKS)
    if not quick:
        claim_folder(folder, asdict(protocol) | {"solver": solver})
        todo = [(workshop.folds[k], name) for k in seeds for name in names]
        for fold, name in tqdm(todo, desc="training", unit="variant", disable=None):
            source = VARIANTS[name].source(name, solver)
            record = measure(workshop, fold, source) | {"dice": alone(workshop, fold, source)["dice"]}
            for key in (*MEASURES, "nearer"):
                rows[name].setdefault(key, []).append(record[key])
        first = workshop.folds[seeds[0]]
        drawn = {name: workshop.samples(first, VARIANTS[name].source(name, solver), SHOWN) for name in names}
        plot.save(sheet({"real": first.train} | drawn), folder / "samples.png")
        for name in names:
            rows[name] |= costs(workshop, first, name, VARIANTS[name].source(name, solver))
    result = {"rows": ranked(rows), "provenance": provenance(workshop)}
    write_json(out, result)
    print(show(result["rows"]))
    return result


def costs(workshop: Workshop, fold: Fold, name: str, source: str) -> dict[str, float]:
    """Parameters of a variant's networks, calls of a network for a pair, and seconds of training and of drawing a pair."""
    method, records = workshop.methods[source], workshop.records[fold.number]
    for net in method.networks:
        if not records.find(f"network/{net}", workshop.network_key(fold, net)):
            workshop.network(fold, net)  # trained for other results: its record lies beside its weights
    nets, drawing = [records.units[f"network/{net}"] for net in method.networks], records.units.get(f"samples/{source}")
    return dict(
        parameters=sum(net["parameters"] for net in nets),
        calls=VARIANTS[name].calls * method.steps,
        training_seconds=round(sum(net["seconds"] for net in nets), 1),
        seconds_a_pair=round(drawing["seconds"] / drawing["drawn"], 3) if drawing else None,
    )


def ranked(rows: dict[str, dict]) -> dict[str, dict]:
    """The rows, best first: by the mean of their ranks in each of MEASURES, of the mean over seeds; untrained ones by their
    total variation."""
    if all(key in row for row in rows.values() for key in MEASURES):
        values = [[sign * np.mean(row[key]) for row in rows.values()] for key, sign in MEASURES.items()]
        score = np.mean([stats.rankdata([-v for v in column]) for column in values], axis=0)
    else:
        score = [
            np.mean([list(tv.values())[-1] for tv in row["exact"].values()]) if "exact" in row else np.inf
            for row in rows.values()
        ]
    return {name: rows[name] for _, name in sorted(zip(score, rows))}


def show(rows: dict[str, dict]) -> str:
    """The ranking: total variation in the exact worlds at most steps, mean ± standard error of the trained, and costs."""
    lines = [["", *(f"exact, {world}" for world in WORLDS), *MEASURES, "nearer", "calls", "parameters"]]
    for name, row in rows.items():
        exact = [f"{row['exact'][world][str(STEPS[-1])]:.3f}" if "exact" in row else "" for world in WORLDS]
        cells = [np.array(row.get(key, [])) for key in (*MEASURES, "nearer")]
        trained = [f"{c.mean():.3f}" + (f" ± {stats.sem(c):.3f}" if c.size > 1 else "") if c.size else "" for c in cells]
        lines.append([name, *exact, *trained, *(f"{row[key]:,}" if key in row else "" for key in ("calls", "parameters"))])
    lines = list(zip(*(column for column in zip(*lines) if any(column[1:]))))  # no column without a value
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if i == 0 else '>'}{w}}" for i, (cell, w) in enumerate(zip(line, widths))) for line in lines
    )
