"""Completions in miniature, and their scores against results by hand."""

import json
from dataclasses import asdict
from functools import partial

import pytest
import torch

from minipig.data.files import save_checkpoint
from minipig.data.pairs import Pairs
from minipig.data.phantoms import SLICES, phantoms
from minipig.evidence import judge
from minipig.evidence.bench import completions
from minipig.evidence.bench.completions import brighter, near, run_completions
from minipig.evidence.bench.ensembles import central, dice_of, forecast, with_interval
from minipig.evidence.tables.protocol import Protocol
from minipig.training.config import Config, network

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    for name, value in (("JUDGE_PAIRS", 8), ("JUDGE_STEPS", 2), ("TEST_PAIRS", 4)):
        monkeypatch.setattr(judge, name, value)
    monkeypatch.setattr(completions, "Protocol", partial(Protocol, segmenter_steps=2))
    told = lambda values: [float(values.mean()), 0.0, 1.0]  # noqa: E731
    monkeypatch.setattr(completions, "with_interval", told)
    complete = completions.complete

    def shorter(*args, corrections=None, **settings):
        return complete(*args, steps=2, corrections=1 if corrections is None else 0, **settings)

    monkeypatch.setattr(completions, "complete", shorter)


def test_a_run_is_measured_and_resumed(small, tmp_path, monkeypatch, capsys):
    config = Config(pairs=8, size=(16, 16), preset="tiny", steps=2, batch=4, deformed=5)
    learnt, fit = [], completions.fit
    monkeypatch.setattr(
        completions, "fit", lambda *args, **how: learnt.append(len(args[2])) or fit(*args, **how)
    )
    nets = {name: network(config, i).state_dict() for i, name in enumerate(("model_x", "model_y"))}
    save_checkpoint(tmp_path / "run" / "pair.pt", {"config": asdict(config)} | nets)
    settings = (tmp_path / "out.json", tmp_path / "run", 3, 2, CPU, tmp_path / "work")
    result = run_completions(*settings)
    assert learnt == [8 + 5]  # the rival learns from all that the run has learnt from
    assert set(result["masks"]) == {"guider", "uncorrected", "mask network", "U-Net"}
    for name, row in result["masks"].items():
        assert 0 <= row["dice"][0] <= 1 and 0 <= row["brier"] <= 1
        assert sum(n for *_, n in row["calibration"]) == 3 * 16 * 16
        assert ("ahead_of_U-Net" in row) == ("dice_of_one" in row) == (name != "U-Net")
    lesions = result["lesions"]
    assert lesions["healthy"]["brighter"] == 0 < lesions["true lesion"]["brighter"]
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(result))
    assert "calibration error" in capsys.readouterr().out
    fail = lambda *_, **__: pytest.fail("something is completed again")  # noqa: E731
    monkeypatch.setattr(completions, "complete", fail)
    assert run_completions(*settings) == result
    with pytest.raises(ValueError, match="n 3 there, 4 here"):
        run_completions(*settings[:2], 4, *settings[3:])


def test_a_run_on_other_data_is_refused(tmp_path):
    config = Config(data="somewhere", size=(16, 16), preset="tiny")
    nets = {name: network(config, 0).state_dict() for name in ("model_x", "model_y")}
    save_checkpoint(tmp_path / "pair.pt", {"config": asdict(config)} | nets)
    with pytest.raises(ValueError, match="on somewhere; completions need a run on phantoms"):
        run_completions(tmp_path / "out.json", tmp_path, 3, 2, CPU, tmp_path / "work")
    with pytest.raises(ValueError, match="samples must be at least 2, not 1"):
        run_completions(tmp_path / "out.json", tmp_path, 3, 1, CPU, tmp_path / "work")


def test_a_lesion_is_put_in_and_the_rest_is_kept(monkeypatch):
    asked = {}

    def complete(pair, mask, slice_):
        asked.update(mask=mask, slice_=slice_)
        return mask, slice_.nan_to_num(0.25)

    monkeypatch.setattr(completions, "complete", complete)
    ill = phantoms(2 * SLICES, seed=1)
    healthy = phantoms(2 * SLICES, seed=1, healthy=True)
    made = completions.put_in(None, ill, healthy, CPU)
    drawn = near(ill.masks)
    assert torch.equal(asked["mask"] > 0, ill.masks) and torch.equal(asked["slice_"].isnan(), drawn)
    assert torch.equal(made[~drawn], healthy.images[~drawn]) and (made[drawn] == 0.25).all()
    assert drawn[ill.masks].all() and (drawn.sum((1, 2, 3)) > ill.masks.sum((1, 2, 3))).all()


def test_the_central_mask_is_the_one_that_agrees_best():
    masks = torch.zeros(3, 2, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, :, :2] = True
    masks[1, 0, :, :3] = True  # overlaps with both others
    masks[2, 0, :, 2:] = True
    masks[0, 1, :, 0] = True
    masks[2, 1, :, 0] = True
    first, second = central(masks)
    assert torch.equal(first, masks[1, 0]) and torch.equal(second, masks[0, 1])


def test_near_grows_a_mask_by_its_margin():
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 8, 8] = True
    assert near(mask).sum() == (2 * completions.MARGIN + 1) ** 2


def test_lesions_of_phantoms_are_brighter_by_what_was_added():
    healthy = phantoms(8, seed=1, healthy=True)
    masks = phantoms(8, seed=1).masks
    images = healthy.images + 0.125 * masks - 0.5 * ~masks  # the rest of the slice does not count
    pairs = Pairs(masks, images, healthy.names, healthy.patients)
    assert brighter(pairs, healthy) == pytest.approx(0.125, abs=1e-6)


def test_scores_of_a_calibrated_forecast():
    """Pixels are lesion with the given probability p: the Brier score is p (1 - p) on average."""
    draw = torch.Generator().manual_seed(0)
    p = torch.rand(40, 1, 32, 32, generator=draw)
    masks = torch.rand(p.shape, generator=draw) < p
    row = forecast(p, masks)
    assert row["calibration_error"] < 0.01
    assert row["brier"] == pytest.approx((p * (1 - p)).mean().item(), abs=0.005)
    dice, low, high = with_interval(dice_of(p, masks))
    assert low < dice < high
    # eight masks of the same forecast
    few = (torch.rand(8, *p.shape, generator=draw) < p).float().mean(0)
    corrected = forecast(few, masks, members=8)["brier"]
    assert corrected == pytest.approx(row["brier"], abs=0.005)
    assert forecast(few, masks)["brier"] > corrected + 0.015
    sure = (p > 0.5).float()
    found = forecast(sure, masks)
    assert found["brier"] == pytest.approx(0.25, abs=0.01)
    assert found["calibration_error"] == pytest.approx(0.25, abs=0.01)
    assert dice_of(sure, masks).mean() == pytest.approx(dice)
