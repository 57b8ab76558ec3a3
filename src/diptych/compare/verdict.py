"""From rows to verdicts: the cells of report.json, with its floors, warnings and results.

What decides, all of it committed before the run:
  * better or worse: the Holm-adjusted p-value of the paired difference is below 0.05. The primary metric over all arms is one
    family; every other difference of a metric that has a direction is in a second one.
  * equivalent: the whole 95 % interval lies inside the margin, even where it excludes zero. Two one-sided tests at 5 % would
    ask for the 90 % interval only; the 95 % one is the stricter. Not adjusted. That an interval contains zero is never
    equivalence.
  * too few units: fewer than 8 clusters. identical: every row is equal. undecided: the rest, with the number of clusters
    that would decide.
  * drift (`against="baseline"`): the drift's own interval against the margin; inside is equivalent, beyond is worse, across
    is undecided.
A claim about a recipe takes its intervals over at least 5 training seeds of each recipe; with fewer it is judged, and
labelled, as one about these checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.compare import stats
from diptych.compare.estimate import REPLICAS, Arms, Estimate, Estimator
from diptych.compare.stats import ALPHA, FEWEST, Interval
from diptych.compare.wording import sentence
from diptych.metrics import base
from diptych.study import Arm, Comparison, Metric, Unit

if TYPE_CHECKING:
    from diptych.compare.measure import Table, Tables
    from diptych.compare.plan import Plan


@dataclass(frozen=True)
class Cell:
    """One arm under one metric, as in report.json.

    Args:
        value: the arm's own value over its declared units. value_interval: its 95 % interval.
        baseline_value: the baseline's over the units joined. delta: the arm's there minus it. interval: delta's.
        method: how the interval that the verdict rests on was made: "t", "bca", "wilson", "replica-t" or "none".
        units: rows joined. clusters: what was resampled (training seeds under "replica-t").
        p: two-sided p-value of delta = 0. p_adjusted: after Holm.
        needed: clusters that would decide, for undecided cells.
    """

    arm: str
    metric: str
    value: float | None
    value_interval: list[float] | None
    baseline_value: float | None
    delta: float | None
    interval: list[float] | None
    method: str
    units: int
    clusters: int
    p: float | None
    p_adjusted: float | None
    verdict: str
    needed: int | None
    sentence: str


def judge(planned: Plan, tables: Tables) -> dict[str, Any]:
    """The judged part of a run's report.json: see `verdicts`."""
    return verdicts(planned.comparison, tables.arms, tables.again, tables.other_seed, tables.reference)


def verdicts(
    comparison: Comparison,
    arms: Arms,
    again: Mapping[str, tuple[Table | None, Table]] | None = None,
    other_seed: Mapping[str, Table] | None = None,
    reference: Mapping[str, Table] | None = None,
) -> dict[str, Any]:
    """Join, estimate, adjust and word every cell.

    Args:
        comparison: what was committed before the run.
        arms: arm (or group of replicas) -> metric -> one table a replica; a table has units, rows (N, k) and replica.
        again: metric -> (baseline's rows, those of the baseline run again) or (None, drift): the A/A floor.
        other_seed: drift metric -> the baseline's distance to itself under another seed.
        reference: set metric -> rows of the reference set.

    Returns:
        claim, units, cells, floors, warnings and results of report.json.

    Raises:
        ValueError: rows that are missing, doubled, not declared or not finite, by name.
    """
    estimator = Estimator(comparison, arms, reference or {})
    estimates = estimator.all()
    cells = _cells(comparison, estimates)
    named = {metric.name: metric for metric in comparison.metrics}
    floors = {
        "aa": [_floor(estimator, named[name], *pair) for name, pair in (again or {}).items() if _enough(named[name], pair[1])],
        "other_seed": [_scale(estimator, named[name], table) for name, table in (other_seed or {}).items()],
        "replicas": [{"arm": arm, "metric": metric, "spread": sd} for (arm, metric), sd in estimator.spreads.items()],
    }
    clusters = len({comparison.clusters.get(item, item) for item in comparison.items})
    return {
        "claim": "recipe" if estimator.about_recipe() else "checkpoint",
        "units": {
            "count": len(comparison.units),
            "items": len(comparison.items),
            "seeds": list(comparison.seeds),
            "clusters": clusters,
        },
        "cells": [asdict(cell) for cell in cells],
        "floors": floors,
        "warnings": _warnings(estimator, cells, floors["aa"], clusters),
        "results": _results(comparison, estimates),
    }


def _cells(comparison: Comparison, estimates: Sequence[Estimate]) -> list[Cell]:
    adjusted: dict[int, float] = {}
    sizes: dict[int, int] = {}
    for primary in (True, False):
        family = [i for i, e in enumerate(estimates) if _tested(e) and (e.metric.name == comparison.primary) == primary]
        p = [1.0 if estimates[i].identical else _p(estimates[i]) for i in family]
        adjusted.update(zip(family, stats.holm(p)))
        sizes.update(dict.fromkeys(family, len(family)))
    return [_cell(comparison, e, adjusted.get(i), sizes.get(i, 1)) for i, e in enumerate(estimates)]


