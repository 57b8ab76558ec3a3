"""Fields with a steep spectrum, and a metric's point estimate on fields."""

from __future__ import annotations

import numpy as np
import torch

from diptych.metrics import base
from diptych.physics.shells import SpectralGrid, filtered
from diptych.physics.zones import Zones
from diptych.study import Metric, Samples, Unit

GRID = SpectralGrid((32, 32), dealiased=True)
ZONES = Zones.of({"IR": (2, 4), "DO": (5, 7), "DD": (8, 10)})
STEEP = torch.arange(1, GRID.shells + 1, dtype=torch.float64) ** -2.0


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def truth_fields(count: int = 40, seed: int = 0) -> torch.Tensor:
    """Fields of a steep spectrum whose loudness differs from field to field, as turbulence's does."""
    loud = (0.5 * white(count, seed=seed + 100)).exp().view(-1, 1, 1)
    return loud * filtered(white(count, 32, 32, seed=seed), STEEP, GRID)


def samples(fields: torch.Tensor) -> Samples:
    return Samples(tuple(Unit(f"f{i}") for i in range(len(fields))), {"field": fields.numpy()})


def value(metric: Metric, mine: torch.Tensor, truth: torch.Tensor | None) -> float:
    """The metric's point estimate; a set metric takes the truth as its reference set."""
    against = samples(truth) if truth is not None else None
    reduce = metric.reduce or base.mean
    if metric.against == "set":
        assert against is not None
        rows, there = metric.rows(samples(mine), None), metric.rows(against, None)
        return float(reduce(rows, np.ones((1, len(rows))), there, np.ones((1, len(there))))[0])
    rows = metric.rows(samples(mine), against)
    return float(reduce(rows, np.ones((1, len(rows))))[0])


def band_gain(zone: str, factor: float) -> torch.Tensor:
    gain = torch.ones(GRID.shells, dtype=torch.float64)
    low, high = ZONES.edges[ZONES.names.index(zone)]
    gain[low : high + 1] = factor
    return gain
