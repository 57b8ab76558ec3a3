"""Captioned pictures in Parquet files, as the Hugging Face hub keeps them.

One column holds the pictures, as bytes or as `{"bytes", "path"}`; others hold words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from diptych.data.records import IMAGE_FIELDS, PLAIN, Broken, Layout, Record


@dataclass(frozen=True)
class Parquet:
    """A set kept in Parquet files; made by `open_parquet`. Neighbouring rows are cheap, scattered ones cost a row group each.

    Args:
        name: for messages.
        files: in order.
        groups: (file, row group, first row of the set) of each row group.
        rows: in all.
        image: column that holds the pictures.
        layout: where keys and captions are.
    """

    name: str
    files: tuple[str, ...]
    groups: tuple[tuple[int, int, int], ...] = field(repr=False)
    rows: int
    image: str
    layout: Layout = PLAIN

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Record:
        low, high = 0, len(self.groups)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.groups[middle][2] <= row else (low, middle)
        file, group, first = self.groups[low]
        fields: dict[str, Any] = _group(self.files[file], group).slice(row - first, 1).to_pylist()[0]
        held = fields.pop(self.image)
        where = f"{Path(self.files[file]).name}, row {row + 1}"
        if isinstance(held, dict):
            where, held = held.get("path") or where, held.get("bytes")
        if not isinstance(held, bytes):
            raise Broken(where, f"column {self.image!r} holds no picture here")
        return self.layout.record(held, where, fields)


def open_parquet(name: str, files: Sequence[Path], layout: Layout = PLAIN) -> Parquet:
    """Read the row counts of Parquet files.

    Raises:
        ValueError: pyarrow is missing, a damaged file, or no column of pictures.
    """
    pq = _library()
    groups: list[tuple[int, int, int]] = []
    rows, columns = 0, list[str]()
    for number, path in enumerate(files):
        try:
            meta = pq.ParquetFile(path)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise ValueError(f"{path}: cannot be read as Parquet ({str(error).partition(chr(10))[0]})") from None
        columns = columns or meta.schema_arrow.names
        for group in range(meta.num_row_groups):
            groups.append((number, group, rows))
            rows += meta.metadata.row_group(group).num_rows
    wanted = (layout.image,) if layout.image else IMAGE_FIELDS
    image = next((column for column in wanted if column in columns), None)
    if image is None:
        raise ValueError(f"{name}: no column {' or '.join(wanted)}; name the pictures' one of {', '.join(columns)} by --image")
    return Parquet(name, tuple(map(str, files)), tuple(groups), rows, image, layout)


def _library() -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("Parquet: reading it needs pyarrow; pip install 'diptych[parquet]'") from None
    return parquet


@lru_cache(maxsize=2)
def _group(path: str, group: int) -> Any:
    return _library().ParquetFile(path).read_row_group(group)
