"""The judge: agreement of pairs that agree and that do not, and segmenters from outside."""

import pytest
import torch
from torch import nn

from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence import judge as judge_file
from minipig.evidence.judge import (
    agreement,
    measure_agreement,
    pair_agreement,
    score_pairs,
    train_judge,
    train_segmenter,
    verdict,
)
from minipig.segmentation import SegmentationUNet, predict, scores
from minipig.training.config import Config, load_data
from minipig.training.loop import Training

CPU = torch.device("cpu")
SHORT = Training(steps=3, batch=4, seed=5)


class OneLayer(nn.Module):
    """A segmenter from outside of the package."""

    def __init__(self, kernel: int = 3):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, kernel, padding=kernel // 2)

    def forward(self, y):
        return self.layer(y)


@pytest.fixture
def few(monkeypatch):
    """Small judges."""
    for name, value in (("JUDGE_PAIRS", 8), ("JUDGE_STEPS", 2), ("TEST_PAIRS", 6)):
        monkeypatch.setattr(judge_file, name, value)


def test_agreement_falls_when_masks_are_exchanged():
    """A judge trained for a moment on easy pairs: bright lesions. Rolling the masks by one pair
    breaks the agreement.
    """
    pairs = phantoms(64, (16, 16), seed=8)
    easy = Pairs(pairs.masks, torch.where(pairs.masks, 1.0, -1.0), pairs.names, pairs.patients)
    judge = train_segmenter(easy, Training(steps=40, batch=16, rate=3e-3, warmup=5))
    swapped = Pairs(pairs.masks.roll(4, 0), easy.images, pairs.names, pairs.patients)
    assert pair_agreement(judge, easy) > 0.9 > 0.5 > pair_agreement(judge, swapped)
    assert set(score_pairs(judge, easy)) == {"dice", "iou", "precision", "recall"}
    assert pair_agreement(judge, easy) == score_pairs(judge, easy)["dice"]
    assert not any(torch.isnan(p).any() for p in judge.parameters())


def test_train_segmenter_takes_any_factory_of_a_segmenter(tmp_path):
    pairs = phantoms(8, (16, 16), seed=3)
    nets = [train_segmenter(pairs, SHORT, build=lambda: OneLayer(5)) for _ in range(2)]
    weights = [net.layer.weight for net in nets]
    assert isinstance(nets[0], OneLayer) and weights[0].shape == (1, 1, 5, 5)
    assert torch.equal(*weights)  # initialised by the seed, whatever the network
    assert set(score_pairs(nets[0], pairs)) == {"dice", "iou", "precision", "recall"}
    assert isinstance(train_segmenter(pairs, SHORT), SegmentationUNet)
    checkpoint = tmp_path / "one.ckpt"
    once = train_segmenter(pairs, SHORT, CPU, checkpoint, build=OneLayer)
    again = train_segmenter(pairs, SHORT, CPU, checkpoint, build=OneLayer)
    assert torch.equal(once.layer.weight, again.layer.weight)
    with pytest.raises(ValueError, match="one.ckpt"):
        train_segmenter(pairs, SHORT, CPU, checkpoint)  # of another architecture


def test_train_judge_takes_one_too_and_returns_fresh_pairs(few, tmp_path, capsys):
    config = Config(size=(16, 16), pairs=8, preset="tiny")
    judge, fresh = train_judge(config, CPU, tmp_path / "own.ckpt", OneLayer)
    assert isinstance(judge, OneLayer) and len(fresh) == 6 and fresh.size == (16, 16)
    assert isinstance(train_judge(config, CPU, tmp_path / "unet.ckpt")[0], SegmentationUNet)
    found = measure_agreement(judge, fresh, fresh)
    assert found["synthetic"] == found["fresh"] == pair_agreement(judge, fresh)
    assert "pair agreement: synthetic" in capsys.readouterr().out


def test_the_judge_of_a_folder_is_tested_on_its_held_out_patients(few, tmp_path):
    phantoms(16, (16, 16), seed=4).save(tmp_path / "data")
    settings = dict(data=str(tmp_path / "data"), size=(16, 16), preset="tiny", holdout=0.25)
    config = Config(**settings)
    _, fresh = train_judge(config, CPU, tmp_path / "judge.ckpt")
    known, held_out = load_data(config)
    assert fresh.names == held_out.names and not set(fresh.patients) & set(known.patients)


