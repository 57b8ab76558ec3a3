"""Prompt files, pictures and answers of the text-to-image benchmarks, on disk."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

KINDS = (".png", ".jpg", ".jpeg", ".webp")


def read_picture(folder: Path, name: str) -> bytes | None:
    """The file of a picture under its official name, or with another ending; None where there is none."""
    paths = [folder / name, *(folder / f"{Path(name).with_suffix('')}{kind}" for kind in KINDS)]
    return next((path.read_bytes() for path in paths if path.is_file()), None)


def read_answers(path: Path) -> dict[str, dict[str, Any]]:
    """Stored answers by the name of their picture; of several for one, the last counts.

    A line is a JSON object with "image", the official name, and the benchmark's own fields; "crop" beside it says which quarter
    of a grid is meant.

    Raises:
        ValueError: no such file, or a line that is no answer.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the file of answers, or a judge that makes it (--judge)")
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name = row.pop("image") + (f"#{row.pop('crop')}" if "crop" in row else "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{path}, line {number}: is no answer ({error!r}); write {{"image": name, ...}}') from None
        found[name] = row
    return found


def answer_lines(answers: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The inverse of `read_answers`: rows to be written one a line."""
    lines = []
    for name, answer in answers:
        image, _, crop = name.partition("#")
        lines.append({"image": image, **({"crop": int(crop)} if crop else {}), **answer})
    return lines


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file.

    Raises:
        ValueError: no such file, or a line that is no JSON object.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the benchmark's published file of prompts")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: is not JSON ({error})") from None
        if row is not None and not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: is no JSON object")
        rows += [] if row is None else [row]
    return rows


def one_path(paths: Sequence[Path], benchmark: str, what: str) -> Path:
    """The only path.

    Raises:
        ValueError: none, or several.
    """
    if len(paths) != 1:
        raise ValueError(f"{benchmark}: --prompts takes one path, {what}; got {len(paths)}")
    return paths[0]


def png_of(picture: bytes | np.ndarray) -> bytes:
    """A picture as the bytes of a file: (H, W, 3) uint8 becomes a PNG."""
    from diptych.files import png

    return png(picture) if isinstance(picture, np.ndarray) else picture


def pixels_of(data: bytes) -> np.ndarray:
    """The bytes of a picture file as (H, W, 3) uint8, turned as its EXIF says, transparent parts on white.

    Raises:
        ValueError: no picture.
    """
    from diptych.data.records import Broken, Record

    try:
        return np.asarray(Record("picture", data).open())
    except Broken as error:
        raise ValueError(str(error)) from None


def quarter(data: bytes, number: int) -> bytes:
    """A quarter of a two-by-two grid, row by row, as a PNG; each is half the grid's sides."""
    from PIL import Image

    grid = Image.open(io.BytesIO(data))
    width, height = grid.width // 2, grid.height // 2
    left, top = number % 2 * width, number // 2 * height
    buffer = io.BytesIO()
    grid.convert("RGB").crop((left, top, left + width, top + height)).save(buffer, "PNG")
    return buffer.getvalue()
