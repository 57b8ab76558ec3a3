"""Samplers of Gaussian processes: ODE solvers of the probability flow, ancestral and EDM-stochastic sampling.

Each is a frozen dataclass; its fields are its options and its call is a generator of (x, t). `order` is the order in the
step size that the conformance tests fit. The last step goes to t = 0, where the flow of x0_hat is not defined, so each rule
says how it lands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from diptych.noise import Noise
from diptych.process import Gaussian, like
from diptych.sample import Bound
from diptych.schedule import log_snr

Steps = Iterator[tuple[Tensor, float]]


def _flow(process: Gaussian, denoise: Bound, x: Tensor, t: float) -> Tensor:
    return process.flow(x, _time(t), denoise(x, t))


def _time(t: float) -> Tensor:
    return torch.full((1,), t, dtype=torch.float64)


@dataclass(frozen=True)
class Euler:
    """First-order steps of the flow; one evaluation a step. For `Linear` this is DDIM."""

    order: ClassVar[int] = 1

    def __call__(self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        for t, u in pairwise(grid.tolist()):
            x = x + (u - t) * _flow(process, denoise, x, t)
            yield x, u


@dataclass(frozen=True)
class Heun:
    """Second-order trapezoidal steps (Karras et al. 2022, algorithm 1); two evaluations a step, one in a step to t = 0."""

    order: ClassVar[int] = 2

    def __call__(self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        for t, u in pairwise(grid.tolist()):
            flow = _flow(process, denoise, x, t)
            ahead = x + (u - t) * flow
            x = ahead if u == 0 else x + (u - t) / 2 * (flow + _flow(process, denoise, ahead, u))
            yield x, u


@dataclass(frozen=True)
class RK4:
    """The classical fourth-order rule; four evaluations a step. A step to t = 0 is Ralston's third-order one, which does
    not evaluate at its end."""

    order: ClassVar[int] = 4

    def __call__(self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        for t, u in pairwise(grid.tolist()):
            h = u - t
            k1 = _flow(process, denoise, x, t)
            k2 = _flow(process, denoise, x + h / 2 * k1, t + h / 2)
            if u == 0:
                k3 = _flow(process, denoise, x + 0.75 * h * k2, t + 0.75 * h)
                x = x + h / 9 * (2 * k1 + 3 * k2 + 4 * k3)
            else:
                k3 = _flow(process, denoise, x + h / 2 * k2, t + h / 2)
                k4 = _flow(process, denoise, x + h * k3, u)
                x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            yield x, u


@dataclass(frozen=True)
class DPMSolver2M:
    """DPM-Solver++(2M): multistep in log-SNR on x0_hat (Lu et al. 2022, arXiv:2211.01095, algorithm 2); one evaluation a step.

    The first step, a step to t = 0, and a step after one that began without signal are first order. Near both ends log-SNR
    spacings are unequal however fine the grid, so over all of [0, 1] the error falls as h^2 log(1 / h); between, as h^2.
    """

    order: ClassVar[int] = 2

    def __call__(self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        schedule, before, last = process.schedule, math.inf, None
        for t, u in pairwise(grid.tolist()):
            x0_hat = denoise(x, t)
            t_, u_ = _time(t), _time(u)
            step = ((log_snr(schedule, u_) - log_snr(schedule, t_)) / 2).item()
            best = x0_hat
            if last is not None and math.isfinite(step) and math.isfinite(before):
                best = x0_hat + step / (2 * before) * (x0_hat - last)
            keep = schedule.sigma(u_) / schedule.sigma(t_)
            x = like(keep, x) * x + like(schedule.alpha(u_) - keep * schedule.alpha(t_), x) * best
            before, last = step, x0_hat
            yield x, u


@dataclass(frozen=True)
class Ancestral:
    """The process's own reverse kernel at each step (DDPM, Ho et al. 2020); one evaluation a step, stochastic."""

    order: ClassVar[int] = 1

    def __call__(self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        for step, (t, u) in enumerate(pairwise(grid.tolist())):
            x = process.reverse(x, _time(t), _time(u), denoise(x, t), noise.at(step))
            yield x, u


@dataclass(frozen=True)
class Stochastic:
    """EDM's stochastic sampler (Karras et al. 2022, algorithm 2): add a little noise, then a Heun step.

    Args:
        churn: S_churn, total noise added over the grid; 0 = Heun.
        low: S_tmin, no noise added below this sigma / alpha.
        high: S_tmax, nor above this one.
        scale: S_noise, standard deviation of what is added.
    """

    churn: float = 40.0
    low: float = 0.05
    high: float = 50.0
    scale: float = 1.003
    order: ClassVar[int] = 2

    def __call__(self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        gamma = min(self.churn / (len(grid) - 1), math.sqrt(2) - 1)
        for step, (t, u) in enumerate(pairwise(grid.tolist())):
            level = math.exp(-log_snr(process.schedule, _time(t)).item() / 2)
            if gamma > 0 and self.low <= level <= self.high:
                x, t = self._noised(process, x, t, level * (1 + gamma), noise.at(step))
            flow = _flow(process, denoise, x, t)
            ahead = x + (u - t) * flow
            x = ahead if u == 0 else x + (u - t) / 2 * (flow + _flow(process, denoise, ahead, u))
            yield x, u

    def _noised(self, process: Gaussian, x: Tensor, t: float, level: float, noise: Noise) -> tuple[Tensor, float]:
        """x carried up to the time where sigma / alpha is `level`, its marginal kept (but for `scale`)."""
        schedule = process.schedule
        up = schedule.time(torch.full((1,), -2 * math.log(level), dtype=torch.float64)).clamp(max=1.0)
        keep = schedule.alpha(up) / schedule.alpha(_time(t))
        added = (schedule.sigma(up) ** 2 - keep**2 * schedule.sigma(_time(t)) ** 2).clamp(min=0).sqrt() * self.scale
        return like(keep, x) * x + like(added, x) * noise.normal(x.shape[1:], "churn"), up.item()


SAMPLERS = {
    "euler": Euler,
    "heun": Heun,
    "rk4": RK4,
    "dpmpp_2m": DPMSolver2M,
    "ancestral": Ancestral,
    "edm_stochastic": Stochastic,
}
