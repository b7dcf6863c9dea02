"""A rule from a file: found, checked, named and hashed."""

import re

import pytest
import torch

from minipig.extras.own_rules import check_rule, find_rule, make_rule, name_of, version_of
from minipig.rules import RULES, Clean, Strength

MINE = """
from __future__ import annotations

from dataclasses import dataclass

from minipig.rules import Clean
from minipig.schedule import Schedule

SCHEDULE = Schedule.linear()


class Mine(Clean):
    def __init__(self, gain=0.5):
        self.gain = gain

    def sample(self, state):
        return self.gain * SCHEDULE.scales(state.t, state.xt)[0] * state.x0_hat


@dataclass
class Decorated(Clean):
    gain: float = 0.5


class Asking(Clean):
    def __init__(self, k):
        self.k = k


class Failing(Clean):
    def sample(self, state):
        return len(3)


number = 3
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "my_rule.py"
    file.write_text(MINE)
    return file


def test_a_rule_is_found_by_its_name_and_in_a_file(path):
    assert find_rule("clean") is Clean
    found = find_rule(f"{path}:Mine")
    assert found.__name__ == "Mine" and found().gain == 0.5
    assert find_rule(f"{path}:Decorated")(gain=0.25).gain == 0.25


def test_the_name_of_a_rule_has_no_folder_and_its_version_is_the_files(path, tmp_path):
    given = f"{path}:Mine"
    assert name_of(given) == "my_rule.py:Mine" and name_of("clean") == "clean"
    assert version_of("clean") == ""
    version = version_of(given)
    assert re.fullmatch("[0-9a-f]{6}", version)
    moved = tmp_path / "elsewhere.py"
    moved.write_text(MINE)
    assert version_of(f"{moved}:Mine") == version
    path.write_text(MINE + "\n")
    assert version_of(given) != version


@pytest.mark.parametrize(
    "rule, message",
    [
        ("blurred", "unknown rule blurred; choose one of clean, matched, .*FILE.py:CLASS"),
        ("FILE", "unknown rule .*my_rule.py; choose one of clean"),
        ("none.py:Mine", "none.py is missing; give its path: --rule FILE.py:Mine"),
        ("FILE:Yours", "my_rule.py has no class Yours; --rule is FILE.py:CLASS"),
        ("FILE:number", "my_rule.py has no class number"),
        ("FILE:Asking", r"my_rule.py: Asking\(\) must work without arguments; give each a default"),
        ("FILE:Schedule", "must work without arguments"),
    ],
)
def test_a_rule_that_cannot_be_used_is_explained(rule, message, path):
    with pytest.raises(ValueError, match=message):
        find_rule(rule.replace("FILE", str(path)))


@pytest.mark.parametrize("text, name", [("1 / 0", "ZeroDivisionError"), ("class", "SyntaxError")])
def test_a_file_that_cannot_be_run_is_explained(text, name, tmp_path):
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(ValueError, match=f"wrong.py cannot be run: {name}"):
        find_rule(f"{tmp_path}/wrong.py:Mine")


def test_an_error_of_the_rule_itself_is_not_hidden(path):
    with pytest.raises(TypeError, match="object of type 'int' has no len"):
        find_rule(f"{path}:Failing")


@pytest.mark.parametrize("name", RULES)
def test_the_rules_of_the_package_are_valid(name):
    rule = RULES[name]()
    assert check_rule(rule) is rule


class Wrong(Clean):
    """A method of it is replaced by an invalid one."""


INVALID = [
    (lambda x: x[:, 0], r"\(2, 32, 32\) of torch.float32 for a mask \(2, 1, 32, 32\) of .*"),
    (lambda x: x.double(), r"\(2, 1, 32, 32\) of torch.float64 for a mask .*torch.float32"),
    (lambda x: x * torch.nan, "values that are not finite"),
    (lambda x: x.numpy(), "a ndarray"),
    (lambda x: None, "a NoneType"),
]


@pytest.mark.parametrize("gives, returned", INVALID)
@pytest.mark.parametrize("method", ["train", "sample"])
def test_an_invalid_guide_is_named(monkeypatch, gives, returned, method):
    if method == "train":
        monkeypatch.setattr(Wrong, "train", lambda self, pair: gives(pair.x0))
    else:
        monkeypatch.setattr(Wrong, "sample", lambda self, state: gives(state.x0_hat))
    with pytest.raises(ValueError, match=f"Wrong.{method} returned {returned}; a guide is finite"):
        check_rule(Wrong())


@pytest.mark.parametrize("none", ["clean", Clean, None, torch.zeros(1)])
def test_what_is_not_a_rule_is_refused(none):
    with pytest.raises(ValueError, match="is not an object with the methods train and"):
        check_rule(none)


def test_a_rule_is_made_from_its_defaults():
    assert make_rule(Strength, "strength").w == 2.0
