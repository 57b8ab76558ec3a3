"""How the channels of a field go together, scale by scale: cross-spectra of velocity components, of wind and temperature.

Spectra of each channel and phases against the truth say nothing of this where no single truth exists, as for generated fields.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.metrics.base import OfSums
from diptych.metrics.fidelity import chunks
from diptych.metrics.field import as_is, held_pair, zone_edges
from diptych.physics.shells import SpectralGrid, coefficients, mode_power, shell_sum
from diptych.physics.zones import Zones
from diptych.study import Metric, Samples


def cross_spectrum(fields: Tensor, grid: SpectralGrid, pair: tuple[int, int]) -> Tensor:
    """Sums over each shell's modes of a conj(b), real and imaginary, |a|^2 and |b|^2, of two channels of the same fields.

    Args:
        fields: (N, C, *shape). pair: the channels a and b.

    Returns:
        (N, 4, shells). The imaginary part is that of the waves that run along +x (over both signs it would cancel): positive
        where a runs ahead of b.

    Raises:
        ValueError: a channel that is not there.
    """
    if not all(0 <= one < fields.shape[1] for one in pair):
        raise ValueError(f"cross-spectrum: channels {pair} of {fields.shape[1]}; they count from 0")
    found = []
    for part in chunks(len(fields)):
        a, b = (coefficients(fields[part, one], grid) for one in pair)
        if a.is_complex():
            cross = a * b.conj()
            real, imaginary = cross.real, cross.imag
        else:
            real, imaginary = a * b, torch.zeros_like(a)
        found.append(shell_sum(torch.stack([real, imaginary, mode_power(a), mode_power(b)], 1), grid))
    return torch.cat(found)


@dataclass(frozen=True)
class CrossRows:
    """Rows of `channel_coherence`: a zone's `cross_spectrum` of samples, then of the truth, pair by pair: (N, 8 pairs)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    pairs: tuple[tuple[int, int], ...]
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        both = held_pair(samples, reference, self.array, self.grid, "channels")
        inside = slice(self.shells[0], self.shells[1] + 1)
        rows = [cross_spectrum(one, self.grid, pair)[:, :, inside].sum(2) for pair in self.pairs for one in both]
        return torch.cat(rows, 1).numpy()


def _distance(sums: np.ndarray) -> np.ndarray:
    """Mean over pairs of |coherence of the samples - coherence of the truth|, both complex: (R, 8 pairs) -> (R,)."""
    real, imaginary, first, second = np.moveaxis(sums.reshape(len(sums), -1, 2, 4), 3, 0)
    size = np.sqrt(first * second)
    there = np.divide(real + 1j * imaginary, size, out=np.zeros(size.shape, complex), where=size > 0)
    return np.abs(there[:, :, 0] - there[:, :, 1]).mean(1)


def channel_coherence(
    grid: SpectralGrid, zones: Zones, zone: str, channels: int, array: str = "field", margin: float | None = None
) -> Metric:
    """How far the coherence between channels is from the truth's in a zone, the mean over all pairs of channels.

    The coherence of two channels is sum(a conj(b)) / sqrt(P_a P_b) over the zone's modes and all fields: its size says how
    strongly they go together, its angle by what share of a wave one runs ahead. 0 = they go together as in the truth; channels
    that were made apart score as much as the truth's own coherence.

    Raises:
        ValueError: a single channel.
    """
    pairs = tuple((a, b) for b in range(channels) for a in range(b))
    if not pairs:
        raise ValueError(f"channel_coherence: fields of {channels} channel; it takes two or more")
    rows = CrossRows(grid, zone_edges(grid, zones, zone), pairs, array)
    about = (
        f"Distance of the coherence between channels from the truth's in the zone {zone}, the mean over pairs; 0 = as there."
    )
    reduce = OfSums("channels", 8 * len(pairs), as_is, _distance)
    label = f"{zone} channels: distance from the truth"
    return Metric(f"channels_{zone}", rows, reduce, "lower", margin, "truth", label=label, about=about)


METRICS = {"channel_coherence": channel_coherence}
