"""The choice of number format and layout: tried once, kept, overridable, and without a trace."""

import json

import pytest
import torch

from minipig.data.phantoms import phantoms
from minipig.guider import NoisyPair, model_x_loss
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.training import choice
from minipig.training.choice import CANDIDATES, WORTH, cache, decided, described, told, tried
from minipig.training.loop import Training, fit
from minipig.training.speed import Speed
from minipig.unet import PRESETS, PairedUNet

SHAPE = (8, (16, 16))
PAIRS = phantoms(*SHAPE)
PAIR = NoisyPair.draw(*PAIRS[:], Schedule.linear(), generator("choice", 0))
PLAIN = Speed(bfloat16=False, channels_last=False)
LAST = Speed(bfloat16=False, channels_last=True)
SPEEDS = {name: Speed(**how) for name, how in CANDIDATES.items()}


def tiny():
    return seeded_network(lambda: PairedUNet(**PRESETS["tiny"]), 0)


def decision(speed=Speed(), net=None, loss=model_x_loss, steps=WORTH):
    """The Speed that is decided."""
    return decided(speed, net or tiny(), loss, PAIR, steps)[0]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def best(monkeypatch):
    """best(name): as if a trial had found this candidate the fastest."""

    def found(name):
        monkeypatch.setattr(
            choice, "trial", lambda names, *_: {other: 1.0 + (other != name) for other in names}
        )

    return found


@pytest.fixture
def no_trial(monkeypatch):
    def stop():
        monkeypatch.setattr(choice, "trial", lambda *_: pytest.fail("it was tried"))

    return stop


def test_a_trial_times_every_candidate_and_leaves_no_trace():
    net = tiny()
    kinds = [type(module) for module in net.modules()]

    def loss(model, pair):
        return model_x_loss(model, pair) * torch.rand(())  # draws

    state = torch.get_rng_state()
    speed, seconds = decided(Speed(), net, loss, PAIR, WORTH)
    assert list(seconds) == list(CANDIDATES) and min(seconds.values()) > 0
    assert speed.format == CANDIDATES[min(seconds, key=seconds.get)]
    assert [type(module) for module in net.modules()] == kinds
    assert all(p.grad is None for p in net.parameters())
    assert all(map(torch.equal, net.state_dict().values(), tiny().state_dict().values()))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_computes_no_more_pairs_at_once_than_the_training():
    """Batches of eight in parts of two."""
    seen = []

    def loss(net, pair):
        seen.append(len(pair.x0))
        return model_x_loss(net, pair)

    decision(Speed(accumulate=4), loss=loss)
    assert set(seen) == {1, 2}
    assert " 2 pairs of 16x16" in next(iter(json.loads(cache().read_text())))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, ValueError])
def test_a_candidate_that_fails_is_not_taken(error):
    def loss(net, pair):
        if torch.is_autocast_enabled("cpu"):
            raise error("as a device says it that lacks the format")
        return model_x_loss(net, pair)

    speed, seconds = decided(Speed(), tiny(), loss, PAIR, WORTH)
    assert speed.bfloat16 is False
    assert [name for name, value in seconds.items() if value is None] == list(CANDIDATES)[2:]
    assert "bfloat16 failed; bfloat16, channels last failed" in told(speed, seconds)


def test_if_all_fail_the_training_itself_says_why():
    def loss(net, pair):
        raise ValueError("no loss at all")

    segmenter = torch.nn.Conv2d(1, 1, 3)
    assert decision(net=segmenter, loss=loss).format == CANDIDATES["float32"]


def test_a_trial_in_which_all_failed_is_not_kept(best):
    def loss(net, pair):
        raise RuntimeError("a slip")

    with pytest.raises(RuntimeError, match="a slip"):
        decision(loss=loss)
    assert all(decided(Speed(), tiny(), model_x_loss, PAIR, WORTH)[1].values())


