"""The sampling driver: batches units, counts evaluations, keeps trajectories.

A sampler is a frozen dataclass of its options whose `__call__(process, denoise, x, grid, noise)` is a generator of
(x, t); the driver runs it. The `denoise` it gets has the conditions bound: `denoise(x, t, rows=None)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from diptych.denoise import Canvas, Cond, Denoiser
from diptych.guide import Guidance
from diptych.noise import Noise


class Sampler(Protocol):
    """A rule that walks from x at grid[0] down the grid, yielding (x, t) after each step."""

    def __call__(
        self, process: Any, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise
    ) -> Iterator[tuple[Tensor, float]]: ...


@dataclass
class Bound:
    """A denoiser with its conditions bound to a batch, counting per row what it is asked.

    Args:
        denoise: the (guided) denoiser.
        cond: row-aligned conditions.
        rows: rows of the whole batch.
    """

    denoise: Denoiser
    cond: Cond
    rows: int
    evaluations: Tensor = field(init=False)
    tokens: Tensor = field(init=False)
    pairs: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.evaluations, self.tokens, self.pairs = (torch.zeros(self.rows, dtype=torch.int64) for _ in range(3))

    def __call__(self, x: Any, t: float | Tensor, rows: Tensor | None = None) -> Tensor:
        """Predict clean data.

        Args:
            x: state of the batch, or of `rows` of it: a tensor, or a `Canvas`.
            t: one time, or one a row.
            rows: which rows of the batch x holds, (b,) of int64; None = all.
        """
        state = x.ids if isinstance(x, Canvas) else x
        index = torch.arange(self.rows) if rows is None else rows.cpu()
        self.evaluations[index] += 1
        if not state.is_floating_point():
            canvas = x if isinstance(x, Canvas) else Canvas(x)
            self.tokens[index] += state.shape[1]
            self.pairs[index] += canvas.pairs()
        cond = self.cond if rows is None else {k: v[rows.to(v.device)] for k, v in self.cond.items()}
        kind = torch.float64 if state.dtype == torch.float64 else torch.float32  # a time is never rounded to half precision
        time = torch.as_tensor(t, dtype=kind, device=state.device).expand(len(state))
        return self.denoise(x, time, cond)


@dataclass
class Forwards:
    """A network that counts the rows it has evaluated, guidance branches included."""

    net: Denoiser
    rows: int = 0

    def __call__(self, x: Any, t: Tensor, cond: Cond) -> Tensor:
        self.rows += len(t)
        return self.net(x, t, cond)


@dataclass(frozen=True)
class Drawn:
    """What `sample` returns.

    Args:
        x: final states, (N, *shape).
        evaluations: denoiser evaluations a unit (guidance's two branches are one), (N,).
        tokens: processed tokens a unit, shadow slots included, (N,); zero where x is not text.
        pairs: attended pairs a unit, (N,); zero where x is not text.
        trajectory: [(t, states)] if it was asked for, else empty.
    """

    x: Tensor
    evaluations: Tensor
    tokens: Tensor
    pairs: Tensor
    trajectory: tuple[tuple[float, Tensor], ...] = ()


def sample(
    process: Any,
    sampler: Sampler,
    denoise: Denoiser,
    grid: Tensor,
    shape: Sequence[int],
    noise: Noise,
    *,
    cond: Cond | None = None,
    guidance: Guidance | None = None,
    batch: int | None = None,
    x: Tensor | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    trajectory: bool = False,
    gradients: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Drawn:
    """Draw one sample a row of `noise`.

    Args:
        process: `Gaussian` or `Masked`.
        sampler: the rule.
        denoise: (x, t, cond) -> x0_hat.
        grid: decreasing times, grid[0] the time of the start, (steps + 1,).
        shape: of one sample.
        noise: keyed noise, N rows.
        cond: row-aligned conditions, N rows each.
        guidance: wraps the denoiser, fresh for each batch.
        batch: rows at once; None = all.
        x: start at grid[0], (N, *shape); None = the prior (grid[0] must be 1). For text, tokens that are not masks are given.
        finish: applied once to the final x of each batch.
        trajectory: keep every yielded state (on the CPU); a rule that yields nothing keeps its start.
        gradients: leave the graph on.
        progress: called after each batch with its number of rows.

    Raises:
        ValueError: a grid that does not decrease or leaves [0, 1]; a start that is missing at t < 1 or has another shape;
            unequal rows; an empty batch.
    """
    _check(grid, shape, x, cond, noise, batch)
    if len(noise) == 0:
        none = torch.zeros(0, dtype=torch.int64)
        return Drawn(process.prior(shape, noise) if x is None else x, none, none, none)
    size, done = batch or len(noise), []
    for start in range(0, len(noise), size):
        index = torch.arange(start, min(start + size, len(noise)))
        part = noise.rows(index)
        here = {k: v[start : start + size] for k, v in (cond or {}).items()}
        bound = Bound(guidance(denoise) if guidance else denoise, here, len(part))
        kept: list[tuple[float, Tensor]] = []
        with torch.set_grad_enabled(gradients):
            begin = state = process.prior(shape, part) if x is None else x[start : start + size]
            for state, t in sampler(process, bound, begin, grid, part):
                if trajectory:
                    kept.append((float(t), state.detach().cpu()))
            if trajectory and not kept:
                kept.append((float(grid[0]), state.detach().cpu()))
            state = finish(state) if finish else state
        done.append(Drawn(state, bound.evaluations, bound.tokens, bound.pairs, tuple(kept)))
        if progress:
            progress(len(part))
    return _join(done)


def _check(grid: Tensor, shape: Sequence[int], x: Tensor | None, cond: Cond | None, noise: Noise, batch: int | None) -> None:
    if len(grid) < 2 or not bool((grid.diff() < 0).all()) or grid[0] > 1 or grid[-1] < 0:
        raise ValueError(f"grid: {_short(grid)} must fall from at most 1 to at least 0, two or more times")
    if batch is not None and batch < 1:
        raise ValueError(f"sample: batch {batch} is not positive; None = all rows at once")
    if x is None and grid[0] != 1:
        raise ValueError(f"grid: starts at {float(grid[0]):g} without a state; give x, or start at 1")
    for name, value in {"x": x, **(cond or {})}.items():
        if value is not None and len(value) != len(noise):
            raise ValueError(f"sample: {name} has {len(value)} rows for {len(noise)} rows of noise")
    if x is not None and tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"sample: x holds states of shape {tuple(x.shape[1:])}, but shape is {tuple(shape)}")


def _short(grid: Tensor) -> str:
    times = [f"{t:g}" for t in grid.tolist()]
    return f"[{', '.join(times if len(times) <= 6 else [*times[:3], '...', *times[-2:]])}]"


def _join(parts: list[Drawn]) -> Drawn:
    # Batches of an adaptive sampler may take different numbers of steps; a finished one stands still.
    longest = max(parts, key=lambda part: len(part.trajectory))
    times = [t for t, _ in longest.trajectory]
    states = [torch.cat([part.trajectory[min(i, len(part.trajectory) - 1)][1] for part in parts]) for i in range(len(times))]
    return Drawn(
        torch.cat([part.x for part in parts]),
        torch.cat([part.evaluations for part in parts]),
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.pairs for part in parts]),
        tuple(zip(times, states, strict=True)),
    )
