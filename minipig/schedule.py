"""The noise schedule, and the equations that use it: Eq. (2), (3), (6), (7).

Levels t are the paper's: 1..T, and 0 for the clean image. Coefficients are kept in float64 and cast
late to the type of the tensor they multiply: 1 - abar_1 = 1e-4 would lose three digits in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

Time = int | Tensor  # one level for the whole batch, or (B,) integers


class Schedule:
    """A noise schedule: beta[t] and abar[t], (T + 1,) float64, with beta[0] = 0 and abar[0] = 1."""

    def __init__(self, beta: Tensor, name: str = "custom"):
        """beta: beta_1 .. beta_T, (T,). Raises ValueError unless T >= 1 and all are in (0, 1)."""
        if len(beta) < 1 or not ((0 < beta) & (beta < 1)).all():
            span = f"{min(beta.tolist()):g} to {max(beta.tolist()):g}" if len(beta) else "none"
            raise ValueError(f"a schedule needs T >= 1 and betas in (0, 1), not {span}")
        self.T = len(beta)
        self.name = name
        self.beta = F.pad(beta.double().cpu(), (1, 0))  # beta_0 = 0
        self.abar = torch.cumprod(1 - self.beta, 0)

    @classmethod
    def linear(cls, T: int = 1024, beta_1: float = 1e-4, beta_T: float = 0.02) -> "Schedule":
        """The paper's schedule."""
        return cls(torch.linspace(beta_1, beta_T, T, dtype=torch.float64, device="cpu"), "linear")

    @classmethod
    def cosine(cls, T: int = 1024, offset: float = 0.008, beta_max: float = 0.999) -> "Schedule":
        """abar_t = f(t) / f(0), f(t) = cos^2((t/T + offset) / (1 + offset) * pi/2), betas clipped.

        Nichol and Dhariwal 2021, arXiv 2102.09672, Eq. (17).
        """
        share = torch.arange(T + 1, dtype=torch.float64, device="cpu") / T
        f = torch.cos((share + offset) / (1 + offset) * torch.pi / 2).square()
        return cls((1 - f[1:] / f[:-1]).clamp(max=beta_max), "cosine")

    @classmethod
    def of(cls, abar: Tensor) -> "Schedule":
        """Any schedule with 1 > abar_1 > ... > abar_T > 0, (T,); else raises ValueError."""
        abar = F.pad(abar.double().cpu(), (1, 0), value=1.0)  # abar_0 = 1
        if not (abar.diff() < 0).all() or abar[-1] <= 0:
            raise ValueError("abar[t] must fall with t and stay in (0, 1)")
        return cls(1 - abar[1:] / abar[:-1])

    def __eq__(self, other: object) -> bool:
        # another processor rounds otherwise
        alike = isinstance(other, Schedule) and self.T == other.T
        return alike and torch.allclose(self.beta, other.beta, rtol=1e-9, atol=0)

    def __repr__(self) -> str:
        return f"Schedule({self.name}, T = {self.T}, abar_T = {self.abar[-1]:.3g})"

    def scales(self, t: Time, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t), weights of signal and noise, shaped like `like`."""
        abar = self._at(self.abar, t, like)
        return abar.sqrt().to(like.dtype), (1 - abar).sqrt().to(like.dtype)

    def noise_step(self, z: Tensor, t: Time, eps: Tensor) -> Tensor:
        """The step t - 1 -> t of Eq. (1), by Eq. (2): sqrt(1 - beta_t) z + sqrt(beta_t) eps."""
        beta = self._at(self.beta, t, z)
        return (1 - beta).sqrt().to(z.dtype) * z + beta.sqrt().to(z.dtype) * eps

    def add_noise(self, z0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """All steps up to level t at once, Eq. (3): sqrt(abar_t) z0 + sqrt(1 - abar_t) eps."""
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
        """sigma of Eq. (7) for a move from level t to level s < t, float64.

        eta: 0, the paper's choice, is DDIM; 1 is the posterior's deviation, DDPM if s = t - 1.
        """
        abar_t = self._at(self.abar, t, like)
        abar_s = self._at(self.abar, s, like)
        return eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()

    def step(self, x0_hat: Tensor, eps: Tensor, t: Time, s: Time, eta=0.0, fresh=None) -> Tensor:
        """Move from level t to level s < t: Eq. (7), with s in the place of t - 1.

        sqrt(abar_s) x0_hat + sqrt(1 - abar_s - sigma^2) eps + sigma fresh; fresh: noise, if eta > 0
        """
        abar_s = self._at(self.abar, s, eps)
        sigma = self.sigma(t, s, eta, eps)
        # rounding may leave -1e-17 at s = 0
        towards_noise = (1 - abar_s - sigma**2).clamp(min=0).sqrt()
        z = abar_s.sqrt().to(eps.dtype) * x0_hat + towards_noise.to(eps.dtype) * eps
        return z if eta == 0 else z + sigma.to(eps.dtype) * fresh

    def grid(self, steps: int) -> list[int]:
        """Levels from T down to 0 in `steps` uniform moves; ValueError unless 1 <= steps <= T."""
        if not 1 <= steps <= self.T:
            raise ValueError(f"sampling steps must be from 1 to {self.T}, not {steps}")
        return [(self.T * i + steps // 2) // steps for i in range(steps, -1, -1)]

    def _at(self, table: Tensor, t: Time, like: Tensor) -> Tensor:
        """table[t] on the device of `like`, with as many dimensions: (B, 1, ..., 1)."""
        values = table.to(like.device)[t]
        return values.reshape(-1, *[1] * (like.ndim - 1))


SCHEDULES = {"linear": Schedule.linear, "cosine": Schedule.cosine}


def check_schedule(model: object, schedule: Schedule) -> None:
    """Raise ValueError if a network depends on another schedule; one that answers eps does not."""
    theirs = getattr(model, "schedule", None)
    if isinstance(theirs, Schedule) and getattr(model, "predict", "v") == "v":
        if theirs != schedule:
            raise ValueError(f"a network has {theirs}, not {schedule}; give both the same")
