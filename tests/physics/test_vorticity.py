"""Velocity, spectra and flux of vorticity against a stream function known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.physics.shells import SpectralGrid, band, coefficients, fields
from diptych.physics.vorticity import curl, energy_spectrum, enstrophy_flux, enstrophy_spectrum, gradient, velocity

GRID = SpectralGrid((48, 32), (0.2, 0.3))
TRIAD = ((3, 1, 1.0, 0.4), (-1, 2, 0.7, 1.9), (-2, -3, 0.5, 0.3))  # waves along y and x, amplitude, phase; they add up to zero


def closed_form(grid: SpectralGrid) -> tuple[Tensor, Tensor, Tensor]:
    """(vorticity, u, v) of psi = sum a cos(ky y + kx x + phase), differentiated by hand."""
    y, x = (torch.arange(n, dtype=torch.float64) * length / n for n, length in zip(grid.shape, grid.lengths))
    w, u, v = (torch.zeros(grid.shape, dtype=torch.float64) for _ in range(3))
    for my, mx, a, phase in TRIAD:
        ky, kx = 2 * math.pi * my / grid.lengths[0], 2 * math.pi * mx / grid.lengths[1]
        angle = ky * y[:, None] + kx * x + phase
        w += a * (ky**2 + kx**2) * torch.cos(angle)  # -lap psi
        u += -a * ky * torch.sin(angle)  # d psi / dy
        v += a * kx * torch.sin(angle)  # -d psi / dx
    return w, u, v


def noise(grid: SpectralGrid, last: int) -> Tensor:
    x = torch.randn(2, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return band(x, (1, last), grid)


def test_velocity_of_a_stream_function_known_in_closed_form() -> None:
    w, u, v = closed_form(GRID)
    found = velocity(w, GRID)
    assert found[0].numpy() == pytest.approx(u.numpy(), abs=1e-12)
    assert found[1].numpy() == pytest.approx(v.numpy(), abs=1e-12)


def test_curl_of_the_velocity_is_the_vorticity() -> None:
    w = noise(GRID, 9)
    u, v = velocity(w, GRID)
    assert curl(u, v, GRID).numpy() == pytest.approx(w.numpy(), abs=1e-12)
    divergence = gradient(v, GRID)[0] + gradient(u, GRID)[1]
    assert divergence.abs().max() < 1e-12


def test_spectra_add_up_to_enstrophy_and_energy() -> None:
    w = noise(GRID, 9)
    u, v = velocity(w, GRID)
    assert enstrophy_spectrum(w, GRID).sum(-1).numpy() == pytest.approx(0.5 * w.square().mean((1, 2)).numpy())
    energy = 0.5 * (u.square() + v.square()).mean((1, 2))
    assert energy_spectrum(w, GRID).sum(-1).numpy() == pytest.approx(energy.numpy())


def test_white_noise_keeps_these_sums_with_nyquist_modes_left_out_of_the_flow() -> None:
    grid = SpectralGrid((16, 16), (1.0, 1.0))
    w = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    u, v = velocity(w, grid)
    assert float(energy_spectrum(w, grid).sum()) == pytest.approx(float(0.5 * (u.square() + v.square()).mean()))
    assert float(enstrophy_spectrum(w, grid).sum()) == pytest.approx(float(0.5 * w.square().mean()))


def test_flux_is_what_advection_takes_from_the_larger_scales() -> None:
    """Against one explicit Euler step of dw/dt = -u . grad w on a grid so fine that no product aliases."""
    fine = SpectralGrid((96, 64), (0.1, 0.15))
    w, u, v = closed_form(fine)
    dy, dx = gradient(w, fine)
    dt = 1e-6
    later = w - dt * (u * dx + v * dy)
    lost = (enstrophy_spectrum(w, fine) - enstrophy_spectrum(later, fine)).cumsum(-1) / dt
    flux = enstrophy_flux(closed_form(GRID)[0], GRID)
    assert flux.abs().max() > 1e-2
    assert flux[: GRID.k_max].numpy() == pytest.approx(lost[: GRID.k_max].numpy(), abs=1e-4)


def test_flux_conserves_and_changes_sign_with_the_vorticity() -> None:
    grid = SpectralGrid((24, 24), (0.3, 0.3))
    w = noise(grid, 11)
    flux = enstrophy_flux(w, grid)
    assert (flux[..., -1].abs() / flux.abs().amax(-1)).max() < 1e-12  # the band reaches the grid's end: no aliases
    assert enstrophy_flux(-w, grid).numpy() == pytest.approx(-flux.numpy())
    turned = torch.rot90(w, 1, (-2, -1))
    assert enstrophy_flux(turned, grid).numpy() == pytest.approx(flux.numpy(), abs=1e-12)


def test_what_is_no_periodic_plane_with_units_is_refused() -> None:
    w = torch.zeros(8, 8)
    with pytest.raises(ValueError, match="velocity: the grid's spacing is unknown"):
        velocity(w, SpectralGrid((8, 8)))
    with pytest.raises(ValueError, match="energy spectrum: needs a periodic two-dimensional grid"):
        energy_spectrum(w, SpectralGrid((8, 8), (1.0, 1.0), periodic=(True, False)))
    with pytest.raises(ValueError, match="enstrophy flux: needs a periodic two-dimensional grid"):
        enstrophy_flux(torch.zeros(8), SpectralGrid((8,), (1.0,)))


def test_derivatives_are_exact_for_waves_and_none_at_the_nyquist_wavenumber() -> None:
    grid = SpectralGrid((16, 16), (2 * np.pi / 16,) * 2)
    x = torch.arange(16, dtype=torch.float64) * 2 * np.pi / 16
    field = torch.sin(3 * x)[:, None] * torch.cos(2 * x)
    dy, dx = gradient(field, grid)
    assert dy.numpy() == pytest.approx((3 * torch.cos(3 * x)[:, None] * torch.cos(2 * x)).numpy(), abs=1e-12)
    assert dx.numpy() == pytest.approx((-2 * torch.sin(3 * x)[:, None] * torch.sin(2 * x)).numpy(), abs=1e-12)
    teeth = torch.cos(8 * x).expand(16, 16)
    assert gradient(teeth, grid)[1].abs().max() < 1e-12
    assert fields(coefficients(teeth, grid), grid).numpy() == pytest.approx(teeth.numpy())
