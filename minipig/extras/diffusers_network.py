"""A `UNet2DModel` of the library diffusers, trained or new, as model_x or model_y.

Any callable eps = model(z_t, t, guide) is a denoiser. The wrapper translates the level t, the noise
schedule, the channel of the guide, and what the network predicts. It does not import diffusers.
"""

import warnings

import torch
from torch import Tensor, nn

from minipig.extras.solvers import log_snr
from minipig.schedule import Schedule

PREDICTS = ("epsilon", "v_prediction", "sample")


class DiffusersNetwork(nn.Module):
    """A `UNet2DModel`, with the `scheduler` that it was trained with, as a denoiser on `schedule`.

    net(channels (B, C + G, H, W), timestep (B,)).sample -> (B, C, H, W); guide_first: the guide is
    in its first channels. scheduler: any of diffusers' with a variance-preserving schedule, for its
    `alphas_cumprod` and `config.prediction_type`; None: a `DDPMScheduler` on the schedule's betas.
    It can be trained further like any `nn.Module`; the loss on eps suits networks that predict
    epsilon or v_prediction, not "sample". Raises ValueError for another prediction; warns if the
    schedule has more noise than the scheduler.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, scheduler=None, guide_first=False):
        super().__init__()
        self.net = net
        self.schedule = schedule
        self.guide_first = guide_first
        self.predicts = "epsilon"
        theirs = schedule.abar[1:]
        if scheduler is not None:
            self.predicts = getattr(scheduler.config, "prediction_type", None)
            theirs = alphas(scheduler)
        if self.predicts not in PREDICTS:
            known = ", ".join(PREDICTS)
            raise ValueError(f"prediction_type {self.predicts!r} is not one of {known}")
        self.timesteps = timesteps(schedule, theirs)

    def forward(self, z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
        inputs = [z] if guide is None else [guide, z] if self.guide_first else [z, guide]
        out = self.net(torch.cat(inputs, dim=1), self.timesteps.to(t.device)[t]).sample
        if out.shape != z.shape:
            shapes = f"{tuple(out.shape)} for {tuple(z.shape)}"
            raise ValueError(f"the network returns {shapes}: out_channels must be {z.shape[1]}")
        signal, noise = self.schedule.scales(t, z)
        if self.predicts == "v_prediction":  # v = signal * eps - noise * z0
            return signal * out + noise * z
        return self.schedule.eps(z, t, out) if self.predicts == "sample" else out


def alphas(scheduler) -> Tensor:
    """The abar of a scheduler's timesteps 0 .. T' - 1, float64, clamped away from 0 and 1."""
    return scheduler.alphas_cumprod.to("cpu", torch.float64).clamp(1e-9, 1 - 1e-9)


def schedule_of(scheduler) -> Schedule:
    """A scheduler's noise schedule: its timestep k is our level t = k + 1."""
    return Schedule.of(alphas(scheduler))


def timesteps(schedule: Schedule, theirs: Tensor) -> Tensor:
    """The timestep of another schedule with the noise of our level t, (T + 1,) float32.

    theirs: its abar of timesteps 0 .. T' - 1, falling; timestep 0 is noisy, as our t = 1. Between
    two timesteps it is interpolated in the log SNR; beyond the ends, the first or last is used.
    Entry 0, the clean image, is not used.
    """
    snr = torch.logit(theirs.flip(0))  # rising
    levels = log_snr(schedule, torch.arange(1, schedule.T + 1))
    if (beyond := (levels < snr[0] - 0.1).sum().item()) > 0:
        warnings.warn(
            f"{beyond} of {schedule.T} levels are noisier than in this network's training: use "
            "schedule_of(scheduler) for the network and the pair model",
            stacklevel=3,
        )
    ours = levels.clamp(snr[0], snr[-1])
    above = torch.searchsorted(snr, ours).clamp(1, len(snr) - 1)
    share = (ours - snr[above - 1]) / (snr[above] - snr[above - 1])
    return torch.cat([torch.zeros(1), len(snr) - above - share]).float()
