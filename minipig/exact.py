"""Worlds whose every conditional is known: the proof as arithmetic, and ideal denoisers for the algorithms.

FiniteWorld   variables of a few states: every line of Proposition 1's proof, Eq. (12), by summing tables
Gaussian      x0, y0 jointly normal: ideal denoisers, and in closed form the law of what Algorithm 2 produces
Mixture       x0 on a few levels, y0 normal around f(x0): ideal denoisers by Bayes' rule, for every guide
TrainingSet   (x0, y0) one of N pairs: what a perfectly trained pair model answers

The last three speak the language of networks, eps = model(z_t, t, guide) on (B, C, H, W), float64 if you can, so that
sampler.py runs on them unchanged: `world.pair(guide)` is a PairModel for what model_y is shown, one of

joint      x_t: nothing is lost                           previous     x_{t-1}, as Proposition 1 has it literally
matched    x0_hat, by a model_y that knows what it is     one-way      x0_hat of a guider that does not see y_t
clean      x0_hat, by a model_y that takes it for x0      independent  nothing, and the guider sees nothing either

All but `clean` are conditional means E[eps_2 | guide, y_t] of the true law; `clean` is one put to another use.
"""

import math
from typing import Callable

import torch
from torch import Tensor

from .guider import Denoiser, GuideRule
from .sampler import PairModel, State, walk
from .schedule import Schedule
from .seeds import generator

FIELDS = {"joint": "x_t", "matched": "x0_hat", "clean": "x0_hat", "previous": "x_next"}
FIELDS |= {"one-way": "x0_hat", "independent": "x0_hat"}  # shown by the sampler; what the model makes of it differs
BLIND = ("one-way", "independent")  # here the guider does not look at y_t


class Show:
    """The guide rule of a named guide. Nothing is trained in an exact world, so it says only what the sampler shows.

    Raises ValueError for a name that is not above.
    """

    def __init__(self, guide: str):
        if guide not in FIELDS:
            raise ValueError(f"{guide!r} is no guide of the exact worlds; choose one of {', '.join(FIELDS)}")
        self.field = FIELDS[guide]

    def sample(self, state: State) -> Tensor:
        return getattr(state, self.field)


class FiniteWorld:
    """The joint law of a few discrete variables: the product of the conditional tables of a directed graph.

    tables: for each key, such as "x2 | x1 y1", a float64 table with an axis for each name, in the key's order, that sums to
    1 over the names before the bar. Raises ValueError for one that does not.
    """

    def __init__(self, tables: dict[str, Tensor]):
        for key, table in tables.items():
            total = table.sum(_before_the_bar(key))
            if table.min() < 0 or (total - 1).abs().max() > 1e-9:
                raise ValueError(f"the table {key!r} is no conditional probability: its sums run from {total.min():.3g} to "
                                 f"{total.max():.3g}, its smallest entry is {table.min():.3g}")  # fmt: skip
        self.names = list(dict.fromkeys(name for key in tables for name in _names(key)))
        factors = [part for key in tables for part in (tables[key], [self.names.index(name) for name in _names(key)])]
        self.table = torch.einsum(*factors, list(range(len(self.names))))

    def p(self, query: str) -> Tensor:
        """P(left | right) for a query such as "x1 y1 | x2 y2": sum the joint table, and divide.

        Every variable has its axis in every answer, of length 1 where it was summed out: answers multiply as equations do.
        NaN where the condition has probability 0.
        """
        left, _, right = query.partition("|")
        return self._marginal(_names(left) + _names(right)) / self._marginal(_names(right))

    def _marginal(self, kept: list[str]) -> Tensor:
        gone = [axis for axis, name in enumerate(self.names) if name not in kept]
        return self.table.sum(gone, keepdim=True) if gone else self.table


def two_chains(T: int) -> list[str]:
    """Eq. (8) as the keys of its tables: p(x0, y0), and two chains of T steps that move without each other."""
    return ["x0 y0"] + [f"{z}{t} | {z}{t - 1}" for t in range(1, T + 1) for z in "xy"]


