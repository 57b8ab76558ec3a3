"""The command line: verbs, options and exit codes (0 done, 2 bad input, 1 failed). What a verb does is in `commands/`.

Data goes to stdout, hints and progress to stderr. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from diptych import __version__
from diptych.commands.data_fields import fields, turbulence
from diptych.commands.data_options import caption, inspect, prepare
from diptych.commands.options import Json, Out
from diptych.commands.options import argument as _argument
from diptych.commands.options import option as _option

app = typer.Typer(
    name="diptych",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: a third of the start-up time of rich's (benchmarks/startup.py)
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: diptych compare quickstart. Every verb takes --help.",
)
data_app = typer.Typer(no_args_is_help=True, help="Prepare, caption, inspect and list data sets.")
app.add_typer(data_app, name="data")
data_app.command("prepare", epilog="Example: diptych data prepare pets --from photos --captions pets.jsonl --size 256")(prepare)
data_app.command("caption", epilog="Example: diptych data caption photos --server http://localhost:8000/v1 --model M")(caption)
data_app.command("inspect", epilog="Example: diptych data inspect data/pets-256")(inspect)
data_app.command("turbulence", epilog="Example: diptych data turbulence --preset 64 --out turb64")(turbulence)
data_app.command("fields", epilog="Example: diptych data fields run.nc --variable u --variable v --periodic yx")(fields)


def _recipes(incomplete: str) -> list[str]:
    from diptych.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


def _fields(incomplete: str) -> list[str]:
    """sampler=... offers the samplers."""
    from diptych.commands.listing import entries

    name, equals, start = incomplete.partition("=")
    if not equals or not name.endswith("sampler"):
        return []
    return [f"{name}={entry.name}" for entry in entries("samplers") if entry.name.startswith(start)]


def _formats(incomplete: str) -> list[str]:
    from diptych.commands.listing import entries

    return [entry.name for entry in entries("formats") if entry.name.startswith(incomplete)]


def _benchmarks(incomplete: str) -> list[str]:
    from diptych.commands.benchmark import NAMES

    return [name for name in (*NAMES, "table") if name.startswith(incomplete)]


def _groups(incomplete: str) -> list[str]:
    from diptych.commands.listing import GROUPS

    return [name for name in GROUPS if name.startswith(incomplete)]


def _runs(incomplete: str) -> list[str]:
    return [
        path.as_posix() for path in sorted(Path("runs").glob("*")) if path.is_dir() and path.as_posix().startswith(incomplete)
    ]


def _devices(incomplete: str) -> list[str]:
    return [name for name in ("cpu", "cuda", "mps") if name.startswith(incomplete)]


def _sizes(incomplete: str) -> list[str]:
    return [name for name in ("tiny", "core", "full") if name.startswith(incomplete)]


RECIPE = "A name (diptych ls recipes), file.py:function, or a run's config.json."
Size = Annotated[str, _option("--size", "tiny|core|full", "Config to start from: seconds, minutes (default), hours.", _sizes)]
Set = Annotated[list[str] | None, _option("--set", "A.B=VALUE", "Change a field of the config; repeat for more.", _fields)]
Seeds = Annotated[str, _option("--seeds", "0-31,40", "Sampling seeds.")]
Limit = Annotated[int, _option("--limit", "N", "First N items only.")]
Device = Annotated[str, _option("--device", "cpu|cuda", "Where to compute; an accelerator if there is one.", _devices)]
DryRun = Annotated[bool, _option("--dry-run", None, "Print what would be done, and do nothing.")]


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def diptych(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure (any verb).")] = False,
) -> None:
    """Train, guide, decode and compress diffusion models, and know, pair by pair, whether a change helped."""


@app.command(epilog="Example: diptych compare quickstart --size tiny --set steps=8 --seeds 0-3")
def compare(
    recipe: Annotated[str, _argument("RECIPE", RECIPE, _recipes)] = "",
    size: Size = "",
    set_: Set = None,
    seeds: Seeds = "",
    limit: Limit = 0,
    out: Out = "",
    device: Device = "",
    dry_run: DryRun = False,
    json: Json = False,
    rows: Annotated[
        list[str] | None, _option("--rows", "FILE", "Judge scores of any tool (CSV, JSONL, Parquet); repeat.")
    ] = None,
    baseline: Annotated[str, _option("--baseline", "ARM", "With --rows: what the others are held against.")] = "",
    primary: Annotated[str, _option("--primary", "METRIC", "With --rows: carries the verdict.")] = "",
    margin: Annotated[
        list[str] | None, _option("--margin", "METRIC=X", "With --rows: the largest difference that does not matter; repeat.")
    ] = None,
    lower: Annotated[list[str] | None, _option("--lower", "METRIC", "With --rows: lower is better; repeat.")] = None,
) -> None:
    """Run a controlled comparison: is each arm better, worse, equivalent?"""
    _on(device)
    judged = {"--baseline": baseline, "--primary": primary, "--margin": margin, "--lower": lower}
    command = shlex.join(["diptych", *sys.argv[1:]])
    if rows:
        from diptych.commands.compare import execute
        from diptych.commands.rows import Judging, rows_comparison

        unused = next((name for name, value in {"RECIPE": recipe, "--size": size, "--set": set_}.items() if value), None)
        if unused:
            raise ValueError(f"{unused}: has no meaning with --rows; leave it out")
        judging = Judging(baseline, primary, tuple(margin or ()), tuple(lower or ()), seeds, limit)
        record = {"rows": rows, **{name[2:]: value for name, value in judged.items()}}
        comparison = rows_comparison([Path(file) for file in rows], judging)
        execute(comparison, out, record, dry_run=dry_run, as_json=json, command=command)
        return
    unused = next((name for name, value in judged.items() if value), None)
    if unused:
        raise ValueError(f"{unused}: has a meaning with --rows only; a recipe commits its own")
    if not recipe:
        raise ValueError("compare: which recipe? `diptych ls recipes` lists them; `diptych compare quickstart` is a start")
    from diptych.commands import compare as verb
    from diptych.commands.recipe import Asked

    verb.compare(Asked(recipe, size, tuple(set_ or ()), seeds, limit), out, dry_run=dry_run, as_json=json, command=command)


@app.command(epilog="Example: diptych train quickstart --size tiny --stage autoencoder")
def train(
    recipe: Annotated[str, _argument("RECIPE", RECIPE, _recipes)],
    stage: Annotated[str, _option("--stage", "NAME", "One stage only.")] = "",
    size: Size = "",
    set_: Set = None,
    out: Out = "",
    device: Device = "",
    track: Annotated[list[str] | None, _option("--track", "NAME", "Also log to tensorboard, wandb or trackio; repeat.")] = None,
    resume: Annotated[str, _option("--resume", "FOLDER", "Go on with this run; an error where there is none.")] = "",
    on: Annotated[str, _option("--on", "ray", "Hand the networks of a stage to a Ray cluster that is there.")] = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train what a recipe needs; run again to go on where it stopped."""
    _on(device)
    from diptych.commands import train as verb
    from diptych.commands.recipe import Asked

    asked = Asked(recipe, size, tuple(set_ or ()))
    verb.train(asked, stage, out, device, tuple(track or ()), resume=resume, on=on, dry_run=dry_run, as_json=json)


