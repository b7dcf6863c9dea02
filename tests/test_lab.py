"""The lab: every variant trained in miniature, ranked, resumed; and a rule of your own in it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minipig.evidence.lab import runner as lab
from minipig.evidence.lab.ranking import EACH, ranked, show, trained_rows
from minipig.evidence.lab.runner import run_lab
from minipig.evidence.lab.variants import LAB_NETWORKS, VARIANTS, enter
from minipig.evidence.methods.batch import Batch
from minipig.evidence.methods.registry import NETWORKS
from minipig.evidence.tables.protocol import Protocol
from minipig.rules import Clean, LesionWeighted, Matched, Previous
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise
from minipig.unet import PRESETS, PairedUNet
from minipig.worlds.verdict import compared, exact_verdict, show_verdict

CPU = torch.device("cpu")
TINY = dict(preset="tiny", steps=2, batch=4, segmenter_steps=2, segmenter_batch=4)
MEASURED = dict(measured=4, reference=8, test=8, judge_pairs=8, judge_steps=2)
SMALL = Protocol(pairs=24, size=(16, 16), folds=3, **TINY, **MEASURED)


def shorten(patch):
    """Few steps, in the exact worlds and in sampling."""
    patch.setattr(lab, "STEPS", (4, 8))
    patch.setitem(lab.SOLVERS, "ddim", replace(lab.SOLVERS["ddim"], steps=2))
    patch.setattr(Previous.__init__, "__defaults__", (2,))


@pytest.fixture
def quick(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished lab of two seeds: its file, and what run_lab returned."""
    out = tmp_path_factory.mktemp("lab") / "lab.json"
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return out, run_lab(out, out.parent / "work", CPU, SMALL, seeds=[0, 1])


@pytest.fixture
def registries():
    """Rules that a test enters are removed after it."""
    before = [dict(registry) for registry in (lab.RULES, VARIANTS, LAB_NETWORKS)]
    yield
    for registry, content in zip((lab.RULES, VARIANTS, LAB_NETWORKS), before):
        registry.clear()
        registry.update(content)


# --- trained variants ------------------------------------------------------------------------


def test_every_variant_has_its_numbers(done):
    out, result = done
    rows = result["rows"]
    assert set(rows) == set(VARIANTS)
    for name, row in rows.items():
        assert all(len(row[key]) == 2 for key in EACH), name
        assert row["seeds"] == [0, 1] and row["parameters"] > 0
        assert min(row["training_seconds"], row["seconds_a_pair"]) >= 0
        exact = name in lab.RULES and name != "binarised"
        assert ("exact" in row) == (name in result["verdicts"]) == exact
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    assert (out.with_suffix("") / "samples.png").stat().st_size > 10_000
    assert rows["two-heads"]["parameters"] < 0.6 * rows["clean"]["parameters"]


@pytest.mark.parametrize("name", VARIANTS)
def test_calls_are_counted_right(name):
    variant = VARIANTS[name]
    steps = int(variant.share * 6)
    calls = []
    nets = [LAB_NETWORKS[net].build(PRESETS["tiny"]) for net in variant.networks]
    modules = [module for net in nets for module in net.modules()]
    for module in (module for module in modules if isinstance(module, PairedUNet)):
        module.leave.register_forward_hook(lambda *_: calls.append(1))  # the last layer
    noise = SampleNoise(0, range(1))
    masks = torch.ones(1, 1, 16, 16)
    variant.draw(*nets, Batch(noise, (16, 16), masks, Schedule.linear(), "ddim", steps))
    assert len(calls) == variant.calls * steps
    assert name != "finished-fewer" or len(calls) <= VARIANTS["clean"].calls * 6


def test_networks_are_shared_and_trained_once(done):
    out, _ = done
    units = json.loads((out.with_suffix("") / "fold_0.json").read_text())
    trained = {name.removeprefix("network/") for name in units if name.startswith("network/")}
    rules = ("clean", "matched", "previous", "blank", "noisy", "augmented", "lesion-weighted")
    shared = {"guider", "mask", "joint", "two-heads", "two-times"}
    shared |= {"mask-by-slice", "model_y-strength"}
    assert trained == shared | {f"model_y-{name}" for name in rules}
    assert set(LAB_NETWORKS) >= set(NETWORKS)
    assert LAB_NETWORKS["model_y-clean"] is NETWORKS["model_y-clean"]


