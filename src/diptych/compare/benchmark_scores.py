"""A benchmark's scores with intervals over its prompts, their average as a paper takes it, and the published rows beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from diptych.compare import panels, stats
from diptych.compare.stats import Interval
from diptych.metrics.benchmarks.peers import FIVE, PEERS, PERCENT, average
from diptych.metrics.benchmarks.t2i import Benchmark, Prompt, Score, Table, reported
from diptych.study import Panel


@dataclass(frozen=True)
class Scored:
    """A score and how sure it is.

    Args:
        interval: over prompts, resampled whole with all their pictures.
        pictures, prompts: it rests on.
    """

    score: Score
    interval: Interval
    pictures: int
    prompts: int


def scored(benchmark: Benchmark, prompts: Sequence[Prompt], table: Table, resamples: int = 10_000) -> list[Scored]:
    """Every score of a table; each over the pictures that have a part in it."""
    found = []
    for score in reported(benchmark, prompts, table.cells):
        where = [2 * table.cells.index(part) + 1 for part in score.parts]
        mine = np.flatnonzero((table.rows[:, where] > 0).any(axis=1))
        names = [table.units[i].item for i in mine]
        draws = stats.draw(names, resamples)
        places = {name: n for n, name in enumerate(draws.names)}
        index = np.array([places[name] for name in names])
        made = stats.replicate(score.reduce(table.cells), table.rows[mine], index, draws)
        found.append(Scored(score, stats.interval(made), len(mine), len(draws.names)))
    return found


def overall_average(intervals: Mapping[str, Interval]) -> Interval:
    """The paper's average over five benchmarks in percent; their prompts are independent, so their errors add in squares.

    Args:
        intervals: of the overall scores, by benchmark, in their own units.

    Raises:
        ValueError: one of the five is missing.
    """
    value = average({name: held.value for name, held in intervals.items()})
    errors = [None if (se := intervals[name].se) is None else PERCENT[name] * se for name in FIVE]
    clusters = min(intervals[name].clusters for name in FIVE)
    known = [error for error in errors if error is not None]
    if len(known) < len(FIVE):
        return Interval(value, None, None, None, None, "none", clusters)
    se = math.hypot(*known) / len(FIVE)
    reach = 1.959963984540054 * se
    return Interval(value, value - reach, value + reach, se, None, "normal", clusters)


def beside_peers(name: str, scores: Mapping[str, float]) -> list[dict[str, object]]:
    """The published table with a row of one's own in it, the best average first, then the rows without one.

    Args:
        name: of one's own model.
        scores: its overall scores by benchmark, in their own units; any of the five may be missing.

    Returns:
        Rows {"model", "parameters", one key a benchmark, "average", "quoted", "own"}; None where there is no number.
    """
    whole = all(benchmark in scores for benchmark in FIVE)
    own = {benchmark: scores.get(benchmark) for benchmark in FIVE}
    rows: list[dict[str, object]] = [
        {"model": name, "parameters": "", **own, "average": average(scores) if whole else None, "quoted": [], "own": True}
    ]
    for peer in PEERS:
        numbers = dict(zip(FIVE, peer.scores, strict=True))
        rows.append(
            {
                "model": peer.name,
                "parameters": peer.parameters,
                **numbers,
                "average": peer.average,
                "quoted": list(peer.quoted),
                "own": False,
            }
        )
    return sorted(rows, key=lambda row: (not row["own"] and row["average"] is None, -float(str(row["average"] or 0))))


def peers_panel(name: str, scores: Mapping[str, float], about: str = "") -> Panel:
    """A section of a report: the published table with a row of one's own.

    Args:
        name, scores: as `beside_peers` takes them.
        about: what a reader must know to compare, the judge above all.
    """
    rows = []
    for row in beside_peers(name, scores):
        numbers = [_shown(row[one]) + ("*" if one in cast(list[str], row["quoted"]) else "") for one in FIVE]
        average_shown = "" if row["average"] is None else f"{row['average']:.1f}"
        rows.append([row["model"], row["parameters"], *numbers, average_shown])
    said = f"{about} * quoted by the paper (arXiv 2606.11289) from elsewhere. The average is in percent.".strip()
    return Panel("peers", "Beside published models", panels.table(["model", "parameters", *FIVE, "average"], rows, said))


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.4g}"
