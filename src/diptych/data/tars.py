"""Tar archives in webdataset's layout: members of one record share their name up to the first dot after the folders.

An archive is read once for its headers; from then on any record is one or two reads at known places. Our own reading of
headers, because `tarfile` takes damage in the middle for the end of the archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from diptych.data.records import PLAIN, SUFFIXES, Broken, Layout, Record, parsed, read_at

BLOCK = 512
TEXTS = (".txt", ".caption", ".text")


@dataclass(frozen=True)
class Member:
    """A file in an archive: where its bytes lie."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Entry:
    """A record in archive number `file`: its picture, and what stands beside it."""

    file: int
    key: str
    image: Member | None
    beside: tuple[Member, ...]
    damage: str = ""


@dataclass(frozen=True)
class Tars:
    """A set kept in tar archives.

    Args:
        name: for messages.
        files: the archives, in order.
        layout: where keys and captions are; members .json and .txt are looked at.
        entries: made by `open_tars`.
    """

    name: str
    files: tuple[str, ...]
    layout: Layout = PLAIN
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, row: int) -> Record:
        entry = self.entries[row]
        if entry.damage:
            raise Broken(entry.key, entry.damage)
        if entry.image is None:
            raise Broken(entry.key, "no picture among its files")
        fields: dict = {}
        for member in entry.beside:
            data = self._read(entry, member)
            if member.name.endswith(".json"):
                fields |= parsed(entry.key, data)
            else:
                fields.setdefault("text", data.decode("utf-8", "replace"))
        return self.layout.record(self._read(entry, entry.image), entry.image.name, {"__key__": entry.key, **fields})

    def _read(self, entry: Entry, member: Member) -> bytes:
        data = read_at(self.files[entry.file], member.offset, member.size)
        if len(data) < member.size:
            raise Broken(entry.key, f"{Path(self.files[entry.file]).name} is cut off within it")
        return data


def open_tars(name: str, files: Sequence[Path], layout: Layout = PLAIN) -> Tars:
    """Read the headers of archives; damage becomes a broken record at its place.

    Raises:
        ValueError: a file that is no tar archive from its first block on.
    """
    entries = [entry for number, path in enumerate(files) for entry in _entries(number, path)]
    return Tars(name, tuple(map(str, files)), layout, tuple(entries))


def _entries(number: int, path: Path) -> Iterator[Entry]:
    key, image, beside = "", None, list[Member]()
    with path.open("rb") as file:
        try:
            for member in members(file):
                folder, slash, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                if folder + slash + stem != key:
                    if image or beside:
                        yield Entry(number, key, image, tuple(beside))
                    key, image, beside = folder + slash + stem, None, []
                ending = "." + ending.rpartition(".")[2].lower()
                if ending in SUFFIXES and image is None:
                    image = member
                elif ending == ".json" or ending in TEXTS:
                    beside.append(member)
            if image or beside:
                yield Entry(number, key, image, tuple(beside))
        except tarfile.TarError as error:
            if not file.tell() or error.args[1:] == (0,):
                raise ValueError(f"{path}: is no tar archive ({error.args[0]})") from None
            if image or beside:
                yield Entry(number, key, image, tuple(beside))
            yield Entry(number, f"{path.name} after {key}", None, (), str(error.args[0]))


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
