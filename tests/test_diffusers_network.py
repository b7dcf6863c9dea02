"""A network of diffusers as a denoiser, against diffusers' own sampler: small, real networks."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from minipig.data.phantoms import phantoms
from minipig.extras.diffusers_network import DiffusersNetwork, alphas, schedule_of, timesteps
from minipig.extras.solvers import log_snr
from minipig.guider import model_y_loss
from minipig.rules import Clean
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.training.loop import Training, finish, fit

SCHEDULE = Schedule.linear()
# diffusers' linear schedule is the paper's
PAPER = dict(num_train_timesteps=1024, beta_start=1e-4, beta_end=0.02)


def unet(seed=0, in_channels=2, out_channels=1):
    """A new, small network; its last layer is random, not 0."""
    channels = dict(in_channels=in_channels, out_channels=out_channels)
    layers = dict(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    kinds = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    return seeded_network(lambda: UNet2DModel(16, **channels, **layers, **kinds).eval(), seed)


def draw(*shape, key=0):
    return torch.randn(shape, generator=generator("diffusers", key))


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2", "linear"])
def test_model_y_walks_as_in_its_own_library(predicts, schedule):
    """DDIM in 20 steps: diffusers' loop, mask in the first channel, and our walk on its levels."""
    settings = dict(beta_schedule=schedule, prediction_type=predicts, timestep_spacing="trailing")
    theirs = DDIMScheduler(1000, clip_sample=True, set_alpha_to_one=True, **settings)
    theirs.set_timesteps(20)
    net = unet()
    mask = draw(2, 1, 16, 16).sign()
    y_T = draw(2, 1, 16, 16, key=1)
    with torch.no_grad():
        y = y_T
        for t in theirs.timesteps:
            out = net(torch.cat([mask, y], 1), t).sample
            y = theirs.step(out, t, y, use_clipped_model_output=True).prev_sample
        ours = schedule_of(theirs)
        model_y = DiffusersNetwork(net, ours, theirs, guide_first=True)
        pair = PairModel(lambda x, t, y: ours.eps(x, t, mask), model_y, ours, Clean())
        grid = [int(t) + 1 for t in theirs.timesteps] + [0]
        *_, last = walk(pair, draw(2, 1, 16, 16, key=2), y_T, grid)
    assert torch.allclose(last.y0_hat, y, atol=3e-4)


# --- timesteps -------------------------------------------------------------------------------


def test_the_timesteps_of_an_equal_schedule_are_ours_less_one():
    t = torch.arange(1, 1025)
    theirs = timesteps(SCHEDULE, DDPMScheduler(**PAPER).alphas_cumprod.double())
    assert torch.allclose(theirs[1:], t - 1.0, atol=0.02)
    assert torch.allclose(DiffusersNetwork(unet(), SCHEDULE).timesteps[1:], t - 1.0, atol=1e-3)


def test_another_schedules_timesteps_have_our_noise():
    theirs = alphas(DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"))
    found = timesteps(SCHEDULE, theirs)[1:]
    assert (found.diff() >= 0).all() and found.min() >= 0 and found.max() <= 999
    inside = (found > 0) & (found < 999)
    assert inside.sum() > 900
    low = found.floor().long().clamp(max=998)
    snr = torch.logit(theirs)
    there = torch.lerp(snr[low], snr[low + 1], found.double() - low)
    wanted = log_snr(SCHEDULE, torch.arange(1, 1025))
    assert torch.allclose(there[inside], wanted[inside], atol=1e-3)


def test_a_schedule_that_ends_in_pure_noise_has_finite_timesteps():
    zero = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True)
    assert zero.alphas_cumprod[-1] == 0
    found = timesteps(SCHEDULE, alphas(zero))
    assert found.isfinite().all() and found.max() <= 99 and schedule_of(zero).abar[-1] > 0


def test_a_warning_says_which_levels_the_network_was_not_trained_on():
    stable = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    with pytest.warns(UserWarning, match="^2[0-9][0-9] of 1024 levels are noisier.*schedule_of"):
        DiffusersNetwork(unet(), SCHEDULE, stable)
    own = schedule_of(stable)
    found = DiffusersNetwork(unet(), own, stable).timesteps[1:]
    assert torch.allclose(found, torch.arange(1000.0), atol=0.01)
    t = torch.arange(1, 1001)
    assert torch.allclose(own.abar[t], own.abar[t - 1] * (1 - own.beta[t]))


# --- channels, predictions, training ---------------------------------------------------------


class Recorder(torch.nn.Module):
    """A network that records its inputs."""

    def forward(self, channels, timestep):
        self.seen = (channels, timestep)
        return SimpleNamespace(sample=channels[:, :1])


@pytest.mark.parametrize("guide_first", [False, True])
def test_the_guide_has_its_own_channel_in_either_order(guide_first):
    z = draw(3, 1, 4, 4)
    guide = draw(3, 1, 4, 4, key=1)
    net = DiffusersNetwork(Recorder(), SCHEDULE, guide_first=guide_first)
    net(z, torch.tensor([1, 500, 1024]), guide)
    channels, timestep = net.net.seen
    assert torch.equal(channels, torch.cat([guide, z] if guide_first else [z, guide], 1))
    assert timestep.dtype == torch.float32
    assert torch.allclose(timestep, torch.tensor([0.0, 499, 1023]), atol=1e-3)


def test_another_schedule_than_the_pair_models_is_refused():
    scheduler = DDPMScheduler(8, prediction_type="v_prediction")
    net = DiffusersNetwork(unet(), schedule_of(scheduler), scheduler)
    with pytest.raises(ValueError, match="a network has Schedule.* give both the same"):
        PairModel(net, net, Schedule.cosine(8), Clean())


def test_an_unknown_prediction_is_refused():
    scheduler = SimpleNamespace(
        config=SimpleNamespace(prediction_type="flow"), alphas_cumprod=torch.tensor([0.9, 0.1])
    )
    with pytest.raises(
        ValueError, match="prediction_type 'flow' is not one of epsilon, v_prediction, sample"
    ):
        DiffusersNetwork(unet(), SCHEDULE, scheduler)


def test_a_network_of_other_channels_is_refused():
    two = unet(in_channels=1, out_channels=2)
    with pytest.raises(ValueError, match=r"\(3, 2, 8, 8\) for \(3, 1, 8, 8\): out_channels"):
        DiffusersNetwork(two, SCHEDULE)(draw(3, 1, 8, 8), torch.tensor([1, 2, 3]))


def test_it_is_trained_and_averaged_like_any_network():
    pairs = phantoms(64, (16, 16), seed=3)
    net = DiffusersNetwork(unet(), SCHEDULE)
    assert all(name.startswith("net.") for name in net.state_dict())
    training = Training(steps=60, batch=32, rate=2e-3, warmup=10)
    last = finish(fit(net, partial(model_y_loss, rule=Clean()), pairs, training), "diffusers")
    assert sum(last.losses[-10:]) < 0.6 * sum(last.losses[:10])
