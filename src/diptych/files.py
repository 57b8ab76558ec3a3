"""Writing files whole or not at all, and reading them back with clear words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from diptych.study import Unit


class StoreError(RuntimeError):
    """The run folder cannot be written; what is on disk is intact."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it appears whole when the block ends, and not at all if the block raises.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    except OSError as error:
        raise StoreError(_words(path, error)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        raise StoreError(_words(path, error)) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _words(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"disk full while writing {path}; what was written before is intact: free some space and run the same command again"
        )
    return (
        f"cannot write {path} ({error.strerror}); what was written before is intact: mend that and run the same command again"
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_lines(path: Path, values: Sequence[Any]) -> None:
    """Write JSON lines, whole or not at all."""
    write_bytes(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values).encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; is {path.parent} the folder of a run?") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it or run again") from None


def picture_path(folder: Path, name: str, unit: Unit) -> Path:
    """Where the picture `name` of a unit lies below its arm's folder; odd characters of the item give way to a hash."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", unit.item)[:80].strip(".-")
    if slug != unit.item:
        slug += "-" + hashlib.blake2b(unit.item.encode(), digest_size=4).hexdigest()
    return folder / name / f"{slug}-{unit.seed}.png"


def png(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
