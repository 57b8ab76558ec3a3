"""`diptych benchmark`: score pictures on a text-to-image benchmark, whoever made them and whatever judged them."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diptych.commands.terminal import grid, hint, show_grid, stdout
from diptych.files import read_json, write_json, write_lines
from diptych.load import suggest

if TYPE_CHECKING:
    from diptych.compare.benchmark_scores import Scored
    from diptych.metrics.benchmarks.t2i import Benchmark, Judge, Prompt, Table, Task

NAMES = {
    "geneval": ("geneval", "GENEVAL"),
    "dpg": ("dpg", "DPG"),
    "prism": ("prism", "PRISM"),
    "cvtg": ("cvtg", "CVTG"),
    "longtext": ("longtext", "LONGTEXT"),
    "micro_geneval": ("micro", "MICRO_GENEVAL"),
    "micro_geneval_novel": ("micro", "MICRO_GENEVAL_NOVEL"),
    "micro_longtext": ("micro", "MICRO_LONGTEXT"),
    "micro_longtext_novel": ("micro", "MICRO_LONGTEXT_NOVEL"),
}
"""Name -> file and constant in metrics/benchmarks."""
EVERY = 5.0  # seconds between lines of progress


@dataclass(frozen=True)
class Asked:
    """What was asked on the command line.

    Args:
        name: a key of `NAMES`. prompts: its published files. images: folder of pictures. answers: file of stored answers.
        judge: an address, a folder, "rapidocr"; empty: the micro benchmarks' own, or the stored answers.
        model: served name behind an address. clip: folder of the network that tells colours. rubrics: file of instructions.
        mode, missing: see `t2i.table`. count: pictures a prompt; 0 = the published number. limit: first prompts only; 0 = all.
    """

    name: str
    prompts: tuple[str, ...] = ()
    images: str = ""
    answers: str = ""
    judge: str = ""
    model: str = ""
    clip: str = ""
    rubrics: str = ""
    mode: str = "fixed"
    missing: str = "error"
    count: int = 0
    limit: int = 0


def load(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        ValueError: an unknown one.
    """
    if name not in NAMES:
        raise ValueError(f"benchmark {name}: unknown{suggest(name, NAMES)}")
    module, constant = NAMES[name]
    return getattr(importlib.import_module(f"diptych.metrics.benchmarks.{module}"), constant)


def ls(as_json: bool) -> None:
    """Print the benchmarks there are."""
    rows = [load(name) for name in NAMES]
    if as_json:
        print(
            json.dumps(
                [{"name": one.name, "images": one.images, "judge": one.judge, "about": one.about} for one in rows], indent=1
            )
        )
        return
    table = grid("name", ">pictures a prompt", "~judged by", "~about")
    for one in rows:
        table.add_row(one.name, str(one.images), one.judge, one.about)
    show_grid(stdout(), table)


def write_prompts(asked: Asked, out: str, rewrite: str) -> None:
    """Write a benchmark's prompts: one a line into a .txt, or JSON lines with ids and the names its pictures must have.

    Args:
        rewrite: address of a server whose model `asked.model` rewrites them; both wordings are written.
    """
    benchmark, prompts = _prompts(asked)
    texts = [prompt.text for prompt in prompts]
    rows: list[dict[str, Any]] = [{"item": one.item, "prompt": one.text} for one in prompts]
    if rewrite:
        from diptych.data.chat_client import AnswerFile, Server
        from diptych.data.rewrite import Rewriting
        from diptych.data.rewrite import rewrite as rewritten

        _needs(asked.model, "--model", "the served name of the model that rewrites")
        server = Server(rewrite, asked.model, temperature=0.6, top_p=0.95)
        made = rewritten(texts, Rewriting(server), AnswerFile(Path(f"{out}.kept.jsonl")))
        texts = [one.text for one in made]
        rows = [{**row, "prompt": one.text, "original": one.original} for row, one in zip(rows, made, strict=True)]
        kept = sum(bool(one.failed) for one in made)
        hint(f"{len(made) - kept} of {len(made)} prompts rewritten" + (f"; {kept} stay as they were" if kept else ""))
    path = Path(out)
    if path.suffix == ".txt":
        from diptych.files import write_bytes

        write_bytes(path, "".join(" ".join(text.split()) + "\n" for text in texts).encode())
    else:
        count = asked.count or benchmark.images
        files = [sorted({benchmark.file(one, k).partition("#")[0] for k in range(count)}) for one in prompts]
        write_lines(path, [{**row, "files": names} for row, names in zip(rows, files, strict=True)])
    print(path.as_posix())


