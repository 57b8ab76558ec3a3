"""Vorticity of plane flow: its velocity, its curl, gradients, energy and enstrophy spectra, and the flux between scales.

Arrays are (..., y, x). With the stream function psi: w = -lap(psi), u = d psi / dy, v = -d psi / dx, so that dv/dx - du/dy = w.
The other sign of psi turns the sign of every odd moment of velocity differences, S3 among them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diptych.physics.shells import SpectralGrid, coefficients, fields, mode_power, power_sum, shell_sum


def _wraps(grid: SpectralGrid, purpose: str) -> None:
    grid.units(purpose)
    if grid.dims != 2 or not all(grid.wraps):
        raise ValueError(f"{purpose}: needs a periodic two-dimensional grid; this one is {grid.shape}, periodic {grid.wraps}")


def _components(grid: SpectralGrid, like: Tensor) -> tuple[Tensor, Tensor]:
    """(k_y, k_x) as tensors; 0 at the Nyquist wavenumber, where the derivative of a real field is not defined."""
    out = [np.where(2 * np.abs(waves) == n, 0.0, k) for waves, k, n in zip(grid.modes, grid.components, grid.shape)]
    return torch.as_tensor(out[0]).to(like), torch.as_tensor(out[1]).to(like)


def _inverse_square(grid: SpectralGrid, like: Tensor) -> Tensor:
    """1 / k^2, and 0 at the mean and at the Nyquist wavenumbers."""
    inside = [2 * np.abs(waves) < n for waves, n in zip(grid.modes, grid.shape)]
    k2 = grid.magnitude**2 * (inside[0] & inside[1])
    return torch.as_tensor(np.where(k2 > 0, 1.0 / np.where(k2 > 0, k2, 1.0), 0.0)).to(like)


def velocity(w: Tensor, grid: SpectralGrid) -> tuple[Tensor, Tensor]:
    """Velocity (u along x, v along y) of vorticity, without a mean flow; w_hat / k^2 is psi_hat.

    Args:
        w: (..., H, W); its mean has no velocity on a periodic plane and is left out, as are modes at the Nyquist wavenumber.

    Raises:
        ValueError: unknown spacing, or a grid that is not a periodic plane.
    """
    _wraps(grid, "velocity")
    c = coefficients(w, grid)
    ky, kx = _components(grid, c.real)
    psi = c * _inverse_square(grid, c.real)
    return fields(1j * ky * psi, grid), fields(-1j * kx * psi, grid)


def curl(u: Tensor, v: Tensor, grid: SpectralGrid) -> Tensor:
    """Vorticity dv/dx - du/dy of a velocity field, (..., H, W)."""
    _wraps(grid, "curl")
    uc, vc = coefficients(u, grid), coefficients(v, grid)
    ky, kx = _components(grid, uc.real)
    return fields(1j * (kx * vc - ky * uc), grid)


def gradient(field: Tensor, grid: SpectralGrid) -> tuple[Tensor, Tensor]:
    """(d/dy, d/dx) of a periodic field by its series, (..., H, W) each."""
    _wraps(grid, "gradient")
    c = coefficients(field, grid)
    ky, kx = _components(grid, c.real)
    return fields(1j * ky * c, grid), fields(1j * kx * c, grid)


def enstrophy_spectrum(w: Tensor, grid: SpectralGrid) -> Tensor:
    """Enstrophy of each shell, (..., shells): 1/2 sum |w_hat|^2, which adds up to 1/2 mean(w^2)."""
    return 0.5 * power_sum(w, grid)


def energy_spectrum(w: Tensor, grid: SpectralGrid) -> Tensor:
    """Kinetic energy of each shell, (..., shells): 1/2 sum |w_hat|^2 / k^2, which adds up to 1/2 mean(u^2 + v^2) of `velocity`.

    Raises:
        ValueError: unknown spacing, or a grid that is not a periodic plane.
    """
    _wraps(grid, "energy spectrum")
    power = mode_power(coefficients(w, grid))
    return 0.5 * shell_sum(power * _inverse_square(grid, power), grid)


def enstrophy_flux(w: Tensor, grid: SpectralGrid) -> Tensor:
    """Enstrophy that advection carries past each shell towards smaller scales, (..., shells) [vorticity^2 / time].

    Pi(k) = sum over shells up to k of Re(conj(w_hat) (u . grad w)_hat), the product without aliases by the 3/2 rule; the last
    shell's is zero because advection conserves enstrophy. Positive = to smaller scales. After Frisch 1995, section 2.4.

    Args:
        w: (..., H, W).

    Raises:
        ValueError: unknown spacing, or a grid that is not a periodic plane.
    """
    _wraps(grid, "enstrophy flux")
    shape = tuple(2 * (3 * n // 4 + 1) for n in grid.shape)
    fine = SpectralGrid(shape, tuple(length / n for length, n in zip(grid.lengths, shape)))
    c = coefficients(w, grid)
    wide = fields(_padded(c, grid, fine), fine)
    u, v = velocity(wide, fine)
    dy, dx = gradient(wide, fine)
    carried = _cut(coefficients(u * dx + v * dy, fine), grid, fine)
    transfer = c.real * carried.real + c.imag * carried.imag
    return shell_sum(transfer, grid).cumsum(-1)


def _kept(grid: SpectralGrid) -> tuple[int, int, int]:
    """Rows from the front, rows from the back and columns below the Nyquist wavenumber."""
    rows, columns = grid.shape
    return (rows + 1) // 2, (rows - 1) // 2, (columns + 1) // 2


def _padded(c: Tensor, grid: SpectralGrid, fine: SpectralGrid) -> Tensor:
    front, back, columns = _kept(grid)
    out = c.new_zeros((*c.shape[:-2], *fine.spectral_shape))
    out[..., :front, :columns] = c[..., :front, :columns]
    out[..., -back:, :columns] = c[..., -back:, :columns]
    return out


def _cut(c: Tensor, grid: SpectralGrid, fine: SpectralGrid) -> Tensor:
    front, back, columns = _kept(grid)
    out = c.new_zeros((*c.shape[:-2], *grid.spectral_shape))
    out[..., :front, :columns] = c[..., :front, :columns]
    out[..., -back:, :columns] = c[..., -back:, :columns]
    return out
