"""Algorithm 1, and what guides model_y: the diffusion guider's loss, model_y's loss, and the guide rules.

The guider model_x(x_t, t, y_t) denoises the mask while it looks at the noisy slice. model_y(y_t, t, guide) denoises the
slice; a *guide rule* says what it is shown, once in training and once in sampling. The paper asks for x0_hat when sampling,
gives no loss for model_y, and notes that a network conditioned on clean masks may serve.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Protocol

import numpy as np
import torch
from torch import Tensor

from .schedule import Schedule

Denoiser = Callable[..., Tensor]  # eps = model(z_t, t, guide=None): (B, C, H, W), (B,), (B, G, H, W) -> (B, C, H, W)


@dataclass
class NoisyPair:
    """A batch of pairs on both chains at its times t, Eq. (9) and (10), and all that a guide rule may look at in training.

    x0, y0, eps_1, eps_2: (B, 1, H, W); t: (B,) in 1..T; model_x: the frozen guider, asked only if a rule wants x0_hat.
    """

    x0: Tensor
    y0: Tensor
    t: Tensor
    eps_1: Tensor
    eps_2: Tensor
    schedule: Schedule
    model_x: Denoiser | None = None

    @classmethod
    def draw(cls, x0: Tensor, y0: Tensor, schedule: Schedule, generator: torch.Generator, model_x: Denoiser | None = None):
        """Algorithm 1, lines 2-4: t ~ Uniform{1..T}, eps_1 and eps_2 independent standard normal."""
        t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
        eps_1, eps_2 = (torch.randn(z0.shape, generator=generator) for z0 in (x0, y0))
        return cls(x0, y0, t.to(x0.device), eps_1.to(x0.device), eps_2.to(x0.device), schedule, model_x)

    def part(self, rows: Tensor, device: torch.device) -> "NoisyPair":
        """The pairs of these rows, on `device`."""
        tensors = (z[rows].to(device, non_blocking=True) for z in (self.x0, self.y0, self.t, self.eps_1, self.eps_2))
        return NoisyPair(*tensors, self.schedule, self.model_x)

    @cached_property
    def xt(self) -> Tensor:
        """The noisy mask, Eq. (9)."""
        return self.schedule.add_noise(self.x0, self.t, self.eps_1)

    @cached_property
    def yt(self) -> Tensor:
        """The noisy slice, Eq. (10)."""
        return self.schedule.add_noise(self.y0, self.t, self.eps_2)

    @cached_property
    def x0_hat(self) -> Tensor:
        """The frozen guider's estimate of the mask, Eq. (6), without a graph and without clipping."""
        if self.model_x is None:
            raise ValueError("this guide rule needs x0_hat in training: train the guider first and pass it as model_x")
        with torch.no_grad():
            return self.schedule.x0_hat(self.xt, self.t, self.model_x(self.xt, self.t, self.yt))


def guider_loss(model_x: Denoiser, pair: NoisyPair) -> Tensor:
    """Algorithm 1: mean (eps_1 - model_x(x_t, t, y_t))^2."""
    return (pair.eps_1 - model_x(pair.xt, pair.t, pair.yt)).square().mean()


def slice_loss(model_y: Denoiser, pair: NoisyPair, rule: "GuideRule") -> Tensor:
    """model_y's loss, unweighted: mean (eps_2 - model_y(y_t, t, guide))^2 with the guide that `rule` shows in training."""
    return (pair.eps_2 - model_y(pair.yt, pair.t, rule.train(pair))).square().mean()


class GuideRule(Protocol):
    """What model_y is shown: (B, G, H, W), from a NoisyPair in training and from the sampler's State in sampling."""

    def train(self, pair: NoisyPair) -> Tensor: ...

    def sample(self, state) -> Tensor: ...


class Matched:
    """Trained on the frozen guider's x0_hat, as the release does, and sampled with it as it is (the release binarises it)."""

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0_hat

    def sample(self, state) -> Tensor:
        return state.x0_hat


class Clean:
    """Trained on the clean mask x0 and sampled with x0_hat, as the paper suggests for a pretrained model_y."""

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0

    def sample(self, state) -> Tensor:
        return state.x0_hat


class Previous:
    """Proposition 1 to the letter: the mask one step further, x_{t-1} where the sampler's next level is t - 1.

    A sampler takes longer steps, and training must show the same: from any t to the level that lies as far on as the next
    level of the sampler's grid does, by Eq. (9) with the chain's own noise.
    """

    def __init__(self, steps: int = 256, spacing: str = "uniform"):
        self.steps, self.spacing = steps, spacing

    def train(self, pair: NoisyPair) -> Tensor:
        levels = pair.schedule.grid(self.steps, self.spacing)[::-1]  # rising: after levels[k] comes levels[k - 1]
        s = torch.from_numpy(np.interp(pair.t.cpu(), levels[1:], levels[:-1])).round().long().to(pair.t.device)
        return pair.schedule.add_noise(pair.x0, s, pair.eps_1)

    def sample(self, state) -> Tensor:
        return state.x_next
