"""Where the tokens of an `I1` stand: a sine-cosine table on the image tokens, rotary angles on all.

Shape letters: B batch, N image tokens, L text tokens, S their sum, D channels of one head.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from diptych.models.blocks import rope_angles, sincos_2d


def spread(rows: int, columns: int, base: int) -> float:
    """What positions on a grid are multiplied by, so that pictures of all sizes span what one of base x base tokens does.

    256 / sqrt(height x width) in pixels, for the published networks' 16 pixels a token and base of 16.
    """
    return base / math.sqrt(rows * columns)


@lru_cache(maxsize=16)
def table(rows: int, columns: int, width: int, base: int, device: str) -> Tensor:
    """Fixed sine-cosine table of the image tokens, (N, width) float32."""
    return sincos_2d(rows, columns, width, spread(rows, columns, base)).to(device)


@lru_cache(maxsize=16)
def _grid(rows: int, columns: int, base: int) -> Tensor:
    """(row, column) of each image token, scaled, (N, 2) float64."""
    at = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([each.flatten() for each in at], dim=1).double() * spread(rows, columns, base)


@lru_cache(maxsize=16)
def image_turn(rows: int, columns: int, head: int, base: int, theta: float, device: str) -> Tensor:
    """Cosine and sine of (row, column) over half the head's channels each, (N, D/2, 2) float32: of the image tokens alone."""
    return _turn(rope_angles(_grid(rows, columns, base), (head // 2, head // 2), theta)).to(device)


@lru_cache(maxsize=16)
def _line(count: int, head: int, theta: float, device: str) -> Tensor:
    """Cosine and sine of positions 0 .. count - 1 over a quarter of the head's pairs, (count, D/4, 2) float32."""
    return _turn(rope_angles(torch.arange(count)[:, None], (head // 2,), theta)).to(device)


@lru_cache(maxsize=16)
def _plane(rows: int, columns: int, head: int, base: int, theta: float, device: str) -> Tensor:
    """Cosine and sine of (row, column) over a quarter of the head's channels each, (N, D/4, 2) float32."""
    return _turn(rope_angles(_grid(rows, columns, base), (head // 4, head // 4), theta)).to(device)


def joint_turn(mask_BL: Tensor, rows: int, columns: int, head: int, base: int, theta: float) -> Tensor:
    """Cosine and sine (B, S, D/2, 2) float32 of (text, row, column), image tokens first.

    The axes turn a half, a quarter and a quarter of a head's channels. A picture's tokens stand behind its text, at
    (number of text tokens, row, column); text token i at (i, 0, 0), padding at the origin.

    Args:
        mask_BL: True at text tokens.
        rows, columns: grid of image tokens.
    """
    device, (batch, longest) = str(mask_BL.device), mask_BL.shape
    line = _line(longest + 1, head, theta, device)
    plane = _plane(rows, columns, head, base, theta, device)
    behind = line[mask_BL.sum(1)][:, None].expand(-1, len(plane), -1, -1)
    image = torch.cat([behind, plane.expand(batch, -1, -1, -1)], dim=2)
    text = line[torch.arange(longest, device=mask_BL.device) * mask_BL]
    still = torch.zeros_like(text)
    still[..., 0] = 1.0
    return torch.cat([image, torch.cat([text, still], dim=2)], dim=1)


def _turn(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def turned(x_BLHD: Tensor, turn_BLD2: Tensor) -> Tensor:
    """Turn each interleaved pair of channels by its token's angle, in float32; returns x's own dtype.

    Args:
        x_BLHD: queries or keys.
        turn_BLD2: (B or 1, L, D/2, 2) cosine and sine.
    """
    pairs = x_BLHD.float().unflatten(-1, (-1, 2))
    if x_BLHD.device.type == "cpu":  # one pass; compilers of accelerators fuse the real products below, and no complex ones
        out = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turn_BLD2)[:, :, None])
    else:
        (even, odd), (cos, sin) = pairs.unbind(-1), turn_BLD2[:, :, None].unbind(-1)
        out = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return out.flatten(-2).to(x_BLHD.dtype)
