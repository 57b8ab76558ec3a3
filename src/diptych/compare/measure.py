"""Measure what was sampled: rows per arm and metric, computed in chunks, kept by key, never twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych.compare import store
from diptych.compare.plan import Job, Plan, other_seed_pairs, restricted
from diptych.config import fingerprint
from diptych.study import Metric, Samples, Unit

CHUNK = 64
"""Units whose rows are computed and written at once."""


@dataclass(frozen=True)
class Table:
    """The rows of one arm under one metric.

    Args:
        units: what each row stands for; items are units of seed 0 under `level="item"` metrics.
        rows: (N, k).
        replica: training seed of the arm, where it has one.
    """

    units: tuple[Unit, ...]
    rows: np.ndarray
    replica: int | None = None


@dataclass(frozen=True)
class Tables:
    """All rows of a run.

    Args:
        arms: arm name -> metric -> one table a replica.
        again: metric -> (the baseline's rows, the A/A arm's rows), on the A/A arm's units. Drift metrics: (None, drift).
        other_seed: drift metric -> the baseline's distance to itself under another seed.
        reference: set metric -> rows of the reference set.
    """

    arms: dict[str, dict[str, list[Table]]]
    again: dict[str, tuple[Table | None, Table]]
    other_seed: dict[str, Table]
    reference: dict[str, Table]


def measure(planned: Plan) -> Tables:
    """Compute every row that is not on disk and return all of them."""
    comparison, out = planned.comparison, planned.out
    samples = {job.key: _read(out, job) for job in planned.jobs}
    truth = _truth(planned)
    reference = _reference(planned)
    arms: dict[str, dict[str, list[Table]]] = {}
    for job in planned.jobs:
        tables = arms.setdefault(job.arm.row_name, {metric.name: [] for metric in comparison.metrics})
        partner = planned.job(comparison.partner(job.arm).name)
        for metric in comparison.metrics:
            if metric.against == "baseline" and job.arm.row_name == comparison.baseline:
                continue
            units = restricted(job.units, metric.items)
            if not units:  # the arm and the metric are declared for different items
                continue
            held = {"baseline": samples[partner.key], "truth": truth}.get(metric.against)
            against = {"baseline": partner.key, "truth": planned.truth_key}.get(metric.against, "")
            folder = _folder(planned, job.key, metric, against)
            units, rows = _rows(metric, samples[job.key].take(units), held, folder)
            tables[metric.name].append(Table(units, rows, job.arm.replica))
    again = _again(planned, arms, samples, truth)
    other = _other_seed(planned, samples)
    sets = {
        metric.name: Table(reference.units, _valid(metric, reference, metric.rows(reference, None)))
        for metric in comparison.metrics
        if metric.against == "set" and reference is not None
    }
    return Tables(arms, again, other, sets)


def running(planned: Plan, job: Job, samples: Samples) -> dict[Unit, float]:
    """Column 0 of the primary metric's rows of a fresh batch, kept on disk for `measure`; empty where a batch has none.

    Only rows per unit that need nothing but the samples can be had before the run is over.
    """
    metric = next(one for one in planned.comparison.metrics if one.name == planned.comparison.primary)
    mine = set(job.units)
    units = [unit for unit in samples.units if unit in mine]
    if metric.level != "unit" or metric.against != "none" or metric.items is not None or not units:
        return {}
    samples = samples.take(units)
    rows = _valid(metric, samples, metric.rows(samples, None))
    store.write_part(_folder(planned, job.key, metric, ""), Samples(samples.units, {"rows": rows}))
    return dict(zip(samples.units, rows[:, 0].tolist(), strict=True))


def _folder(planned: Plan, arm_key: str, metric: Metric, against: str) -> Path:
    """Rows lie under the metric's key; rows held against other samples, below those samples' key too."""
    return store.rows_folder(planned.out, arm_key, metric.name, planned.metric_keys[metric.name], against)


def _read(out: Path, job: Job) -> Samples:
    samples = store.read_samples(out, job.key)
    missing = {*job.units, *job.extra} - set(samples.units if samples else ())
    if samples is None or missing:
        raise ValueError(f"arm {job.arm.name!r}: {len(missing)} units have no samples ({min(missing).key}); run again")
    return samples


def _rows(metric: Metric, samples: Samples, held: Samples | None, folder: Path) -> tuple[tuple[Unit, ...], np.ndarray]:
    if metric.level == "item":
        items = tuple(dict.fromkeys(unit.item for unit in samples.units))
        units = tuple(Unit(item) for item in items)
        known = store.read_folder(folder)
        if known is None or set(known.units) != set(units):
            rows = np.asarray(metric.rows(samples, held.take(samples.units) if held else None), dtype=np.float64)
            _check(metric, units, rows)
            store.write_part(folder, Samples(units, {"rows": rows}))
            return units, rows
        return units, known.take(units).arrays["rows"]
    done = store.units_in(folder)
    pending = [unit for unit in samples.units if unit not in done]
    for start in range(0, len(pending), CHUNK):
        part = samples.take(pending[start : start + CHUNK])
        rows = _valid(metric, part, metric.rows(part, held.take(part.units) if held else None))
        store.write_part(folder, Samples(part.units, {"rows": rows}))
    if pending:
        store.compact(folder)
    known = store.read_folder(folder)
    assert known is not None
    return samples.units, known.take(samples.units).arrays["rows"]


def _valid(metric: Metric, samples: Samples, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    _check(metric, samples.units, rows)
    return rows


def _check(metric: Metric, units: Sequence[Unit], rows: np.ndarray) -> None:
    if rows.ndim != 2 or len(rows) != len(units):
        raise ValueError(
            f"metric {metric.name!r}: rows have shape {rows.shape} for {len(units)} {metric.level}s; return (N, k)"
        )
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise ValueError(f"metric {metric.name!r}: the row of {units[bad[0]].key} is not finite; mend the metric or the sample")


def _truth(planned: Plan) -> Samples | None:
    comparison = planned.comparison
    if comparison.truth is None:
        return None
    folder = planned.out / "samples" / f"truth-{planned.truth_key}"
    done = store.units_in(folder)
    pending = [unit for unit in comparison.units if unit not in done]
    for start in range(0, len(pending), CHUNK):
        store.write_part(folder, comparison.truth(pending[start : start + CHUNK]))
    return store.read_folder(folder)


def _reference(planned: Plan) -> Samples | None:
    reference = planned.comparison.reference
    return reference() if reference and any(metric.against == "set" for metric in planned.comparison.metrics) else None


def _again(
    planned: Plan, arms: dict[str, dict[str, list[Table]]], samples: dict[str, Samples], truth: Samples | None
) -> dict[str, tuple[Table | None, Table]]:
    again, first = planned.again, planned.jobs[0]
    mine, base = _read(planned.out, again), samples[first.key]
    found: dict[str, tuple[Table | None, Table]] = {}
    for metric in planned.comparison.metrics:
        units = restricted(again.units, metric.items)
        if not units:
            continue
        held = {"baseline": base, "truth": truth}.get(metric.against)
        against = {"baseline": first.key, "truth": planned.truth_key}.get(metric.against, "")
        here, rows = _rows(metric, mine.take(units), held, _folder(planned, again.key, metric, against))
        if metric.against == "baseline":
            found[metric.name] = (None, Table(here, rows))
        else:
            table = arms[first.arm.row_name][metric.name][0]
            where = {unit: i for i, unit in enumerate(table.units)}
            found[metric.name] = (Table(here, table.rows[[where[unit] for unit in here]]), Table(here, rows))
    return found


def _other_seed(planned: Plan, samples: dict[str, Samples]) -> dict[str, Table]:
    """Drift metrics between the baseline's samples of one item under two seeds."""
    job, found = planned.jobs[0], {}
    mine = set(job.units)
    pairs = [(a, b) for a, b in other_seed_pairs(planned.comparison) if a in mine]
    base = samples[job.key]
    for metric in planned.comparison.metrics:
        allowed = None if metric.items is None else set(metric.items)
        wanted = [(a, b) for a, b in pairs if allowed is None or a.item in allowed]
        if metric.against != "baseline" or not wanted or metric.level == "item":
            continue
        left = base.take([a for a, _ in wanted])
        right = base.take([b for _, b in wanted])
        here = Samples(left.units, right.arrays, right.trace)
        folder = _folder(planned, job.key, metric, "other-" + fingerprint([b.key for _, b in wanted]))
        units, rows = _rows(metric, here, left, folder)
        found[metric.name] = Table(units, rows)
    return found
