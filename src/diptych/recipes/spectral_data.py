"""Fields of the spectral study: turbulence that is made, or a user's folder, in three parts that share no trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diptych.config import from_json, to_json
from diptych.data.field_files import Source as Files
from diptych.data.field_files import read
from diptych.data.fields import Fields, Transform, stretches
from diptych.data.fields import split as split_fields
from diptych.files import read_json, write_json
from diptych.physics.kolmogorov import moved_by_keys
from diptych.physics.navier_stokes import Flow, initial, simulate
from diptych.physics.shells import SpectralGrid, invertible, power_mean, power_sum
from diptych.physics.zones import Zones

Split = Literal["train", "validation", "test", "floor"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "floor")
"""What is trained on; what settings are chosen on; what judges; as many true fields again, to see how far apart truths are."""
DATA = "data.json"


@dataclass(frozen=True)
class Simulated:
    """Forced two-dimensional turbulence, simulated when it is needed: many short trajectories, each from its own random start.

    Args:
        flow: the equation and its solver. spin_up: time left out at the start of each trajectory.
        every: time between training fields. apart: between those of the other parts; one turnover of the forcing scale is 2.4.
        trajectories: for training, validation, test (and as many again for the floor). fields: of each trajectory of each.
    """

    flow: Flow = Flow()
    spin_up: float = 40.0
    every: float = 0.5
    apart: float = 2.0
    trajectories: tuple[int, int, int] = (8, 4, 12)
    fields: tuple[int, int, int] = (160, 8, 8)

    def __post_init__(self) -> None:
        for name in ("trajectories", "fields"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != 3 or min(getattr(self, name)) < 1:
                raise ValueError(f"turbulence.{name}: {getattr(self, name)}; give three numbers: train, validation, test")

    @property
    def vorticity(self) -> bool:
        """The fields are a vorticity, whose velocity has structure functions."""
        return True

    def tested(self, trajectories: int, fields: int) -> Simulated:
        """The same with other test fields."""
        return replace(self, trajectories=(*self.trajectories[:2], trajectories), fields=(*self.fields[:2], fields))


@dataclass(frozen=True)
class Folder:
    """A user's own fields, files of them in a folder; parted by whole files (or trajectories) into training, validation, test.

    Args:
        files: where they are and how they are read; an empty path stands for none.
        stretches: cut a file into so many consecutive stretches, each a source of its own; 1 = leave files whole. For data that
            come as one long record.
        gap: fields left out between stretches. seed: of which file goes where.
        multiple: crop axes to a multiple of this many points, as the networks need.
        transform: of the values, before anything sees them; results come in both spaces.
    """

    files: Files = Files("")
    stretches: int = 1
    gap: int = 1
    seed: int = 0
    multiple: int = 16
    transform: Transform = Transform()

    @property
    def vorticity(self) -> bool:
        """Nothing is known of what the fields are."""
        return False

    def tested(self, trajectories: int, fields: int) -> Folder:
        """The same: a folder has the fields it has."""
        return self


Source = Simulated | Folder
"""Where fields come from."""


@dataclass(frozen=True)
class Part:
    """Fields of one part.

    Args:
        fields: (N, C, *shape) float32. names: one a field, unique. clusters: what each came from: a trajectory, a file.
    """

    fields: np.ndarray
    names: tuple[str, ...]
    clusters: tuple[str, ...]

    def take(self, index: Sequence[int]) -> Part:
        return Part(self.fields[list(index)], *(tuple(one[i] for i in index) for one in (self.names, self.clusters)))


@dataclass(frozen=True)
class Setting:
    """What models and metrics must know of the fields, kept beside the weights as data.json.

    Args:
        source: of the fields. grid, zones: in which they are judged.
        spectrum: mean power a mode of the training fields, (channels, shells).
        largest: the largest training value, for pictures.
    """

    source: Source
    grid: SpectralGrid
    zones: Zones
    spectrum: tuple[tuple[float, ...], ...]
    largest: float

    @property
    def channels(self) -> int:
        return len(self.spectrum)

    def save(self, folder: Path) -> None:
        write_json(folder / DATA, to_json(self))

    @classmethod
    def read(cls, folder: Path) -> Setting:
        """Raises ValueError where the folder holds no trained study."""
        if not (folder / DATA).is_file():
            raise ValueError(f"weights: {folder} holds no {DATA}; give a folder that `diptych train spectral` made")
        return from_json(cls, read_json(folder / DATA))

    @classmethod
    def of(cls, source: Source) -> Setting:
        """Made from the training fields."""
        grid, zones = judged(source)
        train = torch.from_numpy(part(source, "train").fields)
        power = torch.cat([power_mean(some.double(), invertible(grid)) for some in train.split(64)]).mean(0)
        return cls(source, grid, zones.on(grid), tuple(map(tuple, power.tolist())), float(train.abs().max()))


SHARES = {"IR": (4 / 21, 10 / 21), "DO": (11 / 21, 16 / 21), "DD": (17 / 21, 1.0)}
"""Zones of turbulence as shares of k_max: 4-10, 11-16, 17-21 at 64 x 64; the paper's own would begin at the forcing."""


