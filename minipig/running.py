"""Run one command: on its device, with a report, and one line for what stops it."""

import argparse
import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from minipig.commands import COMMANDS
from minipig.evidence.report import Both, write_report
from minipig.training.devices import (
    Terminated,
    pick_device,
    process_group,
    rank,
    several_processes,
    tell_torchrun,
    terminable,
)


class Lasting:
    """A stream of a command, which goes on when the stream can be written no more; it says so.

    Its reader may have gone, or its disk be full.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        return self._try(self.stream.write, text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, act, *text: str):
        try:
            return act(*text)
        except OSError as error:
            with open(os.devnull, "w") as nowhere:  # takes all that comes, and what is left inside
                os.dup2(nowhere.fileno(), self.stream.fileno())
            problem = f"the output cannot be written any more ({error.strerror})"
            print(f"minipig: {problem}; the command goes on without it", file=sys.stderr)
            return sum(map(len, text))

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def run(args: argparse.Namespace) -> int:
    """Run the command of `args`, whose `line` is the whole command line; its exit status."""
    with redirect_stdout(Lasting(sys.stdout)), redirect_stderr(Lasting(sys.stderr)):
        try:
            perform(args)
        except (ValueError, OSError, FloatingPointError, MemoryError, RuntimeError) as error:
            if not (told := explain(error, args)):
                raise
            if not tell_torchrun(f"minipig: {told}"):
                print(f"minipig: {told}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            then = "repeat the same command to resume"
            if args.command == "bench" and not (args.solvers or args.completions):
                then = f"what was measured is in {args.out}"
            print(f"minipig: stopped; {then}", file=sys.stderr)
            return 143 if isinstance(stop, Terminated) else 130
    return 0


def perform(args: argparse.Namespace) -> None:
    """Run the command, and write its report."""
    if several_processes() and args.command != "train":
        only = "only train runs in several processes"
        raise ValueError(f"{only}; start {args.command} without torchrun")
    if getattr(args, "data", None) not in (None, "phantom"):
        args.data = str(Path(args.data).resolve())  # one folder, however it is spelled
        if getattr(args, "pairs", None) is not None:
            raise ValueError("--pairs is a number of phantoms; leave it out with --data FOLDER")
    if ".py:" in (getattr(args, "rule", None) or ""):
        path, _, name = args.rule.rpartition(":")
        args.rule = f"{Path(path).resolve()}:{name}"
    device = pick_device(getattr(args, "device", None))
    said = Both(sys.stdout, io.StringIO())
    with terminable(), process_group(device), open(os.devnull, "w") as nowhere:
        with redirect_stdout(nowhere if rank()[0] > 0 else said):  # process 0 prints
            shown = COMMANDS[args.command](args, device)
            if shown and rank()[0] == 0:
                name = args.command if args.command.startswith("table") else "report"
                path = write_report(shown, args.line, said.text.getvalue(), f"{name}.html")
                print(f"report: {path}")


def explain(error: Exception, args: argparse.Namespace) -> str:
    """One line: what is wrong and what to do, as the package's own errors say; "" for a defect."""
    text = str(error)
    failed = isinstance(error, RuntimeError)  # inside torch
    if failed and getattr(args, "compile", False) and "compiler" in text.lower():
        return "--compile needs a C++ compiler (g++, or CXX); install one, or leave --compile out"
    short = failed and re.search("out of memory|allocate memory", text)
    if short or isinstance(error, MemoryError):
        remedy = "free memory, or use a larger machine"
        if short:  # of a batch, not of data
            smaller = {"train": "give --accumulate 2 or more", "sample": "give a lower --batch"}
            remedy = smaller.get(args.command, remedy)
        return f"out of memory; {remedy}, and repeat the command"
    if failed:
        return ""
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, a read-only folder
        place = error.filename or getattr(args, "out", None) or "the output folder"
        out = {"prepare": "DST", "course": "FOLDER"}.get(args.command, "--out")
        remedy = f"what was saved is kept: correct this or change {out}, and repeat the command"
        return f"{place}: {error.strerror}; {remedy}"
    return text.replace("\n", "\\n")  # a file's name may contain one
