"""The figures of the page: differences, cost against quality, pairs, single units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from diptych.compare import plots, reading
from diptych.compare.numbers import number
from diptych.compare.pairs import Gallery, Rows, Table, column
from diptych.compare.plots import Mark
from diptych.compare.reading import Cell, Metric, Report

WIDTHS = (("wide", 1030), ("narrow", 322))


def deltas(report: Report) -> str:
    """Every metric's forest plot, the primary first."""
    figures = "".join(_forest(report, metric) for metric in reading.metrics(report))
    if not figures:
        return ""
    return (
        "<h2>Differences</h2><p>Point and 95 % interval of every arm. The shaded band is the margin: differences declared too "
        "small to matter before the run. An interval inside the band is equivalent; one that crosses its edge leaves the "
        f'question open.</p><div class="grid">{figures}</div>'
    )


def _forest(report: Report, metric: Metric) -> str:
    marks = _marks(report, metric)
    if not marks:
        return ""
    drift, name = metric["against"] == "baseline", reading.label(metric)
    words = "drift from the baseline" if drift else "difference to the baseline"
    plot = plots.forest(
        marks,
        title=f"{name}: {words} of each arm with its 95 % interval",
        unit=metric["unit"],
        digits=reading.digits(report, metric, "value" if drift else "delta"),
        band=_band(metric),
        zero=None if drift and metric["better"] == "higher" else 0.0,
        better=metric["better"],
        scale=_yardstick(report, metric),
        signed=not drift,
    )
    tag = ' <span class="tag">primary</span>' if metric["primary"] else ""
    return f"<figure><figcaption><b>{escape(name)}</b>{tag}<small>{words}</small></figcaption>{plot}</figure>"


def _marks(report: Report, metric: Metric) -> list[Mark]:
    """The arms' differences on a metric, or for a drift the drifts themselves."""
    cells, found = reading.cells(report), []
    drift = metric["against"] == "baseline"
    for arm in reading.others(report):
        cell = cells.get((arm["name"], metric["name"]))
        if cell and (value := cell["value"] if drift else cell["delta"]) is not None:
            low, high = (cell["value_interval"] if drift else cell["interval"]) or (None, None)
            found.append(Mark(reading.label(arm), value, low, high, cell["verdict"], cell["sentence"]))
    return found


def _band(metric: Metric) -> tuple[float, float] | None:
    """What does not matter: both sides of zero for a difference, the good side of the margin for a drift."""
    margin = metric["margin"]
    if not margin:
        return None
    if metric["against"] != "baseline":
        return -margin, margin
    if metric["better"] == "none":
        return -margin, margin
    return (margin, math.inf) if metric["better"] == "higher" else (0.0, margin)


def _yardstick(report: Report, metric: Metric) -> tuple[str, float] | None:
    scale = reading.scale(report, metric["name"])
    return None if scale is None else ("another seed", scale)


def _axis_title(metric: Metric) -> str:
    return f"{reading.label(metric)} [{metric['unit']}]" if metric["unit"] else reading.label(metric)


def _chooser(kind: str, words: str, metrics: Sequence[Metric]) -> str:
    listed = "".join(f'<option value="{escape(m["name"])}">{escape(reading.label(m))}</option>' for m in metrics)
    return f'<label>{words} <select data-pick="{kind}">{listed}</select></label>'


def cost(report: Report) -> str:
    """Every quality against every cost; the page's choosers show one figure at a time."""
    costs = [m for m in report["metrics"] if reading.is_cost(m)]
    goods = [m for m in reading.metrics(report) if not reading.is_cost(m)]
    drawn = [(x, y, _cost_quality(report, x, y)) for x in costs for y in goods]
    drawn = [(x, y, body) for x, y, body in drawn if body]
    if not drawn:
        return ""
    figures = "".join(
        f'<figure data-x="{escape(x["name"])}" data-y="{escape(y["name"])}" hidden>{b}</figure>' for x, y, b in drawn
    )
    pick = _chooser("y", "Quality", [m for m in goods if any(y is m for _, y, _ in drawn)])
    pick += _chooser("x", "Cost", [m for m in costs if any(x is m for x, _, _ in drawn)])
    return (
        "<h2>Cost against quality</h2><p>What an arm costs and what it gives. Bars are 95 % intervals of the values "
        "themselves; a verdict comes from the paired differences above, which are sharper.</p>"
        f'<div class="chooser">{pick}</div>{figures}'
    )


def _cost_quality(report: Report, cost: Metric, good: Metric) -> str:
    cells, points = reading.cells(report), []
    for arm in reading.arms(report):
        left, right = (cells.get((arm["name"], metric["name"])) for metric in (cost, good))
        if left and right and left["value"] is not None and right["value"] is not None:
            points.append((_value(arm, left), _value(arm, right)))
        elif left and arm["baseline"] and good["against"] == "baseline" and good["better"] == "lower":
            points.append((_value(arm, left), Mark(reading.label(arm), 0.0, verdict="baseline")))
    if len(points) < 2:
        return ""
    x_title, y_title = _axis_title(cost), _axis_title(good)
    title, better = f"{y_title} against {x_title}", good["better"]
    return "".join(
        f'<div class="{kind}">'
        + plots.cost_quality(points, title=title, x_title=x_title, y_title=y_title, better=better, width=width)
        + "</div>"
        for kind, width in WIDTHS
    )


def _value(arm: Metric, cell: Cell) -> Mark:
    low, high = cell["value_interval"] or (None, None)
    return Mark(reading.label(arm), cell["value"], low, high, cell["verdict"], cell["sentence"])


