"""Transforms of fields along axes that do not wrap around: windows with their correction, DCT-II, trends, tapered masks.

A Fourier transform takes its input for periodic; the jump between the ends of any other field shows as a tail k^-2 of power
that is not in the data. A window hides the ends, the even extension of the DCT joins them. Only the latter can be inverted.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

WINDOWS = ("hann", "tukey", "none")
TUKEY_SHARE = 0.5  # of the axis lies under the two cosine flanks


def window(name: str, size: int) -> tuple[np.ndarray, float]:
    """A window scaled to mean square one, and its correction factor: the mean square it had before, sum(w^2)/N.

    Power spectra of white noise under the scaled window have the right level. Both windows are periodic ones (the last value is
    not the first again), of Harris 1978.

    Args:
        name: of `WINDOWS`. size: N.

    Returns:
        w: (N,). correction: 3/8 for Hann, 11/16 for Tukey with half its length under the flanks, 1 for none.

    Raises:
        ValueError: another name.
    """
    place = np.arange(size) / size
    if name == "none":
        bare = np.ones(size)
    elif name == "hann":
        bare = 0.5 - 0.5 * np.cos(2.0 * np.pi * place)
    elif name == "tukey":
        edge = np.minimum(place, 1.0 - place)
        bare = np.where(edge < TUKEY_SHARE / 2, 0.5 - 0.5 * np.cos(2.0 * np.pi * edge / TUKEY_SHARE), 1.0)
    else:
        raise ValueError(f"window {name!r} is unknown; choose from {', '.join(WINDOWS)}")
    correction = float(np.mean(bare**2))
    return bare / math.sqrt(correction), correction


def _turn(size: int, like: Tensor) -> Tensor:
    angle = -0.5 * math.pi / size * torch.arange(size, device=like.device, dtype=like.dtype)
    return torch.polar(torch.ones_like(angle), angle)


def dct(x: Tensor, dim: int) -> Tensor:
    """Orthonormal DCT-II along an axis by one FFT of the same length (Makhoul 1980)."""
    x = x.movedim(dim, -1)
    size = x.shape[-1]
    folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    turned = (torch.fft.fft(folded) * _turn(size, x)).real * math.sqrt(2.0 / size)
    return torch.cat([turned[..., :1] * math.sqrt(0.5), turned[..., 1:]], dim=-1).movedim(-1, dim)


def idct(x: Tensor, dim: int) -> Tensor:
    """Inverse of `dct`: the orthonormal DCT-III."""
    x = x.movedim(dim, -1)
    size = x.shape[-1]
    x = torch.cat([x[..., :1] * math.sqrt(2.0), x[..., 1:]], dim=-1) * math.sqrt(size / 2.0)
    mirrored = torch.cat([torch.zeros_like(x[..., :1]), x[..., 1:].flip(-1)], dim=-1)
    folded = torch.fft.ifft(torch.complex(x, -mirrored) * _turn(size, x).conj()).real
    half = (size + 1) // 2
    out = torch.empty_like(folded)
    out[..., ::2], out[..., 1::2] = folded[..., :half], folded[..., half:].flip(-1)
    return out.movedim(-1, dim)


def without_slope(x: Tensor, axes: tuple[int, ...], dims: int) -> Tensor:
    """Fields minus their least-squares slope along some axes; the mean stays.

    Args:
        x: (..., n_1, .., n_dims). axes: counted from the end (-1 is the last).
    """
    field = tuple(range(-dims, 0))
    for axis in axes:
        size = x.shape[axis]
        place = torch.arange(size, device=x.device, dtype=x.dtype) - 0.5 * (size - 1)
        place = place.view([size if i == axis else 1 for i in field])
        slope = (x * place).mean(field, keepdim=True) * (12.0 / (size**2 - 1.0))
        x = x - slope * place
    return x


def tapered(mask: np.ndarray, cells: float) -> np.ndarray:
    """A mask of known cells with cosine edges: 0 where data are missing, 1 from `cells` cells away, in between smooth.

    Multiply prediction and truth by it and compare masked spectra only; those of a masked and a whole field differ.

    Args:
        mask: True where data are known; beyond the array's edge counts as known. cells: width of the edge, > 0.

    Raises:
        ValueError: a mask that knows nothing.
    """
    known = np.asarray(mask, dtype=bool)
    if not known.any():
        raise ValueError("mask: no cell is known; a mask is True where there are data")
    if known.all():
        return np.ones(known.shape)
    away = np.minimum(np.asarray(ndimage.distance_transform_edt(known)) / cells, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * away)