def test_a_lab_resumes(quick, done, monkeypatch):
    """Nothing is trained again; the result has all that is recorded, whatever was asked for."""
    out, result = done
    fail = lambda *_: pytest.fail("a network was asked for")  # noqa: E731
    monkeypatch.setattr(lab.Experiment, "network", fail)
    assert run_lab(out, out.parent / "work", CPU, SMALL, seeds=[0, 1])["rows"] == result["rows"]
    again = run_lab(out, out.parent / "no work", CPU, SMALL, seeds=[0, 0], names=["clean", "clean"])
    assert again["rows"] == result["rows"]
    assert not (out.parent / "no work").exists()


def test_other_results_may_share_the_work_folder(quick, done, tmp_path):
    out, result = done
    work = out.parent / "work"
    rows = run_lab(tmp_path / "again.json", work, CPU, SMALL, seeds=[0], names=["clean"])["rows"]
    before = result["rows"]["clean"]
    assert rows["clean"]["fd"] == before["fd"][:1]
    assert rows["clean"]["parameters"] == before["parameters"]
    records = json.loads((out.with_suffix("") / "fold_0.json").read_text())
    seconds = sum(records[f"network/{net}"]["seconds"] for net in VARIANTS["clean"].networks)
    assert rows["clean"]["training_seconds"] == round(seconds, 1)


def test_another_solver_needs_another_file(quick, done):
    """Even for the exact worlds alone, since the file has what is recorded."""
    out, _ = done
    before = out.read_bytes()
    with pytest.raises(ValueError, match="solver 'ddim' there, 'dpm\\+\\+2m' here"):
        run_lab(out, out.parent / "work", CPU, SMALL, names=["clean"], quick=True, solver="dpm++2m")
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(names=["cleen"]), "--rows cannot be cleen; choose from .*clean, matched"),
        (dict(seeds=[3]), "--seeds cannot be 3; choose from 0, 1, 2"),
        (dict(seeds=[]), "--seeds is empty; choose from 0 to 2"),
        (dict(protocol=replace(SMALL, data="scans")), "the lab needs phantoms as data, not scans"),
        (dict(names=["previous"], solver="dpm++2m"), "previous is for 256 steps of ddim"),
        (dict(out=Path("lab")), "--out must be a file, such as lab.json, not lab"),
    ],
)
def test_what_the_lab_cannot_do_is_said_at_once(change, message, tmp_path):
    settings = dict(out=tmp_path / "lab.json", work=tmp_path, device=CPU, protocol=SMALL)
    with pytest.raises(ValueError, match=message):
        run_lab(**settings | change)


def test_a_rule_for_other_steps_than_the_labs_is_refused(registries, tmp_path):
    class Mine(Previous):
        def __init__(self):
            super().__init__(64)

    enter("mine", Mine, version="1")
    for solver in ("ddim", "dpm++2m"):
        with pytest.raises(ValueError, match="mine is for 64 steps of ddim; the lab takes"):
            run_lab(tmp_path / "lab.json", tmp_path, CPU, SMALL, names=["mine"], solver=solver)


def test_the_exact_worlds_are_asked_before_any_training(registries, tmp_path, monkeypatch):
    """Of a kind of `previous` without arguments, too; a rule that fails there costs no training."""

    class Mine(Previous):
        def __init__(self):
            super().__init__()

    def broken(self, pair):
        raise KeyError("there is no such thing")

    monkeypatch.setattr(lab, "STEPS", (2, 3))
    enter("mine", Mine, version="1")
    settings = (tmp_path / "lab.json", tmp_path, CPU, SMALL)
    found = run_lab(*settings, names=["mine", "previous"], quick=True)["rows"]
    assert found["mine"]["exact"] == found["previous"]["exact"]
    monkeypatch.setattr(Mine, "train", broken)
    monkeypatch.setattr(lab, "train_and_measure", lambda *_: pytest.fail("trained"))
    with pytest.raises(KeyError):
        run_lab(*settings, names=["mine"])


# --- the ranking -----------------------------------------------------------------------------


def trained(seeds, fd, fd_lesion, agreement, dice):
    return dict(seeds=seeds, fd=fd, fd_lesion=fd_lesion, agreement=agreement, dice=dice)


