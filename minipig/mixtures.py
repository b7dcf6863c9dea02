"""Worlds whose masks are few: ideal denoisers by Bayes' rule, for every guide, and for any guide rule of your own.

Mixture       x0 on a few levels, y0 normal around f(x0)
TrainingSet   (x0, y0) one of N pairs: what a perfectly trained pair model answers

They speak the language of networks, as exact.Gaussian does, and know the same guides by name.
"""

from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .exact import BLIND, Show
from .guider import GuideRule, NoisyPair
from .sampler import PairModel
from .schedule import Schedule


class Mixture:
    """x0 on K levels (K, C, H, W) with probabilities prior (K,), and y0 normal around f(x0), standard deviation `spread`.

    f: a function of x0, or its table on the levels, (K, C, H, W). Between the levels the truth says nothing of y0, yet a
    clean-mask model_y is asked there: f is then that model's own extrapolation, and a table has none.
    """

    def __init__(self, levels: Tensor, prior: Tensor, f: Callable | Tensor, spread: float, schedule: Schedule | None = None):
        self.levels, self.prior, self.f, self.spread = levels, prior, f, spread
        self.means = f(levels) if callable(f) else f
        self.schedule = schedule or Schedule()

    def from_x(self, x_t: Tensor, t) -> Tensor:
        """What x_t says of the levels, log p(x_t | level) up to a constant of x_t: (B, K)."""
        return self._evidence(x_t, t, self.levels, 0.0)

    def from_y(self, y_t: Tensor, t) -> Tensor:
        """What y_t says of the levels, log p(y_t | level) up to a constant of y_t: (B, K)."""
        return self._evidence(y_t, t, self.means, self.spread)

    def _evidence(self, z: Tensor, t, centres: Tensor, spread: float) -> Tensor:
        signal, noise = (scale.flatten(1) for scale in self.schedule.scales(t, z))
        variance = (noise**2 + (signal * spread) ** 2).clamp(min=1e-12)  # at level 0, without spread, z is a centre
        natural, length = signal * z.flatten(1) / variance, signal**2 / variance
        return natural @ centres.flatten(1).T - length * centres.flatten(1).square().sum(1) / 2

    def posterior(self, *evidence: Tensor) -> Tensor:
        """P(level | all that is seen), (B, K), by Bayes' rule: independent evidence multiplies."""
        return (self.prior.log() + sum(evidence)).softmax(1)

    def x0_hat(self, t, x_t: Tensor, *evidence: Tensor) -> Tensor:
        """The ideal guider's E[x0 | x_t], and from further evidence, such as from_y(y_t, t), E[x0 | x_t, y_t]."""
        return self._mean(self.posterior(self.from_x(x_t, t), *evidence), self.levels)

    def _mean(self, posterior: Tensor, values: Tensor) -> Tensor:
        return (posterior @ values.flatten(1)).reshape(-1, *values.shape[1:])

    def eps_y(self, y_t: Tensor, t, f_mean: Tensor) -> Tensor:
        """E[eps_2 | y_t, guide], if f_mean is E[f(x0) | y_t, guide]: all that a guide can add."""
        signal, noise = self.schedule.scales(t, y_t)
        return noise * (y_t - signal * f_mean) / (noise**2 + (signal * self.spread) ** 2)

    def recover(self, x0_hat: Tensor, t, *evidence: Tensor) -> Tensor:
        """The x_t of which x0_hat is the estimate in the light of `evidence`, one pixel: x0_hat grows with x_t, so bisect."""
        signal, noise = self.schedule.scales(t, x0_hat)
        high = (signal * self.levels.abs().max() + 12 * noise) * torch.ones_like(x0_hat)
        low = -high
        for _ in range(60):
            middle = (low + high) / 2
            below = self.x0_hat(t, middle, *evidence) < x0_hat
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def pair(self, guide: str | GuideRule, grid: list[int] | None = None) -> PairModel:
        """Both ideal denoisers for a guide of exact.py by its name, or for any guide rule; for sampler.walk, clip=False.

        "previous" needs the sampler's grid; "matched", "one-way" and rules are for one pixel. What a rule says of training is
        what model_y has learnt, what it says of sampling is what it is shown. Raises ValueError for "clean" by its name where
        f is known on the levels alone.
        """
        if guide == "clean" and not callable(self.f):
            raise ValueError("a clean-mask model_y is asked between its levels, where this world's f is not defined")
        after, rule = dict(zip(grid, grid[1:])) if grid else {}, Show(guide) if isinstance(guide, str) else guide

        def model_x(x_t: Tensor, t: Tensor, y_t: Tensor) -> Tensor:
            evidence = () if guide in BLIND else (self.from_y(y_t, t),)
            return self.schedule.eps(x_t, t, self.x0_hat(t, x_t, *evidence))

        def model_y(y_t: Tensor, t: Tensor, shown: Tensor) -> Tensor:
            if guide == "clean":
                return self.eps_y(y_t, t, self.f(shown))
            from_y = self.from_y(y_t, t)
            about_x = {
                "joint": lambda: [self.from_x(shown, t)],
                "matched": lambda: [self.from_x(self.recover(shown, t, from_y), t)],
                "previous": lambda: [self.from_x(shown, after[int(t[0])])],
                "one-way": lambda: [self.from_x(self.recover(shown, t), t)],
                "independent": lambda: [],
            }
            if isinstance(guide, str):
                return self.eps_y(y_t, t, self._mean(self.posterior(from_y, *about_x[guide]()), self.means))
            if (t != t[0]).any():
                raise ValueError("an ideal model_y of a guide rule is asked at one level at a time")
            return self.eps_y(y_t, t, self.learnt(guide, y_t, int(t[0]), shown))

        return PairModel(model_x, model_y, self.schedule, rule)

    def learnt(self, rule: GuideRule, y_t: Tensor, t: int, shown: Tensor, nodes: int = 101) -> Tensor:
        """E[f(x0) | guide = shown, y_t] as an ideal model_y has learnt it that was trained by `rule`, at level t; one pixel.

        y_t, shown: (B, 1, 1, 1). For every level of x0 and a fine grid of eps_1 the rule is asked for its guide in training,
        g(eps_1). A level counts with its probability given y_t and by how often it shows `shown`: the mass of the stretches
        on which g rests there, if any, else the density where g crosses it (change of variables); where g leaps from one rest
        to another it has shown nothing between. Between guides that no training has shown, the answer is on the straight line
        between the nearest that one has. Raises ValueError for a guide that is not one channel, or that looks at y0 or eps_2.
        """
        n, k, eps = len(y_t), len(self.levels), torch.linspace(-7, 7, nodes, dtype=y_t.dtype)
        y, x0 = (z.reshape(-1, 1, 1, 1) for z in (y_t.repeat_interleave(k * nodes), self.levels.repeat_interleave(nodes)))
        x0, eps_1 = x0.repeat(n, 1, 1, 1), eps.repeat(n * k).reshape(-1, 1, 1, 1)
        times, unknown = torch.full((len(y),), t), torch.full_like(y, torch.nan)
        pair = NoisyPair(x0, unknown, times, eps_1, unknown, self.schedule, self.pair("joint").model_x)
        pair.yt = y
        g = rule.train(pair)
        if g.shape != y.shape or g.isnan().any():
            what = "looks at y0 or eps_2, which no sampler knows" if g.shape == y.shape else f"has the shape {tuple(g.shape)}"
            raise ValueError(f"the guide of {type(rule).__name__} {what}; here it is made of x0, xt, yt, {tuple(y.shape)}")
        g, shown = g.to(y).reshape(n, k, nodes), shown.reshape(n, 1, 1)

        left, right = (g - shown)[..., :-1], (g - shown)[..., 1:]
        rests = (left.abs() < 1e-9) & (right.abs() < 1e-9)
        still = F.pad((g[..., 1:] - g[..., :-1]).abs() < 1e-9, (1, 1), value=True)
        leaps = still[..., :-2] & still[..., 2:]
        crosses = (left * right <= 0) & ~rests & ~leaps
        place = torch.where(crosses, left / (left - right), 0.5)
        at_nodes = torch.gradient(g, dim=2)[0]
        slope = torch.lerp(at_nodes[..., :-1], at_nodes[..., 1:], place).abs()
        density = (-torch.lerp(eps[:-1], eps[1:], place).square() / 2).exp()
        often = torch.where(rests.any((1, 2), keepdim=True), rests.double(), crosses / slope.clamp(min=1e-12)) * density
        likely = self.posterior(self.from_y(y_t, t))
        weight, values = likely * often.sum(2), self.means.flatten()
        mean = weight @ values / weight.sum(1).clamp(min=1e-300)
        return torch.where(weight.sum(1) > 0, mean, self._between(g, shown, eps, likely, values)).reshape(y_t.shape)

    def _between(self, g: Tensor, shown: Tensor, eps: Tensor, likely: Tensor, values: Tensor) -> Tensor:
        """The straight line between the mean values of the nearest guides below and above `shown`, (n,)."""
        ends = []
        for side in (g.masked_fill(g > shown, -torch.inf).amax((1, 2), keepdim=True),
                     g.masked_fill(g < shown, torch.inf).amin((1, 2), keepdim=True)):  # fmt: skip
            weight = likely * (((g - side).abs() < 1e-9) * (-eps.square() / 2).exp()).sum(2)
            ends.append((side.flatten(), weight @ values / weight.sum(1).clamp(min=1e-300)))
        (below, low), (above, high) = ends
        share = ((shown.flatten() - below) / (above - below)).nan_to_num(0.5)
        return torch.where(below.isinf(), high, torch.where(above.isinf(), low, torch.lerp(low, high, share)))


class TrainingSet(Mixture):
    """The world of N pairs, (N, C, H, W) each, all equally likely: its ideal denoisers are what perfect training ends in.

    Its `joint` pair model samples the training pairs themselves and nothing else: the perfect network has memorised them.
    """

    def __init__(self, masks: Tensor, images: Tensor, schedule: Schedule | None = None):
        prior = torch.full((len(masks),), 1 / len(masks), dtype=masks.dtype)
        super().__init__(masks, prior, images, spread=0.0, schedule=schedule)


def lattice(n: int) -> tuple[Tensor, Tensor]:
    """n * n equally likely starts (x_T, y_T) of a pair of one pixel each, (n * n, 1, 1, 1) float64: shares without chance."""
    quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return tuple(z.reshape(-1, 1, 1, 1) for z in torch.meshgrid(quantiles, quantiles, indexing="ij"))
