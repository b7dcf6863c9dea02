"""minipig lab: rank guide rules, walks and networks, in exact worlds and trained at equal budget.

The exact worlds say in seconds whether a rule is right for an ideal model_y; a short training says
whether it is for a small network. The training is the phantom protocol of the tables, one fold for
each seed, so that both can share networks in one work folder. For a rule of your own:
`variants.enter("mine", Mine, version="1")`, then `run_lab(..., names=["mine", "clean"])`.

OUT.json         {"rows": {name: row}, "provenance": ..., "verdicts": {rule: verdict.beside(...)}},
                 every recorded variant, the best first.
                 row: "exact" {world: {steps: total variation}}; "seeds", and for each seed one
                 "fd", "fd_lesion", "agreement", "dice", "nearer"; "parameters", "calls", ...
OUT/fold_K.json  the records of seed K, for resuming
OUT/samples.png  samples of equal seeds, of every variant whose samples are in WORK
"""

from pathlib import Path

import torch
from tqdm import tqdm

from minipig.data.files import write_figure, write_json
from minipig.evidence.lab.ranking import ranked, show, train_and_measure, trained_rows
from minipig.evidence.lab.variants import LAB_NETWORKS, VARIANTS, lab_methods
from minipig.evidence.tables.drawing import SHOWN, sheet
from minipig.evidence.tables.experiment import Experiment
from minipig.evidence.tables.protocol import Fold, Protocol
from minipig.evidence.tables.runner import check, provenance
from minipig.extras.solvers import SOLVERS
from minipig.rules import RULES
from minipig.schedule import Schedule
from minipig.worlds.verdict import BESIDE, STEPS, WORLDS, beside, built_in, show_verdict, verdict

# half of the tables' samples: each costs ten times as much, at 256 steps
LAB = Protocol(measured=256)


def run_lab(
    out: Path,
    work: Path,
    device: torch.device,
    protocol: Protocol = LAB,
    seeds: list[int] | None = None,
    names: list[str] | None = None,
    quick: bool = False,
    solver: str = "ddim",
) -> dict:
    """Make the missing records, write the ranking of all records to `out`, and print it.

    seeds: to work on now, default 0, 1, 2; names: variants to work on now, default all. quick: the
    exact worlds alone. Raises ValueError for an unknown seed or variant, data other than phantoms,
    an `out` without an ending, a rule for the steps of another solver, and a variant that samples
    no lesion.
    """
    possible = [name for name in VARIANTS if solver == "ddim" or name != "previous"]
    check("--rows", names, VARIANTS)
    check("--seeds", seeds, range(protocol.folds))
    names = list(dict.fromkeys(names or possible))
    seeds = sorted(set([0, 1, 2] if seeds is None else seeds))
    check_rules(names, solver)
    if not seeds:
        raise ValueError(f"--seeds is empty; choose from 0 to {protocol.folds - 1}")
    if not protocol.phantom:
        raise ValueError(f"the lab needs phantoms as data, not {protocol.data}")
    if not out.suffix:
        raise ValueError(f"--out must be a file, such as {out}.json, not {out}")
    folder = out.with_suffix("")
    methods = lab_methods(solver, SOLVERS[solver].steps)
    experiment = Experiment(protocol, folder, work, device, methods, LAB_NETWORKS)
    if not quick or (folder / "config.json").exists():
        experiment.claim(solver=solver)
    planned = names + list(trained_rows(experiment, solver))
    exact, verdicts = exact_verdicts(planned, protocol.noise_schedule)  # fails before any training
    if not quick:
        todo = [(experiment.folds[k], name) for k in seeds for name in names]
        for fold, name in tqdm(todo, desc="training", unit="variant", disable=None):
            train_and_measure(experiment, fold, name, VARIANTS[name].source(name, solver))
    rows = trained_rows(experiment, solver)
    draw_samples(experiment, experiment.folds[seeds[0]], rows, solver)
    known = [name for name in VARIANTS if name in rows or (name in names and name in RULES)]
    for name in known:
        rows[name] = exact.get(name, {}) | rows.get(name, {})
    result = {"rows": ranked(rows), "provenance": provenance(experiment) | {"solver": solver}}
    result["verdicts"] = {name: verdicts[name] for name in known if name in verdicts}
    write_json(out, result)
    print(show(result["rows"]))
    units = {name for records in experiment.records for name in records.units}
    measured = {name.removeprefix("measure/") for name in units if name.startswith("measure/")}
    if left := sorted(name.split("@")[0] for name in measured - methods.keys()):
        print(f"recorded, but not shown, of no --rule of this run: {', '.join(left)}")
    print(f"exact: the share of pairs that is wrong after {STEPS[-1]} steps (total variation)")
    print("±: the standard error over seeds, whose folds share patients (so it is somewhat small);")
    print("below, the sampling error of an exact verdict")
    for name in result["rows"]:
        if name in names and name in verdicts and name not in BESIDE:
            print(f"{name}:\n{show_verdict(verdicts[name])}")
    return result


def check_rules(names: list[str], solver: str) -> None:
    """Raise ValueError for a rule that is made for other steps than the lab's."""
    for name in set(names) & set(RULES):
        steps = getattr(RULES[name](), "steps", None)  # of ddim
        if steps is not None and (solver, steps) != ("ddim", SOLVERS["ddim"].steps):
            told = f"{name} is for {steps} steps of ddim; the lab takes {SOLVERS[solver].steps}"
            raise ValueError(f"{told} of {solver}; change the rule's, or --solver")


def draw_samples(experiment: Experiment, fold: Fold, rows: dict, solver: str) -> None:
    """Write samples.png, if WORK has samples of any row."""
    n = min(SHOWN, experiment.protocol.measured)
    drawn = {}
    for name in rows:
        source = VARIANTS[name].source(name, solver)
        if experiment.samples_path(fold, source).exists():
            drawn[name] = experiment.samples(fold, source, n)
    if drawn:
        figure = sheet({"real": fold.train} | drawn)
        write_figure(experiment.results / "samples.png", figure)


def exact_verdicts(names: list[str], schedule: Schedule) -> tuple[dict, dict]:
    """Two dictionaries by rule, without rules of several pixels: a row's "exact", and `beside`."""
    found = {}
    for name in tqdm(dict.fromkeys([*names, *BESIDE]), "exact worlds", disable=None, leave=False):
        kind = RULES.get(name)
        if kind and getattr(kind, "pixelwise", True):
            found[name] = {}
            for S in STEPS:
                if name in BESIDE and schedule == Schedule.linear():
                    found[name][S] = built_in(name, S)  # computed once
                    continue
                found[name][S] = verdict(kind(), S, schedule=schedule)
    last = {name: by_steps[STEPS[-1]] for name, by_steps in found.items()}
    others = {name: last[name] for name in BESIDE}
    exact, verdicts = {}, {}
    for name in (name for name in names if name in found):
        by_world = {w: {str(S): found[name][S][w][0] for S in STEPS} for w in WORLDS}
        exact[name] = {"exact": by_world}
        verdicts[name] = beside({"rule": last[name]} | others)
    return exact, verdicts
