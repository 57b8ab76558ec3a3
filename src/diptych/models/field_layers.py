"""Layers of networks on fields: convolutions that know which axes are periodic, folding, residual blocks.

Shape letters: B batch, C channels, N... one or two axes of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


def pad(x: Tensor, width: int, periodic: Sequence[bool]) -> Tensor:
    """`width` points more on every side: wrapped on periodic axes, mirrored about the edge point on the others.

    Args:
        x: (B, C, N...). periodic: one flag an axis of the grid.
    """
    if all(periodic):
        return F.pad(x, [width] * 2 * len(periodic), mode="circular")
    if not any(periodic):
        return F.pad(x, [width] * 2 * len(periodic), mode="reflect")
    for axis, wraps in enumerate(periodic):
        sides = [0] * 2 * len(periodic)
        place = 2 * (len(periodic) - 1 - axis)
        sides[place : place + 2] = [width, width]
        x = F.pad(x, sides, mode="circular" if wraps else "reflect")
    return x


class FieldConv(nn.Module):
    """A convolution of odd side that keeps the grid (or divides it by `stride`), padded as the axes ask.

    Args:
        inputs, outputs: channels. periodic: one flag an axis of the grid. side: of the kernel. stride: of its steps.
    """

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool], side: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = CONV[len(periodic)](inputs, outputs, side, stride=stride)
        self.periodic, self.width = tuple(periodic), side // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, self.width, self.periodic) if self.width else x)


def fold(x: Tensor, side: int) -> Tensor:
    """Space to channels: (B, C, N...) -> (B, C * side^d, N / side...)."""
    if x.ndim == 4:
        return F.pixel_unshuffle(x, side)
    b, c, n = x.shape
    return x.reshape(b, c, n // side, side).movedim(3, 2).reshape(b, c * side, n // side)


def unfold(x: Tensor, side: int) -> Tensor:
    """The inverse of `fold`."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, side)
    b, c, n = x.shape
    return x.reshape(b, c // side, side, n).movedim(2, 3).reshape(b, c // side, n * side)


class Folding(nn.Module):
    """`fold` as a layer, or `unfold` where `back`."""

    def __init__(self, side: int, back: bool = False) -> None:
        super().__init__()
        self.side, self.back = side, back

    def forward(self, x: Tensor) -> Tensor:
        return unfold(x, self.side) if self.back else fold(x, self.side)


class Upsample(nn.Module):
    """Twice the grid: linear interpolation that wraps where the axis does, at the middles of cells."""

    def __init__(self, periodic: Sequence[bool]) -> None:
        super().__init__()
        self.periodic = tuple(periodic)

    def forward(self, x: Tensor) -> Tensor:
        mode = {1: "linear", 2: "bilinear"}[len(self.periodic)]
        wide = F.interpolate(pad(x, 1, self.periodic), scale_factor=2, mode=mode)
        return wide[(..., *[slice(2, -2)] * len(self.periodic))]


class LeanBlock(nn.Module):
    """x + 1x1(gelu(3x3(gelu(norm(x))))): a convolution that mixes space, then one that mixes channels."""

    def __init__(self, width: int, periodic: Sequence[bool]) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(1, width // 32), width)
        self.space = FieldConv(width, width, periodic)
        self.mix = FieldConv(width, width, periodic, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.gelu(self.space(F.gelu(self.norm(x)))))


class PaperBlock(nn.Module):
    """x + scale * conv(gelu(norm(conv(gelu(norm(x)))))): the pre-activation block of arXiv:2606.11691's autoencoder."""

    def __init__(self, width: int, periodic: Sequence[bool], scale: float = 0.25) -> None:
        super().__init__()
        groups = math.gcd(4, width)
        self.norm1, self.norm2 = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        self.conv1, self.conv2 = FieldConv(width, width, periodic), FieldConv(width, width, periodic)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.gelu(self.norm1(x)))
        return x + self.scale * self.conv2(F.gelu(self.norm2(inner)))


def initialise(model: nn.Module, generator: torch.Generator, quiet: Sequence[str] = ()) -> None:
    """Truncated normal weights of variance 1 / fan-in, drawn from `generator` alone, and zero biases.

    Args:
        quiet: ends of the names of layers that start at a hundredth of that, so that residual branches begin near zero.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            gain = 0.01 if any(name.endswith(end) for end in quiet) else 1.0
            std = gain / math.sqrt(module.weight[0].numel()) / 0.8796
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
