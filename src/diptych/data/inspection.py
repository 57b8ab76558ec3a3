"""What is in a set: counts, sizes, lengths of captions, duplicates, broken records; and a sheet of its pictures to look at."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from diptych.data import draws
from diptych.data.duplicates import Seen, looks
from diptych.data.records import Broken, Record, Source

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

WORDS = (0, 1, 6, 11, 26, 51, 76, 101, 151, 201, 401)
"""Where the bars of the histogram of caption lengths begin, in words."""
CELL, TEXT, GAP, MARGIN = 176, 46, 14, 28  # pixels of the sheet
INK, PALE, CARD = (28, 30, 34), (120, 124, 132), (244, 245, 247)


@dataclass
class Found:
    """What is in a set.

    Args:
        name: the set's.
        records: looked at.
        of: in all.
        broken: "key: why".
        bytes: of the pictures' files.
        sizes: pictures by size, "WIDTHxHEIGHT".
        short_edges: smallest, median and largest short edge.
        captions: records by how many captions they have.
        words: captions by length, in the bars of `WORDS`.
        repeated: records whose picture is that of an earlier one, byte for byte.
        alike: further records that look like an earlier one.
    """

    name: str
    records: int = 0
    of: int = 0
    broken: list[str] = field(default_factory=list)
    bytes: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    short_edges: tuple[int, int, int] = (0, 0, 0)
    captions: Counter[int] = field(default_factory=Counter)
    words: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    alike: int = 0


def inspect(source: Source, limit: int = 0, near: int = 6, told: Callable[[int, int], None] | None = None) -> Found:
    """Read and decode every record.

    Args:
        source: any.
        limit: this many records, drawn at random but always the same; 0 = all.
        near: bits of 128 by which pictures that look alike may differ.
        told: hears of progress, (records, of).
    """
    rows = _some(len(source), limit)
    found = Found(source.name, of=len(source))
    seen = Seen(near)
    exact: set[bytes] = set()
    edges, lengths = list[int](), list[int]()
    for number, row in enumerate(rows, 1):
        try:
            record = source[row]
            picture = record.open()
        except Broken as broken:
            found.broken.append(str(broken))
            continue
        raw = record.image if isinstance(record.image, bytes) else record.image.tobytes()
        found.bytes += len(raw)
        found.sizes[f"{picture.width}x{picture.height}"] += 1
        edges.append(min(picture.size))
        found.captions[len(record.captions)] += 1
        lengths += [len(text.split()) for text in record.captions]
        digest, what = hashlib.blake2b(raw, digest_size=16).digest(), looks(picture)
        if digest in exact:
            found.repeated += 1
        elif seen.known(number, *what):
            found.alike += 1
        exact.add(digest)
        seen.add(number, *what)  # by number: bytes are compared above
        if told:
            told(number, len(rows))
    found.records = len(rows) - len(found.broken)
    if edges:
        found.short_edges = (min(edges), int(np.median(edges)), max(edges))
    found.words = histogram(lengths)
    return found


def histogram(lengths: Sequence[int]) -> dict[str, int]:
    """Captions by their words, "11-25" and so on, from the first bar that holds any to the last."""
    ends = [*WORDS[1:], None]
    names = [f"{low}" if end == low + 1 else f"{low}-{end - 1}" if end else f"{low}+" for low, end in zip(WORDS, ends)]
    counts = Counter((np.searchsorted(WORDS, lengths, "right") - 1).tolist()) if lengths else Counter[int]()
    used = [i for i in range(len(WORDS)) if counts[i]]
    return {names[i]: counts[i] for i in range(used[0], used[-1] + 1)} if used else {}


def bars(counts: Mapping[str, int], width: int = 40) -> list[str]:
    """A histogram in characters, one line a bar."""
    most = max(counts.values(), default=1)
    longest = max(map(len, counts), default=0)
    return [
        f"{name:>{longest}}  {'#' * max(round(width * count / most), bool(count)):{width}}  {count:,}"
        for name, count in counts.items()
    ]


def sheet(source: Source, pictures: int = 40, columns: int = 8, seed: int = 0) -> Image.Image:
    """Some pictures of a set with their first captions, drawn at random but always the same.

    Args:
        source: any; records that cannot be read are passed by.
        pictures: at most this many.
        columns: of the sheet.
        seed: of the choice.

    Raises:
        ValueError: none can be read.
    """
    from PIL import Image, ImageDraw

    shown: list[tuple[int, Record, Image.Image]] = []
    for row in draws.permuted(draws.named(seed, "sheet"), np.arange(min(2 * pictures, len(source))), len(source)).tolist():
        if len(shown) < pictures:
            try:
                record = source[row]
                shown.append((row, record, record.open()))
            except Broken:
                continue
    if not shown:
        raise ValueError(f"{source.name}: none of its pictures can be read, so there is no sheet")
    shown.sort(key=lambda one: one[0])
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    top = MARGIN + 34
    size = (2 * MARGIN + columns * (CELL + GAP) - GAP, top + rows * (CELL + TEXT + GAP) - GAP + MARGIN)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN - 8), source.name, INK, _font(20))
    note = f"{len(shown):,} of {len(source):,} pictures"
    draw.text((size[0] - MARGIN - draw.textlength(note, _font(13)), MARGIN - 2), note, PALE, _font(13))
    for i, (_, record, picture) in enumerate(shown):
        left, upper = MARGIN + i % columns * (CELL + GAP), top + i // columns * (CELL + TEXT + GAP)
        draw.rounded_rectangle((left, upper, left + CELL - 1, upper + CELL - 1), 8, CARD)
        room = CELL - 12
        factor = room / max(picture.size)
        whole = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        fitted = picture.resize(whole, Image.Resampling.LANCZOS)
        page.paste(fitted, (left + (CELL - fitted.width) // 2, upper + (CELL - fitted.height) // 2))
        words = record.captions[0] if record.captions else record.key
        for line, text in enumerate(_lines(draw, words, _font(12), CELL, 2)):
            draw.text((left, upper + CELL + 6 + 17 * line), text, INK if record.captions else PALE, _font(12))
    return page


def _some(length: int, limit: int) -> list[int]:
    """Rows: all, or a random choice in the set's order."""
    if not limit or limit >= length:
        return list(range(length))
    return sorted(draws.permuted(draws.named(0, "inspect"), np.arange(limit), length).tolist())


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _lines(draw: ImageDraw.ImageDraw, text: str, font: object, width: int, most: int) -> list[str]:
    """Text broken into at most `most` lines, the last one ended by dots where it goes on."""
    lines, words = [""], text.split()
    for i, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width:  # type: ignore[arg-type]
            lines[-1] = longer
        elif len(lines) < most and lines[-1]:
            lines.append(word)
        else:
            rest = f"{lines[-1]} {' '.join(words[i:])}".strip()
            while rest and draw.textlength(f"{rest}...", font) > width:  # type: ignore[arg-type]
                rest = rest[:-1]
            lines[-1] = f"{rest.rstrip()}..."
            break
    return lines
