"""Fields and their modes: powers, coherence and amplitude ratio of shells and zones, and what all field metrics share.

Power without coherence is noise of the right loudness, so neither is to be read alone (`metrics.zone_bias` has the power).
Samples hold fields as (N, *shape) or (N, C, *shape); powers and products of channels are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.load import suggest
from diptych.metrics import base
from diptych.metrics.base import OfSums
from diptych.metrics.fidelity import chunks, same_units
from diptych.physics.shells import SpectralGrid, coefficients, mode_power, shell_sum, tables
from diptych.physics.zones import Zones
from diptych.study import Metric, Samples


def as_tensor(values: np.ndarray, grid: SpectralGrid, name: str = "field") -> Tensor:
    """Fields as (N, C, *shape) float64, from (N, *shape) or (N, C, *shape).

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape[-grid.dims :] != grid.shape or x.ndim not in (grid.dims + 1, grid.dims + 2):
        raise ValueError(f"{name}: shape {x.shape} is not (N, *{grid.shape}) or (N, C, *{grid.shape})")
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
    if len(bad):
        raise ValueError(
            f"{name}: row {bad[0]} holds values that are not finite ({len(bad)} of {len(x)} rows); drop or mask them"
        )
    return torch.from_numpy(x if x.ndim == grid.dims + 2 else x[:, None])


def held(samples: Samples, array: str, grid: SpectralGrid, metric: str) -> Tensor:
    """The field array of some samples, (N, C, *shape) float64.

    Raises:
        ValueError: there is no such array, or it does not fit the grid.
    """
    if array not in samples.arrays:
        raise ValueError(f"metric {metric!r}: samples hold no {array!r}{suggest(array, samples.arrays)}")
    return as_tensor(samples.arrays[array], grid, f"metric {metric!r}, {array!r}")


def held_pair(
    samples: Samples, reference: Samples | None, array: str, grid: SpectralGrid, metric: str
) -> tuple[Tensor, Tensor]:
    """The fields of samples and truth.

    Raises:
        ValueError: other units, other shapes, or a true field that is constant.
    """
    truth = held(same_units(samples, reference, metric), array, grid, metric)
    mine = held(samples, array, grid, metric)
    if mine.shape != truth.shape:
        raise ValueError(f"metric {metric!r}: fields are {tuple(mine.shape[1:])} and the truth's {tuple(truth.shape[1:])}")
    varies(truth, f"metric {metric!r}, truth")
    return mine, truth


def varies(fields: Tensor, name: str) -> None:
    """Complain about constant fields: their spectrum is empty and nothing can be compared with it.

    Raises:
        ValueError: naming the first.
    """
    flat = fields.flatten(1)
    constant = torch.nonzero(flat.amax(1) == flat.amin(1))
    if len(constant):
        raise ValueError(f"{name}: row {int(constant[0])} is a constant field, it has no spectrum; drop it")


def zone_edges(grid: SpectralGrid, zones: Zones, zone: str) -> tuple[int, int]:
    """First and last shell of a zone, checked to lie within the grid."""
    shells = zones.on(grid).shells(zone)
    return int(shells[0]), int(shells[-1])


