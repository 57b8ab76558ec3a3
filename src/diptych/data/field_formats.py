"""Arrays out of files: npy, npz, zarr, netCDF, HDF5 and pictures, with what the files tell of their axes.

netCDF of the classic kind is read by scipy, of the fourth by h5py (it is HDF5); zarr by zarr. Those two are the extra `fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.load import suggest

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SUFFIXES = (".npy", ".npz", ".zarr", ".nc", ".nc4", ".cdf", ".h5", ".hdf5", *PICTURES)


@dataclass(frozen=True)
class Array:
    """An array of a file: its dimensions' names and its coordinates' spacings and units where the file tells."""

    values: np.ndarray
    dims: tuple[str, ...] = ()
    spacing: Mapping[str, float] | None = None
    units: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Wanted:
    """What of a file: variables that are channels (none: its only one), the mask's, pictures by their luminance."""

    variables: tuple[str, ...] = ()
    mask: str = ""
    grey: bool = True


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return path.is_dir() and any((path / name).exists() for name in (".zgroup", ".zarray", "zarr.json"))


def open_file(file: Path, wanted: Wanted) -> dict[str, Array]:
    """The arrays asked for, by name.

    Raises:
        ValueError: an unknown variable, several to choose from, or a reader that is not installed.
    """
    kind = file.suffix.lower()
    if kind in PICTURES:
        return {"": _picture(file, wanted.grey)}
    if kind == ".npy":
        return {"": Array(np.load(file, mmap_mode="r", allow_pickle=False))}
    if kind == ".npz":
        with np.load(file, allow_pickle=False) as held:
            return {name: Array(held[name]) for name in _chosen(list(held.files), wanted, file)}
    if is_zarr(file):
        return _zarr(file, wanted)
    with open(file, "rb") as opened:
        classic = opened.read(3) == b"CDF"
    return _classic(file, wanted) if classic else _hdf(file, wanted)


def _chosen(names: list[str], wanted: Wanted, file: Path) -> list[str]:
    """The variables asked for, and the mask's."""
    asked = [*wanted.variables, *([wanted.mask] if wanted.mask else [])]
    for name in asked:
        if name not in names:
            raise ValueError(f"{file.name}: no variable {name!r}{suggest(name, names)}")
    if wanted.variables:
        return asked
    rest = [name for name in names if name != wanted.mask]
    if len(rest) != 1:
        held = f"variables {', '.join(rest[:12])}" if rest else "no variable"
        raise ValueError(f"{file.name}: holds {held}; name which are the channels: variables={rest[0] if rest else 'NAME'}")
    return [*rest, *([wanted.mask] if wanted.mask else [])]


def _picture(file: Path, grey: bool) -> Array:
    from PIL import Image

    with Image.open(file) as picture:
        if picture.mode in ("I;16", "I", "F"):
            return Array(np.asarray(picture, np.float32), ("y", "x"))
        pixels = np.asarray(picture.convert("L" if grey else "RGB"), np.float32) / 255
    return Array(pixels, ("y", "x")) if grey else Array(np.moveaxis(pixels, -1, 0), ("c", "y", "x"))


def _zarr(file: Path, wanted: Wanted) -> dict[str, Array]:
    zarr = _module("zarr", file)
    opened = zarr.open(str(file), mode="r")
    if not hasattr(opened, "array_keys"):
        return {"": Array(np.asarray(opened[...]), _zarr_dims(opened))}
    every = {str(name): opened[name] for name in opened.array_keys()}
    dims = {name: _zarr_dims(one) for name, one in every.items()}
    lines = {name for name in every if dims[name] == (name,)}
    chosen = _chosen([name for name in every if name not in lines], wanted, file)
    attributes = {name: dict(every[name].attrs) for name in every}
    coordinates = {name: (np.asarray(every[name][...]), str(attributes[name].get("units", ""))) for name in lines}
    # zarr's own fill_value is what unwritten chunks read as, not a mark of missing points: only the attributes count
    return {name: _decoded(np.asarray(every[name][...]), dims[name], attributes[name], coordinates) for name in chosen}


