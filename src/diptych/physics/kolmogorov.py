"""What is known of Kolmogorov flow: its budgets of energy and enstrophy, and the symmetries that its forcing leaves.

Of the equation in `navier_stokes`. Fields are (..., y, x).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.physics.navier_stokes import Flow
from diptych.physics.vorticity import gradient, velocity


def budget(flow: Flow, fields: Tensor) -> dict[str, Tensor]:
    """Terms of d energy/dt and d enstrophy/dt of vorticity fields (B, N, N), each (B,), averaged over the square, in float64.

    energy = <u^2 + v^2> / 2 and enstrophy = <w^2> / 2; each grows by its injection and shrinks by its viscous and its drag
    loss: 2 nu enstrophy and 2 alpha energy; nu <|grad w|^2> and 2 alpha enstrophy.
    """
    w = fields.double()
    (u, v), (down, across) = velocity(w, flow.grid), gradient(w, flow.grid)
    y = torch.arange(flow.size, dtype=w.dtype, device=w.device)[:, None] * (2 * math.pi / flow.size)
    push, k_f = flow.amplitude, flow.wavenumber
    energy, enstrophy = 0.5 * (u**2 + v**2).mean((-2, -1)), 0.5 * w.square().mean((-2, -1))
    return {
        "energy": energy,
        "energy_injection": (push * torch.sin(k_f * y) * u).mean((-2, -1)),
        "energy_viscous": 2 * flow.viscosity * enstrophy,
        "energy_drag": 2 * flow.drag * energy,
        "enstrophy": enstrophy,
        "enstrophy_injection": (-push * k_f * torch.cos(k_f * y) * w).mean((-2, -1)),
        "enstrophy_viscous": flow.viscosity * (down**2 + across**2).mean((-2, -1)),
        "enstrophy_drag": 2 * flow.drag * enstrophy,
    }


def moved(fields: Tensor, wavenumber: int, across: Tensor, along: Tensor, turned: Tensor) -> Tensor:
    """Vorticity fields under exact symmetries of the forced flow, one a field: again fields of the same flow.

    The forcing A sin(k_f y) is left as it is by any shift in x, by half periods pi / k_f in y together with the reflection
    x -> -x (which turns vorticity's sign), and by the turn (x, y) -> (-x, -y).

    Args:
        fields: (B, ..., N, N). wavenumber: k_f; N must be a multiple of 2 k_f.
        across: grid points along x, (B,) int. along: half periods along y, (B,) int; odd ones reflect.
        turned: (B,) bool.

    Raises:
        ValueError: half a period of the forcing is not a whole number of grid points.
    """
    size = fields.shape[-1]
    half, rest = divmod(size, 2 * wavenumber)
    if rest:
        raise ValueError(f"symmetries: a grid of {size} does not hold half periods of forcing {wavenumber} in whole points")
    device, lead = fields.device, (len(fields),) + (1,) * (fields.ndim - 3)
    across, along, turned = (one.to(device).reshape(-1, 1) for one in (across, along, turned))
    points = torch.arange(size, device=device)
    odd = along % 2 == 1
    rows = (torch.where(turned, -points, points) + half * along) % size
    columns = (torch.where(turned ^ odd, -points, points) + across) % size
    index = (rows[:, :, None] * size + columns[:, None, :]).reshape(*lead, -1).expand(*fields.shape[:-2], -1)
    picked = fields.flatten(-2).gather(-1, index).reshape(fields.shape)
    return picked * torch.where(odd, -1, 1).to(fields.dtype).reshape(*lead, 1, 1)


def moved_by_keys(fields: Tensor, wavenumber: int, keys: Tensor) -> Tensor:
    """`moved` by numbers of `train.Shuffled`'s augmentation: keys (B,) int64 >= 0, one random number a field."""
    size = fields.shape[-1]
    return moved(fields, wavenumber, keys // (4 * wavenumber) % size, keys // 2 % (2 * wavenumber), keys % 2 == 1)


def moved_at_random(fields: Tensor, wavenumber: int, generator: torch.Generator) -> Tensor:
    """`moved` by draws of a training loop's generator."""
    keys = torch.randint(2**62, (len(fields),), generator=generator, device=generator.device)
    return moved_by_keys(fields, wavenumber, keys)