def test_the_judge_of_many_held_out_patients_learns_from_half_of_them(
    few, tmp_path, monkeypatch, capsys
):
    phantoms(48, (16, 16), seed=4).save(tmp_path / "data")
    settings = dict(data=str(tmp_path / "data"), size=(16, 16), preset="tiny", holdout=0.5)
    config = Config(**settings)
    taught = []
    train = judge_file.train_segmenter
    monkeypatch.setattr(
        judge_file,
        "train_segmenter",
        lambda pairs, *rest: taught.append(pairs) or train(pairs, *rest),
    )
    known, held_out = load_data(config)
    lesions = int(held_out.masks.any((1, 2, 3)).sum())
    for enough, checkpoint in ((lesions + 1, "a"), (lesions, "b")):
        monkeypatch.setattr(judge_file, "ENOUGH", enough)
        _, fresh = train_judge(config, CPU, tmp_path / checkpoint)
        said = capsys.readouterr().out
        if enough > lesions:
            assert taught[-1].names == known.names and fresh.names == held_out.names
            assert f"own training pairs, so copies score well\n(with {enough} lesions" in said
        else:
            parts = [set(part.patients) for part in (known, taught[-1], fresh)]
            assert len(set.union(*parts)) == sum(map(len, parts)) == 12
            assert sorted(taught[-1].names + fresh.names) == sorted(held_out.names)
            assert "the judge learns from half of the held-out patients" in said


class Bright(nn.Module):
    """A judge that calls what is bright a lesion."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, y):
        return y - self.level


def drawn(boxes, brightness=1.0, n=16):
    """Pairs of black slices with two bright rows each, from row `box` on; None: no lesion."""
    masks = torch.zeros(len(boxes), 1, n, n, dtype=torch.bool)
    for mask, box in zip(masks, boxes):
        if box is not None:
            mask[0, box : box + 2] = True
    names = [f"{i}.png" for i in range(len(boxes))]
    return Pairs(masks, torch.where(masks, brightness, -1.0), names, names)


def test_empty_pairs_are_left_out_of_the_mean_and_counted():
    found = agreement(Bright(), drawn([0, 4, None, 8, None]))
    assert found["mean"] == 1 and found["empty"] == 2 and found["pairs"] == 5
    assert found["area"] == pytest.approx(3 / 5 * 2 / 16)
    nothing = agreement(Bright(), drawn([None, None]))  # a silent judge would call these perfect
    assert nothing["mean"] == nothing["floor"] == 0 and nothing["empty"] == 2


def test_the_error_is_over_patients_not_over_their_slices():
    """A slice filed four times says no more than once; one slice a patient: the usual error."""
    pairs = drawn([0, 2, 4, 6, 8, 10])
    pairs.images[::2, 0, 12] = 1.0  # the judge is wrong about every second one
    pairs.images += torch.linspace(0, 0.01, 6).reshape(-1, 1, 1, 1)  # none is another's copy
    once = agreement(Bright(), pairs)
    dice = scores(predict(Bright(), pairs.images), pairs.masks)["dice"]
    assert once["error"] == pytest.approx(dice.std().item() / 6**0.5) and once["patients"] == 6
    four = agreement(Bright(), pairs.subset([i for i in range(6) for _ in range(4)]))
    assert four["error"] == pytest.approx(once["error"]) and four["patients"] == 6
    assert agreement(Bright(), pairs.subset([0, 0, 0]))["error"] < 1e-12  # one tells nothing


def test_the_floor_is_what_exchanged_masks_score():
    apart = agreement(Bright(), drawn([0, 4, 8, 12]))
    assert apart["mean"] == 1 and apart["floor"] == 0
    alike = agreement(Bright(), drawn([4, 4, 4, 4]))  # a mask that says nothing about its slice
    assert alike["mean"] == alike["floor"] == 1
    halves = agreement(Bright(), drawn([0, 1, 0, 1, 0, 1]))  # neighbours share a row
    assert 0.5 < halves["floor"] < 1


@pytest.mark.parametrize(
    "mine, real, said",
    [
        (dict(mean=0.6), dict(mean=0.64), "synthetic pairs agree 94% as well as fresh real ones"),
        (dict(mean=1.0, error=0.0), dict(mean=1.0, error=0.0), "agree 100% as well as fresh"),
        (dict(mean=0.41, floor=0.4), {}, "masks fit their own slices no better than others'"),
        ({}, dict(mean=0.2, floor=0.19), "the judge finds fresh lesions no better than strangers'"),
        ({}, dict(mean=0.0, floor=0.0, error=0.0), "the judge finds fresh lesions no better than"),
        ({}, dict(mean=1.0, error=0.0, patients=1), "the judge finds fresh lesions no better than"),
        (dict(empty=19), {}, "fewer than two synthetic masks have a lesion"),
        ({}, dict(empty=20), "no fresh pair has a lesion, so nothing can be said"),
    ],
)
def test_a_share_is_told_only_where_it_means_something(mine, real, said):
    usual = dict(mean=0.6, error=0.02, floor=0.1, empty=0, pairs=20, patients=20)
    sentence = verdict(usual | mine, usual | real)
    assert said in sentence and ("%" in sentence) == ("%" in said)
