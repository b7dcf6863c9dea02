"""The command line: commands, options and help. commands.py has what each command does.

Nothing here imports torch, so that --help answers at once. The tables repeat the names of the
package's registries, and the defaults are those of Config, Demo and Protocol: a test compares them.
"""

import argparse
import inspect
import io
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from textwrap import indent

PRESETS = {
    "tiny": "32x32, 300 steps of 32 at 2e-3: seconds, for a live demonstration",
    "cpu": "32x32, 1000 steps of 64 at 1e-3: minutes on two cores",
    "cpu128": "128x128, 10000 steps of 16 at 8e-4: an hour on a core or two; multiples of 16",
    "gpu": "128x128, 40000 steps of 32 at 4e-4: one GPU",
    "paper": "512x512, 186000 steps of 6 at 2e-4: one GPU, as released; multiples of 32",
}
RULES = {
    "clean": "trained on the clean mask, sampled with x0_hat, model_x's estimate of it",
    "matched": "trained and sampled with x0_hat",
    "previous": "x_{t-1}, the mask after this step, exactly as in Proposition 1",
    "blank": "zeros: model_y works alone; every useful rule is better",
    "noisy": "x_t, the noisy mask",
    "augmented": "the mask at noise level t/2",
    "sign": "trained as clean, sampled with the sign of x0_hat",
    "binarised": "trained as matched, sampled with x0_hat smoothed and thresholded",
    "lesion-weighted": "as matched, trained with the loss weights of the released code",
    "strength": "trained on clean masks, some of them blank; guidance of weight 2",
    "dithered": "trained as clean, sampled with binary masks that average to x0_hat",
}
OWN = {"FILE.py:CLASS": "your own class, with the methods train and sample"}
SOLVERS = {
    "ddim": "first order, as in the paper: 256 steps",
    "dpm++2m": "second order, even in the log of the signal-to-noise ratio: 25 steps",
    "quick": "second order, on levels between even and quadratic: 15 steps",
}
SCHEDULES = {
    "linear": "beta from 1e-4 to 0.02 in 1024 levels, as in the paper",
    "cosine": "the schedule of Nichol and Dhariwal 2021",
}
FORMATS = {
    "float32": "32 bits",
    "bfloat16": "16 bits where that loses little: faster on most GPUs and some processors",
}
CHANNELS = {"red": "the first channel", "green": "the second channel", "blue": "the third channel"}
KEEP = {
    "best": "those of the step with the lowest loss on held-out patients, for each network",
    "last": "those of the last step",
}
LAYOUTS = {
    "busi": "BUSI: benign/benign (1).png, benign/benign (1)_mask.png",
    "bus-uclm": "BUS-UCLM: images/ALWI_000.png, masks/ALWI_000.png",
    "isic2018": "ISIC 2018, task 1: *_Input/ISIC_0.jpg, *_GroundTruth/ISIC_0_segmentation.png",
}
FIELDS = """\
{folder}  the image's folder; {stem}: its file name without the ending
{*}       the text that the first * of --images' file name matches
{**}      the folders that the ** of --images matches
*         any text, if an image has several masks (see --merge)"""
RESUME = "Interrupted? Repeat the same command: it resumes."
FOLDER = """A folder of pairs has images/ and masks/ with equal file names. It may have manifest.csv
with the columns name,patient."""
MINIPIG = """Generate pairs of lesion mask and slice: two diffusion models guide each other.

minipig demo                       the main experiment, on simulated slices
minipig train --data FOLDER --out runs/mine
minipig sample runs/mine -n 64     64 pairs as PNG files, in runs/mine/samples
minipig train --help               the options of a command"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str):
        message = message.removeprefix("argument ")
        self.exit(2, f"minipig: {message}; help: {self.prog} --help\n")


def parse_size(text: str) -> tuple[int, int]:
    """ "64" -> (64, 64); "48x64" -> (48, 64), height by width."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        message = f"{text!r} is not a size; give 64 or 48x64: height by width"
        raise argparse.ArgumentTypeError(message)
    return sides[0], sides[-1]


