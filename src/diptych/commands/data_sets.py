"""`diptych data prepare | inspect | caption`: captioned pictures from a folder to shards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.commands.terminal import grid, hint, show_grid, stdout

if TYPE_CHECKING:
    from diptych.data.catalogue import Entry
    from diptych.data.inspection import Found
    from diptych.data.records import Layout, Source


@dataclass(frozen=True)
class Where:
    """Where a set keeps things, as options say it: see `records.Layout`."""

    key: str = ""
    image: str = ""
    annotation: str = ""


def prepare(
    name: str, place: str, out: str, captions: tuple[str, ...], where: Where, settings: dict, workers: int, as_json: bool
) -> None:
    """Prepare a set from a local copy, with the catalogue's layout where it is one of its sets."""
    from diptych.data import captions as words
    from diptych.data.prepare import Settings
    from diptych.data.prepare import prepare as work
    from diptych.data.shards import is_prepared
    from diptych.keys import fingerprint

    entry = _entry(name)
    if not place:
        how = f"; {entry.title} is at {entry.source}: {entry.obtain}" if entry else ""
        raise ValueError(f"data prepare {name}: give the local copy by --from{how}")
    layout = _layout(entry, where)
    asked = Settings(**settings)
    folder = Path(out or f"data/{name}-{asked.size}")
    source = _source(place, name, layout)
    store = None
    if captions:
        files = words.listed([Path(file) for file in captions])
        # by what was read: a stopped run goes on with it, changed files make another
        read = fingerprint([(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files])
        store = folder.with_name(f".{folder.name}-{read}.sqlite")
        hint(f"{words.gather(files, store):,} keys with captions")
    if is_prepared(folder):
        hint(f"{folder.as_posix()} is whole already; remove it to prepare it anew")
    show = _progress(len(source))
    made = work(
        source,
        folder,
        asked,
        name=name,
        captions=store,
        workers=workers,
        told=lambda rows, kept, _: show(rows, f"{kept:,} kept"),
    )
    for old in folder.parent.glob(f".{folder.name}-*.sqlite"):
        old.unlink()
    record = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"out": folder.as_posix(), **{k: record[k] for k in ("records", "captions", "sizes", "skipped")}}))
        return
    left = ", ".join(f"{count:,} {reason}" for reason, count in record["skipped"].items())
    hint(f"{len(made):,} pictures, {record['captions']:,} captions" + (f"; left out: {left}" if left else ""))
    print(folder.as_posix())


def span(words: str) -> tuple[int, int]:
    """ "3-200" as (3, 200); "" as any; "3-" has no upper end (0)."""
    low, dash, high = words.partition("-")
    if not words:
        return 1, 0
    if not (dash and low.strip().isdigit() and (high.strip().isdigit() or not high.strip())):
        raise ValueError(f"--words {words}: write a span such as 3-200, or 3- for no upper end")
    return int(low), int(high or 0)


def inspect(place: str, sheet: str, pictures: int, limit: int, where: Where, as_json: bool) -> None:
    """Print what is in a set and draw a sheet of it."""
    from diptych.data import inspection

    source = _source(place, "", _layout(None, where))
    show = _progress(min(limit or len(source), len(source)))
    found = inspection.inspect(source, limit, told=lambda done, _: show(done, ""))
    file = Path(sheet or f"{source.name.replace('/', '-').replace(',', '-')}-sheet.png")
    drawn = sheet != "none" and found.records
    if drawn:
        from diptych.files import write_bytes

        write_bytes(file, _png(inspection.sheet(source, pictures)))
    if as_json:
        print(json.dumps({**vars(found), "sheet": file.as_posix() if drawn else None}, indent=1))
        return
    _show(found)
    if drawn:
        print(f"sheet: {file.as_posix()}")


def caption(
    place: str, out: str, url: str, model: str, asked: dict, server: dict, name: str, where: Where, as_json: bool
) -> None:
    """Caption a set."""
    from diptych.data.captioning import caption as work
    from diptych.data.chat_client import Server

    if not url or not model:
        raise ValueError("data caption: give the server by --server http://HOST:PORT/v1 and the model by --model")
    entry = _entry(name) if name else None
    source = _source(place, name, _layout(entry, where))
    file = Path(out or f"{source.name.replace('/', '-')}-captions.jsonl")
    show = _progress(0)
    done = work(
        source,
        file,
        Server(url, model, **server),
        **{**asked, "instruction": asked["instruction"] or (entry.captioner if entry else "detailed")},
        told=lambda count, wanted: show(count, f"of {wanted:,} answers"),
    )
    for line in done.broken[:10]:
        hint(f"broken: {line}")
    if as_json:
        print(json.dumps({"out": file.as_posix(), **vars(done)}))
        return
    bad = ", ".join(f"{count:,} {reason}" for reason, count in done.bad.items())
    hint(f"{done.pictures:,} pictures, {done.captions:,} captions" + (f"; answers of no use: {bad}" if bad else ""))
    print(file.as_posix())


def _entry(name: str) -> Entry | None:
    """The catalogue's entry; a name that is nearly one of its names is refused."""
    from difflib import get_close_matches

    from diptych.data.catalogue import CATALOGUE

    near = get_close_matches(name.lower(), CATALOGUE, 1, 0.8)
    if near and near[0] != name:
        raise ValueError(f"{name}: nearly the catalogue's {near[0]!r}; write that, or take another name for a set of yours")
    return CATALOGUE.get(name)


def _layout(entry: Entry | None, where: Where) -> Layout:
    from dataclasses import replace

    from diptych.data.records import PLAIN

    held = entry.layout if entry else PLAIN
    if entry and not where.key and not entry.keyed:
        hint(f"keys of {entry.title} in the published captions are not known to us; if captions do not join, say --key")
    given = {field: value for field, value in asdict(where).items() if value}
    return replace(held, **given)


def _source(place: str, name: str, layout: Layout) -> Source:
    from diptych.data.sources import open_source

    return open_source(place, name, layout)


def _png(picture: object) -> bytes:
    import io

    from PIL import Image

    assert isinstance(picture, Image.Image)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _show(found: Found) -> None:
    from diptych.data.inspection import bars

    console = stdout()
    console.print(found.name, style="bold")
    table = grid("what", "~value")
    table.show_header = False
    some = f" of {found.of:,}" if found.records + len(found.broken) < found.of else ""
    low, middle, high = found.short_edges
    table.add_row("pictures", f"{found.records:,}{some}, {found.bytes / 1e6:,.1f} MB")
    sizes = ", ".join(f"{size} ({count:,})" for size, count in found.sizes.most_common(6))
    table.add_row("sizes", sizes + (f" and {len(found.sizes) - 6} more" if len(found.sizes) > 6 else ""))
    table.add_row("short edge", f"{low} to {high}, median {middle}")
    each = ", ".join(f"{number} ({count:,})" for number, count in sorted(found.captions.items()))
    table.add_row("captions each", each or "none")
    table.add_row("same bytes", f"{found.repeated:,}")
    table.add_row("look alike", f"{found.alike:,}")
    table.add_row("broken", f"{len(found.broken):,}")
    show_grid(console, table)
    for line in found.broken[:10]:
        console.print(f"  {line}")
    if found.words:
        console.print("\nwords a caption")
        for line in bars(found.words):
            console.print(line)


def _progress(total: int) -> Callable[[int, str], None]:
    """A line that is written over, on a terminal only."""

    def show(done: int, words: str) -> None:
        if sys.stderr.isatty():
            of = f" of {total:,}" if total else ""
            print(f"\r{done:,}{of} {words}".ljust(60), end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show
