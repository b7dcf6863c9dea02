"""The methods: each is what its paper says, on one walk."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from minipig.data.classical import augment, deformation
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.methods import (
    joint,
    latent,
    pig,
    seg_guided,
    two_heads,
    two_times,
    unconditional,
)
from minipig.evidence.methods.batch import Batch, absent
from minipig.evidence.methods.controlnet import ControlNet
from minipig.evidence.methods.registry import METHODS, NETWORKS, new_masks_first
from minipig.extras.conditional import knows
from minipig.extras.solvers import SOLVERS
from minipig.guider import NoisyPair, model_x_loss, model_y_loss
from minipig.rules import Clean
from minipig.sampler import PairModel, sample
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator, seeded_network
from minipig.training.loop import Training, fit
from minipig.unet import PRESETS
from minipig.worlds.gaussian import Gaussian

SIZE, TINY, LINEAR = (16, 16), PRESETS["tiny"], Schedule.linear()


def batch(n=4, steps=3, size=SIZE, seed=0, **how):
    masks = phantoms(n, size, seed=9)[:][0]
    return Batch(SampleNoise(seed, range(n)), size, masks, LINEAR, steps=steps, **how)


def awake(build, *arguments, seed=0):
    """A network that has learnt nothing, but whose last layer is not 0, so that it answers
    something.
    """
    net = seeded_network(lambda: build(*arguments), seed)
    draw = torch.Generator().manual_seed(seed)
    for weight in net.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=draw)
    return net.eval().requires_grad_(False)


def noisy(n=3, size=SIZE, model_x=None):
    x0, y0 = phantoms(n, size, seed=7)[:]
    return NoisyPair.draw(x0, y0, LINEAR, generator("test", 1), model_x)


# --- the shared walk ---


def test_a_guider_who_knows_says_the_mask_at_every_level_and_the_walk_keeps_it():
    s = batch(steps=5)
    state = s.walk(knows(s.masks, LINEAR), lambda z, t, guide: z)
    assert torch.allclose(state.x0_hat, s.masks, atol=1e-5)
    schedule, z = LINEAR, torch.randn(4, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    for t in (1, 512, 1024):
        assert torch.allclose(
            schedule.x0_hat(z, t, knows(s.masks, schedule)(z, t)), s.masks, atol=1e-3
        )


@pytest.mark.parametrize(
    "solver, steps, eta", [("ddim", 7, 0.0), ("ddim", 7, 1.0), ("dpm++2m", 7, 0.0)]
)
def test_a_chain_beside_one_without_channels_is_that_chain_alone(solver, steps, eta):
    """Against the pair's walk with a mask chain that nobody looks at; the noise of the two differs
    only in its order.
    """
    net = awake(unconditional.build, TINY)
    alone = unconditional.draw(net, batch(2, steps, solver=solver, eta=eta))

    class Noise(SampleNoise):
        """The same streams, but nothing drawn for the mask."""

        calls = 0

        def __call__(self, shape):
            self.calls += 1
            return torch.zeros(2, *shape) if self.calls % 2 else super().__call__(shape)

    beside = Batch(Noise(0, range(2)), SIZE, None, LINEAR, solver, steps, eta)
    state = beside.walk(lambda z, t, guide: 0 * z, lambda z, t, guide: net(z, t))
    assert torch.allclose(alone, state.y0_hat, atol=1e-5)
    assert absent(torch.zeros(2, 0, 4, 4), 5).shape == (2, 0, 4, 4)


def test_ideal_denoisers_of_an_exact_world_run_on_it_as_one_chain_of_two_channels():
    """The Gaussian world's joint denoiser as the one network of a joint model ends as
    Gaussian.outcome says.
    """
    world = Gaussian(torch.tensor([[0.25, 0.225], [0.225, 0.25]], dtype=torch.float64))
    pair = world.pair("joint")

    def both(z, t, guide):
        x, y = z[:, :1].double(), z[:, 1:].double()
        return torch.cat([pair.model_x(x, t, y), pair.model_y(y, t, x)], 1).float()

    n = 4000
    s = Batch(SampleNoise(3, range(n)), (1, 1), None, LINEAR, "ddim", 32)
    ends = s.walk(absent, both, x_channels=0, y_channels=2, clip=False).y0_hat.flatten(1).double()
    mean, covariance = world.outcome("joint", LINEAR.grid(32))
    error = (covariance.diagonal() / n).sqrt()
    assert ((ends.mean(0) - mean).abs() < 4 * error).all()
    assert torch.allclose(torch.cov(ends.T), covariance, atol=4 * 0.25 * (2 / n) ** 0.5)


# --- each method ---


@pytest.mark.parametrize("name", METHODS)
def test_every_method_draws_from_untrained_networks(name):
    method, nets = METHODS[name], {}

    def net(network):
        if network not in nets:
            kind = NETWORKS[network]
            nets[network] = awake(kind.build, TINY, *map(net, kind.parents))
        return nets[network]

    masks, images = method.draw(*map(net, method.networks), batch())
    assert (
        images.shape == (4, 1, *SIZE) and images.dtype == torch.float32 and images.abs().max() <= 1
    )
    if masks is not None:
        assert masks.shape == (4, 1, *SIZE) and set(masks.unique().tolist()) <= {-1.0, 1.0}
    assert (masks is None) == (name in ("DDPM", "DDIM", "DPM++"))
    assert images.std(0).max() > 0


def test_losses_are_plain_mean_squares():
    pair, net = noisy(), awake(unconditional.build, TINY)
    assert unconditional.loss(net, pair) == (pair.eps_2 - net(pair.yt, pair.t)).square().mean()
    assert unconditional.mask_loss(net, pair) == (pair.eps_1 - net(pair.xt, pair.t)).square().mean()
    two = awake(joint.build, TINY)
    eps = two(torch.cat([pair.xt, pair.yt], 1), pair.t)
    expected = (
        (pair.eps_1 - eps[:, :1]).square().mean() + (pair.eps_2 - eps[:, 1:]).square().mean()
    ) / 2
    assert joint.loss(two, pair).item() == pytest.approx(expected.item(), rel=1e-5)
    of_two = awake(NETWORKS["model_y-clean"].build, TINY)
    assert (
        seg_guided.loss(of_two, pair)
        == (pair.eps_2 - of_two(pair.yt, pair.t, pair.x0)).square().mean()
    )


def test_swapped_roles_are_pig_with_mask_and_slice_exchanged():
    nets = [
        awake(NETWORKS[name].build, TINY, seed=i)
        for i, name in enumerate(("guider", "model_y-clean"))
    ]
    pair = noisy()
    exchanged = NoisyPair(pair.y0, pair.x0, pair.t, pair.eps_2, pair.eps_1, pair.schedule)
    assert pig.mask_loss(nets[1], pair) == seg_guided.loss(nets[1], exchanged)
    masks, images = pig.draw_swapped(*nets, batch(3, steps=5))
    state = batch(3, steps=5).walk(*nets)
    assert torch.equal(images, state.x0_hat) and torch.equal(
        masks, torch.where(state.y0_hat > 0, 1.0, -1.0)
    )


def test_two_times_are_drawn_apart_and_each_chain_hears_of_both():
    net, pair = awake(two_times.TwoTimes, TINY), noisy()
    s = torch.stack([pair.t[2], pair.t[0], pair.t[1]])
    ys = LINEAR.add_noise(pair.y0, s, pair.eps_2)
    answers = net(pair.xt, pair.t, ys, s)
    errors = [(a - eps).square() for a, eps in zip(answers, (pair.eps_1, pair.eps_2))]
    assert two_times.loss(net, pair) == pytest.approx(torch.cat(errors, 1).mean().item(), rel=1e-5)
    assert (s != pair.t).all()
    for t, s_ in ((pair.t, s.flip(0)), (pair.t.flip(0), s)):
        for before, after in zip(answers, net(pair.xt, t, ys, s_)):
            assert not torch.allclose(before[::2], after[::2], atol=1e-4)


def test_two_heads_are_a_guider_and_a_model_y_on_one_trunk():
    net, pair = awake(two_heads.TwoHeads, TINY), noisy()
    expected = (model_x_loss(net.model_x, pair) + seg_guided.loss(net.model_y, pair)) / 2
    assert two_heads.loss(net, pair) == expected
    shown = net.model_x(pair.xt, pair.t, pair.yt), net.model_y(pair.yt, pair.t, pair.xt)
    assert shown[0].shape == shown[1].shape == pair.xt.shape
    whole = net.trunk(torch.cat([pair.xt, pair.yt], 1), pair.t, torch.ones_like(pair.xt))
    assert torch.equal(shown[1], whole[:, 1:]) and not torch.allclose(
        shown[0], whole[:, :1], atol=1e-4
    )  # it knows its role


def test_pig_draws_as_the_packages_own_sampler_does():
    nets = [
        awake(NETWORKS[name].build, TINY, seed=i)
        for i, name in enumerate(("guider", "model_y-clean"))
    ]
    masks, images = pig.draw(*nets, batch(3, steps=5))
    ((x, y),) = sample(PairModel(*nets, LINEAR, Clean()), 3, SIZE, 5, solver=SOLVERS["dpm++2m"])
    assert torch.equal(masks, x) and torch.allclose(images, y, atol=1e-5)


def test_seg_guided_is_pigs_model_y_with_masks_that_were_given():
    net, s = awake(NETWORKS["model_y-clean"].build, TINY), batch()
    masks, images = seg_guided.draw(net, s)
    assert torch.equal(masks, s.masks)
    _, others = seg_guided.draw(net, replace(batch(), masks=-s.masks))
    assert not torch.allclose(images, others, atol=1e-3)  # the mask is heeded
    new, _ = new_masks_first(awake(unconditional.build, TINY), net, batch())
    assert not torch.equal(new, masks)


def test_a_new_controlnet_is_its_unconditional_network_and_only_the_control_learns():
    frozen = awake(unconditional.build, TINY)
    before = {name: w.clone() for name, w in frozen.state_dict().items()}
    net, pair = ControlNet(frozen), noisy()
    assert torch.equal(net(pair.yt, pair.t, pair.x0), frozen(pair.yt, pair.t))
    learning = {name.split(".")[0] for name, w in net.named_parameters() if w.requires_grad}
    assert learning == {"control", "show", "tell", "tell_middle"}
    loss = partial(model_y_loss, rule=Clean())
    for progress in fit(
        net, loss, phantoms(8, SIZE), Training(steps=30, batch=8, rate=3e-3, warmup=1)
    ):
        pass
    assert all(torch.equal(w, before[name]) for name, w in frozen.state_dict().items())
    assert not torch.equal(
        net(pair.yt, pair.t, pair.x0), net(pair.yt, pair.t, -pair.x0)
    )  # it heeds the mask by now
    assert {
        name for name, w in net.named_parameters() if w.requires_grad and w.grad is None
    } == set()


def test_the_autoencoder_compresses_restores_and_scales():
    pairs = phantoms(64, SIZE, seed=3)
    net = seeded_network(latent.Autoencoder, 0)
    steps = list(
        fit(net, latent.autoencoder_loss, pairs, Training(steps=150, batch=16, rate=3e-3, warmup=5))
    )
    net = steps[-1].average
    z = latent.latents(net, pairs.images)
    assert z.shape == (64, 2, 8, 8)  # half as many numbers as pixels
    error = (net.decode(z) - pairs.images).square().mean()
    assert error < 0.1 * pairs.images.var()
    latent.fit_scale(net, pairs)
    scaled = latent.to_latents(pairs, net).images
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(2), atol=1e-4)
    assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(2), atol=1e-4)
    assert torch.allclose(scaled * net.spread + net.mean, z, atol=1e-5)


def test_the_latent_network_is_shown_the_whole_mask_on_its_own_grid():
    pair = noisy()
    shown = latent.FoldedMask().train(pair)
    assert shown.shape == (3, 4, 8, 8)
    assert torch.equal(torch.nn.functional.pixel_shuffle(shown, 2), pair.x0)


# --- classical augmentation ---


def test_mask_and_slice_are_deformed_alike():
    """Slices that are their masks stay so, but for pixels on the outline."""
    pairs = phantoms(8, (32, 32), seed=2)
    pairs = Pairs(pairs.masks, pairs.masks * 2.0 - 1, pairs.names, pairs.patients)
    new = augment(pairs, 24, seed=0, flip=-2)
    assert len(new) == 24 and new.images.abs().max() <= 1 and new.masks.dtype == torch.bool
    differ = (new.masks != (new.images > 0)).float().mean((1, 2, 3)) / new.masks.float().mean(
        (1, 2, 3)
    ).clamp(min=0.01)
    assert differ.mean() < 0.2
    changed = (new.masks != pairs.masks[[i % 8 for i in range(24)]]).float().mean((1, 2, 3))
    assert (changed > 0).sum() >= 20


def test_augmentation_is_seeded_keeps_patients_and_appends():
    pairs = phantoms(8, (16, 16), seed=2)
    a, b = augment(pairs, 5, seed=1, flip=-1), augment(pairs, 12, seed=1, flip=-1)
    assert torch.equal(a.images, b.images[:5]) and torch.equal(a.masks, b.masks[:5])
    assert b.patients == [pairs.patients[i % 8] for i in range(12)]
    assert not torch.equal(a.images, augment(pairs, 5, seed=2, flip=-1).images)


def test_half_of_the_copies_are_mirrored_along_the_axis_asked_for(monkeypatch):
    from minipig.data import classical

    for name in ("TURN", "STRETCH", "SHIFT", "BEND", "CONTRAST", "BRIGHTNESS", "GAMMA"):
        monkeypatch.setattr(classical, name, 0.0)
    pairs = phantoms(1, (16, 16), seed=2)
    new = augment(pairs, 60, seed=0, flip=-2)
    same = [torch.allclose(image, pairs.images[0], atol=1e-5) for image in new.images]
    mirrored = [torch.allclose(image, pairs.images[0].flip(-2), atol=1e-5) for image in new.images]
    assert all(a != b for a, b in zip(same, mirrored)) and 18 < sum(mirrored) < 42


def test_a_deformation_moves_pixels_by_about_what_it_says():
    moved = [
        deformation(np.random.default_rng(i), (32, 32)) - np.mgrid[0:32, 0:32] for i in range(50)
    ]
    typical = np.sqrt(np.mean(np.square(moved)))
    assert 1 < typical < 5
