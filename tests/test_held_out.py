"""The loss on held-out patients: what is measured, that it survives a kill, what is kept."""

import json
import re
import shutil
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from torch import nn

from minipig.data.files import load_checkpoint
from minipig.data.pairs import Pairs, split
from minipig.data.phantoms import phantoms
from minipig.guider import model_x_loss, model_y_loss
from minipig.rules import Matched
from minipig.schedule import Schedule
from minipig.seeds import seeded_network
from minipig.training import held_out as module
from minipig.training import run as run_file
from minipig.training.config import Config, load_data
from minipig.training.curves import read_curves, write_curves
from minipig.training.held_out import MEASURED, HeldOut, steps_between
from minipig.training.loop import Training, finish, fit
from minipig.training.run import load_pair, train_pair
from minipig.unet import PRESETS, PairedUNet

LINEAR = Schedule.linear()
CONFIG = Config(pairs=24, size=(16, 16), preset="tiny", steps=6, batch=4, rate=1.0, holdout=0.4)
KNOWN, OTHERS = split(phantoms(24, (16, 16)), (0.6, 0.4))


class Silent(nn.Module):
    """Says that there is no noise: its loss is the noise's variance, 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, z, t, guide=None):
        return 0 * z + self.weight


class Echo(Silent):
    """Answers with what it is shown."""

    def forward(self, z, t, guide=None):
        return guide + self.weight


def measured(path, pairs=OTHERS, loss=model_x_loss, guider=None):
    return HeldOut(pairs, KNOWN, loss, path, LINEAR, guider)


def network(seed=0):
    return seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), seed)


def test_a_network_that_names_no_noise_has_the_loss_of_the_noise(tmp_path):
    """1, with the standard error of MEASURED images: sqrt(2 / (256 * 16 * 16)) = .0055."""
    value = measured(tmp_path / "x").measure(Silent(), 64)
    assert abs(value - 1) < 3 * (2 / (MEASURED * 16 * 16)) ** 0.5


def test_the_loss_does_not_depend_on_the_batch(tmp_path):
    net = network()
    values = [measured(tmp_path / "x").measure(net, batch) for batch in (1000, 64, 7)]
    assert max(values) - min(values) < 1e-6


def test_levels_are_even_and_no_pair_keeps_to_one_kind(tmp_path):
    pair = measured(tmp_path / "x").noisy(range(MEASURED))
    assert sorted(pair.t.tolist()) == [1 + i * LINEAR.T // MEASURED for i in range(MEASURED)]
    n = len(OTHERS)
    means = torch.stack([pair.t[i::n].double().mean() for i in range(n)])
    assert (means - 512).abs().max() < 5 * 296 / (MEASURED // n) ** 0.5
    assert abs(torch.corrcoef(torch.stack([pair.t[:-1], pair.t[1:]]))[0, 1]) < 0.2
    for noise in (pair.eps_1, pair.eps_2):
        assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs((pair.eps_1 * pair.eps_2).mean()) < 0.02  # the two chains' noise is independent


@pytest.mark.parametrize("n", [1, 9, MEASURED, MEASURED + 100, 3 * MEASURED])
def test_few_pairs_are_measured_often_and_of_many_some_from_everywhere(tmp_path, n):
    images = torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 8, 8)
    names = [str(i) for i in range(n)]
    pairs = Pairs(torch.zeros(n, 1, 8, 8, dtype=torch.bool), images, names, names)
    seen = measured(tmp_path / "x", pairs).noisy(range(MEASURED)).y0[:, 0, 0, 0]
    counts = torch.bincount(seen.long(), minlength=n)
    assert counts.max() - counts.min() <= 1
    gaps = seen.sort().values.diff()
    assert gaps.max() <= -(-n // MEASURED)


def test_the_frozen_guider_is_asked(tmp_path):
    """A rule that shows x0_hat needs it; another guider is another loss."""
    loss = partial(model_y_loss, rule=Matched())
    with pytest.raises(ValueError, match="train model_x first"):
        measured(tmp_path / "x", loss=loss).measure(Echo(), 64)
    first, second = (
        measured(tmp_path / "x", loss=loss, guider=guider).measure(Echo(), 64)
        for guider in (Silent(), lambda z, t, guide: z)
    )
    assert first != second


@pytest.mark.parametrize(
    "steps, batch, every", [(3, 2, 1280), (1000, 64, 40), (40_000, 32, 1600), (10, 10_000, 1)]
)
def test_measuring_costs_a_few_percent(steps, batch, every):
    """A measured pair costs a third of a trained one: at most 3 % of the training, and its end."""
    assert steps_between(steps, batch) == every
    times = steps // every
    assert times <= 25 or steps < 25
    assert every == 1 or times * MEASURED / 3 < 0.034 * steps * batch


def trained(path, steps, every=2, loss=model_x_loss):
    """Six steps, measured after every second; the measurements and the last Progress."""
    others = measured(path, loss=loss)
    last = finish(others.watch(steps, every, 64))
    return others, last


def test_it_measures_the_averaged_weights_and_keeps_those_of_the_best_step(tmp_path):
    steps = fit(network(), model_x_loss, KNOWN, Training(6, batch=4, rate=1e-2))
    found = {}

    def watched():
        for progress in steps:
            found[progress.step] = {k: w.clone() for k, w in progress.average.state_dict().items()}
            yield progress

    others, last = trained(tmp_path / "x", watched())
    assert list(others.losses) == [2, 4, 6] and last.held_out == others.losses[6]
    for step, value in others.losses.items():
        net = network(3)
        net.load_state_dict(found[step])
        assert others.measure(net, 64) == pytest.approx(value, abs=1e-6)
    for name, weight in others.weights.items():
        assert torch.equal(weight, found[others.best][name])


def test_measuring_changes_no_weight(tmp_path):
    ends = []
    for watch in (False, True):
        steps = fit(network(), model_x_loss, KNOWN, Training(6, batch=4), tmp_path / f"{watch}")
        last = trained(tmp_path / "x", steps)[1] if watch else finish(steps)
        ends.append(last.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends)))


@pytest.mark.parametrize("killed_at", range(1, 7))
def test_a_killed_training_ends_with_the_same_measurements(tmp_path, killed_at):
    """Killed after a step's checkpoint and before its measurement, or anywhere else."""
    training = Training(6, batch=4)

    def steps(place):
        return fit(network(), model_x_loss, KNOWN, training, tmp_path / place, every=2)

    def until_killed():
        with closing(steps("killed")) as all_steps:
            yield from takewhile(lambda progress: progress.step < killed_at, all_steps)

    calm, _ = trained(tmp_path / "calm.best", steps("calm"))
    for _ in measured(tmp_path / "killed.best").watch(until_killed(), 2, 64):
        pass
    again, last = trained(tmp_path / "killed.best", steps("killed"))
    assert again.losses == calm.losses and list(calm.losses) == [2, 4, 6] and last.step == 6
    third = measured(tmp_path / "killed.best")
    assert third.losses == again.losses and third.best == again.best
    assert all(torch.equal(w, calm.weights[k]) for k, w in third.weights.items())