def test_a_slow_candidate_is_not_tried_further(monkeypatch):
    """On some processors a step in bfloat16 takes ten times as long: no more than two are tried."""
    ticks, calls = [0.0], {False: 0, True: 0}

    def loss(net, pair):
        low = torch.is_autocast_enabled("cpu")
        calls[low] += 1
        ticks[0] += (0.1 if low else 0.01) * len(pair.x0)
        return model_x_loss(net, pair)

    monkeypatch.setattr(choice.time, "perf_counter", lambda: ticks[0])
    seconds = choice.trial(SPEEDS, tiny(), loss, PAIR, 8)
    assert [round(value, 6) for value in seconds.values()] == [0.08, 0.08, 0.8, 0.8]
    assert calls == {False: 2 * 5, True: 2 * 2}


def test_a_long_step_is_tried_with_one_pair_and_once(monkeypatch):
    ticks, rows = [0.0], []

    def loss(net, pair):
        rows.append(len(pair.x0))
        ticks[0] += 4.0 * len(pair.x0)
        return model_x_loss(net, pair)

    monkeypatch.setattr(choice.time, "perf_counter", lambda: ticks[0])
    seconds = choice.trial(SPEEDS, tiny(), loss, PAIR, 8)
    assert rows == [1] * 4 and set(seconds.values()) == {32.0}


def test_it_is_tried_once_for_a_machine_and_a_step(no_trial):
    net = tiny()
    first = decision(net=net)
    assert list(json.loads(cache().read_text())) == [described(net, *SHAPE)]
    no_trial()
    assert decision(net=net) == first
    assert decision(Speed(accumulate=1, bfloat16=True), net=net).bfloat16  # two of the four
    with pytest.raises(pytest.fail.Exception):
        decision(Speed(accumulate=2), net=net)  # other parts are another step


def test_the_bench_tries_again(best):
    best("bfloat16")
    tried(SPEEDS, tiny(), model_x_loss, PAIR, 8)
    best("float32, channels last")
    tried(SPEEDS, tiny(), model_x_loss, PAIR, 8, again=True)
    assert decision().format == CANDIDATES["float32, channels last"]


@pytest.mark.parametrize("content", ["damaged", "[]", "null", '{"a": 1}', '{"a": {"b": "c"}}'])
def test_a_damaged_cache_is_as_none(best, content):
    best("bfloat16")
    cache().parent.mkdir(parents=True)
    cache().write_text(content)
    assert decision().format == CANDIDATES["bfloat16"]
    assert list(json.loads(cache().read_text())) == [described(tiny(), *SHAPE)]


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert None not in decision().format.values()


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_fastest_is_taken(best, name):
    best(name)
    speed = decision(Speed(accumulate=2))
    assert speed == Speed(accumulate=2, recompute=False, **CANDIDATES[name])


def test_what_is_given_is_kept(best, no_trial):
    best("bfloat16, channels last")
    assert decision(Speed(bfloat16=False)).format == CANDIDATES["float32"]
    best("float32, channels last")
    assert decision(Speed(bfloat16=False), torch.nn.Conv2d(1, 1, 3)).format == LAST.format
    no_trial()
    given = Speed(bfloat16=False, channels_last=True, recompute=True)
    assert decision(given) == given


def test_it_is_tried_as_it_will_run(monkeypatch):
    """Recomputing is asked for if memory is short: a trial without it would be killed."""
    seen = []
    monkeypatch.setattr(choice, "laid_out", lambda net, speed: seen.append(speed.recompute) or net)
    for recompute in (True, None):
        decision(Speed(recompute=recompute))
    assert seen == [True] * 4 + [None] * 4


def test_a_short_training_is_plain_and_nothing_is_tried(no_trial):
    no_trial()
    speed, seconds = decided(Speed(), tiny(), model_x_loss, PAIR, WORTH - 1)
    assert speed == Speed(bfloat16=False, channels_last=False, recompute=False)
    assert told(speed, seconds) == ", in float32"


