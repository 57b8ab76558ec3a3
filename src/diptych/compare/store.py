"""What a run leaves on disk, and how it is written: atomically, as it is produced, keyed by content.

samples/<arm-key>/ and rows/<arm-key>/<metric>-<key>/ hold one part file a batch; `compact` joins them when an arm is done.
Pictures (uint8, (N, H, W, 3)) are PNG files beside the parts; a part is written last, so a part that exists is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diptych.files import StoreError, picture_path, png, read_json, write_bytes, write_json, write_lines
from diptych.study import Samples, Unit, join

__all__ = [
    "StoreError",
    "compact",
    "locked",
    "others_done",
    "picture_path",
    "read_folder",
    "read_json",
    "read_rows",
    "read_samples",
    "rows_folder",
    "units_in",
    "write_bytes",
    "write_json",
    "write_lines",
    "write_part",
]


@contextmanager
def locked(run: Path, rank: int = 0) -> Iterator[None]:
    """Hold the run folder for this process.

    Raises:
        ValueError: another process holds it.
    """
    path = run / f".lock-{rank}"
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise ValueError(f"out: cannot write to {run} ({error.strerror}); choose another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise ValueError(f"out: {run} is in use by process {owner}; wait for it, or choose another --out") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def others_done(run: Path) -> None:
    """Wait until no other rank holds the run folder."""
    for path in sorted(run.glob(".lock-*")):
        if path.name != ".lock-0":
            with path.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)


def write_part(folder: Path, samples: Samples) -> None:
    """Add the samples of some units to a folder; pictures first, then the part that names them."""
    pictures = [name for name, value in samples.arrays.items() if value.dtype == np.uint8 and value.shape[3:] == (3,)]
    for name in pictures:
        for unit, pixels in zip(samples.units, samples.arrays[name], strict=True):
            write_bytes(picture_path(folder, name, unit), png(pixels))
    kept = {name: value for name, value in samples.arrays.items() if name not in pictures}
    keys = "\n".join(unit.key for unit in samples.units)
    part = hashlib.blake2b(keys.encode(), digest_size=6).hexdigest()
    write_bytes(folder / f"part-{part}.npz", _packed(samples.units, kept, samples.trace, pictures))


def read_samples(run: Path, arm_key: str, names: Sequence[str] | None = None) -> Samples | None:
    """All samples of an arm that are on disk, or None.

    Args:
        names: arrays to read; None = all.
    """
    return read_folder(run / "samples" / arm_key, names)


def read_rows(run: Path, arm_key: str, metric: str) -> tuple[tuple[Unit, ...], np.ndarray]:
    """The rows of an arm under a metric, (units, (N, k)), as run.json names their keys.

    Raises:
        ValueError: no such arm or metric in the run, or no rows yet.
    """
    info = read_json(run / "run.json")
    entry = next((m for m in info["metrics"] if m["name"] == metric), None)
    arm = next((a for a in info["arms"] if a["key"] == arm_key), None)
    if entry and arm:
        held = {"baseline": arm["held"], "truth": info["truth_key"]}.get(entry["against"], "")
        table = read_folder(rows_folder(run, arm_key, metric, entry["key"], held))
        if table:
            return table.units, table.arrays["rows"]
    raise ValueError(f"rows: {run} has none of metric {metric!r} for arm key {arm_key}")


def rows_folder(run: Path, arm_key: str, metric: str, metric_key: str, held: str) -> Path:
    """Where the rows of an arm under a metric lie; `held` is the key of the samples they are held against, if any."""
    folder = run / "rows" / arm_key / f"{metric}-{metric_key}"
    return folder / held if held else folder


def read_folder(folder: Path, names: Sequence[str] | None = None) -> Samples | None:
    """Join the parts of a folder; a unit that two parts hold (a kill between compaction and clean-up) is taken once."""
    parts, seen = [], set[Unit]()
    for path in sorted(folder.glob("*.npz")):
        part = _unpacked(path, folder, names)
        fresh = [unit for unit in part.units if unit not in seen]
        seen.update(fresh)
        if fresh:
            parts.append(part if len(fresh) == len(part) else part.take(fresh))
    return join(parts) if parts else None


def units_in(folder: Path) -> set[Unit]:
    """Which units a folder holds."""
    found = set[Unit]()
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            found.update(_units(file))
    return found


def compact(folder: Path) -> None:
    """Join the parts of a folder into one file, `all.npz`, and remove them."""
    parts = sorted(folder.glob("part-*.npz"))
    if not parts:
        return
    with np.load(parts[0], allow_pickle=False) as file:
        pictures = json.loads(str(file["pictures"]))
    whole = read_folder(folder, names=[]) if pictures else read_folder(folder)
    if whole is None:
        return
    write_bytes(folder / "all.npz", _packed(whole.units, whole.arrays, whole.trace, pictures))
    for path in parts:
        path.unlink()


def _packed(units: Sequence[Unit], arrays: Any, trace: Any, pictures: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    values = {f"arrays/{k}": v for k, v in arrays.items()} | {f"trace/{k}": v for k, v in trace.items()}
    names = json.dumps([[unit.item, unit.seed] for unit in units])
    np.savez(buffer, units=np.array(names), pictures=np.array(json.dumps(list(pictures))), **values)
    return buffer.getvalue()


def _units(file: Any) -> tuple[Unit, ...]:
    return tuple(Unit(item, seed) for item, seed in json.loads(str(file["units"])))


def _unpacked(path: Path, folder: Path, names: Sequence[str] | None) -> Samples:
    with np.load(path, allow_pickle=False) as file:
        units = _units(file)
        arrays = {
            key.removeprefix("arrays/"): file[key]
            for key in file.files
            if key.startswith("arrays/") and (not names or key.removeprefix("arrays/") in names)
        }
        trace = {key.removeprefix("trace/"): file[key] for key in file.files if key.startswith("trace/")}
        pictures = json.loads(str(file["pictures"]))
    for name in pictures:
        if names is None or name in names:
            arrays[name] = np.stack([_picture(picture_path(folder, name, unit)) for unit in units])
    return Samples(units, arrays, trace)


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
