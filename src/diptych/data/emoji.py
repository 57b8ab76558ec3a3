"""Emoji drawn in up to ten art styles: real captioned pictures, five styles of them inside the package.

`load()` reads what is embedded. `build()` draws any of the ten styles anew from their npm packages; what is embedded is
`build(emoji_sources.SHIPPED, EMBEDDED, cache_folder)`. A folder of pictures holds one lossless WebP atlas a style (cells in
reading order, `COLUMNS` a row), `index.json` naming the cells, and LICENSES.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.emoji_sources import CATEGORIES, SOURCES, fetch, licences
from diptych.data.images import ImageSet

SCHEMA = 1
COLUMNS = 40
OVERSAMPLE = 4
EMBEDDED = Path(__file__).parent.parent / "assets" / "emoji"

_SKIN_TONE = re.compile(r"skin-tone|(?<!-traffic)(?<!-car)-(light|medium|dark)$")
_FLAG_OF = re.compile(r"^flag-(?!in-hole$)")


def load(path: str | Path | None = None, styles: Sequence[str] | None = None) -> ImageSet:
    """The pictures of a built folder (the embedded one if None), style by style in its order, names ascending.

    Args:
        path: folder that `build` wrote.
        styles: only these, in this order.

    Raises:
        ValueError: no such folder, an index or an atlas that is missing, damaged or of another size, an unknown style.
    """
    folder = EMBEDDED if path is None else Path(path)
    index = _read_index(folder)
    size, held = index["size"], index["styles"]
    wanted = list(held) if styles is None else [_known(style, held, f"{folder} holds") for style in styles]
    ids: list[str] = []
    names: list[str] = []
    words: list[str] = []
    categories: list[str] = []
    pixels = np.empty((sum(len(held[style]["names"]) for style in wanted), size, size, 3), np.uint8)
    for style in wanted:
        part = held[style]
        count = len(part["names"])
        pixels[len(ids) : len(ids) + count] = _read_atlas(folder / part["file"], part["sha256"], count, size)
        ids += [f"{slug(style)}/{name}" for name in part["names"]]
        names += [plain(name) for name in part["names"]]
        words += [style] * count
        categories += [index["categories"][i] for i in part["categories"]]
    return ImageSet(tuple(ids), pixels, tuple(names), tuple(words), tuple(categories))


def build(styles: Sequence[str], out: str | Path, cache_folder: str | Path, size: int = 64) -> Iterator[tuple[str, int]]:
    """Draw `styles` into the folder `out`; yields (style, pictures) as each style is done, and works only while iterated.

    Same packages, same rasteriser, same libwebp: same bytes. Skin-tone variants are left out, and of pictures that are
    equal to the pixel within a style (flags of dependencies) the shortest name stays.

    Args:
        styles: keys of `SOURCES`; "noto-classic" is as good as "noto classic".
        out: created if missing; its index.json is written last.
        cache_folder: where downloaded packages are kept, and looked for first.
        size: pixels a side, 16 to 256.

    Raises:
        ValueError: unknown style, size out of range, resvg-py or npm missing, a package that cannot be had or differs.
    """
    if not 16 <= size <= 256:
        raise ValueError(f"emoji: size {size} is not in 16..256")
    if not styles:
        raise ValueError(f"emoji: no styles given; choose from {', '.join(SOURCES)}")
    chosen = tuple(dict.fromkeys(_known(style, SOURCES, "there are") for style in styles))
    try:
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise ValueError("emoji: drawing needs resvg-py; pip install 'diptych[data]'") from error
    return _build(chosen, Path(out), Path(cache_folder), size)


def _build(styles: Sequence[str], out: Path, cache_folder: Path, size: int) -> Iterator[tuple[str, int]]:
    out.mkdir(parents=True, exist_ok=True)
    categories: list[str] = []
    held: dict[str, Any] = {}
    for style in styles:
        names, pixels, kinds = draw(style, cache_folder, size)
        atlas = _atlas(pixels)
        file = f"{slug(style)}.webp"
        _write(out / file, atlas)
        categories += [kind for kind in sorted(set(kinds)) if kind not in categories]
        held[style] = {
            "file": file,
            "sha256": hashlib.sha256(atlas).hexdigest(),
            "package": f"@iconify-json/{SOURCES[style].package}@{SOURCES[style].version}",
            "licence": SOURCES[style].licence,
            "names": names,
            "categories": [categories.index(kind) for kind in kinds],
        }
        yield style, len(names)
    _write(out / "LICENSES.md", licences({style: SOURCES[style] for style in styles}, size).encode())
    index = {"schema": SCHEMA, "size": size, "columns": COLUMNS, "categories": categories, "styles": held}
    _write(out / "index.json", (json.dumps(index, separators=(",", ":")) + "\n").encode())


def draw(style: str, cache_folder: Path, size: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Names (ascending), pixels (N, size, size, 3) uint8 on white, and categories of one style."""
    source = SOURCES[style]
    icons = _member(fetch(source, cache_folder), "icons.json")
    kinds = _categories(style, cache_folder)
    drawn: dict[bytes, tuple[str, str, np.ndarray]] = {}
    taken: dict[str, str] = {}
    for key in sorted(icons["icons"]):
        icon = icons["icons"][key]
        name = "" if icon.get("hidden") or _SKIN_TONE.search(key) else canonical(key, style)
        if not name or name in taken:
            continue
        taken[name] = key
        picture = _rasterise({**{k: icons[k] for k in ("width", "height") if k in icons}, **icon}, size)
        other = drawn.get(picture.tobytes())
        if picture.min() < 255 and (other is None or (len(name), name) < (len(other[0]), other[0])):
            drawn[picture.tobytes()] = (name, kinds.get(key, ""), picture)
    kept = sorted(drawn.values(), key=lambda row: row[0])
    return [row[0] for row in kept], np.stack([row[2] for row in kept]), [row[1] for row in kept]


