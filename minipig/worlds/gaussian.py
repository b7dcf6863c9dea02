"""A Gaussian world: ideal denoisers, and the exact law of what Algorithm 2 samples with them.

x0, y0 are jointly normal. This world and those of mixture.py have the interface of networks,
eps = model(z_t, t, guide) on (B, C, H, W), best in float64, so sampler.py runs on them unchanged.
`world.pair(guide)` is a PairModel; the guide says what model_y is shown:

joint        x_t: nothing is lost
matched      x0_hat, by a model_y trained on x0_hat
clean        x0_hat, by a model_y trained on x0
previous     x_{t-1}, as in Proposition 1
one-way      x0_hat of a guider that does not see y_t
independent  nothing, and the guider sees nothing either

All but `clean` are conditional means E[eps_2 | guide, y_t] of the true law; `clean` is
E[eps_2 | x0, y_t], evaluated at x0_hat.
"""

import math
from typing import Callable

import torch
from torch import Tensor

from minipig.guider import Denoiser
from minipig.sampler import PairModel, State, walk
from minipig.schedule import Schedule

# guide: what the sampler shows
FIELDS = {
    "joint": "xt",
    "matched": "x0_hat",
    "clean": "x0_hat",
    "previous": "x_next",
    "one-way": "x0_hat",
    "independent": "x0_hat",
}
BLIND = ("one-way", "independent")  # the guider does not see y_t


class Show:
    """The guide rule of a named guide; in sampling only, since nothing is trained here."""

    def __init__(self, guide: str):
        if guide not in FIELDS:
            raise ValueError(f"unknown guide {guide!r}; choose one of {', '.join(FIELDS)}")
        self.field = FIELDS[guide]

    def sample(self, state: State) -> Tensor:
        return getattr(state, self.field)