def score(asked: Asked, out: str, as_json: bool) -> None:
    """Judge pictures where a judge is given, score the answers, print the scores with their intervals."""
    from diptych.compare.benchmark_scores import scored
    from diptych.metrics.benchmarks.t2i import table
    from diptych.metrics.benchmarks.t2i_files import answer_lines, read_answers

    mode, missing = (
        _choice("--mode", asked.mode, ("fixed", "upstream")),
        _choice("--missing", asked.missing, ("error", "worst")),
    )
    benchmark, prompts = _prompts(asked)
    judge, by = _judge(asked, benchmark)
    if judge is None:
        _needs(asked.answers, "--answers", "the file of stored answers, or --images and a --judge")
        answers = read_answers(Path(asked.answers))
        if asked.limit:
            names = {benchmark.file(one, k) for one, k in benchmark.units(prompts, asked.count)}
            answers = {name: answer for name, answer in answers.items() if name in names}
        by = f"answers of {Path(asked.answers).name}"
    else:
        tasks = _tasks(asked, benchmark, prompts, leave=mode == "upstream" or missing == "worst")
        made = dict(_progress(benchmark, judge, tasks))
        answers = {name: made[name] for name in sorted(made)}
        path = _answers_path(asked)
        write_lines(path, answer_lines(answers.items()))
        hint(f"answers are in {path}; score them again with --answers")
    found = table(benchmark, prompts, answers, mode, missing, asked.count)
    scores = scored(benchmark, prompts, found)
    result = _result(benchmark, scores, found, by, mode)
    if out:
        write_json(Path(out), result)
    if as_json:
        print(json.dumps(result, indent=1))
        return
    _show(benchmark, scores, found, by, mode)


def peers(files: Sequence[str], name: str, as_json: bool) -> None:
    """Print the paper's table with a row made of results that `score` wrote.

    Raises:
        ValueError: a file that is no such result, or two of one benchmark.
    """
    from diptych.compare.benchmark_scores import beside_peers, overall_average
    from diptych.compare.stats import Interval
    from diptych.metrics.benchmarks.peers import FIVE

    if not files:
        raise ValueError("benchmark table: give the files that --out wrote, one a benchmark")
    intervals: dict[str, Interval] = {}
    for file in files:
        row = read_json(Path(file))
        try:
            benchmark, overall = row["benchmark"], next(one for one in row["scores"] if one["name"] == "overall")
            low, high = overall["interval"] or (None, None)
            held = Interval(overall["value"], low, high, overall["se"], None, "", overall["prompts"])
        except (KeyError, TypeError, StopIteration) as error:
            raise ValueError(f"{file}: is no result of `diptych benchmark --out` ({error!r})") from None
        if benchmark not in FIVE or benchmark in intervals:
            why = "is of it twice" if benchmark in intervals else f"is none of {', '.join(FIVE)}"
            raise ValueError(f"{file}: {benchmark} {why}; the table takes one file a benchmark")
        intervals[benchmark] = held
    rows = beside_peers(name, {benchmark: held.value for benchmark, held in intervals.items()})
    mean = overall_average(intervals) if len(intervals) == len(FIVE) else None
    if as_json:
        print(json.dumps({"rows": rows, "average": mean and {"value": mean.value, "interval": mean.pair}}, indent=1))
        return
    table = grid("model", ">parameters", *(f">{one}" for one in FIVE), ">average %")
    for row in rows:
        table.add_row(str(row["model"]), str(row["parameters"]), *(_cell(row, one) for one in FIVE), _number(row["average"], 1))
    show_grid(stdout(), table)
    hint("* quoted by the paper from elsewhere")
    if mean is not None and mean.pair:
        hint(f"{name}: average {mean.value:.1f} [{mean.pair[0]:.1f}, {mean.pair[1]:.1f}]")


