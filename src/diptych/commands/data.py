"""`diptych data ls | emoji`: the data sets there are, and drawing the emoji ones anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from diptych.commands.terminal import grid, hint, show_grid, stdout


def emoji(styles: Sequence[str], out: str, cache: str, size: int, as_json: bool) -> None:
    """Draw emoji styles into a folder."""
    from diptych.data.emoji import build

    folder = Path(out or f"data/emoji-{size}")
    made = {}
    for style, pictures in build(styles, folder, Path(cache), size):
        hint(f"{style}: {pictures:,} pictures")
        made[style] = pictures
    print(json.dumps({"out": folder.as_posix(), "pictures": made}) if as_json else folder.as_posix())


def ls(as_json: bool) -> None:
    """Print the emoji styles (what is inside the package, what `data emoji` can draw) and the catalogue of public sets."""
    from diptych.data.catalogue import CATALOGUE
    from diptych.data.emoji import EMBEDDED, slug
    from diptych.data.emoji_sources import SOURCES

    held = json.loads((EMBEDDED / "index.json").read_text(encoding="utf-8"))
    rows = [
        (slug(style), len(held["styles"][style]["names"]) if style in held["styles"] else None, source.licence)
        for style, source in SOURCES.items()
    ]
    if as_json:
        styles = [{"style": style, "embedded": count, "licence": licence} for style, count, licence in rows]
        public = [{"name": name, **asdict(entry)} for name, entry in CATALOGUE.items()]
        print(json.dumps({"emoji": styles, "public": public}, indent=1))
        return
    table = grid("emoji style", ">pictures inside", "licence", "~how to have it")
    for style, count, licence in rows:
        table.add_row(style, f"{count:,}" if count else "", licence, "embedded" if count else f"diptych data emoji {style}")
    console = stdout()
    show_grid(console, table)
    console.print()
    table = grid("public set", ">pictures", "kind", "i1 at", "~terms")
    for name, entry in CATALOGUE.items():
        table.add_row(name, f"{entry.images:,}", entry.kind, " ".join(entry.stages), entry.terms)
    show_grid(console, table)
    hint("a local copy becomes shards by: diptych data prepare NAME --from PATH (without --from it says how to have one)")
