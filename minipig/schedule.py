"""The noise schedule and the four equations that use it: Eq. (2), (3), (6), (7).

Time t is the paper's: 1..T, with t = 0 for the clean image, so `abar[0] == 1`. Coefficients are kept in float64 and cast
to the type of the tensor they multiply as late as possible (1 - abar_1 = 1e-4 would lose three digits in float32).
"""

import torch
from torch import Tensor

Time = int | Tensor  # one level for the whole batch, or (B,) integers


class Schedule:
    """Variance-preserving diffusion with linear beta, as in the paper: T = 1024, beta from 1e-4 to 0.02.

    beta[t] and abar[t], both (T + 1,) float64, are indexed by the paper's t; beta[0] = 0 and abar[0] = 1.
    """

    def __init__(self, T: int = 1024, beta_1: float = 1e-4, beta_T: float = 0.02):
        if T < 1 or not 0 < beta_1 <= beta_T < 1:
            raise ValueError(f"a schedule needs T >= 1 and 0 < beta_1 <= beta_T < 1, not {T=}, {beta_1=}, {beta_T=}")
        self.T, self.beta_1, self.beta_T = T, beta_1, beta_T
        self.beta = torch.cat([torch.zeros(1).double(), torch.linspace(beta_1, beta_T, T, dtype=torch.float64)])
        self.abar = torch.cumprod(1 - self.beta, 0)

    @classmethod
    def of(cls, abar: Tensor) -> "Schedule":
        """Any other variance-preserving schedule, by its abar_1 > ... > abar_T, (T,). Raises ValueError if it is none."""
        abar = torch.cat([torch.ones(1).double(), abar.double()])
        if not (abar.diff() < 0).all() or abar[-1] <= 0:
            raise ValueError(f"abar must fall, from below 1, and stay above 0; it runs from {abar[1]:g} to {abar[-1]:g}")
        own = cls(len(abar) - 1)
        own.beta, own.abar = torch.cat([torch.zeros(1).double(), 1 - abar[1:] / abar[:-1]]), abar
        own.beta_1, own.beta_T = own.beta[1].item(), own.beta[-1].item()
        return own

    def scales(self, t: Time, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t), the weights of signal and noise, shaped to multiply `like` (B, ...)."""
        abar = self._at(self.abar, t, like)
        return abar.sqrt().to(like.dtype), (1 - abar).sqrt().to(like.dtype)

    def noise_step(self, z: Tensor, t: Time, eps: Tensor) -> Tensor:
        """One forward step t - 1 -> t, a draw from Eq. (1) made by Eq. (2): sqrt(1 - beta_t) z + sqrt(beta_t) eps."""
        beta = self._at(self.beta, t, z)
        return (1 - beta).sqrt().to(z.dtype) * z + beta.sqrt().to(z.dtype) * eps

    def add_noise(self, z0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """All forward steps up to level t at once, Eq. (3): sqrt(abar_t) z0 + sqrt(1 - abar_t) eps."""
        signal, noise = self.scales(t, z0)
        return signal * z0 + noise * eps

    def x0_hat(self, zt: Tensor, t: Time, eps: Tensor) -> Tensor:
        """The clean image that a noise estimate implies, Eq. (6): Eq. (3) solved for z0. t >= 1."""
        signal, noise = self.scales(t, zt)
        return (zt - noise * eps) / signal

    def eps(self, zt: Tensor, t: Time, x0_hat: Tensor) -> Tensor:
        """The noise that a clean estimate implies: Eq. (3) solved for eps. t >= 1."""
        signal, noise = self.scales(t, zt)
        return (zt - signal * x0_hat) / noise

    def sigma(self, t: Time, s: Time, eta: float, like: Tensor) -> Tensor:
        """The fresh noise sigma of a move from level t to level s < t (float64).

        eta = 0 is the paper's choice (DDIM); eta = 1 is the true posterior's, so with s = t - 1 the walk is DDPM.
        """
        abar_t, abar_s = self._at(self.abar, t, like), self._at(self.abar, s, like)
        return eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()

    def step(self, x0_hat: Tensor, eps: Tensor, t: Time, s: Time, eta: float = 0.0, fresh: Tensor | None = None) -> Tensor:
        """Move from level t to level s < t, Eq. (7) with any step length.

        sqrt(abar_s) x0_hat + sqrt(1 - abar_s - sigma^2) eps + sigma fresh; `fresh` (noise like eps) only if eta > 0.
        """
        abar_s, sigma = self._at(self.abar, s, eps), self.sigma(t, s, eta, eps)
        towards_noise = (1 - abar_s - sigma**2).clamp(min=0).sqrt()  # rounding may leave -1e-17 at s = 0
        z = abar_s.sqrt().to(eps.dtype) * x0_hat + towards_noise.to(eps.dtype) * eps
        return z if eta == 0 else z + sigma.to(eps.dtype) * fresh

    def log_snr(self, t: Time) -> Tensor:
        """The logarithm of the signal-to-noise ratio abar_t / (1 - abar_t), float64; infinite at t = 0."""
        return torch.logit(self.abar[t])

    def extrapolate(self, now: Tensor, before: Tensor, u: int, t: int, s: int) -> Tensor:
        """Where the clean estimate should be half-way from level t to level s, on a straight line in the log SNR.

        The line goes through the estimates `before`, of level u > t, and `now`, of level t; s >= 1. Moving onto the result
        by Eq. (7) with eps(zt, t, result) is DPM-Solver++(2M), second order (Lu et al. 2022, arXiv 2211.01095, Alg. 2).
        """
        a, b, c = self.log_snr(torch.tensor([u, t, s])).tolist()
        return now + (c - b) / (b - a) / 2 * (now - before)

    def grid(self, steps: int, spacing: str = "uniform") -> list[int]:
        """Levels from T down to 0 in `steps` moves: steps + 1 distinct integers. Raises unless 1 <= steps <= T.

        spacing: "uniform" in t, as in the paper, or "log-snr", uniform in the log SNR between the levels T and 1, and then
        a last move from 1 to 0; where that is finer than whole levels, levels are made distinct by moving them up.
        """
        if not 1 <= steps <= self.T:
            raise ValueError(f"{steps} sampling steps asked for; this schedule allows 1 to {self.T}")
        if spacing == "uniform":
            return [(self.T * i + steps // 2) // steps for i in range(steps, -1, -1)]
        if spacing != "log-snr":
            raise ValueError(f"spacing is 'uniform' or 'log-snr', not {spacing!r}")
        snr = self.log_snr(torch.arange(1, self.T + 1))  # falls as t grows
        levels = [0]
        for i, aim in enumerate(torch.linspace(snr[0], snr[-1], steps).tolist(), start=1):
            nearest = 1 + (snr - aim).abs().argmin().item() if i < steps else self.T
            levels.append(min(max(nearest, levels[-1] + 1), self.T - steps + i))
        return levels[::-1]

    def _at(self, table: Tensor, t: Time, like: Tensor) -> Tensor:
        """table[t] on the device of `like`, with as many dimensions: (B, 1, ..., 1), or (1, ..., 1) for one int."""
        values = table.to(like.device)[t]
        return values.reshape(-1, *[1] * (like.ndim - 1))
