"""Turbulence data, made and never stored: independent trajectories of forced flow for training, validation and testing.

A folder holds one .npy part a trajectory and stretch of time, float32 (fields, N, N), and a manifest.json. Parts are written
whole, and a part begins from the last field of the one before; so `make` on the same folder goes on where it was killed, and
what comes out is the same bit for bit. Trajectories are keyed by (seed, split, index): more of them leave the first unchanged.
"""

from __future__ import annotations

import io
import sys
import time as clock
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from diptych import files
from diptych.config import from_json, to_json
from diptych.load import suggest
from diptych.physics.navier_stokes import BlowUp, Flow, initial, simulate

SPLITS = ("train", "validation", "test")
SCHEMA = 1
COSTS = {64: 0.12e-3, 128: 0.42e-3, 256: 1.9e-3}
"""Seconds of one core a field and step, measured (docs/benchmarks.md); other grids by the nearest, growing as N^2."""


@dataclass(frozen=True)
class Turbulence:
    """A data set to make.

    Args:
        flow: the equation, its grid, steps and seed.
        train, validation, test: independent trajectories of each split.
        spin_up: time before the first field, whole steps.
        every: time between fields, whole steps.
        fields: of each trajectory.
        part: fields a file.
        batch: trajectories that step together; changes the speed alone.
    """

    flow: Flow = field(default_factory=Flow)
    train: int = 6
    validation: int = 2
    test: int = 4
    spin_up: float = 25.0
    every: float = 0.5
    fields: int = 240
    part: int = 80
    batch: int = 6

    def __post_init__(self) -> None:
        for name in ("train", "fields", "part", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"turbulence.{name}: {getattr(self, name)} must be positive")
        for name in ("validation", "test", "spin_up"):
            if getattr(self, name) < 0:
                raise ValueError(f"turbulence.{name}: {getattr(self, name)} is negative")

    @property
    def trajectories(self) -> tuple[tuple[str, int], ...]:
        """(split, index) of each."""
        return tuple((split, index) for split in SPLITS for index in range(getattr(self, split)))

    @property
    def steps(self) -> int:
        """Field-steps in all."""
        return len(self.trajectories) * round((self.spin_up + self.fields * self.every) / self.flow.dt)

    @property
    def seconds(self) -> float:
        """Estimated seconds of one core of the machine that COSTS was measured on."""
        near = min(COSTS, key=lambda size: abs(size - self.flow.size))
        return self.steps * COSTS[near] * (self.flow.size / near) ** 2

    @property
    def bytes(self) -> int:
        """On disk."""
        return 4 * len(self.trajectories) * self.fields * self.flow.size**2


PRESETS = {
    "64": Turbulence(),
    "128": Turbulence(
        Flow(size=128, viscosity=4e-3, wavenumber=4, dt=0.006), 4, 1, 2, spin_up=20.1, every=0.3, fields=250, batch=4
    ),
    "256": Turbulence(
        Flow(size=256, viscosity=1e-3, wavenumber=4, dt=0.0025), 4, 1, 2, spin_up=20.1, every=0.3, fields=250, batch=1
    ),
    "paper": Turbulence(
        Flow(size=256, viscosity=1e-3, wavenumber=4, dt=5e-4), 4, 1, 4, spin_up=100.0, every=0.1, fields=1125, part=125, batch=1
    ),
}
"""Ladders of 64, 128 and 256 points a side, and the published setting (arXiv 2606.11691: 256^2, viscosity 1e-3, forcing 4, dt
5e-4, a field every 0.1), whose 4500 training fields here come from four trajectories and whose tests from others; there
training and test follow each other on one."""


def preset(name: str) -> Turbulence:
    """One of PRESETS.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} of turbulence is unknown{suggest(name, PRESETS)}")
    return PRESETS[name]


def make(wanted: Turbulence, folder: Path | str, device: str = "cpu", quiet: bool = False) -> Path:
    """Make what is missing of a data set; returns the folder.

    Args:
        folder: made if it does not exist; one that was begun must be of the same settings, but for the numbers of trajectories,
            which may grow, and `batch`.
        device: where to compute. Another device gives fields that differ by rounding, and soon by more, as turbulence does.
        quiet: no progress line on stderr.

    Raises:
        ValueError: the folder holds another data set.
        BlowUp: the time step is too long; parts already written stay, and the last good field is written.
    """
    folder = Path(folder)
    manifest = folder / "manifest.json"
    if manifest.exists():
        _same(from_json(Turbulence, files.read_json(manifest)["config"]), wanted, folder)
    files.write_json(manifest, _manifest(wanted, "started", {}))
    progress = _Progress(len(wanted.trajectories) * wanted.fields, quiet)
    starts = range(0, wanted.fields, wanted.part)
    for first in starts:
        missing = [one for one in wanted.trajectories if not _part(folder, *one, first).exists()]
        progress.skip((len(wanted.trajectories) - len(missing)) * min(wanted.part, wanted.fields - first))
        for begin in range(0, len(missing), wanted.batch):
            group = missing[begin : begin + wanted.batch]
            _stretch(wanted, folder, group, first, device, progress)
    progress.end()
    held = np.concatenate(list(_loaded(folder, wanted, "train")))
    numbers = {"mean": float(held.mean(dtype=np.float64)), "std": float(held.std(dtype=np.float64))}
    files.write_json(manifest, _manifest(wanted, "complete", numbers))
    return folder


def _stretch(
    wanted: Turbulence, folder: Path, group: list[tuple[str, int]], first: int, device: str, progress: _Progress
) -> None:
    """Fields first, first + 1, ... of some trajectories, up to a part's end."""
    count = min(wanted.part, wanted.fields - first)
    if first:
        before = [np.load(_part(folder, *one, first - wanted.part), mmap_mode="r")[-1] for one in group]
        start, after = torch.from_numpy(np.stack(before)).to(device), 0.0
    else:
        start = initial(wanted.flow, [f"{split}/{index}" for split, index in group], device)
        after = wanted.spin_up
    made = np.empty((len(group), count, wanted.flow.size, wanted.flow.size), np.float32)
    try:
        for index, (_, fields) in enumerate(simulate(wanted.flow, start, wanted.every, count, after)):
            made[:, index] = fields.cpu().numpy()
            progress.add(len(group))
    except BlowUp as error:
        split, index = group[error.row]
        kept = folder / f"last-good-{split}-{index:03d}.npy"
        _save(kept, error.fields[error.row].cpu().numpy())
        words = f"trajectory {split}/{index}, fields from {first} on: {error}; the last good field is in {kept}"
        raise BlowUp(words, error.time, error.fields, error.cfl, error.row) from error
    for one, held in zip(group, made):
        _save(_part(folder, *one, first), held)


