"""Zones by edges, by fractions, from a spectrum; what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.physics.shells import SpectralGrid
from diptych.physics.zones import Zones, turb256, zone_mask

GRID = SpectralGrid((256, 256), dealiased=True)


def test_the_preset_is_the_fractions_at_its_own_size() -> None:
    assert turb256().edges == ((6, 40), (41, 65), (66, 85))
    assert Zones.fractions(GRID) == turb256()
    assert Zones.fractions(SpectralGrid((128, 128), dealiased=True)).edges == ((3, 20), (21, 32), (33, 42))
    assert Zones.fractions(SpectralGrid((64, 64), dealiased=True)).edges == ((1, 10), (11, 16), (17, 21))


def test_masks_and_bands_hold_the_edges() -> None:
    grid = SpectralGrid((32, 32), (0.5, 0.5))  # 16 long
    zones = Zones.of({"large": (1, 3), "small": (5, 9)})
    mask = zone_mask(zones, grid)
    assert mask.sum(1).tolist() == [3, 5]
    assert zones.shells("small").tolist() == [5, 6, 7, 8, 9]
    low, high = zones.bands(grid)["small"]
    assert (low, high) == pytest.approx((4.5 * 2 * np.pi / 16, 9.5 * 2 * np.pi / 16))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ({"a": (1, 5), "b": (5, 9)}, "zone b: shells 5-9 overlap the zone before, which ends at 5"),
        ({"a": (6, 9), "b": (1, 3)}, "overlap"),
        ({"a": (4, 3)}, "hold nothing"),
        ({"a": (-1, 3)}, "hold nothing"),
        ({}, "give each zone its own name"),
    ],
)
def test_zones_that_overlap_or_are_empty_are_refused(edges: dict[str, tuple[int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Zones.of(edges)


def test_zones_beyond_the_grid_and_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="zone DD: shells 66-85 exceed k_max = 84 of the grid"):
        turb256().on(SpectralGrid((254, 254), dealiased=True))
    with pytest.raises(ValueError, match="unknown; did you mean 'DD'"):
        turb256().shells("dd")
    with pytest.raises(ValueError, match="ascending"):
        Zones.fractions(GRID, (0.5, 0.2, 0.7, 1.0))


def spectrum(grid: SpectralGrid, slope: float, bend: int, steep: float) -> np.ndarray:
    """A power law that falls off by exp(-steep (k - bend)) beyond a shell."""
    k = np.arange(grid.shells, dtype=float)
    k[0] = 1.0
    power = k**slope * np.where(k > bend, np.exp(-steep * (k - bend)), 1.0)
    power[0] = 0.0
    return power


def test_a_bend_in_the_spectrum_is_found() -> None:
    for bend in (20, 30, 45):
        zones = Zones.auto(spectrum(GRID, -1.0, bend, 0.2), GRID)
        (first, _), (onset, deep), (_, last) = zones.edges
        assert abs(onset - bend) <= 0.25 * bend + 1
        assert last == 85
        power = spectrum(GRID, -1.0, bend, 0.2)
        half = int(np.argmax(np.cumsum(power) >= 0.5 * power[:86].sum()))
        assert first == min(half, 17)
        assert power[deep + 1] <= np.sqrt(power[onset] * power[last]) < power[deep]


def test_without_a_bend_the_tail_of_the_power_decides() -> None:
    power = spectrum(GRID, -3.0, 1000, 0.0)
    zones = Zones.auto(power, GRID)
    onset = zones.edges[1][0]
    share = np.cumsum(power[:86]) / power[:86].sum()
    assert share[onset - 1] >= 0.99 > share[onset - 2]
    assert Zones.auto(power * 7.0, GRID) == zones
    flat = Zones.auto(spectrum(GRID, 1.0, 1000, 0.0), GRID)  # white noise in two dimensions: the preset's fractions
    assert (flat.edges[0][0], flat.edges[1][0], flat.edges[2][1]) == (17, 40, 85)
    late = Zones.auto(spectrum(GRID, -0.5, 80, 2.0), GRID)  # a bend in the last shells is no dissipation range
    assert late.edges[1][0] == 40


def test_automatic_zones_leave_rounding_out_and_say_when_there_is_too_little() -> None:
    power = spectrum(GRID, -2.0, 20, 0.5)
    power[60:] = 1e-14 * power.max()
    assert Zones.auto(power, GRID).edges[2][1] < 60
    with pytest.raises(ValueError, match="too few for three zones"):
        Zones.auto(np.eye(GRID.shells)[3], GRID)
    with pytest.raises(ValueError, match="finite and positive"):
        Zones.auto(np.full(GRID.shells, np.nan), GRID)
