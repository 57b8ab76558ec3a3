"""What a cell costs before it is trained: parameters, tokens, arithmetic, hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from diptych.models.i1 import I1
from diptych.models.i1_config import I1Config
from diptych.recipes.i1_cells import Cell
from diptych.train.losses import rectified_flow
from diptych.train.speed import flops

GPU = 0.4 * 989e12
"""Floating point operations a second of an H100 or H200 at 40 % of its peak; reckoned with, not measured."""
CORE = 5e10
"""Of one core of the two that small cells are trained on, measured over whole training steps in float32: 46e9 for
cross-attention, 51e9 for two streams, 75e9 for the shipped model's wider matrices."""


@dataclass(frozen=True)
class Cost:
    """Of training one cell once.

    Args:
        parameters: trained ones.
        images: pictures seen.
        tokens: of pictures and captions, seen by the network.
        flops: forward and backward, without text encoder and autoencoder, whose outputs are cached.
    """

    parameters: int
    images: int
    tokens: int
    flops: float

    @property
    def gpu_hours(self) -> float:
        return self.flops / GPU / 3600

    @property
    def core_hours(self) -> float:
        return self.flops / CORE / 3600

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            max(self.parameters, other.parameters),
            self.images + other.images,
            self.tokens + other.tokens,
            self.flops + other.flops,
        )


def cost(cell: Cell) -> Cost:
    """Of a cell, with the stage it goes on from."""
    own = cost_of_last(cell)
    return own + cost(cell.after) if cell.after else own


def total(cells: Mapping[str, Cell], replicas: int) -> Cost:
    """Of all cells and replicas; a first stage that several share counts once."""
    shared = {cell.after for cell in cells.values()} - {None}
    alone = [cost_of_last(cell) for cell in cells.values()] + [cost(cell) for cell in shared if cell is not None]
    most = alone[0]
    for one in alone[1:]:
        most = most + one
    return Cost(most.parameters, most.images * replicas, most.tokens * replicas, most.flops * replicas)


def cost_of_last(cell: Cell) -> Cost:
    """Of a cell without the stage before it."""
    parameters, each = per_image(cell.model, cell.side, cell.text_tokens)
    return Cost(parameters, cell.images, cell.images * (cell.image_tokens + cell.text_tokens), each * cell.images)


@lru_cache(maxsize=256)
def per_image(config: I1Config, side: int, tokens: int) -> tuple[int, float]:
    """Trained parameters, and floating point operations of one picture forward and backward, counted on the meta device."""
    with torch.device("meta"):
        net = I1(config)
    x = torch.empty(1, config.channels, side, side, device="meta")
    cond = {
        "text": torch.empty(1, tokens, config.text_width, device="meta"),
        "text_mask": torch.ones(1, tokens, dtype=torch.bool, device="meta"),
        "null": torch.zeros(1, dtype=torch.bool, device="meta"),
    }
    count = flops(lambda: rectified_flow(net, x, cond, torch.empty(1, device="meta"), torch.empty_like(x)))
    return sum(p.numel() for p in net.parameters() if p.requires_grad), count