def _prompts(asked: Asked) -> tuple[Benchmark, tuple[Prompt, ...]]:
    benchmark = load(asked.name)
    if asked.count < 0 or asked.limit < 0:
        raise ValueError(f"--count {asked.count}, --limit {asked.limit}: must not be negative")
    if not asked.prompts and not asked.name.startswith("micro"):
        raise ValueError(f"benchmark {asked.name}: --prompts is missing; give the benchmark's published file or files")
    absent = next((path for path in asked.prompts if not Path(path).exists()), None)
    if absent is not None:
        raise ValueError(f"--prompts {absent}: does not exist; give the benchmark's published file or folder")
    prompts = benchmark.read([Path(path) for path in asked.prompts])
    return benchmark, prompts[: asked.limit or None]


def _judge(asked: Asked, benchmark: Benchmark) -> tuple[Judge | None, str]:
    """The judge, and what it is called; None where stored answers are to be scored."""
    family = benchmark.name.removesuffix("_novel")
    own = {"micro_geneval": "shapes", "micro_longtext": "rapidocr"}.get(family, "")
    choice = asked.judge or (own if asked.images else "")
    if not choice:
        return None, ""
    _needs(asked.images, "--images", "the folder of the pictures to be judged")
    from diptych.metrics.benchmarks import local_judges

    kept = Path(f"{_answers_path(asked)}.kept")
    reads: dict[str, Literal["text", "lines"]] = {"cvtg": "lines", "longtext": "text", "micro_longtext": "text"}
    if choice == "shapes" and family == "micro_geneval":
        return local_judges.Shapes(), benchmark.judge
    if choice == "rapidocr" and family in reads:
        reader = local_judges.Ocr(reads[family])
        seen: Judge = local_judges.Remembered(reader, f"rapidocr {reader}", kept)
        if family == "cvtg" and asked.clip:
            from diptych.models.clip import ClipFolder

            seen = local_judges.Clipped(seen, ClipFolder(Path(asked.clip)))
        return seen, "PP-OCRv4 (rapidocr)"
    if choice.startswith(("http://", "https://")) and family in ("dpg", "prism", "cvtg", "longtext"):
        return _served(asked, benchmark, choice, kept)
    if family == "geneval" and Path(choice).is_dir():
        from diptych.metrics.benchmarks.detector_judge import Detector, DetectorJudge
        from diptych.models.clip import ClipFolder
        from diptych.samplers.arm import default_device

        _needs(asked.clip, "--clip", "the folder of the CLIP model that tells colours")
        judge = DetectorJudge(Detector(Path(choice), default_device()), ClipFolder(Path(asked.clip)))
        return local_judges.Remembered(judge, judge.name, kept), f"{judge.detector.architecture} ({Path(choice).name})"
    served = "the address of a server (http://...)"
    takes = {"geneval": "a detector's folder", "dpg": served, "prism": served, "cvtg": f"rapidocr, or {served}"}
    fits = takes.get(family, own or f"rapidocr, or {served}")
    raise ValueError(f"--judge {choice}: does not judge {benchmark.name}; give {fits}")


def _served(asked: Asked, benchmark: Benchmark, url: str, kept: Path) -> tuple[Judge, str]:
    from diptych.data.chat_client import Server
    from diptych.metrics.benchmarks.chat_judge import ChatJudge
    from diptych.metrics.benchmarks.rubrics import Rubrics, read_rubrics

    _needs(asked.model, "--model", "the served name of the model that judges")
    rubrics = read_rubrics(Path(asked.rubrics)) if asked.rubrics else Rubrics()
    return ChatJudge(benchmark.name, Server(url, asked.model), kept, rubrics), f"{asked.model} (instructions: {rubrics.name})"


