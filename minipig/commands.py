"""What each command of the command line does; running.py runs it, and explains its errors."""

import argparse
import json
import os
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import torch

from minipig.course.copy import write_course
from minipig.course.files import data_samples
from minipig.data.checks import check_counts, check_seed
from minipig.data.files import claim_folder, files_in, write_json
from minipig.data.layouts import LAYOUTS, Layout
from minipig.data.phantoms import phantoms
from minipig.data.prepare import prepare, summary
from minipig.evidence.bench.compare_solvers import run_solvers
from minipig.evidence.bench.completions import MASKS_A_SLICE, run_completions
from minipig.evidence.bench.runner import run_bench
from minipig.evidence.demo import Demo, run_demo
from minipig.evidence.judge import measure_agreement, train_judge
from minipig.evidence.lab.runner import LAB, run_lab
from minipig.evidence.lab.variants import enter
from minipig.evidence.map.causes import run_causes
from minipig.evidence.map.patients import run_map
from minipig.evidence.map.place import place_text
from minipig.evidence.novelty import measure_novelty
from minipig.evidence.tables.protocol import Protocol
from minipig.evidence.tables.runner import run_table
from minipig.extras.own_rules import find_rule, name_of, version_of
from minipig.extras.solvers import SOLVERS
from minipig.training.config import SETTINGS, Config, check_room, load_data
from minipig.training.film import write_film
from minipig.training.run import load_pair, load_start, quoted, train_pair, weights_of
from minipig.training.sampling import draw_figures, figures_are_current, sample_folder, shows
from minipig.training.speed import Speed, check_parts
from minipig.worlds.verdict import BESIDE

HOLDOUT = 0.1  # share of the patients that train keeps out
MEASURED = ("novelty.json", "nearest.png", "agreement.json")  # of all pairs of a sample folder
# what --quick chooses, unless an option says another
QUICK = dict(preset="tiny", steps=270, synthetic=64, solver="quick", sampling_steps=15)


def given(args: argparse.Namespace, kind: type) -> dict:
    """The options that are fields of a dataclass, without those that are not given."""
    found = {field.name: getattr(args, field.name, None) for field in fields(kind)}
    return {name: value for name, value in found.items() if value is not None}


def pair_config(args: argparse.Namespace) -> Config:
    """The configuration of demo and train: the preset's settings, changed by the options."""
    options = given(args, Config)
    if args.command == "train":
        options = {"holdout": HOLDOUT} | options
    return Config(**SETTINGS[options.get("preset", Config.preset)] | options)


# each command returns the folders that its report shows, or nothing


def demo(args: argparse.Namespace, device: torch.device) -> list[Path]:
    out = args.out or Path("runs/quick" if args.quick else "runs/demo")
    if args.quick:
        for name, value in QUICK.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
    run_demo(out, Demo(pair_config(args), **given(args, Demo)), device)
    metrics = "" if args.quick else " metrics.json,"
    pictures = "samples.png, figure_3.png, method.png"
    print(f"results in {out}: synthetic/, {pictures},{metrics} config.json")
    return [out, out / "pair"]


def train(args: argparse.Namespace, device: torch.device) -> list[Path]:
    start, args.start = args.start and load_start(args.start), None
    config = start.go_on(**given(args, Config)) if start else pair_config(args)
    if args.pairs is not None and config.data != "phantom":
        raise ValueError("--pairs is a number of phantoms; leave it out: the run has a folder")
    find_rule(config.rule)  # raises before data are read
    check_counts(1, accumulate=args.accumulate)
    check_parts(config.batch, args.accumulate)  # raises before anything is written
    out = args.out or Path("runs") / Path(config.data).name
    check_room(config)
    pairs, held_out = load_data(config)
    kept = f" (and {len(held_out)} held out)" if held_out else ""
    height, width = config.size
    deformed = f" and {config.deformed:,} deformed ones" if config.deformed else ""
    print(f"{pairs.counted}{kept}{deformed} at {height}x{width}")
    for note in pairs.notes:
        print(f"note: {note}")
    if held_out and not held_out.masks.any():
        none = f"none of the {len(held_out)} pairs held out has a lesion"
        remedy = "give another --seed, or a larger --holdout"
        print(f"note: {none}, so their losses tell nothing of lesions; {remedy}")
    low = args.format and args.format == "bfloat16"
    speed = Speed(args.accumulate, args.compile, low, recompute=args.recompute or None)
    train_pair(out, config, pairs, device, speed, held_out, start)
    print(f"next: minipig sample {quoted(out)}")
    return [out]


