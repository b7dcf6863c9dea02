"""Guide rules: what model_y is shown, in training and in sampling. One small class each.

The paper gives no loss for model_y: it may be trained on clean masks (`Clean`, our default). The
code that its authors released does otherwise: `Matched` with the loss of `LesionWeighted` in
training, `Binarised` in sampling. guider.GuideRule says what a rule may return and which methods it
may have. Write your own in a file such as notebooks/my_rule.py, and run it by --rule FILE.py:CLASS.
"""

from functools import partial
from typing import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minipig.guider import Denoiser, GuideRule, NoisyPair, model_y_loss
from minipig.sampler import State


class Clean:
    """Trained on the clean mask x0, sampled with its estimate x0_hat."""

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0

    def sample(self, state: State) -> Tensor:
        return state.x0_hat


class Matched:
    """Trained on the frozen guider's x0_hat, and sampled with x0_hat."""

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0_hat

    def sample(self, state: State) -> Tensor:
        return state.x0_hat


class Previous:
    """Proposition 1 to the letter: x_{t-1}, the mask after its half of the step.

    A sampler with `steps` uniform moves goes from t to a level s below t - 1, so training shows
    x_s: Eq. (9) with the chain's own noise. Between the levels of this grid, s is interpolated.
    """

    def __init__(self, steps: int = 256):
        self.steps = steps

    def train(self, pair: NoisyPair) -> Tensor:
        levels = pair.schedule.grid(self.steps)[::-1]  # rising: after levels[k] comes levels[k - 1]
        after = np.interp(pair.t.cpu(), levels[1:], levels[:-1])
        s = torch.from_numpy(after).round().long().to(pair.t.device)
        return pair.schedule.add_noise(pair.x0, s, pair.eps_1)

    def sample(self, state: State) -> Tensor:
        return state.x_next


class Blank:
    """Zeros: model_y works alone. The floor that every rule has to beat."""

    def train(self, pair: NoisyPair) -> Tensor:
        return torch.zeros_like(pair.x0)

    def sample(self, state: State) -> Tensor:
        return torch.zeros_like(state.xt)


class Noisy:
    """x_t, the noisy mask: an ideal model_y loses nothing, a trained one repeats model_x's work."""

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.xt

    def sample(self, state: State) -> Tensor:
        return state.xt


class Augmented:
    """The mask at the level r = share * t, from Clean (share 0) to Noisy (share 1).

    x_r by Eq. (9): of x0 in training, of x0_hat in sampling. Noise hides the difference between the
    two, as in cascaded diffusion (Ho et al. 2022, arXiv 2106.15282).
    """

    def __init__(self, share: float = 0.5):
        self.share = share

    def level(self, t):
        """r at level t, a number or (B,)."""
        return torch.as_tensor(self.share * t).round().long()

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.schedule.add_noise(pair.x0, self.level(pair.t), pair.eps_1)

    def sample(self, state: State) -> Tensor:
        eps = state.schedule.eps(state.xt, state.t, state.x0_hat)
        return state.schedule.add_noise(state.x0_hat, self.level(state.t), eps)


class Sign(Clean):
    """Trained on clean masks, sampled with the sign of x0_hat: model_y sees no value but ±1."""

    def sample(self, state: State) -> Tensor:
        return torch.where(state.x0_hat > 0, 1.0, -1.0).to(state.x0_hat)


class Binarised(Matched):
    """The released code's guide: as Matched, but in sampling x0_hat is smoothed and made ±1.

    Smoothed by a mean of `window` x `window` pixels (odd), and cut at three quarters of the way
    from each sample's smallest value to its largest.
    """

    pixelwise = False  # of a single pixel, the smallest value is the largest

    def __init__(self, window: int = 5):
        self.window = window

    def sample(self, state: State) -> Tensor:
        inside = dict(stride=1, padding=self.window // 2, count_include_pad=False)
        smooth = F.avg_pool2d(state.x0_hat.clamp(-1, 1), self.window, **inside)
        low = smooth.amin((1, 2, 3), keepdim=True)
        high = smooth.amax((1, 2, 3), keepdim=True)
        return torch.where(smooth > 0.25 * low + 0.75 * high, 1.0, -1.0).to(smooth)


class LesionWeighted(Matched):
    """The released code's loss: as Matched, but each pixel is weighted by sigmoid(x0_hat).

    A pixel at 1 weighs e = 2.7 times as much as one at -1. The weight depends on the guide alone,
    so the ideal answer is unchanged.
    """

    def loss(self, model_y: Denoiser, pair: NoisyPair) -> Tensor:
        guide = self.train(pair)
        error = pair.eps_2 - model_y(pair.yt, pair.t, guide)
        return (guide.sigmoid() * error.square()).mean()


class Strength(Clean):
    """Classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598.

    eps = eps(none) + w (eps(mask) - eps(none)). Trained on clean masks, one in ten replaced by
    `none`, 0 everywhere. w > 1 follows the mask more closely than the data do.
    """

    def __init__(self, w: float = 2.0):
        self.w = w

    def train(self, pair: NoisyPair) -> Tensor:
        chance = pair.eps_1[:, :1, :1, :1]  # N(0, 1), below -1.2816 once in ten; model_y sees none
        return torch.where(chance < -1.2816, torch.zeros_like(pair.x0), pair.x0)

    def asks(self, model_y: Denoiser) -> Denoiser:
        def guided(z: Tensor, t: Tensor, mask: Tensor) -> Tensor:
            none = model_y(z, t, torch.zeros_like(mask))
            return none + self.w * (model_y(z, t, mask) - none)

        return guided


class Dithered(Clean):
    """A mask ±1 at every step; over the steps the masks average to x0_hat. An idea of minipig's.

    A pixel is lesion where its probability (1 + x0_hat) / 2 exceeds a threshold, which fills (0, 1)
    evenly as t falls. Sign, whose threshold is always 1/2, drops every doubt. The pixels share the
    threshold, so their masks are not draws from the posterior.
    """

    GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill (0, 1) evenly

    def sample(self, state: State) -> Tensor:
        lesion = (1 + state.x0_hat) / 2 > (state.t * self.GOLDEN) % 1
        return torch.where(lesion, 1.0, -1.0).to(state.x0_hat)


RULES: dict[str, type[GuideRule]] = {
    "clean": Clean,
    "matched": Matched,
    "previous": Previous,
    "blank": Blank,
    "noisy": Noisy,
    "augmented": Augmented,
    "sign": Sign,
    "binarised": Binarised,
    "lesion-weighted": LesionWeighted,
    "strength": Strength,
    "dithered": Dithered,
}
# rules that differ in sampling alone share a model_y
TRAINED_AS = {"sign": "clean", "dithered": "clean", "binarised": "matched"}


def trained_as(name: str) -> str:
    """The rule whose model_y this one uses: its own name unless it is in TRAINED_AS."""
    return TRAINED_AS.get(name, name)


def loss_of(rule: GuideRule) -> Callable[[Denoiser, NoisyPair], Tensor]:
    """The loss of model_y under this rule: its own, or model_y_loss."""
    return getattr(rule, "loss", partial(model_y_loss, rule=rule))
