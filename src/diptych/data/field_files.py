"""Fields out of users' files (`field_formats`), folders of them, and xarray objects.

A file is a source (`Fields.sources`); an axis `s` of a layout makes one of each of its entries.
"""

from __future__ import annotations

import difflib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych import files
from diptych.data.field_formats import PICTURES, SUFFIXES, Array, Wanted, even, is_zarr, open_file
from diptych.data.fields import Fields, check, leak_test

LAYOUTS = {1: "x", 2: "yx", 3: "tyx", 4: "tcyx", 5: "stcyx"}
"""What the axes of an array are taken for unless it is said: s source, t field, c channel, y and x the grid."""


LETTERS = {
    **dict.fromkeys(("s", "member", "ensemble", "ens", "realization", "number"), "s"),
    **dict.fromkeys(("t", "time", "date"), "t"),
    **dict.fromkeys(("c", "channel", "band"), "c"),
    **dict.fromkeys(("y", "lat", "latitude", "row"), "y"),
    **dict.fromkeys(("x", "lon", "longitude", "column"), "x"),
}
"""Dimensions' names that tell the layout, where a file names all of its."""


@dataclass(frozen=True)
class Source:
    """Where fields are and how to read them.

    Args:
        path: a file, or a folder of files of one kind.
        layout: letters of an array's axes in order: s (source), t (field), c (channel), y, x. By default x, yx, tyx, tcyx or
            stcyx by their number; files that name their dimensions are asked first.
        variables: of npz, zarr, netCDF and HDF5 files; each is a channel. "" in a file with one.
        periodic: axes that wrap: "", "x", "y" or "yx".
        spacing: of grid points along the axes in order; () = from the file's coordinates, else unknown.
        mask: variable that is true where points are valid.
        nan: "error", or "mask": points that are not finite are missing.
        window: cut fields into windows of this many points along each axis, side by side; () = whole fields.
        grey: pictures by their luminance, one channel, instead of red, green and blue.
    """

    path: str
    layout: str = ""
    variables: tuple[str, ...] = ()
    periodic: str = ""
    spacing: tuple[float, ...] = ()
    mask: str = ""
    nan: Literal["error", "mask"] = "error"
    window: tuple[int, ...] = ()
    grey: bool = True

    def __post_init__(self) -> None:
        odd = sorted(set(self.layout) - set("stcyx"))
        if odd or len(set(self.layout)) != len(self.layout) or (self.layout and "x" not in self.layout):
            raise ValueError(f"layout: {self.layout!r}; write each of the letters s, t, c, y, x once at most, and x always")
        if set(self.periodic) - set("yx"):
            raise ValueError(f"periodic: {self.periodic!r}; name axes: x, y or yx")


@dataclass(frozen=True)
class _Block:
    """The fields of one source: values and mask (t, c, *grid)."""

    name: str
    values: np.ndarray
    mask: np.ndarray | None
    channels: tuple[str, ...]
    spacing: tuple[float, ...] | None
    units: str


def read(source: Source) -> Fields:
    """Read, check and gather fields; warns of an axis declared periodic that is not.

    Raises:
        ValueError: nothing there, a reader that is not installed, an unknown variable, files whose shapes differ, and what
            `fields.check` refuses; names the file.
    """
    path = Path(source.path)
    if not path.exists():
        near = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*")], n=1)
        raise ValueError(f"{path} does not exist" + (f"; did you mean {near[0]!r}?" if near else ""))
    if (path / "manifest.json").is_file():
        return _checked(_made(path), source)
    wanted = Wanted(source.variables, source.mask, source.grey)
    blocks: list[_Block] = []
    for file in _files(path):
        shown = file.name if file == path else file.relative_to(path).as_posix()
        blocks += _blocks(open_file(file, wanted), source, shown)
    return _checked(_gathered(blocks, source), source)


def from_xarray(found: Any, layout: str = "", periodic: str = "") -> Fields:
    """An xarray DataArray, or Dataset whose variables are channels, as fields; missing values (NaN) are masked."""
    if hasattr(found, "data_vars"):
        if not found.data_vars:
            raise ValueError("xarray: the Dataset holds no variable")
        arrays = {str(name): _labelled(one) for name, one in found.data_vars.items()}
    else:
        arrays = {str(found.name or "value"): _labelled(found)}
    source = Source("xarray", layout, tuple(arrays), periodic, nan="mask")
    return _checked(_gathered(_blocks(arrays, source, "xarray"), source), source)