def test_other_pairs_are_refused(tmp_path):
    trained(tmp_path / "x", fit(network(), model_x_loss, KNOWN, Training(2, batch=4)))
    with pytest.raises(ValueError, match="other pairs than those given now; give the former"):
        measured(tmp_path / "x", OTHERS.subset(range(len(OTHERS) - 1)))


def test_a_loss_that_turns_is_told_and_one_that_trembles_is_not(tmp_path):
    others = measured(tmp_path / "x")
    others.losses = {100: 0.3, 200: 0.2, 300: 0.21}
    assert others.summary(300) == "held-out loss 0.2100, lowest 0.2000 at step 200"
    others.losses[400] = 0.22
    text = others.summary(400)
    end = "at step 200: since then it learns its training pairs by heart (see --keep)"
    assert text.endswith(end)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A training at too high a rate, measured after each step; by either choice of weights."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEASURED", 16)
        patch.setattr(run_file, "steps_between", lambda steps, batch: 1)
        for keep in ("best", "last"):
            out = tmp_path_factory.mktemp("runs") / keep
            config = replace(CONFIG, keep=keep, rule="matched")
            known, others = load_data(config)
            train_pair(out, config, known, torch.device("cpu"), held_out=others)
            found[keep] = out
    return found


def test_a_run_keeps_the_weights_that_it_was_asked_to_keep(runs):
    for keep, run in runs.items():
        pair, config = load_pair(run)
        assert config.keep == keep
        for name, net in (("model_x", pair.model_x), ("model_y", pair.model_y)):
            best = load_checkpoint(run / f"{name}.best", {"weights"})["weights"]
            last = load_checkpoint(run / f"{name}.ckpt", {"average"})["average"]
            kept = best if keep == "best" else last
            assert any(not torch.equal(best[k], last[k]) for k in best)
            assert all(torch.equal(w, kept[k].half().float()) for k, w in net.state_dict().items())


def test_its_losses_are_in_a_table(runs):
    losses, points = read_curves(runs["last"])
    assert list(losses) == list(points) == ["model_x", "model_y"]
    for name in losses:
        assert len(losses[name]) == 6
        saved = load_checkpoint(runs["last"] / f"{name}.best", {"losses"})["losses"]
        assert points[name] == saved
        assert losses[name] == load_checkpoint(runs["last"] / f"{name}.ckpt", set())["losses"]
    lines = (runs["last"] / "losses.csv").read_text().splitlines()
    assert lines[0] == "step,model_x,model_x_held_out,model_y,model_y_held_out"
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(1, 7)]


def test_a_table_of_a_training_that_has_begun_can_be_read(tmp_path):
    losses = {"model_x": [0.5, 0.25, 1 / 3], "model_y": [0.1]}
    points = {"model_x": {2: 0.3}}
    write_curves(tmp_path, losses, points)
    assert read_curves(tmp_path) == (losses, points)


def test_the_choice_is_part_of_the_configuration(runs):
    assert json.loads((runs["best"] / "config.json").read_text())["config"]["keep"] == "best"
    config = replace(CONFIG, keep="last", rule="matched")
    known, others = load_data(config)
    with pytest.raises(ValueError, match=re.escape("(keep 'best' there, 'last' here)")):
        train_pair(runs["best"], config, known, torch.device("cpu"), held_out=others)
    with pytest.raises(ValueError, match="unknown keep first; choose one of best, last"):
        replace(CONFIG, keep="first")
    with pytest.raises(ValueError, match="--keep best needs held-out patients; give --holdout"):
        replace(CONFIG, keep="best", holdout=0.0)


def test_measurements_that_are_lost_are_not_begun_anew(runs, tmp_path, monkeypatch):
    """The last weights would be taken for the best."""
    monkeypatch.setattr(run_file, "steps_between", lambda steps, batch: 1)
    run = Path(shutil.copytree(runs["best"], tmp_path / "copy"))
    (run / "model_y.best").unlink()
    config = replace(CONFIG, keep="best", rule="matched")
    known, others = load_data(config)
    with pytest.raises(ValueError, match="y.best is missing; restore it, or delete model_y.ckpt"):
        train_pair(run, config, known, torch.device("cpu"), held_out=others)
