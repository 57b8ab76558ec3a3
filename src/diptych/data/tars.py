"""Tar archives in webdataset's layout: members of one record share their name up to the first dot after the folders.

An archive is read once for its headers; from then on any record is one or two reads at known places. Our own reading of
headers, because `tarfile` takes damage in the middle for the end of the archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diptych.data.records import PLAIN, SUFFIXES, Broken, Layout, Record, parsed, read_at

BLOCK = 512
TEXTS = (".txt", ".caption", ".text")


@dataclass(frozen=True)
class Member:
    """A file in an archive: where its bytes lie."""

    name: str
    offset: int
    size: int


PLACE = np.dtype(
    [
        ("file", "<u4"),
        ("image", "<u8"), ("image_size", "<u8"),
        ("json", "<u8"), ("json_size", "<u4"),
        ("text", "<u8"), ("text_size", "<u4"),
        ("name", "<u8"),  # where its name ends in `Tars.names`
    ]
)  # fmt: skip
"""Where a record lies: 60 bytes and its name, so that tens of millions fit in memory. A size of 0: there is none."""


@dataclass(frozen=True)
class Tars:
    """A set kept in tar archives; made by `open_tars`.

    Args:
        name: for messages.
        files: the archives, in order.
        layout: where keys and captions are; members .json and .txt are looked at.
        places: rows of `PLACE`.
        names: of all records, one after the other: the picture's, or the bare key where there is no picture.
        damage: what is wrong, by row, for the places where an archive cannot be read.
    """

    name: str
    files: tuple[str, ...]
    layout: Layout
    places: np.ndarray = field(repr=False, compare=False)
    names: bytes = field(repr=False)
    damage: Mapping[int, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Record:
        place = self.places[row]
        name = self.names[int(self.places[row - 1]["name"]) if row else 0 : int(place["name"])].decode(
            "utf-8", "surrogateescape"
        )
        if row in self.damage:
            raise Broken(name, self.damage[row])
        if not place["image_size"]:
            raise Broken(name, "no picture among its files")
        fields = parsed(name, self._read(name, place, "json")) if place["json_size"] else {}
        if place["text_size"]:
            fields.setdefault("text", self._read(name, place, "text").decode("utf-8", "replace"))
        return self.layout.record(self._read(name, place, "image"), name, {"__key__": key_of(name), **fields})

    def _read(self, name: str, place: np.void, what: str) -> bytes:
        file, size = self.files[place["file"]], int(place[f"{what}_size"])
        data = read_at(file, int(place[what]), size)
        if len(data) < size:
            raise Broken(name, f"{Path(file).name} is cut off within it")
        return data


def key_of(name: str) -> str:
    """The key of a member: its folders and its name up to the first dot."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def open_tars(name: str, files: Sequence[Path], layout: Layout = PLAIN) -> Tars:
    """Read the headers of archives; damage becomes a broken record at its place.

    Raises:
        ValueError: a file that is no tar archive from its first block on.
    """
    tables, names, damage = [np.zeros(0, PLACE)], list[bytes](), dict[int, str]()
    rows = length = 0
    for number, path in enumerate(files):
        found, error = _scan(path)
        table = np.zeros(len(found), PLACE)
        for i, (own, held) in enumerate(found):
            encoded = own.encode("utf-8", "surrogateescape")
            names.append(encoded)
            length += len(encoded)
            table[i]["file"], table[i]["name"] = number, length
            for what, member in held.items():
                table[i][what], table[i][f"{what}_size"] = member.offset, member.size
        tables.append(table)
        rows += len(table)
        if error:
            damage[rows - 1] = error
    return Tars(name, tuple(map(str, files)), layout, np.concatenate(tables), b"".join(names), damage)


def _scan(path: Path) -> tuple[list[tuple[str, dict[str, Member]]], str]:
    """(name, members by what they are) of each record, and what is wrong with the archive; the last entry stands for that."""
    found: list[tuple[str, dict[str, Member]]] = []
    key, error = None, ""
    with path.open("rb") as file:
        try:
            for member in members(file):
                if key_of(member.name) != key:
                    key = key_of(member.name)
                    found.append((key, {}))
                ending, held = "." + member.name.rpartition(".")[2].lower(), found[-1][1]
                what = "image" if ending in SUFFIXES else "json" if ending == ".json" else "text" if ending in TEXTS else ""
                if what == "image" and "image" not in held:
                    found[-1] = (member.name, held)
                if what:
                    held.setdefault(what, member)
        except tarfile.TarError as problem:
            if problem.args[1:] == (0,):
                raise ValueError(f"{path}: is no tar archive ({problem.args[0]})") from None
            error = str(problem.args[0])
    found = [one for one in found if one[1]]
    return ([*found, (f"{path.name} after {key}", {})], error) if error else (found, "")


def members(file: BinaryIO) -> Iterator[Member]:
    """The regular files of an uncompressed archive, with long names of GNU and pax.

    Raises:
        tarfile.TarError: (words, offset) at a block that is no header, or where the archive is cut off.
    """
    length = file.seek(0, 2)
    at, name, size = 0, "", None
    while at + BLOCK <= length:
        file.seek(at)
        block = file.read(BLOCK)
        if not block.strip(b"\0"):
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged at byte {at:,}: {error}", at) from None
        start, held = at + BLOCK, header.size if size is None else size
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            data = file.read(header.size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                pairs = _pax(data)
                name, size = pairs.get("path", name), int(pairs["size"]) if "size" in pairs else None
            held = header.size
        elif header.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            yield Member((name or header.name).removeprefix("./"), start, held)
            name, size = "", None
        else:  # a folder, a link, or what belongs to one
            name, size = "", None
        at = start + -(-held // BLOCK) * BLOCK
    if at < length or at > length:
        raise tarfile.ReadError(f"cut off at byte {length:,}", at)


def _pax(data: bytes) -> dict[str, str]:
    """The pairs of an extended header: "LENGTH KEY=VALUE\\n" each."""
    pairs = {}
    while data.strip(b"\0"):
        digits, _, rest = data.partition(b" ")
        if not digits.isdigit() or not rest:
            raise tarfile.ReadError("damaged extended header", 1)
        line = data[len(digits) + 1 : int(digits) - 1]
        key, _, value = line.partition(b"=")
        pairs[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(digits) :]
    return pairs


def put(file: BinaryIO, name: str, data: bytes) -> int:
    """Append a member, the same bytes on every machine; returns the offset of its data."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    file.write(info.tobuf(tarfile.USTAR_FORMAT))
    offset = file.tell()
    file.write(data + bytes(-len(data) % BLOCK))
    return offset


def finish(file: BinaryIO) -> None:
    """End an archive with its two empty blocks."""
    file.write(bytes(2 * BLOCK))