def parse_labels(text: str) -> int | tuple[int, ...]:
    """ "2" -> 2; "1,2" -> (1, 2)."""
    try:
        labels = tuple(int(label) for label in text.split(","))
    except ValueError as error:
        message = f"{text!r} is not a label; give 2, or several as 1,2"
        raise argparse.ArgumentTypeError(message) from error
    return labels if len(labels) > 1 else labels[0]


def option(sub, name: str, what: str, default=None, shown=None, values=None, **settings) -> None:
    """Add an option; its help tells the default (shown: in words) and explains the values."""
    if default is not None or shown is not None:
        what = f"{what} (default: {default if shown is None else shown})"
    metavar = settings.pop("metavar", name.strip("-").upper())
    sub.add_argument(name, default=default, metavar=metavar, help=what, **settings)
    if values := values or settings.get("choices"):
        rows = [f"{value:15}  {meaning}" for value, meaning in values.items()]
        sub.add_argument_group(f"values of {name}", "\n".join(rows))


def number(sub, name: str, what: str, default=None, shown=None, **settings) -> None:
    """Add an option with a number, or several."""
    option(sub, name, what, default, shown, **{"type": int, "metavar": "N"} | settings)


def switch(sub: Parser, name: str, what: str) -> None:
    """Add an option without a value."""
    sub.add_argument(name, action="store_true", help=what)


def size(sub: Parser, sides: str, default=None, shown=None) -> None:
    what = f"64, or height by width as 48x64; {sides}"
    option(sub, "--size", what, default, shown, type=parse_size)


def schedule(sub: Parser) -> None:
    option(sub, "--schedule", "noise schedule", "linear", choices=SCHEDULES)


def device(sub: Parser) -> None:
    option(sub, "--device", "cpu, cuda, cuda:1, ...", shown="cuda if available, else cpu")


def output(sub: Parser, out: str, seed: str = "random seed") -> None:
    option(sub, "--out", "output folder", shown=out, type=Path, metavar="FOLDER")
    number(sub, "--seed", seed, 0)
    device(sub)


def pair_model(sub: Parser) -> None:
    """What decides a pair model, for demo and train."""
    option(sub, "--preset", "network, size, steps, batch and rate", "cpu", choices=PRESETS)
    size(sub, "multiples of 8", shown="the preset's")
    option(sub, "--rule", "what model_y, the slice's network, sees", "clean", values=RULES | OWN)
    schedule(sub)
    number(sub, "--steps", "training steps of each network", shown="the preset's")
    number(sub, "--batch", "pairs in a training step", shown="the preset's")
    number(sub, "--rate", "peak learning rate", shown="the preset's", type=float)


# one function a command: its docstring is what --help shows, its body adds the options


def demo(sub: Parser) -> None:
    """Train on simulated slices (phantoms), sample, and compare segmenters.

    minipig demo                                           5 to 18 minutes on two cores
    minipig demo --quick                                   two minutes, to see that it runs
    minipig demo --solver dpm++2m --sampling-steps 25 --out runs/fast
    """
    pair_model(sub)
    number(sub, "--pairs", "number of phantoms", 400)
    what = "only 64 pairs of a tiny network, 15 steps each; no judge, no segmenters"
    switch(sub, "--quick", what)
    number(sub, "--synthetic", "number of pairs to sample", 400)
    option(sub, "--solver", "how to sample", "ddim", choices=SOLVERS)
    number(sub, "--sampling-steps", "from 1 to 1024", 50)
    output(sub, "runs/demo, or runs/quick")
    sub.set_defaults(**dict.fromkeys(("preset", "synthetic", "solver", "sampling_steps")))