def test_it_recomputes_if_memory_is_short(monkeypatch):
    """A step of the tiny network on eight pairs keeps some megabytes."""
    for free, expected in ((1e6, True), (1e9, False)):
        monkeypatch.setattr(choice, "free_memory", lambda device, free=free: free)
        assert decision(steps=1).recompute is expected
        segmenter = torch.nn.Conv2d(1, 1, 3)  # has no stages to recompute
        assert decision(net=segmenter, steps=1).recompute is False

    def loss(net, pair):
        raise torch.OutOfMemoryError("one pair is too much")

    assert decision(loss=loss, steps=1).recompute is True


def test_the_line_names_the_choice_and_what_was_tried():
    assert told(None, {}) == ""
    speed = Speed(bfloat16=True, channels_last=True, recompute=True)
    assert told(speed, {}) == ", in bfloat16, channels last, recomputing"
    line = told(speed, {"float32": 0.25, "bfloat16, channels last": 0.125})
    assert line.endswith(" (trial, ms: float32 250; bfloat16, channels last 125)")


# --- a resumed training ---------------------------------------------------------------------------


def halves(path, first, second, between=lambda: None):
    """The last Progress of a training that is stopped after six steps and goes on."""
    training = Training(steps=12, batch=4, warmup=2)
    for last, speed in ((6, first), (12, second)):
        if last == 12:
            between()
        steps = fit(tiny(), model_x_loss, PAIRS, training, path, speed=speed)
        for progress in steps:
            if progress.step == last:
                break
        steps.close()
    return progress


def test_a_training_may_be_resumed_in_another_layout(tmp_path):
    """Its losses go on as in an undisturbed one, to rounding: Adam's moments change layout, too."""
    whole = torch.tensor(halves(tmp_path / "whole.ckpt", PLAIN, PLAIN).losses)
    for name, ways in {"a": (PLAIN, LAST), "b": (LAST, PLAIN)}.items():
        end = halves(tmp_path / f"{name}.ckpt", *ways)
        assert end.speed.format == ways[1].format
        assert (torch.tensor(end.losses) - whole).abs().max() < 1e-5


def test_a_resumed_training_goes_on_as_it_began(tmp_path, monkeypatch, best):
    """Bit-equal to an undisturbed one, even if a trial would now find another candidate."""
    monkeypatch.setattr(choice, "WORTH", 1)
    best("bfloat16, channels last")
    whole = halves(tmp_path / "whole.ckpt", Speed(), Speed())

    def another_machine():
        cache().unlink()
        best("float32")

    end = halves(tmp_path / "apart.ckpt", Speed(), Speed(), another_machine)
    assert end.speed.format == whole.speed.format == CANDIDATES["bfloat16, channels last"]
    assert end.losses == whole.losses


def test_a_finished_training_is_taken_up_in_its_layout(tmp_path, monkeypatch, best):
    """So the same command gives the same samples, to the bit, as when it trained."""
    monkeypatch.setattr(choice, "WORTH", 1)
    best("float32, channels last")
    short = (model_x_loss, PAIRS, Training(steps=2, batch=4), tmp_path / "net.ckpt")
    *_, first = fit(tiny(), *short)
    *_, again = fit(tiny(), *short)
    for ours, theirs in zip(first.average.parameters(), again.average.parameters()):
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()
    assert [type(m) for m in first.average.modules()] == [type(m) for m in again.average.modules()]
    assert not again.average.up[0].block.conv1.weight.is_contiguous()


def test_the_layout_of_an_earlier_training_does_not_stay():
    """A network that was trained channels last and recomputing is trained plainly, if asked to."""
    net = tiny()
    short = Training(steps=2, batch=4)
    kinds = {type(module) for module in net.modules()}
    for speed in (Speed(bfloat16=False, channels_last=True, recompute=True), PLAIN):
        *_, last = fit(net, model_x_loss, PAIRS, short, speed=speed)
    for trained in (net, last.average):
        assert {type(module) for module in trained.modules()} == kinds
        assert all(p.is_contiguous() for p in trained.parameters())
