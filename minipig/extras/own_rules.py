"""A guide rule of your own, from a file: `my_rule.py:Mine`. Find it, check it, hash its file.

`notebooks/my_rule.py` is an example to start from.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

import torch
from torch import Tensor

from minipig.guider import GuideRule, NoisyPair
from minipig.rules import RULES
from minipig.sampler import State
from minipig.schedule import Schedule
from minipig.seeds import generator


def find_rule(rule: str) -> type[GuideRule]:
    """The class of a rule: a name in RULES, or FILE.py:CLASS, which is checked.

    Raises ValueError for an unknown name, and for a file or class that cannot be used.
    """
    if rule in RULES:
        return RULES[rule]
    path, name = split_name(rule)
    if path is None:
        known = f"{', '.join(RULES)}, or a class in a file: FILE.py:CLASS"
        raise ValueError(f"unknown rule {rule}; choose one of {known}")
    if not path.is_file():
        raise ValueError(f"{path} is missing; give its path: --rule FILE.py:{name}")
    spec = importlib.util.spec_from_file_location(f"rule_file_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file raises
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(found := getattr(module, name, None), type):
        raise ValueError(f"{path} has no class {name}; --rule is FILE.py:CLASS")
    make_rule(found, f"{path}: {name}")
    return found


def split_name(rule: str) -> tuple[Path | None, str]:
    """The file (None for a rule of the package) and the class of "FILE.py:CLASS"."""
    file, colon, name = rule.rpartition(":")
    return (Path(file), name) if colon and file.endswith(".py") else (None, rule)


def name_of(rule: str) -> str:
    """The name of a rule without its folder: my_rule.py:Mine."""
    path, name = split_name(rule)
    return f"{path.name}:{name}" if path else name


def version_of(rule: str) -> str:
    """A short hash of the rule's file, which changes with every edit; "" without a file."""
    path, _ = split_name(rule)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:6] if path else ""


def make_rule(kind: type[GuideRule], where: str) -> GuideRule:
    """kind(), checked. Raises ValueError that begins with `where` if it needs arguments."""
    try:
        rule = kind()
    except TypeError as error:
        needs = f"{where}() must work without arguments; give each a default"
        raise ValueError(f"{needs} ({error})") from error
    return check_rule(rule)


def check_rule(rule: GuideRule) -> GuideRule:
    """Return the rule if its guides on a small batch are valid: finite, like the mask.

    Raises ValueError if they are not. Errors of the rule itself are not caught.
    """
    methods = [getattr(rule, method, None) for method in ("train", "sample")]
    if isinstance(rule, type) or not all(map(callable, methods)):
        problem = f"{rule!r} is not an object with the methods train and sample"
        remedy = f"; give {rule.__name__}(), not the class" if isinstance(rule, type) else ""
        raise ValueError(problem + remedy)
    draw = generator("checked rule")
    schedule = Schedule.linear()
    x0, y0, x, y = torch.randn(4, 2, 1, 32, 32, generator=draw)
    pair = NoisyPair.draw(x0, y0, schedule, draw, model_x=lambda z, t, guide: z)
    state = State(512, 508, x, y, x0.clamp(-1, 1), x, schedule)
    for method, guide in (("train", rule.train(pair)), ("sample", rule.sample(state))):
        wrong = None
        if not isinstance(guide, Tensor):
            wrong = f"a {type(guide).__name__}"
        elif guide.shape != x.shape or guide.dtype != x.dtype:
            mask = f"a mask {tuple(x.shape)} of {x.dtype}"
            wrong = f"{tuple(guide.shape)} of {guide.dtype} for {mask}"
        elif not guide.isfinite().all():
            wrong = "values that are not finite"
        if wrong:
            needed = "a guide is finite, with the shape and dtype of the mask, (B, 1, H, W)"
            raise ValueError(f"{type(rule).__name__}.{method} returned {wrong}; {needed}")
    return rule
