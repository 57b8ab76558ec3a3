"""What a frozen network makes of a set, computed once: latents of pictures, states of captions.

    cache.json        the key (network, set, number format), counts; written last
    00000.values.npy  the numbers of `per_shard` items, one after the other
    00000.shapes.npy  their shapes, (items, axes); written after the values, so a shard is there when this is

Items may differ in shape (aspect buckets, lengths of captions). Reading maps the files into memory. A build that was stopped
goes on with the first shard that is missing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diptych.data.records import Broken, Record, Source
from diptych.data.sources import content
from diptych.files import read_json, write_bytes, write_json
from diptych.keys import fingerprint

Encode = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) uint8 to latents (B, ...), row by row."""
EncodeTexts = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Texts to states (B, L, D) and mask (B, L), True at tokens: `TextEncoder.encode` with its length bound."""
Told = Callable[[int, int], None]
"""Called with (items done, items in all)."""


@dataclass(frozen=True)
class Cache:
    """Arrays on disk, by number. Made by `build`, `latents`, `texts`, or `open_cache`."""

    folder: str
    key: str
    items: int
    per_shard: int

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, item: int) -> np.ndarray:
        """One item, a view of the mapped file."""
        if not 0 <= item < self.items:
            raise IndexError(f"item {item} of {self.items}")
        shard, at = divmod(item, self.per_shard)
        values, shapes, ends = _shard(self.folder, self.key, shard)
        return values[ends[at] : ends[at + 1]].reshape(shapes[at])


@dataclass(frozen=True)
class Texts:
    """Caption states of a set, by record and caption.

    Args:
        states: one item a caption, (L, D).
        first: where each record's captions start, (records + 1,).
        words: words of each caption.
    """

    states: Cache
    first: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.first) - 1

    def counts(self, row: int) -> list[int]:
        """Words of each caption of a record."""
        return self.words[self.first[row] : self.first[row + 1]].tolist()

    def of(self, row: int, caption: int) -> np.ndarray:
        """States of a record's caption, (L, D)."""
        return self.states[int(self.first[row]) + caption]