def _labelled(one: Any) -> Array:
    coordinates = {str(dim): np.asarray(one.coords[dim].values) for dim in one.dims if dim in one.coords}
    units = {str(dim): str(one.coords[dim].attrs.get("units", "")) for dim in one.dims if dim in one.coords}
    spacing = {dim: h for dim, line in coordinates.items() if (h := even(line))}
    return Array(np.asarray(one.values), tuple(str(dim) for dim in one.dims), spacing, units)


def _gathered(blocks: list[_Block], source: Source) -> Fields:
    first = blocks[0]
    for one in blocks:
        if one.values.shape[1:] != first.values.shape[1:] or one.channels != first.channels:
            raise ValueError(
                f"{one.name}: shape {one.values.shape[2:]} of channels {', '.join(one.channels)}, but {first.name} has "
                f"{first.values.shape[2:]} of {', '.join(first.channels)}; give files of one shape, or a window"
            )
    values = np.concatenate([one.values for one in blocks])
    mask = None
    if any(one.mask is not None for one in blocks):
        mask = np.concatenate([np.ones_like(one.values, bool) if one.mask is None else one.mask for one in blocks])
    axes = ("y", "x")[-(values.ndim - 2) :]
    if source.spacing and len(source.spacing) != len(axes):
        raise ValueError(f"spacing: {source.spacing} for axes {', '.join(axes)}; give one number an axis")
    absent = sorted(set(source.periodic) - set(axes))
    if absent:
        raise ValueError(f"periodic: there is no axis {absent[0]} in fields of shape {values.shape[2:]}")
    return Fields(
        values,
        tuple(one.name for one in blocks),
        np.repeat(np.arange(len(blocks)), [len(one.values) for one in blocks]),
        first.channels,
        tuple(axis in source.periodic and not source.window for axis in axes),
        source.spacing or first.spacing,
        first.units,
        mask,
    )


def _checked(fields: Fields, source: Source) -> Fields:
    fields = check(fields, source.nan)
    for leak in leak_test(fields):
        if leak.leaks and leak.declared:
            warnings.warn(f"{source.path}: {leak.words}", stacklevel=3)
    return fields


def _made(folder: Path) -> Fields:
    """A folder of `data.turbulence`, every split."""
    from diptych.data import turbulence

    config = turbulence.read_config(folder)
    loaded = {split: turbulence.load(folder, split) for split in turbulence.SPLITS if getattr(config, split)}
    whole = np.concatenate([one.reshape(-1, 1, *one.shape[2:]) for one in loaded.values()])
    names = tuple(f"{split}/{index:03d}" for split, one in loaded.items() for index in range(len(one)))
    manifest = files.read_json(folder / "manifest.json")
    owner = np.repeat(np.arange(len(names)), config.fields)
    return Fields(whole, names, owner, ("vorticity",), (True, True), tuple(manifest["spacing"]), manifest["units"]["length"])


def _files(path: Path) -> list[Path]:
    if path.is_file() or is_zarr(path):
        if path.suffix.lower() not in SUFFIXES and not is_zarr(path):
            raise ValueError(f"{path}: {path.suffix or 'a file without ending'} is not read; give {', '.join(SUFFIXES)}")
        return [path]
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and (one.is_file() or is_zarr(one)))
    found = [one for one in found if not any(is_zarr(parent) for parent in one.relative_to(path).parents if parent.name)]
    if not found:
        raise ValueError(f"{path}: no file of a kind that is read ({', '.join(SUFFIXES)})")
    kinds = sorted({"picture" if one.suffix.lower() in PICTURES else one.suffix.lower() for one in found})
    if len(kinds) > 1:
        raise ValueError(f"{path} holds files of several kinds ({', '.join(kinds)}); keep one kind in a folder")
    return found


