"""The names that a notebook imports."""

import subprocess
import sys

import pytest

import minipig


def test_every_name_of_the_package_can_be_imported():
    names = {}
    exec("from minipig import *", names)
    assert set(minipig.__all__) <= names.keys()
    for name in minipig.__all__:
        found = getattr(minipig, name)
        assert names[name] is found
        module = getattr(found, "__module__", f"minipig.{minipig.HOME[name]}")
        assert module == f"minipig.{minipig.HOME[name]}", f"{name} is defined in {module}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'minipig' has no attribute 'Norm'"):
        minipig.Norm  # noqa: B018
    with pytest.raises(ImportError):
        exec("from minipig import Norm")


def test_importing_the_package_does_not_wait_for_torch():
    code = "import minipig, minipig.cli, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
