"""Arrays in memory as an endless, shuffled stream of rows that needs no state."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Augment = Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]


class Shuffled:
    """Every row once an epoch, in an order drawn anew for each epoch from (seed, epoch).

    Args:
        arrays: named tensors, each (rows, ...).
        seed: seed of the orders and of the augmentation.
        augment: `augment(batch, keys) -> batch`; keys (B,) int64 >= 0 is one random number a row, fixed by the seed and the
            row's place in the stream, so `keys & 1` is a fair flip however the stream is cut.

    Raises:
        ValueError: no array, no row, or arrays of different lengths.
    """

    def __init__(self, arrays: Mapping[str, Tensor], seed: int = 0, augment: Augment | None = None) -> None:
        lengths = {name: len(value) for name, value in arrays.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(f"data: arrays have {lengths} rows; give at least one array, all of one length")
        self.arrays, self.seed, self.augment = dict(arrays), seed, augment
        self.rows = next(iter(lengths.values()))
        self._orders: dict[int, Tensor] = {}

    def batch(self, position: int, size: int) -> dict[str, Tensor]:
        """Rows position, ..., position + size - 1 of the stream; a batch may span epochs."""
        index = self.index(position, size)
        rows = {name: value[index.to(value.device)] for name, value in self.arrays.items()}
        return self.augment(rows, keys(self.seed, position, size)) if self.augment else rows

    def index(self, position: int, size: int) -> Tensor:
        """Which rows of the arrays those are: (size,) int64."""
        parts: list[Tensor] = []
        while size > 0:
            epoch, start = divmod(position, self.rows)
            part = self._order(epoch)[start : start + size]
            parts.append(part)
            position, size = position + len(part), size - len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            if len(self._orders) > 2:
                self._orders.clear()
            # an odd multiplier keeps the pairs (seed, epoch) apart
            generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + epoch) % 2**63)
            self._orders[epoch] = torch.randperm(self.rows, generator=generator)
        return self._orders[epoch]


def keys(seed: int, position: int, size: int) -> Tensor:
    """One 63-bit number a row of the stream: splitmix64 of (seed, place), (size,) int64 >= 0."""
    start = (seed * 0x9E3779B97F4A7C15 + position) % 2**63
    word = (torch.arange(size) + start) * -0x61C8864680B583EB
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        word = (word ^ _right(word, shift)) * factor
    return (word ^ _right(word, 31)) & (2**63 - 1)


def _right(word: Tensor, shift: int) -> Tensor:
    """Logical right shift of int64, whose own shift keeps the sign."""
    return (word >> shift) & ((1 << (64 - shift)) - 1)
