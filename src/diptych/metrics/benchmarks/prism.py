"""PRISM-Bench (Fang et al. 2025, arXiv 2509.09680): a vision-language model marks alignment and looks from 0 to 10.

Seven tracks of 100 prompts, one picture each, two marks a picture. An answer holds the judge's replies as they came, or marks:
{"alignment": "{\\"justification\\": ..., \\"score\\": 7}", "aesthetic": 8}.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.metrics.benchmarks.t2i import Answer, Benchmark, Cells, Malformed, Mode, Prompt, Score
from diptych.metrics.benchmarks.t2i_files import json_lines

TRACKS = ("affection", "composition", "entity", "imagination", "long_text", "style", "text_rendering")
"""In the order of the flat index 0..699."""
PASSES = ("alignment", "aesthetic")
TOP = 10.0
_SCORE = re.compile(r"[\"'\u201c\u201d]?\s*score\s*[\"'\u201c\u201d]?\s*:\s*[\"']?(-?\d+(?:\.\d+)?)", re.IGNORECASE)


def read(paths: Sequence[Path]) -> tuple[Prompt, ...]:
    """The published files {track}.jsonl, or the folder that holds them; a prefix such as "prism_" does not matter.

    Raises:
        ValueError: a file that is none of the tracks, or a row without prompt.
    """
    files = [one for path in paths for one in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    tracks: dict[str, Path] = {}
    for path in files:
        track = next((name for name in TRACKS if path.stem == name or path.stem.endswith(f"_{name}")), None)
        if track is None:
            if path in paths:
                raise ValueError(f"{path}: is no track of PRISM-Bench; there are {', '.join(TRACKS)}")
            continue
        tracks[track] = path
    prompts = []
    for track in TRACKS:
        for number, row in enumerate(json_lines(tracks[track]) if track in tracks else ()):
            if not isinstance(row.get("prompt"), str):
                raise ValueError(f'{tracks[track]}, row {number + 1}: has no "prompt"')
            prompts.append(Prompt(f"{track}/{number}", row["prompt"], track, len(prompts), number))
    if not prompts:
        raise ValueError("prism: --prompts takes the seven track files, or the folder that holds them; none was found")
    return tuple(prompts)


def file(prompt: Prompt, number: int) -> str:
    """affection/0.png"""
    return f"{prompt.group}/{prompt.detail}.png"


def mark(reply: Any, mode: Mode) -> float:
    """The mark in a judge's reply, or a mark that is a number already.

    Upstream: a fence around JSON is stripped, commas before a closing bracket are dropped, and what json cannot read demjson3
    tries; any number counts. Fixed: what is no JSON at all still gives its last "score: N"; only 0 to 10 counts.

    Raises:
        Malformed: no mark.
        ValueError: upstream mode without demjson3.
    """
    if isinstance(reply, str):
        reply = _parsed_upstream(reply) if mode == "upstream" else _parsed(reply)
        reply = reply.get("score") if isinstance(reply, dict) else None
    upstream_takes = mode == "upstream" and isinstance(reply, bool)  # a bool is an int there
    if not isinstance(reply, int | float) or (isinstance(reply, bool) and not upstream_takes):
        raise Malformed("no mark")
    if mode == "fixed" and not (math.isfinite(reply) and 0 <= reply <= TOP):
        raise Malformed(f"mark {reply} is not in 0..10")
    return float(reply)


def _stripped(reply: str) -> str:
    reply = reply.strip().removeprefix("```json").removesuffix("```").strip()
    return re.sub(r",\s*(?=[}\]])", "", reply)


def _parsed_upstream(reply: str) -> Any:
    try:
        return json.loads(_stripped(reply))
    except ValueError:
        try:
            import demjson3
        except ImportError:
            raise ValueError('prism: upstream mode reads replies with demjson3; pip install "diptych[judges]"') from None
        try:
            return demjson3.decode(_stripped(reply))
        except demjson3.JSONDecodeError:
            return None


def _parsed(reply: str) -> Any:
    start, end = reply.find("{"), reply.rfind("}")
    try:
        found = json.loads(_stripped(reply[start : end + 1]), strict=False)
        score = found["score"]
        return {"score": float(score) if isinstance(score, str) else score}
    except (ValueError, KeyError, TypeError):
        said = _SCORE.findall(reply)
        return {"score": float(said[-1])} if said else None


def row(prompt: Prompt, number: int, answer: Answer, mode: Mode) -> Cells:
    """Both marks; upstream, whichever of them can be read."""
    cells = {}
    for name in PASSES:
        try:
            cells[f"{prompt.group}:{name}"] = (mark(answer.get(name), mode), 1.0)
        except Malformed as error:
            if mode == "fixed":
                raise Malformed(f"{name}: {error}") from None
    if not cells:
        raise Malformed("no mark of either pass")
    return cells


def worst(prompt: Prompt, number: int) -> Cells:
    return {f"{prompt.group}:{name}": (0.0, 1.0) for name in PASSES}


def scores(prompts: Sequence[Prompt]) -> tuple[Score, ...]:
    """10 times the mean of all marks; of each pass; of each track."""
    tracks = tuple(track for track in TRACKS if any(prompt.group == track for prompt in prompts))
    passes = {name: tuple(f"{track}:{name}" for track in tracks) for name in PASSES}
    return (
        Score("overall", (*passes["alignment"], *passes["aesthetic"]), scale=10.0, top=100.0),
        *(Score(name, parts, scale=10.0, top=100.0) for name, parts in passes.items()),
        *(Score(track, tuple(f"{track}:{name}" for name in PASSES), scale=10.0, top=100.0) for track in tracks),
    )


PRISM = Benchmark(
    name="prism",
    label="PRISM-Bench",
    about="Ten times the mean of a vision-language model's marks (0 to 10) for alignment and for looks.",
    judge="Qwen2.5-VL-72B-Instruct with the published rubrics",
    images=1,
    read=read,
    file=file,
    row=row,
    worst=worst,
    scores=scores,
)
