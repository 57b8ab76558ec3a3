"""Shape beyond the spectrum: increments, structure functions, kurtosis, enstrophy flux: what needs the right phases.

A Gaussian random field has kurtosis 3 at every scale, S3 = 0 and no flux, whatever its spectrum. Increments along axes that are
not periodic stay inside the field. S3 is of the velocity whose curl is the field, so that it is positive in both cascades of
plane turbulence (Bernard 1999, Lindborg 1999).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.metrics.base import OfSums
from diptych.metrics.fidelity import chunks
from diptych.metrics.field import held, zone_edges
from diptych.physics.shells import SpectralGrid, band
from diptych.physics.vorticity import enstrophy_flux, velocity
from diptych.physics.zones import Zones
from diptych.study import Metric, Samples

GAUSSIAN = 3.0  # kurtosis of a normal variable
ANGLES = 8  # directions of separations in a plane
PDF_REACH = 8.0  # standard deviations


def increments(field: Tensor, offset: tuple[int, ...], grid: SpectralGrid) -> Tensor:
    """field(x + offset) - field(x), (..., *shape); shorter along axes that are not periodic.

    Args:
        offset: cells along each axis, (dy, dx) or (dx,).

    Raises:
        ValueError: an offset as long as an axis.
    """
    ahead, here = field, field
    for axis, cells, wraps, size in zip(grid.axes, offset, grid.wraps, grid.shape):
        if abs(cells) >= size:
            raise ValueError(f"increments: offset {offset} reaches across the grid {grid.shape}")
        if wraps:
            ahead = ahead.roll(-cells, axis)
        elif cells:
            ahead = ahead.narrow(axis, max(cells, 0), size - abs(cells))
            here = here.narrow(axis, max(-cells, 0), size - abs(cells))
    return ahead - here


def offsets(separation: int, dims: int, angles: int = ANGLES) -> list[tuple[int, ...]]:
    """Whole-cell offsets of about one length in directions spread over half a turn; those that round to the same count once."""
    if dims == 1:
        return [(separation,)]
    turns = [math.pi * i / angles for i in range(angles)]
    return list(dict.fromkeys((round(separation * math.sin(a)), round(separation * math.cos(a))) for a in turns))


def _longitudinal(fields: Tensor, separation: int, grid: SpectralGrid, of: str, angles: int) -> Iterator[Tensor]:
    """Increments for every direction: of the field, or of the velocity component along the separation."""
    if of == "field":
        yield from (increments(fields, offset, grid) for offset in offsets(separation, grid.dims, angles))
    elif of == "velocity":
        u, v = velocity(fields, grid)
        spacing = [length / n for length, n in zip(grid.lengths, grid.shape)]
        for dy, dx in offsets(separation, grid.dims, angles):
            y, x = dy * spacing[0], dx * spacing[1]
            yield increments((u * x + v * y) / math.hypot(x, y), (dy, dx), grid)
    else:
        raise ValueError(f"structure function: of={of!r} is unknown; choose field or velocity")


def structure_function(
    fields: Tensor, separation: int, order: int, grid: SpectralGrid, of: str = "velocity", angles: int = ANGLES
) -> Tensor:
    """Mean of the increment to the power `order`, over places and directions, of each field: (N, C, *shape) -> (N,).

    Args:
        separation: cells, >= 1. order: 2, 3, ... with sign.
        of: "velocity": the component along the separation of the velocity whose curl is the field (needs a periodic plane
            with spacing); "field": the field itself, channels averaged.
        angles: directions in half a turn.
    """
    means = [d.pow(order).flatten(1).mean(1) for d in _longitudinal(fields, separation, grid, of, angles)]
    return torch.stack(means).mean(0)


def increment_pdf(
    fields: Tensor, separation: int, grid: SpectralGrid, of: str = "velocity", bins: int = 65, angles: int = ANGLES
) -> tuple[np.ndarray, np.ndarray]:
    """Density of increments in units of their own standard deviation, over all fields, places and directions.

    Returns:
        centres: (bins,), within `PDF_REACH`. density: (bins,); what lies beyond is left out, so it may add up to less than one.
    """
    found = torch.cat([d.flatten() for d in _longitudinal(fields, separation, grid, of, angles)])
    found = found / found.std()
    edges = torch.linspace(-PDF_REACH, PDF_REACH, bins + 1, dtype=found.dtype)
    counts = torch.histc(found, bins, -PDF_REACH, PDF_REACH)
    step = 2.0 * PDF_REACH / bins
    return (0.5 * (edges[1:] + edges[:-1])).numpy(), (counts / (len(found) * step)).numpy()


def moments(values: Tensor) -> np.ndarray:
    """Mean square and mean fourth power about zero of each row, (N, ...) -> (N, 2)."""
    square = values.flatten(1).square()
    return torch.stack([square.mean(1), square.square().mean(1)], 1).numpy()


def differences(fields: Tensor, grid: SpectralGrid) -> Tensor:
    """Differences of neighbours along every axis, side by side, (N, m): the gradient, finest scale first."""
    steps = [tuple(int(i == j) for j in range(grid.dims)) for i in range(grid.dims)]
    spacing = [length / n for length, n in zip(grid.lengths, grid.shape)]
    return torch.cat([increments(fields, step, grid).flatten(1) / h for step, h in zip(steps, spacing)], 1)


@dataclass(frozen=True)
class BandMoments:
    """Rows of `band_kurtosis`: mean square and mean fourth power of the fields in a zone's shells, (N, 2)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        fields = held(samples, self.array, self.grid, "kurtosis")
        return np.concatenate([moments(band(fields[part], self.shells, self.grid)) for part in chunks(len(fields))])


