"""Worlds of a few masks: ideal denoisers by Bayes' rule, for every guide and any guide rule.

Mixture       x0 on a few levels, y0 normal around f(x0)
TrainingSet   (x0, y0) one of N pairs: what a perfectly trained pair model answers

They have the interface and the named guides of gaussian.Gaussian.
"""

from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from minipig.guider import GuideRule, NoisyPair
from minipig.sampler import PairModel
from minipig.schedule import Schedule
from minipig.worlds.gaussian import BLIND, Show

ROWS = 400  # pixels of a batch that f_mean is asked for at a time
NODES = 101  # values of eps_1 between which a rule's guide is interpolated


class Mixture:
    """x0 on K levels (K, C, H, W) of probability prior (K,); y0 ~ N(f(x0), spread^2).

    f: a function of x0, or its table on the levels, (K, C, H, W). Between the levels the truth does
    not define y0, but a clean-mask model_y is asked there: a function is that model's own
    extrapolation, and a table has none. schedule: default Schedule.linear().
    """

    def __init__(
        self, levels: Tensor, prior: Tensor, f: Callable | Tensor, spread: float, schedule=None
    ):
        self.levels = levels
        self.prior = prior
        self.f = f
        self.spread = spread
        self.means = f(levels) if callable(f) else f
        self.schedule = schedule or Schedule.linear()

    def from_x(self, xt: Tensor, t) -> Tensor:
        """log p(x_t | level) up to a term that depends on x_t alone, (B, K)."""
        return self._evidence(xt, t, self.levels, 0.0)

    def from_y(self, yt: Tensor, t) -> Tensor:
        """log p(y_t | level) up to a term that depends on y_t alone, (B, K)."""
        return self._evidence(yt, t, self.means, self.spread)

    def _evidence(self, z: Tensor, t, centres: Tensor, spread: float) -> Tensor:
        signal, noise = (scale.flatten(1) for scale in self.schedule.scales(t, z))
        # without spread, the variance is 0 at level 0
        variance = (noise**2 + (signal * spread) ** 2).clamp(min=1e-12)
        natural = signal * z.flatten(1) / variance
        length = signal**2 / variance
        energy = centres.flatten(1).square().sum(1, keepdim=True)
        # one row a level: much faster than one a pair, where levels are few
        return (centres.flatten(1) @ natural.T - energy * length.T / 2).T

    def posterior(self, *evidence: Tensor) -> Tensor:
        """P(level | evidence), (B, K), by Bayes' rule; evidence: from_x, from_y, or both."""
        return (self.prior.log() + sum(evidence)).T.softmax(0).T  # softmax(1), and faster

    def x0_hat(self, t, xt: Tensor, *evidence: Tensor) -> Tensor:
        """The ideal guider's E[x0 | x_t]; with the evidence from_y(y_t, t): E[x0 | x_t, y_t]."""
        return self._mean(self.posterior(self.from_x(xt, t), *evidence), self.levels)

    def _mean(self, posterior: Tensor, values: Tensor) -> Tensor:
        return (posterior @ values.flatten(1)).reshape(-1, *values.shape[1:])

    def eps_y(self, yt: Tensor, t, f_mean: Tensor) -> Tensor:
        """E[eps_2 | y_t, guide], from f_mean = E[f(x0) | y_t, guide]."""
        signal, noise = self.schedule.scales(t, yt)
        return noise * (yt - signal * f_mean) / (noise**2 + (signal * self.spread) ** 2)

    def recover(self, x0_hat: Tensor, t, *evidence: Tensor) -> Tensor:
        """The x_t whose estimate is x0_hat, by bisection: x0_hat grows with x_t. One pixel."""
        signal, noise = self.schedule.scales(t, x0_hat)
        high = (signal * self.levels.abs().max() + 12 * noise) * torch.ones_like(x0_hat)
        low = -high
        for _ in range(60):
            middle = (low + high) / 2
            below = self.x0_hat(t, middle, *evidence) < x0_hat
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def pair(self, guide: str | GuideRule, grid: list[int] | None = None) -> PairModel:
        """Both ideal denoisers for a guide of gaussian.py or any guide rule, for walk(clip=False).

        "previous" needs the grid; "matched", "one-way" and rules are for one pixel. model_y is
        trained on the rule's training guide and shown its sampling guide. Raises ValueError for
        "clean" if f is a table, for "previous" without a grid, and for guides of one pixel if there
        are more; model_y of "previous" and of rules raises it for several t at once.
        """
        if guide == "clean" and not callable(self.f):
            raise ValueError("the guide clean needs f as a function, not as a table")
        if guide == "previous" and not grid:
            raise ValueError("the guide previous needs the grid of the walk")
        pixels, any_size = self.levels[0].numel(), ("joint", "clean", "previous", "independent")
        if pixels != 1 and guide not in any_size:
            known = f"{', '.join(any_size)} alone are known"
            raise ValueError(f"for masks of {pixels} pixels {known}, not {guide}")
        after = dict(zip(grid, grid[1:])) if grid else {}
        rule = Show(guide) if isinstance(guide, str) else guide

        def model_x(xt: Tensor, t: Tensor, yt: Tensor) -> Tensor:
            evidence = () if guide in BLIND else (self.from_y(yt, t),)
            return self.schedule.eps(xt, t, self.x0_hat(t, xt, *evidence))

        def model_y(yt: Tensor, t: Tensor, shown: Tensor) -> Tensor:
            if guide == "clean":
                return self.eps_y(yt, t, self.f(shown))
            one_level = guide == "previous" or not isinstance(guide, str)
            if one_level and (t != t[0]).any():
                name = guide if isinstance(guide, str) else type(guide).__name__
                raise ValueError(f"the ideal model_y of {name} needs one t for a whole batch")
            from_y = self.from_y(yt, t)
            about_x = {
                "joint": lambda: [self.from_x(shown, t)],
                "matched": lambda: [self.from_x(self.recover(shown, t, from_y), t)],
                "previous": lambda: [self.from_x(shown, after[int(t[0])])],
                "one-way": lambda: [self.from_x(self.recover(shown, t), t)],
                "independent": lambda: [],
            }
            if isinstance(guide, str):
                posterior = self.posterior(from_y, *about_x[guide]())
                return self.eps_y(yt, t, self._mean(posterior, self.means))
            parts = zip(yt.split(ROWS), shown.split(ROWS))  # small enough for a processor's cache
            f_mean = torch.cat([self.f_mean(guide, y, int(t[0]), x) for y, x in parts])
            return self.eps_y(yt, t, f_mean)

        return PairModel(model_x, model_y, self.schedule, rule)

    def swapped(self) -> PairModel:
        """Both ideal denoisers with the roles swapped: the walk's first chain is the slice.

        The mask's network is trained on the clean y0 and shown its estimate, which is exact if
        E[x0 | y0, x_t] is affine in y0, and not in general. Here it has softmax weights.
        """

        def mask_net(xt: Tensor, t: Tensor, y0: Tensor) -> Tensor:
            return self.schedule.eps(xt, t, self.x0_hat(t, xt, self.from_y(y0, 0)))

        return PairModel(self.pair("joint").model_y, mask_net, self.schedule, Show("clean"))

    def f_mean(self, rule: GuideRule, yt: Tensor, t: int, shown: Tensor) -> Tensor:
        """E[f(x0) | guide = shown, y_t] of an ideal model_y trained by `rule`, at level t.

        y_t, shown: (B, 1, 1, 1), one pixel. For each level of x0 and NODES values of eps_1 the
        rule gives its training guide g(eps_1). A level of x0 is weighted by its probability given
        y_t, times how often it gives the guide `shown`: the mass of eps_1 where g is constant and
        equal to it, if any, else the density where g crosses it (change of variables; a jump
        between constant parts does not count). Guides that training never gives are interpolated
        between the nearest that it gives. Raises ValueError for a guide of another shape, or one
        that depends on y0 or eps_2.
        """
        eps = torch.linspace(-7, 7, NODES, dtype=yt.dtype)
        # one row for each y_t, level of x0 and eps_1
        rows = torch.meshgrid(yt.flatten(), self.levels.flatten(), eps, indexing="ij")
        y, x0, eps_1 = (each.reshape(-1, 1, 1, 1) for each in rows)
        times = torch.full((len(y),), t)
        unknown = torch.full_like(y, torch.nan)
        joint = self.pair("joint").model_x

        def guider(xt: Tensor, t: Tensor, yt: Tensor) -> Tensor:
            return joint(xt, t[:1], yt)  # one level, so its scales are computed once

        pair = NoisyPair(x0, unknown, times, eps_1, unknown, self.schedule, guider)
        pair.yt = y
        g = rule.train(pair)
        name = type(rule).__name__
        if g.shape != y.shape:
            raise ValueError(f"{name}.train returned {tuple(g.shape)}, not {tuple(y.shape)}")
        if g.isnan().any():
            raise ValueError(f"{name}.train uses y0 or eps_2, unknown in sampling; use xt and yt")
        g = g.to(y).reshape(len(yt), -1, NODES)
        shown = shown.reshape(-1, 1, 1)

        apart = g - shown
        left, right = apart[..., :-1], apart[..., 1:]
        equal = apart.abs() < 1e-9
        constant = equal[..., :-1] & equal[..., 1:]
        flat = F.pad((right - left).abs() < 1e-9, (1, 1), value=True)
        crosses = (left * right <= 0) & ~constant & ~(flat[..., :-2] & flat[..., 2:])  # no jumps
        at = crosses.nonzero(as_tuple=True)  # few
        place = left[at] / (left[at] - right[at])
        at_nodes = torch.gradient(g, dim=2)[0]
        slope = torch.lerp(at_nodes[..., :-1][at], at_nodes[..., 1:][at], place).abs()
        where = torch.lerp(eps[at[2]], eps[at[2] + 1], place)
        often = torch.zeros_like(left)
        often[at] = (-where.square() / 2).exp() / slope.clamp(min=1e-12)
        middle = (-((eps[:-1] + eps[1:]) / 2).square() / 2).exp()
        given = constant.any((1, 2))
        often[given] = constant[given] * middle
        likely = self.posterior(self.from_y(yt, t))
        weight = likely * often.sum(2)
        values = self.means.flatten()
        total = weight.sum(1)
        mean = weight @ values / total.clamp(min=1e-300)
        never = total == 0
        mean[never] = self._between(g[never], shown[never], eps, likely[never], values)
        return mean.reshape(yt.shape)

    def _between(self, g, shown, eps, likely, values) -> Tensor:
        """f_mean where training never gives `shown`: linear between the nearest guides, (n,)."""
        nearest_below = g.masked_fill(g > shown, -torch.inf).amax((1, 2), keepdim=True)
        nearest_above = g.masked_fill(g < shown, torch.inf).amin((1, 2), keepdim=True)
        ends = []
        for side in (nearest_below, nearest_above):
            weight = likely * (((g - side).abs() < 1e-9) * (-eps.square() / 2).exp()).sum(2)
            ends.append((side.flatten(), weight @ values / weight.sum(1).clamp(min=1e-300)))
        (below, low), (above, high) = ends
        share = ((shown.flatten() - below) / (above - below)).nan_to_num(0.5)
        line = torch.where(above.isinf(), low, torch.lerp(low, high, share))
        return torch.where(below.isinf(), high, line)


class TrainingSet(Mixture):
    """N equally likely pairs, (N, C, H, W) each: the ideal denoisers are those of perfect training.

    Its `joint` pair model samples these pairs and nothing else: a perfect network memorises them.
    """

    def __init__(self, masks: Tensor, images: Tensor, schedule: Schedule | None = None):
        prior = torch.full((len(masks),), 1 / len(masks), dtype=masks.dtype)
        super().__init__(masks, prior, images, spread=0.0, schedule=schedule)


def lattice(n: int) -> tuple[Tensor, Tensor]:
    """n * n equally likely starts (x_T, y_T) of one-pixel pairs, (n * n, 1, 1, 1) float64 each."""
    quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    x_T, y_T = torch.meshgrid(quantiles, quantiles, indexing="ij")
    return x_T.reshape(-1, 1, 1, 1), y_T.reshape(-1, 1, 1, 1)
