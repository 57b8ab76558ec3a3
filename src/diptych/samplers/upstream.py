"""What i1's official sampler does otherwise, to be held against: half-precision times and states, one noise for all.

None of these is in a table of samplers; a study that names them gets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import Bound
from diptych.study import Unit


def upstream_times(steps: int, shift: float = 0.3) -> Tensor:
    """The official grid as our times, (steps + 1,) float64 from 1 to 0: made, and shifted, in bfloat16.

    Above half of the way bfloat16 has 256 numbers a unit, so of 250 steps 28 have no length (20 without the shift).

    Args:
        steps: of the sampler.
        shift: s in t' = s t / (1 + (s - 1) t), t running from noise to data; 1 = none.
    """
    t = torch.linspace(0, 1, steps + 1, dtype=torch.bfloat16)
    return 1 - (shift * t / (1 + (shift - 1) * t)).double()


def exact_times(steps: int, shift: float = 0.3) -> Tensor:
    """The same grid without rounding; for `schedule.uniform_grid` its shift is 1 / s."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return 1 - shift * t / (1 + (shift - 1) * t)


@dataclass(frozen=True)
class UpstreamEuler:
    """Euler over the official bfloat16 grid of as many steps as the grid it is given, of which only the number is used.

    Args:
        shift: see `upstream_times`.
        states: keep x in bfloat16 too, as the official sampler does.
    """

    shift: float = 0.3
    states: bool = True
    order: ClassVar[int] = 1

    def __call__(
        self, process: Gaussian, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise
    ) -> Iterator[tuple[Tensor, float]]:
        if self.states:
            x = x.to(torch.bfloat16).to(x.dtype)
        for t, u in pairwise(upstream_times(len(grid) - 1, self.shift).tolist()):
            flow = process.flow(x, torch.full((1,), t, dtype=torch.float64), denoise(x, t))
            x = x + (u - t) * flow
            x = x.to(torch.bfloat16).to(x.dtype) if self.states else x
            yield x, u


@dataclass(frozen=True)
class OneNoise:
    """The start of an arm that gives every unit the same noise, as the official script does at its batch size of one.

    Args:
        shape: of one sample.
    """

    shape: tuple[int, ...]

    def __call__(self, units: Sequence[Unit], device: str) -> Tensor:
        noise = Noise(("one noise for all",) * len(units), device)
        return noise.normal(self.shape, "prior")