def units(report: Report, table: Table) -> str:
    """Every unit: arm against baseline, or for a drift the drift of each. table: metrics whose rows are in their own unit."""
    drawn = [(m, _units_of(report, m, table)) for m in reading.metrics(report)]
    drawn = [(metric, body) for metric, body in drawn if body]
    if not drawn:
        return ""
    figures = "".join(f'<div class="grid" data-y="{escape(m["name"])}" hidden>{body}</div>' for m, body in drawn)
    runs = len(report["arms"]) > len(reading.arms(report))
    first = " Of arms that were trained several times the first training run is shown." if runs else ""
    return (
        "<h2>Unit by unit</h2><p>Each dot is one unit: the same item and the same starting noise in both arms. What averages "
        f'hide shows here.{first}</p><div class="chooser">{_chooser("y", "Metric", [m for m, _ in drawn])}</div>{figures}'
    )


def _units_of(report: Report, metric: Metric, table: Table) -> str:
    name = metric["name"]
    held = [(arm, table[arm["name"], name][0]) for arm in reading.others(report) if table.get((arm["name"], name))]
    base = table.get((report["baseline"], name))
    if metric["against"] == "baseline":
        return _drifts(report, metric, held)
    return "".join(_paired(report, metric, arm, rows, base[0]) for arm, rows in held) if base else ""


def _drifts(report: Report, metric: Metric, held: Sequence[tuple[Metric, Rows]]) -> str:
    cells = reading.cells(report)
    groups = [(reading.label(a), cells[a["name"], metric["name"]]["verdict"], [*column(rows).values()]) for a, rows in held]
    if not groups:
        return ""
    words, x_title = f"{reading.label(metric)}: each unit's distance to the baseline's", _axis_title(metric)
    band, scale = _band(metric), _yardstick(report, metric)
    drawn = [(kind, plots.strip(groups, title=words, x_title=x_title, band=band, scale=scale, width=w)) for kind, w in WIDTHS]
    return "".join(f'<figure class="full {kind}">{plot}</figure>' for kind, plot in drawn)


def _paired(report: Report, metric: Metric, arm: Metric, rows: Rows, base: Rows) -> str:
    left, right, name = column(base), column(rows), reading.label(arm)
    both = [unit for unit in right if unit in left]
    a, b = np.array([left[u] for u in both]), np.array([right[u] for u in both])
    words = f"{reading.label(metric)} of every unit, {name} against the baseline"
    if np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        plot = plots.quadrants(a, b, title=words)
    else:
        notes = [f"{u.key}: baseline {number(p)}, {name} {number(q)}" for u, p, q in zip(both, a.tolist(), b.tolist())]
        x_title = f"baseline, {_axis_title(metric)}"
        plot = plots.scatter(a, b, title=words, x_title=x_title, y_title=name, notes=notes, better=metric["better"])
    wins = np.sign(b - a) * (-1 if metric["better"] == "lower" else 1)
    up, down = ("better", "worse") if metric["better"] != "none" else ("higher", "lower")
    count = f"{int((wins > 0).sum())} {up}, {int((wins < 0).sum())} {down}, {int((wins == 0).sum())} equal"
    return f"<figure><figcaption><b>{escape(name)}</b><small>{count}</small></figcaption>{plot}</figure>"


def pairs(report: Report, gallery: Gallery) -> str:
    """The frame of the pair viewer; page.js fills it."""
    if gallery.show == "none":
        return ""
    shown = {pair.arm for pair in gallery.pairs}
    modes = (("slider", "Slider"), ("blink", "Flicker"), ("side", "Side by side"), ("difference", "Difference"))
    chosen = "".join(f'<button type="button" data-mode="{key}" aria-pressed="false">{words}</button>' for key, words in modes)
    arms = [arm for arm in reading.others(report) if arm["name"] in shown]
    arm_tabs = "".join(_tab("arm", arm["name"], reading.label(arm)) for arm in arms)
    kind_tabs = "".join(_tab("kind", kind, kind.capitalize()) for kind in ("worst", "best", "random"))
    note = f" {escape(gallery.note)}" if gallery.note else ""
    return (
        f"<h2>Pairs</h2><p>The baseline and an arm on the same unit, from the same noise. "
        f"{_how(report, gallery.rank)}{note}</p>"
        f'<div class="viewer" data-show="{gallery.show}">'
        f'<div class="tabs"><div role="tablist" aria-label="Arm" class="segments">{arm_tabs}</div>'
        f'<div role="tablist" aria-label="Which pairs" class="segments">{kind_tabs}</div></div>'
        f'<div class="film" role="group" aria-label="Pairs"></div>'
        f'<div class="modes segments" role="group" aria-label="How to compare">{chosen}</div>'
        '<div class="stage"></div><div class="facts-of-pair" aria-live="polite"></div></div><div class="print-pairs"></div>'
    )


def _tab(kind: str, value: str, words: str) -> str:
    return f'<button type="button" role="tab" data-{kind}="{escape(value)}">{escape(words)}</button>'


def _how(report: Report, rank: str) -> str:
    metric = next((m for m in report["metrics"] if m["name"] == rank), None)
    if metric is None:
        return "They are drawn by the hash of the unit's key, so nobody picked them."
    by = "distance to the baseline's sample" if metric["against"] == "baseline" else "difference to the baseline"
    return (
        f"Worst and best go by {escape(reading.label(metric))}, each unit's {by}; random ones are drawn by the hash of the "
        "unit's key, so nobody picked them."
    )
