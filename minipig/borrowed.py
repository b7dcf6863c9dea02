"""A network from elsewhere as model_x or model_y: a `UNet2DModel` of the library diffusers, trained or new.

Any callable eps = model(z_t, t, guide) is a denoiser here, so what has to be translated is what another library understands
by its inputs and its output: at which level it counts t, on which noise schedule, in which channel it expects the guide, and
what it predicts. Nothing of diffusers is imported: a wrapped network brings it along.
"""

import warnings

import torch
from torch import Tensor, nn

from .schedule import Schedule


class Borrowed(nn.Module):
    """A `UNet2DModel`, and the `scheduler` that it was trained with, as a denoiser on `schedule`.

    net(channels (B, C + G, H, W), timestep (B,)).sample -> (B, C, H, W); guide_first: its first channels are the guide.
    scheduler: any of diffusers' on a variance-preserving schedule (its `alphas_cumprod` and `config.prediction_type` are
    asked); None: the network counts and predicts like a `DDPMScheduler` on the schedule's own betas. To be trained further,
    it is an `nn.Module` like any other; the loss on eps suits networks that predict epsilon or v_prediction, and not
    "sample", whose error it weighs by the signal-to-noise ratio. Raises ValueError for any other prediction; warns where the
    schedule is noisier than the network has ever seen.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, scheduler=None, guide_first: bool = False):
        super().__init__()
        self.net, self.schedule, self.guide_first = net, schedule, guide_first
        self.predicts = "epsilon" if scheduler is None else getattr(scheduler.config, "prediction_type", None)
        if self.predicts not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"the network predicts {self.predicts!r}; known are epsilon, v_prediction, sample")
        self.timesteps = timesteps(schedule, schedule.abar[1:] if scheduler is None else alphas(scheduler))

    def forward(self, z: Tensor, t: Tensor, guide: Tensor | None = None) -> Tensor:
        seen = [z] if guide is None else [guide, z] if self.guide_first else [z, guide]
        out = self.net(torch.cat(seen, dim=1), self.timesteps.to(t.device)[t]).sample
        if out.shape != z.shape:
            raise ValueError(
                f"the network answers {tuple(out.shape)} for {tuple(z.shape)}; it needs as many out_channels as z"
            )
        signal, noise = self.schedule.scales(t, z)
        if self.predicts == "v_prediction":  # v = signal * eps - noise * z0
            return signal * out + noise * z
        return self.schedule.eps(z, t, out) if self.predicts == "sample" else out


def alphas(scheduler) -> Tensor:
    """A scheduler's abar of its timesteps 0 .. T' - 1, float64, without the infinite noise of a "zero terminal SNR"."""
    return scheduler.alphas_cumprod.to("cpu", torch.float64).clamp(1e-9, 1 - 1e-9)


def schedule_of(scheduler) -> Schedule:
    """The schedule that a scheduler of diffusers is on, for a pair that is to walk on it: its timestep k is our t = k + 1."""
    return Schedule.of(alphas(scheduler))


def timesteps(schedule: Schedule, theirs: Tensor) -> Tensor:
    """Where another schedule has the noise of our level t, (T + 1,) float32: between two of its levels if need be.

    theirs: its abar, (T',), falling, of its timesteps 0 .. T' - 1; its timestep 0 is a first noisy level, as our t = 1 is.
    Beyond its ends its first or last timestep serves. (Entry 0 is for the clean image, which no denoiser is asked about.)
    """
    snr = torch.logit(theirs.flip(0))  # grows
    levels = schedule.log_snr(torch.arange(1, schedule.T + 1))
    if (beyond := (levels < snr[0] - 0.1).sum().item()) > 0:
        warnings.warn(f"{beyond} of {schedule.T} levels are noisier than this network has ever seen: to walk on its own "
                      "schedule, give the pair that of borrowed.schedule_of(scheduler)", stacklevel=3)  # fmt: skip
    ours = levels.clamp(snr[0], snr[-1])
    above = torch.searchsorted(snr, ours).clamp(1, len(snr) - 1)
    share = (ours - snr[above - 1]) / (snr[above] - snr[above - 1])
    return torch.cat([torch.zeros(1), len(snr) - above - share]).float()
