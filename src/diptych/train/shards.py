"""Checkpoints of weights that are cut up over ranks: `torch.distributed.checkpoint`, a safetensors file a rank.

They are written in the background and can be read by any other number of ranks, or by one process.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as read_parts
from torch.distributed.checkpoint.state_dict_saver import async_save

from diptych.train import checkpoint
from diptych.train.checkpoint import TENSORS, Checkpoint
from diptych.train.sharding import fill, unwoven


def write(part: Path, state: Checkpoint, group: dist.ProcessGroup) -> Future[object]:
    """Copy this rank's parts to the CPU, and write them in the background; every rank calls it.

    Args:
        part: folder that exists.
        state: its tensors may be cut up over ranks.
        group: ranks on the CPU that exchange nothing else, `sharding.spare_group`.
    """
    flat = {f"{kind}/{name}": value.detach() for kind in TENSORS for name, value in getattr(state, kind).items()}
    writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
    return cast("Future[object]", async_save(flat, storage_writer=writer, process_group=group))


def take(path: Path, own: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Fill this rank's parts of "model", "ema" and "optimizer" from a checkpoint of any kind; every rank calls it.

    Returns:
        The checkpoint's state.

    Raises:
        ValueError: names or shapes that differ.
    """
    if not checkpoint.sharded(path):
        whole = checkpoint.load(path.parent.parent)
        found = {f"{kind}/{name}": value for kind in own for name, value in getattr(whole, kind).items()}
        shapes = {name: tuple(value.shape) for name, value in found.items()}
    else:
        there = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
        shapes = {name: tuple(cast("TensorStorageMetadata", meta).size) for name, meta in there.items()}
        found = None
    flat = {f"{kind}/{name}": value.detach() for kind in own for name, value in own[kind].items()}
    kinds = {kind for kind in own if own[kind]}
    for name in sorted({name for name in shapes if name.split("/")[0] in kinds} ^ flat.keys()):
        side = "this run has no such tensor" if name in shapes else "it is missing there"
        raise ValueError(f"{path}: {name!r}: {side}; go on with the model that was trained")
    for name, value in flat.items():
        if shapes[name] != tuple(value.shape):
            own_shape = tuple(value.shape)
            raise ValueError(f"{path}: {name!r} is {shapes[name]}, the model's is {own_shape}; go on with that model")
    if found is None:
        read_parts(flat, storage_reader=HuggingFaceStorageReader(str(path)))
    else:
        fill(flat, found)
    return checkpoint.read_state(path)


def read(path: Path, tensor: int) -> dict[str, dict[str, Tensor]]:
    """All of a checkpoint in one process: "model", "ema", "optimizer" by name, in their plain order.

    Args:
        path: the checkpoint.
        tensor: over how many tensor parallel ranks the SwiGLUs were cut.
    """
    reader = HuggingFaceStorageReader(str(path))
    whole = {}
    for name, meta in reader.read_metadata().state_dict_metadata.items():
        meta = cast("TensorStorageMetadata", meta)
        whole[name] = torch.empty(meta.size, dtype=meta.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        read_parts(whole, storage_reader=reader, no_dist=True)
    groups: dict[str, dict[str, Tensor]] = {kind: {} for kind in TENSORS}
    for name, value in whole.items():
        kind, _, rest = name.partition("/")
        inner = tensor > 1 and ".w12." in rest and value.ndim > 0
        groups[kind][rest] = unwoven(value, tensor) if inner else value
    return groups
