"""Ranks of one training run: torchrun's environment, gloo on CPU and NCCL on CUDA; one process needs nothing of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

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
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The network with its gradients averaged over ranks; itself where there is one rank."""
        if self.world == 1:
            return model
        wrapped = DistributedDataParallel(model)
        wrapped.broadcast_buffers = False  # every rank's are alike; sent each step they would break losses of two passes
        return wrapped

    def share(self, values: Tensor) -> Tensor:
        """Sum of `values` over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

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
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, device)
    finally:
        if opened:
            dist.destroy_process_group()


def syncing(model: nn.Module, now: bool) -> contextlib.AbstractContextManager[None]:
    """Let ranks average their gradients in this backward pass only if `now`; the others accumulate locally."""
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
