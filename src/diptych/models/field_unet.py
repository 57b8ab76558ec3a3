"""The flow network on the latents of fields: a small U-Net that knows which axes are periodic.

The preset `paper_unet` follows arXiv:2606.11691: 1.84 M parameters on 8 x 16 x 16 latents. What is done otherwise: time enters
as 1000 t, so that its features vary along the whole path, and group norms have 8 groups.

Shape letters: B batch, C channels, M... the grid of the latents (one or two axes), D channels of attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.models.blocks import sincos
from diptych.models.field_layers import FieldConv, initialise

POOL = {1: F.avg_pool1d, 2: F.avg_pool2d}


@dataclass(frozen=True)
class FieldUNetConfig:
    """Shape of a `FieldUNet`; the defaults suit the lean autoencoder's 8 x 8 x 8 latents (0.30 M parameters).

    Args:
        channels: of the latents.
        shape: of their grid, one or two axes, each even.
        periodic: one flag an axis.
        width: channels at the full grid; the half grid has twice as many.
        middle: residual blocks at the half grid, beside the one that goes down and the one that goes up.
        time: channels of the time's embedding.
        features: sine and cosine features of the time.
        given: channels of a condition on the same grid, `cond["given"]`; 0 = unconditional.

    Raises:
        ValueError: an axis that cannot be halved, or widths the norms do not divide.
    """

    channels: int = 8
    shape: tuple[int, ...] = (8, 8)
    periodic: tuple[bool, ...] = (True, True)
    width: int = 32
    middle: int = 0
    time: int = 128
    features: int = 64
    given: int = 0

    def __post_init__(self) -> None:
        for name in ("shape", "periodic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.shape) not in (1, 2) or len(self.periodic) != len(self.shape):
            raise ValueError(f"unet: shape {self.shape}, periodic {self.periodic}; give one or two axes, a flag each")
        for n, wraps in zip(self.shape, self.periodic, strict=True):
            if n % 2 or n < (2 if wraps else 4):
                raise ValueError(f"unet: an axis of {n} latents; it takes an even number" + ("" if wraps else " of 4 or more"))
        if self.width % 8:
            raise ValueError(f"unet: width {self.width} is not a multiple of 8, as its norms need")


def paper_unet(channels: int = 8, size: int = 16) -> FieldUNetConfig:
    """The flow network of arXiv:2606.11691: 64 channels at 16 x 16, 128 at 8 x 8, 1.84 M parameters."""
    return FieldUNetConfig(channels, (size, size), (True, True), 64, middle=2, time=256, features=64)


class TimedBlock(nn.Module):
    """conv(relu(norm(conv(relu(norm(x))) + time))) + x; without a time where `time` is 0."""

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool], time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv1, self.conv2 = FieldConv(inputs, outputs, periodic), FieldConv(outputs, outputs, periodic)
        self.time = nn.Linear(time, outputs) if time else None
        self.skip = FieldConv(inputs, outputs, periodic, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.norm1(x)))
        if self.time is not None:
            inner = inner + self.time(embedded).reshape(*inner.shape[:2], *[1] * (inner.ndim - 2))
        return self.skip(x) + self.conv2(F.relu(self.norm2(inner)))


class SelfAttention(nn.Module):
    """x + attention over all points of the grid, one head."""

    def __init__(self, width: int, periodic: Sequence[bool]) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.joint, self.out = FieldConv(width, 3 * width, periodic, 1), FieldConv(width, width, periodic, 1)

    def forward(self, x: Tensor) -> Tensor:
        q_BMD, k_BMD, v_BMD = (part.flatten(2).transpose(1, 2) for part in self.joint(self.norm(x)).chunk(3, dim=1))
        seen_BMD = F.scaled_dot_product_attention(q_BMD[:, None], k_BMD[:, None], v_BMD[:, None])[:, 0]
        return x + self.out(seen_BMD.transpose(1, 2).reshape(x.shape))


class FieldUNet(nn.Module):
    """Latents at time t -> the flow eps - x0, on two resolutions with skips.

    The block that reads the noisy latents has no time of its own; so the paper's count of parameters comes out.

    Args:
        config: the shape.
        generator: draws the initial weights; None takes one seeded with 0.
    """

    predicts: ClassVar[str] = "flow"

    def __init__(self, config: FieldUNetConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        c, w, periodic, time = config.channels, config.width, config.periodic, config.time
        self.embed = nn.Sequential(nn.Linear(config.features, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.enter = FieldConv(c + config.given, w, periodic)
        self.fine = TimedBlock(w, w, periodic, 0)
        self.down = TimedBlock(w, 2 * w, periodic, time)
        self.attention = SelfAttention(2 * w, periodic)
        self.middle = nn.ModuleList(TimedBlock(2 * w, 2 * w, periodic, time) for _ in range(config.middle))
        self.up = TimedBlock(4 * w, 2 * w, periodic, time)
        self.last = TimedBlock(3 * w, w, periodic, time)
        self.norm, self.leave = nn.GroupNorm(8, w), FieldConv(w, c, periodic)
        initialise(
            self, torch.Generator().manual_seed(0) if generator is None else generator, ("conv2.conv", "out.conv", "leave.conv")
        )

    def forward(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Flow at (x, t).

        Args:
            x: noisy latents, (B, C, M...). t: times, (B,). cond: "given", (B, given, M...), where the network is conditional.

        Raises:
            ValueError: latents of another shape, a condition that is missing.
        """
        config = self.config
        if x.shape[1:] != (config.channels, *config.shape):
            raise ValueError(f"unet: latents of shape {tuple(x.shape[1:])}; this one takes {(config.channels, *config.shape)}")
        if config.given:
            if "given" not in cond:
                raise ValueError('unet: this network is conditional; give cond["given"], latents of the low-passed field')
            x = torch.cat([x, cond["given"].to(x)], dim=1)
        embedded = self.embed(sincos(1000.0 * t.reshape(-1).expand(len(x)), config.features).to(x))
        fine = self.fine(self.enter(x), embedded)
        coarse = self.attention(self.down(POOL[len(config.shape)](fine, 2), embedded))
        inner = coarse
        for block in self.middle:
            inner = block(inner, embedded)
        inner = self.up(torch.cat([inner, coarse], dim=1), embedded)
        wide = F.interpolate(inner, scale_factor=2, mode="nearest")
        return self.leave(F.relu(self.norm(self.last(torch.cat([wide, fine], dim=1), embedded))))