@dataclass(frozen=True)
class GradientMoments:
    """Rows of `gradient_kurtosis`: mean square and mean fourth power of neighbours' differences, (N, 2)."""

    grid: SpectralGrid
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        fields = held(samples, self.array, self.grid, "gradient kurtosis")
        return np.concatenate([moments(differences(fields[part], self.grid)) for part in chunks(len(fields))])


@dataclass(frozen=True)
class IncrementMoments:
    """Rows of `increment_kurtosis`: mean square and mean fourth power of the increments at one separation, (N, 2)."""

    grid: SpectralGrid
    separation: int
    of: str
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        fields = held(samples, self.array, self.grid, "increment kurtosis")
        rows = []
        for part in chunks(len(fields)):
            found = _longitudinal(fields[part], self.separation, self.grid, self.of, ANGLES)
            rows.append(moments(torch.cat([d.flatten(1) for d in found], 1)))
        return np.concatenate(rows)


@dataclass(frozen=True)
class StructureRows:
    """Rows of `structure`: the structure function averaged over separations, (N, 1)."""

    grid: SpectralGrid
    separations: tuple[int, ...]
    order: int
    of: str
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        fields = held(samples, self.array, self.grid, f"S{self.order}")
        rows = []
        for part in chunks(len(fields)):
            found = [structure_function(fields[part], r, self.order, self.grid, self.of) for r in self.separations]
            rows.append(torch.stack(found).mean(0).numpy())
        return np.concatenate(rows)[:, None]


@dataclass(frozen=True)
class FluxRows:
    """Rows of `zone_flux`: enstrophy flux averaged over a zone's shells, (N, 1)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        fields = held(samples, self.array, self.grid, "enstrophy flux")
        low, high = self.shells
        rows = [enstrophy_flux(fields[part], self.grid)[..., low : high + 1].mean((1, 2)) for part in chunks(len(fields))]
        return torch.cat(rows).numpy()[:, None]


def _counted(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _kurtosis(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[:, 1] * sums[:, 2] / sums[:, 0] ** 2


kurtosis = OfSums("kurtosis", 2, _counted, _kurtosis)
"""Fourth moment over the square of the second, moments over all rows; rows are (mean square, mean fourth power)."""


def band_kurtosis(grid: SpectralGrid, zones: Zones, zone: str, array: str = "field") -> Metric:
    """Kurtosis of the fields band-passed to a zone, moments over all fields: 3 is Gaussian, more is patchy."""
    rows = BandMoments(grid, zone_edges(grid, zones, zone), array)
    about = f"Kurtosis of the fields in the shells of the zone {zone}; 3 is Gaussian, more is intermittent."
    return Metric(f"kurtosis_{zone}", rows, kurtosis, "none", None, "none", "unit", "", f"{zone} kurtosis", about)


def gradient_kurtosis(grid: SpectralGrid, array: str = "field") -> Metric:
    """Kurtosis of the differences between neighbouring points, along all axes."""
    about = "Kurtosis of differences between neighbouring points; 3 is Gaussian."
    rows = GradientMoments(grid, array)
    return Metric("gradient_kurtosis", rows, kurtosis, "none", None, "none", "unit", "", "gradient kurtosis", about)


def increment_kurtosis(grid: SpectralGrid, separation: int, of: str = "velocity", array: str = "field") -> Metric:
    """Kurtosis of the increments at one separation [cells]; see `structure_function` for `of`."""
    rows = IncrementMoments(grid, separation, of, array)
    about = f"Kurtosis of {of} increments over {separation} cells; 3 is Gaussian."
    name = f"increment_kurtosis_{separation}"
    return Metric(name, rows, kurtosis, "none", None, "none", "unit", "", f"increment kurtosis, {separation} cells", about)


def structure(
    grid: SpectralGrid, separations: tuple[int, ...], order: int, of: str = "velocity", array: str = "field"
) -> Metric:
    """Structure function of an order, averaged over separations [cells]; `field.gap` of it is its distance from the truth's."""
    rows = StructureRows(grid, tuple(separations), order, of, array)
    about = f"Mean of {of} increments to the power {order}, over separations of {min(separations)} to {max(separations)} cells."
    return Metric(f"S{order}", rows, None, "none", None, "none", "unit", "", f"S{order}", about)


def zone_flux(grid: SpectralGrid, zones: Zones, zone: str, array: str = "field") -> Metric:
    """Spectral enstrophy flux averaged over a zone's shells: positive = towards smaller scales, 0 for a Gaussian field."""
    rows = FluxRows(grid, zone_edges(grid, zones, zone), array)
    about = f"Enstrophy that advection carries past the shells of the zone {zone}, towards smaller scales where positive."
    return Metric(f"flux_{zone}", rows, None, "none", None, "none", "unit", "", f"{zone} enstrophy flux", about)


METRICS = {
    "band_kurtosis": band_kurtosis,
    "gradient_kurtosis": gradient_kurtosis,
    "increment_kurtosis": increment_kurtosis,
    "structure": structure,
    "zone_flux": zone_flux,
}
