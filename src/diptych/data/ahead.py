"""Making the next batches while the current one trains: threads that run ahead of the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from torch import Tensor

Batch = dict[str, Tensor]


class Data(Protocol):
    """What `train.loop` takes: see there."""

    def batch(self, position: int, size: int) -> Batch: ...


@dataclass(frozen=True)
class Calls:
    """Which positions a process of a training run asks for, one after the other.

    Args:
        batch: rows of an optimiser step, over all processes.
        accumulate: micro-batches they are cut into.
        rank, world: this process, and how many there are; each takes `accumulate / world` neighbouring micro-batches.
    """

    batch: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    def after(self, position: int) -> int:
        """The position asked for after this one."""
        size, share = self.batch // self.accumulate, self.accumulate // self.world
        last = (position % self.batch // size + 1) % share == 0
        return position + size + (self.batch - share * size if last else 0)


@dataclass
class Ahead:
    """Data whose next batches are under way in threads; made by `ahead`.

    Since a batch is a function of its position, guessing wrong costs work and changes nothing.
    """

    data: Data
    calls: Calls
    depth: int
    pool: ThreadPoolExecutor
    flying: dict[tuple[int, int], Future[Batch]] = field(default_factory=dict)

    def batch(self, position: int, size: int) -> Batch:
        """As the data's own `batch`, which it calls; raises what that raises."""
        wanted = [(position, size), *((place, size) for place in islice(self._following(position), self.depth))]
        for key in [key for key in self.flying if key not in wanted]:
            self.flying.pop(key).cancel()
        for key in wanted:
            if key not in self.flying:
                self.flying[key] = self.pool.submit(self.data.batch, *key)
        return self.flying.pop((position, size)).result()

    def _following(self, position: int) -> Iterator[int]:
        while True:
            position = self.calls.after(position)
            yield position


@contextmanager
def ahead(data: Data, calls: Calls, threads: int = 4, depth: int = 0) -> Iterator[Ahead]:
    """Run ahead of training on `data` within a `with` block.

    Args:
        data: any; its `batch` is called from several threads at once (Pillow decodes outside the interpreter's lock).
        calls: the run's settings.
        threads: at work.
        depth: batches under way, 0 = as many as threads.

    Raises:
        ValueError: a batch that is not cut evenly.
    """
    if calls.batch % calls.accumulate or calls.accumulate % calls.world or threads < 1:
        raise ValueError(
            f"ahead: batch {calls.batch}, accumulate {calls.accumulate}, world {calls.world}: the next must divide each; "
            f"threads {threads} must be positive"
        )
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        running = Ahead(data, calls, depth or threads, pool)
        try:
            yield running
        finally:
            for future in running.flying.values():
                future.cancel()
