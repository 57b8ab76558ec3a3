"""Checkpoints written while training goes on: the tensors are copied, a thread writes them, the next step starts at once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from diptych.train import checkpoint
from diptych.train.checkpoint import TENSORS, Checkpoint
from diptych.train.parallel import Ranks


class Saver:
    """Writes the checkpoints of a run, one at a time.

    Rank 0 writes where every rank holds all weights; every rank writes its part where they are cut up.

    Args:
        folder: of the run.
        keep: checkpoints kept.
        here: this rank.
        background: write while training goes on; otherwise `save` returns once all is on disk.
    """

    def __init__(self, folder: Path, keep: int, here: Ranks, background: bool) -> None:
        self.folder, self.keep, self.here, self.background = folder, keep, here, background
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[object] | None = None
        self._group = None
        if here.mesh is not None:
            from diptych.train.sharding import spare_group

            self._group = spare_group()

    def save(self, state: Checkpoint) -> None:
        """Begin to write a checkpoint; waits for the one before.

        Raises:
            StoreError: the one before could not be written.
        """
        self.wait()
        if self._group is not None:
            self._pending = self._shards(state)
        elif self.here.first:
            copied = {kind: checkpoint.apart(getattr(state, kind)) for kind in TENSORS}
            self._pending = self._thread.submit(checkpoint.save, self.folder, replace(state, **copied), self.keep)
        if not self.background:
            self.wait()

    def check(self) -> None:
        """Raise what went wrong with a checkpoint whose writing has ended."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def busy(self) -> bool:
        """Whether something is being written."""
        return self._pending is not None and not self._pending.done()

    def wait(self) -> None:
        """Return once nothing is being written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Let what is being written come to its end, and stop the thread."""
        self._thread.shutdown(wait=True)

    def _shards(self, state: Checkpoint) -> Future[object]:
        from diptych.train import shards

        path = checkpoint.place(self.folder, state.images)
        if path.exists():  # the same run at the same place; every rank sees it, as none is renamed in between
            self.here.wait()
            return self._thread.submit(lambda: None)
        part = checkpoint.begin(path) if self.here.first else path.with_name(path.name + ".part")
        self.here.wait()
        assert self._group is not None
        written = shards.write(part, state, self._group)
        return self._thread.submit(self._sealed, written, path, state)

    def _sealed(self, written: Future[object], path: Path, state: Checkpoint) -> None:
        """Once every rank's part is written, rank 0 makes a checkpoint of them."""
        try:
            written.result()
            if self.here.first:
                checkpoint.seal(path, state, self.keep)
        except (OSError, SafetensorError, dcp_error()) as error:
            raise checkpoint.spoilt(path, error) from error


def dcp_error() -> type[BaseException]:
    """What torch's own checkpoints raise where any rank failed."""
    from torch.distributed.checkpoint.api import CheckpointException

    return CheckpointException
