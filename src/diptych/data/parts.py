"""A prepared set on its way: parts as processes made them, and the shards taken from them in order."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data import tars
from diptych.data.records import read_at
from diptych.data.shards import ROW, SCHEMA, Ready, write_shard
from diptych.files import read_json, write_bytes, write_json, writing


@dataclass
class LeftOut:
    """What did not become part of a set.

    Args:
        skipped: how many records, by reason.
        broken: "key: why" of those that cannot be read.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, other: LeftOut) -> None:
        """Count another's in."""
        self.skipped.update(other.skipped)
        self.broken += other.broken

    def record(self) -> dict[str, Any]:
        """As JSON, most frequent reason first."""
        return {"skipped": dict(self.skipped.most_common()), "broken": self.broken}


@dataclass(frozen=True)
class Done:
    """A part that was worked on.

    Args:
        index: rows of `shards.ROW` of what it holds.
        rows: source rows it saw.
        left_out: the others.
        taken: whether it was taken into the set already; `index` then holds what was kept.
    """

    index: np.ndarray
    rows: int
    left_out: LeftOut
    taken: bool


@dataclass(frozen=True)
class Parts:
    """The folder of a set that is being prepared.

    Args:
        out: the set's folder.
        name: the set's name.
        settings: what the set is made with, for the manifest.
    """

    out: Path
    name: str
    settings: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where parts lie."""
        return self.out / "parts"

    def plan(self) -> dict[str, Any]:
        """The settings that the folder was begun with; ours, written down, if it is new."""
        path = self.folder / "settings.json"
        if not path.exists():
            write_json(path, dict(self.settings))
        return read_json(path)

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}{suffix}"

    def write(self, number: int, rows: int, ready: Iterable[Ready], suffix: str, left_out: LeftOut) -> None:
        """Keep what comes of a part; `left_out` fills while `ready` is drawn from. Its JSON, written last, says it is there."""
        index = write_shard(self._path(number, ".tar"), ready, suffix)
        write_bytes(self._path(number, ".npy"), _npy(index))
        write_json(self._path(number, ".json"), {"rows": rows, **left_out.record()})

    def has(self, number: int) -> bool:
        """Whether a part needs no work."""
        made = self._path(number, ".json").exists() and self._path(number, ".tar").exists()
        return made or self._path(number, ".taken.json").exists()

    def done(self, number: int) -> Done:
        """A part that `has`."""
        taken = self._path(number, ".taken.json").exists()
        ending = ".taken" if taken else ""
        held = read_json(self._path(number, f"{ending}.json"))
        index = np.load(self._path(number, f"{ending}.npy"), allow_pickle=False)
        return Done(index, held["rows"], LeftOut(Counter(held["skipped"]), held["broken"]), taken)

    def take(self, number: int, done: Done, keep: np.ndarray, shard: int) -> None:
        """Take the rows `keep` of a part into the set, as its shard number `shard`."""
        path, file = self._path(number, ".tar"), f"{self.name}-{shard:06d}.tar"
        index = done.index[keep]
        if keep.all() and len(keep):
            path.replace(self.out / file)
        else:
            if len(index):
                index = _filtered(path, self.out / file, index)
            path.unlink()
        write_bytes(self._path(number, ".taken.npy"), _npy(index))
        record = {"shard": file if len(index) else "", "rows": done.rows, **done.left_out.record()}
        write_json(self._path(number, ".taken.json"), record)

    def name_broken(self, broken: Sequence[str]) -> None:
        """List broken records in out/broken.txt."""
        write_bytes(self.out / "broken.txt", "".join(f"{line}\n" for line in broken).encode())

    def finish(self, left_out: LeftOut) -> None:
        """Write index and manifest; parts go."""
        index, shards = [], []
        for path in sorted(self.folder.glob("*.taken.json")):
            file = read_json(path)["shard"]
            if file:
                rows = np.load(path.with_suffix(".npy"), allow_pickle=False)
                rows["shard"] = len(shards)
                index.append(rows)
                shards.append({"file": file, "records": len(rows), "bytes": (self.out / file).stat().st_size})
        whole = np.concatenate(index).astype(ROW)
        sizes = Counter(f"{width}x{height}" for width, height in zip(whole["width"].tolist(), whole["height"].tolist()))
        if left_out.broken:
            self.name_broken(left_out.broken)
        write_bytes(self.out / "index.npy", _npy(whole))
        settings = json.dumps(dict(self.settings), sort_keys=True).encode()
        manifest = {
            "schema": SCHEMA,
            "name": self.name,
            "records": len(whole),
            "captions": int(whole["captions"].sum()),
            "sizes": dict(sizes.most_common()),
            **left_out.record(),
            "content": hashlib.blake2b(settings + whole.tobytes(), digest_size=16).hexdigest(),
            "settings": dict(self.settings),
            "shards": shards,
        }
        write_json(self.out / "manifest.json", manifest)
        self.clear()

    def clear(self) -> None:
        """Remove parts of a set that is whole."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _filtered(path: Path, to: Path, index: np.ndarray) -> np.ndarray:
    """Copy some records of an archive into another, numbered anew; returns their index there."""
    found = index.copy()
    with path.open("rb") as file:
        names = {member.offset: member.name for member in tars.members(file)}
    with writing(to) as file:
        for i, row in enumerate(index):
            for field in ("image", "text"):
                offset = int(row[field])
                data = read_at(str(path), offset, int(row[f"{field}_size"]))
                found[field][i] = tars.put(file, f"{i:08d}.{names[offset].partition('.')[2]}", data)
        tars.finish(file)
    return found


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
