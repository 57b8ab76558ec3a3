"""Wavenumber shells of fields: the modes of a grid, which shell each lies in, and power summed or averaged over shells.

Coefficients are those of the Fourier series, so that the sum over all shells of `power_sum` is the mean square of the field
(Parseval). `power_sum` is what physics calls a spectrum; `power_mean` divides it by the number of modes of the shell, about
2 pi k in two dimensions. Ratios of two fields are the same in both. Arrays are ordered (..., y, x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diptych.physics.transforms import WINDOWS, dct, idct, window, without_slope

By = Literal["isotropic", "scaled", "y", "x"]
BYS = ("isotropic", "scaled", "y", "x")
TIE = 1e-9  # shells are k - 1/2 <= |k| < k + 1/2; a mode on the border goes up whatever the rounding


@dataclass(frozen=True)
class SpectralGrid:
    """Grid points of a field and the wavenumber shells of its modes.

    Shell j holds the modes with j - 1/2 <= |k| / dk < j + 1/2, dk = `width` times the smallest fundamental wavenumber of an
    axis. Without a spacing cells are square and the longest axis is 2 pi, so that wavenumbers count waves across it.

    Args:
        shape: (N,) or (H, W), at least 4 points an axis.
        spacing: distance of neighbouring points along each axis, in physical units; None = unknown.
        periodic: one answer for all axes, or one an axis.
        window: what hides the ends of axes that are not periodic: "hann", "tukey", or "dct" for their even extension.
        detrend: taken off before the window: "mean", or "plane" for the slopes along its axes as well. "dct" takes nothing off.
        dealiased: `k_max` by the 2/3 rule, (N - 1) // 3, instead of the Nyquist wavenumber.
        by: what shells measure: |k|; "scaled", where every axis reaches as far as the longest (ellipses in k, for anisotropic
            axes); "y" or "x", the wavenumber along one axis alone, averaged over the other.
        width: of a shell, in the smallest fundamental wavenumber, >= 1.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    periodic: bool | tuple[bool, ...] = True
    window: Literal["hann", "tukey", "dct"] = "hann"
    detrend: Literal["mean", "plane"] = "mean"
    dealiased: bool = False
    by: By = "isotropic"
    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if len(self.shape) not in (1, 2) or min(self.shape) < 4:
            raise ValueError(f"grid: shape {self.shape} is not (N,) or (H, W) with at least 4 points an axis")
        if self.spacing is not None:
            object.__setattr__(self, "spacing", tuple(float(h) for h in self.spacing))
            if len(self.spacing) != self.dims or not all(math.isfinite(h) and h > 0 for h in self.spacing):
                raise ValueError(f"grid: spacing {self.spacing} is not one positive number for each of {self.dims} axes")
        if not isinstance(self.periodic, bool):
            object.__setattr__(self, "periodic", tuple(bool(one) for one in self.periodic))
            if len(self.periodic) != self.dims:
                raise ValueError(f"grid: periodic {self.periodic} is not one answer for each of {self.dims} axes")
        if self.window not in (*WINDOWS[:-1], "dct"):
            raise ValueError(f"grid: window {self.window!r} is unknown; choose hann, tukey or dct")
        if self.detrend not in ("mean", "plane"):
            raise ValueError(f"grid: detrend {self.detrend!r} is unknown; choose mean or plane")
        if self.by not in BYS or (self.by == "y" and self.dims == 1):
            raise ValueError(f"grid: by={self.by!r} does not fit {self.dims} axes; choose from {', '.join(BYS)}")
        if not self.width >= 1:
            raise ValueError(f"grid: width {self.width:g} is below 1; narrower shells would be empty")

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def points(self) -> int:
        """Number of grid points."""
        return math.prod(self.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """The field's axes, from the end: (-2, -1) or (-1,)."""
        return tuple(range(-self.dims, 0))

    @cached_property
    def wraps(self) -> tuple[bool, ...]:
        """Whether each axis is periodic."""
        return (self.periodic,) * self.dims if isinstance(self.periodic, bool) else self.periodic

    @cached_property
    def lengths(self) -> tuple[float, ...]:
        """Length of each axis; the longest is 2 pi where the spacing is unknown."""
        spacing = self.spacing or (2.0 * math.pi / max(self.shape),) * self.dims
        return tuple(n * h for n, h in zip(self.shape, spacing))

    @cached_property
    def fourier(self) -> tuple[int, ...]:
        """Axes, from the end, with a Fourier transform, one-sided along the last of them; the others have a DCT."""
        return tuple(axis for axis, wraps in zip(self.axes, self.wraps) if wraps or self.window != "dct")

    @cached_property
    def windowed(self) -> tuple[int, ...]:
        """Axes, from the end, under a window."""
        return tuple(axis for axis, wraps in zip(self.axes, self.wraps) if not wraps and self.window != "dct")

    @cached_property
    def correction(self) -> float:
        """Mean square of the bare window, sum(w^2)/N over the field; power is divided by it. 1 without a window."""
        return math.prod(window(self.window, self.shape[axis])[1] for axis in self.windowed)

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """Waves along each axis of its modes, float, shaped to broadcast; halves occur with a DCT."""
        found = []
        for axis, size in zip(self.axes, self.shape):
            if axis not in self.fourier:
                waves = 0.5 * np.arange(size)
            elif axis == self.fourier[-1]:
                waves = np.arange(size // 2 + 1, dtype=float)
            else:
                waves = np.fft.fftfreq(size, 1.0 / size)
            found.append(waves.reshape([-1 if i == axis else 1 for i in self.axes]))
        return tuple(found)

    @cached_property
    def spectral_shape(self) -> tuple[int, ...]:
        """Shape of the coefficients of one field."""
        return tuple(one.size for one in self.modes)

    @cached_property
    def components(self) -> tuple[np.ndarray, ...]:
        """Wavenumber along each axis [rad per unit length], shaped to broadcast."""
        return tuple(2.0 * math.pi / length * one for one, length in zip(self.modes, self.lengths))

    @cached_property
    def magnitude(self) -> np.ndarray:
        """|k| of every mode [rad per unit length], `spectral_shape`."""
        return np.sqrt(sum(np.square(one) for one in self.components)) + np.zeros(self.spectral_shape)

    @cached_property
    def weight(self) -> np.ndarray:
        """How many modes of the two-sided spectrum a coefficient stands for: 1 or 2, `spectral_shape`."""
        out = np.ones(self.spectral_shape)
        if self.fourier:
            last = self.fourier[-1]
            waves = self.modes[last]
            out = out + ((waves > 0) & (2 * waves < self.shape[last]))
        return out

    @cached_property
    def _scales(self) -> tuple[float, ...]:
        """Shells per wave along each axis."""
        if self.by in ("y", "x"):
            measured = -2 if self.by == "y" else -1
            return tuple(1.0 / self.width if axis == measured else 0.0 for axis in self.axes)
        whole = self.shape if self.by == "scaled" else self.lengths
        return tuple(max(whole) / (one * self.width) for one in whole)

    @cached_property
    def shell(self) -> np.ndarray:
        """Shell of every mode, int64, `spectral_shape`."""
        radius = np.sqrt(sum(np.square(scale * one) for scale, one in zip(self._scales, self.modes)))
        return np.floor(radius + (0.5 + TIE) + np.zeros(self.spectral_shape)).astype(np.int64)

    @cached_property
    def shells(self) -> int:
        """Number of shells, the one of the mean included; those beyond `k_max` are incomplete, yet hold power."""
        return int(self.shell.max()) + 1

    @cached_property
    def counts(self) -> np.ndarray:
        """Modes of the two-sided spectrum in each shell, (shells,)."""
        return np.bincount(self.shell.ravel(), self.weight.ravel(), self.shells)

    @cached_property
    def k_max(self) -> int:
        """The last shell that every axis resolves: its Nyquist wavenumber, or by the 2/3 rule."""
        waves = [(n - 1) // 3 if self.dealiased else n / 2 for n in self.shape]
        return math.floor(min(scale * m for scale, m in zip(self._scales, waves) if scale) + TIE)

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """Wavenumber of each shell's middle, (shells,): [rad per unit length], or waves where the spacing is unknown.

        For by="scaled" the count of waves along the longest axis.
        """
        length = self.lengths[-2 if self.by == "y" else -1] if self.by in ("y", "x") else max(self.lengths)
        step = self.width if self.by == "scaled" else 2.0 * math.pi * self.width / length
        return step * np.arange(self.shells)

    def check(self, field: Tensor, name: str = "field") -> None:
        """Complain about fields of another shape.

        Raises:
            ValueError: naming both shapes.
        """
        if tuple(field.shape[-self.dims :]) != self.shape:
            raise ValueError(f"{name}: shape {tuple(field.shape)} does not end in the grid's {self.shape}")

    def units(self, purpose: str) -> None:
        """Complain where units are asked for and the spacing is unknown.

        Raises:
            ValueError: there is no spacing.
        """
        if self.spacing is None:
            raise ValueError(
                f"{purpose}: the grid's spacing is unknown; give SpectralGrid(shape, spacing=...) in physical units"
            )


@dataclass(frozen=True)
class Tables:
    """A grid's constants as tensors.

    shell: of each mode, (modes,) int64. weight: `spectral_shape`. counts: (shells,). window: the product of the axes' scaled
    windows, `shape` or broadcast to it.
    """

    shell: Tensor
    weight: Tensor
    counts: Tensor
    window: Tensor


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is made while sampling must serve training too
def tables(grid: SpectralGrid, device: torch.device, dtype: torch.dtype) -> Tables:
    """The constants of a grid on a device, made once."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    product = np.ones((1,) * grid.dims)
    for axis in grid.windowed:
        product = product * window(grid.window, grid.shape[axis])[0].reshape([-1 if i == axis else 1 for i in grid.axes])
    shell = torch.as_tensor(grid.shell.ravel(), device=device)
    return Tables(shell, tensor(grid.weight), tensor(grid.counts), tensor(product))


def coefficients(field: Tensor, grid: SpectralGrid) -> Tensor:
    """Series coefficients of fields, windows and trends seen to; complex, or real where every axis has a DCT.

    Args:
        field: (..., *shape), real; half precision is raised to float32.

    Returns:
        (..., *spectral_shape); `weight` times their squared size sums to the mean square of the (windowed) field.

    Raises:
        ValueError: fields of another shape.
    """
    grid.check(field)
    x = field if field.dtype in (torch.float32, torch.float64) else field.float()
    if grid.windowed:
        if grid.detrend == "plane":
            x = without_slope(x, grid.windowed, grid.dims)
        hidden = tables(grid, x.device, x.dtype).window
        x = hidden * (x - (hidden * x).mean(grid.axes, keepdim=True) / hidden.mean())
    for axis in grid.axes:
        if axis not in grid.fourier:
            x = dct(x, axis) / math.sqrt(grid.shape[axis])
    return torch.fft.rfftn(x, dim=grid.fourier, norm="forward") if grid.fourier else x


def fields(coefficient: Tensor, grid: SpectralGrid) -> Tensor:
    """Fields of coefficients, the inverse of `coefficients`: (..., *spectral_shape) -> (..., *shape).

    Raises:
        ValueError: a grid with a window, which cannot be undone; take `invertible(grid)`.
    """
    if grid.windowed:
        raise ValueError("fields: a window cannot be undone; take invertible(grid), whose axes without periods have a DCT")
    x = coefficient
    if grid.fourier:
        x = torch.fft.irfftn(x, s=[grid.shape[axis] for axis in grid.fourier], dim=grid.fourier, norm="forward")
    for axis in grid.axes:
        if axis not in grid.fourier:
            x = idct(x * math.sqrt(grid.shape[axis]), axis)
    return x


def invertible(grid: SpectralGrid) -> SpectralGrid:
    """The grid with a DCT where it had a window, so that filters apply; same shells, of which the last may be missing."""
    return SpectralGrid(grid.shape, grid.spacing, grid.periodic, "dct", grid.detrend, grid.dealiased, grid.by, grid.width)


def filtered(field: Tensor, gain: Tensor, grid: SpectralGrid) -> Tensor:
    """Fields whose modes are multiplied by their shell's gain; axes that are not periodic are extended evenly.

    Args:
        field: (..., *shape). gain: (shells,), or (..., shells) to broadcast; shells past its end are set to zero.

    Raises:
        ValueError: fields of another shape, or more gains than shells.
    """
    if gain.shape[-1] > grid.shells:
        raise ValueError(f"filter: {gain.shape[-1]} gains for {grid.shells} shells of the grid {grid.shape}")
    plain = invertible(grid)
    c = coefficients(field, plain)
    return fields(c * over_modes(gain[..., : plain.shells].to(c.real.dtype), plain), plain)


def band(field: Tensor, edges: tuple[int, int], grid: SpectralGrid) -> Tensor:
    """The part of fields (..., *shape) that lies in the shells `edges`, both included."""
    gain = torch.zeros(edges[1] + 1, device=field.device)
    gain[edges[0] :] = 1.0
    return filtered(field, gain, grid)


def over_modes(per_shell: Tensor, grid: SpectralGrid) -> Tensor:
    """A value a shell at each of its modes: (..., up to shells) -> (..., *spectral_shape); zero for shells past its end."""
    per_shell = torch.nn.functional.pad(per_shell, (0, grid.shells - per_shell.shape[-1]))
    shell = tables(grid, per_shell.device, per_shell.dtype).shell
    return per_shell[..., shell].unflatten(-1, grid.spectral_shape)


def shell_sum(values: Tensor, grid: SpectralGrid) -> Tensor:
    """Sum over the two-sided modes of each shell: real (..., *spectral_shape) -> (..., shells). Differentiable."""
    held = tables(grid, values.device, values.dtype)
    flat = (values * held.weight).flatten(-grid.dims)
    out = torch.zeros((*flat.shape[:-1], grid.shells), dtype=flat.dtype, device=flat.device)
    return out.index_add(-1, held.shell, flat)


def mode_power(coefficient: Tensor) -> Tensor:
    """Squared size of coefficients, real; its gradient at zero is zero."""
    if not coefficient.is_complex():
        return coefficient.square()
    return coefficient.real.square() + coefficient.imag.square()


def power_sum(field: Tensor, grid: SpectralGrid) -> Tensor:
    """Power of each shell, summed over its modes: (..., *shape) -> (..., shells); all shells add up to the mean square."""
    return shell_sum(mode_power(coefficients(field, grid)), grid)


def power_mean(field: Tensor, grid: SpectralGrid) -> Tensor:
    """Power of each shell, averaged over its modes: (..., *shape) -> (..., shells)."""
    power = power_sum(field, grid)
    return power / tables(grid, power.device, power.dtype).counts.clamp(min=1.0)
