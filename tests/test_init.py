"""The names that a notebook imports, and a pair model trained and sampled in ten lines."""

import subprocess
import sys

import pytest

import minipig

TEN_LINES = """
from minipig import PRESETS, Clean, PairedUNet, PairModel, Schedule, Training
from minipig import fit, model_x_loss, model_y_loss, phantoms, sample
pairs, rule, training = phantoms(16, size=(16, 16)), Clean(), Training(steps=3, batch=4)
model_x, model_y = PairedUNet(**PRESETS["tiny"]), PairedUNet(**PRESETS["tiny"])
*_, x = fit(model_x, model_x_loss, pairs, training)
*_, y = fit(model_y, lambda net, pair: model_y_loss(net, pair, rule), pairs, training)
pair = PairModel(x.average, y.average, Schedule.linear(), rule)
masks, slices = next(sample(pair, n=2, size=(16, 16), steps=4))
"""


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


def test_a_pair_model_is_trained_and_sampled_in_ten_lines():
    names = {}
    exec(TEN_LINES, names)
    assert len(TEN_LINES.strip().splitlines()) <= 10
    assert names["x"].step == names["y"].step == 3
    masks = names["masks"]
    slices = names["slices"]
    assert masks.shape == slices.shape == (2, 1, 16, 16)
    assert set(masks.unique().tolist()) <= {-1.0, 1.0} and slices.abs().max() <= 1
