"""Guidance: a wrapper Denoiser -> Denoiser, built fresh for each batch, row-local and without state.

Each guidance is a frozen dataclass of its options whose call wraps a denoiser. Strength 1 means conditional only. The
combination is made on x0_hat (log-probabilities for masked text); for Gaussian processes it is the same in eps, v or flow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.denoise import Canvas, Cond, Denoiser
from diptych.process import like

Guidance = Callable[[Denoiser], Denoiser]


def null_flag(cond: Cond) -> Cond:
    """The unconditional twin of `cond` for networks that hold a learned null: the same mapping with `null` set.

    Raises:
        ValueError: no conditions.
    """
    if not cond:
        raise ValueError("guidance: there are no conditions to drop; give `cond`, or strength 1")
    first = next(iter(cond.values()))
    return {**cond, "null": torch.ones(len(first), dtype=torch.bool, device=first.device)}


@dataclass(frozen=True)
class ClassifierFree:
    """x0_null + strength (x0_cond - x0_null) (Ho and Salimans 2022, arXiv:2207.12598), both in one batched evaluation.

    Args:
        strength: 1 = conditional only.
        null: makes the unconditional twin of a mapping of conditions.
        rescale: pull the guided prediction's standard deviation back to the conditional one's, 0 = off, 1 = fully
            (Lin et al. 2023, arXiv:2305.08891, eq. 15-16).
        interval: times (low, high] at which guidance acts (Kynkaanniemi et al. 2024, arXiv:2404.07724); outside, and at
            strength 1, the null branch is not evaluated.
    """

    strength: float
    null: Callable[[Cond], Cond] = null_flag
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def guided(x: Any, t: Tensor, cond: Cond) -> Tensor:
            if self.strength == 1 or not _acts(self.interval, t):
                return denoise(x, t, cond)
            null = self.null(cond)
            # A condition that only one branch has stands as zeros (False) in the other.
            both = {k: torch.cat([_rows(cond, k, null), _rows(null, k, cond)]) for k in {**cond, **null}}
            conditional, unconditional = denoise(_twice(x), torch.cat([t, t]), both).chunk(2)
            mixed = _mixed(unconditional, conditional, self.strength)
            out = _rescaled(mixed, conditional, self.rescale) if self.rescale else mixed
            return torch.where(like(_inside(self.interval, t), out).bool(), out, conditional)

        return guided


@dataclass(frozen=True)
class Autoguidance:
    """x0_weak + strength (x0 - x0_weak), the weak denoiser being a smaller or less trained one (arXiv:2406.02507, eq. 3).

    Args:
        strength: 1 = the strong denoiser only.
        weak: the denoiser to move away from.
        interval: times (low, high] at which guidance acts.
    """

    strength: float
    weak: Denoiser
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def guided(x: Any, t: Tensor, cond: Cond) -> Tensor:
            strong = denoise(x, t, cond)
            if self.strength == 1 or not _acts(self.interval, t):
                return strong
            weak = self.weak(x, t, cond)
            mixed = _mixed(weak, strong, self.strength)
            return torch.where(like(_inside(self.interval, t), mixed).bool(), mixed, strong)

        return guided


GUIDANCES = {"classifier_free": ClassifierFree, "autoguidance": Autoguidance}


def _mixed(away: Tensor, towards: Tensor, strength: float) -> Tensor:
    """away + strength (towards - away); log-probabilities of -inf count as -1e4, so that they do not cancel to NaN."""
    away, towards = (p.masked_fill(p == -torch.inf, -1e4) for p in (away, towards))
    return away + strength * (towards - away)


def _inside(interval: tuple[float, float], t: Tensor) -> Tensor:
    return (t > interval[0]) & (t <= interval[1])


def _acts(interval: tuple[float, float], t: Tensor) -> bool:
    return interval == (0.0, 1.0) or bool(_inside(interval, t).any())


def _rows(cond: Cond, key: str, other: Cond) -> Tensor:
    return cond[key] if key in cond else torch.zeros_like(other[key])


def _twice(x: Any) -> Any:
    if isinstance(x, Canvas):
        positions = None if x.positions is None else torch.cat([x.positions, x.positions])
        attend = x.attend if x.attend is None or len(x.attend) == 1 else torch.cat([x.attend, x.attend])
        return Canvas(torch.cat([x.ids, x.ids]), positions, attend, x.cache)
    return torch.cat([x, x])


def _rescaled(mixed: Tensor, conditional: Tensor, amount: float) -> Tensor:
    axes = tuple(range(1, mixed.ndim))
    wanted, found = (p.std(axes, keepdim=True, correction=0) for p in (conditional, mixed))
    factor = torch.where(found > 0, wanted / found, 1)
    return mixed * (amount * factor + (1 - amount))