def train(sub: Parser) -> None:
    """Train a pair model: model_x (the guider), then model_y.

    minipig train --data FOLDER --size 64 --steps 5000 --batch 16 --rate 5e-4 --out runs/mine
    minipig train --rule my_rule.py:Mine --out runs/my_rule
    minipig train --from runs/mine --steps 2000 --out runs/longer
    torchrun --nproc-per-node 2 -m minipig train --out runs/two     on two GPUs or CPUs
    """
    option(sub, "--data", "phantom, or a folder of pairs", "phantom")
    pair_model(sub)
    number(sub, "--pairs", "number of phantoms, those held out included", 400)
    what = "go on from this run's weights, with its settings"
    option(sub, "--from", what, type=Path, metavar="RUN", dest="start")
    share = dict(type=float, metavar="SHARE")
    number(sub, "--holdout", "part of the patients not trained on", 0.1, **share)
    option(sub, "--keep", "which weights to sample with", "last", choices=KEEP)
    what = "bent and relit copies of the pairs to learn from as well"
    number(sub, "--deformed", what, 0)
    switch(sub, "--mirror", "mirror half of the pairs left to right (wrong for phantoms)")
    number(sub, "--accumulate", "compute each batch in N parts, to save memory", 1)
    switch(sub, "--compile", "compile the networks: minutes at the start, then faster steps")
    option(sub, "--format", "number format", shown="the faster one here", choices=FORMATS)
    switch(sub, "--recompute", "less memory, more time; used anyway if memory is short")
    output(sub, "runs/DATA")
    names = "data preset rule schedule pairs holdout keep deformed mirror seed".split()
    sub.set_defaults(**dict.fromkeys(names))  # not given: those shown, or those of --from


def sample(sub: Parser) -> None:
    """Sample pairs from a trained run as PNG files, in a folder for train --data.

    minipig sample runs/mine -n 64 --solver dpm++2m
    minipig sample runs/mine --rule sign --agreement --out runs/mine/sign
    """
    sub.add_argument("run", type=Path, metavar="RUN", help="folder of a trained run")
    number(sub, "-n", "how many pairs --out shall hold; those already there count", 64)
    option(sub, "--solver", "how to sample", "ddim", choices=SOLVERS)
    number(sub, "--sampling-steps", "from 1 to 1024", shown="256, 25 or 15, by the solver")
    what = "another, if trained alike as clean and sign are"
    option(sub, "--rule", what, shown="the run's", values=RULES | OWN)
    number(sub, "--batch", "pairs at a time; fewer need less memory", 64)
    switch(sub, "--agreement", "also measure how well masks fit slices, with a trained segmenter")
    switch(sub, "--film", "also write film.gif, a pair coming out of noise")
    output(sub, "RUN/samples")


def prepare(sub: Parser) -> None:
    r"""Convert a data set to a folder of pairs for train --data.

    minipig prepare Dataset_BUSI_with_GT FOLDER --layout busi
    minipig prepare BUSBRA FOLDER --images 'Images/bus_*.png' --masks 'Masks/mask_{*}.png' \
        --patient 'bus_(\d+)'
    minipig prepare SCANS FOLDER --csv pairs.csv --label 2 --size 128
    """
    sub.add_argument("src", type=Path, metavar="SRC", help="folder of the data set; not changed")
    sub.add_argument("out", type=Path, metavar="DST", help="a new folder, outside SRC")
    option(sub, "--layout", "a known data set; the options below override it", choices=LAYOUTS)
    option(sub, "--images", "images in SRC: 'scans/*.png', '**/*.tif'", metavar="GLOB")
    what = "mask of an image: '{folder}/../masks/{stem}_mask.png'"
    option(sub, "--masks", what, metavar="PATTERN")
    sub.add_argument_group("fields of --masks", FIELDS)
    what = "instead of these, a table: image,mask and, if known, patient,split"
    option(sub, "--csv", what, metavar="FILE")
    option(sub, "--split", "only the rows of --csv with this split, such as train", metavar="NAME")
    what = r"patient in an image's path: '(P\d+)_'"
    option(sub, "--patient", what, shown="as in SRC/manifest.csv", metavar="REGEX")
    number(sub, "--threshold", "pixels above N are lesion", shown="masks must have two values")
    what = "pixels of value N, or of one of 1,2, are lesion, of masks with several labels"
    number(sub, "--label", what, type=parse_labels)
    what = "the one to use of colour images"
    option(sub, "--channel", what, shown="their luminance", choices=CHANNELS)
    size(sub, "pairs are fitted in", shown="as they are")
    switch(sub, "--invert", "lesion is dark in the masks")
    switch(sub, "--merge", "join an image's masks")
    switch(sub, "--keep-healthy", "keep pairs whose mask has no lesion")
    sub.set_defaults(invert=None, merge=None, keep_healthy=None)  # not given: the layout's


