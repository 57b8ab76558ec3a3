"""A prepared set: webdataset tars of pictures of training size, an index that finds any record at once, and a manifest.

    manifest.json   counts, what was skipped and why, the settings, the hash of each shard
    index.npy       one row a record (`ROW`), read through memory mapping
    NAME-000000.tar 00000000.png, 00000000.json {"key", "captions", "width", "height"}, ...

Any program that reads webdataset reads the tars; the index is ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data import tars
from diptych.data.records import Broken, Record, parsed, read_at
from diptych.files import read_json, writing

SCHEMA = 1
ROW = np.dtype(
    [
        ("shard", "<u4"),
        ("image", "<u8"),
        ("image_size", "<u4"),
        ("text", "<u8"),
        ("text_size", "<u4"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("captions", "<u2"),
        ("words", "<u8"),  # of what stands beside the picture
        ("digest", "<u8"),  # of the picture's bytes in the source
        ("looks", "<u8", (2,)),  # `duplicates.looks`
        ("colour", "u1", (3,)),  # its mean
    ]
)


@dataclass(frozen=True)
class Ready:
    """A record as it goes into a shard.

    Args:
        key, captions, annotation: as in `Record`.
        image: the encoded picture.
        size: (width, height) of it.
        digest, looks, colour: see `ROW`.
    """

    key: str
    captions: tuple[str, ...]
    annotation: str
    image: bytes
    size: tuple[int, int]
    digest: int
    looks: tuple[int, int]
    colour: tuple[int, int, int]

    def text(self) -> bytes:
        """What stands beside the picture."""
        fields: dict[str, Any] = {"key": self.key, "captions": self.captions, "width": self.size[0], "height": self.size[1]}
        if self.annotation:
            fields["annotation"] = self.annotation
        return json.dumps(fields, ensure_ascii=False).encode()


def write_shard(path: Path, records: Iterable[Ready], suffix: str) -> np.ndarray:
    """Write records as one archive, whole or not at all; returns their rows of the index, for shard 0."""
    rows = []
    with writing(path) as file:
        for i, record in enumerate(records):
            text = record.text()
            image_at = tars.put(file, f"{i:08d}{suffix}", record.image)
            text_at = tars.put(file, f"{i:08d}.json", text)
            place = (0, image_at, len(record.image), text_at, len(text))
            rows.append(
                (*place, *record.size, len(record.captions), short_hash(text), record.digest, record.looks, record.colour)
            )
        tars.finish(file)
    return np.array(rows, ROW)


def short_hash(data: bytes) -> int:
    """64 bits of some bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Shards:
    """A prepared set; made by `open_shards`.

    Args:
        name: for messages.
        folder: where it lies.
        files: the archives' names.
        content: hash of everything in it.
        index: rows of `ROW`, memory-mapped.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    content: str
    index: np.ndarray = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> Record:
        at = self.index[row]
        file = f"{self.folder}/{self.files[at['shard']]}"
        start, end = int(at["image"]), int(at["text"]) + int(at["text_size"])
        data = read_at(file, start, end - start)  # picture and words are neighbours
        if len(data) < end - start:
            raise Broken(f"{self.name}, row {row}", f"{self.files[at['shard']]} is cut off within it")
        fields = parsed(f"{self.name}, row {row}", data[int(at["text"]) - start :])
        image = data[: int(at["image_size"])]
        return Record(str(fields["key"]), image, tuple(fields["captions"]), str(fields.get("annotation", "")))

    @property
    def sizes(self) -> np.ndarray:
        """(width, height) of each picture, (N, 2) int64."""
        return np.stack([self.index["width"], self.index["height"]], 1).astype(np.int64)

    @property
    def caption_counts(self) -> np.ndarray:
        """Captions of each record, (N,) int64."""
        return self.index["captions"].astype(np.int64)


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a prepared set."""
    return (folder / "manifest.json").is_file() and (folder / "index.npy").is_file()


def open_shards(folder: Path, name: str = "") -> Shards:
    """Open a prepared set.

    Raises:
        ValueError: no such set, one of another schema, or one whose shards or index are missing or of another length.
    """
    manifest = read_json(folder / "manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise ValueError(f"{folder}: a prepared set of schema {manifest.get('schema')}, not {SCHEMA}; prepare it again")
    shards = manifest["shards"]
    for shard in shards:
        path = folder / shard["file"]
        if not path.is_file() or path.stat().st_size != shard["bytes"]:
            what = "is missing" if not path.is_file() else f"has {path.stat().st_size:,} bytes, not {shard['bytes']:,}"
            raise ValueError(f"{path}: {what}; run the same `diptych data prepare` again with its shard removed")
    index = np.load(folder / "index.npy", mmap_mode="r", allow_pickle=False) if manifest["records"] else np.zeros(0, ROW)
    if index.dtype != ROW or len(index) != manifest["records"]:
        raise ValueError(f"{folder}/index.npy: does not fit manifest.json; remove both and prepare again")
    files = tuple(shard["file"] for shard in shards)
    return Shards(name or manifest["name"], str(folder), files, manifest["content"], index)
