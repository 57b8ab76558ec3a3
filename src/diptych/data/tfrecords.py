"""TFRecord files of `tf.train.Example` without TensorFlow: framing with its checksums, and the few fields that are used.

A record is framed as length (u64), checksum of the length (u32), data, checksum of the data (u32), little-endian; checksums
are CRC-32C, rotated and offset (`masked`). i1's sets hold `image` (PNG), `image/shape` (3 integers), `caption` (a list),
`image_name`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.records import PLAIN, Broken, Layout, Record, read_at
from diptych.files import writing

Value = Sequence[bytes] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class TFRecords:
    """A set kept in TFRecord files; made by `open_tfrecords`.

    Args:
        name: for messages.
        files: in order.
        layout: where keys, captions and pictures are.
        places: (file, offset of the frame, length of the data) of each record, (N, 3) int64; a length of -1 marks damage.
    """

    name: str
    files: tuple[str, ...]
    layout: Layout
    places: np.ndarray = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Record:
        file, offset, length = self.places[row].tolist()
        where = f"{Path(self.files[file]).name} at byte {offset:,}"
        if length < 0:
            raise Broken(where, "the checksum of a length does not fit; the rest of the file is unreadable")
        frame = read_at(self.files[file], offset, length + 16)
        if len(frame) < length + 16:
            raise Broken(where, "the file is cut off within it")
        data, crc = frame[12:-4], frame[-4:]
        if masked(data) != int.from_bytes(crc, "little"):
            raise Broken(where, "its checksum does not fit")
        try:
            row_ = {name: _plain(values) for name, values in parse(data).items()}
        except (ValueError, IndexError, struct.error) as error:
            raise Broken(where, f"is no Example ({error})") from None
        image = row_.get(self.layout.image or "image")
        if not isinstance(image, bytes):
            raise Broken(where, f"no picture under {self.layout.image or 'image'!r}")
        words = {name: _text(value) for name, value in row_.items() if name != (self.layout.image or "image")}
        return self.layout.record(image, str(words.get("image_name", where)), words)


def open_tfrecords(name: str, files: Sequence[Path], layout: Layout = PLAIN) -> TFRecords:
    """Read the frames of files, whose lengths are checked here and whose data when they are read."""
    places = [(number, *place) for number, path in enumerate(files) for place in _frames(path)]
    return TFRecords(name, tuple(map(str, files)), layout, np.array(places, np.int64).reshape(-1, 3))


def _frames(path: Path) -> Iterator[tuple[int, int]]:
    end = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at < end:
            file.seek(at)
            head = file.read(12)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or masked(head[:8]) != int.from_bytes(head[8:], "little"):
                yield at, -1
                return
            yield at, length
            at += length + 16


def write_tfrecord(path: Path, examples: Sequence[Mapping[str, Value]]) -> None:
    """Write Examples, whole or not at all."""
    with writing(path) as file:
        for example in examples:
            data = serialise(example)
            head = len(data).to_bytes(8, "little")
            file.write(head + masked(head).to_bytes(4, "little") + data + masked(data).to_bytes(4, "little"))


def masked(data: bytes) -> int:
    """TensorFlow's masked CRC-32C.

    Raises:
        ValueError: google-crc32c is missing.
    """
    try:
        from google_crc32c import value
    except ImportError:
        raise ValueError("TFRecord: checksums need google-crc32c; pip install 'diptych[shards]'") from None
    crc = value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def parse(data: bytes) -> dict[str, Value]:
    """The features of a serialised `tf.train.Example`, by name.

    Raises:
        ValueError, IndexError, struct.error: not an Example.
    """
    found: dict[str, Value] = {}
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            names, values = _messages(entry, 1), _messages(entry, 2)
            found[names[0].decode()] = _feature(values[-1]) if values else ()
    return found


def serialise(features: Mapping[str, Value]) -> bytes:
    """A `tf.train.Example`, features in the order of their names (as TensorFlow's deterministic serialisation)."""
    entries = b""
    for name in sorted(features):
        values = list(features[name])
        if values and isinstance(values[0], bytes):
            kind, body = 1, b"".join(_field(1, value) for value in values if isinstance(value, bytes))
        elif values and isinstance(values[0], float):
            kind, body = 2, _field(1, struct.pack(f"<{len(values)}f", *values))
        else:
            kind, body = 3, _field(1, b"".join(_varint(int(value) & (1 << 64) - 1) for value in values))
        entries += _field(1, _field(1, name.encode()) + _field(2, _field(kind, body)))
    return _field(1, entries)


def _feature(data: bytes) -> Value:
    for number, wire, value in _fields(data):
        if wire != 2 or number not in (1, 2, 3):
            raise ValueError(f"a feature of kind {number}")
        assert isinstance(value, bytes)
        if number == 1:
            return _messages(value, 1)
        if number == 2:
            packed = b"".join(one if isinstance(one, bytes) else struct.pack("<I", one) for _, _, one in _fields(value))
            return struct.unpack(f"<{len(packed) // 4}f", packed)
        numbers: list[int] = []
        for _, kind, one in _fields(value):
            numbers += [one] if kind == 0 and isinstance(one, int) else _varints(bytes(one) if isinstance(one, bytes) else b"")
        return [number - (1 << 64) if number >> 63 else number for number in numbers]
    return ()


def _messages(data: bytes, number: int) -> list[bytes]:
    return [value for at, wire, value in _fields(data) if at == number and wire == 2 and isinstance(value, bytes)]


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """(number, wire type, value) of each field of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _read_varint(data, at)
        elif wire == 2:
            length, at = _read_varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise ValueError("a field is cut off")
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = int.from_bytes(data[at : at + size], "little"), at + size
        else:
            raise ValueError(f"wire type {wire}")
        yield number, wire, value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _varints(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _read_varint(data, at)
        found.append(value)
    return found


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _plain(values: Value) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_text(one) for one in value] if isinstance(value, list) else value
