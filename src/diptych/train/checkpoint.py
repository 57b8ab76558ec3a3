"""Checkpoints: one folder each, named by images seen, written whole or not at all; safetensors and JSON, never pickles.

<folder>/checkpoints/000000051200/  model, ema, optimizer (.safetensors)  state.json
                                    or shard-*.safetensors, a file a rank, where weights are cut up over ranks
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

from diptych.files import StoreError

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
    """Write a checkpoint and drop all but the newest `keep`; a kill at any moment leaves the older ones whole.

    Args:
        folder: of the run.
        checkpoint: tensors that share no memory, `apart`.
        keep: checkpoints kept, this one among them.

    Raises:
        StoreError: the disk is full or the folder cannot be written; the older ones are intact.
    """
    path = place(folder, checkpoint.images)
    if path.exists():  # the same run at the same place
        return path
    part = begin(path)
    try:
        for name in TENSORS:
            save_file(dict(getattr(checkpoint, name)), part / f"{name}.safetensors")
        return seal(path, checkpoint, keep)
    except (OSError, SafetensorError) as error:
        raise spoilt(path, error) from error


def place(folder: Path, images: int) -> Path:
    """Where the checkpoint after `images` images lies."""
    return folder / "checkpoints" / f"{images:012d}"


def begin(path: Path) -> Path:
    """An empty folder to write a checkpoint in; it becomes `path` by `seal`."""
    part = path.with_name(path.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return part


def seal(path: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Finish what `begin` began: write state.json, make sure of the disk, rename, drop all but the newest `keep`."""
    part = path.with_name(path.name + ".part")
    state = {"schema": 1, "images": checkpoint.images, **checkpoint.state}
    (part / "state.json").write_text(json.dumps(state, indent=1), encoding="ascii")
    for file in part.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    os.replace(part, path)
    for old in numbered(path.parent.parent)[:-keep]:
        shutil.rmtree(old)
    return path


def spoilt(path: Path, error: BaseException) -> StoreError:
    """The error that says what became of a checkpoint that could not be written; its remains are removed."""
    shutil.rmtree(path.with_name(path.name + ".part"), ignore_errors=True)
    good = numbered(path.parent.parent)
    left = f"the last good checkpoint is {good[-1]}" if good else "no checkpoint was written before"
    return StoreError(f"cannot write checkpoint {path} ({error}); {left}: mend that and run the same command to go on")


def numbered(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("[0-9]" * 12) if path.is_dir())


def newest(folder: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        ValueError: there is none.
    """
    paths = numbered(folder)
    if not paths:
        raise ValueError(f"checkpoint: none under {folder}; train there first, or name the folder of a run")
    return paths[-1]


def load(folder: Path) -> Checkpoint:
    """The newest checkpoint of a run, on the CPU.

    Raises:
        ValueError: no checkpoint, or one that cannot be read.
    """
    path = newest(folder)
    try:
        state = read_state(path)
        if sharded(path):
            from diptych.train import shards

            groups = shards.read(path, state["config"].get("tensor", 1))
        else:
            groups = {name: load_file(path / f"{name}.safetensors") for name in TENSORS}
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"checkpoint: {path} cannot be read ({error}); delete it to go on from the one before") from error
    return Checkpoint(images=state["images"], state=state, **groups)


def read_state(path: Path) -> dict[str, Any]:
    """What is no tensor in a checkpoint."""
    return json.loads((path / "state.json").read_text(encoding="ascii"))


def sharded(path: Path) -> bool:
    """Whether a checkpoint was written a file a rank."""
    return any(path.glob("shard-*.safetensors"))


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


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights to one safetensors file, atomically; equal weights give equal bytes."""
    part = path.with_name(path.name + ".part")
    # one entry: safetensors writes several in a random order
    save_file(apart(weights), part, metadata={"run": json.dumps(dict(metadata))})
    os.replace(part, path)


def load_weights(path: Path, model: nn.Module) -> nn.Module:
    """Put the finished weights of a run (its average, where it kept one) into `model`, and return it.

    Args:
        path: the folder of the run, or a safetensors file.
        model: the network they belong to.

    Raises:
        ValueError: the run is not finished, or its weights do not fit.
    """
    file = path if path.suffix == ".safetensors" else path / "model.safetensors"
    put(model, read_weights(file), str(file))
    return model


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: no such file, or not a whole one.
    """
    if not path.is_file():
        raise ValueError(f"weights: {path} is missing; train it first (an unfinished run has none), or name another")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"weights: {path} cannot be read ({error}); copy it again, or name another") from error


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies that share no memory, as safetensors wants them (tied weights are written twice)."""
    return {name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, value in tensors.items()}
