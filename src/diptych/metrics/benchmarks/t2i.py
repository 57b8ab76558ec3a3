"""What the text-to-image benchmarks share: prompts, pictures on disk, stored answers, and the sums that scores are made of.

A benchmark is a value. What a judge (a detector, a VQA or vision-language model, a text reader) said of a picture is an
answer, a JSON object; `row` turns one answer into a few sums and counts by its published rule, and a score is a quotient of
them over all pictures. So scoring never needs the judge again, and every score is a `Metric` whose resamples go through the
quotient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.metrics.base import OfSums
from diptych.metrics.benchmarks.t2i_files import read_picture
from diptych.study import Unit

Mode = Literal["fixed", "upstream"]
Missing = Literal["error", "worst"]
Answer = Mapping[str, Any]
Cells = Mapping[str, tuple[float, float]]
"""What one picture adds to a score's numerators and denominators, by the name of the cell."""


class Malformed(ValueError):
    """An answer that its benchmark cannot read."""


@dataclass(frozen=True)
class Prompt:
    """One prompt as its benchmark publishes it; pictures are judged by it, whatever was rewritten for the model.

    Args:
        item: unique id; units of a study are (item, number of the picture).
        text: the words.
        group: tag, track, category or set.
        place: row in the published order.
        detail: what the benchmark's own rule needs.
    """

    item: str
    text: str
    group: str
    place: int
    detail: Any = None


@dataclass(frozen=True)
class Score:
    """One reported number.

    Args:
        name: "overall" is the benchmark's own; the others are its parts.
        parts: cells it is made of.
        how: "pooled", all sums over all counts; "mean", the mean of the parts' own quotients.
        scale: what it is reported times.
        top: the largest value there is.
    """

    name: str
    parts: tuple[str, ...]
    how: Literal["pooled", "mean"] = "pooled"
    scale: float = 1.0
    top: float = 1.0

    def reduce(self, cells: Sequence[str]) -> OfSums:
        """The reducer of rows whose columns are (sum, count) of `cells`; parts that a resample lacks are left out of a mean."""
        where = tuple(cells.index(part) for part in self.parts)
        prepare = partial(_pooled if self.how == "pooled" else _apart, where)
        return OfSums(self.name, 2 * len(cells), prepare, partial(_quotients, self.scale))


