"""DPG-Bench (Hu et al. 2024, ELLA, arXiv 2403.05135): yes-or-no questions about every proposition of a dense prompt.

1,065 prompts, four pictures each in one two-by-two grid. A question counts only where those it depends on hold. An answer, of
one quarter of the grid: {"answers": {"1": "yes", "2": "no", ...}}, by the number of the question.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych.metrics.benchmarks.t2i import Answer, Benchmark, Cells, Malformed, Mode, Prompt, Score
from diptych.metrics.benchmarks.t2i_files import quarter, read_picture

PICTURES = 4
COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")


@dataclass(frozen=True)
class Question:
    """One proposition of a prompt.

    Args:
        number: its id within the prompt. parents: ids it depends on.
        words: as it is asked. kind: "attribute - color", the part of its tuple before the parenthesis.
    """

    number: int
    parents: tuple[int, ...]
    words: str
    kind: str


@dataclass(frozen=True)
class Asked:
    """The questions of a prompt; `upstream` are those the published program reads, which skips the first row of the file."""

    questions: tuple[Question, ...]
    upstream: tuple[Question, ...]


def read(paths: Sequence[Path]) -> tuple[Prompt, ...]:
    """The published dpg_bench.csv (the questions), and dpg_bench.json or a folder of prompts/*.txt beside it for the order.

    Without the second, prompts come in the order of the questions.

    Raises:
        ValueError: no file of questions, or one without the published columns.
    """
    tables = [path for path in paths if path.suffix == ".csv"]
    lists = [path for path in paths if path.suffix == ".json"]
    if len(tables) != 1 or len(lists) > 1 or len(paths) > 2:
        raise ValueError("dpg: --prompts takes dpg_bench.csv (the questions), and dpg_bench.json beside it for the order")
    texts, questions, first = _questions(tables[0])
    if lists:
        texts = _ordered(lists[0], questions)
    prompts = []
    for place, (item, text) in enumerate(texts.items()):
        mine = tuple(questions[item])
        prompts.append(Prompt(item, text, "", place, Asked(mine, mine[1:] if item == first else mine)))
    return tuple(prompts)


def _questions(path: Path) -> tuple[dict[str, str], dict[str, list[Question]], str]:
    """Texts and questions by item, and the item of the first row."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the benchmark's dpg_bench.csv")
    texts: dict[str, str] = {}
    questions: dict[str, list[Question]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle)
        absent = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if absent:
            raise ValueError(f"{path}: has no column {absent[0]!r}; give the benchmark's dpg_bench.csv")
        for row in rows:
            try:
                parents = tuple(int(one) for one in row["dependency"].split(",") if int(one) != 0)
                kind = row["tuple"].split("(")[0].strip()
                one = Question(int(row["proposition_id"]), parents, row["question_natural_language"].strip(), kind)
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{path}, line {rows.line_num}: is no question ({error})") from None
            texts.setdefault(row["item_id"], row["text"])
            questions.setdefault(row["item_id"], []).append(one)
    for item, held in questions.items():
        numbers = {one.number for one in held}
        lost = [one for one in held if not set(one.parents) <= numbers]
        if lost or len(numbers) < len(held):
            raise ValueError(f"{path}: item {item!r} has questions that occur twice, or depend on one that is not there")
    if not texts:
        raise ValueError(f"{path}: holds no questions")
    return texts, questions, next(iter(texts))


def _ordered(path: Path, questions: dict[str, list[Question]]) -> dict[str, str]:
    try:
        texts = {str(item): str(text) for item, text in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no list of [id, prompt] ({error}); give the benchmark's dpg_bench.json") from None
    lost = [item for item in texts if item not in questions]
    if lost:
        raise ValueError(
            f"{path}: {len(lost)} prompts have no questions, the first {lost[0]!r}; give both files of one version"
        )
    return texts


def file(prompt: Prompt, number: int) -> str:
    """item.png#0 ... item.png#3, the quarters of the grid row by row."""
    return f"{prompt.item}.png#{number}"


def load(folder: Path, prompt: Prompt, number: int) -> bytes | None:
    """A quarter of the grid, or where there is no grid the single picture 00000/samples/00000.png."""
    grid = read_picture(folder, f"{prompt.item}.png")
    if grid is not None:
        return quarter(grid, number)
    return read_picture(folder, f"{prompt.place:05d}/samples/{number:05d}.png")


def stitched(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Four pictures (H, W, 3) as the grid that the published program reads, (2 H, 2 W, 3)."""
    if len(pictures) != PICTURES or len({picture.shape for picture in pictures}) != 1:
        raise ValueError(f"dpg: a grid is made of 4 pictures of one size; got {[picture.shape for picture in pictures]}")
    a, b, c, d = pictures
    return np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)


def judged(questions: Sequence[Question], answers: dict[int, float]) -> dict[int, float]:
    """Answers (1 = yes) with every question set to zero that depends on one which is zero by then, in the order of the file."""
    scores = dict(answers)
    for one in questions:
        if any(scores[parent] == 0 for parent in one.parents):
            scores[one.number] = 0.0
    return scores


def row(prompt: Prompt, number: int, answer: Answer, mode: Mode) -> Cells:
    """The mean over the questions, and sums by category.

    The published program takes categories from the plain answers of the last quarter alone; here (fixed) they come from all
    quarters, with dependencies, as the score does. It also fails on a prompt whose first question it has skipped and another
    depends on.
    """
    asked: Asked = prompt.detail
    questions = asked.upstream if mode == "upstream" else asked.questions
    given = answer.get("answers")
    if not isinstance(given, dict):
        raise Malformed('no "answers" by number of question')
    plain: dict[int, float] = {}
    for one in questions:
        said = given.get(str(one.number))
        if not isinstance(said, str) or (mode == "fixed" and not said.strip()):
            raise Malformed(f"question {one.number} is not answered")
        plain[one.number] = float(said == "yes") if mode == "upstream" else float(said.strip().rstrip(".").lower() == "yes")
    lost = [parent for one in questions for parent in one.parents if parent not in plain]
    if lost or not questions:
        raise Malformed(f"question {lost[0] if lost else 1} was skipped and others depend on it")
    final = judged(questions, plain)
    cells = {"prompts": (sum(final.values()) / len(final), 1.0)}
    if mode == "fixed" or number == PICTURES - 1:
        _add(cells, questions, plain if mode == "upstream" else final)
    return cells


def worst(prompt: Prompt, number: int) -> Cells:
    cells = {"prompts": (0.0, 1.0)}
    _add(cells, prompt.detail.questions, dict.fromkeys((one.number for one in prompt.detail.questions), 0.0))
    return cells


def _add(cells: dict[str, tuple[float, float]], questions: Sequence[Question], scores: dict[int, float]) -> None:
    for one in questions:
        above, below = cells.get(one.kind, (0.0, 0.0))
        cells[one.kind] = (above + scores[one.number], below + 1.0)


def broad(kind: str) -> str:
    """ "attribute - color" is an "attribute"."""
    return kind.split("-")[0].strip()


def scores(prompts: Sequence[Prompt]) -> tuple[Score, ...]:
    """100 times the mean over prompts; broad categories; detailed ones."""
    kinds = sorted({one.kind for prompt in prompts for one in prompt.detail.questions})
    wide = {word: tuple(kind for kind in kinds if broad(kind) == word) for word in dict.fromkeys(map(broad, kinds))}
    return (
        Score("overall", ("prompts",), scale=100.0, top=100.0),
        *(Score(word, parts, scale=100.0, top=100.0) for word, parts in wide.items()),
        *(Score(kind, (kind,), scale=100.0, top=100.0) for kind in kinds if kind not in wide),
    )


DPG = Benchmark(
    name="dpg",
    label="DPG-Bench",
    about="Share of a dense prompt's propositions that a VQA model confirms, dependencies respected; in percent.",
    judge="mPLUG-large VQA (ModelScope)",
    images=PICTURES,
    read=read,
    file=file,
    row=row,
    worst=worst,
    scores=scores,
    whole=True,
    load=load,
)
