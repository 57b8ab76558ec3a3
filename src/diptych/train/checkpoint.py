"""Checkpoints: one folder each, named by images seen, written whole or not at all; safetensors and JSON, never pickles.

<folder>/checkpoints/000000051200/  model, ema, optimizer (.safetensors)  state.json
<folder>/model.safetensors          the weights to use, once the run is done
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TENSORS = ("model", "ema", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Args:
        images: images seen.
        model: weights.
        ema: averaged weights; empty without averaging.
        optimizer: the optimiser's state, `optim.tensors`.
        state: the rest, as JSON: config, steps, what the log has gathered since its last line.
    """

    images: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint and drop all but the newest `keep`; a kill at any moment leaves the older ones whole."""
    root = folder / "checkpoints"
    path, part = root / f"{checkpoint.images:012d}", root / f"{checkpoint.images:012d}.part"
    if path.exists():  # the same run at the same place
        return path
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    for name in TENSORS:
        save_file(_apart(getattr(checkpoint, name)), part / f"{name}.safetensors")
    state = {"schema": 1, "images": checkpoint.images, **checkpoint.state}
    (part / "state.json").write_text(json.dumps(state, indent=1), encoding="ascii")
    for file in part.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    os.replace(part, path)
    for old in numbered(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def numbered(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("[0-9]" * 12) if path.is_dir())


def load(folder: Path) -> Checkpoint:
    """The newest checkpoint of a run, on the CPU.

    Raises:
        ValueError: no checkpoint, or one that cannot be read.
    """
    paths = numbered(folder)
    if not paths:
        raise ValueError(f"checkpoint: none under {folder}; train there first, or name the folder of a run")
    path = paths[-1]
    try:
        state = json.loads((path / "state.json").read_text(encoding="ascii"))
        groups = {name: load_file(path / f"{name}.safetensors") for name in TENSORS}
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"checkpoint: {path} cannot be read ({error}); delete it to go on from the one before") from error
    return Checkpoint(images=state["images"], state=state, **groups)


def put(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights by name, all of them.

    Raises:
        ValueError: names or shapes that differ; says the first.
    """
    own = model.state_dict()
    for name in sorted(own.keys() ^ weights.keys()):
        side = "the model has no such weight" if name in weights else "it is missing there"
        raise ValueError(f"{where}: {name!r}: {side}; load into the model that was trained")
    for name, value in weights.items():
        if own[name].shape != value.shape:
            raise ValueError(
                f"{where}: {name!r} is {tuple(value.shape)}, the model's is {tuple(own[name].shape)}; "
                "load into the model that was trained"
            )
    model.load_state_dict(weights)


def save_weights(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write a network's weights to one safetensors file, atomically; equal weights give equal bytes."""
    part = path.with_name(path.name + ".part")
    # one entry: safetensors writes several in a random order
    save_file(_apart(model.state_dict()), part, metadata={"run": json.dumps(dict(metadata))})
    os.replace(part, path)


def load_weights(folder: Path, model: nn.Module) -> nn.Module:
    """Put the finished weights of the run in `folder` (its average, where it kept one) into `model`, and return it.

    Raises:
        ValueError: the run is not finished, or its weights do not fit.
    """
    path = folder / "model.safetensors"
    if not path.exists():
        raise ValueError(f"weights: {path} is missing; the run is unfinished, train it first")
    put(model, load_file(path), str(path))
    return model


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies that share no memory, as safetensors wants them (tied weights are written twice)."""
    return {name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, value in tensors.items()}
