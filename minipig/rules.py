"""More guide rules, one small class each: what else could model_y be shown?

A rule is what `GuideRule` says: train(pair) is the guide in training, sample(state) in sampling, and the two should mean the
same thing. A rule may also have `loss(model_y, pair)`, to be trained by in place of slice_loss, and `asks(model_y)`, the
denoiser that is asked in sampling in place of model_y itself. Nothing here is known to the files of the paper.
"""

from functools import partial
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .guider import Clean, Denoiser, GuideRule, Matched, NoisyPair, Previous, slice_loss
from .sampler import State


class Noisy:
    """x_t itself, the other chain as it is. An ideal model_y then loses nothing, Eq. (11); a trained one must do the guider's
    work again.
    """

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.xt

    def sample(self, state: State) -> Tensor:
        return state.x_t


class Augmented:
    """A mask at a share of the slice's noise level: x_r, r = share * t, of Eq. (9) with x0 in training, with x0_hat when
    sampling. From `Clean` (0) to `Noisy` (1).

    After the conditioning augmentation of cascaded diffusion (Ho et al. 2022, arXiv 2106.15282), whose second model is told
    the level too: here it follows from t. Noise hides what the estimate and the truth differ by.
    """

    def __init__(self, share: float = 0.5):
        self.share = share

    def level(self, t):
        """r at level t, a number or (B,)."""
        return torch.as_tensor(self.share * t).round().long()

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.schedule.add_noise(pair.x0, self.level(pair.t), pair.eps_1)

    def sample(self, state: State) -> Tensor:
        eps = state.schedule.eps(state.x_t, state.t, state.x0_hat)
        return state.schedule.add_noise(state.x0_hat, self.level(state.t), eps)


class Sign:
    """The estimate made a mask, ±1 by its sign; trained on clean masks, so that no other value is ever seen."""

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0

    def sample(self, state: State) -> Tensor:
        return torch.where(state.x0_hat > 0, 1.0, -1.0).to(state.x0_hat)


class Binarised(Matched):
    """The released code's guide: trained on x0_hat as it is; in sampling clamped, smoothed by a mean of `window` x `window`
    pixels (odd), and made ±1 at three quarters of the way from each sample's least value to its largest.
    """

    pixelwise = False  # a single pixel is both its least value and its largest: the exact worlds have no verdict

    def __init__(self, window: int = 5):
        self.window = window

    def sample(self, state: State) -> Tensor:
        inside = dict(stride=1, padding=self.window // 2, count_include_pad=False)
        smooth = F.avg_pool2d(state.x0_hat.clamp(-1, 1), self.window, **inside)
        low, high = smooth.amin((1, 2, 3), keepdim=True), smooth.amax((1, 2, 3), keepdim=True)
        return torch.where(smooth > 0.25 * low + 0.75 * high, 1.0, -1.0).to(smooth)


class LesionWeighted(Matched):
    """The released code's loss: `Matched`, each pixel weighted by sigmoid(x0_hat), 2.7 times as much where x0_hat is 1 as
    where it is -1. The weight is a function of the guide, so the ideal answer is unchanged.
    """

    def loss(self, model_y: Denoiser, pair: NoisyPair) -> Tensor:
        error = pair.eps_2 - model_y(pair.yt, pair.t, self.train(pair))
        return (self.train(pair).sigmoid() * error.square()).mean()


class Strength:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): eps(none) + w (eps(guide) - eps(none)).

    Trained on clean masks, one in ten replaced by `none`, 0 everywhere: neither lesion nor tissue. w = 1 is `Clean`, but for
    those; w > 1 heeds the mask more than the data ask for. model_y is asked twice a step.
    """

    def __init__(self, w: float = 2.0):
        self.w = w

    def train(self, pair: NoisyPair) -> Tensor:
        chance = pair.eps_1[:, :1, :1, :1]  # standard normal, and nothing else here depends on it
        return torch.where(chance < -1.2816, torch.zeros_like(pair.x0), pair.x0)

    def sample(self, state: State) -> Tensor:
        return state.x0_hat

    def asks(self, model_y: Denoiser) -> Denoiser:
        def both(z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
            none = model_y(z, t, torch.zeros_like(guide))
            return none + self.w * (model_y(z, t, guide) - none)

        return both


class Dithered:
    """Ours: at every step a mask, and over the steps, on average, the estimate. Pixels are lesion whose probability of
    lesion, (1 + x0_hat) / 2, exceeds a threshold that runs through (0, 1): t times the golden ratio, modulo 1.

    A clean-mask model_y is so shown nothing but masks, as in training; x0_hat would show it shades that it has never seen.
    `Sign`, whose threshold is 1/2 for ever, does so too, but rounds every doubt away. Here a pixel that is lesion with
    probability p is shown as lesion in p of the steps, as these become many. For one binary pixel model_y's answers then
    average to the mean of its answers over masks, not to its answer to the mean mask (the tower rule). Of many pixels the
    masks are the estimate's level sets, which are not its posterior's masks. At 64 steps the thresholds are no more evenly
    spread than random ones.
    """

    GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, come to be evenly spread, none of them ever the same

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0

    def sample(self, state: State) -> Tensor:
        return torch.where((1 + state.x0_hat) / 2 > state.t * self.GOLDEN % 1, 1.0, -1.0).to(state.x0_hat)


RULES: dict[str, type[GuideRule]] = {
    "matched": Matched,
    "clean": Clean,
    "previous": Previous,
    "noisy": Noisy,
    "augmented": Augmented,
    "sign": Sign,
    "binarised": Binarised,
    "lesion-weighted": LesionWeighted,
    "strength": Strength,
    "dithered": Dithered,
}


TRAINED_AS = {"sign": "clean", "dithered": "clean", "binarised": "matched"}  # these share model_y, and only sample apart


def loss_of(rule: GuideRule) -> Callable[[Denoiser, NoisyPair], Tensor]:
    """What model_y is trained by under this rule: its own loss, or slice_loss."""
    return getattr(rule, "loss", partial(slice_loss, rule=rule))


def asked(rule: GuideRule, model_y: Denoiser) -> Denoiser:
    """The denoiser that Algorithm 2 asks under this rule: one that the rule makes of model_y, or model_y itself."""
    return rule.asks(model_y) if hasattr(rule, "asks") else model_y
