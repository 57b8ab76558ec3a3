"""Ranks of one training run: torchrun's environment, gloo on CPU and NCCL on CUDA; one process needs nothing of it.

Every rank holds all weights (DDP), or a set of ranks shares one set of them; how these are cut up is in `sharding`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process among its fellows.

    Args:
        rank: 0 to world - 1.
        world: number of processes.
        device: where this rank computes.
        mesh: the ranks as copies x shards x tensor parts (a DeviceMesh) where weights are cut up over them.
        tensor: ranks that share the work on one row; they lie next to each other.
    """

    rank: int
    world: int
    device: torch.device
    mesh: Any = None
    tensor: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.rank == 0

    @property
    def row(self) -> int:
        """Which part of a step's rows is this rank's, 0 to rows - 1."""
        return self.rank // self.tensor

    @property
    def rows(self) -> int:
        """Into how many parts the rows of a step go."""
        return self.world // self.tensor

    def wrap(self, model: nn.Module) -> nn.Module:
        """The network with its gradients averaged over ranks; itself where there is one rank, or where it is cut up."""
        if self.world == 1 or self.mesh is not None:
            return model
        wrapped = DistributedDataParallel(model)
        wrapped.broadcast_buffers = False  # every rank's are alike; sent each step they would break losses of two passes
        return wrapped

    def share(self, values: Tensor) -> Tensor:
        """Sum of `values` over the parts of a step's rows, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values.div_(self.tensor) if self.tensor > 1 else values

    def wait(self) -> None:
        """Return once every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def ranks(device: torch.device | str | None = None) -> Iterator[Ranks]:
    """The ranks torchrun started, connected while the block runs; a single one where torchrun did not.

    Args:
        device: where to compute; None = this rank's CUDA device if there is one, else the CPU.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if device is None:
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda":
        device = torch.device("cuda", local if device.index is None else device.index)
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, device)
        return
    opened = not dist.is_initialized()
    if opened:
        # long enough for rank 0 to validate while the others wait
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=1))
    try:
        yield Ranks(dist.get_rank(), world, device)
    finally:
        if opened:
            dist.destroy_process_group()


def units(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network: the members of its outermost lists, gathered, freed and compiled one at a time."""
    found: list[nn.Module] = []
    for child in model.children():
        found += list(child) if isinstance(child, nn.ModuleList) else units(child)
    return found


def syncing(model: nn.Module, now: bool) -> contextlib.AbstractContextManager[None]:
    """Let ranks average their gradients in this backward pass only if `now`; the others accumulate locally."""
    if hasattr(model, "set_requires_gradient_sync"):  # FSDP2
        model.set_requires_gradient_sync(now)  # pyright: ignore[reportCallIssue]
    if now or not isinstance(model, DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute on `count` CPU threads while the block runs; None = as many as before."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
