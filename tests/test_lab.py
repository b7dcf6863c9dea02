"""The lab: exact verdicts that follow from theory, every variant trained in miniature, and a rule from outside."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minipig.evidence import lab, likeness
from minipig.evidence.fingerprint import fingerprint
from minipig.evidence.lab import run_lab
from minipig.evidence.methods import NETWORKS
from minipig.evidence.protocol import Protocol
from minipig.evidence.ranking import EACH, ranked
from minipig.evidence.start import Start
from minipig.evidence.variants import LAB_NETWORKS, VARIANTS, enter
from minipig.evidence.worlds import exact_verdict
from minipig.guider import Clean, Matched
from minipig.rules import Dithered, LesionWeighted, Noisy, Sign
from minipig.seeds import SampleNoise
from minipig.unet import PRESETS, PairedUNet

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
        assert all(len(row[key]) == 2 for key in EACH), name
        assert row["seeds"] == [0, 1] and row["parameters"] > 0 and min(row["training_seconds"], row["seconds_a_pair"]) >= 0
        assert ("exact" in row) == (name in lab.RULES and name != "binarised")
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    assert (out.with_suffix("") / "samples.png").stat().st_size > 10_000
    assert result["rows"]["two-heads"]["parameters"] < 0.6 * result["rows"]["clean"]["parameters"]


@pytest.mark.parametrize("name", VARIANTS)
def test_calls_are_counted_right(name):
    variant, calls, steps = VARIANTS[name], [], 6
    nets = [LAB_NETWORKS[net].build(PRESETS["tiny"]) for net in variant.networks]
    for module in (module for net in nets for module in net.modules() if isinstance(module, PairedUNet)):
        module.register_forward_hook(lambda *_: calls.append(1))
    noise, masks = SampleNoise(0, range(1)), torch.ones(1, 1, 16, 16)
    variant.draw(*nets, Start(noise, (16, 16), masks, "ddim", int(variant.share * steps)))
    assert len(calls) == variant.calls * int(variant.share * steps)
    assert name != "finished-fewer" or len(calls) <= VARIANTS["clean"].calls * steps


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
    again = run_lab(out, out.parent / "no work", CPU, SMALL, seeds=[0, 0], names=["clean", "clean"])
    assert again["rows"] == result["rows"] and not (out.parent / "no work").exists()  # all that is recorded, and no more


@pytest.mark.parametrize(
    "change, says",
    [
        (dict(seeds=[3]), "seeds run from 0 to 2, not 3"),
        (dict(seeds=[]), "seeds run from 0 to 2, not none"),
        (dict(names=["previous"], solver="dpm++2m"), "previous is trained for the steps of ddim"),
        (dict(protocol=replace(SMALL, data="scans")), "not of scans"),
        (dict(out=Path("lab")), "give lab an ending, lab.json"),
    ],
)
def test_what_the_lab_cannot_do_is_said_at_once(change, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        run_lab(**dict(out=tmp_path / "lab.json", work=tmp_path, device=CPU, protocol=SMALL) | change)


def test_quick_asks_the_exact_worlds_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "STEPS", (8,))
    names = ["sign", "clean", "binarised", "noisy", "joint"]
    rows = run_lab(tmp_path / "lab.json", tmp_path / "work", CPU, SMALL, names=names, quick=True)["rows"]
    assert list(rows)[-2:] == ["sign", "binarised"] and set(rows["clean"]) == {"exact"} and rows["binarised"] == {}
    assert "exact, binary" in capsys.readouterr().out and not (tmp_path / "work").exists()


def test_verdicts_are_what_theory_says():
    """Who can tell x_t from its guide is right everywhere, the plug-in where f is straight, the sign nowhere."""
    found = {rule: exact_verdict(rule(), 64, 16) for rule in (Noisy, Clean, Sign, Dithered)}
    assert found[Noisy]["binary"] < 0.06 and found[Noisy]["three levels"] < 0.06
    assert found[Clean]["binary"] < 0.06 and found[Clean]["three levels"] > 0.12
    assert min(found[Sign].values()) > 0.1 and found[Dithered]["binary"] < found[Sign]["binary"]


class Softened(Matched):
    """A rule from outside the package."""

    def train(self, pair):
        return pair.x0_hat.tanh()

    def sample(self, state):
        return state.x0_hat.tanh()


class Rounded(Matched):
    """Another, which shares the model_y of the first."""

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
    records = json.loads((out.with_suffix("") / "fold_0.json").read_text())
    seconds = sum(records[f"network/{net}"]["seconds"] for net in VARIANTS["clean"].networks)
    assert rows["clean"]["parameters"] == result["rows"]["clean"]["parameters"]
    assert rows["clean"]["training_seconds"] == round(seconds, 1)


def helped(x):
    return x.sin()


def test_a_changed_rule_is_another_rule_and_an_unchanged_one_is_not(entered, monkeypatch):
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

    def by(k):
        class Closed(Softened):
            def sample(self, state):
                return helped(state.x0_hat) * k

        return Closed

    @dataclass
    class Decorated(Softened):
        shade: torch.Tensor = field(default_factory=lambda: torch.tensor([0.12345678]))

    rules = (Softened, Changed, Louder, Shared, Resampled, by(1), by(2), Decorated)
    found = [fingerprint(rule) for rule in rules]
    assert len(set(found)) == len(rules) and found == [fingerprint(rule) for rule in rules]
    monkeypatch.setitem(globals(), "helped", lambda x: x.cos())
    assert [a == b for a, b in zip(found, map(fingerprint, rules))] == [True] * 5 + [False, False, True]
    before = VARIANTS["softened"]
    enter("softened", Softened)
    assert VARIANTS["softened"].networks == before.networks
    enter("softened", Louder)
    after = VARIANTS["softened"]
    assert after.networks != before.networks and after.source("softened", "ddim") != before.source("softened", "ddim")
    assert VARIANTS["rounded"].networks == after.networks  # who shares its model_y learns anew with it


def test_a_rule_that_cannot_enter_is_told_why():
    with pytest.raises(ValueError, match="clean is in the package already"):
        enter("clean", Softened)
    with pytest.raises(ValueError, match="no rule cleen to share.*matched, clean"):
        enter("softened", Softened, trained_as="cleen")
    with pytest.raises(ValueError, match="a rule is a class with the methods train and sample, not <"):
        enter("softened", Softened())
    with pytest.raises(ValueError, match="softened has a loss of its own, which the model_y of matched does not learn by"):
        enter("softened", LesionWeighted, trained_as="matched")
    scope = {"Matched": Matched}
    exec("class Typed(Matched):\n    def sample(self, state): return state.x0_hat", scope)
    with pytest.raises(ValueError, match="source of Typed cannot be read; give a version"):
        enter("typed", scope["Typed"])


def test_ranking_is_by_the_mean_rank_over_the_seeds_that_all_have():
    rows = {
        "unknown": {},
        "right": dict(exact={"binary": {"8": 0.1}}),
        "wrong": dict(exact={"binary": {"8": 0.3}}),
        "nearest": dict(seeds=[0], fd=[0.5], fd_lesion=[3.0], agreement=[0.1], dice=[0.1]),  # ranks 1, 3, 3, 3
        "best": dict(seeds=[0, 1], fd=[1.0, 9.0], fd_lesion=[1.0, 9.0], agreement=[0.3, 0], dice=[0.3, 0]),  # 2, 1, 1, 1
        "between": dict(seeds=[0], fd=[2.0], fd_lesion=[2.0], agreement=[0.2], dice=[0.2]),  # 3, 2, 2, 2
    }
    assert list(ranked(rows)) == ["best", "between", "nearest", "right", "wrong", "unknown"]


def test_costs_are_the_median_over_seeds_since_a_pause_may_be_in_one(done, tmp_path):
    """A record's seconds go on while a computer sleeps."""
    out, result = done
    shutil.copytree(out.with_suffix(""), tmp_path / "lab")
    for seed, seconds in ((0, 9e9), (1, 8.0)):
        path = tmp_path / "lab" / f"fold_{seed}.json"
        records = json.loads(path.read_text())
        records["network/two-heads"]["seconds"] = seconds
        path.write_text(json.dumps(records))
    shop = lab.Workshop(SMALL, tmp_path / "lab", out.parent / "work", CPU, lab.lab_methods("ddim", 2), LAB_NETWORKS)
    assert lab.trained_rows(shop, "ddim")["two-heads"]["training_seconds"] == 8.0


