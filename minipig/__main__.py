"""The command line at work: python -m minipig demo | train | sample | prepare | phantoms | table1 | table2 | lab | bench."""

import argparse
import io
import os
import re
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import fields, replace
from pathlib import Path

import torch

from .claim import claim_folder
from .devices import pick_device, process_group, rank, together
from .evidence.bench import run_bench
from .evidence.completions import MASKS_A_SLICE, run_completions
from .evidence.demo import Demo, draw_figures, measure_agreement, run_demo, sample_folder
from .evidence.lab import run_lab
from .evidence.protocol import Protocol
from .evidence.solvers import run_solvers
from .evidence.tables import run_table
from .files import write_json
from .layouts import LAYOUTS, Layout
from .options import parser
from .phantoms import phantoms
from .prepare import prepare, told
from .run import SETTINGS, Config, load_data, load_pair, require, train_pair, weights_of
from .sampler import SOLVERS, grid_of
from .train import Speed


def pair_config(args: argparse.Namespace) -> Config:
    """The configuration that the options ask for; what is not given comes from the preset."""
    given = {f.name: getattr(args, f.name, None) for f in fields(Config)}
    return Config(**SETTINGS[args.preset] | {name: value for name, value in given.items() if value is not None})


def run_train(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig train`."""
    config = pair_config(args)
    out = args.out or Path("runs") / Path(config.data).name
    pairs, held_out = load_data(config)
    kept = f", {len(held_out)} held out" if held_out else ""
    height, width = config.size
    print(f"{len(pairs)} pairs of {len(set(pairs.patients))} patients at {height}x{width}{kept}")
    for note in pairs.notes:
        print(f"note: {note}")
    require(1, accumulate=args.accumulate)
    train_pair(out, config, pairs, device, Speed(args.accumulate, args.compile, False if args.float32 else None))
    print(f"done: python -m minipig sample {out}")


def run_sample(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig sample`."""
    require(1, n=args.n, batch=args.batch)
    require(0, seed=args.seed)
    pair, config = load_pair(args.run, device, args.rule)
    steps = SOLVERS[args.solver]["steps"] if args.steps is None else args.steps
    grid_of(pair.rule, pair.schedule, steps, args.solver)  # a bad number of steps is told before anything is written
    if args.agreement and config.data != "phantom" and config.holdout == 0:
        raise ValueError("--agreement needs held-out patients as its yardstick; train with --holdout 0.1 or more")
    out = args.out or args.run / "samples"
    how = {"steps": steps, "seed": args.seed, "solver": args.solver, "rule": args.rule or config.rule}
    claim_folder(out, {"weights": weights_of(args.run)} | how)
    pairs = sample_folder(out, pair, args.n, config.size, steps, args.seed, device, args.batch, args.solver)
    draw_figures(out, pair, pairs, steps, args.seed, device, args.solver)
    print(f"{out}/samples.png and {out}/figure_3.png show them")
    if args.agreement:
        write_json(out / "agreement.json", measure_agreement(config, pairs, device, args.run / "judge.ckpt"))


def run_main_job(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig demo`."""
    out = args.out or Path("runs/demo")
    run_demo(out, Demo(pair_config(args), args.synthetic, args.sampling_steps, args.solver), device)
    print(f"everything is in {out}: synthetic/, samples.png, figure_3.png, metrics.json, config.json")


def run_prepare(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig prepare`."""
    options = {f.name: getattr(args, f.name) for f in fields(Layout) if getattr(args, f.name) is not None}
    if not args.layout and not {"images", "masks"} <= options.keys():
        raise ValueError(f"give --images and --masks, or --layout {', '.join(LAYOUTS)}")
    chosen = replace(LAYOUTS[args.layout], **options) if args.layout else Layout(**options)
    print(told(prepare(args.src, args.out, chosen), args.out))
    print(f"{args.out}/report.json holds all of it, contact.png shows some; next: python -m minipig train --data {args.out}")


def run_phantoms(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig phantoms`."""
    require(0, seed=args.seed)
    if (args.out / "manifest.csv").exists():
        raise ValueError(f"{args.out} holds pairs already; give a new --out")
    phantoms(args.n, args.size, args.seed).save(args.out)
    print(f"{args.n} phantoms in {args.out}")


def run_tables(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig table1` and `minipig table2`."""
    out = args.out or Path("runs/tables") / Path(args.data).name
    given = ("data", "pairs", "size", "steps", "deformed", "seed", "judge_seed")
    protocol = Protocol(**{name: getattr(args, name) for name in given})
    run_table(int(args.command[-1]), protocol, out, args.work or out / "work", device, args.folds, args.rows)
    print(f"{out}/{args.command}.json holds it")


def run_the_lab(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig lab`."""
    work = args.work or args.out.with_suffix("") / "work"
    run_lab(args.out, work, device, seeds=args.seeds, names=args.rows, quick=args.quick, solver=args.solver)
    print(f"written to {args.out}")


def run_benchmark(args: argparse.Namespace, device: torch.device) -> None:
    """`minipig bench`."""
    kind = "solvers" if args.solvers else "completions" if args.completions else "bench"
    args.out = args.out or Path("runs") / f"{kind}.json"
    if (folder := args.out.with_suffix("")) == args.out or args.out.is_dir():
        raise ValueError(f"--out is a file, such as {folder}.json, not {args.out}")
    if kind == "solvers":
        run_solvers(args.out, args.solvers, 400 if args.n is None else args.n, args.seeds, device, folder)
    elif kind == "completions":
        run_completions(args.out, args.completions, 100 if args.n is None else args.n, MASKS_A_SLICE, device, folder)
    else:
        run_bench(args.out, args.quick, device)
    print(f"written to {args.out}")


COMMANDS = {
    "demo": run_main_job,
    "train": run_train,
    "sample": run_sample,
    "prepare": run_prepare,
    "phantoms": run_phantoms,
    "table1": run_tables,
    "table2": run_tables,
    "lab": run_the_lab,
    "bench": run_benchmark,
}


def explain(error: Exception, args: argparse.Namespace) -> str:
    """One line: what is wrong and what to do. Our own errors say so themselves."""
    if isinstance(error, (MemoryError, RuntimeError)):
        cures = {
            "train": "repeat the command with --accumulate 2 or more, or a smaller --size",
            "sample": "lower --batch, and repeat the command",
        }
        return f"the device ran out of memory; {cures.get(args.command, 'give a smaller --size or another --device')}"
    if isinstance(error, OSError) and error.errno is not None:  # from the system: a full disk, a read-only folder
        place = error.filename or args.out or "the output folder"
        out = "DST" if args.command == "prepare" else "--out"
        return f"{place}: {error.strerror}; what was saved is kept: mend this or change {out}, and repeat the command"
    return str(error).replace("\n", "\\n")  # there may be one in a file's name


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 2 and one line on standard error if the input does not allow it."""
    args = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        if together() and args.command != "train":
            raise ValueError(f"only train runs in several processes; start {args.command} without torchrun")
        device = pick_device(args.device)
        with process_group(device), open(os.devnull, "w") as nowhere:
            with redirect_stdout(nowhere) if rank()[0] > 0 else nullcontext():  # process 0 speaks
                COMMANDS[args.command](args, device)
    except (ValueError, OSError, FloatingPointError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|allocate memory", str(error)):
            raise  # not the input's fault
        print(f"minipig: {explain(error, args)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        afresh = args.command == "bench" and not (
            args.solvers or args.completions
        )  # a round of the benchmark is worth nothing in parts
        then = f"{args.out} keeps what was measured" if afresh else "repeat the same command to go on"
        print(f"minipig: stopped; {then}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
