"""The parser: its defaults are the package's, its tables name the registries, its help explains."""

import argparse
import re
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from minipig import cli, rules, unet
from minipig.cli import main, parse_size, parser
from minipig.commands import COMMANDS, given, pair_config
from minipig.data import layouts
from minipig.data.images import CHANNELS
from minipig.evidence.demo import Demo
from minipig.evidence.lab.runner import LAB
from minipig.evidence.tables.protocol import Protocol
from minipig.extras import solvers
from minipig.schedule import SCHEDULES
from minipig.training.config import SETTINGS, Config

NAMES = list(COMMANDS)
TABLES = {
    "demo": (cli.PRESETS, cli.RULES, cli.SOLVERS, cli.SCHEDULES),
    "train": (cli.PRESETS, cli.RULES, cli.SCHEDULES, cli.KEEP),
    "sample": (cli.RULES, cli.SOLVERS),
    "prepare": (cli.LAYOUTS, cli.CHANNELS),
    "table1": (cli.SCHEDULES,),
    "table2": (cli.SCHEDULES,),
    "lab": (cli.RULES, cli.SOLVERS, cli.SCHEDULES),
}


def parsed(line):
    return parser().parse_args(line.split())


def help_of(name, monkeypatch):
    """The help of a command (or of minipig, for ""), on a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    return sub_parser(name).format_help()


def sub_parser(name):
    top = parser()
    (commands,) = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    assert list(commands.choices) == NAMES
    return commands.choices[name] if name else top


def examples(text):
    """The command lines that a help page shows, without their explanations."""
    block = text.split("examples:\n")[1].split("\n\n")[0].replace("\\\n", "")
    return [re.split(r"\s{3,}", line.strip())[0] for line in block.splitlines()]


def test_defaults_are_those_of_the_package():
    assert pair_config(parsed("demo")) == Config()
    demo = parsed("demo")
    assert Demo(pair_config(demo), **given(demo, Demo)) == Demo()
    # train alone keeps a tenth of the patients out: samples are compared with them
    assert pair_config(parsed("train")) == Config(holdout=0.1)
    for name in ("table1", "table2"):
        options = given(parsed(name), Protocol)
        assert set(options) >= {"data", "size", "steps", "deformed", "seed", "judge_seed"}
        assert Protocol(**options) == Protocol()
    assert parsed("lab").schedule == LAB.schedule == Protocol().schedule


@pytest.mark.parametrize("preset", SETTINGS)
def test_a_preset_brings_its_settings_and_options_change_them(preset):
    assert pair_config(parsed(f"demo --preset {preset}")) == Config(
        preset=preset, **SETTINGS[preset]
    )
    config = pair_config(parsed(f"train --preset {preset} --size 64 --steps 7 --rule sign"))
    assert (config.size, config.steps, config.rule) == ((64, 64), 7, "sign")
    assert (config.batch, config.rate) == (SETTINGS[preset]["batch"], SETTINGS[preset]["rate"])


def test_tables_name_the_registries():
    assert set(cli.PRESETS) == set(unet.PRESETS) == set(SETTINGS)
    assert set(cli.RULES) == set(rules.RULES)
    assert set(cli.SOLVERS) == set(solvers.SOLVERS)
    assert set(cli.SCHEDULES) == set(SCHEDULES)
    assert set(cli.LAYOUTS) == set(layouts.LAYOUTS)
    assert tuple(cli.CHANNELS) == CHANNELS
    for keep in cli.KEEP:
        assert Config(keep=keep, holdout=0.1).keep == keep
    for preset, settings in SETTINGS.items():
        (height, width), rate = settings["size"], f"{settings['rate']:.0e}".replace("e-0", "e-")
        told = f"{height}x{width}, {settings['steps']} steps of {settings['batch']} at {rate}"
        assert cli.PRESETS[preset].startswith(told)


def test_help_tells_the_steps_of_each_solver(monkeypatch):
    steps = [str(solver.steps) for solver in solvers.SOLVERS.values()]
    told = f"{', '.join(steps[:-1])} or {steps[-1]}, by the solver"
    assert f"(default: {told})" in help_of("sample", monkeypatch)
    for name, solver in solvers.SOLVERS.items():
        assert cli.SOLVERS[name].endswith(f"{solver.steps} steps")


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_command_s_own_examples(name, monkeypatch):
    found = examples(help_of(name, monkeypatch))
    assert found
    for line in found:
        assert f"minipig {name}" in line
        words = shlex.split(line.partition("minipig ")[2])
        assert parser().parse_args(words).command == name


def test_help_of_the_program_shows_examples_of_commands(monkeypatch):
    text = help_of("", monkeypatch)
    lines = examples(text)
    assert [line.split()[:2] for line in lines[:3]] == [
        ["minipig", "demo"],
        ["minipig", "train"],
        ["minipig", "sample"],
    ]
    for line in lines[:3]:
        parser().parse_args(shlex.split(line)[1:])
    for name in NAMES:
        assert f"\n    {name} " in text


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_fits_100_columns_and_an_option_fits_a_line(name, monkeypatch):
    text = help_of(name, monkeypatch)
    assert max(map(len, text.splitlines())) <= 100
    for action in sub_parser(name)._actions:
        if action.help:
            assert action.help in text.replace("\\\n", "")  # not wrapped


@pytest.mark.parametrize("name", NAMES)
def test_help_tells_defaults_and_explains_choices(name, monkeypatch):
    text = help_of(name, monkeypatch)
    for action in sub_parser(name)._actions:
        if action.default not in (None, False, argparse.SUPPRESS):
            assert "(default: " in action.help, action.dest
        if action.choices:
            assert f"values of {action.option_strings[0]}:" in text
    for table in TABLES.get(name, ()):
        for value, meaning in table.items():
            assert re.search(rf"^  {re.escape(value)}\s+{re.escape(meaning)}$", text, re.M), value


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"minipig {version('minipig')}\n"


def test_a_rule_is_a_name_or_a_class_in_a_file():
    for command in ("demo", "train", "sample RUN", "lab"):
        assert parsed(f"{command} --rule sign").rule == "sign"
        assert parsed(f"{command} --rule some/my_rule.py:Mine").rule == "some/my_rule.py:Mine"


@pytest.mark.parametrize(
    "text, size", [("64", (64, 64)), ("48x64", (48, 64)), ("48X64", (48, 64)), (" 8", (8, 8))]
)
def test_a_size_is_height_by_width(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "8x8x8", "0", "-8", "48x0", "8.0", "a"])
def test_a_text_that_is_not_a_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size; give 64 or 48x64"):
        parse_size(text)


@pytest.mark.parametrize(
    "line, message",
    [
        ("train --size 64y", "--size: '64y' is not a size; give 64 or 48x64: height by width"),
        ("train --steps few", "--steps: invalid int value: 'few'"),
        ("train --preset huge", "--preset: invalid choice: 'huge' (choose from "),
        ("train --schedule square", "--schedule: invalid choice: 'square' (choose from "),
        ("demo --solver euler", "--solver: invalid choice: 'euler' (choose from "),
        ("prepare A B --layout none", "--layout: invalid choice: 'none' (choose from "),
        ("phantoms", "the following arguments are required: --out"),
        ("sample", "the following arguments are required: RUN"),
        ("", "the following arguments are required: COMMAND"),
        ("train --stops 3", "unrecognized arguments: --stops 3"),
        ("bench --solvers A --completions B", "--completions: not allowed with argument --solvers"),
    ],
)
def test_a_line_that_cannot_be_parsed_is_one_line_and_status_2(line, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(f"minipig: {message}")
    assert error.count("\n") == 1 and error.endswith("--help\n")


def test_the_parser_does_not_import_torch():
    code = "import minipig.cli, sys; minipig.cli.parser(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "torch" not in re.findall(
        r"^(?:from|import) (\w+)", Path(cli.__file__).read_text(), re.M
    )


@pytest.mark.parametrize("command", [[], ["train"]])
def test_help_answers_within_a_second(command):
    """The best of five: the machine may be busy."""
    seconds = []
    for _ in range(5):
        start = time.monotonic()
        line = [sys.executable, "-m", "minipig", *command, "--help"]
        done = subprocess.run(line, capture_output=True, text=True)
        seconds.append(time.monotonic() - start)
        assert done.returncode == 0 and "examples:" in done.stdout
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1


def test_an_unknown_option_points_to_the_help_of_its_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--foo"])
    assert stop.value.code == 2
    told = "minipig: unrecognized arguments: --foo; help: minipig train --help\n"
    assert capsys.readouterr().err == told
