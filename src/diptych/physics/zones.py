"""Zones: ranges of wavenumber shells that are judged, weighted and shown together, such as the dissipation range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.load import suggest
from diptych.physics.shells import SpectralGrid

NAMES = ("IR", "DO", "DD")  # inertial range, dissipation onset, deep dissipation
FRACTIONS = (0.07, 0.47, 0.765, 1.0)  # of k_max: the edges of `turb256` on any grid
HEAD = 0.5  # the first automatic zone begins where this share of the power is reached
LATEST = 0.2  # of the last shell: the first automatic zone begins there at the latest
TAIL = 0.99  # without a bend in the spectrum the second begins here
STEEPER = 1.0  # a bend: the local slope falls below that of the range before it by this much, and stays there
FLOOR = 1e-12  # of the largest shell's power: below it a shell is rounding


@dataclass(frozen=True)
class Zones:
    """Named, disjoint ranges of shells.

    Args:
        names: one a zone. edges: (first, last) shell of each, both included, ascending.

    Raises:
        ValueError: names that repeat, a zone without a shell, zones that overlap or are out of order.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "edges", tuple((int(low), int(high)) for low, high in self.edges))
        if not self.names or len(self.names) != len(self.edges) or len(set(self.names)) != len(self.names):
            raise ValueError(f"zones: {len(self.edges)} ranges for the names {self.names}; give each zone its own name")
        before = -1
        for name, (low, high) in zip(self.names, self.edges):
            if low < 0 or high < low:
                raise ValueError(f"zone {name}: shells {low}-{high} hold nothing; give first <= last, from 0 up")
            if low <= before:
                raise ValueError(f"zone {name}: shells {low}-{high} overlap the zone before, which ends at {before}")
            before = high

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, edges: dict[str, tuple[int, int]]) -> Zones:
        """Zones of a table: name -> (first shell, last shell)."""
        return cls(tuple(edges), tuple(edges.values()))

    @classmethod
    def fractions(cls, grid: SpectralGrid, fractions: tuple[float, ...] = FRACTIONS, names: tuple[str, ...] = NAMES) -> Zones:
        """Zones between fractions of `k_max`: the first begins at the shell of its lower edge, the others one after it.

        Raises:
            ValueError: fractions that do not ascend within [0, 1], or too few shells.
        """
        if len(fractions) != len(names) + 1 or list(fractions) != sorted(fractions) or fractions[0] < 0 or fractions[-1] > 1:
            raise ValueError(f"zones: fractions {fractions} are not {len(names) + 1} ascending numbers in [0, 1]")
        marks = [round(share * grid.k_max) for share in fractions]
        lows = [max(1, marks[0]), *(mark + 1 for mark in marks[1:-1])]
        return cls(names, tuple(zip(lows, marks[1:]))).on(grid)

    @classmethod
    def auto(cls, power: Tensor | np.ndarray, grid: SpectralGrid) -> Zones:
        """Three zones from a spectrum.

        The first begins where half of the power is reached, at the latest at a fifth of the last shell. The second begins where
        the spectrum bends: its local slope falls below the median slope of the lower half (in log k) by `STEEPER` and stays
        there. In a spectrum that does not bend before 0.765 of the last shell, it begins where 99 % of the power is reached, at
        the latest at 0.47. The third begins where the power, on a logarithmic scale, is half-way from the second's start to the
        last shell. Shells below `FLOOR` of the largest are rounding and belong to no zone.

        Args:
            power: mean power summed over shells, (shells,), of training fields (`power_sum(fields, grid).mean(0)`).

        Raises:
            ValueError: another shape, not finite or without power, or too few shells for three zones.
        """
        p = np.asarray(power.detach().cpu() if isinstance(power, Tensor) else power, dtype=np.float64)
        if p.shape != (grid.shells,) or not np.isfinite(p).all() or not p[1:].max() > 0:
            raise ValueError(f"zones: power of shape {p.shape} is not that of {grid.shells} shells, finite and positive")
        p = p[: grid.k_max + 1]
        held = np.flatnonzero(p[1:] > FLOOR * p[1:].max()) + 1
        last = int(held.max())
        share = np.cumsum(p[1:]) / p[1:].sum()
        first = min(int(np.searchsorted(share, HEAD)) + 1, max(1, round(LATEST * last)))
        if last - first < 3:
            raise ValueError(f"zones: only shells {first} to {last} hold power; that is too few for three zones, give edges")
        bend = _bend(p, first, last)
        if bend is None or bend > FRACTIONS[2] * last:
            bend = min(int(np.searchsorted(share, TAIL)) + 2, round(FRACTIONS[1] * last))
        onset = min(max(bend, first + 1), last - 1)
        half = np.sqrt(p[onset] * p[last])
        deep = onset + 1 + int(np.argmax(p[onset + 1 : last + 1] <= half))
        return cls(NAMES, ((first, onset - 1), (onset, deep - 1), (deep, last))).on(grid)

    def on(self, grid: SpectralGrid) -> Zones:
        """The zones, checked to lie within the grid; no shell up to `k_max` is without modes.

        Raises:
            ValueError: a zone beyond `k_max`.
        """
        for name, (low, high) in zip(self.names, self.edges):
            if high > grid.k_max:
                raise ValueError(f"zone {name}: shells {low}-{high} exceed k_max = {grid.k_max} of the grid {grid.shape}")
        return self

    def shells(self, name: str) -> np.ndarray:
        """The shells of one zone.

        Raises:
            ValueError: an unknown zone.
        """
        if name not in self.names:
            raise ValueError(f"zone {name!r} is unknown{suggest(name, self.names)}")
        low, high = self.edges[self.names.index(name)]
        return np.arange(low, high + 1)

    def bands(self, grid: SpectralGrid) -> dict[str, tuple[float, float]]:
        """Zone -> its lower and upper wavenumber [rad per unit length], for figures."""
        step = float(grid.wavenumbers[1])
        return {name: (step * (low - 0.5), step * (high + 0.5)) for name, (low, high) in zip(self.names, self.edges)}


def turb256() -> Zones:
    """The zones of Rafiq and Nair (arXiv 2606.11691) for 256 x 256 with the 2/3 rule: IR 6-40, DO 41-65, DD 66-85."""
    return Zones(NAMES, ((6, 40), (41, 65), (66, 85)))


def _bend(p: np.ndarray, first: int, last: int) -> int | None:
    """First shell from which the local slope stays `STEEPER` below that of the lower half of the range, or None."""
    shell = np.arange(first, last + 1)
    log_k, log_p = np.log(shell), np.log(np.maximum(p[shell], FLOOR * p.max()))
    slope = np.empty(len(shell))
    for i, k in enumerate(shell):
        near = np.abs(shell - k) <= max(1.0, 0.25 * k)
        centred = log_k[near] - log_k[near].mean()
        slope[i] = centred @ log_p[near] / (centred @ centred)
    lower = shell <= np.sqrt(first * last)
    gentle = slope >= np.median(slope[lower]) - STEEPER
    after = int(np.flatnonzero(gentle).max()) + 1
    return int(shell[after]) if after < len(shell) else None


def zone_mask(zones: Zones, grid: SpectralGrid) -> torch.Tensor:
    """1 at the shells of each zone, (zones, shells) float64."""
    mask = torch.zeros(len(zones), grid.shells, dtype=torch.float64)
    for row, (low, high) in zip(mask, zones.edges):
        row[low : high + 1] = 1.0
    return mask
