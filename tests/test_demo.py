"""The main job: its five steps share what they should, and it starts with nothing written."""

import json
from dataclasses import asdict

import pytest
import torch

from minipig.data.checks import held_out
from minipig.data.phantoms import phantoms
from minipig.evidence import demo as demo_file
from minipig.evidence.demo import Demo, run_demo, segmentation_table, stopwatch
from minipig.segmentation import SCORES
from minipig.training.config import Config, load_data

CPU = torch.device("cpu")
SMALL = Demo(Config(pairs=8, size=(16, 16), preset="tiny", seed=3), 6, 7, "dpm++2m")


def same(a, b):
    return torch.equal(a.masks, b.masks) and torch.equal(a.images, b.images)


@pytest.fixture
def steps(monkeypatch):
    """What each step is given; none of them trains or samples."""
    given = {"train_segmenter": [], "score_pairs": []}
    drawn = phantoms(6, (16, 16), seed=7)
    test = phantoms(5, (16, 16), seed=8)

    def step(name, result):
        def spy(*arguments, **more):
            given[name] = (*arguments, *more.values())
            return result

        monkeypatch.setattr(demo_file, name, spy)

    def train_segmenter(pairs, training, device, checkpoint, label):
        given["train_segmenter"].append((pairs, training, checkpoint))
        return len(given["train_segmenter"])

    def score_pairs(net, pairs):
        given["score_pairs"].append((net, pairs))
        return dict.fromkeys(SCORES, 0.1 * net)

    step("train_pair", "pair model")
    step("sample_folder", drawn)
    step("figures_are_current", False)
    step("draw_figures", None)
    step("train_judge", ("judge", test))
    step("measure_agreement", {"synthetic": 0.5, "fresh": 0.6})
    monkeypatch.setattr(demo_file, "train_segmenter", train_segmenter)
    monkeypatch.setattr(demo_file, "score_pairs", score_pairs)
    return given, drawn, test


def test_the_five_steps_share_pairs_networks_and_settings(steps, tmp_path):
    given, drawn, test = steps
    metrics = run_demo(tmp_path, SMALL, CPU)
    # 1 and 2: the generator is trained on the real pairs
    folder, config, real, _ = given["train_pair"]
    assert folder == tmp_path / "pair" and config == SMALL.pair
    assert same(real, load_data(SMALL.pair)[0])
    # 3: the samples are those of this generator, by the demo's solver
    expected = (tmp_path / "synthetic", "pair model", 6, (16, 16), 7, 3, CPU, "dpm++2m")
    assert given["sample_folder"] == expected
    assert given["draw_figures"][:3] == (tmp_path, "pair model", drawn)
    # 4: these samples are judged, beside fresh pairs
    assert given["train_judge"][0] == SMALL.pair
    assert given["measure_agreement"] == ("judge", drawn, test)
    # 5: the segmenters are trained on the same real and synthetic pairs, and as many fresh ones
    fresh = phantoms(6, (16, 16), held_out("demo-fresh"))
    sets = [real, real + drawn, real + fresh] * 3
    assert all(same(a, b) for (a, *_), b in zip(given["train_segmenter"], sets, strict=True))
    seeds = [training.seed for _, training, _ in given["train_segmenter"]]
    assert seeds == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({checkpoint for *_, checkpoint in given["train_segmenter"]}) == 9
    # and are tested on the pairs that are fresh to the judge
    assert [pairs is test for _, pairs in given["score_pairs"]] == [True] * 9
    # each value is in metrics.json
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert list(metrics) == ["seconds", "segmentation", "pair_agreement", "demo"]
    assert metrics["pair_agreement"] == {"synthetic": 0.5, "fresh": 0.6}
    assert metrics["segmentation"]["real+synthetic"]["dice"] == pytest.approx([0.2, 0.5, 0.8])
    assert metrics["demo"] == asdict(SMALL)
    assert "+10.0, standard error 0.0" in segmentation_table(metrics["segmentation"])


def test_nothing_is_written_for_bad_settings_or_data(tmp_path):
    out = tmp_path / "out"
    for bad, message in (
        (Config(size=(18, 18), preset="tiny"), "18"),
        (Config(data=str(tmp_path / "nowhere"), preset="tiny"), "nowhere"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            run_demo(out, Demo(bad), CPU)
        assert not out.exists()
    with pytest.raises(ValueError, match="synthetic must be at least 1, not 0"):
        Demo(synthetic=0)
    with pytest.raises(ValueError, match="steps"):
        Demo(sampling_steps=5000)


def test_the_stopwatch_adds_up_over_interruptions(tmp_path):
    path = tmp_path / "seconds.json"
    with pytest.raises(KeyboardInterrupt), stopwatch(path):
        raise KeyboardInterrupt
    first = json.loads(path.read_text())["seconds"]
    with stopwatch(path):
        pass
    assert json.loads(path.read_text())["seconds"] > first > 0