def sample(args: argparse.Namespace, device: torch.device) -> list[Path]:
    check_counts(1, n=args.n, batch=args.batch)
    check_counts(0, seed=args.seed)
    pair, config = load_pair(args.run, device, args.rule)
    solver = SOLVERS[args.solver]
    steps = solver.steps if args.sampling_steps is None else args.sampling_steps
    solver.levels(pair, steps)  # raises before anything is written
    if args.agreement and config.data != "phantom" and config.holdout == 0:
        raise ValueError("--agreement needs patients not trained on; train with --holdout 0.1")
    out = args.out or args.run / "samples"
    rule = args.rule or config.rule
    settings = dict(steps=steps, seed=args.seed, solver=args.solver, rule=name_of(rule))
    if version := version_of(rule):  # a file's, which may change
        settings["rule_version"] = version
    claim_folder(out, {"weights": weights_of(args.run)} | settings)
    how = (steps, args.seed, device)
    pairs = sample_folder(out, pair, args.n, config.size, *how, args.batch, args.solver)
    if not shows(out, pairs):
        measured = [name for name in MEASURED if (out / name).exists()]  # of other samples
        for name in measured:
            (out / name).unlink()
        if "agreement.json" in measured and not args.agreement:
            print(
                "note: the agreement was of other samples, and is removed; give --agreement again"
            )
    if not figures_are_current(out, pairs):
        draw_figures(out, pair, pairs, *how, args.solver)
    print(f"figures: {out}/samples.png, {out}/figure_3.png, {out}/method.png")
    if args.film:
        write_film(out / "film.gif", pair, config.size, *how, args.solver)
        print(f"film: {out}/film.gif")
    content = load_start(args.run).content
    if found := measure_novelty(out, pairs, config, content):
        write_json(out / "novelty.json", found)
    if args.agreement:
        place = args.run if os.access(args.run, os.W_OK) else out  # the run may be another user's
        judge, fresh = train_judge(config, device, place / "judge.ckpt", content=content)
        write_json(out / "agreement.json", measure_agreement(judge, pairs, fresh))
    return [out, args.run]


def prepare_folder(args: argparse.Namespace, device: torch.device) -> None:
    options = given(args, Layout)
    if not (args.layout or args.csv or {"images", "masks"} <= options.keys()):
        raise ValueError(f"give --images and --masks, --csv, or --layout {' or '.join(LAYOUTS)}")
    if args.layout and args.csv:
        raise ValueError("--csv says which images and masks; leave --layout out")
    known = LAYOUTS[args.layout] if args.layout else Layout()
    if args.label is not None:  # instead of the layout's own threshold
        known = replace(known, threshold=None)
    layout = replace(known, **options)
    print(summary(prepare(args.src, args.out, layout), args.out))
    print(f"report: {args.out}/report.json; some pairs: {args.out}/contact.png")
    print(f"next: minipig train --data {quoted(args.out)}")


def draw_phantoms(args: argparse.Namespace, device: torch.device) -> None:
    check_counts(0, seed=args.seed)
    check_seed(args.seed)
    if (args.out / "manifest.csv").exists():
        raise ValueError(f"{args.out} contains pairs; give a new --out")
    pairs = phantoms(args.n, args.size, args.seed)
    # an interrupted command can be repeated
    ours = {args.out / part / name for part in ("images", "masks") for name in pairs.names}
    if others := sorted(set(files_in(args.out)) - ours):
        raise ValueError(f"{args.out} contains other files, such as {others[0]}; give a new --out")
    pairs.save(args.out)
    print(f"{args.n} phantoms in {args.out}")


