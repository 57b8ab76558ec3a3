"""A benchmark's scores as metrics of a study: pictures go to a judge, its answers become rows, a score is their quotient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from diptych.data.chat_client import content_key
from diptych.metrics.benchmarks.t2i import Benchmark, Judge, Malformed, Prompt, Task, reported
from diptych.metrics.benchmarks.t2i_files import png_of
from diptych.metrics.fidelity import pictures
from diptych.study import Metric, Samples


@dataclass(frozen=True)
class Judged:
    """Rows of (sum, count) of every cell, (N, 2 * cells); units are (item of a prompt, number of its picture).

    Args:
        benchmark: whose rules count. prompts: what the pictures should show. judge: says what they show.
        picture: name of the picture array; empty: the first.
    """

    benchmark: Benchmark
    prompts: tuple[Prompt, ...]
    judge: Judge
    picture: str = ""

    @cached_property
    def cells(self) -> tuple[str, ...]:
        return self.benchmark.cells(self.prompts)

    @cached_property
    def _judged(self) -> dict[str, list[float]]:
        """Rows by unit and picture: the scores of a benchmark share one look at each picture."""
        return {}

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        asked = {prompt.item: prompt for prompt in self.prompts}
        held = pictures(samples, self.picture)
        where = {(unit.item, unit.seed): i for i, unit in enumerate(samples.units)}
        odd = next((unit for unit in samples.units if unit.item not in asked), None)
        if odd is not None:
            raise ValueError(f"{self.benchmark.name}: item {odd.item!r} is none of its prompts; declare the metric for those")
        rows = np.full((len(samples), 2 * len(self.cells)), np.nan)
        keys = [content_key(unit.key, png_of(held[i])) for i, unit in enumerate(samples.units)]
        new = [i for i, key in enumerate(keys) if key not in self._judged]
        tasks = (Task(asked[samples.units[i].item], samples.units[i].seed, partial(png_of, held[i])) for i in new)
        for task, answer in self.judge(tasks):
            try:
                made = self.benchmark.row(task.prompt, task.number, answer, "fixed")
            except Malformed as error:
                name = f"{task.prompt.item}#{task.number}"
                raise ValueError(f"{self.benchmark.name}: the judge's answer about {name} cannot be read ({error})") from None
            row = [x for cell in self.cells for x in made.get(cell, (0.0, 0.0))]
            self._judged[keys[where[task.prompt.item, task.number]]] = row
        for i, key in enumerate(keys):
            rows[i] = self._judged[key]
        return rows


def metrics(
    benchmark: Benchmark,
    prompts: Sequence[Prompt],
    judge: Judge,
    margins: dict[str, float] | None = None,
    picture: str = "",
) -> tuple[Metric, ...]:
    """The scores of a benchmark over some prompts, its own first; each is declared for the prompts it is about.

    Args:
        judge: a frozen value, so that rows are kept by its content.
        margins: by the name of a score ("overall", ...), the largest difference that does not matter.
        picture: name of the picture array; empty: the first.

    Raises:
        ValueError: a margin of no score.
    """
    chosen = tuple(prompts)
    rows = Judged(benchmark, chosen, judge, picture)
    found = reported(benchmark, chosen, rows.cells)
    odd = set(margins or {}) - {score.name for score in found}
    if odd:
        raise ValueError(f"{benchmark.name}: margin of {min(odd)!r}: there are {', '.join(score.name for score in found)}")
    fills = {prompt.item: frozenset(benchmark.worst(prompt, 0)) for prompt in chosen}
    return tuple(
        Metric(
            name=benchmark.name
            if score.name == "overall"
            else f"{benchmark.name}_{re.sub(r'[^a-z0-9]+', '_', score.name.lower())}",
            rows=rows,
            reduce=score.reduce(rows.cells),
            margin=(margins or {}).get(score.name),
            label=benchmark.label if score.name == "overall" else f"{benchmark.label}: {score.name.replace('_', ' ')}",
            about=benchmark.about if score.name == "overall" else f"{benchmark.label}, {score.name} alone.",
            items=tuple(item for item, cells in fills.items() if cells & set(score.parts)),
        )
        for score in found
    )
