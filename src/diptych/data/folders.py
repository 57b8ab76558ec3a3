"""Pictures that are files: a folder with captions beside them, or lists of them in JSON lines and CSV.

A folder with `metadata.jsonl` or `metadata.csv` (Hugging Face's "imagefolder") holds what these list, `file_name` first; in
any other a picture's captions stand in the `.txt` or `.json` file of its name.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.records import IMAGE_FIELDS, PLAIN, SUFFIXES, Broken, Layout, Record, parsed, read_at


@dataclass(frozen=True)
class Folder:
    """Pictures below a folder, in the order of their paths; made by `open_folder`."""

    name: str
    root: str
    paths: tuple[str, ...] = field(repr=False)
    layout: Layout = PLAIN

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Record:
        path = self.paths[row]
        file = Path(self.root, path)
        fields: dict[str, Any] = {}
        words, numbers = file.with_suffix(".txt"), file.with_suffix(".json")
        if numbers.is_file():
            fields |= parsed(path, numbers.read_bytes())
        if words.is_file():
            fields.setdefault("text", words.read_text(encoding="utf-8", errors="replace"))
        return self.layout.record(_bytes(path, file), path, fields)


def open_folder(name: str, root: Path, layout: Layout = PLAIN) -> Folder:
    """List the pictures below a folder, hidden ones left out."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    return Folder(name, str(root), tuple(paths), layout)


@dataclass(frozen=True)
class Listed:
    """Pictures that rows of JSON lines or CSV name, relative to the file that lists them; made by `open_listed`.

    Args:
        name: for messages.
        files: the lists.
        places: (file, offset, length) of each JSON line, (N, 3) int64; for CSV the number of the row is the offset.
        rows: the rows of CSV files, empty for JSON lines.
        layout: where keys, captions and paths are.
    """

    name: str
    files: tuple[str, ...]
    places: np.ndarray = field(repr=False, compare=False)
    rows: tuple[Mapping[str, str], ...] = field(default=(), repr=False)
    layout: Layout = PLAIN

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Record:
        file, offset, length = self.places[row].tolist()
        where = f"{Path(self.files[file]).name}, row {row + 1}"
        if self.rows:
            fields: Mapping[str, Any] = self.rows[row]
        else:
            fields = parsed(where, read_at(self.files[file], offset, length))
        names = (self.layout.image,) if self.layout.image else IMAGE_FIELDS
        path = next((value for name in names if isinstance(value := fields.get(name), str) and value), "")
        if not path:
            raise Broken(where, f"names no picture; one of the fields {', '.join(names)} must")
        return self.layout.record(_bytes(path, Path(self.files[file]).parent / path), path, fields)


def open_listed(name: str, files: Sequence[Path], layout: Layout = PLAIN) -> Listed:
    """Find the rows of .jsonl or .csv files (one kind a set).

    Raises:
        ValueError: both kinds at once.
    """
    kinds = {path.suffix.lower() for path in files}
    if len(kinds) != 1:
        raise ValueError(f"{name}: lists of the kinds {', '.join(sorted(kinds))} at once; keep one kind")
    if kinds == {".csv"}:
        found = [(number, row) for number, path in enumerate(files) for row in _csv_rows(path)]
        places = [(number, row, 0) for row, (number, _) in enumerate(found)]
        return Listed(
            name, tuple(map(str, files)), np.array(places, np.int64).reshape(-1, 3), tuple(row for _, row in found), layout
        )
    places = [(number, *place) for number, path in enumerate(files) for place in _lines(path)]
    return Listed(name, tuple(map(str, files)), np.array(places, np.int64).reshape(-1, 3), (), layout)


def _csv_rows(path: Path) -> Iterator[Mapping[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _lines(path: Path) -> Iterator[tuple[int, int]]:
    at = 0
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield at, len(line)
            at += len(line)


def _bytes(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise Broken(key, f"there is no file {path}") from None