@app.command(epilog='Example: diptych sample quickstart --prompt "a red apple, noto style" --seeds 0-7 -o grid.png')
def sample(
    model: Annotated[str, _argument("MODEL", "A recipe's name (its own weights) or a trained folder.", _recipes)],
    prompt: Annotated[list[str] | None, _option("--prompt", "TEXT", "What to make; repeat for more.")] = None,
    prompts: Annotated[str, _option("--prompts", "FILE", "A text file with one prompt a line.")] = "",
    decoder: Annotated[str, _option("--decoder", "NAME|FILE.PY:NAME", "Of a masked language model; --set its options.")] = "",
    trace: Annotated[bool, _option("--trace", None, "Of a masked language model: show the canvas as it fills.")] = False,
    recipe: Annotated[str, _option("--recipe", "NAME", "Recipe that made the folder.", _recipes)] = "",
    set_: Set = None,
    seeds: Seeds = "0",
    out: Out = "",
    device: Device = "",
    json: Json = False,
) -> None:
    """Sample a model; prints the files it made, or a language model's answers."""
    _on(device)
    from diptych.commands.decode import decode, language

    if decoder or trace or language(model):
        from diptych.commands.train import lines

        asked = (*(prompt or ()), *(lines(Path(prompts)) if prompts else ()))
        decode(model, asked, decoder, tuple(set_ or ()), seeds, trace=trace, as_json=json)
        return
    from diptych.commands import train as verb

    verb.sample(model, tuple(prompt or ()), prompts, recipe, seeds, tuple(set_ or ()), out, as_json=json)


