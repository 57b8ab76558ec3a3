"""Plots of the report, each a pure function from numbers to one inline SVG string.

Colours are CSS variables and classes of `page.css` (`v-better` ... set `--c`), so a plot follows the page's theme. Verdicts
differ by shape as well as by colour. Lengths are SVG user units, about one CSS pixel each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from diptych.compare.numbers import Axis, axis, number

SLUGS = {"too few units": "few"}
MOST_DOTS = 1500
CHARACTER = 7.1
"""Width of an average character of a label."""


@dataclass(frozen=True)
class Mark:
    """One estimate: its value, its interval, and the verdict that gives it shape and colour."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    verdict: str = "none"
    note: str = ""


@dataclass(frozen=True)
class Series:
    """One line of `lines`: points, and a band around them where low and high are given, all (n,)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def slug(verdict: str) -> str:
    """The verdict as a CSS class suffix."""
    return SLUGS.get(verdict, verdict)


def forest(
    marks: Sequence[Mark],
    *,
    title: str,
    unit: str = "",
    digits: int = 2,
    band: tuple[float, float] | None = None,
    zero: float | None = 0.0,
    better: str = "none",
    scale: tuple[str, float] | None = None,
    signed: bool = True,
    width: int = 312,
) -> str:
    """Estimates with their intervals, one row each, over the band of differences that do not matter.

    Args:
        digits: decimals of the numbers written beside the marks.
        band: the margin as (low, high); infinite ends reach the edge.
        better: which way is better, "higher", "lower" or "none".
        scale: a named yardstick, drawn dashed if it fits, named with an arrow if it would squeeze the rest.
    """
    ends = [zero, *(v for m in marks for v in (m.value, m.low, m.high)), *(band or ())]
    held = [abs(v) for v in ends if v is not None and math.isfinite(v)]
    near = scale is not None and abs(scale[1]) <= 2.5 * max(held, default=0)
    x = axis([*ends, scale[1] if scale and near else None], 8, width - 8)
    top, row = 20 if scale else 2, 46
    bottom = top + row * len(marks) + 4
    out = []
    if scale:
        words = f"{scale[0]} {number(scale[1], digits)}"
        spot = x.at(scale[1]) if near else width - 8.0
        out.append(_text(spot, 13, words if near else f"{words} \u2192", "scaletext", "end" if spot > width / 2 else "start"))
    texts = [number(mark.value, digits, sign=signed) for mark in marks]
    spans = [f" [{number(m.low, digits, sign=signed)}, {number(m.high, digits, sign=signed)}]" for m in marks]
    roomy = all(CHARACTER * len(m.label + text + span) < width - 16 for m, text, span in zip(marks, texts, spans))
    for i, mark in enumerate(marks):
        middle = top + row * i + 33
        edges = (middle - 10, middle + 10)
        out.append(f'<rect class="lane" x="8" y="{edges[0]}" width="{width - 16}" height="20" rx="3"/>')
        if band:
            a, b = (x.at(min(max(v, x.low), x.high)) for v in band)
            out.append(f'<rect class="band" x="{a:.1f}" y="{edges[0]}" width="{b - a:.1f}" height="20"/>')
            out += [_line(x.at(v), edges[0], x.at(v), edges[1], "edge") for v in band if x.low < v < x.high and v != zero]
        if zero is not None:
            out.append(_line(x.at(zero), edges[0], x.at(zero), edges[1], "zero"))
        if scale and near:
            out.append(_line(x.at(scale[1]), edges[0], x.at(scale[1]), edges[1], "scale"))
        body = _whisker(mark, lambda v, y=middle: (x.at(v), y), "whisker")
        text = texts[i] + (spans[i] if body and roomy else "")
        body += _text(8, middle - 16, shorten(mark.label, width - 24 - CHARACTER * len(text)), "lab", "start")
        body += _text(width - 8, middle - 16, text, "num", "end") + _shape(x.at(mark.value), middle, mark.verdict)
        out.append(f'<g class="v-{slug(mark.verdict)}">{_note(mark)}{body}</g>')
    for value, text in x.ticks(4):
        out.append(_text(x.at(value), bottom + 11, text, "tick", "middle"))
    hints = {"higher": ("", "better \u2192"), "lower": ("\u2190 better", "")}.get(better, ("", ""))
    out += [_text(8, bottom + 28, hints[0], "hint", "start"), _text(width - 8, bottom + 28, hints[1], "hint", "end")]
    out.append(_text(width / 2, bottom + 28, unit, "tick", "middle"))
    return _svg(width, bottom + 33, title, out)


def shorten(text: str, room: float) -> str:
    """The text, cut with an ellipsis if it is wider than `room`."""
    most = max(4, int(room / CHARACTER))
    return text if len(text) <= most else text[: most - 1].rstrip() + "\u2026"


def cost_quality(
    points: Sequence[tuple[Mark, Mark]], *, title: str, x_title: str, y_title: str, better: str = "none", width: int = 720
) -> str:
    """Cost (first of each pair) on x, quality (second) on y, both with intervals as bars; names beside the points."""
    height = round(min(width * 0.56, 430)) if width > 500 else 330
    x = axis([v for c, _ in points for v in (c.value, c.low, c.high)], 58, width - 20, log=True, pad=0.1)
    y = axis([v for _, q in points for v in (q.value, q.low, q.high)], height - 46, 34, pad=0.1)
    out = _frame(x, y, x_title, y_title)
    out.append(_text(width - 20, 16, {"higher": "\u2191 better", "lower": "\u2193 better"}.get(better, ""), "hint", "end"))
    spots = [(x.at(c.value), y.at(q.value)) for c, q in points]
    taken = [(a - 8, b - 8, a + 8, b + 8) for a, b in spots]
    bars = [(a - 2, y.at(q.high or q.value), a + 2, y.at(q.low or q.value)) for (a, _), (_, q) in zip(spots, points)]
    for (a, b), (cost, quality) in zip(spots, points):
        body = _whisker(quality, lambda v, a=a: (a, y.at(v)), "whisker thin")
        body += _whisker(cost, lambda v, b=b: (x.at(v), b), "whisker thin")
        wide = CHARACTER * len(quality.label)
        boxes = [
            (
                a + 11 if side == "start" else a - 11 - wide,
                b + down - 11,
                a + 11 + wide if side == "start" else a - 11,
                b + down + 3,
            )
            for down in (4, -9, 18, -25, 34)
            for side in ("start", "end")
        ]
        box = min(
            boxes, key=lambda box: 10 * _outside(box, (54, 24, width, height - 46)) + 3 * _hits(box, taken) + _hits(box, bars)
        )
        taken.append(box)
        body += _shape(a, b, quality.verdict) + _text(box[0], box[1] + 11, quality.label, "lab", "start")
        out.append(f'<g class="v-{slug(quality.verdict)}">{_note(quality)}{body}</g>')
    return _svg(width, height, title, out)


Box = tuple[float, float, float, float]


def _outside(box: Box, page: Box) -> float:
    return sum(max(0.0, over) for over in (page[0] - box[0], page[1] - box[1], box[2] - page[2], box[3] - page[3]))


def _hits(box: Box, others: Sequence[Box]) -> int:
    return sum(box[0] < o[2] and box[2] > o[0] and box[1] < o[3] and box[3] > o[1] for o in others)


def _whisker(mark: Mark, at: Callable[[float], tuple[float, float]], kind: str) -> str:
    if mark.low is None or mark.high is None or not math.isfinite(mark.low) or not math.isfinite(mark.high):
        return ""
    return _line(*at(mark.low), *at(mark.high), kind)


def scatter(
    x_values: Sequence[float] | np.ndarray,
    y_values: Sequence[float] | np.ndarray,
    *,
    title: str,
    x_title: str,
    y_title: str,
    notes: list[str] | None = None,
    better: str = "none",
    width: int = 312,
) -> str:
    """One dot a unit, baseline on x and arm on y, over the diagonal where both are equal. At most 1500 dots are drawn."""
    pairs = np.column_stack([np.asarray(x_values, dtype=float), np.asarray(y_values, dtype=float)])
    held = np.flatnonzero(np.isfinite(pairs).all(axis=1))
    shown = held[:: max(1, math.ceil(len(held) / MOST_DOTS))]
    both = [float(v) for v in pairs[shown].ravel()]
    height = width - 16
    x = axis(both, 50, width - 12)
    y = Axis(x.low, x.high, height - 44, 32)
    out = _frame(x, y, x_title, y_title, count=4)
    out.append(_line(x.at(x.low), y.at(x.low), x.at(x.high), y.at(x.high), "zero"))
    for i in shown:
        a, b = (float(v) for v in pairs[i])
        side = (b > a) - (b < a)
        win = side * {"higher": 1, "lower": -1}.get(better, 0)
        tip = f"<title>{escape(notes[i])}</title>" if notes else ""
        kind = {1: "better", -1: "worse"}.get(win, "none")
        out.append(f'<circle class="dot v-{kind}" cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="3.4">{tip}</circle>')
    return _svg(width, height, title, out)


def quadrants(baseline: np.ndarray, arm: np.ndarray, *, title: str) -> str:
    """Outcomes of 0 or 1: how many units both got right, only one of the two, or neither; a dot a unit or more."""
    a, b = baseline > 0.5, arm > 0.5
    cells = (
        (0, 0, "both right", int((a & b).sum()), "none"),
        (1, 0, "only this arm", int((~a & b).sum()), "better"),
        (0, 1, "only the baseline", int((a & ~b).sum()), "worse"),
        (1, 1, "both wrong", int((~a & ~b).sum()), "none"),
    )
    most = max(count for *_, count, _ in cells)
    per = max(1, math.ceil(most / 65))
    tall = 62 + 9.8 * math.ceil(most / per / 13)
    out = []
    for column, line, words, count, kind in cells:
        left, top = 4 + column * 154, 2 + line * (tall + 5)
        dots = [
            f'<circle class="dot" cx="{left + 16 + (k % 13) * 9.8:.1f}" cy="{top + 60 + (k // 13) * 9.8:.1f}" r="3.4"/>'
            for k in range(math.ceil(count / per))
        ]
        out.append(
            f'<g class="v-{kind}"><rect class="cell" x="{left}" y="{top:.1f}" width="149" height="{tall:.1f}" rx="8"/>'
            + _text(left + 12, top + 28, f"{count:,}", "big", "start")
            + _text(left + 12, top + 45, words, "lab", "start")
            + "".join(dots)
            + "</g>"
        )
    if per > 1:
        out.append(_text(308, 2 * tall + 24, f"one dot: {per} units", "tick", "end"))
    return _svg(312, 2 * tall + (30 if per > 1 else 9), title, out)


def strip(
    groups: Sequence[tuple[str, str, Sequence[float]]],
    *,
    title: str,
    x_title: str,
    band: tuple[float, float] | None = None,
    scale: tuple[str, float] | None = None,
    width: int = 720,
) -> str:
    """Every unit's value as a dot, a row per (label, verdict, values); the bar is the mean."""
    everything = [float(v) for _, _, values in groups for v in values]
    x = axis([*everything, *(band or ()), scale[1] if scale else None], 12, width - 12)
    top, row = 24 if scale else 6, 66
    bottom = top + row * len(groups) + 4
    out = [_text(x.at(value), bottom + 13, text, "tick", "middle") for value, text in x.ticks()]
    if scale:
        out.append(_text(x.at(scale[1]), 14, f"{scale[0]} {number(scale[1])}", "scaletext", "end"))
    for i, (label, verdict, values) in enumerate(groups):
        y = top + row * i + 20
        out.append(f'<rect class="lane" x="12" y="{y}" width="{width - 24}" height="38" rx="4"/>')
        if band:
            a, b = (x.at(min(max(v, x.low), x.high)) for v in band)
            out.append(f'<rect class="band" x="{a:.1f}" y="{y}" width="{b - a:.1f}" height="38"/>')
        if scale:
            out.append(_line(x.at(scale[1]), y, x.at(scale[1]), y + 38, "scale"))
        held = np.sort(np.asarray([v for v in values if math.isfinite(v)], dtype=float))
        mean = x.at(float(held.mean())) if len(held) else x.start
        held = held[:: max(1, math.ceil(len(held) / MOST_DOTS))]
        dots = "".join(
            f'<circle class="dot" cx="{x.at(float(v)):.1f}" cy="{y + 19 + (k * 5 % 7 - 3) * 4:.1f}" r="3"/>'
            for k, v in enumerate(held)
        )
        bar = _line(mean, y + 3, mean, y + 35, "whisker")
        out.append(f'<g class="v-{slug(verdict)}">{_text(12, y - 6, label, "lab", "start")}{dots}{bar}</g>')
    return _svg(width, bottom + 36, title, [*out, _text(width / 2, bottom + 31, x_title, "name", "middle")])