class Wrong(Clean):
    gives = staticmethod(lambda x0_hat: x0_hat)

    def sample(self, state):
        return self.gives(state.x0_hat)


@pytest.mark.parametrize(
    "gives, told",
    [
        (lambda x: x[:, 0], r"Wrong.sample returned \(2, 32, 32\) of torch.float32 for a mask \(2, 1, 32, 32\)"),
        (lambda x: x.double(), "of torch.float64 for a mask"),
        (lambda x: x * torch.nan, "values that are not finite"),
        (lambda x: x.numpy(), "returned a ndarray"),
        (lambda x: None, "returned a NoneType"),
    ],
)
def test_a_guide_that_is_none_is_told_before_anything_is_trained(entered, monkeypatch, gives, told):
    monkeypatch.setattr(Wrong, "gives", staticmethod(gives))
    with pytest.raises(ValueError, match=told):
        enter("wrong", Wrong, version="1")
    with pytest.raises(ValueError, match=told):
        exact_verdict(Wrong(), 4, 4)
    assert "wrong" not in VARIANTS


def test_what_has_no_exact_verdict_is_refused(entered):
    with pytest.raises(ValueError, match="needs more than a pixel"):
        exact_verdict(lab.RULES["binarised"](), 4, 4)
    for none in ("clean", Clean):
        with pytest.raises(ValueError, match="a rule has the methods train and sample"):
            exact_verdict(none, 4, 4)

    class Asking(Clean):
        def __init__(self, k):
            self.k = k

    with pytest.raises(ValueError, match="must do without arguments"):
        enter("asking", Asking)


def test_the_exact_worlds_alone_keep_what_is_recorded(quick, done, tmp_path):
    """Another solver's records are others: asked into the same file, the lab refuses, even for the exact worlds."""
    out, _ = done
    before = out.read_bytes()
    with pytest.raises(ValueError, match="solver 'ddim' there, 'dpm\\+\\+2m' here"):
        run_lab(out, out.parent / "work", CPU, SMALL, names=["clean"], quick=True, solver="dpm++2m")
    assert out.read_bytes() == before