def _tested(found: Estimate) -> bool:
    return found.delta is not None and found.delta.p is not None and found.metric.better != "none" and _supported(found.delta)


def _p(found: Estimate) -> float:
    return 1.0 if found.delta is None or found.delta.p is None else found.delta.p


def _supported(interval: Interval) -> bool:
    """Whether it rests on enough independent pieces for a verdict."""
    return interval.clusters >= (REPLICAS if interval.method == "replica-t" else FEWEST)


def _cell(comparison: Comparison, found: Estimate, p_adjusted: float | None, tests: int) -> Cell:
    metric, value, delta = found.metric, found.value, found.delta
    if found.identical and delta is not None:
        delta = replace(delta, value=0.0, low=0.0, high=0.0, se=0.0, p=1.0)
    verdict = _verdict(comparison, found, delta, p_adjusted)
    rests = delta if delta is not None else value
    if verdict != "undecided" or rests is None:
        needed = None
    elif delta is not None:
        needed = stats.needed(delta, metric.margin, tests)
    else:
        needed = stats.needed(replace(rests, **_shifted(rests, metric.margin or 0.0)))
    label, base_label = (_label(comparison, name) for name in (found.arm, comparison.baseline))
    noun = "training seeds" if rests and rests.method == "replica-t" else "clusters" if comparison.clusters else "items"
    return Cell(
        arm=found.arm,
        metric=metric.name,
        value=value.value if value else None,
        value_interval=value.pair if value else None,
        baseline_value=found.baseline_value,
        delta=delta.value if delta else None,
        interval=delta.pair if delta else None,
        method=rests.method if rests else "none",
        units=found.units,
        clusters=rests.clusters if rests else 0,
        p=delta.p if delta and metric.better != "none" else None,
        p_adjusted=p_adjusted,
        verdict=verdict,
        needed=needed,
        sentence=sentence(
            verdict, metric, label, base_label, value, delta, units=found.units, noun=noun, p_adjusted=p_adjusted, needed=needed
        ),
    )


def _shifted(drift: Interval, margin: float) -> dict[str, float | None]:
    """A drift's interval moved so that its margin lies at zero: how many units decide on which side of it the drift is."""
    low, high = (None if end is None else end - margin for end in (drift.low, drift.high))
    return {"value": drift.value - margin, "low": low, "high": high}


def _verdict(comparison: Comparison, found: Estimate, delta: Interval | None, p_adjusted: float | None) -> str:
    metric, margin = found.metric, found.metric.margin
    if found.arm == comparison.baseline:
        return "baseline"
    if found.identical:
        return "identical"
    if metric.against == "baseline":
        return _drift_verdict(metric, found.value)
    if delta is None or metric.better == "none":
        return "none"
    if not _supported(delta) or delta.low is None or delta.high is None:
        return "too few units"
    if margin is not None and -margin < delta.low and delta.high < margin:
        return "equivalent"
    if p_adjusted is not None and p_adjusted < ALPHA:
        return "better" if (delta.value > 0) == (metric.better == "higher") else "worse"
    return "undecided"


def _drift_verdict(metric: Metric, value: Interval | None) -> str:
    """The margin bounds a distance from above, a similarity (`better="higher"`) from below, a signed shift on both sides."""
    margin = metric.margin
    if margin is None or value is None:
        return "none"
    if not _supported(value) or value.low is None or value.high is None:
        return "too few units"
    if metric.better == "higher":
        inside, beyond = value.low > margin, value.high < margin
    else:
        signed = metric.better == "none"
        inside = value.high < margin and (not signed or value.low > -margin)
        beyond = value.low > margin or (signed and value.high < -margin)
    return "equivalent" if inside else "worse" if beyond else "undecided"


def _label(comparison: Comparison, name: str) -> str:
    labels = {arm.label for arm in comparison.group(name)}
    return (labels.pop() or name) if len(labels) == 1 else name


def _enough(metric: Metric, table: Table) -> bool:
    return len(table.units) >= (2 if metric.against == "set" else 1)


def _floor(estimator: Estimator, metric: Metric, first: Table | None, again: Table) -> dict[str, Any]:
    """What numerics alone do: the baseline run again in another batch size. largest: of one unit, in the metric's unit."""
    found = estimator.alone(metric, again) if first is None else estimator.pair(metric, again, first)
    largest = None
    if metric.against != "set":
        each = _each(metric, again)
        if first is None:
            largest = float(each.min() if metric.better == "higher" else np.abs(each).max())
        else:
            where = {unit: i for i, unit in enumerate(first.units)}
            largest = float(np.abs(each - _each(metric, first)[[where[unit] for unit in again.units]]).max())
    return {"metric": metric.name, "delta": found.value, "interval": found.pair, "largest": largest}


def _each(metric: Metric, table: Table) -> np.ndarray:
    """The metric of every row alone, (N,)."""
    return (metric.reduce or base.mean)(table.rows, np.eye(len(table.units)))