def _save(path: Path, values: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values)
    files.write_bytes(path, buffer.getvalue())


def _part(folder: Path, split: str, index: int, first: int) -> Path:
    return folder / split / f"{index:03d}" / f"{first:06d}.npy"


def _same(held: Turbulence, wanted: Turbulence, folder: Path) -> None:
    free = {name: getattr(wanted, name) for name in (*SPLITS, "batch")}
    old, new = to_json(replace(held, **free)), to_json(wanted)
    for name, value in new.items():
        pairs = [(name, old[name], value)] if name != "flow" else [(f"flow.{k}", old[name][k], v) for k, v in value.items()]
        for where, was, now in pairs:
            if was != now:
                raise ValueError(f"{folder} holds turbulence with {where}={was}, and {now} is asked for; take another --out")


def _manifest(wanted: Turbulence, status: str, numbers: dict[str, float]) -> dict:
    flow = wanted.flow
    return {
        "schema": SCHEMA,
        "kind": "turbulence",
        "status": status,
        "config": to_json(wanted),
        "channels": ["vorticity"],
        "axes": ["y", "x"],
        "spacing": [flow.spacing, flow.spacing],
        "periodic": [True, True],
        "units": {"length": "domain / 2 pi", "time": "(length / forcing amplitude)^(1/2)", "vorticity": "1 / time"},
        "k_max": flow.k_max,
        "times": {"first": wanted.spin_up + wanted.every, "every": wanted.every, "fields": wanted.fields},
        "splits": {split: getattr(wanted, split) for split in SPLITS},
        "statistics of train": numbers,
    }


def _loaded(folder: Path, wanted: Turbulence, split: str) -> Iterator[np.ndarray]:
    """The trajectories of a split, (fields, N, N) each."""
    for index in range(getattr(wanted, split)):
        parts = [np.load(_part(folder, split, index, first)) for first in range(0, wanted.fields, wanted.part)]
        yield np.concatenate(parts)


def load(folder: Path | str, split: str) -> np.ndarray:
    """Vorticity of a split, (trajectories, fields, N, N) float32.

    Raises:
        ValueError: an unknown or empty split, or a folder that is not a finished data set.
    """
    wanted = read_config(folder)
    if split not in SPLITS:
        raise ValueError(f"split {split!r} of turbulence is unknown{suggest(split, SPLITS)}")
    if not getattr(wanted, split):
        raise ValueError(f"{folder} has no {split} trajectories; make it again with more of them")
    return np.stack(list(_loaded(Path(folder), wanted, split)))


def read_config(folder: Path | str) -> Turbulence:
    """The settings of a finished data set.

    Raises:
        ValueError: the folder holds none, or one that is not finished.
    """
    path = Path(folder) / "manifest.json"
    if not path.exists():
        raise ValueError(f"{folder} holds no turbulence (no manifest.json); diptych data turbulence --out {folder} makes it")
    manifest = files.read_json(path)
    if manifest.get("kind") != "turbulence" or manifest.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a manifest of turbulence of this version; make the data again")
    if manifest["status"] != "complete":
        raise ValueError(f"{folder} is not finished; the command that began it goes on where it stopped")
    return from_json(Turbulence, manifest["config"])


class _Progress:
    """A line on stderr: live on a terminal, else one a tenth."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet, self.done, self.skipped = total, quiet, 0, 0
        self.live, self.begun, self.shown, self.tenth = sys.stderr.isatty(), clock.perf_counter(), 0.0, 0

    def skip(self, number: int) -> None:
        self.skipped += number
        self.add(number)

    def add(self, number: int) -> None:
        """Note fields made."""
        self.done += number
        now = clock.perf_counter()
        tenth = 10 * self.done // self.total
        if self.quiet or self.done == self.skipped or (now - self.shown < 0.25 if self.live else tenth == self.tenth):
            return
        self.shown, self.tenth = now, tenth
        speed = (self.done - self.skipped) / max(now - self.begun, 1e-9)
        left = f"  {(self.total - self.done) / speed:.0f} s left" if self.done < self.total else ""
        text = f"turbulence: {self.done:,}/{self.total:,} fields  {speed:,.4g} fields/s{left}"
        sys.stderr.write(f"\r\033[K{text}" if self.live else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the terminal clean."""
        if self.live and not self.quiet:
            sys.stderr.write("\r\033[K")
