"""GenEval (Ghosh et al. 2023, arXiv 2310.11513): are the objects there, as many, as coloured and where the prompt says?

553 prompts of six tags, four pictures each; a detector finds the objects. An answer:
{"objects": [{"class": "bench", "box": [x0, y0, x1, y1], "score": 0.97, "color": "red"}, ...]}, the colour where asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diptych.metrics.benchmarks.t2i import Answer, Benchmark, Cells, Malformed, Mode, Prompt, Score
from diptych.metrics.benchmarks.t2i_files import json_lines, one_path

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Rules:
    """The detector's thresholds.

    Args:
        score: boxes must be above it; `counting`: for prompts that count.
        most: boxes a class.
        overlap: a box is dropped where its IoU with a better one of its class reaches it; 1 = never.
        slack: share of both sizes that an offset must exceed.
    """

    score: float = 0.3
    counting: float = 0.9
    most: int = 16
    overlap: float = 1.0
    slack: float = 0.1


@dataclass(frozen=True)
class Clause:
    """Something the picture must (or must not) hold.

    Args:
        kind: class of object. count: how many.
        colour: of all of them; empty: any.
        relation, other: that they stand in to those of the clause number `other`.
    """

    kind: str
    count: int
    colour: str = ""
    relation: str = ""
    other: int = 0


@dataclass(frozen=True)
class Asked:
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(clause.kind for clause in (*self.include, *self.exclude)))

    @property
    def coloured(self) -> tuple[str, ...]:
        """Classes whose colour must be told."""
        return tuple(dict.fromkeys(clause.kind for clause in self.include if clause.colour))


@dataclass(frozen=True)
class Found:
    """A detected object."""

    box: Box
    score: float
    colour: str = ""


def parse(rows: Sequence[Mapping[str, Any]], where: str = "geneval", tags: Sequence[str] = TAGS) -> tuple[Prompt, ...]:
    """Prompts out of published rows: {"tag", "include": [{"class", "count", "color"?, "position"?}], "exclude"?, "prompt"}.

    Raises:
        ValueError: a row that is none.
    """
    prompts = []
    for place, row in enumerate(rows):
        try:
            asked = Asked(tuple(map(_clause, row["include"])), tuple(map(_clause, row.get("exclude", ()))))
            prompts.append(Prompt(f"{place:05d}", str(row["prompt"]), row["tag"], place, asked))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{where}, row {place + 1}: is no GenEval prompt ({error!r})") from None
        if row["tag"] not in tags:
            raise ValueError(f"{where}, row {place + 1}: tag {row['tag']!r} is none of {', '.join(tags)}")
        odd = [one for n, one in enumerate(asked.include) if one.relation and (one.relation not in RELATIONS or one.other >= n)]
        if odd or not asked.include:
            raise ValueError(f"{where}, row {place + 1}: clause {odd[0] if odd else '(none)'} cannot be checked")
    if not prompts:
        raise ValueError(f"{where}: holds no prompts")
    return tuple(prompts)


def _clause(row: Mapping[str, Any]) -> Clause:
    relation, other = row.get("position", ("", 0))
    return Clause(str(row["class"]), int(row["count"]), str(row.get("color", "")), str(relation), int(other))


def read(paths: Sequence[Path]) -> tuple[Prompt, ...]:
    """The published evaluation_metadata.jsonl."""
    path = one_path(paths, "geneval", "its evaluation_metadata.jsonl")
    return parse(json_lines(path), str(path))


def file(prompt: Prompt, number: int) -> str:
    """00000/samples/00000.png"""
    return f"{prompt.place:05d}/samples/{number:05d}.png"


def iou(a: Box, b: Box) -> float:
    """Intersection over union of boxes in pixels, both ends counted (widths are one larger than differences)."""
    together = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    either = _area(a) + _area(b) - together
    return together / either if either else 0.0


def _area(box: Box) -> float:
    return max(box[2] - box[0] + 1, 0.0) * max(box[3] - box[1] + 1, 0.0)


def relations(a: Box, b: Box, slack: float = 0.1) -> set[str]:
    """Where `a` lies as seen from `b`: none, one or two of `RELATIONS`.

    The offset of the centres, less `slack` of both sizes along each axis, over the whole offset's length, must pass one half.
    """
    raw = [(a[axis] + a[axis + 2] - b[axis] - b[axis + 2]) / 2 for axis in (0, 1)]
    sizes = [abs(a[axis + 2] - a[axis]) + abs(b[axis + 2] - b[axis]) for axis in (0, 1)]
    kept = [math.copysign(max(abs(o) - slack * size, 0.0), o) for o, size in zip(raw, sizes, strict=True)]
    if all(abs(value) < 1e-3 for value in kept):
        return set()
    dx, dy = (value / math.hypot(*raw) for value in kept)
    holds = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, true in holds.items() if true}


def kept(objects: Sequence[Found], threshold: float, rules: Rules) -> list[Found]:
    """The objects of one class that count, the surest first."""
    above = sorted((one for one in objects if one.score > threshold), key=lambda one: -one.score)[: rules.most]
    found: list[Found] = []
    for one in above:
        if rules.overlap >= 1.0 or all(iou(one.box, other.box) < rules.overlap for other in found):
            found.append(one)
    return found


def correct(asked: Asked, objects: Mapping[str, Sequence[Found]], rules: Rules = Rules()) -> tuple[bool, str]:
    """Whether a picture with these objects (sorted, those that count) shows what was asked, and what it lacks.

    Raises:
        Malformed: a colour that is needed and was not told.
    """
    matched: list[Sequence[Found]] = []
    lacks = ""
    for clause in asked.include:
        these = list(objects.get(clause.kind, ()))[: clause.count]
        fails = ""
        if len(these) < clause.count:
            fails = f"{len(these)} of {clause.count} {clause.kind}"
        elif clause.colour:
            if any(not one.colour for one in these):
                raise Malformed(f'no "color" of a {clause.kind}')
            right = sum(one.colour == clause.colour for one in these)
            fails = "" if right >= clause.count else f"{right} of {clause.count} {clause.kind} are {clause.colour}"
        if clause.relation and not fails:
            others = matched[clause.other]
            near = all(clause.relation in relations(one.box, other.box, rules.slack) for one in these for other in others)
            fails = "" if near and others else f"{clause.kind} is not {clause.relation}"
        matched.append(() if fails else these)
        lacks = lacks or fails
    for clause in asked.exclude:
        count = len(objects.get(clause.kind, ()))
        if count >= clause.count:
            lacks = lacks or f"{count} {clause.kind}"
    return not lacks, lacks


def objects_of(answer: Answer, tag: str, rules: Rules = Rules()) -> dict[str, list[Found]]:
    """The objects of an answer that count for a tag, by class.

    Raises:
        Malformed: an answer without objects, or an object without class, box and score.
    """
    rows = answer.get("objects")
    if not isinstance(rows, list):
        raise Malformed('no list of "objects"')
    found: dict[str, list[Found]] = {}
    for row in rows:
        try:
            box, score = tuple(float(value) for value in row["box"]), float(row["score"])
            kind, colour = str(row["class"]), str(row.get("color", ""))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Malformed(f"an object without class, box and score: {str(row)[:60]}") from None
        if len(box) != 4 or not all(map(math.isfinite, (*box, score))) or (colour and colour not in COLOURS):
            raise Malformed(f"an object with an odd box, score or color: {str(row)[:60]}")
        found.setdefault(kind, []).append(Found(box, score, colour))
    threshold = rules.counting if tag == "counting" else rules.score
    return {kind: some for kind, held in found.items() if (some := kept(held, threshold, rules))}


def row(rules: Rules, prompt: Prompt, number: int, answer: Answer, mode: Mode) -> Cells:
    """1 where everything holds; the rule is the same in both modes."""
    right, _ = correct(prompt.detail, objects_of(answer, prompt.group, rules), rules)
    return {prompt.group: (float(right), 1.0)}


def worst(prompt: Prompt, number: int) -> Cells:
    return {prompt.group: (0.0, 1.0)}


def scores(prompts: Sequence[Prompt]) -> tuple[Score, ...]:
    """The mean of the tags' means, and each tag's."""
    tags = tuple(tag for tag in TAGS if any(prompt.group == tag for prompt in prompts))
    return (Score("overall", tags, "mean"), *(Score(tag, (tag,)) for tag in tags))


GENEVAL = Benchmark(
    name="geneval",
    label="GenEval",
    about="How often objects, counts, colours and positions are as asked, by a detector; the mean of six tags, in [0, 1].",
    judge="Mask2Former Swin-S (COCO, mmdet 2) with CLIP ViT-L/14 for colours",
    images=4,
    read=read,
    file=file,
    row=partial(row, Rules()),
    worst=worst,
    scores=scores,
)