def lines(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    width: int = 720,
) -> str:
    """Curves with bands, for spectra, trajectories and training logs; each is named at its end."""
    height = round(min(width * 0.56, 430)) if width > 500 else 320
    room = 14 + 6.6 * max((len(s.label) for s in series), default=0)
    x = axis([v for s in series for v in s.x], 58, width - room, pad=0.0, log=log_x)
    spans = [v for s in series for group in (s.y, s.low or (), s.high or ()) for v in group]
    y = axis([v for v in spans if not log_y or v > 0], height - 46, 34, log=log_y)
    out = _frame(x, y, x_title, y_title, across=5 if width > 500 else 3)
    ends: list[float] = []
    for i, s in enumerate(series):
        if s.low is not None and s.high is not None:
            around = [*zip(s.x, s.high), *reversed([*zip(s.x, s.low)])]
            out.append(f'<polygon class="ribbon s{i % 6}" points="{_path(around, x, y)}"/>')
        out.append(f'<polyline class="curve s{i % 6}" points="{_path(list(zip(s.x, s.y)), x, y)}"/>')
        end = y.at(max(s.y[-1], y.low))
        while any(abs(end - other) < 13 for other in ends):
            end += 13
        ends.append(end)
        out.append(_text(x.end + 7, end + 4, s.label, f"lab s{i % 6}", "start"))
    return _svg(width, height, title, out)


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return " ".join(f"{x.at(a):.1f},{y.at(max(b, y.low)):.1f}" for a, b in points)


