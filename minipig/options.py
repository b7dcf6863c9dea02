"""What can be asked on the command line: every command, its options, and what --help says of them."""

import argparse
from pathlib import Path

from .evidence.demo import Demo
from .evidence.protocol import Protocol
from .layouts import LAYOUTS
from .rules import RULES
from .run import SETTINGS, Config
from .sampler import SOLVERS

EXAMPLES = """examples:
  python -m minipig demo                                    the main job on phantoms, into runs/demo
  python -m minipig train --out runs/mine                   a pair model of phantoms, 32x32
  python -m minipig train --data FOLDER --size 64 --out runs/mine
  torchrun --nproc-per-node 2 -m minipig train --out runs/mine       the same on two GPUs (or CPUs)
  python -m minipig sample runs/mine -n 64                  64 pairs as PNG, into runs/mine/samples
  python -m minipig sample runs/mine --solver dpm++2m       the same in a tenth of the time
  python -m minipig prepare Dataset_BUSI_with_GT FOLDER --layout busi      a published set, made ready for train
  python -m minipig phantoms -n 24 --out FOLDER             phantoms as PNG, to see the layout
  python -m minipig table2 --folds 0                        real only against every method, the first of five folds
  python -m minipig table2 --folds 0 --rows real PIG --steps 3000 --out runs/longer      what longer training changes
  python -m minipig lab --quick                             which guide rules are right in worlds with ideal networks
  python -m minipig bench --quick                           what a step costs here, into runs/bench.json
  python -m minipig bench --completions RUN                 masks for given slices, lesions put into healthy ones

A FOLDER holds images/ and masks/ with equal file names, and may hold manifest.csv with the columns name,patient.
Interrupted? Repeat the same command: it goes on where it was."""