def _blocks(arrays: dict[str, Array], source: Source, shown: str) -> list[_Block]:
    """The sources in a file."""
    valid = arrays.pop(source.mask) if source.mask else None
    first = next(iter(arrays.values()))
    for name, one in arrays.items():
        if one.values.dtype.kind not in "fiub":
            raise ValueError(f"{shown}: {name or 'the array'} is of type {one.values.dtype}; give real numbers")
        if one.values.shape != first.values.shape:
            raise ValueError(
                f"{shown}: {name} has shape {one.values.shape}, {next(iter(arrays))} {first.values.shape}; one grid, please"
            )
    letters = source.layout or _guessed(first)
    if len(letters) != first.values.ndim:
        raise ValueError(
            f"{shown}: {first.values.ndim} axes {first.values.shape} do not fit layout {letters!r}; "
            "name each axis: s source, t field, c channel, y and x the grid, as in layout=tcyx"
        )
    grid = [letter for letter in "yx" if letter in letters]
    order = [letter for letter in "stc" if letter in letters] + grid
    stacked = np.stack([_ordered(one.values, letters, order, grid) for one in arrays.values()], 3)
    stacked = stacked.reshape(*stacked.shape[:2], -1, *stacked.shape[4:])  # (s, t, c, *grid): a file's c, then its variables
    inner = stacked.shape[2] // len(arrays)
    stem = [name or "value" for name in arrays]
    channels = tuple(stem if inner == 1 else [f"{name}{c}" for c in range(inner) for name in stem])
    mask = None
    if valid is not None:
        own = letters if valid.values.ndim == len(letters) else "".join(grid)
        if valid.values.ndim != len(own):
            raise ValueError(
                f"{shown}: mask {source.mask} of shape {valid.values.shape} is neither of the fields' nor the grid's"
            )
        shaped = _ordered(valid.values, own, [letter for letter in order if letter in own], grid) > 0
        try:
            mask = np.broadcast_to(shaped, stacked.shape)
        except ValueError:
            raise ValueError(f"{shown}: mask {source.mask} of shape {valid.values.shape} does not fit the fields") from None
        stacked = np.where(mask, stacked, np.float32(0))
    spacing, units = _facts(first, letters, grid)
    names = [f"{shown} [{index}]" if "s" in letters else shown for index in range(len(stacked))]
    masks = [None] * len(stacked) if mask is None else [_windows(one, source, name) for one, name in zip(mask, names)]
    return [
        _Block(name, _windows(one, source, name), own, channels, spacing, units)
        for name, one, own in zip(names, stacked, masks)
    ]


def _guessed(array: Array) -> str:
    """The layout by the dimensions' names where they tell, else by their number."""
    letters = "".join(LETTERS.get(name.lower(), "?") for name in array.dims)
    if "x" in letters and "?" not in letters and len(set(letters)) == len(letters):
        return letters
    count = array.values.ndim
    if count not in LAYOUTS:
        raise ValueError(f"an array of {count} axes needs a layout of as many letters out of s, t, c, y, x")
    return LAYOUTS[count]


def _ordered(values: np.ndarray, letters: str, order: list[str], grid: list[str]) -> np.ndarray:
    """(s, t, c, *grid) float32, absent ones of length 1."""
    moved = np.transpose(values, [letters.index(letter) for letter in order])
    shape = [moved.shape[order.index(letter)] if letter in order else 1 for letter in [*"stc", *grid]]
    return np.ascontiguousarray(moved, dtype=np.float32).reshape(shape)


def _facts(array: Array, letters: str, grid: list[str]) -> tuple[tuple[float, ...] | None, str]:
    """Spacing along the grid and its unit."""
    if not array.dims or not array.spacing:
        return None, ""
    names = [array.dims[letters.index(letter)] for letter in grid]
    if not all(name in array.spacing for name in names):
        return None, ""
    units = dict.fromkeys((array.units or {}).get(name, "") for name in names)
    return tuple(array.spacing[name] for name in names), ", ".join(units)


def _windows(block: np.ndarray, source: Source, name: str) -> np.ndarray:
    """(t, c, *grid) cut into windows side by side, (t * windows, c, *window)."""
    if not source.window:
        return block
    shape = block.shape[2:]
    if len(source.window) != len(shape) or any(w < 1 or w > n for w, n in zip(source.window, shape)):
        raise ValueError(f"{name}: a window of {source.window} does not fit fields of {shape}")
    counts = [n // w for n, w in zip(shape, source.window)]
    cut = block[(..., *(slice(c * w) for c, w in zip(counts, source.window)))]
    parts = cut.reshape(*block.shape[:2], *(n for pair in zip(counts, source.window) for n in pair))
    dims = len(shape)
    axes = [0, *(2 + 2 * i for i in range(dims)), 1, *(3 + 2 * i for i in range(dims))]
    return parts.transpose(axes).reshape(block.shape[0] * math.prod(counts), block.shape[1], *source.window)