def _frame(x: Axis, y: Axis, x_title: str, y_title: str, count: int = 5, across: int = 5) -> list[str]:
    out = [_line(x.start, y.at(v), x.end, y.at(v), "grid") for v, _ in y.ticks(count)]
    out += [_text(x.start - 8, y.at(v) + 4, text, "tick", "end") for v, text in y.ticks(count)]
    out += [_line(x.at(v), y.start, x.at(v), y.start + 4, "rule") for v, _ in x.ticks(across)]
    out += [_text(x.at(v), y.start + 17, text, "tick", "middle") for v, text in x.ticks(across)]
    out += [_line(x.start, y.start, x.end, y.start, "rule")]
    out += [_text((x.start + x.end) / 2, y.start + 36, x_title, "name", "middle")]
    return [*out, _text(4, 16, y_title, "name", "start")]


def _note(mark: Mark) -> str:
    return f"<title>{escape(mark.note or mark.label)}</title>"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>' if text else ""


def _shape(x: float, y: float, verdict: str) -> str:
    if verdict == "worse":
        return f'<path class="shape" d="M{x:.1f} {y - 6.5:.1f}l6.5 6.5-6.5 6.5-6.5-6.5z"/>'
    if verdict in ("equivalent", "identical"):
        return f'<rect class="shape" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" rx="1.5"/>'
    hollow = " hollow" if verdict in ("undecided", "too few units") else ""
    return f'<circle class="shape{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="5.2"/>'


def _svg(width: float, height: float, title: str, body: Sequence[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(body)}</svg>'
    )