def judged(source: Source) -> tuple[SpectralGrid, Zones]:
    """Grid and zones of a source; those of a folder from the spectrum of its training fields."""
    if isinstance(source, Folder):
        grid = _folder(source)["train"].grid()
        train = torch.from_numpy(_folder(source)["train"].values)
        return grid, Zones.auto(power_sum(train.double(), grid).mean((0, 1)), grid)
    flow = source.flow
    grid = SpectralGrid((flow.size, flow.size), (flow.spacing, flow.spacing), dealiased=True)
    edges, last = {}, 0
    for name, (low, high) in SHARES.items():
        first = max(round(low * grid.k_max), last + 1)
        last = max(round(high * grid.k_max), first)
        edges[name] = (first, last)
    return grid, Zones.of(edges)


@lru_cache(maxsize=8)
def part(source: Source, split: Split) -> Part:
    """The fields of one part; kept for the life of the process. A folder has no spare fields: its floor is its validation."""
    if isinstance(source, Folder):
        held = _folder(source)["validation" if split == "floor" else split]
        names = [held.sources[i] for i in held.source]
        numbered = tuple(f"{name}@{names[:i].count(name):03d}" for i, name in enumerate(names))
        return Part(held.values.astype(np.float32), numbered, tuple(names))
    which = min(SPLITS.index(split), 2)
    keys = [f"{split}-{n:02d}" for n in range(source.trajectories[which])]
    apart = source.every if split == "train" else source.apart
    start = initial(source.flow, keys)
    kept = [field for _, field in simulate(source.flow, start, apart, source.fields[which], source.spin_up)]
    fields = torch.stack(kept, 1).float()
    names = tuple(f"{key}@{i:03d}" for key in keys for i in range(fields.shape[1]))
    clusters = tuple(key for key in keys for _ in range(fields.shape[1]))
    return Part(fields.flatten(0, 1)[:, None].numpy(), names, clusters)


@lru_cache(maxsize=2)
def _folder(source: Folder) -> dict[str, Fields]:
    """The parts of a folder."""
    fields = read(source.files)
    if fields.mask is not None and not fields.mask.all():
        raise ValueError(
            f"{source.files.path}: fields with missing points; fill them or leave them out before training on them"
        )
    if source.transform.name != "none":
        fields = replace(fields, values=source.transform.apply(fields.values).astype(np.float32))
    if any(n % source.multiple for n in fields.shape):
        fields = fields.cropped(source.multiple)
    if source.stretches > 1:
        fields = stretches(fields, source.stretches, source.gap)
    return split_fields(fields, seed=source.seed)


def augmented(source: Source, fields: Tensor, keys: Tensor) -> Tensor:
    """Fields (B, C, *shape) under symmetries of their source, one a field, by one random number (B,) each.

    Of a folder's fields nothing but the periods of their axes is known: they are shifted along those.
    """
    if isinstance(source, Folder):
        wraps = _folder(source)["train"].periodic
        return torch.stack([shifted(one, wraps, key) for one, key in zip(fields, keys.tolist(), strict=True)])
    return moved_by_keys(fields, source.flow.wavenumber, keys)


def shifted(field: Tensor, wraps: Sequence[bool], key: int) -> Tensor:
    """One field (C, *shape) shifted along its periodic axes by what a random number says."""
    for axis, (n, periodic) in enumerate(zip(field.shape[1:], wraps, strict=True), 1):
        if periodic:
            field, key = field.roll(key % n, axis), key // n
    return field
