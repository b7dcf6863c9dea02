"""A network of diffusers as a denoiser: the real library, small networks, and diffusers' own sampler as the witness."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from minipig.borrowed import Borrowed, alphas, schedule_of, timesteps
from minipig.guider import Clean, slice_loss
from minipig.phantoms import phantoms
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import generator, seeded_network
from minipig.train import Training, finish, fit

SCHEDULE = Schedule()
OURS = dict(num_train_timesteps=1024, beta_start=1e-4, beta_end=0.02)  # diffusers' linear schedule is the paper's


def unet(seed=0, in_channels=2, out_channels=1):
    """A fresh network, small; its last layer is random, not 0."""
    kinds = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    return seeded_network(
        lambda: UNet2DModel(
            16,
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            **kinds,
        ).eval(),
        seed,
    )


def draw(*shape, key=0):
    return torch.randn(shape, generator=generator("borrowed", key))


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2", "linear"])
def test_a_borrowed_model_y_walks_as_in_its_own_library(predicts, schedule):
    """DDIM in 20 steps by diffusers' pipeline loop, mask in the first channel, against our walk on the scheduler's levels."""
    theirs = DDIMScheduler(
        1000, beta_schedule=schedule, prediction_type=predicts, clip_sample=True, set_alpha_to_one=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    theirs.set_timesteps(20)
    net, mask, y_T = unet(), draw(2, 1, 16, 16).sign(), draw(2, 1, 16, 16, key=1)
    y = y_T
    with torch.no_grad():
        for t in theirs.timesteps:
            y = theirs.step(net(torch.cat([mask, y], 1), t).sample, t, y, use_clipped_model_output=True).prev_sample
        ours = schedule_of(theirs)
        model_y = Borrowed(net, ours, theirs, guide_first=True)
        pair = PairModel(lambda x, t, y: ours.eps(x, t, mask), model_y, ours, Clean())
        grid = [int(t) + 1 for t in theirs.timesteps] + [0]
        *_, last = walk(pair, draw(2, 1, 16, 16, key=2), y_T, grid)
    assert torch.allclose(last.y0_hat, y, atol=3e-4)


def test_the_timesteps_of_an_equal_schedule_are_ours_less_one():
    t = torch.arange(1, 1025)
    assert torch.allclose(timesteps(SCHEDULE, DDPMScheduler(**OURS).alphas_cumprod.double())[1:], t - 1.0, atol=0.02)
    assert torch.allclose(Borrowed(unet(), SCHEDULE).timesteps[1:], t - 1.0, atol=1e-3)


def test_another_schedules_timesteps_have_our_noise():
    theirs = alphas(DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"))
    found = timesteps(SCHEDULE, theirs)[1:]
    assert (found.diff() >= 0).all() and found.min() >= 0 and found.max() <= 999
    inside = (found > 0) & (found < 999)
    low = found.floor().long().clamp(max=998)
    snr, share = torch.logit(theirs), found.double() - low
    there = torch.lerp(snr[low], snr[low + 1], share)
    assert inside.sum() > 900 and torch.allclose(there[inside], SCHEDULE.log_snr(torch.arange(1, 1025))[inside], atol=1e-3)


def test_a_schedule_that_ends_in_pure_noise_has_finite_timesteps():
    zero = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True)
    assert zero.alphas_cumprod[-1] == 0
    found = timesteps(SCHEDULE, alphas(zero))
    assert found.isfinite().all() and found.max() <= 99 and schedule_of(zero).abar[-1] > 0


def test_levels_that_a_network_has_never_seen_are_warned_of():
    stable = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    with pytest.warns(UserWarning, match="^2[0-9][0-9] of 1024 levels are noisier.*schedule_of"):
        Borrowed(unet(), SCHEDULE, stable)
    own = schedule_of(stable)
    assert torch.allclose(Borrowed(unet(), own, stable).timesteps[1:], torch.arange(1000.0), atol=0.01)
    t = torch.arange(1, 1001)
    assert torch.allclose(own.abar[t], own.abar[t - 1] * (1 - own.beta[t]))


def test_the_guide_has_its_own_channel_in_either_order():
    seen = []

    class Ears(torch.nn.Module):
        def forward(self, channels, timestep):
            seen.append((channels, timestep))
            return type("Output", (), {"sample": channels[:, :1]})

    z, guide, t = draw(3, 1, 4, 4), draw(3, 1, 4, 4, key=1), torch.tensor([1, 500, 1024])
    Borrowed(Ears(), SCHEDULE)(z, t, guide), Borrowed(Ears(), SCHEDULE, guide_first=True)(z, t, guide)
    (first, when), (second, _) = seen
    assert torch.equal(first, torch.cat([z, guide], 1)) and torch.equal(second, torch.cat([guide, z], 1))
    assert when.dtype == torch.float32 and torch.allclose(when, torch.tensor([0.0, 499, 1023]), atol=1e-3)


def test_a_prediction_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'flow'.*v_prediction"):
        Borrowed(unet(), SCHEDULE, type("S", (), {"config": type("C", (), {"prediction_type": "flow"})}))


def test_a_network_of_other_channels_is_refused():
    two = unet(in_channels=1, out_channels=2)
    with pytest.raises(ValueError, match=r"\(3, 2, 8, 8\) for \(3, 1, 8, 8\).*out_channels"):
        Borrowed(two, SCHEDULE)(draw(3, 1, 8, 8), torch.tensor([1, 2, 3]))


def test_it_learns_in_our_loop_and_its_average_is_saved_like_any_network():
    pairs = phantoms(64, (16, 16), seed=3)
    net = Borrowed(unet(), SCHEDULE)
    assert all(name.startswith("net.") for name in net.state_dict())
    training = Training(steps=60, batch=32, rate=2e-3, warmup=10)
    last = finish(fit(net, lambda model, pair: slice_loss(model, pair, Clean()), pairs, training), training, "borrowed")
    assert sum(last.losses[-10:]) < 0.6 * sum(last.losses[:10])