def test_ranking_is_by_the_mean_rank_over_the_seeds_that_all_have():
    rows = {
        "unknown": {},
        "right": dict(exact={"binary": {"8": 0.1}}),
        "wrong": dict(exact={"binary": {"8": 0.3}}),
        "nearest": trained([0], [0.5], [3.0], [0.1], [0.1]),  # ranks 1, 3, 3, 3
        "best": trained([0, 1], [1.0, 9.0], [1.0, 9.0], [0.3, 0], [0.3, 0]),  # 2, 1, 1, 1
        "between": trained([0], [2.0], [2.0], [0.2], [0.2]),  # 3, 2, 2, 2
    }
    assert list(ranked(rows)) == ["best", "between", "nearest", "right", "wrong", "unknown"]


def test_the_table_has_means_errors_and_no_empty_column():
    exact = {"binary": {"4": 0.3, "8": 0.1}, "three levels": {"4": 0.3, "8": 0.2}}
    row = dict(exact=exact, fd=[1.0, 2.0], seeds=[0, 1])
    head, clean, joint = show({"clean": row, "joint": {}}).splitlines()
    assert head.split() == ["exact,", "binary", "exact,", "three", "levels", "fd", "seeds"]
    assert clean.split() == ["clean", "0.100", "0.200", "1.500", "±", "0.500", "2"]
    assert joint.split() == ["joint"] and len(head) == len(clean) == len(joint)
    assert show({}) == ""


def test_costs_are_the_median_over_seeds_since_a_pause_may_be_in_one(done, tmp_path):
    """A record's seconds go on while a computer sleeps."""
    out, _ = done
    shutil.copytree(out.with_suffix(""), tmp_path / "lab")
    for seed, seconds in ((0, 9e9), (1, 8.0)):
        path = tmp_path / "lab" / f"fold_{seed}.json"
        records = json.loads(path.read_text())
        records["network/two-heads"]["seconds"] = seconds
        path.write_text(json.dumps(records))
    methods = lab.lab_methods("ddim", 2)
    settings = (SMALL, tmp_path / "lab", out.parent / "work", CPU, methods, LAB_NETWORKS)
    rows = trained_rows(lab.Experiment(*settings), "ddim")
    assert rows["two-heads"]["training_seconds"] == 8.0


# --- the exact worlds ------------------------------------------------------------------------


def test_quick_runs_the_exact_worlds_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "STEPS", (8,))
    names = ["sign", "clean", "binarised", "noisy", "joint"]
    settings = (tmp_path / "lab.json", tmp_path / "work", CPU, SMALL)
    result = run_lab(*settings, names=names, quick=True)
    rows = result["rows"]
    assert list(rows)[-2:] == ["sign", "binarised"] and "joint" not in rows
    assert set(rows["clean"]) == {"exact"} and rows["binarised"] == {}
    assert list(tmp_path.iterdir()) == [tmp_path / "lab.json"]
    printed = capsys.readouterr().out
    assert "exact, binary" in printed and "wrong after 8 steps (total variation)" in printed
    assert "\nclean:\n" not in printed  # the others stand beside it
    for name in ("sign", "noisy"):
        wanted = compared(lab.RULES[name](), 8)
        assert f"{name}:\n{show_verdict(wanted)}\n" in printed
        assert result["verdicts"][name] == wanted
    assert printed.count("from matched") == 2 * 2  # of the rules that were asked for, alone


def test_each_rule_is_walked_once(tmp_path, monkeypatch):
    """The columns and the sentences share them; those beside them are walked once a process."""
    asked = []
    verdict = lab.verdict

    def spy(rule, steps, **how):
        asked.append((type(rule).__name__, steps))
        return verdict(rule, steps, **how)

    monkeypatch.setattr(lab, "verdict", spy)
    monkeypatch.setattr(lab, "STEPS", (2, 3))
    names = ["sign", "matched", "previous"]
    run_lab(tmp_path / "lab.json", tmp_path / "work", CPU, SMALL, names=names, quick=True)
    assert sorted(asked) == [(rule, S) for rule in ("Previous", "Sign") for S in (2, 3)]
    rows = json.loads((tmp_path / "lab.json").read_text())["rows"]
    assert rows["matched"]["exact"]["binary"]["3"] == exact_verdict(Matched(), 3)["binary"]


def test_the_schedule_of_the_protocol_is_honoured(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "STEPS", (8,))
    cosine = replace(SMALL, schedule="cosine")
    settings = (tmp_path / "lab.json", tmp_path / "work", CPU, cosine)
    row = run_lab(*settings, names=["clean"], quick=True)["rows"]["clean"]
    wanted = exact_verdict(Clean(), 8, schedule=Schedule.cosine())
    assert {world: found["8"] for world, found in row["exact"].items()} == wanted
    assert wanted != exact_verdict(Clean(), 8)


