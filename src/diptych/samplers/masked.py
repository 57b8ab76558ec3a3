"""Samplers of masked diffusion: the process's own reverse, a fixed quota by confidence, and a confidence threshold.

x holds token ids (B, L); tokens that are not masks at the start are given and never change. Every rule ends without masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from diptych.noise import Noise
from diptych.process import Masked, categorical
from diptych.sample import Bound

Steps = Iterator[tuple[Tensor, float]]


def draw(log_probs: Tensor, temperature: float, noise: Noise) -> Tensor:
    """Tokens (B, L) from log-probabilities (B, L, vocab): the most probable at temperature 0, else from p^(1/T)."""
    if temperature == 0:
        return log_probs.argmax(-1)
    return categorical(log_probs.double() / temperature, noise.uniform(log_probs.shape[1:2], "token"))


@dataclass(frozen=True)
class Ancestral:
    """The reverse kernel of the process along the grid (Sahoo et al. 2024, arXiv:2406.07524); one evaluation a step.

    Raises:
        ValueError: a grid that does not end at 0, where every mask is revealed.
    """

    def __call__(self, process: Masked, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        if grid[-1] != 0:
            raise ValueError(f"masked ancestral: the grid ends at {float(grid[-1]):g} and would leave masks; end it at 0")
        for step, (t, u) in enumerate(pairwise(grid.double().tolist())):
            now, then = torch.full((1,), t, dtype=torch.float64), torch.full((1,), u, dtype=torch.float64)
            x = process.reverse(x, now, then, denoise(x, t), noise.at(step))
            yield x, u


@dataclass(frozen=True)
class Quota:
    """Semi-autoregressive blocks with a fixed number of reveals a step, the most confident first (LLaDA, arXiv:2502.09992).

    The grid's steps are shared out equally over the blocks, and a block's masks equally over its steps, the remainders first.

    Args:
        block: block length; 0 = the whole answer.
        temperature: of the token draw; confidence is the drawn token's probability at temperature 1.

    Raises:
        ValueError: a negative temperature; fewer steps than blocks.
    """

    block: int = 0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, process: Masked, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        spans = blocks(x.shape[1], self.block)
        steps, step = len(grid) - 1, 0
        if steps < len(spans):
            raise ValueError(f"quota: {steps} steps for {len(spans)} blocks; give each block a step, or make blocks longer")
        for n, (start, stop) in enumerate(spans):
            masked = (x[:, start:stop] == process.mask_id).sum(1)
            share = steps // len(spans) + (n < steps % len(spans))
            for i in range(share):
                log_probs = denoise(x, _fraction(x, process))
                tokens = draw(log_probs, self.temperature, noise.at(step))
                quota = masked // share + (i < masked % share)
                x = reveal_top(x, tokens, _confidence(log_probs, tokens), quota, start, stop, process.mask_id)
                step += 1
                yield x, float(_fraction(x, process).mean())


@dataclass(frozen=True)
class Threshold:
    """Blocks in which every mask whose drawn token is more probable than `tau` is revealed, and always the best one
    (Fast-dLLM, arXiv:2505.22618). Rows that have finished a block wait for the others without being evaluated.

    Args:
        tau: threshold on the token's probability.
        block: block length; 0 = the whole answer.
        temperature: of the token draw.

    Raises:
        ValueError: a negative temperature.
    """

    tau: float = 0.9
    block: int = 0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, process: Masked, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        for start, stop in blocks(x.shape[1], self.block):
            step = start
            while bool((open_ := (x[:, start:stop] == process.mask_id).any(1)).any()):
                rows = open_.nonzero().squeeze(1)
                here = x[rows]
                log_probs = denoise(here, _fraction(here, process), rows)
                tokens = draw(log_probs, self.temperature, noise.rows(rows).at(step))
                confidence = _confidence(log_probs, tokens)
                masked = here[:, start:stop] == process.mask_id
                quota = ((confidence[:, start:stop] > self.tau) & masked).sum(1).clamp(min=1)
                x = x.index_copy(0, rows, reveal_top(here, tokens, confidence, quota, start, stop, process.mask_id))
                step += 1
                yield x, float(_fraction(x, process).mean())


def blocks(length: int, block: int) -> list[tuple[int, int]]:
    """Spans [start, stop) of the semi-autoregressive blocks.

    Raises:
        ValueError: a block length that does not divide the length.
    """
    size = block or length
    if size < 0 or length % size:
        raise ValueError(f"block: {block} does not divide the generation length {length}; use a divisor, or 0 for one block")
    return [(start, start + size) for start in range(0, length, size)]


def reveal_top(x: Tensor, tokens: Tensor, confidence: Tensor, quota: Tensor, start: int, stop: int, mask_id: int) -> Tensor:
    """Write the `quota` (B,) most confident tokens into the masks of [start, stop); ties go to the left."""
    place = torch.arange(x.shape[1], device=x.device)
    inside = (x == mask_id) & (place >= start) & (place < stop)
    order = torch.where(inside, confidence, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return torch.where((rank < quota[:, None]) & inside, tokens, x)


def _check_temperature(temperature: float) -> None:
    if not temperature >= 0:
        raise ValueError(f"temperature: {temperature} is negative; 0 takes the most probable token, 1 draws as predicted")


def _confidence(log_probs: Tensor, tokens: Tensor) -> Tensor:
    return log_probs.softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _fraction(x: Tensor, process: Masked) -> Tensor:
    """The time of a partly written text, per row: its share of masks (exact for the linear schedule)."""
    return (x == process.mask_id).float().mean(1)


SAMPLERS = {"ancestral": Ancestral, "quota": Quota, "threshold": Threshold}
