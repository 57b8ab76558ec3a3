"""LongText-Bench, English (Geng et al. 2025, X-Omni, arXiv 2507.22058): how many of the words asked for can be read?

160 prompts of eight categories, four pictures each. An answer is what was transcribed: {"text": "FRESH BREWS, EVERY ..."}.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from diptych.metrics.benchmarks.t2i import Answer, Benchmark, Cells, Malformed, Mode, Prompt, Score
from diptych.metrics.benchmarks.t2i_files import json_lines, one_path

LENGTHS = ("short", "long")
_ACCENTS = "\u00e0\u00e2\u00e4\u00e9\u00e8\u00ea\u00eb\u00ee\u00ef\u00f4\u00f6\u00f9\u00fb\u00fc\u00e7"
_DROPPED = re.compile(f"[^\u4e00-\u9fa5a-zA-Z0-9\\s{_ACCENTS}{_ACCENTS.upper()}]")
_SAID_NOTHING = re.compile(r"addCriterion|No text recognized\.?")


def read(paths: Sequence[Path]) -> tuple[Prompt, ...]:
    """The published text_prompts.jsonl: {"category", "length", "prompt", "text": [...], "text_length", "prompt_id"}.

    Raises:
        ValueError: a row that is none, or an id that occurs twice.
    """
    path = one_path(paths, "longtext", "its text_prompts.jsonl")
    return parse(json_lines(path), str(path))


def parse(rows: Sequence[dict], where: str = "longtext") -> tuple[Prompt, ...]:
    """Prompts out of published rows."""
    prompts = []
    for place, row in enumerate(rows):
        try:
            item, text, asked = str(int(row["prompt_id"])), str(row["prompt"]), tuple(str(one) for one in row["text"])
            group = f"{row['category']}/{row['length']}"
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{where}, row {place + 1}: is no LongText prompt ({error!r})") from None
        if not cleaned(" ".join(asked)):
            raise ValueError(f"{where}, row {place + 1}: asks for no words")
        prompts.append(Prompt(item, text, group, place, asked))
    if len({prompt.item for prompt in prompts}) < len(prompts) or not prompts:
        raise ValueError(f"{where}: holds no prompts, or a prompt_id twice")
    return tuple(prompts)


def file(prompt: Prompt, number: int) -> str:
    """0_0.png: the prompt's id, then the picture's number."""
    return f"{prompt.item}_{number}.png"


def cleaned(text: str) -> list[str]:
    """Words as they are compared: letters (French accents among them), digits and Chinese characters alone, in lower case."""
    return _DROPPED.sub("", text).lower().split()


def transcript(reply: str, mode: Mode) -> str:
    """A reader's reply without what it says when it finds nothing.

    Upstream goes through two such phrases but keeps only the last result, so that the first ("addCriterion") stays; the last
    is the phrase with a full stop, which the reader is not told to write. Fixed: both phrases go, with the stop or without.
    """
    return reply.replace("No text recognized.", "") if mode == "upstream" else _SAID_NOTHING.sub("", reply)


def row(prompt: Prompt, number: int, answer: Answer, mode: Mode) -> Cells:
    """Words in common, each as often as both hold it, over the words asked for; the order does not matter."""
    reply = answer.get("text")
    if not isinstance(reply, str):
        raise Malformed('no "text" transcribed')
    asked, seen = Counter(cleaned(" ".join(prompt.detail))), Counter(cleaned(transcript(reply, mode)))
    return {prompt.group: (float((asked & seen).total()), float(asked.total()))}


def worst(prompt: Prompt, number: int) -> Cells:
    return {prompt.group: (0.0, float(len(cleaned(" ".join(prompt.detail)))))}


def scores(prompts: Sequence[Prompt]) -> tuple[Score, ...]:
    """All words over all pictures; by category; by length."""
    groups = tuple(dict.fromkeys(prompt.group for prompt in prompts))
    kinds = [tuple(dict.fromkeys(group.split("/")[side] for group in groups)) for side in (0, 1)]
    by = [(word, tuple(one for one in groups if one.split("/")[side] == word)) for side in (0, 1) for word in kinds[side]]
    return (Score("overall", groups), *(Score(word, parts) for word, parts in by))


LONGTEXT = Benchmark(
    name="longtext",
    label="LongText-Bench",
    about="Share of the words asked for that a reader transcribes from the picture, in [0, 1].",
    judge="Qwen2.5-VL-7B-Instruct, asked to transcribe",
    images=4,
    read=read,
    file=file,
    row=row,
    worst=worst,
    scores=scores,
)
