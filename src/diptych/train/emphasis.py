"""Spectral pre-emphasis: the filter an autoencoder sees its fields through, made from the training spectrum.

Each shell of wavenumbers is multiplied by Z(k)^(-a/2), Z the mean training power a mode: a = 0 leaves fields as they are, a = 1
whitens them. A plain squared error then weighs a shell by Z^(1-a). The log-spectral loss does not change under any such filter.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diptych.physics.shells import SpectralGrid, invertible, power_mean

FLOOR = 1e-9
"""Shells with less than this share of the largest shell's power are lifted as if they had it: they are rounding."""


def emphasis(fields: Tensor, grid: SpectralGrid, exponent: float, batch: int = 64) -> Tensor:
    """The filter, for `FieldAutoencoder.fit_scale`.

    Where the grid is dealiased, modes beyond `k_max` get 0: the data have none, so a decoder that makes some is wrong. The mean
    is treated as the first shell is.

    Args:
        fields: training fields, (B, C, *shape). grid: theirs. exponent: a, in [0, 2].

    Returns:
        (C, K...): the modes of `models.spectral_filter.modes`.

    Raises:
        ValueError: an exponent out of range, fields of another shape.
    """
    if not 0 <= exponent <= 2:
        raise ValueError(f"emphasis: exponent {exponent} is outside [0, 2]; 0 = none, 1 = every shell alike")
    plain = invertible(grid)
    parts = [power_mean(part.double(), plain).sum(0) for part in fields.split(batch)]
    power = torch.stack(parts).sum(0) / len(fields)
    power = power.clamp(min=FLOOR * power.amax(-1, keepdim=True))
    gain = power ** (-exponent / 2)
    gain[:, 0] = gain[:, 1]
    if grid.dealiased:
        gain[:, grid.k_max + 1 :] = 0
    return gain[:, torch.from_numpy(mirrored_shells(plain))].float()


def mirrored_shells(grid: SpectralGrid) -> np.ndarray:
    """The shell of every mode of a real transform of the field continued by its mirror image along axes without a period.

    Args:
        grid: with a DCT on such axes.
    """
    index = []
    last = len(grid.shape) - 1
    for axis, (n, wraps) in enumerate(zip(grid.shape, grid.wraps, strict=True)):
        wide = n if wraps else 2 * n
        waves = np.arange(wide // 2 + 1) if axis == last else np.abs(np.fft.fftfreq(wide, 1 / wide)).round().astype(int)
        if wraps and grid.spectral_shape[axis] == n and axis != last:
            waves = np.arange(n)
        # the mirror image has no mode at the very end
        index.append(waves if wraps else np.minimum(waves, n - 1))
    return grid.shell[np.ix_(*index)]
