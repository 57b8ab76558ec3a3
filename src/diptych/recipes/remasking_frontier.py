"""Decoders at matched cost: each against the frontier of threshold decoding, interpolated anew in every resample of prompts.

The frontier at a cost is the best accuracy that threshold decoding reaches for as much or less, linear between its settings
(what tossing a coin between two of them gives). Cost is evaluations, or processed tokens; the verdicts may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diptych.compare import stats
from diptych.compare.stats import Interval
from diptych.recipes.remasking_arms import Cell
from diptych.recipes.remasking_field import Field, adjusted, interval_of, verdict, weights

Cost = Literal["evaluations", "tokens", "pairs"]
COSTS: tuple[Cost, ...] = ("evaluations", "tokens")


@dataclass(frozen=True)
class Matched:
    """A decoder at a cell beside threshold decoding at the same cost.

    Args:
        score: its quality, higher better: accuracy, or for prose the bound on its likelihood.
        found: score less the frontier's at the same cost, by cost.
        verdicts: by cost, after Holm over all that are asked of a checkpoint at once.
        needed: prompts that would decide, by cost; None where none would, or it is decided.
    """

    arm: str
    cell: Cell
    score: float
    cost: dict[str, float]
    found: dict[str, Interval]
    verdicts: dict[str, str]
    needed: dict[str, int | None]

    @property
    def overall(self) -> str:
        return combined(self.verdicts["evaluations"], self.verdicts["tokens"])


def combined(evaluations: str, tokens: str) -> str:
    """Both verdicts in one: "dominated" where threshold decoding is at least as good in both units and better in one;
    "unit-dependent" where the decoder is better in one unit alone; else the verdict they share, or "undecided"."""
    both = {evaluations, tokens}
    if both <= {"worse", "equivalent", "identical"} and "worse" in both:
        return "dominated"
    if "better" in both and both != {"better"}:
        return "unit-dependent"
    return both.pop() if len(both) == 1 else ("equivalent" if both == {"equivalent", "identical"} else "undecided")


def frontier(cost: np.ndarray, quality: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The best quality that settings reach for at most a cost, linear between them.

    Args:
        cost, quality: of K settings in R resamples, (R, K).
        at: the cost asked for, (R,). Below the cheapest setting it is the cheapest one's quality.
    """
    order = np.argsort(cost, 1, kind="stable")
    x, y = np.take_along_axis(cost, order, 1), np.maximum.accumulate(np.take_along_axis(quality, order, 1), 1)
    right = np.clip((x <= at[:, None]).sum(1), 1, x.shape[1] - 1)
    row = np.arange(len(x))
    x0, x1, y0, y1 = x[row, right - 1], x[row, right], y[row, right - 1], y[row, right]
    share = np.clip((at - x0) / np.where(x1 > x0, x1 - x0, 1.0), 0.0, 1.0)
    return y0 + share * (y1 - y0)


def against(field: Field, arm: str, settings: Sequence[str], cell: Cell, cost: Cost) -> Interval:
    """Quality of a decoder less the frontier of some settings at its cost; whole prompts are resampled, costs with them."""
    count = len(field.values(arm, "score", cell))
    weight = weights(count)
    total = weight.sum(1, keepdims=True)

    def means(name: str, arms: Sequence[str]) -> np.ndarray:
        table = np.stack([field.values(one, name, cell)[:count].mean(1) for one in arms], 1)
        return weight @ table / total

    ours = means("score", [arm])[:, 0]
    best = frontier(means(cost, settings), means("score", settings), means(cost, [arm])[:, 0])
    difference = ours - best
    return interval_of(np.where(np.abs(difference) < 1e-12, 0.0, difference), count)


def matched(
    field: Field, arms: Sequence[str], settings: Sequence[str], cells: Sequence[Cell], margin: Callable[[Cell], float]
) -> list[Matched]:
    """Every decoder at every cell it was run on; Holm over those of one checkpoint, each unit of cost a family."""
    families: dict[str, list[tuple[str, Cell]]] = {}
    for cell in cells:
        families.setdefault(cell.checkpoint, []).extend((arm, cell) for arm in arms if field.has(arm, cell))
    return [one for asked in families.values() if asked for one in _family(field, asked, settings, margin)]


def _family(
    field: Field, asked: Sequence[tuple[str, Cell]], settings: Sequence[str], margin: Callable[[Cell], float]
) -> list[Matched]:
    found = {cost: [against(field, arm, settings, cell, cost) for arm, cell in asked] for cost in COSTS}
    chances = {cost: adjusted(found[cost]) for cost in COSTS}
    out = []
    for i, (arm, cell) in enumerate(asked):
        verdicts = {cost: verdict(found[cost][i], margin(cell), chances[cost][i]) for cost in COSTS}
        out.append(
            Matched(
                arm,
                cell,
                field.mean(arm, "score", cell),
                {cost: field.mean(arm, cost, cell) for cost in COSTS},
                {cost: found[cost][i] for cost in COSTS},
                verdicts,
                {
                    cost: stats.needed(found[cost][i], margin(cell), len(asked)) if verdicts[cost] == "undecided" else None
                    for cost in COSTS
                },
            )
        )
    return out


@dataclass(frozen=True)
class Choice:
    """A threshold chosen on development prompts, and what it gives on test prompts.

    Args:
        chosen: the cheapest setting whose development score is within the margin of the best.
        oracle: the same choice made on the test prompts.
    """

    family: str
    cell: Cell
    chosen: str
    score: float
    evaluations: float
    oracle: str
    oracle_score: float


def choose(field: Field, settings: Sequence[str], cell: Cell, margin: float, dev: bool) -> str:
    """The cheapest setting within the margin of the best."""
    quality = {arm: field.mean(arm, "score", cell, dev) for arm in settings}
    enough = [arm for arm in settings if quality[arm] >= max(quality.values()) - margin]
    return min(enough, key=lambda arm: field.mean(arm, "evaluations", cell, dev))


def choices(
    field: Field, families: dict[str, Sequence[str]], cells: Sequence[Cell], margin: Callable[[Cell], float]
) -> list[Choice]:
    """The choice of each family at each cell that has development prompts."""
    out = []
    for cell in cells:
        for family, settings in families.items():
            held = [arm for arm in settings if field.has(arm, cell, dev=True)]
            if held:
                chosen, oracle = (choose(field, held, cell, margin(cell), dev) for dev in (True, False))
                out.append(
                    Choice(
                        family,
                        cell,
                        chosen,
                        field.mean(chosen, "score", cell),
                        field.mean(chosen, "evaluations", cell),
                        oracle,
                        field.mean(oracle, "score", cell),
                    )
                )
    return out
