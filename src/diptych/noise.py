"""Keyed noise: the one source of randomness of sampling.

A draw is a pure function of (unit key, stream, step, element index), so a unit gets the same noise alone or in a batch, in
any order, on any rank and for any device. The generator is SplitMix64 (Steele et al. 2014) run as a counter: the element
index is the counter and a 64-bit hash of (key, stream, step) the offset. A longer draw therefore begins with the shorter
one, and for text, where the leading axis is the position, each position owns its numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Random(Protocol):
    """What processes and samplers draw from: `Noise` when sampling, `Stream` when training."""

    def normal(self, shape: Sequence[int], stream: str) -> Tensor: ...

    def uniform(self, shape: Sequence[int], stream: str) -> Tensor: ...

    def at(self, step: int) -> Random: ...

    def rows(self, index: Tensor) -> Random: ...


@dataclass(frozen=True)
class Noise:
    """Noise for a batch of units; row i belongs to keys[i].

    Args:
        keys: one key a row, `Unit.key` as a rule.
        device: where the numbers go; they are always made on the CPU.
        dtype: the floating type normal numbers are cast to; uniform ones stay float32, where they are exact.
        step: the sampler step that the draws belong to; set by `at`.
    """

    keys: tuple[str, ...]
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    step: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    def at(self, step: int) -> Noise:
        """The same units' noise for another sampler step."""
        return replace(self, step=step)

    def rows(self, index: Tensor) -> Noise:
        """The noise of some rows only, so that finished rows can leave a batch."""
        return replace(self, keys=tuple(self.keys[i] for i in index.tolist()))

    def normal(self, shape: Sequence[int], stream: str) -> Tensor:
        """Standard normal numbers, (len(keys), *shape), by Box-Muller in float64, rounded to float32, then cast."""
        count = math.prod(shape)
        uniform = (self._bits(count + count % 2, stream) >> np.uint64(11)).astype(np.float64)
        uniform += 0.5
        uniform *= 2.0**-53
        radius = np.sqrt(-2.0 * np.log(uniform[:, 0::2]))
        angle = (2.0 * math.pi) * uniform[:, 1::2]
        normal = np.empty(uniform.shape, dtype=np.float32)
        normal[:, 0::2] = radius * np.cos(angle)
        normal[:, 1::2] = radius * np.sin(angle)
        return self._tensor(normal[:, :count], shape).to(self.dtype)

    def uniform(self, shape: Sequence[int], stream: str) -> Tensor:
        """Uniform numbers strictly inside (0, 1), (len(keys), *shape); exact in float32."""
        bits = self._bits(math.prod(shape), stream) >> np.uint64(41)
        return self._tensor((bits.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23), shape)

    def _bits(self, count: int, stream: str) -> np.ndarray:
        """64 random bits an element, (len(keys), count)."""
        offsets = np.fromiter((_hash(key, stream, self.step) for key in self.keys), np.uint64, len(self.keys))
        state = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN + offsets[:, None]
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
        return state ^ (state >> np.uint64(31))

    def _tensor(self, values: np.ndarray, shape: Sequence[int]) -> Tensor:
        values = np.ascontiguousarray(values).reshape(len(self.keys), *shape)
        return torch.from_numpy(values).to(self.device)


@dataclass(frozen=True)
class Stream:
    """Training's randomness with the interface of `Noise`: rows drawn in turn from one recorded torch generator.

    Args:
        generator: the generator; its state is what a checkpoint saves.
        batch: rows a draw.
    """

    generator: torch.Generator
    batch: int

    def at(self, step: int) -> Stream:
        return self

    def rows(self, index: Tensor) -> Stream:
        return replace(self, batch=len(index))

    def normal(self, shape: Sequence[int], stream: str) -> Tensor:
        """Standard normal numbers, (batch, *shape), on the generator's device."""
        return torch.randn((self.batch, *shape), generator=self.generator, device=self.generator.device)

    def uniform(self, shape: Sequence[int], stream: str) -> Tensor:
        """Uniform numbers in [0, 1), (batch, *shape), on the generator's device."""
        return torch.rand((self.batch, *shape), generator=self.generator, device=self.generator.device)


def _hash(key: str, stream: str, step: int) -> int:
    text = f"{key}\0{stream}\0{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
