"""i1's JAX checkpoints: an .npz whose keys are paths joined by "/", kernels the other way round from torch's weights."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from diptych.files import writing

PREFIXES = ("params_ema/", "params/", "")
"""Where the weights stand, best first; "opt/" and "chrono/" are the trainer's."""

AXES = {2: (1, 0), 4: (3, 2, 0, 1)}
"""Axes of a kernel (in, out) or (height, width, in, out) in the order of a torch weight."""


def jax_name(name: str, depth: int) -> str:
    """Key of a published torch tensor: blocks are numbered through, weights are kernels."""
    half = depth // 2
    name = re.sub(r"^in_blocks\.(\d+)", r"blocks_\1", name)
    name = re.sub(r"^mid_block", f"blocks_{half}", name)
    name = re.sub(r"^out_blocks\.(\d+)", lambda found: f"blocks_{half + 1 + int(found[1])}", name)
    return re.sub(r"\.weight$", ".kernel", name).replace(".", "/")


def torch_name(key: str, depth: int) -> str:
    """The inverse of `jax_name`."""
    half = depth // 2

    def block(found: re.Match[str]) -> str:
        i = int(found[1])
        return f"in_blocks.{i}" if i < half else "mid_block" if i == half else f"out_blocks.{i - half - 1}"

    return re.sub(r"\.kernel$", ".weight", re.sub(r"^blocks_(\d+)", block, key.replace("/", ".")))


def read_jax(
    path: Path, device: str = "cpu", dtype: torch.dtype | None = None
) -> tuple[dict[str, tuple[int, ...]], Iterator[tuple[str, Tensor]]]:
    """Shapes by published torch name, and the tensors one at a time: the EMA weights where the file has them.

    Raises:
        ValueError: not an .npz of arrays.
    """
    try:
        with zipfile.ZipFile(path) as file:
            found = {name.removesuffix(".npy"): _shape(file, name) for name in file.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a readable npz file ({error})") from None
    prefix = next(one for one in PREFIXES if any(key.startswith(one) for key in found) or not one)
    keys = {key.removeprefix(prefix): key for key in found if key.startswith(prefix)}
    depth = 1 + max((int(number[1]) for key in keys if (number := re.match(r"blocks_(\d+)/", key))), default=0)
    names = {torch_name(key, depth): whole for key, whole in keys.items()}
    shapes = {name: tuple(found[key][axis] for axis in _axes(key, len(found[key]))) for name, key in names.items()}

    def each() -> Iterator[tuple[str, Tensor]]:
        with np.load(path, allow_pickle=False) as arrays:
            for name, key in names.items():
                array = np.ascontiguousarray(arrays[key].transpose(_axes(key, arrays[key].ndim)))
                yield name, torch.from_numpy(array).to(device, dtype)

    return shapes, each()


def write_jax(tensors: Mapping[str, Tensor], path: Path, depth: int) -> Path:
    """Published torch tensors as "params_ema" of a JAX file, float32; rotary tables, which JAX has not, are left out."""
    arrays = {}
    for name, value in tensors.items():
        if not name.startswith("rope_embedder."):
            key, array = PREFIXES[0] + jax_name(name, depth), value.float().cpu().numpy()
            arrays[key] = array.transpose(np.argsort(_axes(key, array.ndim)))
    with writing(path) as file:
        np.savez(file, **arrays)
    return path


def _axes(key: str, count: int) -> tuple[int, ...]:
    return AXES[count] if key.endswith("/kernel") else tuple(range(count))


def _shape(file: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with file.open(name) as array:
        version = npy.read_magic(array)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return read(array)[0]