def parse_size(text: str) -> tuple[int, int]:
    """ "64" -> (64, 64); "48x64" -> (48, 64), height by width."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 64 for 64x64, or 48x64 for height by width")
    return sides[0], sides[-1]


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    layout = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    top = argparse.ArgumentParser(
        "python -m minipig", description="Paired image generation, end to end.", epilog=EXAMPLES, **layout
    )
    names = "demo | train | sample | prepare | phantoms | table1 | table2 | lab | bench"
    commands = top.add_subparsers(dest="command", required=True, metavar=names)

    def command(name: str, purpose: str, out: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=purpose, description=purpose, epilog=EXAMPLES, **layout)
        sub.add_argument("--out", type=Path, metavar="FOLDER", help=f"where everything is written (default: {out})")
        sub.add_argument("--seed", type=int, default=0, help="equal seed, equal result (default: 0)")
        sub.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one, else cpu)")
        return sub

    demo = command("demo", "train on phantoms, sample pairs, and measure what they are worth to a segmenter", "runs/demo")
    train = command("train", "train a pair model: the guider first, then model_y", "runs/DATA")
    for sub in (demo, train):
        sub.add_argument("--preset", choices=SETTINGS, default="cpu", help="network and settings (default: cpu)")
        sub.add_argument(
            "--size",
            type=parse_size,
            help="64, or 48x64: height by width; multiples of 8, of 32 for the preset paper (default: the preset's)",
        )
        sub.add_argument("--rule", choices=RULES, default=Config.rule, help=f"what guides model_y (default: {Config.rule})")
        sub.add_argument("--steps", type=int, help="training steps of each network (default: the preset's)")
        sub.add_argument("--batch", type=int, help="pairs a training step (default: the preset's)")
        sub.add_argument(
            "--rate", type=float, help="learning rate, of which warm-up and cosine take shares (default: the preset's)"
        )
        sub.add_argument("--pairs", type=int, default=Config.pairs, help="phantoms to train on (default: %(default)s)")
    demo.add_argument("--synthetic", type=int, default=Demo.synthetic, help="pairs to sample (default: %(default)s)")
    demo.add_argument("--sampling-steps", type=int, default=Demo.sampling_steps, help="of 1024 (default: %(default)s)")
    demo.add_argument("--solver", choices=SOLVERS, default=Demo.solver, help="how to sample (default: %(default)s)")
    train.add_argument("--data", default="phantom", help="phantom, or a folder of real pairs (default: phantom)")
    train.add_argument("--holdout", type=float, default=0.1, help="share of pairs kept out, whole patients (default: 0.1)")
    train.add_argument("--accumulate", type=int, default=1, help="parts a batch is computed in, to save memory (default: 1)")
    train.add_argument("--compile", action="store_true", help="torch.compile: minutes of compiling, then faster steps")
    train.add_argument("--float32", action="store_true", help="no bfloat16, which is used where the device is fast at it")
    train.add_argument("--mirror", action="store_true", help="show each pair left-right mirrored half of the time")

    sample = command("sample", "sample pairs from a trained run, as PNG in the layout that train reads", "RUN/samples")
    sample.add_argument("run", type=Path, metavar="RUN", help="the --out of a finished train, or demo's runs/demo/pair")
    sample.add_argument("-n", type=int, default=64, help="how many pairs (default: 64)")
    sample.add_argument(
        "--solver",
        choices=SOLVERS,
        default="ddim",
        help="ddim, as in the paper, or dpm++2m, of second order, which needs a tenth of the steps (default: ddim)",
    )
    sample.add_argument(
        "--rule",
        choices=RULES,
        help="another guide rule than the run's, if it trains alike: sign for clean (default: the run's)",
    )
    sample.add_argument("--steps", type=int, help="sampling steps, 1 to 1024 (default: ddim 256, the paper's; dpm++2m 25)")
    sample.add_argument("--batch", type=int, default=64, help="pairs at a time; lower it if memory is short (default: 64)")
    sample.add_argument(
        "--agreement",
        action="store_true",
        help="train a judge on real pairs (the run's own, or fresh phantoms) and score the samples",
    )

    purpose = "turn a published folder layout into images/, masks/ and manifest.csv, as train reads them"
    ready = commands.add_parser("prepare", help=purpose, description=purpose, epilog=EXAMPLES, **layout)
    ready.add_argument("src", type=Path, metavar="SRC", help="the folder of the published set, unpacked; it is not changed")
    ready.add_argument(
        "out", type=Path, metavar="DST", help="a new folder, outside of SRC, for the pairs, a report and a contact sheet"
    )
    ready.add_argument("--layout", choices=LAYOUTS, help="a set whose layout is known; the other options change parts of it")
    ready.add_argument("--images", metavar="GLOB", help="the images under SRC, such as 'scans/*.png' or '**/*.tif'")
    ready.add_argument(
        "--masks",
        metavar="PATTERN",
        help="the mask of an image, such as '{folder}/../masks/{stem}_mask*.png' (* for several), or, with --images "
        "'**/bus_*.png', '**/mask_{*}.png': what the * stood for",
    )
    ready.add_argument(
        "--patient", metavar="REGEX", help="the patient in an image's path, such as '(P\\d+)_' (default: one an image)"
    )
    ready.add_argument(
        "--threshold",
        type=int,
        metavar="N",
        help="lesion is above N: 127 for JPEG masks, 0 for labels (default: a mask must have two values)",
    )
    ready.add_argument("--merge", action="store_true", default=None, help="several masks of an image are joined")
    ready.set_defaults(device=None)

    draw = commands.add_parser("phantoms", help="draw phantoms as PNG in that layout", epilog=EXAMPLES, **layout)
    draw.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for them")
    draw.add_argument("-n", type=int, default=24, help="how many pairs, four slices to a patient (default: 24)")
    draw.add_argument("--size", type=parse_size, default=(64, 64), help="64, or 48x64: height by width (default: 64)")
    draw.add_argument("--seed", type=int, default=0, help="equal seed, equal phantoms (default: 0)")
    draw.set_defaults(device=None)

    for table, purpose in (
        ("table1", "how like the truth are the slices of every method? The paper's Table 1, in miniature"),
        ("table2", "what are the pairs of every method worth to a segmenter? The paper's Table 2, in miniature"),
    ):
        sub = commands.add_parser(table, help=purpose, description=purpose, epilog=EXAMPLES, **layout)
        sub.add_argument("--data", default=Protocol.data, help="phantom, or a folder of real pairs (default: phantom)")
        sub.add_argument("--size", type=parse_size, default=Protocol.size, help="64, or 48x64 (default: 32)")
        sub.add_argument("--pairs", type=int, default=Protocol.pairs, help="phantoms that are real (default: %(default)s)")
        sub.add_argument("--steps", type=int, default=Protocol.steps, help="steps of each network (default: %(default)s)")
        sub.add_argument(
            "--deformed", type=int, default=0, metavar="N", help="deformed pairs that generators learn from too (default: 0)"
        )
        sub.add_argument("--seed", type=int, default=0, help="other data: its phantoms, or its split (default: 0)")
        sub.add_argument(
            "--judge-seed", type=int, default=0, metavar="N", help="another judge, and its features (default: 0)"
        )
        sub.add_argument("--folds", type=int, nargs="+", metavar="K", help="the folds to work on now (default: 0 1 2 3 4)")
        sub.add_argument("--rows", nargs="+", metavar="ROW", help="the rows to work on now, such as PIG (default: all)")
        sub.add_argument("--out", type=Path, metavar="FOLDER", help="records and tables (default: runs/tables/DATA)")
        sub.add_argument("--work", type=Path, metavar="FOLDER", help="weights and samples (default: OUT/work)")
        sub.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one, else cpu)")

    purpose = "rank every guide rule, walk and network: in exact worlds, then trained on phantoms at equal budget"
    lab = commands.add_parser("lab", help=purpose, description=purpose, epilog=EXAMPLES, **layout)
    lab.add_argument("--quick", action="store_true", help="the exact worlds alone, in less than a minute")
    lab.add_argument(
        "--rows", nargs="+", metavar="NAME", help="the variants to work on now, such as clean sign (default: all)"
    )
    lab.add_argument("--seeds", type=int, nargs="+", metavar="K", help="the folds to train on now (default: 0 1 2)")
    lab.add_argument("--solver", choices=SOLVERS, default="ddim", help="how all of them sample (default: %(default)s)")
    lab.add_argument("--out", type=Path, default=Path("runs/lab.json"), metavar="FILE", help="default: %(default)s")
    lab.add_argument("--work", type=Path, metavar="FOLDER", help="weights and samples (default: beside the records)")
    lab.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one, else cpu)")

    purpose = "time a training step and sampling, and take their memory, beside the architecture written plainly and others"
    bench = commands.add_parser("bench", help=purpose, description=purpose, epilog=EXAMPLES, **layout)
    bench.add_argument("--quick", action="store_true", help="the main rows alone, within ten minutes")
    bench.add_argument(
        "--out", type=Path, metavar="FILE", help="default: runs/bench.json, runs/solvers.json, or runs/completions.json"
    )
    bench.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one, else cpu)")
    instead = bench.add_mutually_exclusive_group()
    instead.add_argument("--solvers", type=Path, metavar="RUN", help="instead compare the solvers' samples of a phantom run")
    instead.add_argument(
        "--completions", type=Path, metavar="RUN", help="instead measure masks for given slices, and lesions put into others"
    )
    bench.add_argument(
        "-n", type=int, help="pairs that --solvers samples for each seed (400), or --completions completes (100)"
    )
    bench.add_argument("--seeds", type=int, default=3, help="seeds of --solvers (default: 3)")
    return top
