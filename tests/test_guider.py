"""Algorithm 1 and the guide rules, on denoisers whose losses are known."""

from types import SimpleNamespace

import pytest
import torch

from minipig.guider import NoisyPair, model_x_loss, model_y_loss
from minipig.rules import Clean, Matched
from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule.linear()


def pair(n=4000, model_x=None, schedule=SCHEDULE):
    draw = generator("pair", 0)
    x0 = torch.where(torch.rand((n, 1, 2, 2), generator=draw) > 0.5, 1.0, -1.0)
    return NoisyPair.draw(x0, 0.5 * x0, schedule, generator("noise", 0), model_x)


def nothing(z, t, guide):
    """A model that answers 0."""
    return torch.zeros_like(z)


def test_noisy_pair_is_eq_9_and_10():
    p = pair()
    signal, noise = SCHEDULE.scales(p.t, p.x0)
    assert torch.equal(p.xt, signal * p.x0 + noise * p.eps_1)
    assert torch.equal(p.yt, signal * p.y0 + noise * p.eps_2)
    assert p.t.min() >= 1 and p.t.max() <= 1024
    assert abs(p.t.double().mean() - 512.5) < 4 * 1024 / (12 * 4000) ** 0.5
    correlation = (p.eps_1 * p.eps_2).mean()
    assert abs(correlation) < 4 / p.eps_1.numel() ** 0.5  # two chains, independent noise: Eq. (8)


def test_noise_and_levels_are_those_of_the_schedule():
    """Levels 1 to T of the schedule that is given, and its scales."""
    short = Schedule.cosine(T=10)
    p = pair(schedule=short)
    assert p.t.unique().tolist() == list(range(1, 11))
    assert torch.equal(p.yt, short.add_noise(p.y0, p.t, p.eps_2))


def test_noise_is_drawn_in_the_order_of_algorithm_1():
    """The levels, the mask's noise, the slice's: a stream that resumed trainings rely on."""
    p = pair(8)
    draw = generator("noise", 0)
    assert torch.equal(p.t, torch.randint(1, 1025, (8,), generator=draw))
    assert torch.equal(p.eps_1, torch.randn((8, 1, 2, 2), generator=draw))
    assert torch.equal(p.eps_2, torch.randn((8, 1, 2, 2), generator=draw))


def test_model_x_loss_is_the_plain_mean_square():
    """A guider that answers 0 loses the variance of eps_1, 1; one that knows eps_1 loses 0."""
    p = pair()
    assert abs(model_x_loss(nothing, p) - 1) < 4 * (2 / p.eps_1.numel()) ** 0.5
    assert model_x_loss(lambda z, t, guide: p.eps_1, p) == 0


def test_model_y_loss_is_the_plain_mean_square():
    """As the guider's: no weight, wherever the mask is (the release weights by a sigmoid)."""
    p = pair()
    assert abs(model_y_loss(nothing, p, Clean()) - 1) < 4 * (2 / p.eps_2.numel()) ** 0.5
    for value in (-1.0, 1.0):
        inside = p.x0 == value
        loss = model_y_loss(lambda z, t, guide, inside=inside: p.eps_2 * ~inside, p, Clean())
        assert abs(loss - (p.eps_2 * inside).square().mean()) < 1e-6


def test_the_guider_is_shown_the_noisy_slice():
    p = pair(8)
    seen = {}

    def model_x(z, t, guide):
        seen.update(z=z, t=t, guide=guide)
        return z

    model_x_loss(model_x, p)
    assert seen["z"] is p.xt and seen["t"] is p.t and seen["guide"] is p.yt


def test_model_y_is_shown_what_its_rule_says():
    p = pair(8)
    seen = {}

    class Rule:
        def train(self, pair):
            return 3 * pair.x0

    def model_y(z, t, guide):
        seen.update(z=z, t=t, guide=guide)
        return z

    model_y_loss(model_y, p, Rule())
    assert seen["z"] is p.yt and seen["t"] is p.t and torch.equal(seen["guide"], 3 * p.x0)


def test_rules_show_what_they_say():
    p = pair(8, model_x=nothing)
    assert Clean().train(p) is p.x0
    assert torch.equal(Matched().train(p), SCHEDULE.x0_hat(p.xt, p.t, torch.zeros_like(p.xt)))
    state = SimpleNamespace(xt=object(), x0_hat=object())
    assert Clean().sample(state) is Matched().sample(state) is state.x0_hat


def test_the_frozen_guider_gets_no_gradient_and_is_called_once():
    weight = torch.ones(1, requires_grad=True)
    calls = []

    def model_x(z, t, guide):
        calls.append((z, t, guide))
        return weight * z

    p = pair(8, model_x)
    y_weight = torch.ones(1, requires_grad=True)
    model_y_loss(lambda z, t, guide: y_weight * guide, p, Matched()).backward()
    assert weight.grad is None and y_weight.grad is not None
    assert p.x0_hat is p.x0_hat
    ((z, t, guide),) = calls
    assert z is p.xt and t is p.t and guide is p.yt


def test_a_rule_that_only_needs_the_mask_does_not_call_the_guider():
    def model_x(z, t, guide):
        raise AssertionError("called")

    model_y_loss(nothing, pair(8, model_x), Clean())


def test_matched_without_a_guider_is_refused():
    with pytest.raises(ValueError, match="train model_x first, and give it"):
        Matched().train(pair(8))
