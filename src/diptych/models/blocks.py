"""What every network here is made of: norms, gated MLPs, positions in space, text and time, patches, attention.

Shape letters: B batch, C channels, H heads (or height, next to W width, in pictures), L tokens, D channels of one head,
W channels of a token, N image tokens. A suffix names the axes in order: q_BLHD is (batch, tokens, heads, head channels).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32 whatever comes in (Zhang & Sennrich 2019, eq. 4).

    Args:
        width: length of the last axis.
        eps: added to the mean square.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class SwiGLU(nn.Module):
    """w3(silu(gate) * value), gate and value the halves of w12(x) (Shazeer 2020, section 2).

    Args:
        width: channels in and out.
        hidden: inner width, of the gate and of the value each.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


def sincos(positions: Tensor, width: int, theta: float = 10000.0) -> Tensor:
    """Sine and cosine features of real positions (Vaswani et al. 2017, section 3.5).

    Args:
        positions: (n,), any unit.
        width: features, even; [sin of width/2 frequencies, cos of the same], frequency k being theta^(-2k/width).
        theta: ratio of the fastest to the slowest frequency, roughly.

    Returns:
        (n, width) float32, computed in float64.
    """
    frequencies = theta ** (-torch.arange(width // 2, dtype=torch.float64, device=positions.device) / (width // 2))
    angles = positions.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def sincos_2d(rows: int, columns: int, width: int, scale: float = 1.0) -> Tensor:
    """Fixed 2-D position table: the first half of the channels encodes the column, the second the row (MAE order).

    Args:
        rows, columns: grid of tokens, read row by row.
        width: channels, divisible by 4.
        scale: multiplies the grid index (256 / resolution keeps a larger picture in the range of a small one).

    Returns:
        (rows * columns, width) float32.
    """
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([sincos(at.flatten() * scale, width // 2) for at in (column, row)], dim=1)


class TimeEmbedding(nn.Module):
    """Time in [0, 1] -> sine and cosine features of 1000 t -> Linear, SiLU, Linear (Peebles & Xie 2023).

    Args:
        width: channels out.
        features: sine and cosine features, even.
    """

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        self.features = features
        self.linear1 = nn.Linear(features, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        return self.linear2(F.silu(self.linear1(sincos(1000.0 * t, self.features))))


def rope_angles(positions: Tensor, widths: tuple[int, ...], theta: float = 10000.0) -> Tensor:
    """Rotation angles of multi-axis rotary positions (Su et al. 2021, eq. 15, one band of channels an axis).

    Args:
        positions: (n, axes) real positions, e.g. (text, row, column).
        widths: even number of head channels each axis turns; they sum to the head width.
        theta: base of the frequencies.

    Returns:
        (n, sum(widths) / 2) angles in radians, float64, one for each interleaved pair of channels (2i, 2i + 1).
    """
    bands = []
    for axis, width in enumerate(widths):
        frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        bands.append(positions[:, axis].double()[:, None] * frequencies)
    return torch.cat(bands, dim=1)


def rope(x_BLHD: Tensor, turn_LD2: Tensor) -> Tensor:
    """Turn each interleaved pair of channels by its token's angle.

    Args:
        x_BLHD: queries or keys.
        turn_LD2: (L, D/2, 2) cosine and sine of the angles of `rope_angles`, float32.

    Returns:
        x_BLHD turned, in its own dtype; the rotation itself is done in float32.
    """
    pairs = torch.view_as_complex(x_BLHD.float().unflatten(-1, (-1, 2)))
    turned = pairs * torch.view_as_complex(turn_LD2)[:, None]
    return torch.view_as_real(turned).flatten(-2).to(x_BLHD.dtype)


def attention(q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, keep_BL: Tensor | None) -> Tensor:
    """Scaled dot-product attention.

    Args:
        q_BLHD: queries; their L may differ from that of the keys.
        k_BLHD, v_BLHD: keys and values.
        keep_BL: bool, False keys are not seen; None sees all (and takes the faster kernel).

    Returns:
        (B, L of the queries, H * D).
    """
    q, k, v = (x.transpose(1, 2) for x in (q_BLHD, k_BLHD, v_BLHD))
    mask = None if keep_BL is None else keep_BL[:, None, None, :]
    if v.device.type == "cpu" and v.dtype == torch.bfloat16 and k.shape[2] <= 512:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # torch's fused bfloat16 kernel is 3 times slower there
        mixed = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, H/p * W/p, p * p * C): patches row by row, inside a patch (dy, dx, channel), channel fastest."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // patch) * (w // patch), patch * patch * c)


def unpatchify(x_BNW: Tensor, patch: int, rows: int, columns: int) -> Tensor:
    """The inverse of `patchify` for a grid of rows x columns patches."""
    b, _, w = x_BNW.shape
    x = x_BNW.reshape(b, rows, columns, patch, patch, w // patch**2)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(b, w // patch**2, rows * patch, columns * patch)


def init_weight(layer: nn.Linear | nn.Conv2d, generator: torch.Generator, gain: float = 1.0) -> None:
    """Truncated normal of standard deviation gain / sqrt(fan in), cut at two of its own deviations; bias 0."""
    std = gain / math.sqrt(layer.weight[0].numel()) / 0.8796
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
