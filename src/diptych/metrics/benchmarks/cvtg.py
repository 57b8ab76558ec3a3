"""CVTG-2K (Du et al. 2025, TextCrafter, arXiv 2503.23461): are all the words there that a prompt quotes for several places?

2,000 prompts with 2 to 5 texts each, in two sets, one picture each. An answer holds what the reader read, line by line, and the
other scores where they were measured: {"lines": ["OPEN", "DAILY 9-5"], "clip": 0.81, "vqa": 0.9, "aesthetic": 5.2}.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.metrics.benchmarks.t2i import Answer, Benchmark, Cells, Malformed, Mode, Prompt, Score
from diptych.metrics.ocr import edit_distance

SETS = ("CVTG", "CVTG-Style")
REGIONS = (2, 3, 4, 5)
EXTRAS = ("clip", "vqa", "aesthetic")
_PLAIN = re.compile(r"'(.*?)'")
_QUOTED = re.compile(r"(?<!\w)'(.+?)'(?!\w)")
_NAME = re.compile(r"(?i)(?:^|.*[/\\])cvtg(?P<style>[-_]style)?[-_/\\](?P<regions>[2-5])\.json$")


@dataclass(frozen=True)
class Place:
    """Which file a prompt is of, and its index there."""

    part: str
    regions: int
    index: int


def read(paths: Sequence[Path]) -> tuple[Prompt, ...]:
    """The published files CVTG/2.json ... CVTG-Style/5.json (or cvtg_2.json ...), or the folder that holds them.

    Raises:
        ValueError: a file that is none of the eight, or a row without prompt.
    """
    files = [one for path in paths for one in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    found: dict[tuple[str, int], Path] = {}
    for path in files:
        name = _NAME.match(path.as_posix())
        if name is None:
            if path in paths:
                raise ValueError(f"{path}: is no file of CVTG-2K; they are called CVTG/2.json ... CVTG-Style/5.json")
            continue
        found[SETS[bool(name["style"])], int(name["regions"])] = path
    prompts: list[Prompt] = []
    for part in SETS:
        for regions in REGIONS:
            if (part, regions) in found:
                prompts += _prompts(found[part, regions], part, regions, len(prompts))
    if not prompts:
        raise ValueError("cvtg: --prompts takes the published files CVTG/2.json ..., or their folder; none was found")
    return tuple(prompts)


def _prompts(path: Path, part: str, regions: int, start: int) -> list[Prompt]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["data_list"]
        found = [(int(row["index"]), str(row["prompt"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no file of CVTG-2K ({error!r})") from None
    return [
        Prompt(f"{part}_{regions}_{index}", text, f"{part} {regions}", start + n, Place(part, regions, index))
        for n, (index, text) in enumerate(found)
    ]


def file(prompt: Prompt, number: int) -> str:
    """CVTG/2/0.png"""
    return f"{prompt.detail.part}/{prompt.detail.regions}/{prompt.detail.index}.png"


def words(text: str, mode: Mode) -> list[str]:
    """The quoted words of a prompt, in lower case.

    Upstream: whatever stands between two apostrophes, so that one inside a word ("Don't") breaks the rest. Fixed: a quotation
    starts where no letter stands before it and ends where none stands behind it. All published prompts read the same.
    """
    return [word for quoted in (_PLAIN if mode == "upstream" else _QUOTED).findall(text) for word in quoted.lower().split()]


def closeness(a: str, b: str) -> float:
    """1 less the edit distance over the longer length."""
    return 1 - edit_distance(a, b) / (max(len(a), len(b)) + 1e-5)


def row(prompt: Prompt, number: int, answer: Answer, mode: Mode) -> Cells:
    """Words found, closeness to the most similar word found, and the other scores there are.

    A word counts as found if it is among the words read, however often it is asked for. Upstream a reading that failed
    ({"lines": null}) finds nothing and is not told from a picture without words.
    """
    asked = words(prompt.text, mode)
    lines = answer.get("lines")
    if lines is None and mode == "upstream" and "lines" in answer:
        hits, near = 0, 0.0
    elif not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise Malformed('no list of "lines" read')
    else:
        seen = [word for line in lines for word in line.lower().split()] or [""]
        hits = sum(word in seen for word in asked)
        near = sum(closeness(word, difflib.get_close_matches(word, seen, n=1, cutoff=0)[0]) for word in asked)
    cells = {f"{prompt.group}:words": (float(hits), float(len(asked))), f"{prompt.group}:near": (near, float(len(asked)))}
    for name in EXTRAS:
        if name in answer:
            value = answer[name]
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise Malformed(f'"{name}" is no number')
            cells[f"{prompt.group}:{name}"] = (float(value), 1.0)
    return cells


def worst(prompt: Prompt, number: int) -> Cells:
    count = float(len(words(prompt.text, "fixed")))
    return {f"{prompt.group}:{name}": (0.0, count) for name in ("words", "near")}


def clip_score(cosine: float) -> float:
    """CLIPScore of a cosine of picture and "A photo depicts ..." (Hessel et al. 2021)."""
    return 2.5 * max(cosine, 0.0)


def scores(prompts: Sequence[Prompt]) -> tuple[Score, ...]:
    """Words found over words asked for, over all groups; closeness; the other scores; each group's words."""
    groups = tuple(dict.fromkeys(prompt.group for prompt in prompts))
    parts = {name: tuple(f"{group}:{name}" for group in groups) for name in ("words", "near", *EXTRAS)}
    tops = {"clip": 2.5, "vqa": 1.0, "aesthetic": 10.0}
    return (
        Score("overall", parts["words"]),
        Score("ned", parts["near"]),
        *(Score(name, parts[name], top=tops[name]) for name in EXTRAS),
        *(Score(group, (f"{group}:words",)) for group in groups),
    )


CVTG = Benchmark(
    name="cvtg",
    label="CVTG-2K",
    about="Share of the quoted words that a text reader finds in the picture, in [0, 1].",
    judge="PaddleOCR, English, with its angle classifier",
    images=1,
    read=read,
    file=file,
    row=row,
    worst=worst,
    scores=scores,
    extras=EXTRAS,
)
