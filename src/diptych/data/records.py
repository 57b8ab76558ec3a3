"""One captioned picture out of any kind of file, and what a set of them must offer."""

from __future__ import annotations

import io
import json
import os
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

CAPTION_FIELDS = ("captions", "caption", "text", "caption1", "caption2", "caption3", "caption4", "caption5")
"""Where captions are looked for in a row, all of them in this order; "captions" may be a list."""
IMAGE_FIELDS = ("image", "png", "jpg", "jpeg", "webp", "file_name", "image_path", "path")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Broken(Exception):
    """A record that cannot be used.

    Args:
        key: which one.
        why: in words.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.why = key, why

    def __reduce__(self) -> tuple[type[Broken], tuple[str, str]]:
        return Broken, (self.key, self.why)


@dataclass(frozen=True)
class Record:
    """One picture with its captions.

    Args:
        key: stable and unique within its set; captions are joined by it.
        image: the bytes of a PNG, JPEG, WebP, ... file, or pixels (H, W, 3) uint8.
        captions: none, one or several; no empty ones.
        annotation: what the set knows besides (the words written in the picture, say), for the captioner.
    """

    key: str
    image: bytes | np.ndarray
    captions: tuple[str, ...] = ()
    annotation: str = ""

    def open(self) -> Image.Image:
        """The picture in RGB, turned as its EXIF says, transparent parts on white.

        Raises:
            Broken: no picture, one cut off, or one so large that Pillow takes it for an attack (179 million pixels).
        """
        from PIL import Image, ImageOps, UnidentifiedImageError

        if isinstance(self.image, np.ndarray):
            return Image.fromarray(self.image)
        try:
            picture = Image.open(io.BytesIO(self.image))
            picture.load()
            if picture.mode == "RGB" and not (picture.info and picture.getexif()):
                return picture
            return on_white(ImageOps.exif_transpose(picture))
        except UnidentifiedImageError:  # whose own words name an address in memory
            raise Broken(self.key, "the picture cannot be read (of no known format)") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise Broken(self.key, f"the picture cannot be read ({str(error).partition(chr(10))[0]})") from None

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8; raises as `open`."""
        return self.image if isinstance(self.image, np.ndarray) else np.asarray(self.open())


def on_white(picture: Image.Image) -> Image.Image:
    """Any mode as RGB; what is transparent becomes white."""
    from PIL import Image

    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        white.alpha_composite(coloured)
        return white.convert("RGB")
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel: `convert` would clip, not scale
        values = np.asarray(picture, np.float64)
        top = 65535.0 if picture.mode.startswith("I") and values.max(initial=0) > 255 else max(values.max(initial=0), 1.0)
        return Image.fromarray((values * (255.0 / top)).clip(0, 255).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


class Source(Protocol):
    """A set of records, any of which can be had by its row.

    `name` is for messages. Reading a row may raise `Broken`. A source holds paths and offsets, no open files, so that it
    can be sent to another process.
    """

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Record: ...


@runtime_checkable
class Measured(Source, Protocol):
    """A source that knows its pictures' sizes, (width, height), and its records' captions without reading them."""

    @property
    def sizes(self) -> np.ndarray: ...

    @property
    def caption_counts(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Layout:
    """Where a set keeps things, where that is not plain.

    Args:
        key: template of a record's key, such as "{folder}_{stem}" or "{id}": fields of its row (JSON or columns), and of the
            picture's path `path` (without ending), `folder`, `stem`, `file`; "" takes a field `key` or `__key__`, or the path.
        image: field that holds the picture or its path; "" takes the first of `IMAGE_FIELDS`.
        captions: fields that hold captions.
        annotation: field for `Record.annotation`; what is not words is written as JSON.

    Raises:
        ValueError: a template that is not plain fields.
    """

    key: str = ""
    image: str = ""
    captions: tuple[str, ...] = CAPTION_FIELDS
    annotation: str = ""

    def __post_init__(self) -> None:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.key) if name is not None]
        except ValueError:
            names = ["?"]
        if self.key and (not names or not all(name.isidentifier() for name in names)):
            raise ValueError(f"key {self.key!r}: write a template of plain fields, such as {{folder}}_{{stem}}")

    def record(self, image: bytes, path: str, row: Mapping[str, Any]) -> Record:
        """Put a record together.

        Raises:
            Broken: the template names a field that the row lacks.
        """
        return Record(self.named(path, row), image, captions_of(row, self.captions), self._annotation(row))

    def named(self, path: str, row: Mapping[str, Any]) -> str:
        """The key of the record of a picture at `path` (relative, "/" between folders)."""
        whole, _, ending = path.rpartition(".")
        plain = whole if f".{ending.lower()}" in SUFFIXES else path
        if not self.key:
            given = next((row[name] for name in ("key", "__key__") if row.get(name)), None)
            return plain if given is None else str(given)
        folder, _, stem = plain.rpartition("/")
        parts = {"path": plain, "folder": folder.rpartition("/")[2], "stem": stem, "file": path.rpartition("/")[2]}
        try:
            return self.key.format_map({**row, **parts})
        except KeyError as error:
            raise Broken(path, f"no field {error} for the key {self.key!r}") from None

    def _annotation(self, row: Mapping[str, Any]) -> str:
        value = row.get(self.annotation) if self.annotation else None
        return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def captions_of(row: Mapping[str, Any], fields: tuple[str, ...] = CAPTION_FIELDS) -> tuple[str, ...]:
    """The captions in a row, without empty ones and repeats."""
    found: list[str] = []
    for name in fields:
        value = row.get(name)
        found += [value] if isinstance(value, str) else [one for one in value or () if isinstance(one, str)]
    return tuple(dict.fromkeys(text for one in found if (text := one.strip())))


def parsed(key: str, data: bytes | str) -> dict[str, Any]:
    """A JSON object beside a picture.

    Raises:
        Broken: not a JSON object.
    """
    try:
        row = json.loads(data)
    except ValueError as error:
        raise Broken(key, f"its JSON cannot be read ({error})") from None
    if not isinstance(row, dict):
        raise Broken(key, "its JSON is no object")
    return row


PLAIN = Layout()


def read_at(path: str, offset: int, size: int) -> bytes:
    """A part of a file, shorter where the file ends; the last files asked for stay open."""
    return os.pread(_opened(path, os.stat(path).st_mtime_ns).fileno(), size, offset)


@lru_cache(maxsize=64)
def _opened(path: str, changed: int) -> BinaryIO:
    return open(path, "rb")