def _tasks(asked: Asked, benchmark: Benchmark, prompts: Sequence[Prompt], *, leave: bool) -> list[Task]:
    """One task a picture that is there.

    Raises:
        ValueError: pictures are missing, and none may be.
    """
    from functools import partial

    from diptych.metrics.benchmarks.t2i import Task

    folder = Path(asked.images)
    if not folder.is_dir():
        raise ValueError(f"--images {folder}: is no folder")
    units = benchmark.units(prompts, asked.count)
    held = [(prompt, number) for prompt, number in units if benchmark.picture(folder, prompt, number) is not None]
    if len(held) < len(units) and not (leave and held):
        lost = next(unit for unit in units if unit not in set(held))
        raise ValueError(
            f"{folder}: {len(units) - len(held)} of {len(units)} pictures are missing, the first is {benchmark.file(*lost)}; "
            "add them, give --count if there are fewer a prompt, or count each as the worst (--missing worst)"
        )
    return [Task(prompt, number, partial(_bytes, benchmark, folder, prompt, number)) for prompt, number in held]


def _bytes(benchmark: Benchmark, folder: Path, prompt: Prompt, number: int) -> bytes:
    data = benchmark.picture(folder, prompt, number)
    if data is None:
        raise ValueError(f"{folder / benchmark.file(prompt, number)}: was there, and is gone")
    return data


def _progress(benchmark: Benchmark, judge: Judge, tasks: Sequence[Task]) -> Iterator[tuple[str, Any]]:
    start = said = time.monotonic()
    for done, (task, answer) in enumerate(judge(iter(tasks)), 1):
        yield benchmark.file(task.prompt, task.number), answer
        now = time.monotonic()
        if now - said > EVERY:
            said = now
            hint(f"judged {done} of {len(tasks)}, {(now - start) / done * (len(tasks) - done):.0f} s left")


def _answers_path(asked: Asked) -> Path:
    return Path(asked.answers or Path(asked.images) / f"{asked.name}.answers.jsonl")


def _result(benchmark: Benchmark, scores: Sequence[Scored], table: Table, by: str, mode: str) -> dict[str, Any]:
    return {
        "benchmark": benchmark.name,
        "mode": mode,
        "judge": by,
        "published_judge": benchmark.judge,
        "pictures": len(table.units),
        "missing": len(table.missing),
        "malformed": len(table.malformed),
        "dropped": table.dropped,
        "scores": [
            {
                "name": one.score.name,
                "value": one.interval.value,
                "interval": one.interval.pair,
                "se": one.interval.se,
                "prompts": one.prompts,
                "pictures": one.pictures,
            }
            for one in scores
        ],
    }


def _show(benchmark: Benchmark, scores: Sequence[Scored], table: Table, by: str, mode: str) -> None:
    out = grid("score", ">value", ">95 % interval", ">prompts", ">pictures")
    for one in scores:
        digits = 2 if one.score.top > 10 else 4
        pair = one.interval.pair
        span = f"[{pair[0]:.{digits}f}, {pair[1]:.{digits}f}]" if pair else "one prompt"
        out.add_row(one.score.name, f"{one.interval.value:.{digits}f}", span, str(one.prompts), str(one.pictures))
    console = stdout()
    console.print(f"{benchmark.label}, {mode} mode, {by}")
    show_grid(console, out)
    if table.missing or table.malformed:
        fate = f"{table.dropped} pictures left out, as upstream does" if mode == "upstream" else "each counted as the worst"
        hint(f"{len(table.missing)} pictures without an answer, {len(table.malformed)} with one that cannot be read: {fate}")
    if not benchmark.name.startswith("micro"):
        hint(f"published numbers are judged by {benchmark.judge}; another judge's are not comparable with them")


def _cell(row: dict[str, Any], benchmark: str) -> str:
    digits = 1 if benchmark == "prism" else 2 if benchmark in ("dpg", "geneval") else 3 if benchmark == "longtext" else 4
    return _number(row[benchmark], digits) + ("*" if benchmark in row["quoted"] else "")


def _number(value: Any, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _needs(given: str, option: str, words: str) -> None:
    if not given:
        raise ValueError(f"{option} is missing: {words}")


def _choice(option: str, given: str, choices: tuple[str, str]) -> Any:
    if given not in choices:
        raise ValueError(f"{option} {given}: must be {' or '.join(choices)}")
    return given