@lru_cache(maxsize=1024)
def _shard(folder: str, key: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (mapped), shapes, and where each item ends; the key is there so that another build is another entry."""
    values = np.load(f"{folder}/{number:05d}.values.npy", mmap_mode="r", allow_pickle=False)
    shapes = np.load(f"{folder}/{number:05d}.shapes.npy", allow_pickle=False)
    ends = np.concatenate([[0], np.cumsum(shapes.prod(1))])
    if ends[-1] != len(values):
        raise ValueError(f"{folder}/{number:05d}.values.npy: does not fit its shapes; remove both and build again")
    return values, shapes, ends


def build(
    folder: Path,
    key: str,
    items: int,
    encode: Callable[[range], Sequence[Tensor]],
    *,
    per_shard: int = 1024,
    dtype: str = "float16",
    told: Told | None = None,
) -> Cache:
    """Fill a cache, or go on filling it.

    Args:
        folder: the cache's own.
        key: of everything the numbers depend on.
        items: how many there are.
        encode: the arrays of a range of items, one tensor each.
        per_shard: items a file.
        dtype: "float16" or "float32".
        told: hears of progress, once a shard.

    Raises:
        ValueError: the folder holds a cache of another key, or `encode` gives another number of arrays than asked, or numbers
            that are not finite in this format.
        StoreError: the disk is full; the shards before are kept.
    """
    settings = {"key": key, "items": items, "per_shard": per_shard, "dtype": dtype}
    plan = folder / "plan.json"
    if plan.exists() and (held := read_json(plan)) != settings:
        name = next(name for name in settings if held.get(name) != settings[name])
        raise ValueError(
            f"{folder}: holds a cache whose {name} is {held.get(name)!r}, not {settings[name]!r}; remove it or take another"
        )
    if not (folder / "cache.json").exists():
        write_json(plan, settings)
        for number, start in enumerate(range(0, items, per_shard)):
            part = range(start, min(start + per_shard, items))
            if not (folder / f"{number:05d}.shapes.npy").exists():
                _fill(folder, number, part, encode(part), dtype)
            if told:
                told(part.stop, items)
        write_json(folder / "cache.json", settings)
    return open_cache(folder)


def open_cache(folder: Path) -> Cache:
    """Open a finished cache.

    Raises:
        ValueError: none there, or one that is not finished.
    """
    if not (folder / "cache.json").exists():
        state = "is not finished; build it again to go on" if (folder / "plan.json").exists() else "holds no cache"
        raise ValueError(f"{folder}: {state}")
    held = read_json(folder / "cache.json")
    return Cache(str(folder), held["key"], held["items"], held["per_shard"])


def _fill(folder: Path, number: int, part: range, arrays: Sequence[Tensor], dtype: str) -> None:
    if len(arrays) != len(part):
        raise ValueError(f"cache: {len(arrays)} arrays for {len(part)} items; return one each")
    kept = [array.detach().to("cpu", getattr(torch, dtype)).contiguous().numpy() for array in arrays]
    bad = next((part[i] for i, array in enumerate(kept) if not np.isfinite(array).all()), None)
    if bad is not None:
        raise ValueError(f"cache: item {bad} has numbers that are not finite in {dtype}; use dtype float32, or look at it")
    values = np.concatenate([array.reshape(-1) for array in kept])
    shapes = np.array([array.shape for array in kept], np.int64)
    for name, array in (("values", values), ("shapes", shapes)):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_bytes(folder / f"{number:05d}.{name}.npy", buffer.getvalue())


def latents(
    source: Source,
    encode: Encode,
    folder: Path,
    *,
    network: str = "",
    batch: int = 32,
    per_shard: int = 1024,
    dtype: str = "float16",
    told: Told | None = None,
) -> Cache:
    """Latents of every picture of a set, item i of record i, below `folder` under a name made of their key.

    Args:
        source: a prepared set as a rule; neighbouring pictures of one size are encoded together.
        encode: see `Encode`; gradients are off. Its key is taken from its code and what it holds (modules, settings).
        folder: caches of several sets and networks may share it.
        network: the key of the network, where `encode` cannot be keyed.
        batch: pictures at a time.
        per_shard, dtype, told: as in `build`.

    Raises:
        ValueError: a picture that cannot be read, and as in `build`.
    """
    key = fingerprint(("latents", network or encode, content(source), dtype))

    def arrays(part: range) -> list[Tensor]:
        found: list[Tensor] = []
        records = [_read(source, row) for row in part]
        for _, run in groupby(zip(records, map(_pixels, records), strict=True), key=lambda pair: pair[1].shape):
            pictures = torch.from_numpy(np.stack([pixels for _, pixels in run])).permute(0, 3, 1, 2)
            with torch.no_grad():
                found += [row for some in pictures.split(batch) for row in encode(some.contiguous()).cpu()]
        return found

    return build(folder / f"latents-{key}", key, len(source), arrays, per_shard=per_shard, dtype=dtype, told=told)


def texts(
    source: Source,
    encode: EncodeTexts,
    folder: Path,
    *,
    network: str = "",
    batch: int = 64,
    per_shard: int = 1024,
    dtype: str = "float16",
    told: Told | None = None,
) -> Texts:
    """States of every caption of a set, without padding; arguments as in `latents`.

    Raises:
        ValueError: a record without a caption, and as in `build`.
    """
    key = fingerprint(("texts", network or encode, content(source), dtype))
    captions = _Captions(source)

    def arrays(part: range) -> list[Tensor]:
        wanted = [captions.text(item) for item in part]
        order = sorted(range(len(wanted)), key=lambda i: len(wanted[i]))  # alike lengths together: little padding
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            with torch.no_grad():
                states, mask = encode([wanted[i] for i in some])
            found |= {i: row[keep].cpu() for i, row, keep in zip(some, states, mask.bool(), strict=True)}
        return [found[i] for i in range(len(wanted))]

    place = folder / f"texts-{key}"
    cache = build(place, key, len(captions.words), arrays, per_shard=per_shard, dtype=dtype, told=told)
    return Texts(cache, captions.first, captions.words)


class _Captions:
    """Every caption of a set by one running number; its record is read when it is asked for."""

    def __init__(self, source: Source) -> None:
        counts, words = [0], list[int]()
        for row in range(len(source)):
            record = _read(source, row)
            if not record.captions:
                raise ValueError(f"cache: record {record.key!r} of {source.name!r} has no caption; caption it or leave it out")
            counts.append(len(record.captions))
            words += [len(text.split()) for text in record.captions]
        self.source = source
        self.first, self.words = np.cumsum(counts), np.array(words, np.int64)

    def text(self, item: int) -> str:
        row = int(np.searchsorted(self.first, item, "right")) - 1
        return _read(self.source, row).captions[item - int(self.first[row])]


def _read(source: Source, row: int) -> Record:
    try:
        return source[row]
    except Broken as broken:
        raise ValueError(f"cache: {source.name!r}, record {broken}; prepare the set again, which skips it") from None


def _pixels(record: Record) -> np.ndarray:
    try:
        return record.pixels()
    except Broken as broken:
        raise ValueError(f"cache: record {broken}; prepare the set again, which skips it") from None
