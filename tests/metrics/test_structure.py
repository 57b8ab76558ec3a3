"""Increments, structure functions, kurtosis and flux on fields whose answers are known, the sign of S3 among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_fields import samples, value, white

from diptych.metrics import structure
from diptych.metrics.structure import increment_pdf, increments, offsets, structure_function
from diptych.physics.navier_stokes import Flow, initial, simulate
from diptych.physics.random_fields import gaussian_field
from diptych.physics.shells import SpectralGrid, power_mean
from diptych.physics.vorticity import enstrophy_flux
from diptych.physics.zones import Zones

PLANE = SpectralGrid((64, 64), (2 * math.pi / 64,) * 2, dealiased=True)
ZONES = Zones.fractions(PLANE)
TRIAD = ((4, 1, 1.0), (-1, 2, 0.7), (-3, -3, 0.5))  # waves along y and x that add up to zero, and their amplitudes in psi


def triad(phase: float) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """(vorticity, u, v) of psi = sum a cos(k.x + phase / 3), by hand."""
    n = 2 * np.pi * np.arange(64) / 64
    w, u, v = (np.zeros((64, 64)) for _ in range(3))
    for ky, kx, a in TRIAD:
        angle = ky * n[:, None] + kx * n + phase / 3
        w += a * (ky**2 + kx**2) * np.cos(angle)
        u += -a * ky * np.sin(angle)
        v += a * kx * np.sin(angle)
    return torch.from_numpy(w), u, v


def by_hand(u: np.ndarray, v: np.ndarray, r: int, order: int) -> float:
    """Longitudinal structure function along the two axes by a loop over points."""
    total = 0.0
    for y in range(64):
        for x in range(64):
            total += (u[y, (x + r) % 64] - u[y, x]) ** order + (v[(y + r) % 64, x] - v[y, x]) ** order
    return total / (2 * 64 * 64)


@pytest.mark.parametrize("r", [3, 9])
def test_structure_functions_are_those_of_the_true_velocity_sign_included(r: int) -> None:
    w, u, v = triad(0.2)
    for order in (2, 3):
        expected = by_hand(u, v, r, order)
        assert abs(expected) > 1e-3
        found = structure_function(w[None, None], r, order, PLANE, angles=2)
        assert float(found) == pytest.approx(expected, rel=1e-10)


def test_s3_changes_sign_with_the_flow_and_vanishes_for_noise() -> None:
    w = triad(0.2)[0][None, None]
    assert float(structure_function(-w, 5, 3, PLANE)) == pytest.approx(-float(structure_function(w, 5, 3, PLANE)))
    power = power_mean(w, PLANE)[0, 0]
    noise = gaussian_field(power, white(60, 1, 64, 64), PLANE)
    third, second = (structure_function(noise, 5, order, PLANE) for order in (3, 2))
    assert abs(third.mean()) < 4 * third.std() / 60**0.5
    assert float(second.mean()) == pytest.approx(float(structure_function(w, 5, 2, PLANE)), rel=0.5)


def test_increments_wrap_only_where_the_axis_does() -> None:
    grid = SpectralGrid((4, 5), periodic=(True, False))
    field = torch.arange(20.0, dtype=torch.float64).view(4, 5)
    found = increments(field, (1, 2), grid)
    assert found.shape == (4, 3)
    assert found[0].tolist() == [7.0, 7.0, 7.0]
    assert found[3].tolist() == [-13.0, -13.0, -13.0]
    assert increments(field, (0, -2), grid)[0].tolist() == [-2.0, -2.0, -2.0]
    with pytest.raises(ValueError, match="reaches across"):
        increments(field, (0, 5), grid)


def test_offsets_cover_half_a_turn_without_repeats() -> None:
    found = offsets(4, 2, 8)
    assert (0, 4) in found and (4, 0) in found
    assert len(set(found)) == len(found) == 8
    assert all((-y, -x) not in found for y, x in found)
    assert len(offsets(1, 2, 8)) < 8
    assert offsets(7, 1) == [(7,)]


def test_signals_have_increments_too() -> None:
    grid = SpectralGrid((50,), periodic=False)
    ramp = torch.arange(50.0, dtype=torch.float64)[None, None]
    assert float(structure_function(ramp, 7, 3, grid, "field")) == pytest.approx(343.0)
    with pytest.raises(ValueError, match="choose field or velocity"):
        structure_function(ramp, 7, 3, grid, "speed")
    with pytest.raises(ValueError, match="velocity: the grid's spacing is unknown"):
        structure_function(ramp, 7, 3, grid)


def test_the_density_of_gaussian_increments_is_the_normal_one() -> None:
    noise = white(60, 1, 64, 64)
    centres, density = increment_pdf(noise, 3, PLANE, "field", bins=33)
    assert (density * (centres[1] - centres[0])).sum() == pytest.approx(1.0, abs=1e-6)
    inside = np.abs(centres) < 2.5
    normal = np.exp(-0.5 * centres**2) / np.sqrt(2 * np.pi)
    assert density[inside] == pytest.approx(normal[inside], rel=0.08)


def test_kurtosis_is_three_for_gaussian_fields_at_every_scale() -> None:
    power = torch.arange(1, PLANE.shells + 1, dtype=torch.float64) ** -4.0
    noise = gaussian_field(power, white(300, 64, 64, seed=2), PLANE)
    for zone in ZONES.names[1:]:
        assert value(structure.band_kurtosis(PLANE, ZONES, zone), noise, None) == pytest.approx(3.0, abs=0.1)
    assert value(structure.gradient_kurtosis(PLANE), noise, None) == pytest.approx(3.0, abs=0.25)
    assert value(structure.increment_kurtosis(PLANE, 2, "field"), white(100, 64, 64), None) == pytest.approx(3.0, abs=0.1)
    assert abs(value(structure.zone_flux(PLANE, ZONES, "DO"), noise, None)) < 1e-3


def test_kurtosis_by_hand_and_pooled_over_fields() -> None:
    """A share p of points +-a, the rest zero: kurtosis 1/p; fields of different p pool their moments."""
    fields = torch.zeros(2, 64, 64, dtype=torch.float64)
    teeth = torch.tensor([1.0, -1.0]).double()
    fields[0, ::4, :] = teeth.repeat(32)  # 1/4 of all points
    fields[1, ::16, :] = teeth.repeat(32)  # 1/16
    rows = structure.moments(fields)
    assert rows == pytest.approx(np.array([[1 / 4, 1 / 4], [1 / 16, 1 / 16]]))
    single = structure.kurtosis(rows, np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert single == pytest.approx([4.0, 16.0, 2 * (5 / 16) / (5 / 16) ** 2])


def test_patchy_fields_have_more_kurtosis_and_the_same_power() -> None:
    """Noise under a patchy envelope against phase-randomised copies: only the structure metrics tell."""
    envelope = (torch.rand(200, 8, 8, generator=torch.Generator().manual_seed(3)) < 0.15).double()
    patchy = white(200, 64, 64) * torch.nn.functional.interpolate(envelope[:, None], scale_factor=8)[:, 0]
    noise = gaussian_field(power_mean(patchy, PLANE).mean(0), white(200, 64, 64, seed=5), PLANE)
    metric = structure.band_kurtosis(PLANE, ZONES, "DD")
    assert value(metric, patchy, None) > 6.0
    assert value(metric, noise, None) == pytest.approx(3.0, abs=0.1)


def test_the_metric_of_s3_averages_separations_and_fields() -> None:
    w = torch.stack([triad(0.2)[0], triad(2.0)[0]])
    metric = structure.structure(PLANE, (4, 8), 3)
    expected = np.mean([float(structure_function(w[None, i : i + 1], r, 3, PLANE)) for i in (0, 1) for r in (4, 8)])
    assert value(metric, w, None) == pytest.approx(expected)
    assert metric.rows(samples(w), None).shape == (2, 1)


def test_flux_metric_is_the_mean_over_its_zone() -> None:
    w = torch.stack([triad(0.2)[0], triad(2.0)[0]])
    zones = Zones.of({"low": (2, 3), "high": (4, 9)})
    found = value(structure.zone_flux(PLANE, zones, "low"), w, None)
    assert abs(found) > 1.0
    assert found == pytest.approx(float(enstrophy_flux(w, PLANE)[:, 2:4].mean()))


def test_simulated_turbulence_has_positive_s3_and_carries_enstrophy_down() -> None:
    """Both signs are theory's for plane turbulence, and both turn with the sign of the stream function."""
    flow = Flow(size=64, seed=3)
    start = initial(flow, ["a", "b"])
    w = (
        torch.stack([fields for _, fields in simulate(flow, start, every=1.5, count=4, after=4.0)])
        .double()
        .flatten(0, 1)[:, None]
    )
    for r in (4, 8, 16):
        third = structure_function(w, r, 3, PLANE)
        assert third.mean() > 3 * third.std() / len(w) ** 0.5
    flux = enstrophy_flux(w, PLANE).mean((0, 1))
    assert (flux[3 : PLANE.k_max] > 0).all()
    assert value(structure.band_kurtosis(PLANE, ZONES, "DD"), w[:, 0], None) > 4.0
