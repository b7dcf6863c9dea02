"""Seeds of held-out phantoms are refused everywhere before anything is written; counts in range."""

import ast
import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch

import minipig
from minipig.cli import main
from minipig.data.checks import HELD_OUT, check_counts, check_seed, held_out
from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.evidence.demo import Demo
from minipig.evidence.tables.protocol import Protocol
from minipig.training.config import Config, load_data
from minipig.training.run import load_pair, train_pair

TINY = Config(pairs=8, size=(16, 16), preset="tiny", steps=1, batch=2)
ENDS = [(use, seed) for use, seeds in HELD_OUT.items() for seed in {seeds[0], seeds[-1]}]


def refused(capsys, *arguments):
    """The one line with which a command is refused."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    train_pair(out, TINY, load_data(TINY)[0], torch.device("cpu"))
    return out


@pytest.mark.parametrize("use, seed", ENDS)
@pytest.mark.parametrize("command", ["demo", "train", "table1", "table2", "phantoms --out new"])
def test_no_command_uses_held_out_phantoms(command, use, seed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *command.split(), "--seed", seed)
    message = f"seed {seed} is kept for testing ({use}); give another --seed"
    assert line == f"minipig: {message}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("use", HELD_OUT)
def test_no_run_of_held_out_phantoms_is_loaded(use, trained, tmp_path, monkeypatch, capsys):
    seed = held_out(use)
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    saved = load_checkpoint(run / "pair.pt", {"config"})
    saved["config"]["seed"] = seed
    save_checkpoint(run / "pair.pt", saved)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    message = f"seed {seed} is kept for testing ({use})"
    for command in (["sample"], ["bench", "--solvers"], ["bench", "--completions"]):
        assert message in refused(capsys, *command, "run")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pair(run)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("use, seed", ENDS)
def test_no_configuration_uses_held_out_phantoms(use, seed):
    message = f"seed {seed} is kept for testing ({use}); give another --seed"
    for refuses in (
        lambda: Config(seed=seed),
        lambda: Demo(Config(seed=seed)),
        lambda: Protocol(seed=seed),
        lambda: check_seed(seed),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            refuses()
    assert Config(data="folder", seed=seed).seed == seed  # images of a folder are not drawn
    assert Protocol(data="folder", seed=seed).seed == seed


def test_the_phantoms_of_table_2_are_tested_on_only():
    with pytest.raises(ValueError, match=r"seed 5101 is kept for testing \(table2-test\)"):
        Protocol(seed=5101)


def test_a_held_out_seed_has_one_use():
    for (use, seeds), (other, others) in combinations(HELD_OUT.items(), 2):
        assert not set(seeds) & set(others), (use, other)
    for seed in (0, 1, 2, 42, 1000, 1004):
        check_seed(seed)


def test_held_out_seeds_are_written_in_one_place():
    seeds = {seed for several in HELD_OUT.values() for seed in several}
    found = []
    for path in Path(minipig.__file__).parent.rglob("*.py"):
        if path.name != "checks.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and type(node.value) is int:
                    if node.value in seeds:
                        found.append((path.name, node.lineno, node.value))
    assert found == []


@pytest.mark.parametrize("use", HELD_OUT)
def test_seeds_are_numbered_and_end(use):
    seeds = HELD_OUT[use]
    assert held_out(use) == seeds[0] and held_out(use, len(seeds) - 1) == seeds[-1]
    for number in (-1, len(seeds)):
        message = f"{use}: the number must be from 0 to {len(seeds) - 1}, not {number}"
        with pytest.raises(ValueError, match=re.escape(message)):
            held_out(use, number)


def test_counts_are_in_range():
    check_counts(1, steps=1, batch=2**31 - 1)
    check_counts(0, seed=0)
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        check_counts(1, steps=1, batch=0)
    with pytest.raises(ValueError, match=f"seed must be below {2**31}, not {2**31}"):
        check_counts(0, seed=2**31)
