"""Fields that have a spectrum and nothing else: what a claim about power alone cannot tell from the truth.

Both take white noise instead of drawing it: standard normal numbers shaped as the fields, from `Noise.normal` as a rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.physics.shells import SpectralGrid, coefficients, fields, filtered, invertible


def gaussian_field(power: Tensor, white: Tensor, grid: SpectralGrid) -> Tensor:
    """Gaussian random fields of a given expected spectrum: right power in every shell, kurtosis 3, no flux, S3 = 0.

    Args:
        power: mean power a mode (`power_mean`) of each shell, (shells,), or shaped to broadcast against white's leading axes.
        white: standard normal, (..., *shape).

    Returns:
        As white. The mean shell's power comes as a random mean; set power[0] = 0 and add the mean where it is known.
    """
    return filtered(white, (power * grid.points).clamp(min=0.0).sqrt(), grid)


def phase_randomised(field: Tensor, white: Tensor, grid: SpectralGrid) -> Tensor:
    """The same fields with every mode's phase replaced by that of white noise: each mode's power stays, and so does the mean.

    Axes with a DCT have signs for phases.

    Args:
        field, white: (..., *shape).

    Raises:
        ValueError: shapes that differ.
    """
    if field.shape != white.shape:
        raise ValueError(f"phase_randomised: noise of shape {tuple(white.shape)} for fields of {tuple(field.shape)}")
    plain = invertible(grid)
    c, n = coefficients(field, plain), coefficients(white, plain)
    phase = torch.sgn(n.to(c.dtype))
    phase[(..., *(0,) * grid.dims)] = torch.sgn(c[(..., *(0,) * grid.dims)])
    return fields(c.abs() * phase, plain)