def table(args: argparse.Namespace, device: torch.device) -> list[Path]:
    out = args.out or Path("runs/tables") / Path(args.data).name
    settings = given(args, Protocol)
    settings.pop("folds", None)  # the option says which folds, the protocol how many
    protocol = Protocol(**settings)
    number = int(args.command[-1])
    work = args.work or out / "work"
    result = run_table(number, protocol, out, work, device, args.folds, args.rows)
    if number == 2 and not protocol.phantom:
        with suppress(FileNotFoundError):  # minipig was installed without its course
            known = json.loads(data_samples("results/map/map.json").read_text())["dice"]
            print(place_text(known, result["provenance"]["patients"]))
    print(f"written to {out}/{args.command}.json")
    return [out]


def patients(args: argparse.Namespace, device: torch.device) -> None:
    work = args.work or args.out / "work"
    run_map(args.out, work, device, args.patients, args.seeds, args.rows)
    print(f"written to {args.out}/map.json and map.png")


def causes(args: argparse.Namespace, device: torch.device) -> None:
    run_causes(args.out, args.work or args.out / "work", device, args.seeds)
    print(f"written to {args.out}/causes.json")


def lab(args: argparse.Namespace, device: torch.device) -> None:
    rows = args.rows
    if args.rule:
        rule = find_rule(args.rule)
        name = name_of(args.rule)
        if version := version_of(args.rule):  # a file
            enter(name, rule, version)
        rows = [name, *(rows or BESIDE)]
    work = args.work or args.out.with_suffix("") / "work"
    options = dict(seeds=args.seeds, names=rows, quick=args.quick, solver=args.solver)
    run_lab(args.out, work, device, replace(LAB, schedule=args.schedule), **options)
    print(f"written to {args.out}")


def bench(args: argparse.Namespace, device: torch.device) -> None:
    kind = "solvers" if args.solvers else "completions" if args.completions else "bench"
    out = args.out = args.out or Path("runs") / f"{kind}.json"
    folder = out.with_suffix("")
    if folder == out or out.is_dir():
        raise ValueError(f"--out must be a file, such as {folder}.json, not {out}")
    told = {"--quick": args.quick, "-n": args.n is not None, "--seeds": args.seeds is not None}
    taken = {"bench": ["--quick"], "solvers": ["-n", "--seeds"], "completions": ["-n"]}[kind]
    if idle := [name for name in told if told[name] and name not in taken]:
        what = "the bench itself" if kind == "bench" else f"--{kind}"
        raise ValueError(f"{what} has no use for {' and '.join(idle)}; leave that out")
    n = args.n if args.n is not None else 400 if args.solvers else 100
    seeds = args.seeds if args.seeds is not None else 3
    if args.solvers:
        run_solvers(out, args.solvers, n, seeds, device, folder)
    elif args.completions:
        run_completions(out, args.completions, n, MASKS_A_SLICE, device, folder)
    else:
        run_bench(out, args.quick, device)
    print(f"written to {out}")


def course(args: argparse.Namespace, device: torch.device) -> None:
    if args.html:
        try:
            from minipig.course.site import write_site
        except ModuleNotFoundError as error:
            missing = error.name.partition(".")[0]
            what = f"--html needs {missing}; install it: pip install {missing}"
            raise ValueError(what) from error
        print(f"{write_site(args.folder)} files; open {args.folder / 'index.html'} in a browser")
        return
    answers = args.solutions or not args.student
    written, kept = write_course(args.folder, args.student, answers)
    print(f"{written} files written to {args.folder}" + (f", {kept} kept" if kept else ""))
    print(f"open the course: jupyter lab {args.folder / 'notebooks'}, and begin with 00")
    print("notebook 10 also needs: pip install diffusers pydicom")


COMMANDS = {
    "demo": demo,
    "train": train,
    "sample": sample,
    "prepare": prepare_folder,
    "phantoms": draw_phantoms,
    "table1": table,
    "table2": table,
    "map": patients,
    "causes": causes,
    "lab": lab,
    "bench": bench,
    "course": course,
}