def canonical(key: str, style: str) -> str:
    """A package's icon name as the name that all styles share ("bear-face" -> "bear"); empty: no usable name."""
    if style == "streamline":
        key = re.sub(r"-\d$", "", key)
    key = re.sub(r"^flag-for-(flag-)?", "flag-", key)
    if style == "fxemoji":  # written in one word: only those that another style spells out
        key = _run_together().get(key, "")
    return _renames().get(key, key)


def plain(name: str) -> str:
    """ "hot-pepper" -> "hot pepper", "flag-malaysia" -> "flag of malaysia"."""
    return _FLAG_OF.sub("flag of ", name).replace("-", " ")


def slug(style: str) -> str:
    """A style's words as used in ids and file names: "noto classic" -> "noto-classic"."""
    return style.replace(" ", "-")


def _member(tarball: Path, name: str) -> Any:
    with tarfile.open(tarball) as archive:
        stream = archive.extractfile(f"package/{name}")
        assert stream is not None  # the tarball is the pinned one, by its SHA-256
        return json.load(stream)


def _categories(style: str, cache_folder: Path) -> dict[str, str]:
    source = SOURCES[SOURCES[style].categories or style]
    found: dict[str, str] = {}
    for title, keys in _member(fetch(source, cache_folder), "metadata.json").get("categories", {}).items():
        word = title.lower().replace("&", "and")
        found.update(dict.fromkeys(keys, CATEGORIES.get(word, word)))
    return found


def _rasterise(icon: Mapping[str, Any], size: int) -> np.ndarray:
    """One icon on white, centred in a square: (size, size, 3) uint8.

    Drawn `OVERSAMPLE` times too large and averaged: where layers share an edge (all of "fluent"), the rasteriser's own
    antialiasing adds their coverage up, and edges come out jagged.
    """
    import resvg_py
    from PIL import Image

    width, height = icon.get("width", 16), icon.get("height", 16)
    side = max(width, height)
    left, top = icon.get("left", 0) - (side - width) / 2, icon.get("top", 0) - (side - height) / 2
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {side:g} {side:g}" width="{side:g}" height="{side:g}">{icon["body"]}</svg>'
    )
    large = size * OVERSAMPLE
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=large, height=large))))
    white = Image.new("RGBA", (large, large), "white")
    white.alpha_composite(drawn.convert("RGBA"))
    return np.asarray(white.convert("RGB").reduce(OVERSAMPLE))


def _atlas(pixels: np.ndarray) -> bytes:
    from PIL import Image

    count, size = pixels.shape[:2]
    rows = -(-count // COLUMNS)
    cells = np.full((rows * COLUMNS, size, size, 3), 255, np.uint8)
    cells[:count] = pixels
    sheet = cells.reshape(rows, COLUMNS, size, size, 3).swapaxes(1, 2).reshape(rows * size, COLUMNS * size, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def _read_atlas(path: Path, sha256: str, count: int, size: int) -> np.ndarray:
    from PIL import Image

    if not path.is_file():
        raise ValueError(f"emoji: {path} is missing; build the set again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"emoji: {path} is damaged (its SHA-256 is not the index's); build the set again")
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    rows = -(-count // COLUMNS)
    if sheet.shape != (rows * size, COLUMNS * size, 3):
        raise ValueError(
            f"emoji: {path} is {sheet.shape[1]}x{sheet.shape[0]} pixels, its index says {COLUMNS * size}x{rows * size}"
        )
    return sheet.reshape(rows, size, COLUMNS, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)[:count]


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        raise ValueError(f"emoji: {path} does not exist; give a folder that `diptych data emoji` wrote")
    try:
        index = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"emoji: {path} is damaged ({error}); build the set again") from error
    known = isinstance(index, dict) and (index.get("schema"), index.get("columns")) == (SCHEMA, COLUMNS)
    if not known or not {"size", "categories", "styles"} <= index.keys():
        raise ValueError(f"emoji: {path} is not an emoji index of schema {SCHEMA}; build the set again")
    return index


def _known(style: str, among: Mapping[str, Any], there_are: str) -> str:
    words = style.replace("-", " ")
    if words in among:
        return words
    near = get_close_matches(words, among, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"{there_are} {', '.join(among)}"
    raise ValueError(f"emoji: unknown style {style!r}; {hint}")


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


@cache
def _renames() -> dict[str, str]:
    return json.loads((EMBEDDED / "renames.json").read_text())


@cache
def _run_together() -> dict[str, str]:
    styles = _read_index(EMBEDDED)["styles"].values()
    return {name.replace("-", ""): name for part in styles for name in part["names"]}
