"""The lab: exact verdicts that follow from theory, every variant trained in miniature, and a rule from outside."""

import json

import numpy as np
import pytest
import torch

from minipig.evidence import lab, likeness
from minipig.evidence.lab import ranked, run_lab
from minipig.evidence.methods import NETWORKS
from minipig.evidence.protocol import Protocol
from minipig.evidence.variants import LAB_NETWORKS, VARIANTS, enter, fingerprint
from minipig.evidence.worlds import exact_verdict
from minipig.guider import Clean, Matched
from minipig.rules import Dithered, Noisy, Sign

CPU = torch.device("cpu")
SMALL = Protocol(
    pairs=24,
    size=(16, 16),
    folds=3,
    preset="tiny",
    steps=2,
    batch=4,
    segmenter_steps=2,
    segmenter_batch=4,
    measured=4,
    reference=8,
    test=8,
    judge_pairs=8,
    judge_steps=2,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("lab") / "lab.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "STEPS", (4, 8))
        patch.setitem(lab.SOLVERS, "ddim", lab.SOLVERS["ddim"] | {"steps": 2})
        patch.setattr(likeness, "resampled", lambda *_, **__: (0, 0))
        yield out, run_lab(out, out.parent / "work", CPU, SMALL, seeds=[0, 1])


def test_every_variant_has_its_numbers(done):
    out, result = done
    assert set(result["rows"]) == set(VARIANTS)
    for name, row in result["rows"].items():
        assert all(len(row[key]) == 2 for key in (*lab.MEASURES, "nearer")), name
        assert row["parameters"] > 0 and row["training_seconds"] >= 0
        assert row["calls"] == VARIANTS[name].calls * int(VARIANTS[name].share * 2)
        assert ("exact" in row) == (name in lab.RULES)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    assert (out.with_suffix("") / "samples.png").stat().st_size > 10_000
    assert result["rows"]["two-heads"]["parameters"] < 0.6 * result["rows"]["clean"]["parameters"]


def test_networks_are_shared_and_trained_once(done):
    out, _ = done
    units = json.loads((out.with_suffix("") / "fold_0.json").read_text())
    trained = {name.removeprefix("network/") for name in units if name.startswith("network/")}
    own = {f"model_y-{name}" for name in ("previous", "noisy", "augmented", "lesion-weighted", "strength")}
    assert trained == {"guider", "model_y-clean", "model_y-matched", "mask", "joint", "two-heads", "mask-by-slice"} | own
    assert set(LAB_NETWORKS) >= set(NETWORKS) and LAB_NETWORKS["model_y-clean"] is NETWORKS["model_y-clean"]


def test_a_lab_goes_on_where_it_was_and_names_what_it_does_not_know(done, monkeypatch):
    out, result = done
    monkeypatch.setattr(lab.Workshop, "network", lambda *_: pytest.fail("a network was asked for"))
    assert run_lab(out, out.parent / "work", CPU, SMALL, seeds=[0, 1])["rows"] == result["rows"]
    with pytest.raises(ValueError, match="the lab has no cleen; it has .*matched, clean"):
        run_lab(out, out.parent / "work", CPU, SMALL, names=["cleen"])
    with pytest.raises(ValueError, match="seeds run from 0 to 2, not 3"):
        run_lab(out, out.parent / "work", CPU, SMALL, seeds=[3])


def test_quick_asks_the_exact_worlds_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "STEPS", (8,))
    rows = run_lab(tmp_path / "lab.json", tmp_path / "work", CPU, SMALL, names=["sign", "clean", "noisy"], quick=True)["rows"]
    assert list(rows)[-1] == "sign" and set(rows["clean"]) == {"exact"}
    assert "exact, binary" in capsys.readouterr().out and not (tmp_path / "work").exists()


def test_verdicts_are_what_theory_says():
    """Who can tell x_t from its guide is right everywhere, the plug-in where f is straight, the sign nowhere."""
    found = {rule: exact_verdict(rule(), 64, 16) for rule in (Noisy, Clean, Sign, Dithered)}
    assert found[Noisy]["binary"] < 0.06 and found[Noisy]["three levels"] < 0.06
    assert found[Clean]["binary"] < 0.06 and found[Clean]["three levels"] > 0.12
    assert found[Sign]["binary"] > 0.1 and found[Dithered]["binary"] < found[Sign]["binary"]


