"""Remasking: does a decoder that takes words back do better, at what cost, and what does it do to diversity?

Decoders of masked language models meet the same cells (checkpoint, block length, temperature), prompts and noise. Quality is
exact (a checker; for prose the model's own likelihood), diversity has a truth (all right answers are known), cost is counted in
evaluations and in processed tokens. What is said of a decoder is said of one checkpoint, and asked again of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.config import suggest
from diptych.metrics.text import accuracy, by_item, coverage, likelihood
from diptych.recipes.remasking_arms import Cell, Decoded, divisors, known, parsed, prompt_of, right_answers
from diptych.recipes.remasking_decoders import BASELINE, Row, rows
from diptych.recipes.remasking_train import REPLICAS
from diptych.study import Arm, Comparison, Metric, Samples

ASSETS = Path(__file__).parent.parent / "assets" / "remasking"
MARGINS = {"accuracy": 0.01, "coverage": 0.02, "nll": 0.02}
"""What does not matter. One point of accuracy parts what the published study calls little (0.4) from a gain (1.3).

Set before any judged prompt was decoded.
"""
BLOCKS = {
    "latin6": (6, 12, 36),
    "sudoku9": (9, 27, 81),
    "sudoku4": (4, 8, 16),
    "sum_chain": (4, 8, 32),
    "countdown": (3, 9, 18),
    "text": (12, 32, 96),
}
"""The shown block lengths: short (about the share of the answer that the published study's standard has), middle, all of it."""


@dataclass(frozen=True)
class Remasking:
    """Options of the comparison.

    Args:
        tasks: names, with commas between them; each needs a model.
        blocks: "three" (those shown: short, middle, the whole answer), "ends" of these, or "all" (every divisor above 1).
        temperatures: of the token draw.
        prompts: a greedy cell, of the test split.
        drawn: prompts a cell with a temperature; 0 = as many.
        standard: prompts of the published study's standard cell, greedy in short blocks, under the swept decoders; 0 = as many.
        share: task -> share of these numbers of prompts that it is judged on, where that is less than all.
        prose: the most prompts a cell of texts that are neither right nor wrong; their answers are long.
        dev: prompts a shown cell of the development split, where thresholds are chosen; 0 = none.
        few: prompts of the leave-one-out oracle, which costs an evaluation a token.
        seeds: samples a prompt.
        replicas: training seeds of the models, as far as a task has them. The others than the first are judged on shown cells.
        extra: a decoder of your own, as file.py:name, judged beside the field.
        batch: units a call.
        weights: folder with TASK/REPLICA; empty = the shipped ones.

    Raises:
        ValueError: an unknown task, or values out of range.
    """

    tasks: str = "latin6,sudoku4"
    blocks: Literal["ends", "three", "all"] = "three"
    temperatures: tuple[float, ...] = (0.0, 0.8)
    prompts: int = 64
    drawn: int = 0
    standard: int = 0
    share: Mapping[str, float] = field(default_factory=dict)
    prose: int = 12
    dev: int = 24
    few: int = 16
    seeds: tuple[int, ...] = (0, 1, 2)
    replicas: tuple[int, ...] = (0,)
    extra: str = ""
    batch: int = 256
    weights: str = ""

    def __post_init__(self) -> None:
        for name in ("temperatures", "seeds", "replicas"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in self.named():
            if name not in BLOCKS:
                raise ValueError(f"tasks: {name!r} is not judged here{suggest(name, BLOCKS)}")
        if min(self.prompts, self.prose, self.batch) < 1 or min(self.drawn, self.standard, self.dev, self.few) < 0:
            named = ("prompts", "drawn", "standard", "prose", "dev", "few", "batch")
            raise ValueError(f"{', '.join(f'{name} {getattr(self, name)}' for name in named)}: out of range")
        if not self.temperatures or min(self.temperatures) < 0:
            raise ValueError(f"temperatures: {self.temperatures} must be some, none below 0")
        for name, share in self.share.items():
            if name not in BLOCKS or not 0 < share <= 1:
                raise ValueError(f"share: {name!r} {share} must be a task and at most 1, above 0{suggest(name, BLOCKS)}")
        if not self.replicas:
            raise ValueError("replicas: there are none; 0 is the first training seed")

    def named(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(dict.fromkeys(name.strip() for name in self.tasks.split(",")))

    def judged(self) -> tuple[str, ...]:
        """Names of the tasks whose answers are right or wrong."""
        return tuple(name for name in self.named() if known(name).judge is not None)

    def seeds_of(self, task: str) -> tuple[int, ...]:
        """Training seeds of a task's models."""
        return tuple(replica for replica in self.replicas if replica < REPLICAS[task]) or self.replicas[:1]

    def shown(self, task: str) -> tuple[int, ...]:
        """The block lengths that every decoder and every checkpoint is judged at."""
        return BLOCKS[task][:: 2 if self.blocks == "ends" else 1]

    def lengths(self, task: str) -> tuple[int, ...]:
        """All block lengths of a task, rising; prose, whose answers are long, is judged at those shown."""
        return divisors(known(task)) if self.blocks == "all" and task in self.judged() else self.shown(task)

    @property
    def cold(self) -> float:
        """The lowest temperature, greedy as a rule."""
        return min(self.temperatures)

    @property
    def warm(self) -> float:
        """The temperature nearest to 0.8 that the published study reports; 0 where there is none above 0."""
        return min((t for t in self.temperatures if t > 0), key=lambda t: abs(t - 0.8), default=0.0)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell: all block lengths and temperatures of each task's first checkpoint, the shown ones of the others."""
        found = []
        for task in self.named():
            first, *others = self.seeds_of(task)
            mine = [Cell(task, b, t, first) for b in self.lengths(task) for t in self.temperatures]
            found += [*mine, *(cell._replace(replica=other) for other in others for cell in mine if self.is_shown(cell))]
        return tuple(found)

    def is_shown(self, cell: Cell) -> bool:
        """Whether every decoder is judged at this block length and temperature."""
        return cell.block in self.shown(cell.task) and cell.temperature in (self.cold, self.warm)

    def is_first(self, cell: Cell) -> bool:
        """Whether it is a cell of its task's first checkpoint."""
        return cell.replica == self.seeds_of(cell.task)[0]

    def tests(self, cell: Cell, swept: bool = True) -> tuple[str, ...]:
        """The judged items of a cell; those of decoders that are not swept are the first of them."""
        count = (self.drawn or self.prompts) if cell.temperature > 0 else self.prompts
        if swept and cell.temperature == self.cold and cell.block == self.shown(cell.task)[0]:
            count = max(count, self.standard)
        return tuple(cell.item(i) for i in range(self._asked(cell.task, count)))

    def devs(self, cell: Cell) -> tuple[str, ...]:
        """The development items of a cell: of the first checkpoint's shown cells alone."""
        count = self._asked(cell.task, self.dev) if self.is_shown(cell) and self.is_first(cell) else 0
        return tuple(cell.item(i, dev=True) for i in range(count))

    def _asked(self, task: str, count: int) -> int:
        """How many of a number of prompts a task is judged on."""
        most = count if task in self.judged() else min(count, self.prose)
        return math.ceil(self.share.get(task, 1.0) * most)

    def items_of(self, row: Row) -> tuple[str, ...]:
        """The items a decoder is judged on."""
        found: list[str] = []
        for cell in self.cells():
            shown = self.is_shown(cell)
            if not (self.is_first(cell) or row.repeated) or (known(cell.task).judge is None and not row.prose):
                continue
            if row.where == "swept":
                found += [*self.tests(cell), *self.devs(cell)]
            elif row.where == "few":
                found += self.tests(cell, False)[: self._asked(cell.task, self.few)] if shown and cell.temperature == 0 else ()
            elif shown or (row.where == "all" and cell.temperature == 0):
                found += self.tests(cell, False) if row.where == "all" or cell.block == self.shown(cell.task)[-1] else ()
        return tuple(found)

    def models(self) -> tuple[tuple[str, Path], ...]:
        """(checkpoint, folder of its model) pairs.

        Raises:
            ValueError: a model that is missing.
        """
        found = []
        for task, replica in [(name, replica) for name in self.named() for replica in self.seeds_of(name)]:
            folder = (Path(self.weights) if self.weights else ASSETS) / task / str(replica)
            if not folder.is_dir():
                raise ValueError(
                    f"weights: {task}/{replica} is missing under {folder.parent.parent}; "
                    f"`diptych train remasking --stage {task}-{replica}` makes it"
                )
            found.append((f"{task}-{replica}", folder))
        return tuple(found)


CONFIGS = {
    "tiny": Remasking(tasks="sudoku4", blocks="ends", prompts=8, dev=4, few=4, seeds=(0, 1)),
    "core": Remasking(),
    "full": Remasking(
        tasks="latin6,sudoku9,sum_chain,sudoku4,countdown",
        blocks="all",
        temperatures=(0.0, 0.5, 0.8, 1.0, 1.5),
        prompts=96,
        drawn=24,
        standard=256,
        share={"sudoku9": 0.5, "sudoku4": 0.5, "countdown": 0.5},
        few=24,
        replicas=(0, 1, 2),
    ),
}


@dataclass(frozen=True)
class CountSolutions:
    """Item -> number of its right answers, `most` where there are more."""

    most: int = 4096

    def __call__(self, item: str) -> int:
        found = right_answers(parsed(item)[0].task, tuple(prompt_of(item).tolist()), self.most)
        return self.most if found is None else len(found)


def study(config: Remasking) -> Comparison:
    """Every decoder on every cell, held against threshold 0.9 on the same prompts and noise."""
    cells = config.cells()
    items = tuple(item for cell in cells for item in (*config.tests(cell), *config.devs(cell)))
    width = max(known(task).answer_length for task in config.named())
    arms = []
    for row in rows(config.extra):
        declared = config.items_of(row)
        if declared:
            rule = Decoded(config.models(), row.decoder, width, row.steps, row.probe)
            arms.append(Arm(row.name, rule, row.label, row.about, config.batch, declared))
    made = metrics(config)
    return Comparison(
        name="remasking",
        title="Does taking words back help?",
        question="Held against threshold decoding at the same cost: is remasking better, equivalent or worse, and where?",
        items=items,
        seeds=config.seeds,
        arms=tuple(arms),
        metrics=made,
        baseline=BASELINE,
        primary=made[0].name,
        clusters={item: f"{c.task}/{'dev' if dev else ''}{i}" for item in items for c, i, dev in (parsed(item),)},
        panels=panels(config),
    )


def metrics(config: Remasking) -> tuple[Metric, ...]:
    """What the general part of the report judges, on the first checkpoints; the recipe's own sections hold every cell.

    Quality in short greedy blocks (the primary one is the first task's: the published study's standard setting) and with a
    temperature where one block is the answer; there also coverage of the right answers.
    """
    shown = [cell for cell in config.cells() if config.is_shown(cell) and config.is_first(cell)]
    made, more = [], []
    for task in config.named():
        ends = config.shown(task)[0], config.shown(task)[-1]
        mine = [
            c for c in shown if c.task == task and (c.block, c.temperature) in ((ends[0], config.cold), (ends[1], config.warm))
        ]
        for cell in mine:
            kind, of = ("accuracy", accuracy) if task in config.judged() else ("nll", likelihood)
            made.append(
                of(name=f"{kind} {cell.name}", items=config.tests(cell), margin=MARGINS[kind], label=f"{kind}, {told(cell)}")
            )
        drawn = tuple(item for cell in mine if cell.temperature > 0 for item in config.tests(cell))
        if drawn and len(config.seeds) > 1 and task in config.judged():
            name = known(task).label
            more.append(coverage(CountSolutions(), drawn, MARGINS["coverage"], f"coverage {task}", f"coverage, {name}"))
    every = tuple(item for cell in shown for item in config.tests(cell, False))
    return (*made, *more, *(cost(name, label, about, every) for name, (label, about) in COUNTED.items()))


COUNTED = {
    "evaluations": ("evaluations", "Network evaluations a sample, over the shown cells of the first checkpoints."),
    "tokens": ("tokens", "Tokens processed a sample, shadow slots included."),
    "pairs": ("attended pairs", "Attended pairs a sample, shadow slots included."),
    "seconds": ("seconds", "Wall time of a sample, its share of a batch; compare within one run only."),
}


@dataclass(frozen=True)
class PerItem:
    """Rows of a cost: mean over the seeds of an item, (items, 1)."""

    name: str

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        return np.array([[samples.trace[self.name][rows].mean()] for rows in by_item(samples)])


def cost(name: str, label: str, about: str, items: tuple[str, ...]) -> Metric:
    """A cost, reported without a direction: the frontiers weigh it against quality."""
    return Metric(name, PerItem(name), better="none", level="item", label=label, about=about, items=items)


def margin(cell: Cell) -> float:
    """What does not matter of the quality at a cell."""
    return MARGINS["nll" if known(cell.task).judge is None else "accuracy"]


def quality(task: str) -> str:
    """What answers of a task are judged by, in words."""
    return "log-likelihood" if known(task).judge is None else "accuracy"


def told(cell: Cell) -> str:
    """A cell in words."""
    model = f", model {cell.replica}" if cell.replica else ""
    return f"{known(cell.task).label}, block {cell.block}, T {cell.temperature:g}{model}"


def panels(config: Remasking) -> Callable[[Path], Any]:
    """The sections of this recipe."""
    from diptych.recipes.remasking_panels import Sections

    return Sections(config)


def _only(task: str) -> Callable[[Remasking], Comparison]:
    def build(config: Remasking) -> Comparison:
        made = study(replace(config, tasks=task))
        return replace(made, name=f"remasking-{task}", title=f"{made.title} {known(task).label}")

    return build


STUDIES = {name: _only(name) for name in BLOCKS}
