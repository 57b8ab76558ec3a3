"""`diptych compare --rows`: scores that any tool made, judged like our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.config import parse_seeds, suggest
from diptych.metrics.cost import trace
from diptych.study import Arm, Comparison, Samples, Unit

if TYPE_CHECKING:
    from diptych.compare.measure import Table


@dataclass(frozen=True)
class Scored:
    """Hands out the scores of one arm (one replica of it) as the trace of its samples.

    Args:
        metrics: names of the columns.
        units: what each row stands for.
        values: (units, metrics).
    """

    metrics: tuple[str, ...]
    units: tuple[Unit, ...]
    values: np.ndarray

    def __call__(self, units: Sequence[Unit]) -> Samples:
        where = {unit: i for i, unit in enumerate(self.units)}
        rows = self.values[[where[unit] for unit in units]]
        return Samples(tuple(units), {}, {name: rows[:, i] for i, name in enumerate(self.metrics)})


@dataclass(frozen=True)
class Judging:
    """How foreign scores are judged, committed on the command line.

    Args:
        baseline: arm the others are held against.
        primary: metric that carries the verdict; empty = the only one there is.
        margins: METRIC=VALUE, the largest difference that does not matter.
        lower: metrics of which lower is better.
        seeds: only these; empty = all.
        limit: first items only; 0 = all.
    """

    baseline: str
    primary: str = ""
    margins: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    seeds: str = ""
    limit: int = 0


def rows_comparison(paths: Sequence[Path], judging: Judging) -> Comparison:
    """A comparison whose arms hand out the scores of some files.

    Raises:
        ValueError: an unknown arm or metric, a malformed margin, or units that not every arm has under every metric.
    """
    from diptych.compare.tables import read_rows

    scores = read_rows(paths)
    metrics = tuple(dict.fromkeys(name for tables in scores.values() for name in tables))
    baseline = _one("--baseline", judging.baseline, list(scores))
    primary = _one("--primary", judging.primary, metrics)
    margins = _margins(judging.margins, metrics)
    for name in judging.lower:
        _one("--lower", name, metrics)
    units = scores[baseline][primary][0].units
    kept = set(parse_seeds(judging.seeds)) if judging.seeds else None
    seeds = tuple(dict.fromkeys(unit.seed for unit in units if kept is None or unit.seed in kept))
    items = tuple(dict.fromkeys(unit.item for unit in units))
    return Comparison(
        name="-".join(dict.fromkeys(path.stem for path in paths))[:60],
        items=items[: judging.limit or None],
        seeds=seeds,
        arms=tuple(arm for name, tables in scores.items() for arm in _arms(name, tables, metrics, units)),
        metrics=tuple(
            trace(
                name,
                better="lower" if name in judging.lower else "higher",
                margin=margins.get(name),
                about=f"{name}, as given.",
            )
            for name in metrics
        ),
        baseline=baseline,
        primary=primary,
        title=f"{primary}: {len(scores) - 1} arm{'s' * (len(scores) != 2)} against {baseline}",
        claim="recipe" if all(table.replica is not None for table in scores[baseline][primary]) else "checkpoint",
    )


def _arms(name: str, tables: Mapping[str, Sequence[Table]], metrics: Sequence[str], units: Sequence[Unit]) -> list[Arm]:
    replicas = list(dict.fromkeys(table.replica for held in tables.values() for table in held))
    arms = []
    for replica in replicas:
        columns = []
        for metric in metrics:
            table = next((table for table in tables.get(metric, ()) if table.replica == replica), None)
            given = dict(zip(table.units, table.rows[:, 0], strict=True)) if table else {}
            odd = sorted(set(given).symmetric_difference(units))
            if odd:
                which = "lacks" if odd[0] in set(units) else "has, and the baseline lacks,"
                raise ValueError(
                    f"rows: arm {name!r} {which} {metric} of unit {odd[0].key}"
                    f" ({len(odd)} such units); give every arm the same units under every metric"
                )
            columns.append([given[unit] for unit in units])
        produce = Scored(tuple(metrics), tuple(units), np.array(columns, dtype=np.float64).T)
        full = name if replica is None else f"{name} {replica}"
        arms.append(Arm(full, produce, name, batch=4096, replica=replica, group="" if replica is None else name, steady=False))
    return arms


def _one(option: str, name: str, names: Sequence[str]) -> str:
    if not name and len(names) == 1:
        return names[0]
    if name not in names:
        choices = f"; choose from {', '.join(names)}"
        raise ValueError(f"{option} {name}: unknown{suggest(name, names)}" if name else f"{option} is missing{choices}")
    return name


def _margins(given: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    margins = {}
    for text in given:
        name, _, value = text.partition("=")
        _one("--margin", name, metrics)
        try:
            margins[name] = float(value)
        except ValueError:
            raise ValueError(f"--margin {text}: write it as METRIC=NUMBER, such as acc=0.01") from None
    return margins
