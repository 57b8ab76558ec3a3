"""The options of `diptych data prepare | inspect | caption`; the work is in `data_sets`."""

from __future__ import annotations

from typing import Annotated

import typer

from diptych.commands.options import Json, Out, argument, option

PLACE = "A prepared set, a folder or file of tars, TFRecords, Parquet or pictures, a .jsonl or .csv list, or emoji/STYLE."
Key = Annotated[str, option("--key", "TEMPLATE", 'Key of a record: "{folder}_{stem}", "{id}"; fields of its row and path.')]
Image = Annotated[str, option("--image", "FIELD", "Field or column that holds the picture or its path.")]
Annotation = Annotated[str, option("--annotation", "FIELD", "Field of what is known of a picture, for the captioner.")]
Broken = Annotated[int, typer.Option("--broken", metavar="N", help="Records that cannot be read, before it stops.")]


def prepare(
    name: Annotated[str, argument("NAME", "A set of the catalogue (diptych data ls), or a name for yours.")],
    place: Annotated[str, option("--from", "PATH", f"The local copy. {PLACE}")] = "",
    out: Out = "",
    captions: Annotated[list[str] | None, option("--captions", "FILE", "Parquet or JSONL to join by key; repeat.")] = None,
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="Side of the square.")] = 256,
    buckets: Annotated[bool, option("--buckets", None, "Keep aspects: sizes of the square's area.")] = False,
    multiple: Annotated[int, typer.Option("--multiple", metavar="N", help="Divides the sides of buckets.")] = 32,
    format_: Annotated[str, typer.Option("--format", metavar="png|webp|jpeg", help="Of the pictures.")] = "png",
    quality: Annotated[int, typer.Option("--quality", metavar="N", help="Of webp (100: lossless) and jpeg.")] = 95,
    cap: Annotated[int, option("--cap", "N", "Keep N records, drawn at random.")] = 0,
    smallest: Annotated[int, option("--smallest", "PIXELS", "Least short edge (the size from 512 on, else any).")] = -1,
    widest: Annotated[float, option("--widest", "X", "Largest aspect, long side over short.")] = 0.0,
    words: Annotated[str, option("--words", "3-200", "Words a caption may have.")] = "",
    own: Annotated[bool, option("--own", None, "Keep the set's own captions beside those joined.")] = False,
    bare: Annotated[bool, option("--bare", None, "Keep pictures without captions, too.")] = False,
    duplicates: Annotated[
        str, typer.Option("--duplicates", metavar="keep|exact|near", help="Leave out the same bytes, or what looks alike.")
    ] = "keep",
    near: Annotated[int, typer.Option("--near", metavar="BITS", help="Bits of 128 that may differ, for near.")] = 6,
    per_shard: Annotated[int, typer.Option("--per-shard", metavar="N", help="Records worked on at a time.")] = 1000,
    broken: Broken = 100,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Processes; 0 works in this one.")] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the choice under --cap.")] = 0,
    key: Key = "",
    image: Image = "",
    annotation: Annotation = "",
    json: Json = False,
) -> None:
    """Turn a local copy of a set into shards to train on; run again to go on where it stopped."""
    from diptych.commands.data_sets import Where, span
    from diptych.commands.data_sets import prepare as work

    fewest, most = span(words)
    settings = {
        "size": size, "buckets": buckets, "multiple": multiple, "widest": widest, "format": format_, "quality": quality,
        "per_shard": per_shard, "cap": cap, "smallest": smallest, "fewest": fewest, "most": most, "own": own, "bare": bare,
        "duplicates": duplicates, "near": near, "broken": broken, "seed": seed,
    }  # fmt: skip
    work(name, place, out, tuple(captions or ()), Where(key, image, annotation), settings, workers, json)


def inspect(
    place: Annotated[str, argument("PATH", PLACE)],
    sheet: Annotated[str, option("--sheet", "FILE", "Where the sheet of pictures goes (NAME-sheet.png); none: no sheet.")] = "",
    pictures: Annotated[int, typer.Option("--pictures", metavar="N", help="On the sheet.")] = 40,
    limit: Annotated[int, option("--limit", "N", "Look at N records only, drawn at random.")] = 0,
    key: Key = "",
    image: Image = "",
    json: Json = False,
) -> None:
    """Show what is in a set: counts, sizes, caption lengths, duplicates, broken records, and a sheet of pictures."""
    from diptych.commands.data_sets import Where
    from diptych.commands.data_sets import inspect as work

    work(place, sheet, pictures, limit, Where(key, image), json)


def caption(
    place: Annotated[str, argument("PATH", PLACE)],
    server: Annotated[str, option("--server", "URL", "Of a vLLM-compatible server: http://HOST:8000/v1.")] = "",
    model: Annotated[str, option("--model", "NAME", "What it is served as.")] = "",
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE.jsonl", help="Captions.", show_default=False)] = "",
    captions: Annotated[int, typer.Option("--captions", metavar="1-5", help="A picture.")] = 1,
    instruction: Annotated[
        str, option("--instruction", "NAME|TEXT", "detailed, rendered, annotated, short; or your own.")
    ] = "",
    set_name: Annotated[str, option("--set", "NAME", "Of the catalogue: its keys and its instruction.")] = "",
    temperature: Annotated[float, typer.Option("--temperature", metavar="T", help="Of the sampling.")] = 0.7,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", help="Of a caption.")] = 256,
    at_once: Annotated[int, typer.Option("--at-once", metavar="N", help="Requests under way.")] = 64,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the first caption; the next have the next.")] = 0,
    limit: Annotated[int, option("--limit", "N", "First N pictures only.")] = 0,
    broken: Broken = 100,
    key: Key = "",
    image: Image = "",
    annotation: Annotation = "",
    json: Json = False,
) -> None:
    """Have a vision-language model caption a set; run again to go on where it stopped, or with more captions."""
    from diptych.commands.data_sets import Where
    from diptych.commands.data_sets import caption as work

    asked = {"instruction": instruction, "captions": captions, "limit": limit, "broken": broken}
    options = {"temperature": temperature, "max_tokens": max_tokens, "at_once": at_once, "seed": seed}
    work(place, out, server, model, asked, options, set_name, Where(key, image, annotation), json)