def phantoms(sub: Parser) -> None:
    """Draw phantoms: simulated breast slices with a lesion, as PNG files.

    minipig phantoms -n 32 --out runs/phantoms
    """
    number(sub, "-n", "number of pairs, four slices per patient", 24)
    size(sub, "16 or more", "64")
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    number(sub, "--seed", "random seed", 0)


def table1(sub: Parser) -> None:
    """Table 1: compare the slices of every method with real slices.

    minipig table1 --folds 0
    minipig table1 --folds 0 --rows real PIG --steps 3000 --out runs/longer
    """
    option(sub, "--data", "phantom, or a folder of pairs", "phantom")
    size(sub, "multiples of 8", "32")
    number(sub, "--pairs", "number of phantoms used as the real set", shown=500)
    number(sub, "--steps", "training steps of each network", 1000)
    schedule(sub)
    number(sub, "--batch", "pairs in a training step", 64)
    number(sub, "--rate", "peak learning rate", 0.001, type=float)
    number(sub, "--deformed", "number of deformed pairs added to the training pairs", 0)
    number(sub, "--synthetic", "pairs of each generator (table 2)", 2048)
    number(sub, "--segmenter-steps", "training steps of each segmenter (table 2)", 300)
    number(sub, "--judge-seed", "seed of the judge, a segmenter that measures (table 1)", 0)
    number(sub, "--folds", "folds to compute now", shown="0 1 2 3 4", nargs="+")
    option(sub, "--rows", "rows to compute now, such as PIG", shown="all", nargs="+", metavar="ROW")
    output(sub, "runs/tables/DATA", "seed of the phantoms, or of a folder's folds")
    option(sub, "--work", "weights and samples", shown="OUT/work", type=Path, metavar="FOLDER")


def table2(sub: Parser) -> None:
    """Table 2: compare segmenters trained on the pairs of every method, which is trained anew.

    minipig table2 --folds 0
    minipig table2 --folds 0 --rows real PIG --steps 3000 --out runs/longer
    minipig table2 --data FOLDER --rows real classical classical-more PIG classical+PIG
    """
    table1(sub)


def map(sub: Parser) -> None:
    """Find out when pairs pay, on phantoms: gains in Dice by number of patients, for every method.

    minipig map                               all of it, which is many hours
    minipig map --patients 25 --seeds 31      a part, for a process of its own
    minipig map --patients 100 --rows real classical PIG classical+PIG
    """
    what = "numbers of patients to work on now"
    number(sub, "--patients", what, shown="10 25 50 100 200", nargs="+")
    option(sub, "--rows", "rows to compute now, such as PIG", shown="all", nargs="+", metavar="ROW")
    replicas(sub, "31 32 33 34", "runs/map")


def causes(sub: Parser) -> None:
    """Find out what makes synthetic pairs help a segmenter, one change at a time.

    minipig causes                  all of it, which is many hours
    minipig causes --seeds 21       a part, for a process of its own
    """
    replicas(sub, "21 22 23", "runs/causes")


def replicas(sub: Parser, seeds: str, out: str) -> None:
    number(sub, "--seeds", "seeds of phantoms to work on now", shown=seeds, nargs="+")
    option(sub, "--out", "results", out, type=Path, metavar="FOLDER")
    option(sub, "--work", "weights and samples", shown="OUT/work", type=Path, metavar="FOLDER")
    device(sub)


