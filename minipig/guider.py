"""Algorithm 1: the noisy pair, the loss of the diffusion guider model_x, and the loss of model_y.

The guider model_x(x_t, y_t, t) denoises the mask and looks at the noisy slice. model_y(guide, y_t,
t) denoises the slice; a *guide rule* says what it is shown. (So in the paper; in code both are
called model(z_t, t, guide).)
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Protocol

import torch
from torch import Tensor

from minipig.schedule import Schedule

# eps = model(z_t, t, guide=None): (B, C, H, W), (B,), (B, G, H, W) -> (B, C, H, W)
Denoiser = Callable[..., Tensor]


@dataclass
class NoisyPair:
    """A batch of pairs at the levels t of both chains: what a guide rule sees in training.

    x0, y0, eps_1, eps_2: (B, 1, H, W); t: (B,) integers in 1..T. model_x: the frozen guider, called
    only if a rule reads x0_hat.
    """

    x0: Tensor
    y0: Tensor
    t: Tensor
    eps_1: Tensor
    eps_2: Tensor
    schedule: Schedule
    model_x: Denoiser | None = None

    @classmethod
    def draw(
        cls, x0: Tensor, y0: Tensor, schedule: Schedule, generator: torch.Generator, model_x=None
    ) -> "NoisyPair":
        """Algorithm 1, lines 2-4: t ~ Uniform{1..T}; eps_1, eps_2 ~ N(0, I), independent."""
        t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator).to(x0.device)
        eps_1 = torch.randn(x0.shape, generator=generator).to(x0.device)
        eps_2 = torch.randn(y0.shape, generator=generator).to(y0.device)
        return cls(x0, y0, t, eps_1, eps_2, schedule, model_x)

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
        """The frozen guider's estimate of the mask, Eq. (6): no gradient, no clipping."""
        if self.model_x is None:
            raise ValueError(
                "this rule reads x0_hat: train model_x first, and give it to fit: guider=model_x"
            )
        with torch.no_grad():
            eps_x = self.model_x(self.xt, self.t, self.yt)
        return self.schedule.x0_hat(self.xt, self.t, eps_x)


def model_x_loss(model_x: Denoiser, pair: NoisyPair) -> Tensor:
    """The loss of Algorithm 1: mean (eps_1 - model_x(x_t, y_t, t))^2."""
    eps_x = model_x(pair.xt, pair.t, pair.yt)
    return (pair.eps_1 - eps_x).square().mean()


def model_y_loss(model_y: Denoiser, pair: NoisyPair, rule: "GuideRule") -> Tensor:
    """The same for the slice: mean (eps_2 - model_y(guide, y_t, t))^2; a rule may have its own."""
    eps_y = model_y(pair.yt, pair.t, rule.train(pair))
    return (pair.eps_2 - eps_y).square().mean()


class GuideRule(Protocol):
    """What model_y is shown. To try an idea, write a class with these two methods.

    Both return the guide: finite, (B, G, H, W), with the dtype and device of the mask. G = 1 in
    this package; a model_y of your own, PairedUNet(guide=G), may take more channels. What sampling
    shows should mean what training has shown.

    A rule must depend on its argument alone, so that equal seeds give equal samples. If it needs
    noise, it takes the chain's own: pair.eps_1 in training, and in sampling
    state.schedule.eps(state.xt, state.t, state.x0_hat). It must not draw random numbers.

    Optional methods:
        loss(model_y, pair) -> scalar    replaces model_y_loss(model_y, pair, rule) in training
        asks(model_y) -> Denoiser        called instead of model_y in sampling
    Optional attributes:
        steps                            the rule is trained for this number of sampling steps
        pixelwise = False                the guide at a pixel depends on others: no exact verdict
    """

    def train(self, pair: NoisyPair) -> Tensor:
        """The guide in training."""

    def sample(self, state) -> Tensor:
        """The guide in sampling, from a sampler.State after the mask's half of the step."""