class Gaussian:
    """(x0, y0) jointly normal: covariance (2d, 2d), mean (2d,), x0 first.

    shape: (C, H, W) of x0 and of y0, d = C H W. Every variable is an affine map of the sources x0,
    y0, eps_1, eps_2 and 1, stored as its matrix (d, 4d + 1). So Eq. (9) and (10) are equations of
    matrices, and a conditional mean is a linear regression.
    """

    def __init__(self, covariance: Tensor, mean: Tensor | None = None, shape=(1, 1, 1)):
        d = math.prod(shape)
        if covariance.shape != (2 * d, 2 * d):
            needed = f"pairs of shape {shape} need a covariance of {2 * d}x{2 * d}"
            raise ValueError(f"{needed}, not {tuple(covariance.shape)}")
        self.covariance = covariance
        self.mean = covariance.new_zeros(2 * d) if mean is None else mean
        self.shape = shape
        self.schedule = Schedule.linear()
        sources = torch.block_diag(covariance, torch.eye(2 * d), torch.zeros(1, 1))
        self.sources = sources.to(covariance)  # the covariance of the sources
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
        """The matrix of the ideal guider's estimate E[x0 | x_t, y_t]; blind: E[x0 | x_t]."""
        seen = self.x(t) if blind else torch.cat([self.x(t), self.y(t)])
        K = self.gain(self.x0, seen)
        return K @ seen + ((self.x0 - K @ seen) @ self.source_mean)[:, None] * self.one

    def gain(self, u: Tensor, v: Tensor) -> Tensor:
        """K = Cov(u, v) Cov(v)^-1 of E[u | v] = E[u] + K (v - E[v]); a pseudo-inverse."""
        return u @ self.sources @ v.T @ torch.linalg.pinv(v @ self.sources @ v.T, hermitian=True)

    def given(self, u: Tensor, v: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The law of u given v = value (B, rows of v): means (B, rows of u), and covariance."""
        K = self.gain(u, v)
        rest = u - K @ v
        return value @ K.T + rest @ self.source_mean, rest @ self.sources @ rest.T

    def guide_x(self, guide: str, t: int) -> Tensor:
        """The matrix of model_x's guide: y_t, or (0, 4d + 1) if the guider does not see it."""
        return self.y(t)[:0] if guide in BLIND else self.y(t)

    def guide_y(self, guide: str, t: int, s: int) -> Tensor:
        """The matrix of what model_y is trained on, on the way from level t to level s."""
        return {
            "joint": lambda: self.x(t),
            "matched": lambda: self.x0_hat(t),
            "clean": lambda: self.x0,
            "previous": lambda: self.x(s),
            "one-way": lambda: self.x0_hat(t, blind=True),
            "independent": lambda: self.x0[:0],
        }[guide]()

    def pair(self, guide: str, grid: list[int] | None = None) -> PairModel:
        """Both ideal denoisers, for sampler.walk with clip=False; "previous" needs the grid."""
        after = dict(zip(grid, grid[1:])) if grid else {}
        rule = Show(guide)
        model_x = self._ideal(self.eps_1, self.x, lambda t: self.guide_x(guide, t))
        model_y = self._ideal(self.eps_2, self.y, lambda t: self.guide_y(guide, t, after.get(t)))
        return PairModel(model_x, model_y, self.schedule, rule)

    def _ideal(self, noise: Tensor, z: Callable, guide: Callable) -> Denoiser:
        """The denoiser E[noise | z_t, guide]; z and guide give their matrices at a level."""

        def model(z_t: Tensor, t: Tensor, shown: Tensor) -> Tensor:
            eps = torch.empty_like(z_t)
            seen = torch.cat([z_t.flatten(1), shown.flatten(1)], dim=1)
            for level in t.unique().tolist():
                v = torch.cat([z(level), guide(level)])
                rows = t == level
                centred = seen[rows, : len(v)] - v @ self.source_mean  # a guide not used is cut off
                eps[rows] = (centred @ self.gain(noise, v).T).reshape(-1, *z_t.shape[1:])
            return eps

        return model

    def outcome(self, guide: str, grid: list[int]) -> tuple[Tensor, Tensor]:
        """Mean (2d,) and covariance (2d, 2d) of Algorithm 2's samples, in closed form.

        A step is an affine map of (x_t, y_t), so it maps a normal law to another. One more guide,
        "sequential": first the whole mask, by a blind guider, then the slice, shown that mask.
        """
        # x_t and y_t as maps of the state (x_t, y_t)
        X, Y = torch.eye(len(self.mean), dtype=self.mean.dtype).chunk(2)

        def denoise(noise, z, v, seen, t, s):
            """Eq. (6) and (7) about the means: the maps that give z0_hat and z_s."""
            a, b = self.scales(t)
            a_s, b_s = self.scales(s)
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
            shown = {"xt": X, "x0_hat": x0_hat, "x_next": x_next}[Show(guide).field]
            return torch.cat([x_next, slice_(guide, t, s, shown)])

        sequential = (
            lambda t, s: torch.cat([mask("independent", t, s)[1], Y]),
            lambda t, s: torch.cat([X, slice_("clean", t, s, X)]),
        )
        mean = -self.scales(grid[0])[0] * self.mean
        covariance = torch.eye(len(self.mean), dtype=self.mean.dtype)
        for step in sequential if guide == "sequential" else (both,):
            for t, s in zip(grid, grid[1:]):
                M = step(t, s)
                mean = M @ mean
                covariance = M @ covariance @ M.T
        return self.scales(grid[-1])[0] * self.mean + mean, covariance

    def walked(self, guide: str, grid: list[int], walk: Callable = walk) -> tuple[Tensor, Tensor]:
        """`outcome` by running a walk: its map is affine, so 2d + 1 starts determine it."""
        d = len(self.mean) // 2
        starts = torch.cat([torch.zeros(1, 2 * d), torch.eye(2 * d)]).to(self.mean)
        x_T, y_T = (half.reshape(-1, *self.shape) for half in starts.split(d, dim=1))
        *_, last = walk(self.pair(guide, grid), x_T, y_T, grid, clip=False)
        ends = torch.cat([last.x_next.flatten(1), last.y_next.flatten(1)], dim=1)
        M = (ends[1:] - ends[0]).T
        return ends[0], M @ M.T


def wasserstein_2(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> float:
    """Squared 2-Wasserstein distance of two normal laws of covariances A and B.

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)).
    """

    def root(covariance: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    # trace (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2); in this form it is
    # real and stable, also for singular covariances
    cross = torch.linalg.svdvals(root(a) @ root(b)).sum()
    return ((mean_a - mean_b).square().sum() + a.trace() + b.trace() - 2 * cross).item()
