"""Signal and noise curves alpha(t), sigma(t); the times a sampler visits; the times training draws.

Time t is in [0, 1]: 0 = data, 1 = prior. Every schedule has a decreasing log signal-to-noise ratio
log_snr = 2 log(alpha / sigma), which is the common language between them (Kingma et al. 2021, arXiv:2107.00630).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """A curve of signal kept and noise added; all methods map a tensor of times elementwise."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...

    def d_alpha(self, t: Tensor) -> Tensor: ...

    def d_sigma(self, t: Tensor) -> Tensor: ...

    def time(self, log_snr: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Linear:
    """Rectified flow: x = (1 - t) x0 + t eps (Liu et al. 2022, arXiv:2209.03003)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)


@dataclass(frozen=True)
class Cosine:
    """Variance-preserving cosine: alpha = cos(pi t / 2) (Nichol and Dhariwal 2021, arXiv:2102.09672, offset 0)."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))  # exactly 0 at t = 1, where the cosine is not

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.sin(t * (math.pi / 2)) * (math.pi / 2)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2)) * (math.pi / 2)

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr / 2)) * (2 / math.pi)


@dataclass(frozen=True)
class VE:
    """Variance-exploding: alpha = 1, sigma = sigma_max t, the EDM choice (Karras et al. 2022, arXiv:2206.00364).

    Args:
        sigma_max: noise level of the prior, in units of the data.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not self.sigma_max > 0:
            raise ValueError(f"VE: sigma_max {self.sigma_max} is not positive")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t * self.sigma_max

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max)

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr / 2) / self.sigma_max


SCHEDULES = {"linear": Linear, "cosine": Cosine, "ve": VE}


def log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """2 log(alpha / sigma); +inf at t = 0, and -inf at t = 1 where the prior keeps no signal."""
    return 2 * (torch.log(schedule.alpha(t)) - torch.log(schedule.sigma(t)))


def shift(t: Tensor, factor: float) -> Tensor:
    """Move times towards the prior, t' = f t / (1 + (f - 1) t) (Esser et al. 2024, arXiv:2403.03206, eq. 23).

    Raises:
        ValueError: a factor that is not positive.
    """
    if not factor > 0:
        raise ValueError(f"shift: factor {factor} is not positive; 1 = no shift")
    return factor * t / (1 + (factor - 1) * t)


def uniform_grid(steps: int, shifted: float = 1.0) -> Tensor:
    """steps + 1 times from 1 to 0, evenly spaced, then shifted; float64."""
    _check_steps(steps)
    return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shifted)


def karras_grid(steps: int, schedule: Schedule, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """steps times whose sigma / alpha follow eq. 5 of Karras et al. 2022, then 0; float64.

    A grid starts at the prior: where the prior keeps no signal (`Linear`, `Cosine`), sigma_max is moved to t = 1.

    Raises:
        ValueError: no steps, or a sigma_max above the prior's noise level.
    """
    _check_steps(steps)
    end = torch.exp(-log_snr(schedule, torch.ones((), dtype=torch.float64)) / 2).item()
    if sigma_max > end * (1 + 1e-9):
        raise ValueError(f"karras_grid: sigma_max {sigma_max:g} is above the prior's noise level of {end:g}; lower it")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ratio = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    times = schedule.time(-2 * torch.log(ratio))
    if math.isinf(end) or times[0] > 1 - 1e-9:
        times[0] = 1.0
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"grid: steps {steps} is not positive; a grid needs at least one step")


class Density(Protocol):
    """How training draws times: (batch,) numbers in (0, 1)."""

    def __call__(self, batch: int, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class UniformTimes:
    """t uniform on [floor, 1)."""

    floor: float = 1e-4

    def __call__(self, batch: int, generator: torch.Generator) -> Tensor:
        t = torch.rand(batch, generator=generator, device=generator.device)
        return self.floor + (1 - self.floor) * t


@dataclass(frozen=True)
class LogitNormal:
    """t = shift(sigmoid(mean + std n), factor): the density of SD3 and i1 (arXiv:2403.03206, eq. 19).

    Args:
        mean: > 0 leans to the prior.
        std: width, > 0.
        factor: shift applied after, 1 = none.
    """

    mean: float = 0.0
    std: float = 1.0
    factor: float = 1.0

    def __call__(self, batch: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(batch, generator=generator, device=generator.device)
        return shift(torch.sigmoid(self.mean + self.std * normal), self.factor).clamp(1e-4, 1 - 1e-6)


@dataclass(frozen=True)
class LogNormalSigma:
    """log(sigma / alpha) normal: EDM's training density (Karras et al. 2022, table 1), mapped to times of a schedule."""

    schedule: Schedule
    mean: float = -1.2
    std: float = 1.2

    def __call__(self, batch: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(batch, generator=generator, device=generator.device)
        return self.schedule.time(-2 * (self.mean + self.std * normal)).clamp(1e-6, 1.0)
