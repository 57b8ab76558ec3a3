"""Numbers and verdicts in plain words: the `sentence` of every cell of a report."""

from __future__ import annotations

import math

from diptych.compare.stats import ALPHA, FEWEST, Interval
from diptych.study import Metric

BYTES = ("bytes", "B", "byte")


def format_value(value: float | None, unit: str = "", spread: float | None = None) -> str:
    """A number with its unit, for reading.

    Args:
        value: what to print; None or not finite prints "n/a".
        unit: physical or display unit; bytes are scaled to kB, MB, GB, TB.
        spread: half an interval; the number gets the decimals that show it with two significant digits. None or 0: three
            significant digits of the value itself.
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    if unit in BYTES:
        power = min(4, int(math.log10(abs(value)) // 3)) if abs(value) >= 1000 else 0
        factor = 1000.0**power
        value, unit = value / factor, ("bytes", "kB", "MB", "GB", "TB")[power]
        spread = spread / factor if spread else None
    return f"{_number(value, spread)} {unit}".rstrip()


def _number(value: float, spread: float | None = None) -> str:
    tiny = abs(value) < 1e-4 and not (spread and spread >= 1e-3)
    if value != 0 and (tiny or abs(value) >= 1e7):
        return f"{value:.2e}"
    if spread and math.isfinite(spread) and spread > 0:
        digits = min(6, max(0, 1 - math.floor(math.log10(spread))))
    elif float(value).is_integer():
        digits = 0
    else:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def sentence(
    verdict: str,
    metric: Metric,
    arm: str,
    baseline: str,
    value: Interval | None,
    delta: Interval | None,
    *,
    units: int,
    noun: str = "items",
    p_adjusted: float | None = None,
    needed: int | None = None,
) -> str:
    """One cell in plain words.

    Args:
        verdict: as in report.json.
        arm: the arm's label. baseline: the baseline's.
        value: the arm's own value. delta: its difference to the baseline, None for drift metrics and the baseline itself.
        units: units joined. noun: what is resampled ("items", "clusters", "training seeds").
    """
    name, what = f"{arm}'s", metric.label or metric.name
    if value is None:
        return f"{arm} is what {what} is measured from."
    own = f"{name} {what} is {_value(value, metric.unit)}"
    if verdict == "baseline" or delta is None:
        return _alone(verdict, metric, own, value, noun, needed)
    base = f"{baseline}'s"
    if verdict == "identical":
        return f"{name} {what} equals {base} on every one of {units} units: identical.{_unseen(delta.clusters, noun)}"
    size = abs(delta.value)
    half = _half(delta)
    points = "points" if metric.unit == "%" else metric.unit
    direction = "higher" if delta.value > 0 else "lower"
    amount = format_value(size, points, half)
    said = f"{name} {what} is {amount} {direction} than {base}{_range(delta, half)}"
    if delta.value == 0:
        said = f"{name} {what} has the same value as {base}{_range(delta, half)}"
    if verdict in ("better", "worse"):
        return f"{said}: {verdict}."
    if verdict == "equivalent":
        real = " There is a difference, but it is smaller than what matters." if _excludes_zero(delta) else ""
        return f"{said}, all of it inside the margin of {_margin(metric, points)}: equivalent.{real}"
    if verdict == "too few units":
        return f"{said}: too few units for a verdict ({delta.clusters} {noun}; at least {FEWEST} are needed)."
    if verdict == "undecided":
        why = " after allowing for the other comparisons" if _excludes_zero(delta) and (p_adjusted or 0) >= ALPHA else ""
        return f"{said}: undecided{why}.{_about(needed, noun)}"
    return f"{said}; no direction is better."


def _alone(verdict: str, metric: Metric, own: str, value: Interval, noun: str, needed: int | None) -> str:
    """Sentences about one arm's own value: the baseline's, and drift from it."""
    margin = _margin(metric, metric.unit)
    if verdict == "identical":
        return f"{own}: identical to the baseline on every unit.{_unseen(value.clusters, noun)}"
    if verdict == "equivalent":
        return f"{own}, all of it inside the margin of {margin}: equivalent."
    if verdict == "worse":
        return f"{own}, all of it beyond the margin of {margin}: worse."
    if verdict == "undecided":
        return f"{own}, across the margin of {margin}: undecided.{_about(needed, noun)}"
    if verdict == "too few units":
        return f"{own}: too few units for a verdict ({value.clusters} {noun}; at least {FEWEST} are needed)."
    return f"{own}."


def _margin(metric: Metric, unit: str) -> str:
    return "" if metric.margin is None else f"{metric.margin:g} {unit}".rstrip()


def _value(found: Interval, unit: str) -> str:
    half = _half(found)
    return format_value(found.value, unit, half) + _range(found, half)


def _range(found: Interval, half: float | None) -> str:
    if found.low is None or found.high is None:
        return ""
    if found.low == found.high:
        return f" (the same in all {found.clusters})" if found.value else ""
    over = f" over {found.clusters} training seeds" if found.method == "replica-t" else ""
    return f" (95 % interval{over} {_number(found.low, half)} to {_number(found.high, half)})"


def _half(found: Interval) -> float | None:
    return None if found.low is None or found.high is None else (found.high - found.low) / 2 or None


def _excludes_zero(found: Interval) -> bool:
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


def _about(needed: int | None, noun: str) -> str:
    if needed is None:
        return " No feasible number of units would decide."
    shown = round(needed, -max(0, math.floor(math.log10(needed)) - 1))
    return f" About {shown:,} {noun} would decide."


def _unseen(clusters: int, noun: str) -> str:
    """How common a difference could be and still not show in any of n clusters (at 95 %)."""
    if noun == "training seeds" or clusters < 1:
        return ""
    return f" A difference in fewer than {100 * (1 - ALPHA ** (1 / clusters)):.2g} % of {noun} could go unseen."
