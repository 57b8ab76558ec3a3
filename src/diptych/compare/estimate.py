"""From joined rows to estimates: what an arm's value is, how far it lies from the baseline's, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.compare import stats
from diptych.compare.stats import Draws, Interval, Replicates
from diptych.metrics import base
from diptych.study import Arm, Comparison, Metric, Unit

if TYPE_CHECKING:
    from diptych.compare.measure import Table

REPLICAS = 5  # training seeds that a claim about a recipe needs

Arms = Mapping[str, Mapping[str, "Sequence[Table]"]]


@dataclass(frozen=True)
class Side:
    """The rows of one arm, or of all replicas of a recipe, under one metric, in the order of their units.

    Args:
        units: sorted. rows: one (N, k) a replica. replicas: their training seeds; None where there is none.
    """

    units: tuple[Unit, ...]
    rows: tuple[np.ndarray, ...]
    replicas: tuple[int | None, ...]

    def take(self, units: Sequence[Unit]) -> Side:
        if len(units) == len(self.units):
            return self
        where = {unit: i for i, unit in enumerate(self.units)}
        index = [where[unit] for unit in units]
        return Side(tuple(units), tuple(rows[index] for rows in self.rows), self.replicas)


@dataclass(frozen=True)
class Estimate:
    """One arm under one metric.

    Args:
        value: over its declared units; None where it has no rows (the baseline's drift from itself).
        delta: paired difference to the baseline over the units both are declared for; None for the baseline and for drift.
        baseline_value: the baseline's value over those units.
        units: rows joined.
        identical: every row equals the baseline's; for a drift, is zero.
    """

    arm: str
    metric: Metric
    value: Interval | None
    delta: Interval | None
    baseline_value: float | None
    units: int
    identical: bool


def declared(comparison: Comparison, arm: Arm, metric: Metric) -> tuple[Unit, ...]:
    """The units an arm must have rows of under a metric, sorted; units of seed 0 for `level="item"`."""
    allowed = set(comparison.items if arm.items is None else arm.items)
    allowed &= set(comparison.items if metric.items is None else metric.items)
    seeds = (0,) if metric.level == "item" else comparison.seeds
    return tuple(sorted(Unit(item, seed) for item in comparison.items if item in allowed for seed in seeds))


def join(table: Table, expected: Sequence[Unit], arm: str, metric: str) -> np.ndarray:
    """A table's rows in the order of the units expected.

    Raises:
        ValueError: units missing, doubled or not expected, or rows that are not finite, by name.
    """
    where, said = {unit: i for i, unit in enumerate(table.units)}, f"arm {arm!r}, metric {metric!r}"
    if len(where) < len(table.units):
        doubled = next(unit for i, unit in enumerate(table.units) if where[unit] != i)
        raise ValueError(f"{said}: unit {doubled.key} has two rows; keep one")
    missing = [unit for unit in expected if unit not in where]
    if missing:
        raise ValueError(
            f"{said}: {len(missing)} of {len(expected)} units have no row, the first is {missing[0].key}; "
            "supply them, or declare the arm or the metric for fewer items"
        )
    if len(where) > len(expected):
        odd = min(set(where) - set(expected))
        raise ValueError(f"{said}: unit {odd.key} has a row, but is not among the {len(expected)} units declared; leave it out")
    rows = base.check_rows(table.rows, [unit.key for unit in table.units], metric, arm)
    return rows[[where[unit] for unit in expected]]


class Estimator:
    """Estimates of one comparison. Holds what is shared: joined rows, bootstrap draws, and the baseline's replicates.

    Args:
        arms: arm (or group of replicas) -> metric -> one table a replica.
        reference: set metric -> rows of the reference set.
    """

    def __init__(self, comparison: Comparison, arms: Arms, reference: Mapping[str, Table]) -> None:
        self.comparison = comparison
        self.arms = arms
        self.reference = reference
        self.names = tuple(dict.fromkeys([comparison.baseline, *(arm.row_name for arm in comparison.arms)]))
        self.spreads: dict[tuple[str, str], float] = {}
        self._draws: dict[tuple[Any, ...], Draws] = {}
        self._sides: dict[tuple[str, str], Side | None] = {}
        self._replicates: dict[tuple[str, str], Replicates] = {}
        self._declared: dict[tuple[Any, ...], tuple[Unit, ...]] = {}

    def trained(self) -> dict[str, int]:
        """Training seeds of every recipe that has any."""
        counts = {name: len(self.comparison.group(name)) for name in self.names}
        return {name: n for name, n in counts.items() if n > 1 or self.comparison.group(name)[0].replica is not None}

    def about_recipe(self) -> bool:
        """Whether intervals are taken over training seeds: claimed so, and at least `REPLICAS` of every recipe."""
        counts = self.trained().values()
        return self.comparison.claim == "recipe" and bool(counts) and min(counts) >= REPLICAS

    def all(self) -> list[Estimate]:
        """Every metric of every arm, the baseline first; no estimate where an arm is outside a metric's declared set."""
        pairs = [(name, metric) for metric in self.comparison.metrics for name in self.names]
        return [found for name, metric in pairs if (found := self.find(name, metric)) is not None]

    def find(self, name: str, metric: Metric) -> Estimate | None:
        """The estimate of one arm under one metric; None where no unit is declared for both."""
        side = self._side(name, metric)
        is_baseline = name == self.comparison.baseline
        if side is None:
            drift = is_baseline and metric.against == "baseline"
            return Estimate(name, metric, None, None, None, 0, False) if drift else None
        values = self._points(metric, side)
        if len(values) > 1:
            self.spreads[name, metric.name] = float(np.std(values, ddof=1))
        value = self._value(name, metric, side, values)
        if is_baseline:
            return Estimate(name, metric, value, None, None, len(side.units), False)
        if metric.against == "baseline":
            same = metric.better == "lower" and not any(rows.any() for rows in side.rows)
            return Estimate(name, metric, value, None, None, len(side.units), same)
        other = self._side(self.comparison.baseline, metric)
        both = side.units
        if other is None or other.units != both:
            both = tuple(sorted(set(both) & set(other.units))) if other is not None else ()
        if other is None or not both:
            return Estimate(name, metric, value, None, None, len(side.units), False)
        mine, theirs = side.take(both), other.take(both)
        delta, baseline_value = self._delta(name, metric, mine, theirs)
        return Estimate(name, metric, value, delta, baseline_value, len(both), _equal(mine, theirs))

    def alone(self, metric: Metric, table: Table) -> Interval:
        """The interval of a single table's value, over whatever units it has."""
        return stats.interval(self._replicate(metric, *_sorted(table, metric.name)))

    def pair(self, metric: Metric, table: Table, other: Table) -> Interval:
        """The interval of the paired difference table - other of two tables of the same units.

        Raises:
            ValueError: units that differ.
        """
        if set(table.units) != set(other.units):
            odd = min(set(table.units) ^ set(other.units))
            raise ValueError(f"metric {metric.name!r}: unit {odd.key} is in one of two tables to be paired; give both the same")
        mine, theirs = (self._replicate(metric, *_sorted(one, metric.name)) for one in (table, other))
        return stats.interval(mine.minus(theirs))

    def _side(self, name: str, metric: Metric) -> Side | None:
        key = name, metric.name
        if key not in self._sides:
            self._sides[key] = self._join(name, metric)
        return self._sides[key]

    def _join(self, name: str, metric: Metric) -> Side | None:
        group = self.comparison.group(name)
        kind = group[0].items, metric.items, metric.level == "item"
        if kind not in self._declared:
            self._declared[kind] = declared(self.comparison, group[0], metric)
        expected = self._declared[kind]
        tables = self.arms.get(name, {}).get(metric.name, ())
        if not expected or (not tables and metric.against == "baseline" and name == self.comparison.baseline):
            return None
        if len(tables) != len(group):
            raise ValueError(
                f"arm {name!r}, metric {metric.name!r}: {len(tables)} tables of rows for {len(group)} arms of that name"
            )
        ordered = sorted(tables, key=lambda table: -1 if table.replica is None else table.replica)
        rows = tuple(join(table, expected, name, metric.name) for table in ordered)
        return Side(expected, rows, tuple(table.replica for table in ordered))

    def _value(self, name: str, metric: Metric, side: Side, values: list[float]) -> Interval:
        if self.about_recipe() and len(values) > 1:
            return stats.over_replicas(values)
        top = float(side.rows[0].max())
        if len(side.rows) == 1 and metric.reduce in (None, base.mean, base.accuracy) and _two_valued(side.rows[0], top):
            draws, index = self._index(metric, side.units)
            share = stats.proportion(side.rows[0][:, 0] / top, index, len(draws.names))
            return stats.scaled(share, top)
        return stats.interval(self._average(name, metric, side))

    def _delta(self, name: str, metric: Metric, mine: Side, theirs: Side) -> tuple[Interval, float]:
        """The paired difference and the baseline's value, over the units of both."""
        if self.about_recipe() and max(len(mine.rows), len(theirs.rows)) > 1:
            a, b = self._points(metric, mine), self._points(metric, theirs)
            paired = mine.replicas == theirs.replicas or min(len(a), len(b)) == 1
            found = stats.over_replicas(np.subtract(a, b).tolist()) if paired else stats.over_replicas(a, b)
            return found, float(np.mean(b))
        ours, against = self._average(name, metric, mine), self._average(self.comparison.baseline, metric, theirs)
        return stats.interval(ours.minus(against)), against.value

    def _points(self, metric: Metric, side: Side) -> list[float]:
        """The metric of each replica."""
        reduce, held = metric.reduce or base.mean, ()
        if metric.against == "set":
            _, there = self._held(metric)
            held = there, np.ones((1, len(there)))
        return [float(reduce(rows, np.ones((1, len(rows))), *held)[0]) for rows in side.rows]

    def _average(self, name: str, metric: Metric, side: Side) -> Replicates:
        key, whole = (name, metric.name), side is self._side(name, metric)
        if whole and key in self._replicates:
            return self._replicates[key]
        found = stats.average([self._replicate(metric, side.units, rows) for rows in side.rows])
        if whole:
            self._replicates[key] = found
        return found

    def _replicate(self, metric: Metric, units: tuple[Unit, ...], rows: np.ndarray) -> Replicates:
        draws, index = self._index(metric, units)
        reference = None
        if metric.against == "set":
            there, rows_there = self._held(metric)
            other, index_there = self._index(metric, there, "reference ")
            reference = rows_there, index_there, other
        try:
            return stats.replicate(metric.reduce or base.mean, rows, index, draws, reference)
        except ValueError as error:
            raise ValueError(f"metric {metric.name!r}: {error}") from None

    def _index(self, metric: Metric, units: tuple[Unit, ...], prefix: str = "") -> tuple[Draws, np.ndarray]:
        """The draws of some units' clusters, and each unit's place among the clusters."""
        of = self.comparison.clusters
        names = [prefix + of.get(unit.item, unit.item) for unit in units]
        resamples = metric.resamples or self.comparison.resamples
        unique, index = np.unique(np.array(names), return_inverse=True)
        key = resamples, *unique.tolist()
        if key not in self._draws:
            self._draws[key] = stats.draw(unique.tolist(), resamples)
        return self._draws[key], index.ravel()

    def _held(self, metric: Metric) -> tuple[tuple[Unit, ...], np.ndarray]:
        if metric.name not in self.reference:
            raise ValueError(f"metric {metric.name!r} is held against a set, but no rows of a reference set are there")
        return _sorted(self.reference[metric.name], metric.name)


def _sorted(table: Table, metric: str) -> tuple[tuple[Unit, ...], np.ndarray]:
    units = tuple(sorted(set(table.units)))
    return units, join(table, units, "reference or floor", metric)


def _equal(side: Side, other: Side) -> bool:
    """Whether every row equals the other's; replicas one by one, a single arm against each."""
    if side.units != other.units or (len(side.rows) != len(other.rows) and min(len(side.rows), len(other.rows)) > 1):
        return False
    count = max(len(side.rows), len(other.rows))
    return all(np.array_equal(side.rows[i % len(side.rows)], other.rows[i % len(other.rows)]) for i in range(count))


def _two_valued(rows: np.ndarray, top: float) -> bool:
    """Whether rows are hits and misses: one column of zeros and ones, or of zeros and hundreds."""
    return rows.shape[1] == 1 and top in (1.0, 100.0) and bool(((rows == 0) | (rows == top)).all())