class Softened(Matched):
    """A rule from outside the package."""

    def train(self, pair):
        return pair.x0_hat.tanh()

    def sample(self, state):
        return state.x0_hat.tanh()


class Rounded(Clean):
    """Another, which is trained as `clean` is."""

    def sample(self, state):
        return state.x0_hat.round()


@pytest.fixture
def entered():
    before = [dict(registry) for registry in (lab.RULES, VARIANTS, LAB_NETWORKS)]
    enter("softened", Softened)
    enter("rounded", Rounded, trained_as="softened")
    yield
    for registry, content in zip((lab.RULES, VARIANTS, LAB_NETWORKS), before):
        registry.clear(), registry.update(content)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lab, "STEPS", (4, 8))
    monkeypatch.setitem(lab.SOLVERS, "ddim", lab.SOLVERS["ddim"] | {"steps": 2})
    monkeypatch.setattr(likeness, "resampled", lambda *_, **__: (0, 0))


def test_a_rule_of_ones_own_is_judged_trained_and_ranked_like_any(entered, quick, done, tmp_path):
    """The exact worlds, training, sampling and the ranking, without a line changed in the package."""
    own, matched = exact_verdict(Softened(), 16, 10), exact_verdict(Matched(), 16, 10)
    assert own == pytest.approx(matched, abs=0.02)  # tanh loses nothing
    work, names = done[0].parent / "work", ["softened", "rounded", "clean"]
    rows = run_lab(tmp_path / "own.json", work, CPU, SMALL, seeds=[0], names=names)["rows"]
    assert set(rows) == set(names) and all(np.isfinite(row["fd"][0]) for row in rows.values())
    assert VARIANTS["rounded"].networks == VARIANTS["softened"].networks != VARIANTS["clean"].networks
    assert rows["rounded"]["parameters"] == rows["clean"]["parameters"]


def test_other_results_may_rest_on_work_that_is_done(quick, done, tmp_path):
    out, result = done
    rows = run_lab(tmp_path / "again.json", out.parent / "work", CPU, SMALL, seeds=[0], names=["clean"])["rows"]
    assert rows["clean"]["fd"] == result["rows"]["clean"]["fd"][:1]
    for cost in ("parameters", "training_seconds"):
        assert rows["clean"][cost] == result["rows"]["clean"][cost]


def test_a_changed_rule_is_another_rule_and_an_unchanged_one_is_not(entered):
    class Changed(Softened):
        gain = 1.0

        def __init__(self, share=0.5):
            self.share = share

    class Louder(Changed):
        gain = 2.0

    class Shared(Changed):
        def __init__(self, share=0.9):
            self.share = share

    class Resampled(Changed):
        def sample(self, state):
            return state.x0_hat.sin()

    found = [fingerprint(rule) for rule in (Softened, Changed, Louder, Shared, Resampled)]
    assert len(set(found)) == 5 and found == [fingerprint(rule) for rule in (Softened, Changed, Louder, Shared, Resampled)]
    before = VARIANTS["softened"]
    enter("softened", Softened)
    assert VARIANTS["softened"].networks == before.networks
    enter("softened", Louder)
    after = VARIANTS["softened"]
    assert after.networks != before.networks and after.source("softened", "ddim") != before.source("softened", "ddim")


def test_a_rule_that_cannot_enter_is_told_why():
    with pytest.raises(ValueError, match="clean is in the package already"):
        enter("clean", Softened)
    with pytest.raises(ValueError, match="no rule cleen to share.*matched, clean"):
        enter("softened", Softened, trained_as="cleen")
    scope = {"Matched": Matched}
    exec("class Typed(Matched):\n    def sample(self, state): return state.x0_hat", scope)
    with pytest.raises(ValueError, match="source of Typed cannot be read; give a version"):
        enter("typed", scope["Typed"])


def test_ranking_is_by_the_mean_rank():
    rows = {
        "worst": dict(fd=[3.0], fd_lesion=[3.0], agreement=[0.1], dice=[0.1]),
        "best": dict(fd=[1.0], fd_lesion=[1.0], agreement=[0.3], dice=[0.3]),
        "between": dict(fd=[2.0], fd_lesion=[2.0], agreement=[0.2], dice=[0.2]),
    }
    assert list(ranked(rows)) == ["best", "between", "worst"]