def _pooled(where: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    return np.stack([sum(rows[:, 2 * i + side] for i in where) for side in (0, 1)], axis=1)


def _apart(where: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    return np.stack([rows[:, 2 * i + side] for i in where for side in (0, 1)], axis=1)


def _quotients(scale: float, sums: np.ndarray) -> np.ndarray:
    above, below = sums[:, 0::2], sums[:, 1::2]
    held = below > 0
    with np.errstate(invalid="ignore"):
        return scale * (np.where(held, above, 0.0) / np.where(held, below, 1.0)).sum(axis=1) / held.sum(axis=1)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as a value.

    Args:
        name: short id. label: its name. about: what it measures, in one sentence.
        judge: what judged the published numbers.
        images: pictures a prompt.
        read: prompts out of its published files.
        file: official name of a picture, `file(prompt, number)`; "#k" behind it is the k-th quarter of a grid.
        row: `row(prompt, number, answer, mode)`, by the published rule (`upstream`: with the published program's slips).
        worst: `worst(prompt, number)`, what a picture without a usable answer counts as, where it is counted.
        scores: of some prompts, the benchmark's own first.
        extras: fields of an answer that all answers hold, or none.
        whole: whether the published program drops all pictures of a prompt when one of them fails.
        load: `load(folder, prompt, number)`, the bytes of a picture; None = the file `file` names.
    """

    name: str
    label: str
    about: str
    judge: str
    images: int
    read: Callable[[Sequence[Path]], tuple[Prompt, ...]]
    file: Callable[[Prompt, int], str]
    row: Callable[[Prompt, int, Answer, Mode], Cells]
    worst: Callable[[Prompt, int], Cells]
    scores: Callable[[Sequence[Prompt]], tuple[Score, ...]]
    whole: bool = False
    extras: tuple[str, ...] = ()
    load: Callable[[Path, Prompt, int], bytes | None] | None = None

    def picture(self, folder: Path, prompt: Prompt, number: int) -> bytes | None:
        """The bytes of a picture file, or None where it is missing."""
        return (self.load or self._load)(folder, prompt, number)

    def _load(self, folder: Path, prompt: Prompt, number: int) -> bytes | None:
        return read_picture(folder, self.file(prompt, number))

    def cells(self, prompts: Sequence[Prompt]) -> tuple[str, ...]:
        """Names of the cells that these prompts fill, without those of `extras`."""
        return tuple(dict.fromkeys(cell for prompt in prompts for cell in self.worst(prompt, 0)))

    def units(self, prompts: Sequence[Prompt], images: int = 0) -> tuple[tuple[Prompt, int], ...]:
        """Every (prompt, number of picture); `images` a prompt, the published number if 0."""
        return tuple((prompt, number) for prompt in prompts for number in range(images or self.images))


@dataclass(frozen=True)
class Table:
    """What the pictures of a benchmark add to its scores.

    Args:
        units: (item, number of the picture).
        cells: names of the cells; rows (N, 2 * cells) hold sum and count of each.
        missing, malformed: names of the pictures without an answer, and with one that cannot be read.
        dropped: those left out, as the published program leaves them out.
    """

    units: tuple[Unit, ...]
    cells: tuple[str, ...]
    rows: np.ndarray
    missing: tuple[str, ...] = field(default=())
    malformed: tuple[str, ...] = field(default=())
    dropped: int = 0


@dataclass(frozen=True)
class Task:
    """One picture to be judged.

    Args:
        prompt: what it should show. number: which of the prompt's pictures.
        load: reads the bytes of its file; called only where they are needed.
    """

    prompt: Prompt
    number: int
    load: Callable[[], bytes]


Judge = Callable[[Iterable[Task]], Iterator[tuple[Task, Answer]]]
"""Answers to tasks, in any order, each as soon as it is there."""


def reported(benchmark: Benchmark, prompts: Sequence[Prompt], cells: Sequence[str]) -> tuple[Score, ...]:
    """The scores that these cells allow, the benchmark's own first; parts that no picture fills are left out."""
    held = set(cells)
    kept = (replace(score, parts=tuple(one for one in score.parts if one in held)) for score in benchmark.scores(prompts))
    return tuple(score for score in kept if score.parts)


def table(
    benchmark: Benchmark,
    prompts: Sequence[Prompt],
    answers: Mapping[str, Answer],
    mode: Mode = "fixed",
    missing: Missing = "error",
    images: int = 0,
) -> Table:
    """Score stored answers picture by picture.

    Args:
        answers: official name of a picture -> what a judge said of it.
        mode: "fixed": nothing is left out; "upstream": as the published program, which leaves out what failed.
        missing: in fixed mode, whether an answer that is missing or malformed is an error or the worst there is.
        images: pictures a prompt; the published number if 0.

    Raises:
        ValueError: answers missing or malformed under "error"; nothing to score; pictures that no prompt has.
    """
    known = {benchmark.file(prompt, number): (prompt, number) for prompt, number in benchmark.units(prompts, images)}
    strange = [name for name in answers if name not in known]
    if strange and mode == "fixed":
        raise ValueError(
            f"{benchmark.name}: {len(strange)} answers belong to no picture of these prompts, the first to {strange[0]!r}; "
            "give the prompts they were made with"
        )
    for extra in benchmark.extras:
        holding = sum(extra in answer for answer in answers.values())
        if mode == "fixed" and 0 < holding < len(answers):
            raise ValueError(
                f'{benchmark.name}: {holding} of {len(answers)} answers hold "{extra}"; give it to all, or to none'
            )
    found: dict[str, Cells] = {}
    absent: list[str] = []
    odd: list[tuple[str, str]] = []
    for name, (prompt, number) in known.items():
        if name not in answers:
            absent.append(name)
            continue
        try:
            found[name] = benchmark.row(prompt, number, answers[name], mode)
        except Malformed as error:
            odd.append((name, str(error)))
    bad = [*absent, *(name for name, _ in odd)]
    dropped = 0
    if mode == "upstream":
        lost = {known[name][0].item for name in bad} if benchmark.whole else set()
        found = {name: cells for name, cells in found.items() if known[name][0].item not in lost}
        dropped = len(known) - len(found)
    elif bad and missing == "error":
        first = odd[0] if odd and not absent else (absent[0], "no answer")
        raise ValueError(
            f"{benchmark.name}: {len(bad)} of {len(known)} pictures have no usable answer ({len(absent)} missing, {len(odd)} "
            f"malformed), the first is {first[0]} ({first[1]}); judge them, or count each as the worst (--missing worst)"
        )
    else:
        found |= {name: benchmark.worst(*known[name]) for name in bad}
    if not found:
        raise ValueError(f"{benchmark.name}: no picture has an answer; are these the prompts the pictures were made with?")
    names = [name for name in known if name in found]
    cells = tuple(dict.fromkeys(cell for name in names for cell in found[name]))
    rows = np.array([[value for cell in cells for value in found[name].get(cell, (0.0, 0.0))] for name in names])
    units = tuple(Unit(known[name][0].item, known[name][1]) for name in names)
    return Table(units, cells, rows, tuple(absent), tuple(name for name, _ in odd), dropped)