def lab(sub: Parser) -> None:
    """Rank guide rules, samplers and networks: with ideal networks, then with trained ones.

    minipig lab --quick                               ideal networks: a minute
    minipig lab --rule my_rule.py:Mine --quick        your rule beside blank, matched and clean
    minipig lab --rule my_rule.py:Mine --seeds 0      also trained, with one seed: an hour
    """
    switch(sub, "--quick", "only ideal networks in toy worlds: no training, about a minute")
    what = "a rule to rank beside blank, matched and clean, or beside --rows"
    option(sub, "--rule", what, values=RULES | OWN)
    option(sub, "--rows", "rows, such as sign or joint", shown="all", nargs="+", metavar="ROW")
    number(sub, "--seeds", "seeds to train with now", shown="0 1 2", nargs="+")
    option(sub, "--solver", "how all variants are sampled", "ddim", choices=SOLVERS)
    schedule(sub)
    option(sub, "--out", "the ranking", "runs/lab.json", type=Path, metavar="FILE")
    option(sub, "--work", "weights and samples", shown="runs/lab/work", type=Path, metavar="FOLDER")
    device(sub)


def bench(sub: Parser) -> None:
    """Measure time and memory of training and sampling, here and in other libraries.

    minipig bench --quick
    minipig bench --solvers runs/mine
    minipig bench --completions runs/mine
    """
    switch(sub, "--quick", "only the main rows, within ten minutes")
    instead = sub.add_mutually_exclusive_group()
    what = "instead, compare solvers on a run of phantoms"
    option(instead, "--solvers", what, type=Path, metavar="RUN")
    what = "instead, sample masks for given slices, and lesions in healthy slices"
    option(instead, "--completions", what, type=Path, metavar="RUN")
    number(sub, "-n", "pairs", shown="400 for each seed of --solvers, 100 for --completions")
    number(sub, "--seeds", "number of seeds of --solvers", shown="3")
    shown = "runs/{bench,solvers,completions}.json"
    option(sub, "--out", "report", shown=shown, type=Path, metavar="FILE")
    device(sub)


def course(sub: Parser) -> None:
    """Write a copy of the course: notebooks, and the models and results that they load.

    minipig course FOLDER               then: jupyter lab FOLDER/notebooks
    minipig course FOLDER --student     for a class: functions to write, no answers
    minipig course FOLDER --html        pages for a browser, from FOLDER/index.html
    """
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="files in it are kept")
    edition = sub.add_mutually_exclusive_group()
    what = "functions of the notebooks are left to write, with checks that fail until they are"
    switch(edition, "--student", what)
    switch(edition, "--html", "the executed notebooks as linked pages, which need no network")
    switch(sub, "--solutions", "with --student: write solutions and slides, too")


COMMANDS = (demo, train, sample, prepare, phantoms, table1, table2, map, causes, lab, bench, course)


def described(text: str, note: str) -> dict:
    """The settings of a parser whose help is: purpose, options, examples, note."""
    purpose, examples = inspect.cleandoc(text).split("\n\n")
    epilog = f"examples:\n{indent(examples, '  ')}\n\n{note}"
    raw = argparse.RawDescriptionHelpFormatter
    return dict(description=purpose, epilog=epilog, formatter_class=raw)


def parser() -> Parser:
    """All commands and their options."""
    top = Parser("minipig", **described(MINIPIG, f"{FOLDER}\n{RESUME}"))
    top.add_argument("--version", action="version", version=f"minipig {version('minipig')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        settings = described(command.__doc__, RESUME if command not in (bench, course) else "")
        command(commands.add_parser(command.__name__, help=settings["description"], **settings))
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it succeeds, 2 after one line on standard error if it cannot."""
    if argv is None:  # a process of its own, which writes pictures to files and shows none
        os.environ["MPLBACKEND"] = "agg"
    for name in ("stdout", "stderr"):  # None if it is closed
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    top = parser()
    args, unknown = top.parse_known_args(argv)
    if unknown:
        top.prog += f" {args.command}"
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.line = shlex.join(["minipig", *(sys.argv[1:] if argv is None else argv)])
    if isinstance(sys.stdout, io.TextIOWrapper):
        # file names may not be valid UTF-8; a log gets each line at once
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        from minipig.running import run  # imports torch
    except KeyboardInterrupt:
        print("minipig: stopped before it began", file=sys.stderr)
        return 130
    return run(args)