def random_tables(keys: list[str], states: dict[str, int], seed: int) -> dict[str, Tensor]:
    """A random positive table for each key; `states` says how many values a variable has, by its letter."""
    tables, draw = {}, generator("tables", seed)
    for key in keys:
        table = 0.01 + torch.rand([states[name[0]] for name in _names(key)], generator=draw, dtype=torch.float64) ** 3
        tables[key] = table / table.sum(_before_the_bar(key), keepdim=True)
    return tables


def _names(key: str) -> list[str]:
    return key.replace("|", " ").split()


def _before_the_bar(key: str) -> list[int]:
    return list(range(len(key.partition("|")[0].split())))


class Gaussian:
    """(x0, y0) jointly normal. covariance (2d, 2d) and mean (2d,), x0 first; d is the product of `shape` (C, H, W).

    Every variable is an affine map of the sources x0, y0, eps_1, eps_2 and 1, kept as its matrix (d, 4d + 1). So Eq. (9)
    and (10) are equations of matrices, and a conditional mean is a linear regression.
    """

    def __init__(self, covariance: Tensor, mean: Tensor | None = None, shape=(1, 1, 1), schedule: Schedule | None = None):
        d = math.prod(shape)
        if covariance.shape != (2 * d, 2 * d):
            raise ValueError(f"pairs of shape {shape} need a covariance of {2 * d}x{2 * d}, not {tuple(covariance.shape)}")
        self.covariance, self.mean = covariance, covariance.new_zeros(2 * d) if mean is None else mean
        self.shape, self.schedule = shape, schedule or Schedule()
        self.sources = torch.block_diag(covariance, torch.eye(2 * d), torch.zeros(1, 1)).to(covariance)  # their covariance
        self.source_mean = torch.cat([self.mean, torch.zeros(2 * d), torch.ones(1)]).to(covariance)
        *images, self.one = torch.eye(4 * d + 1).to(covariance).split([d, d, d, d, 1])
        self.x0, self.y0, self.eps_1, self.eps_2 = images

    def scales(self, t: int) -> tuple[float, float]:
        """sqrt(abar_t) and sqrt(1 - abar_t)."""
        return self.schedule.abar[t].sqrt().item(), (1 - self.schedule.abar[t]).sqrt().item()

    def x(self, t: int) -> Tensor:
        """The matrix of x_t, Eq. (9)."""
        a, b = self.scales(t)
        return a * self.x0 + b * self.eps_1

    def y(self, t: int) -> Tensor:
        """The matrix of y_t, Eq. (10)."""
        a, b = self.scales(t)
        return a * self.y0 + b * self.eps_2

    def x0_hat(self, t: int, blind: bool = False) -> Tensor:
        """The matrix of the ideal guider's estimate E[x0 | x_t, y_t], or E[x0 | x_t] of a blind one."""
        seen = self.x(t) if blind else torch.cat([self.x(t), self.y(t)])
        K = self.gain(self.x0, seen)
        return K @ seen + ((self.x0 - K @ seen) @ self.source_mean)[:, None] * self.one

    def gain(self, u: Tensor, v: Tensor) -> Tensor:
        """The K of E[u | v] = E[u] + K (v - E[v]): Cov(u, v) Cov(v)^-1, a pseudo-inverse where v's rows are dependent."""
        return u @ self.sources @ v.T @ torch.linalg.pinv(v @ self.sources @ v.T, hermitian=True)

    def given(self, u: Tensor, v: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The law of u given v = value (B, rows of v): its means (B, rows of u), and its covariance."""
        K = self.gain(u, v)
        rest = u - K @ v
        return value @ K.T + rest @ self.source_mean, rest @ self.sources @ rest.T

    def guide_x(self, guide: str, t: int) -> Tensor:
        """The matrix of what model_x looks at beside x_t: y_t, or nothing, (0, 4d + 1), if it is blind."""
        return self.y(t)[:0] if guide in BLIND else self.y(t)

    def guide_y(self, guide: str, t: int, s: int) -> Tensor:
        """The matrix of what model_y takes its guide for, at level t on the way to level s; (0, 4d + 1) if it gets none."""
        return {
            "joint": lambda: self.x(t),
            "matched": lambda: self.x0_hat(t),
            "clean": lambda: self.x0,
            "previous": lambda: self.x(s),
            "one-way": lambda: self.x0_hat(t, blind=True),
            "independent": lambda: self.x0[:0],
        }[guide]()

    def pair(self, guide: str, grid: list[int] | None = None) -> PairModel:
        """Both ideal denoisers for one of the guides above, for sampler.walk with clip=False; "previous" needs the grid."""
        after, rule = dict(zip(grid, grid[1:])) if grid else {}, Show(guide)
        model_x = self._ideal(self.eps_1, self.x, lambda t: self.guide_x(guide, t))
        model_y = self._ideal(self.eps_2, self.y, lambda t: self.guide_y(guide, t, after.get(t)))
        return PairModel(model_x, model_y, self.schedule, rule)

    def _ideal(self, noise: Tensor, z: Callable, guide: Callable) -> Denoiser:
        """The denoiser E[noise | z_t, guide]; z and guide give their matrices at a level."""

        def model(z_t: Tensor, t: Tensor, shown: Tensor) -> Tensor:
            eps, seen = torch.empty_like(z_t), torch.cat([z_t.flatten(1), shown.flatten(1)], dim=1)
            for level in t.unique().tolist():
                v, rows = torch.cat([z(level), guide(level)]), t == level
                centred = seen[rows, : len(v)] - v @ self.source_mean  # a guide that it does not look at is cut off
                eps[rows] = (centred @ self.gain(noise, v).T).reshape(-1, *z_t.shape[1:])
            return eps

        return model

    def outcome(self, guide: str, grid: list[int]) -> tuple[Tensor, Tensor]:
        """Mean (2d,) and covariance (2d, 2d) of what Algorithm 2 has made at the end of `grid`: exact, nothing is sampled.

        A step is an affine map of (x_t, y_t), so it takes one normal law to another. Beside the guides above there is
        "sequential": first the whole mask, by a blind guider, then the slice, shown the finished mask throughout.
        """
        X, Y = torch.eye(len(self.mean), dtype=self.mean.dtype).chunk(2)  # x_t and y_t as maps of the state (x_t, y_t)

        def denoise(noise, z, v, seen, t, s):
            """Eq. (6) and (7) about the means: the maps that give z0_hat and z_s."""
            (a, b), (a_s, b_s) = self.scales(t), self.scales(s)
            eps = self.gain(noise, v) @ seen[: len(v)]
            z0_hat = (z - b * eps) / a
            return z0_hat, a_s * z0_hat + b_s * eps

        def mask(guide, t, s):
            v = torch.cat([self.x(t), self.guide_x(guide, t)])
            return denoise(self.eps_1, X, v, torch.cat([X, Y]), t, s)

        def slice_(guide, t, s, shown):
            v = torch.cat([self.y(t), self.guide_y(guide, t, s)])
            return denoise(self.eps_2, Y, v, torch.cat([Y, shown]), t, s)[1]

        def both(t, s):
            x0_hat, x_next = mask(guide, t, s)
            shown = {"x_t": X, "x0_hat": x0_hat, "x_next": x_next}[Show(guide).field]
            return torch.cat([x_next, slice_(guide, t, s, shown)])

        sequential = (
            lambda t, s: torch.cat([mask("independent", t, s)[1], Y]),
            lambda t, s: torch.cat([X, slice_("clean", t, s, X)]),
        )
        mean, covariance = -self.scales(grid[0])[0] * self.mean, torch.eye(len(self.mean), dtype=self.mean.dtype)
        for step in sequential if guide == "sequential" else (both,):
            for t, s in zip(grid, grid[1:]):
                M = step(t, s)
                mean, covariance = M @ mean, M @ covariance @ M.T
        return self.scales(grid[-1])[0] * self.mean + mean, covariance

    def walked(self, guide: str, grid: list[int], order: int = 1) -> tuple[Tensor, Tensor]:
        """The same law of what sampler.walk itself makes, of either order: its map is affine, so 2d + 1 starts tell all."""
        d = len(self.mean) // 2
        starts = torch.cat([torch.zeros(1, 2 * d), torch.eye(2 * d)]).to(self.mean)
        x_T, y_T = (half.reshape(-1, *self.shape) for half in starts.split(d, dim=1))
        *_, last = walk(self.pair(guide, grid), x_T, y_T, grid, clip=False, order=order)
        ends = torch.cat([last.x_next.flatten(1), last.y_next.flatten(1)], dim=1)
        M = (ends[1:] - ends[0]).T
        return ends[0], M @ M.T


def wasserstein_2(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> float:
    """Squared 2-Wasserstein distance of two normal laws: |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))."""

    def root(covariance: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    # trace (AB)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2): real and stable, also for singular covariances
    cross = torch.linalg.svdvals(root(a) @ root(b)).sum()
    return ((mean_a - mean_b).square().sum() + a.trace() + b.trace() - 2 * cross).item()


def kl(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> float:
    """Kullback-Leibler divergence KL(a || b) of two normal laws in nats; both covariances must be regular."""
    ratio, shift = torch.linalg.solve(b, a), mean_b - mean_a
    return 0.5 * (ratio.trace() - len(a) - torch.linalg.slogdet(ratio)[1] + shift @ torch.linalg.solve(b, shift)).item()


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
        """Both ideal denoisers for one of the guides above, or for any guide rule of yours; for sampler.walk, clip=False.

        "previous" and a rule of yours need the sampler's grid. The latter, "matched" and "one-way" are for one pixel.
        Raises ValueError for "clean" where f is known on the levels alone.
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
            if guide in about_x:
                return self.eps_y(y_t, t, self._mean(self.posterior(from_y, *about_x[guide]()), self.means))
            return self.eps_y(y_t, t, self.quadrature(guide, y_t, int(t[0]), after[int(t[0])], shown))

        return PairModel(model_x, model_y, self.schedule, rule)

    def quadrature(self, rule: GuideRule, y_t: Tensor, t: int, s: int, shown: Tensor, nodes: int = 101) -> Tensor:
        """E[f(x0) | guide = shown, y_t] for any rule whose guide is one number, on the way from level t to s.

        y_t, shown: (B, 1, 1, 1). Given y_t, x_t is a mixture of normals. On a fine grid of x_t the rule is asked for its
        guide g(x_t), and E[f(x0) | x_t, y_t] is averaged over {x_t: g(x_t) = shown}: over the stretches on which g rests
        there, if any, else over the points where it crosses, with weight density / |slope| (the change of variables).
        """
        a, b = (scale.item() for scale in self.schedule.scales(t, y_t[:1]))
        x = (a * self.levels.reshape(-1, 1) + b * torch.linspace(-7, 7, nodes, dtype=y_t.dtype)).flatten().sort().values
        x_t, rows = x.repeat(len(y_t)).reshape(-1, 1, 1, 1), (len(y_t), len(x))
        from_x, from_y = self.from_x(x_t, t), self.from_y(y_t, t).repeat_interleave(len(x), dim=0)
        posterior = self.posterior(from_x, from_y)
        x0_hat, f_mean = self._mean(posterior, self.levels), self._mean(posterior, self.means).reshape(rows)
        x_next = self.schedule.step(x0_hat, self.schedule.eps(x_t, t, x0_hat), t, s)
        g = rule.sample(State(t, s, x_t, y_t.repeat_interleave(len(x), dim=0), x0_hat, x_next, self.schedule)).reshape(rows)
        log_p = (self.prior.log() + from_x + from_y).logsumexp(1) - x_t.flatten() ** 2 / (2 * b**2)
        p = log_p.reshape(rows).softmax(1)  # the density of x_t given y_t, up to a factor for each row

        off = g - shown.reshape(-1, 1)
        left, right = off[:, :-1], off[:, 1:]
        rests = (left.abs() < 1e-9) & (right.abs() < 1e-9)
        crosses = (left * right <= 0) & ~rests
        slope = torch.where(crosses, (right - left).abs(), 1.0)  # times the cell's width, which then cancels
        place = torch.where(crosses, left.abs() / slope, 0.5)
        weight = torch.where(rests.any(1, keepdim=True), rests.double(), crosses / slope) * x.diff()
        weight = weight * torch.lerp(p[:, :-1], p[:, 1:], place)
        value = torch.lerp(f_mean[:, :-1], f_mean[:, 1:], place)
        nearest = f_mean.gather(1, off.abs().argmin(1, keepdim=True)).flatten()  # for a guide that the grid never shows
        total = weight.sum(1)
        mean = torch.where(total > 0, (weight * value).sum(1) / total.clamp(min=1e-300), nearest)
        return mean.reshape(y_t.shape)


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