def _zarr_dims(array: Any) -> tuple[str, ...]:
    named = array.attrs.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None) or ()
    return tuple(str(one) for one in named)


def _classic(file: Path, wanted: Wanted) -> dict[str, Array]:
    from scipy.io import netcdf_file

    with netcdf_file(str(file), mmap=False) as held:
        dims = {name: tuple(one.dimensions) for name, one in held.variables.items()}
        lines = {name for name in dims if dims[name] == (name,)}
        chosen = _chosen([name for name in dims if name not in lines and dims[name]], wanted, file)
        attributes = {name: {k: _text(v) for k, v in held.variables[name]._attributes.items()} for name in dims}
        coordinates = {name: (np.array(held.variables[name][:]), attributes[name].get("units", "")) for name in lines}
        return {name: _decoded(np.array(held.variables[name][:]), dims[name], attributes[name], coordinates) for name in chosen}


def _hdf(file: Path, wanted: Wanted) -> dict[str, Array]:
    h5py = _module("h5py", file)
    with h5py.File(file, "r") as held:
        every: dict[str, Any] = {}
        held.visititems(lambda name, one: every.__setitem__(name, one) if isinstance(one, h5py.Dataset) else None)
        every = {name: one for name, one in every.items() if one.ndim and one.dtype.kind in "fiub"}
        attributes = {name: {k: _text(v) for k, v in one.attrs.items()} for name, one in every.items()}
        lines = {name for name in every if attributes[name].get("CLASS") == "DIMENSION_SCALE"}
        chosen = _chosen([name for name in every if name not in lines], wanted, file)
        coordinates = {
            name.rpartition("/")[2]: (np.asarray(every[name][...]), attributes[name].get("units", "")) for name in lines
        }
        made = {}
        for name in chosen:
            scales = [axis[0].name.rpartition("/")[2] if len(axis) else "" for axis in every[name].dims]
            labels = [axis.label or scale for axis, scale in zip(every[name].dims, scales)]
            dims = tuple(scale or label for scale, label in zip(scales, labels))
            made[name] = _decoded(np.asarray(every[name][...]), dims if all(dims) else (), attributes[name], coordinates)
        return made


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _module(name: str, file: Path) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ValueError(f"{file.name}: reading it needs {name}; pip install 'diptych[fields]'") from None


def _decoded(
    values: np.ndarray, dims: tuple[str, ...], attributes: Mapping[str, Any], coordinates: Mapping[str, tuple[np.ndarray, Any]]
) -> Array:
    """CF conventions: missing values become NaN, then scale_factor and add_offset; spacings from coordinates."""
    wide = values.astype(np.float32)
    for name in ("_FillValue", "missing_value"):
        if name in attributes:
            wide[np.isin(values, np.asarray(attributes[name]))] = np.nan
    scale, offset = (float(np.asarray(attributes.get(k, d)).ravel()[0]) for k, d in (("scale_factor", 1), ("add_offset", 0)))
    if (scale, offset) != (1.0, 0.0):
        wide = wide * np.float32(scale) + np.float32(offset)
    spacing = {dim: h for dim in dims if dim in coordinates and (h := even(coordinates[dim][0]))}
    return Array(wide, dims, spacing, {dim: str(coordinates[dim][1]) for dim in spacing})


def even(line: np.ndarray) -> float | None:
    """The step of an evenly spaced coordinate; None if it is not one."""
    if line.ndim != 1 or len(line) < 2 or line.dtype.kind not in "fiu":
        return None
    gaps = np.diff(line.astype(np.float64))
    step = float(gaps.mean())
    return abs(step) if step and np.abs(gaps - step).max() < 1e-3 * abs(step) else None