@app.command(epilog="Example: diptych quantize quickstart --format q4_k --protect ffn_down=q6_k -o small")
def quantize(
    model: Annotated[str, _argument("MODEL", "A safetensors or GGUF file, a model's folder (ours, diffusers), a recipe.")],
    format_: Annotated[
        str, _option("--format", "NAME", "For all layers: diptych ls formats; or q4_k_m and such.", _formats)
    ] = "",
    budget: Annotated[str, _option("--budget", "4.6bpw|512MB", "Choose a format a layer, within this size.")] = "",
    protect: Annotated[
        list[str] | None, _option("--protect", "PATTERN=FORMAT", "Layers (a class, or a glob on names) and theirs; repeat.")
    ] = None,
    calibrate: Annotated[
        str, _option("--calibrate", "N|FILE", "Weigh by what N prompts, or a file's, make of the inputs.")
    ] = "",
    smooth: Annotated[float | None, _option("--smooth", "ALPHA", "SmoothQuant for int8 layers; needs --calibrate.")] = None,
    rotate: Annotated[int, _option("--rotate", "256", "Hadamard rotation of int8 layers, in groups of this size.")] = 0,
    architecture: Annotated[str, _option("--architecture", "NAME", "Take it for this; any: every matrix is a layer.")] = "",
    names: Annotated[str, _option("--names", "original|same", "Of a diffusers folder's layers in the file.")] = "original",
    pixels: Annotated[int, _option("--pixels", "N", "Side of the pictures that the memory plan is for (1024).")] = 1024,
    out: Annotated[str, typer.Option("--out", "-o", metavar="PATH", help="A folder, or one file.", show_default=False)] = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compress a model; prints the plan, then writes."""
    from diptych.commands import quantize as verb

    asked = verb.Asked(format_, budget, tuple(protect or ()), calibrate, smooth, rotate, architecture, names, pixels)
    verb.quantize(model, asked, out, dry_run=dry_run, as_json=json)


@app.command(epilog="Example: diptych benchmark geneval --prompts evaluation_metadata.jsonl --answers detections.jsonl")
def benchmark(
    name: Annotated[str, _argument("NAME", "Left out: the list. table: the paper's, with a row of yours.", _benchmarks)] = "",
    results: Annotated[list[str] | None, _argument("RESULT", "With table: files that --out wrote.")] = None,
    prompts: Annotated[list[str] | None, _option("--prompts", "PATH", "The published file of prompts; repeat.")] = None,
    images: Annotated[str, _option("--images", "FOLDER", "Pictures, named as the benchmark's own program names them.")] = "",
    answers: Annotated[str, _option("--answers", "FILE", "Stored answers (JSON lines); with a judge: where they go.")] = "",
    judge: Annotated[str, _option("--judge", "URL|FOLDER|rapidocr", "Who looks at the pictures.")] = "",
    model: Annotated[str, _option("--model", "NAME", "Of a server: which model answers.")] = "",
    clip: Annotated[str, _option("--clip", "FOLDER", "Of a CLIP model: tells colours (geneval), CLIPScore (cvtg).")] = "",
    rubrics: Annotated[str, _option("--rubrics", "FILE", "What a model is told in place of our own words (JSON).")] = "",
    mode: Annotated[str, _option("--mode", "fixed|upstream", "upstream: with the published program's slips.")] = "fixed",
    missing: Annotated[str, _option("--missing", "error|worst", "What a picture without an answer is.")] = "error",
    count: Annotated[int, _option("--count", "N", "Pictures a prompt, where there are fewer than published.")] = 0,
    limit: Limit = 0,
    write: Annotated[str, _option("--write-prompts", "FILE", "Write the prompts: .txt, or .jsonl with ids and files.")] = "",
    rewrite: Annotated[str, _option("--rewrite", "URL", "With --write-prompts: a server whose --model rewrites them.")] = "",
    label: Annotated[str, _option("--label", "WORDS", "With table: what your row is called.")] = "yours",
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="Also write the scores (JSON).")] = "",
    device: Device = "",
    json: Json = False,
) -> None:
    """Score pictures on a text-to-image benchmark, whoever made and judged them."""
    _on(device)
    from diptych.commands import benchmark as verb

    if not name:
        verb.ls(json)
    elif name == "table":
        verb.peers(tuple(results or ()), label, json)
    else:
        given = (tuple(prompts or ()), images, answers, judge, model, clip, rubrics, mode, missing, count, limit)
        asked = verb.Asked(name, *given)
        verb.write_prompts(asked, write, rewrite) if write else verb.score(asked, out, json)


@app.command()
def report(
    run: Annotated[str, _argument("RUN", "A run's folder, or its name in runs/.", _runs)],
    json: Json = False,
) -> None:
    """Print the verdicts of a run and render its page again."""
    from diptych.commands import compare as verb

    verb.report(run, json)


@app.command()
def ls(
    what: Annotated[str, _argument("recipes|samplers|metrics|formats|runs", "One list; all if left out.", _groups)] = "",
    json: Json = False,
) -> None:
    """List recipes, samplers, metrics, number formats and runs."""
    from diptych.commands import listing

    listing.ls(what, json)


@app.command()
def env(json: Json = False) -> None:
    """Show versions, devices and where weights are."""
    from diptych.commands import env as verb

    verb.env(json)


@data_app.command("ls")
def data_ls(json: Json = False) -> None:
    """List the data sets: what is embedded, what can be drawn, what is public."""
    from diptych.commands import data

    data.ls(json)


@data_app.command("emoji", epilog="Example: diptych data emoji noto fluent-flat --size 64")
def data_emoji(
    styles: Annotated[list[str], _argument("STYLE", "Art styles (diptych data ls).")],
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="Pixels a side, 16 to 256.")] = 64,
    out: Out = "",
    cache: Annotated[str, typer.Option(metavar="FOLDER", help="Where downloaded packages are kept.")] = ".cache/emoji",
    json: Json = False,
) -> None:
    """Draw emoji of any of ten art styles into a folder, from their npm packages."""
    from diptych.commands import data

    data.emoji(styles, out, cache, size, json)


def _on(device: str) -> None:
    if device:
        os.environ["DIPTYCH_DEVICE"] = device


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    debug = "--debug" in sys.argv[1:]
    try:
        app(args=[word for word in sys.argv[1:] if word != "--debug"], prog_name="diptych")
    except Exception as error:
        if debug:
            raise
        from diptych.commands.failure import explain

        code, line = explain(error)
        print(f"diptych: {line}", file=sys.stderr)
        sys.exit(code)
    except SystemExit as stop:
        if stop.code == 130:
            print("diptych: stopped; the same command goes on from there", file=sys.stderr)
        raise
    sys.exit(0)
