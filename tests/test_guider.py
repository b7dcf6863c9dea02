"""Algorithm 1 and the guide rules, on denoisers whose losses are known."""

import pytest
import torch

from minipig.guider import Clean, Matched, NoisyPair, guider_loss, slice_loss
from minipig.schedule import Schedule
from minipig.seeds import generator

SCHEDULE = Schedule()


def pair(n=4000, model_x=None):
    draw = generator("pair", 0)
    x0 = torch.where(torch.rand((n, 1, 2, 2), generator=draw) > 0.5, 1.0, -1.0)
    return NoisyPair.draw(x0, 0.5 * x0, SCHEDULE, generator("noise", 0), model_x)


def test_noisy_pair_is_eq_9_and_10():
    p = pair()
    signal, noise = SCHEDULE.scales(p.t, p.x0)
    assert torch.equal(p.xt, signal * p.x0 + noise * p.eps_1) and torch.equal(p.yt, signal * p.y0 + noise * p.eps_2)
    assert p.t.min() >= 1 and p.t.max() <= 1024 and abs(p.t.double().mean() - 512.5) < 4 * 1024 / (12 * 4000) ** 0.5
    correlation = (p.eps_1 * p.eps_2).mean()
    assert abs(correlation) < 4 / p.eps_1.numel() ** 0.5  # two chains, independent noise: Eq. (8)


def test_guider_loss_is_the_plain_mean_square():
    """A guider that answers 0 loses the variance of eps_1, 1; one that knows eps_1 loses nothing."""
    p = pair()
    assert abs(guider_loss(lambda z, t, guide: torch.zeros_like(z), p) - 1) < 4 * (2 / p.eps_1.numel()) ** 0.5
    assert guider_loss(lambda z, t, guide: p.eps_1, p) == 0


def test_slice_loss_is_the_plain_mean_square():
    """As the guider's: no weight, wherever the mask is (the released code weights by a sigmoid of the guide)."""
    p = pair()
    assert abs(slice_loss(lambda z, t, guide: torch.zeros_like(z), p, Clean()) - 1) < 4 * (2 / p.eps_2.numel()) ** 0.5
    for value in (-1.0, 1.0):
        inside = p.x0 == value
        loss = slice_loss(lambda z, t, guide, inside=inside: p.eps_2 * ~inside, p, Clean())
        assert abs(loss - (p.eps_2 * inside).square().mean()) < 1e-6


def test_the_guider_is_shown_the_noisy_slice():
    p, seen = pair(8), {}

    def model_x(z, t, guide):
        seen.update(z=z, guide=guide)
        return z

    guider_loss(model_x, p)
    assert seen["z"] is p.xt and seen["guide"] is p.yt


def test_rules_show_what_they_say():
    p = pair(8, model_x=lambda z, t, guide: z * 0)
    assert Clean().train(p) is p.x0
    assert torch.equal(Matched().train(p), SCHEDULE.x0_hat(p.xt, p.t, torch.zeros_like(p.xt)))
    state = type("State", (), {"x0_hat": object()})()
    assert Clean().sample(state) is Matched().sample(state) is state.x0_hat


def test_the_frozen_guider_gets_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    p = pair(8, model_x=lambda z, t, guide: weight * z)
    y_weight = torch.ones(1, requires_grad=True)
    slice_loss(lambda z, t, guide: y_weight * guide, p, Matched()).backward()
    assert weight.grad is None and y_weight.grad is not None


def test_matched_without_a_guider_is_told():
    with pytest.raises(ValueError, match="train the guider first"):
        Matched().train(pair(8))