def halves(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the samples and columns of the truth."""
    half = rows.shape[1] // 2
    return rows[:, :half], rows[:, half:]


def as_is(rows: np.ndarray) -> np.ndarray:
    """What reducers of plain sums add up: the rows."""
    return rows


def shell_power(fields: Tensor, grid: SpectralGrid) -> np.ndarray:
    """Mean power a mode of each shell, channels added up: (N, C, *shape) -> (N, shells)."""
    counts = tables(grid, fields.device, fields.dtype).counts.clamp(min=1.0)
    parts = [shell_sum(mode_power(coefficients(fields[part], grid)), grid).sum(1) / counts for part in chunks(len(fields))]
    return torch.cat(parts).numpy()


def shell_products(mine: Tensor, truth: Tensor, grid: SpectralGrid) -> np.ndarray:
    """Sums over each shell's modes of Re(model conj(truth)), |model|^2, |truth|^2: (N, C, *shape) twice -> (N, 3, shells)."""
    out = []
    for part in chunks(len(mine)):
        a, b = coefficients(mine[part], grid), coefficients(truth[part], grid)
        cross = a * b if not a.is_complex() else a.real * b.real + a.imag * b.imag
        out.append(shell_sum(torch.stack([cross, mode_power(a), mode_power(b)], 1), grid).sum(2))
    return torch.cat(out).numpy()


def coherence(products: np.ndarray) -> np.ndarray:
    """Re sum(model conj(truth)) / sqrt(P_model P_truth), (..., 3, shells) -> (..., shells).

    1 right phases, 0 noise or no power, -1 inverted. Sum products over fields first for the coherence of an ensemble.
    """
    cross, mine, truth = (products[..., i, :] for i in range(3))
    size = np.sqrt(mine * truth)
    return np.divide(cross, size, out=np.zeros_like(cross), where=size > 0)


def amplitude_ratio(products: np.ndarray) -> np.ndarray:
    """sqrt(P_model / P_truth), (..., 3, shells) -> (..., shells); NaN where the truth has no power."""
    mine, truth = products[..., 1, :], products[..., 2, :]
    return np.sqrt(np.divide(mine, truth, out=np.full_like(mine, np.nan), where=truth > 0))


@dataclass(frozen=True)
class ZoneProducts:
    """Rows of `zone_coherence` and `zone_amplitude`: the `shell_products` of a zone added up, (N, 3)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        low, high = self.shells
        pair = held_pair(samples, reference, self.array, self.grid, "coherence")
        return shell_products(*pair, self.grid)[:, :, low : high + 1].sum(2)


def _pooled_coherence(sums: np.ndarray) -> np.ndarray:
    return coherence(sums[:, :, None])[:, 0]


def _pooled_amplitude(sums: np.ndarray) -> np.ndarray:
    return amplitude_ratio(sums[:, :, None])[:, 0]


def zone_coherence(grid: SpectralGrid, zones: Zones, zone: str, array: str = "field", margin: float | None = None) -> Metric:
    """Phase coherence in a zone: Re sum(model conj(truth)) / sqrt(P_model P_truth) over its modes and all fields.

    1 = every mode in phase and in proportion, 0 = unrelated. Multiplying a shell by a number leaves that shell's as it is.
    """
    rows = ZoneProducts(grid, zone_edges(grid, zones, zone), array)
    reduce = OfSums("coherence", 3, as_is, _pooled_coherence)
    about = f"Correlation of the modes of the zone {zone} with the truth's: 1 right phases, 0 noise."
    return Metric(f"coherence_{zone}", rows, reduce, "higher", margin, "truth", "unit", "", f"{zone} coherence", about)


def zone_amplitude(grid: SpectralGrid, zones: Zones, zone: str, array: str = "field") -> Metric:
    """Root of model power over true power in a zone, powers summed over its modes and all fields."""
    rows = ZoneProducts(grid, zone_edges(grid, zones, zone), array)
    reduce = OfSums("amplitude", 3, as_is, _pooled_amplitude)
    about = f"Root-mean-square amplitude over the truth's in the zone {zone}; its strongest shells count most."
    return Metric(f"amplitude_{zone}", rows, reduce, "none", None, "truth", "unit", "", f"{zone} amplitude ratio", about)


def gap(metric: Metric, margin: float | None = None) -> Metric:
    """Relative distance of a statistic from the truth's: |value - truth| / |truth| of a metric that is held against nothing.

    Raises:
        ValueError: a metric held against something, or whose reducer is no function of sums.
    """
    reduce = metric.reduce or base.mean
    if metric.against != "none" or not isinstance(reduce, OfSums):
        raise ValueError(f"gap: {metric.name!r} is held against {metric.against}; give one of sums, held against nothing")
    about = f"Distance from the truth's value over its size: {metric.about}"
    label = f"{metric.label or metric.name}: distance from the truth"
    return Metric(
        f"{metric.name}_gap", Beside(metric), _beside(reduce), "lower", margin, "truth", metric.level, "", label, about
    )


@dataclass(frozen=True)
class Beside:
    """Rows of `gap`: those of the samples, then those of the truth."""

    metric: Metric

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        truth = same_units(samples, reference, self.metric.name)
        return np.concatenate([self.metric.rows(one, None) for one in (samples, truth)], axis=1)


def _beside(reduce: OfSums) -> OfSums:
    def prepare(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([reduce.terms(half) for half in halves(rows)], axis=1)

    def finish(sums: np.ndarray) -> np.ndarray:
        mine, truth = (reduce.finish(half) for half in halves(sums))
        return np.abs(mine - truth) / np.abs(truth)

    return OfSums(f"{reduce.name}, gap", 0, prepare, finish)


METRICS = {"zone_coherence": zone_coherence, "zone_amplitude": zone_amplitude, "gap": gap}
