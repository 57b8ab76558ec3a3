"""Safetensors in one piece or in shards with an index, read tensor by tensor and written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from diptych.files import write_json, writing

SHARD = 5 * 2**30
"""Bytes a shard holds unless told otherwise, as hubs like them."""

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of the number types in a header."""


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def misfit(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """What is missing, unexpected or of another shape, in words; empty where all fits."""
    shapes = [
        f"{name} {tuple(found[name])} instead of {tuple(wanted[name])}"
        for name in sorted(wanted.keys() & found.keys())
        if tuple(found[name]) != tuple(wanted[name])
    ]
    parts = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": shapes,
    }
    return "; ".join(f"{what}: {some(names)}" for what, names in parts.items() if names)


def write_tensors(tensors: Mapping[str, Tensor], folder: Path, name: str, shard: int = SHARD) -> list[Path]:
    """Write NAME.safetensors, or NAME-00001-of-0000N.safetensors with NAME.safetensors.index.json where one is too small.

    Args:
        tensors: what to write; nothing but what lies on an accelerator or is not contiguous is copied, one tensor at a time.
        folder: made if it is missing.
        name: of the file, without its ending.
        shard: bytes a file may hold; a larger tensor has one to itself.

    Returns:
        The files, the index last.
    """
    groups: list[list[str]] = [[]]
    filled = 0
    for key, value in tensors.items():
        if groups[-1] and filled + value.nbytes > shard:
            groups.append([])
            filled = 0
        groups[-1].append(key)
        filled += value.nbytes
    folder.mkdir(parents=True, exist_ok=True)
    count = len(groups)
    names = [f"{name}.safetensors" if count == 1 else f"{name}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for file, keys in zip(names, groups):
        _write(folder / file, {key: tensors[key] for key in keys})
    paths = [folder / file for file in names]
    if count > 1:
        index = folder / f"{name}.safetensors.index.json"
        total = sum(value.nbytes for value in tensors.values())
        where = {key: file for file, keys in zip(names, groups) for key in keys}
        write_json(index, {"metadata": {"total_size": total}, "weight_map": where})
        paths.append(index)
    return paths


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One file: the length of a JSON header, the header, the tensors' bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, value in tensors.items():
        begin, end = end, end + value.nbytes
        header[key] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with writing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            file.write(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def tensor_files(folder: Path, name: str) -> list[Path]:
    """The files of NAME in a folder, in one piece or in shards.

    Raises:
        ValueError: none, a broken index, or shards that it names and that are not there.
    """
    whole, index = folder / f"{name}.safetensors", folder / f"{name}.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise ValueError(f"{folder}: neither {whole.name} nor {index.name}; give a folder with weights")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{index}: not an index of shards; fetch it again") from None
    missing = [file for file in names if not (folder / file).is_file()]
    if missing:
        raise ValueError(f"{folder}: shards that the index names are missing: {some(missing)}; fetch them")
    return [folder / file for file in names]


def tensor_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors in some files; their headers alone are read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with _opened(path) as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    return shapes


def each_tensor(files: Iterable[Path], device: str = "cpu", dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """The tensors of some files, one at a time.

    On the CPU and in their own dtype they are the file's pages, read when touched and copied when written to (the file stays
    as it is); else each is converted, and only one at a time is held twice.

    Args:
        files: safetensors.
        device: where they go.
        dtype: of floating tensors; None = as stored.
    """
    for path in files:
        with _opened(path) as file:
            keys = list(file.keys())
        for key in keys:
            with _opened(path) as file:  # opened anew, so that pages of converted tensors are given back
                value = file.get_tensor(key)
            yield key, value.to(device, dtype if value.is_floating_point() else None)


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt", device="cpu")
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from None


@torch.no_grad()
def assign(model: nn.Module, name: str, value: Tensor) -> None:
    """Put a tensor in the place of a parameter or buffer of a model built without values; whether it is trained stays."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    old = getattr(module, last)
    if isinstance(old, nn.Parameter):
        module.register_parameter(last, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(module, last, value)