def _scale(estimator: Estimator, metric: Metric, table: Table) -> dict[str, Any]:
    found = estimator.alone(metric, table)
    return {"metric": metric.name, "value": found.value, "interval": found.pair}


def _warnings(estimator: Estimator, cells: Sequence[Cell], aa: Sequence[Mapping[str, Any]], clusters: int) -> list[str]:
    comparison, said = estimator.comparison, []
    if clusters < FEWEST:
        said.append(f"Only {clusters} clusters: at least {FEWEST} are needed for a verdict.")
    if comparison.claim == "recipe" and not estimator.about_recipe():
        fewest = min(estimator.trained().items(), key=lambda pair: pair[1], default=("none", 0))
        said.append(
            f"Asked about the training method, but {fewest[0]!r} has {fewest[1]} training seed{'s' * (fewest[1] != 1)} and "
            f"at least {REPLICAS} are needed: the verdicts are about these checkpoints alone."
        )
    fewer: dict[int, list[str]] = {}
    for arm in comparison.arms:
        if arm.items is not None and set(arm.items) < set(comparison.items):
            fewer.setdefault(len(arm.items), []).append(arm.label or arm.name)
    for count, names in fewer.items():
        who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        one = len(names) == 1
        said.append(
            f"{who} {'is' if one else 'are'} declared for {count} of {len(comparison.items)} items; "
            f"{'its' if one else 'their'} differences are over those alone."
        )
    floor = {entry["metric"]: abs(entry["delta"]) for entry in aa}
    said += [
        f"{cell.arm}, {cell.metric}: called {cell.verdict}, but the baseline run again in another batch size moves as much."
        for cell in cells
        if cell.verdict in ("better", "worse") and cell.delta and abs(cell.delta) <= floor.get(cell.metric, 0.0)
    ]
    return said


def _results(comparison: Comparison, estimates: Sequence[Estimate]) -> dict[str, dict[str, Any]]:
    """lm-evaluation-harness's `results` block, an arm where it has a task."""
    results: dict[str, dict[str, Any]] = {}
    for found in estimates:
        block = results.setdefault(found.arm, {"alias": _label(comparison, found.arm)})
        if found.value is not None:
            block[f"{found.metric.name},none"] = found.value.value
            block[f"{found.metric.name}_stderr,none"] = "N/A" if found.value.se is None else found.value.se
    return results


def scored(
    scores: Arms,
    *,
    name: str,
    baseline: str,
    primary: str = "",
    better: Mapping[str, str] | None = None,
    margins: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> Comparison:
    """The comparison that a table of another tool's scores amounts to; `verdicts(scored(scores, ...), scores)` judges it.

    Args:
        scores: arm -> metric -> one table a replica, as `tables.read_rows` returns.
        primary: the metric that carries the verdict; the first one if empty.
        better: metric -> "higher", "lower" or "none"; "higher" where it is not named. margins, units: likewise.
        clusters: item -> cluster.

    Raises:
        ValueError: an arm or a metric that is named but not there, or units that differ between arms.
    """
    metrics = list(dict.fromkeys(metric for held in scores.values() for metric in held))
    for what, given, known in (
        ("baseline", [baseline], list(scores)),
        ("metric", [*([primary] if primary else []), *(better or {}), *(margins or {}), *(units or {})], metrics),
    ):
        unknown = next((one for one in given if one not in known), None)
        if unknown is not None:
            raise ValueError(f"{what} {unknown!r} is not in the scores; there is {', '.join(known)}")
    every = [unit for held in scores.values() for tables in held.values() for table in tables for unit in table.units]
    seeds = tuple(sorted({unit.seed for unit in every}))
    made = []
    for metric in metrics:
        mine = {unit for held in scores.values() for table in held.get(metric, ()) for unit in table.units}
        items = {unit.item for unit in mine}
        once = seeds != (0,) and mine == {Unit(item) for item in items}
        made.append(
            Metric(
                metric,
                _absent,
                better=(better or {}).get(metric, "higher"),  # type: ignore[arg-type]
                margin=(margins or {}).get(metric),
                unit=(units or {}).get(metric, ""),
                level="item" if once else "unit",
                items=tuple(sorted(items)),
            )
        )
    arms = []
    for arm, held in scores.items():
        replicas = sorted({table.replica for tables in held.values() for table in tables}, key=lambda r: (r is not None, r))
        arms += [Arm(arm if r is None else f"{arm}-{r}", _absent, replica=r, group=arm) for r in replicas]
    claim = "recipe" if any(arm.replica is not None for arm in arms) else "checkpoint"
    items = tuple(dict.fromkeys(unit.item for unit in every))
    return Comparison(
        name, items, seeds, tuple(arms), tuple(made), baseline, primary or metrics[0], claim=claim, clusters=clusters or {}
    )


def _absent(*_: Any) -> Any:
    raise ValueError("these rows come from a table of scores; there is nothing to sample or measure")
