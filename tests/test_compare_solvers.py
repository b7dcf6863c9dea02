"""The comparison of solvers in miniature: untrained networks, a few pairs, a few steps."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from minipig.data.checks import held_out
from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.evidence import judge
from minipig.evidence.bench import compare_solvers as solvers
from minipig.evidence.bench.compare_solvers import run_solvers, table
from minipig.evidence.features import plain_features
from minipig.evidence.tables.table1 import independent_phantoms
from minipig.training.config import Config, network

CASES = {"slow": ("ddim", 3), "twin": ("ddim", 3), "fast": ("dpm++2m", 3)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers, "CASES", CASES)
        for name, value in (("JUDGE_PAIRS", 8), ("JUDGE_STEPS", 2), ("TEST_PAIRS", 4)):
            patch.setattr(judge, name, value)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of random networks; no layer is 0, so that solvers differ."""
    config = Config(size=(16, 16), preset="tiny")
    nets = {}
    for i, name in enumerate(("model_x", "model_y")):
        weights = network(config, i).state_dict()
        draw = torch.Generator().manual_seed(i)
        changes = {key: torch.randn(w.shape, generator=draw) for key, w in weights.items()}
        nets[name] = {key: w + 0.05 * changes[key] for key, w in weights.items()}
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder / "pair.pt", {"config": asdict(config)} | nets)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def result(run, work):
    return run_solvers(work / "solvers.json", run, 3, 2, CPU, work)


def test_every_case_has_every_measure_for_every_seed(result):
    assert list(result["measured"]) == ["slow", "twin", "fast", "fresh"] == list(result["summary"])
    for name, rows in result["measured"].items():
        assert len(rows) == 2
        for row in rows:
            assert set(row) == set(solvers.MEASURES) == set(result["summary"][name])
            assert 0 <= row["agreement"] <= 1 and row["frechet"] > 0
            assert np.isfinite(row["finest"])
    asked = result["asked"]
    assert asked["seeds"] == 2 and asked["n"] == 3 and asked["run"]["preset"] == "tiny"
    assert set(result["seconds"]) == set(CASES) and min(result["seconds"].values()) > 0
    assert set(result["machine"]) >= {"python", "torch", "device", "threads"}


def test_a_rule_that_a_solver_does_not_fit_is_refused_before_a_judge_is_trained(run, tmp_path):
    saved = load_checkpoint(run / "pair.pt", {"config"})
    save_checkpoint(
        tmp_path / "pair.pt", saved | {"config": saved["config"] | {"rule": "previous"}}
    )
    with pytest.raises(ValueError, match="Previous needs the solver ddim with 256 sampling steps"):
        run_solvers(tmp_path / "solvers.json", tmp_path, 3, 2, CPU, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_equal_solvers_differ_by_nothing_and_others_by_something(result):
    for measure in ("agreement", "frechet"):
        twin = result["summary"]["twin"][measure]
        assert twin["difference"] == twin["difference_error"] == 0
        assert twin["mean"] == result["summary"]["slow"][measure]["mean"]
    assert result["summary"]["fast"]["frechet"]["difference"] != 0


def test_the_finest_power_is_that_of_the_last_ring_by_the_spread_of_fresh_phantoms(result):
    other = independent_phantoms(6, (16, 16), held_out("solvers", 1))
    truth, features = (plain_features(other.subset(part))[:, 7] for part in (range(3), range(3, 6)))
    expected = (features.mean() - truth.mean()) / truth.std()
    assert result["measured"]["fresh"][1]["finest"] == pytest.approx(expected)


def test_mean_and_error_are_those_of_the_seeds(result):
    values = np.array([row["frechet"] for row in result["measured"]["fast"]])
    paired = values - [row["frechet"] for row in result["measured"]["slow"]]
    summary = result["summary"]["fast"]["frechet"]
    assert summary["mean"] == pytest.approx(values.mean())
    assert summary["error"] == pytest.approx(np.ptp(values) / 2)
    assert summary["difference"] == pytest.approx(paired.mean())
    assert summary["difference_error"] == pytest.approx(np.ptp(paired) / 2)


def test_it_resumes(result, run, work, monkeypatch):
    """Finished rows are not sampled again, a lost one comes out the same, a seed can be added."""
    asked = []
    sample_folder = solvers.sample_folder

    def spy(folder, *args, **kwargs):
        asked.append(folder.name)
        return sample_folder(folder, *args, **kwargs)

    monkeypatch.setattr(solvers, "sample_folder", spy)
    out = work / "again.json"
    same = run_solvers(out, run, 3, 2, CPU, work)
    assert same | {"seconds": 0} == result | {"seconds": 0} and asked == []
    (work / "fast_1.json").unlink()
    again = run_solvers(out, run, 3, 2, CPU, work)
    assert asked == ["fast_1"]
    assert again["measured"] == result["measured"]
    assert len(run_solvers(out, run, 3, 3, CPU, work)["measured"]["slow"]) == 3
    assert asked == ["fast_1", "slow_2", "twin_2", "fast_2"]
    with pytest.raises(ValueError, match="another configuration"):
        run_solvers(out, run, 4, 2, CPU, work)


def test_the_table_has_a_line_for_each_case(result):
    lines = table(result).splitlines()
    names = ["slow", "twin", "paired", "fast", "paired", "fresh", "paired"]
    assert [line.split()[0] for line in lines[1:-1]] == names
    assert all(title in lines[0] for title in solvers.MEASURES.values())
    assert lines[3].split()[1:4] == ["+0.000", "±", "0.000"]
    assert lines[-1].endswith("2 seeds of 3 pairs")


def test_the_file_contains_what_is_returned(run, tmp_path, capsys):
    out = tmp_path / "results" / "solvers.json"
    result = run_solvers(out, run, 2, 2, CPU, tmp_path / "work")
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    assert table(result) in capsys.readouterr().out


def test_a_run_on_other_data_is_refused(run, tmp_path):
    out = tmp_path / "solvers.json"
    saved = torch.load(run / "pair.pt", weights_only=True)
    for change, message in (
        ({"data": "somewhere"}, "was trained on somewhere; --solvers needs a run on phantoms"),
        ({"seed": held_out("solvers")}, r"seed 3001 is kept for testing \(solvers\)"),
    ):
        save_checkpoint(tmp_path / "pair.pt", saved | {"config": saved["config"] | change})
        with pytest.raises(ValueError, match=message):
            run_solvers(out, tmp_path, 2, 2, CPU, tmp_path / "work")
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        run_solvers(out, run, 2, 1, CPU, tmp_path / "work")
