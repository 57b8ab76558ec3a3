"""Captions that came apart from their pictures, looked up by key: `i1-captions` (Parquet) or what `diptych data caption` wrote.

Rows hold `key` and `caption1` ... `caption5` (or `caption`, `captions`). They go into an SQLite file once, so that sets of
many millions need no memory and every process of a preparation can read them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from diptych.data.records import Broken, captions_of, parsed
from diptych.files import StoreError

CHUNK = 10_000


def gather(files: Sequence[Path], store: Path) -> int:
    """Write the captions of files, or of all files in folders, into a store; returns how many keys it holds.

    A key that comes again keeps its first captions. A store that is there is kept as it is.

    Raises:
        ValueError: no such file, none of a known kind, a row without a key.
        StoreError: the disk is full.
    """
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        part = store.with_name(f"{store.name}.part")
        part.unlink(missing_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(part)) as base, base:
                base.execute("CREATE TABLE captions (key TEXT PRIMARY KEY, captions TEXT) WITHOUT ROWID")
                base.execute("CREATE TABLE content (hash TEXT)")
                state = hashlib.blake2b(digest_size=8)
                for file in listed(files):
                    base.executemany("INSERT OR IGNORE INTO captions VALUES (?, ?)", _pairs(file, state))
                base.execute("INSERT INTO content VALUES (?)", (state.hexdigest(),))
            part.replace(store)
        except sqlite3.OperationalError as error:  # "database or disk is full"
            raise StoreError(f"cannot write {store} ({error}); mend that and run the same command again") from error
        finally:
            part.unlink(missing_ok=True)
    return _open(str(store)).execute("SELECT count(*) FROM captions").fetchone()[0]


def look_up(store: Path, key: str) -> tuple[str, ...]:
    """The captions of a key; none if it is not there."""
    row = _open(str(store)).execute("SELECT captions FROM captions WHERE key = ?", (key,)).fetchone()
    return tuple(json.loads(row[0])) if row else ()


def content(store: Path) -> str:
    """Hash of all that was gathered."""
    return _open(str(store)).execute("SELECT hash FROM content").fetchone()[0]


def listed(files: Sequence[Path]) -> list[Path]:
    """Files as given, folders as the .parquet and .jsonl files below them.

    Raises:
        ValueError: no such file, or one of another kind.
    """
    found: list[Path] = []
    for path in files:
        below = sorted(one for one in path.rglob("*") if one.suffix in (".parquet", ".jsonl")) if path.is_dir() else [path]
        if not path.exists() or not below:
            raise ValueError(
                f"captions {path}: " + ("no .parquet or .jsonl in it" if path.exists() else "no such file or folder")
            )
        found += below
    other = next((path for path in found if path.suffix not in (".parquet", ".jsonl")), None)
    if other is not None:
        raise ValueError(f"captions {other}: give .parquet or .jsonl files with the columns key, caption1, ...")
    return found


def _pairs(path: Path, state: hashlib.blake2b) -> Iterator[tuple[str, str]]:
    for row in _rows(path):
        pair = str(row["key"]), json.dumps(captions_of(row), ensure_ascii=False)
        state.update("\0".join(pair).encode() + b"\n")
        yield pair


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(_parquet(path) if path.suffix == ".parquet" else _lines(path), 1):
        if row.get("key") is None:
            raise ValueError(f"captions {path}, row {number}: no key in it; it has {', '.join(row) or 'nothing'}")
        yield row


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield parsed(f"line {number}", line)
                except Broken as broken:
                    raise ValueError(f"captions {path}, {broken}") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("Parquet: reading it needs pyarrow; pip install 'diptych[parquet]'") from None
    for batch in parquet.ParquetFile(path).iter_batches(CHUNK):
        yield from batch.to_pylist()


@lru_cache(maxsize=8)
def _open(store: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{store}?mode=ro", uri=True, check_same_thread=False)
