"""The number that the spectral study judges by: how far a zone is from the truth, in power and in phases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diptych.data.fields import Transform
from diptych.metrics import base
from diptych.metrics.base import OfSums
from diptych.metrics.fidelity import same_units
from diptych.metrics.field import as_tensor, coherence, held_pair, shell_power, shell_products, zone_edges
from diptych.metrics.zone_bias import log_ratio
from diptych.physics.shells import SpectralGrid
from diptych.physics.zones import Zones
from diptych.study import Metric, Rows, Samples


@dataclass(frozen=True)
class DefectRows:
    """Rows of `defect`: mean over the zone's shells of log10(model / true power), then the products of the modes, (N, 4)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    array: str = "field"

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        mine, truth = held_pair(samples, reference, self.array, self.grid, "defect")
        inside = slice(self.shells[0], self.shells[1] + 1)
        power, true_power = (shell_power(x, self.grid)[:, inside] for x in (mine, truth))
        products = shell_products(mine, truth, self.grid)[:, :, inside].sum(2)
        return np.concatenate([log_ratio(power, true_power).mean(1, keepdims=True), products], axis=1)


def _terms(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _defect(sums: np.ndarray) -> np.ndarray:
    pooled = coherence(sums[:, 1:4, None])[:, 0]
    return np.abs(sums[:, 0] / sums[:, 4]) + 1.0 - pooled


def defect(grid: SpectralGrid, zones: Zones, zone: str, margin: float | None = None) -> Metric:
    """|power bias [dex]| + 1 - phase coherence of a zone: 0 only where power and phases are right.

    Noise of the right power scores 1, right phases at a tenth of the power 1, nothing at all more than 10. Neither loudness
    without phases nor a timid reconstruction passes for the truth, which is why this one carries the verdict.
    """
    about = f"Size of the power bias [dex] plus 1 - coherence in the zone {zone}: 0 needs power and phases, noise scores 1."
    rows = DefectRows(grid, zone_edges(grid, zones, zone))
    reduce = OfSums("defect", 4, _terms, _defect)
    return Metric(f"defect_{zone}", rows, reduce, "lower", margin, "truth", label=f"{zone} defect", about=about)


@dataclass(frozen=True)
class ErrorRows:
    """Rows of `relative_error`: squared error and squared truth of each field, summed, (N, 2)."""

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        truth = same_units(samples, reference, "field_error").arrays["field"].astype(np.float64)
        mine = samples.arrays["field"].astype(np.float64)
        if mine.shape != truth.shape:
            raise ValueError(f"field error: fields are {mine.shape[1:]} and the truth's {truth.shape[1:]}")
        squares = [x.reshape(len(x), -1) ** 2 for x in (mine - truth, truth - truth.mean())]
        return np.stack([square.sum(1) for square in squares], axis=1)


def relative_error(margin: float | None = None) -> Metric:
    """Squared error over the truth's variance, all scales together: what an autoencoder is usually trained on."""
    about = "Squared error over the variance of the truth; the large scales decide it."
    return Metric("field_error", ErrorRows(), base.ratio, "lower", margin, "truth", label="error of the field", about=about)


@dataclass(frozen=True)
class UndoneRows:
    """Rows of a metric on fields and truth whose transform is undone."""

    rows: Rows
    transform: Transform

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        return self.rows(self._own(samples), None if reference is None else self._own(reference))

    def _own(self, samples: Samples) -> Samples:
        return replace(samples, arrays={**samples.arrays, "field": self.transform.invert(samples.arrays["field"])})


def undone(metric: Metric, transform: Transform) -> Metric:
    """A metric of transformed fields in the data's own values."""
    about = f"{metric.about} In the data's own values, the {transform.name} undone."
    label = f"{metric.label}, own values"
    return replace(metric, name=f"{metric.name}_own", rows=UndoneRows(metric.rows, transform), label=label, about=about)


@dataclass(frozen=True)
class Scores:
    """What a reconstruction keeps, by zone; "large" is everything below the first zone.

    Args:
        bias: [dex]. coherence: 1 = right phases. total: mean over zones of |bias| + 1 - coherence.
        error: squared error over the variance.
    """

    bias: dict[str, float]
    coherence: dict[str, float]
    total: float
    error: float


def scores(made: np.ndarray, truth: np.ndarray, grid: SpectralGrid, zones: Zones) -> Scores:
    """Of fields (N, C, *shape) against their truth."""
    mine, true = as_tensor(made, grid), as_tensor(truth, grid, "truth")
    power, true_power = shell_power(mine, grid), shell_power(true, grid)
    products = shell_products(mine, true, grid).sum(0)
    first = zones.edges[0][0]
    ranges = ({"large": (1, first - 1)} if first > 1 else {}) | dict(zip(zones.names, zones.edges, strict=True))
    bias, phases = {}, {}
    for name, (low, high) in ranges.items():
        inside = slice(low, high + 1)
        bias[name] = float(log_ratio(power[:, inside], true_power[:, inside]).mean())
        phases[name] = float(coherence(products[:, inside].sum(1)[:, None])[0])
    total = float(np.mean([abs(bias[name]) + 1 - phases[name] for name in ranges]))
    return Scores(bias, phases, total, float((mine - true).square().mean() / true.var(correction=0)))
