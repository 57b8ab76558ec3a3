"""What a comparison will do, before it does it: checks, content keys, what is already on disk."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diptych.compare import store
from diptych.config import fingerprint, suggest
from diptych.samplers.arm import Sampled
from diptych.study import Arm, Comparison, Metric, Unit

OTHER_SEED = 1_000_003
"""Added to a unit's seed for the other-seed scale where the comparison has one seed an item."""


@dataclass(frozen=True)
class Job:
    """One arm, its key and its units.

    Args:
        arm: what to run.
        key: content key; its samples lie in samples/<key>/.
        units: what it is declared for.
        pending: those of them not on disk.
        extra: further units that only a noise floor needs; they are sampled like the others.
    """

    arm: Arm
    key: str
    units: tuple[Unit, ...]
    pending: tuple[Unit, ...]
    extra: tuple[Unit, ...] = ()

    def evaluations(self) -> int | None:
        """Expected evaluations of the pending units, where that is known beforehand."""
        each = self.arm.produce.evaluations() if isinstance(self.arm.produce, Sampled) else None
        return None if each is None else each * len(self.pending)


@dataclass(frozen=True)
class Plan:
    """A checked comparison with its keys.

    Args:
        comparison: as given.
        out: run folder.
        jobs: one an arm, the baseline first.
        again: the A/A arm: the baseline with another batch size on a quarter of the units.
        metric_keys: content key of each metric.
        truth_key: key of the truth's samples, empty without one.
        reference_key: key of the reference set, empty without one.
    """

    comparison: Comparison
    out: Path
    jobs: tuple[Job, ...]
    again: Job
    metric_keys: dict[str, str]
    truth_key: str
    reference_key: str

    def job(self, name: str) -> Job:
        return next(job for job in (*self.jobs, self.again) if job.arm.name == name)


def plan(comparison: Comparison, out: Path) -> Plan:
    """Check a comparison and find what is left to do.

    Raises:
        ValueError: anything in it that is missing, doubled or does not fit, in one line.
    """
    check(comparison)
    baselines = comparison.group(comparison.baseline)
    baseline = baselines[0]
    ordered = [*baselines, *(arm for arm in comparison.arms if arm not in baselines)]
    drift = any(metric.against == "baseline" for metric in comparison.metrics)
    extra = other_seed_units(comparison) if drift else ()
    jobs = tuple(_job(arm, comparison.units, out, extra if arm is baseline else ()) for arm in ordered)
    other = max(baseline.batch // 2, 1) if baseline.batch > 1 else 2
    label = f"{baseline.label or baseline.name} again (A/A)"
    again = replace(baseline, name=f"{baseline.name} again", label=label, batch=other)
    some = set(_quarter(comparison.items))
    quarter = tuple(unit for unit in _declared(baseline, comparison.units) if unit.item in some)
    metric_keys = {metric.name: fingerprint(replace(metric, margin=None, about="", label="")) for metric in comparison.metrics}
    return Plan(
        comparison,
        out,
        jobs,
        _job(again, quarter, out, ()),
        metric_keys,
        fingerprint(comparison.truth) if comparison.truth else "",
        fingerprint(comparison.reference) if comparison.reference else "",
    )


def _job(arm: Arm, units: Sequence[Unit], out: Path, extra: tuple[Unit, ...]) -> Job:
    key = fingerprint((arm.produce, arm.batch, arm.replica))
    declared = _declared(arm, units)
    done = store.units_in(out / "samples" / key)
    pending = tuple(unit for unit in (*declared, *extra) if unit not in done)
    return Job(arm, key, declared, pending, extra)


def _declared(arm: Arm, units: Sequence[Unit]) -> tuple[Unit, ...]:
    return restricted(units, arm.items)


def restricted(units: Sequence[Unit], items: Sequence[str] | None) -> tuple[Unit, ...]:
    """The units of some items; None = all."""
    allowed = None if items is None else set(items)
    return tuple(unit for unit in units if allowed is None or unit.item in allowed)


def _quarter(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(items[::4])


def other_seed_units(comparison: Comparison) -> tuple[Unit, ...]:
    """Units to sample besides, so that a quarter of the items have a second seed; none if they have one already."""
    first, *more = comparison.seeds
    return () if more else tuple(Unit(item, first + OTHER_SEED) for item in _quarter(comparison.items))


def other_seed_pairs(comparison: Comparison) -> list[tuple[Unit, Unit]]:
    """Pairs of units of one item with different seeds, whose distance is the other-seed scale."""
    if len(comparison.seeds) == 1:
        return [(Unit(unit.item, comparison.seeds[0]), unit) for unit in other_seed_units(comparison)]
    first, second = comparison.seeds[:2]
    return [(Unit(item, first), Unit(item, second)) for item in comparison.items]


def check(comparison: Comparison) -> None:
    """Raise ValueError, in one line, for the first thing that does not fit."""
    if not comparison.items:
        raise ValueError("items: there are none; give at least one item (a prompt file may be empty)")
    if not comparison.seeds:
        raise ValueError("seeds: there are none; give at least one, such as 0-3")
    for what, names in (
        ("item", comparison.items),
        ("seed", [str(seed) for seed in comparison.seeds]),
        ("arm", [arm.name for arm in comparison.arms]),
        ("metric", [metric.name for metric in comparison.metrics]),
    ):
        doubled = next((name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1), None)
        if doubled is not None:
            raise ValueError(f"{what}s: {doubled!r} is there twice; each {what} must be unique")
    _known("baseline", comparison.baseline, [arm.row_name for arm in comparison.arms])
    _known("primary", comparison.primary, [metric.name for metric in comparison.metrics])
    every = set(comparison.items)
    for owner, items in (
        *((f"{one.name}.items", one.items) for one in (*comparison.arms, *comparison.metrics)),
        ("clusters", comparison.clusters),
    ):
        for item in items or ():
            if item not in every:
                _known(owner, item, comparison.items)
    for metric in comparison.metrics:
        _needs(metric, comparison)
    if comparison.claim == "recipe" and all(arm.replica is None for arm in comparison.arms):
        raise ValueError("claim: 'recipe' needs arms with a replica (a training seed each); give them, or claim 'checkpoint'")


def _needs(metric: Metric, comparison: Comparison) -> None:
    if metric.against == "truth" and comparison.truth is None:
        raise ValueError(f"metric {metric.name!r} is held against the truth, but the comparison has none; set truth")
    if metric.against == "set" and comparison.reference is None:
        raise ValueError(f"metric {metric.name!r} is held against a set, but the comparison has none; set reference")


def _known(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ValueError(f"{what}: unknown name {name!r}{suggest(name, list(names))}")
