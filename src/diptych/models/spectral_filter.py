"""Linear filters of fields in wavenumber space: the spectral pre-emphasis of an autoencoder, its inverse, a projection.

Periodic axes use the Fourier transform. The others are continued by their mirror image about the edge (half a sample out),
which makes the transform a cosine transform of type II: no jump at the edge, and the filter stays exactly invertible.

Shape letters: B batch, C channels, N... the grid, K... the grid of wavenumbers (`modes`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def extend(x: Tensor, periodic: Sequence[bool]) -> Tensor:
    """(B, C, N...) with the mirror image appended along the axes that are not periodic."""
    for axis, wraps in enumerate(periodic):
        if not wraps:
            x = torch.cat([x, x.flip(2 + axis)], dim=2 + axis)
    return x


def extended_shape(shape: Sequence[int], periodic: Sequence[bool]) -> tuple[int, ...]:
    """The grid that `extend` makes."""
    return tuple(n if wraps else 2 * n for n, wraps in zip(shape, periodic, strict=True))


def modes(shape: Sequence[int], periodic: Sequence[bool]) -> tuple[int, ...]:
    """Shape of the coefficients: that of a real transform of the extended grid."""
    wide = extended_shape(shape, periodic)
    return (*wide[:-1], wide[-1] // 2 + 1)


def filtered(x: Tensor, gain: Tensor, periodic: Sequence[bool]) -> Tensor:
    """Multiply every mode of a field by a real number.

    Args:
        x: (B, C, N...).
        gain: (C or 1, K...), real; it must be the same for wavevectors that differ in sign along a mirrored axis.

    Returns:
        (B, C, N...) in x's dtype; computed in float32 at least.
    """
    wide = extend(x.to(torch.promote_types(x.dtype, torch.float32)), periodic)
    dims = tuple(range(2, x.ndim))
    back = torch.fft.irfftn(torch.fft.rfftn(wide, dim=dims) * gain, s=wide.shape[2:], dim=dims)
    return back[(..., *(slice(n) for n in x.shape[2:]))].to(x.dtype)


def inverse(gain: Tensor) -> Tensor:
    """The filter that undoes another on all modes it keeps; modes of gain 0 stay 0."""
    return torch.where(gain == 0, torch.zeros_like(gain), 1 / torch.where(gain == 0, torch.ones_like(gain), gain))
