"""Opening any set of captioned pictures by its path, the emoji inside the package among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from diptych.data.folders import open_folder, open_listed
from diptych.data.images import ImageSet
from diptych.data.parquet import open_parquet
from diptych.data.records import PLAIN, SUFFIXES, Layout, Record, Source
from diptych.data.shards import Shards, is_prepared, open_shards
from diptych.data.tars import open_tars
from diptych.data.tfrecords import open_tfrecords
from diptych.load import suggest

EMOJI = "emoji"
_OPENERS: dict[str, Callable[[str, Sequence[Path], Layout], Source]] = {
    "tar": open_tars,
    "tfrecord": open_tfrecords,
    "parquet": open_parquet,
    "jsonl": open_listed,
    "csv": open_listed,
}


@dataclass(frozen=True)
class Pictures:
    """Pictures in memory as a source.

    Args:
        name: for messages.
        keys: one a picture.
        array: (N, H, W, 3) uint8.
        captions: of each picture.
    """

    name: str
    keys: tuple[str, ...] = field(repr=False)
    array: np.ndarray = field(repr=False, compare=False)
    captions: tuple[tuple[str, ...], ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> Record:
        return Record(self.keys[row], self.array[row], self.captions[row])

    @property
    def sizes(self) -> np.ndarray:
        """(width, height) of each picture, (N, 2) int64."""
        height, width = self.array.shape[1:3]
        return np.tile(np.array([[width, height]], np.int64), (len(self), 1))

    @property
    def caption_counts(self) -> np.ndarray:
        """Captions of each record, (N,) int64."""
        return np.array([len(captions) for captions in self.captions], np.int64)


def emoji_source(styles: Sequence[str] | None = None, part: str = "train", folder: Path | None = None) -> Pictures:
    """The emoji of the package, or of a folder that `diptych data emoji` drew, each with the wordings of `items.variants`.

    Args:
        styles: art styles, None = all.
        part: "train", "test" or "judge" of `images.split`, or "all".
        folder: of drawn emoji; None = the embedded ones.

    Raises:
        ValueError: an unknown style or part.
    """
    from diptych.data.items import variants

    images, parts = _emoji(folder)
    if part not in parts:
        raise ValueError(f"emoji: part {part!r} is unknown{suggest(part, parts)}")
    known = dict.fromkeys(images.styles)
    wanted = [style.replace("-", " ") for style in styles] if styles is not None else list(known)
    for style in wanted:
        if style not in known:
            raise ValueError(f"emoji: style {style!r} is unknown{suggest(style, known)}")
    taken = images.take([i for i in parts[part] if images.styles[i] in wanted])
    captions = tuple(variants(n, s, c) for n, s, c in zip(taken.names, taken.styles, taken.categories, strict=True))
    return Pictures(EMOJI if styles is None else f"{EMOJI}/{','.join(styles)}", taken.ids, taken.pixels, captions)


@lru_cache(maxsize=2)
def _emoji(folder: Path | None) -> tuple[ImageSet, dict[str, np.ndarray]]:
    """All pictures of a folder, and their parts, which are decided beside the other styles."""
    from diptych.data import emoji
    from diptych.data.images import split

    images = emoji.load(folder)
    return images, {"all": np.arange(len(images)), **split(images)}


def open_source(place: str | Path, name: str = "", layout: Layout = PLAIN) -> Source:
    """Open a set by where it is.

    Args:
        place: a prepared set; a folder of tars, TFRecords, Parquet files or pictures; one such file; a .jsonl or .csv list;
            "emoji" or "emoji/STYLE,STYLE" for the training part of the embedded emoji.
        name: for messages; "" = that of a prepared set, or the last part of the place.
        layout: where keys, pictures and captions are, where that is not plain.

    Raises:
        ValueError: nothing there, nothing known in it, or two kinds at once.
    """
    if str(place) == EMOJI or str(place).startswith(f"{EMOJI}/"):
        _, _, styles = str(place).partition("/")
        return emoji_source(styles.split(",") if styles else None)
    path = Path(place)
    if is_prepared(path):
        return open_shards(path, name)
    name = name or path.name.partition(".")[0] or path.resolve().name
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_file():
        kind = _kind(path)
        if kind is None:
            raise ValueError(
                f"{path}: a file of this kind holds no set; give a folder, .tar, .tfrecord, .parquet, .jsonl or .csv"
            )
        return _OPENERS[kind](name, [path], layout)
    for listed in ("metadata.jsonl", "metadata.csv"):
        if files := sorted(path.rglob(listed)):
            return open_listed(name, files, layout)
    kinds: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*")):
        kind = _kind(file)
        if kind in ("tar", "tfrecord", "parquet") and file.is_file() and not file.name.startswith("."):
            kinds.setdefault(kind, []).append(file)
    if len(kinds) > 1:
        counts = ", ".join(f"{len(files)} {kind}" for kind, files in kinds.items())
        raise ValueError(f"{path}: holds files of several kinds ({counts}); give the folder of one")
    for kind, files in kinds.items():
        return _OPENERS[kind](name, files, layout)
    folder = open_folder(name, path, layout)
    if not len(folder):
        endings = " ".join(SUFFIXES)
        raise ValueError(f"{path}: no tars, TFRecords, Parquet files, lists or pictures ({endings}) in it")
    return folder


def _kind(path: Path) -> str | None:
    if ".tfrecord" in path.name:  # TFDS ends its names in -00000-of-00256
        return "tfrecord"
    return path.suffix[1:].lower() if path.suffix[1:].lower() in _OPENERS else None


def open_sets(places: Iterable[str]) -> dict[str, Source]:
    """Several sets by name, for a mixture: "emoji", "data/words", or "words=data/words-256" to name one otherwise.

    Raises:
        ValueError: as `open_source`, none, or a name that comes twice.
    """
    found: dict[str, Source] = {}
    for place in places:
        name, equals, rest = place.partition("=")
        source = open_source(rest if equals else place, name if equals else "")
        name = name if equals else source.name
        if name in found:
            raise ValueError(f"sets: {name!r} comes twice; name one otherwise, as in other={place}")
        found[name] = source
    if not found:
        raise ValueError("sets: there are none; give at least one")
    return found


def content(source: Source) -> str:
    """16 hexadecimal digits of all keys, pictures and captions of a set; a prepared set knows them, others are read through."""
    if isinstance(source, Shards):
        return source.content[:16]
    state = hashlib.blake2b(digest_size=8)
    for row in range(len(source)):
        record = source[row]
        image = record.image if isinstance(record.image, bytes) else np.ascontiguousarray(record.image).tobytes()
        for part in (record.key.encode(), image, "\0".join(record.captions).encode()):
            state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()