# --- a rule of your own ----------------------------------------------------------------------

SCHEDULE = Schedule.linear()


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


class Scheduled(Clean):
    """A rule that uses a schedule of the module."""

    def sample(self, state):
        return state.x0_hat * SCHEDULE.scales(state.t, state.xt)[0]


@pytest.fixture
def entered(registries):
    enter("softened", Softened, version="1")
    enter("rounded", Rounded, version="1", trained_as="softened")


def test_a_rule_of_your_own_is_judged_trained_and_ranked_like_any(entered, quick, done, tmp_path):
    own, matched = exact_verdict(Softened(), 16, 10), exact_verdict(Matched(), 16, 10)
    assert own == pytest.approx(matched, abs=0.02)  # tanh loses nothing
    work, names = done[0].parent / "work", ["softened", "rounded", "clean"]
    rows = run_lab(tmp_path / "own.json", work, CPU, SMALL, seeds=[0], names=names)["rows"]
    assert set(rows) == set(names) and all(np.isfinite(row["fd"][0]) for row in rows.values())
    assert VARIANTS["rounded"].networks == VARIANTS["softened"].networks
    assert VARIANTS["rounded"].networks != VARIANTS["clean"].networks
    assert rows["rounded"]["parameters"] == rows["clean"]["parameters"]


def test_a_recorded_rule_that_is_not_shown_is_named(quick, registries, done, tmp_path, capsys):
    enter("softened", Softened, version="1")
    work = done[0].parent / "work"
    run_lab(tmp_path / "own.json", work, CPU, SMALL, seeds=[0], names=["softened"])
    for registry in (lab.RULES, VARIANTS):
        del registry["softened"]
    run_lab(tmp_path / "own.json", work, CPU, SMALL, seeds=[0], names=["clean"])
    assert "not shown, of no --rule of this run: softened" in capsys.readouterr().out


def test_a_rule_with_a_schedule_of_its_module_is_ranked(registries, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "STEPS", (4,))
    enter("Mine", Scheduled, version="1")
    names = ["Mine", "clean", "matched", "blank"]
    settings = (tmp_path / "lab.json", tmp_path / "work", CPU, SMALL)
    rows = run_lab(*settings, names=names, quick=True)["rows"]
    assert set(rows) == set(names)
    assert f"Mine:\n{show_verdict(compared(Scheduled(), 4))}" in capsys.readouterr().out


def test_another_version_of_a_rule_is_trained_again_and_the_same_is_not(entered):
    before = VARIANTS["softened"]
    enter("softened", Softened, version="1")
    assert VARIANTS["softened"].networks == before.networks
    enter("softened", Scheduled, version="2")
    after = VARIANTS["softened"]
    assert after.networks != before.networks
    assert after.source("softened", "ddim") != before.source("softened", "ddim")
    assert VARIANTS["rounded"].networks == after.networks  # it shares the new version's model_y
    enter("softened", LesionWeighted, version="2")  # the loss is that of the class entered last
    assert LAB_NETWORKS["model_y-softened-2"].loss.__func__ is LesionWeighted.loss


class Asking(Clean):
    def __init__(self, k):
        self.k = k


class Halved(Clean):
    def sample(self, state):
        return state.x0_hat[:, :, ::2]


@pytest.mark.parametrize(
    "name, rule, change, message",
    [
        ("softened", Softened, dict(version=None), r"needs a version: enter\('softened', ..., ver"),
        ("clean", Softened, {}, "clean is built in; give your rule another name"),
        ("softened", Softened, dict(trained_as="cleen"), "unknown rule cleen; .*clean, matched"),
        ("softened", Softened(), {}, "must be a class with the methods train and sample, not <"),
        ("softened", int, {}, "0 is not an object with the methods"),
        ("softened", LesionWeighted, dict(trained_as="matched"), "has its own loss and needs its"),
        ("asking", Asking, {}, r"asking: Asking\(\) must work without arguments; give each a"),
        ("halved", Halved, {}, r"Halved.sample returned \(2, 1, 16, 32\) of torch.float32 for"),
    ],
)
def test_a_rule_that_cannot_enter_is_explained(registries, name, rule, change, message):
    with pytest.raises(ValueError, match=message):
        enter(name, rule, **dict(version="1") | change)
    assert name == "clean" or name not in VARIANTS
