"""Has a guide rule changed? A hash of its source and of the values it uses, lest another rule's results be taken for its own.

Seen are the methods, the functions of the rule's own module that they call by name, and the values of its attributes, of
closures and of globals; not what lies deeper, in functions that those functions call or in other packages.
"""

from inspect import getclosurevars, getmembers, getsource, isfunction, ismethod, ismodule
from typing import Callable

from torch import Tensor

from ..guider import GuideRule
from .units import digest


def fingerprint(rule: type[GuideRule]) -> str:
    """A short hash of a rule: the source of its methods and of the functions beside it that they call, and all values that
    they use, of rule() or from outside. Raises ValueError if that cannot be read."""
    own = [member for member in getmembers(rule()) if not member[0].startswith(("__", "_abc_", "_is_"))]
    seen = {of: described(value, rule) for of, value in own if not ismethod(value)}
    for of, method in getmembers(rule, isfunction):
        if of.startswith("__") and (of != "__init__" or method.__code__.co_filename == "<string>"):
            continue  # not of a rule, or written by a decorator such as dataclass
        outside = getclosurevars(method)
        used = {name: described(value, rule) for name, value in (outside.nonlocals | outside.globals).items()}
        seen |= {f"{of}()": [source_of(method, rule), used]}
    return digest(seen)[:6]


def described(value, rule: type[GuideRule]) -> str:
    """What decides a value that a rule uses, as text."""
    if isfunction(value) and value.__module__ == rule.__module__:
        return source_of(value, rule)
    if isinstance(value, Tensor):
        return repr(value.tolist())
    if hasattr(value, "__qualname__") or ismodule(value):
        return getattr(value, "__qualname__", None) or value.__name__
    if " at 0x" in repr(value):
        raise ValueError(f"{rule.__name__} uses {value!r}, which has no text; give a version, and a new one with each change")
    return repr(value)


def source_of(function: Callable, rule: type[GuideRule]) -> str:
    try:
        return getsource(function)
    except OSError as error:
        why = f"the source of {rule.__name__} cannot be read; give a version, and a new one with each change"
        raise ValueError(why) from error
