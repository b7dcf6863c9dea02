"""Completions in miniature, and their scores against what they are by hand."""

import json
from dataclasses import asdict

import pytest
import torch

from minipig.evidence import completions, demo, ensembles, metrics
from minipig.evidence.completions import brighter, near, run_completions
from minipig.evidence.ensembles import central, dice_of, forecast, with_interval
from minipig.files import save_checkpoint
from minipig.pairs import Pairs
from minipig.phantoms import SLICES, phantoms
from minipig.run import Config, network

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    for module, name, value in ((demo, "JUDGE_PAIRS", 8), (demo, "JUDGE_STEPS", 2), (demo, "TEST_PAIRS", 4)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(completions.Protocol, "segmenter_steps", 2)
    monkeypatch.setattr(ensembles, "resampled", lambda *_, **__: (0.0, 1.0))
    shorter = completions.complete
    monkeypatch.setattr(completions, "complete", lambda *a, **k: shorter(*a, **{"steps": 2, "corrections": 1} | k))


def test_a_run_is_measured_and_goes_on_where_it_was(small, tmp_path, monkeypatch, capsys):
    config = Config(pairs=8, size=(16, 16), preset="tiny", steps=2, batch=4)
    weights = [network(config, i).state_dict() for i in range(2)]
    save_checkpoint(tmp_path / "run" / "pair.pt", dict(config=asdict(config), model_x=weights[0], model_y=weights[1]))
    ask = (tmp_path / "out.json", tmp_path / "run", 3, 2, CPU, tmp_path / "work")
    result = run_completions(*ask)
    assert set(result["masks"]) == {"guider", "uncorrected", "mask network", "U-Net"}
    for name, row in result["masks"].items():
        assert 0 <= row["dice"][0] <= 1 and 0 <= row["brier"] <= 1 and sum(n for *_, n in row["calibration"]) == 3 * 16 * 16
        assert ("ahead_of_U-Net" in row) == ("dice_of_one" in row) == (name != "U-Net")
    assert result["lesions"]["healthy"]["brighter"] == 0 < result["lesions"]["true lesion"]["brighter"]
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(result))
    assert "calibration error" in capsys.readouterr().out
    monkeypatch.setattr(completions, "complete", lambda *_, **__: pytest.fail("something is completed again"))
    assert run_completions(*ask) == result
    with pytest.raises(ValueError, match="n 3 there, 4 here"):
        run_completions(*ask[:2], 4, *ask[3:])


def test_a_lesion_is_put_in_and_the_rest_is_kept(monkeypatch):
    asked = {}

    def complete(pair, mask, slice_):
        asked.update(mask=mask, slice_=slice_)
        return mask, slice_.nan_to_num(0.25)

    monkeypatch.setattr(completions, "complete", complete)
    ill, healthy = phantoms(2 * SLICES, seed=1), phantoms(2 * SLICES, seed=1, healthy=True)
    made = completions.put_in(None, ill, healthy, CPU)
    drawn = near(ill.masks)
    assert torch.equal(asked["mask"] > 0, ill.masks) and torch.equal(asked["slice_"].isnan(), drawn)
    assert torch.equal(made[~drawn], healthy.images[~drawn]) and (made[drawn] == 0.25).all()
    assert drawn[ill.masks].all() and (drawn.sum((1, 2, 3)) > ill.masks.sum((1, 2, 3))).all()


def test_the_central_mask_is_the_one_that_agrees_best():
    masks = torch.zeros(3, 2, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, :, :2], masks[1, 0, :, :3], masks[2, 0, :, 2:] = True, True, True  # the middle one overlaps with both
    masks[0, 1, :, 0], masks[2, 1, :, 0] = True, True
    assert torch.equal(central(masks)[0], masks[1, 0]) and torch.equal(central(masks)[1], masks[0, 1])


def test_near_grows_a_mask_by_its_margin():
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 8, 8] = True
    assert near(mask).sum() == (2 * completions.MARGIN + 1) ** 2


def test_lesions_of_phantoms_are_brighter_by_what_was_added():
    healthy = phantoms(8, seed=1, healthy=True)
    masks = phantoms(8, seed=1).masks
    images = healthy.images + 0.125 * masks - 0.5 * ~masks  # what is around a lesion does not count
    assert brighter(Pairs(masks, images, healthy.names, healthy.patients), healthy) == pytest.approx(0.125, abs=1e-6)


def test_scores_of_a_forecaster_who_says_what_he_knows(monkeypatch):
    """Pixels that are lesion with the stated probability: calibrated, and a Brier score of p (1 - p) on average."""
    monkeypatch.setattr(ensembles, "resampled", lambda *a, **k: metrics.resampled(*a, **k, times=50))
    draw = torch.Generator().manual_seed(0)
    p = torch.rand(40, 1, 32, 32, generator=draw)
    masks = torch.rand(p.shape, generator=draw) < p
    row, (dice, low, high) = forecast(p, masks), with_interval(dice_of(p, masks))
    assert row["calibration_error"] < 0.01 and row["brier"] == pytest.approx((p * (1 - p)).mean().item(), abs=0.005)
    assert low < dice < high
    few = (torch.rand(8, *p.shape, generator=draw) < p).float().mean(0)  # eight masks of the same forecaster
    made_up, raw = forecast(few, masks, members=8)["brier"], forecast(few, masks)["brier"]
    assert made_up == pytest.approx(row["brier"], abs=0.005) and raw > made_up + 0.015
    sure = (p > 0.5).float()
    assert forecast(sure, masks)["brier"] == pytest.approx(0.25, abs=0.01) == forecast(sure, masks)["calibration_error"]
    assert dice_of(sure, masks).mean() == pytest.approx(dice)
