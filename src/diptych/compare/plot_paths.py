"""Curves that need not be functions: paths in a plane, phase portraits, and what runs along an outline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np

from diptych.compare.numbers import SUPERSCRIPT, Axis, axis
from diptych.compare.plots import _frame, _line, _svg, _text

MOST_POINTS = 420
"""More points than this of a curve are thinned out."""
WORD = 6.7
"""Width of an average character of the key."""
KEY = 20
"""Height of a line of the key."""


Kind = Literal["line", "faint", "dashed", "wide", "dot", "ring"]


@dataclass(frozen=True)
class Track:
    """One curve, or dots.

    Args:
        label: its name in the key; "" leaves it out of the key.
        x, y: (n,); where one is not finite the curve has a gap.
        colour: 0 to 5, the page's colours of series.
        kind: "wide" is a pale broad line to lay others upon, "faint" a thin one to lie under them;
            "ring" and "dot" draw points.
        ends: mark the first point with a ring.
        low, high: (n,), the edges of a band around the curve; None = no band.
    """

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: int = 0
    kind: Kind = "line"
    ends: bool = False
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None


@dataclass(frozen=True)
class Window:
    """A part of the x axis that is shaded and named."""

    low: float
    high: float
    label: str = ""


def paths(
    tracks: Sequence[Track],
    *,
    title: str,
    x_title: str,
    y_title: str,
    equal: bool = False,
    within: tuple[float, float] | None = None,
    window: Window | Sequence[Window] | None = None,
    log_y: bool = False,
    flip: bool = False,
    width: int = 720,
    height: int = 0,
) -> str:
    """Tracks over one pair of axes, their key above.

    Args:
        equal: one unit of x is as long as one of y.
        within: range of y (and of x where `equal`); what lies beyond is cut off. None = all.
        window: shaded part of the x axis; of several every other one is shaded, and all are named.
        flip: y grows downwards, as pressures are drawn.
        height: 0 = by the width.
    """
    key, top = _key([track for track in tracks if track.label], width)
    height = height or round(min(width * 0.5, 360) if width > 500 else width * (0.96 if equal else 0.8))
    left, right, bottom = 54.0, width - 14.0, top + height - 46.0
    start = top + 24.0
    xs = np.concatenate([np.asarray(track.x, dtype=float) for track in tracks])
    ys = np.concatenate([np.asarray(track.y, dtype=float) for track in tracks])
    if equal:
        x, y = _equal(xs, ys, within, (left, right), (bottom, start))
    else:
        x = axis([float(v) for v in xs], left, right, pad=0.02)
        held = ys[ys > 0] if log_y else ys
        y = axis([*within] if within else [float(v) for v in held], bottom, start, log=log_y)
        if flip:
            y = Axis(y.low, y.high, y.end, y.start)
    frame = Axis(y.low, y.high, bottom, start, y.log) if flip else y
    out = list(key)
    for place, part in enumerate([window] if isinstance(window, Window) else window or ()):
        a, b = (x.at(min(max(v, x.low), x.high)) for v in (part.low, part.high))
        if place % 2 == 0:
            out.append(f'<rect class="band" x="{a:.1f}" y="{start:.1f}" width="{b - a:.1f}" height="{bottom - start:.1f}"/>')
        out.append(_text(a + 6, start + 15, part.label, "hint", "start"))
    drawn = [part for part in _frame(x, frame, x_title, "") if 'class="grid"' not in part and 'text-anchor="end"' not in part]
    for value, text in y.ticks():
        words = _power(value) if y.log else text
        if words:
            drawn += [
                _line(left, y.at(value), right, y.at(value), "grid"),
                _text(left - 8, y.at(value) + 4, words, "tick", "end"),
            ]
    out += [*drawn, _text(4, start - 10, y_title, "name", "start")]
    box = f"{left - 2:.1f} {start - 2:.1f} {right - left + 4:.1f} {bottom - start + 4:.1f}"
    place = 'x="{}" y="{}" width="{}" height="{}"'.format(*box.split())
    out.append(f'<svg {place} viewBox="{box}" overflow="hidden">')
    out += [_drawn(track, x, y) for track in tracks]
    return _svg(width, top + height, title, [*out, "</svg>"])


def _power(value: float) -> str:
    """A power of ten in words; "" for other numbers."""
    power = round(math.log10(value))
    if abs(math.log10(value) - power) > 1e-6:
        return ""
    return f"10{str(power).translate(SUPERSCRIPT)}" if abs(power) > 1 else f"{value:g}"


def _equal(
    xs: np.ndarray, ys: np.ndarray, within: tuple[float, float] | None, across: tuple[float, float], up: tuple[float, float]
) -> tuple[Axis, Axis]:
    spans = []
    for values in (xs, ys):
        held = values[np.isfinite(values)]
        if within:
            held = held[(held >= within[0]) & (held <= within[1])]
        spans.append((float(held.min()), float(held.max())) if len(held) else (0.0, 1.0))
    rooms = (abs(across[1] - across[0]), abs(up[1] - up[0]))
    scale = max(max((high - low) * 1.1, 1e-9) / room for (low, high), room in zip(spans, rooms))
    halves = [scale * room / 2 for room in rooms]
    (a, b), (c, d) = ((sum(span) / 2 - half, sum(span) / 2 + half) for span, half in zip(spans, halves))
    return Axis(a, b, *across), Axis(c, d, *up)


def _key(tracks: Sequence[Track], width: int) -> tuple[list[str], float]:
    """The key's pieces, wrapped to the width, and its height."""
    out, x, y = [], 4.0, 12.0
    for track in tracks:
        wide = 26 + WORD * len(track.label) + 16
        if x > 4 and x + wide > width:
            x, y = 4.0, y + KEY
        out.append(
            f'<g class="s{track.colour % 6}">{_swatch(track.kind, x, y - 4)}</g>'
            + _text(x + 26, y, track.label, "lab", "start")
        )
        x += wide
    return out, (y + 8 if tracks else 0.0)


def _swatch(kind: str, x: float, y: float) -> str:
    if kind in ("dot", "ring"):
        return _point(kind, x + 11, y)
    return f'<polyline class="curve" {_pen(kind)} points="{x + 1:.1f},{y:.1f} {x + 21:.1f},{y:.1f}"/>'


def _pen(kind: str) -> str:
    return {
        "wide": 'style="stroke-width:7;stroke-opacity:.24;stroke-linecap:round"',
        "faint": 'style="stroke-width:1;stroke-opacity:.55"',
        "dashed": 'style="stroke-dasharray:6 4"',
    }.get(kind, 'style="stroke-width:1.8"')


def _point(kind: str, x: float, y: float) -> str:
    if kind == "ring":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.4" style="fill:none;stroke:var(--c);stroke-width:1.6"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:var(--c)"/>'


def _drawn(track: Track, x: Axis, y: Axis) -> str:
    xs, ys = np.asarray(track.x, dtype=float), np.asarray(track.y, dtype=float)
    if y.log:
        ys = np.where(ys > 0, np.maximum(ys, y.low), y.low)
    reach = 40 * (y.high - y.low)
    keep = np.isfinite(xs) & np.isfinite(ys) & ((np.abs(ys - (y.high + y.low) / 2) < reach) | y.log)
    if track.kind in ("dot", "ring"):
        points = "".join(_point(track.kind, x.at(float(a)), y.at(float(b))) for a, b in zip(xs[keep], ys[keep]))
        return f'<g class="s{track.colour % 6}"><title>{escape(track.label)}</title>{points}</g>'
    step = max(1, math.ceil(len(xs) / MOST_POINTS))
    shown = np.unique(np.append(np.arange(0, len(xs), step), len(xs) - 1))
    pieces, run = [], list[str]()
    for i in shown:
        if keep[i]:
            run.append(f"{x.at(float(xs[i])):.1f},{y.at(float(ys[i])):.1f}")
        elif run:
            pieces, run = [*pieces, run], []
    if run:
        pieces.append(run)
    body = "".join(f'<polyline class="curve" {_pen(track.kind)} points="{" ".join(piece)}"/>' for piece in pieces)
    if track.low is not None and track.high is not None:
        around = [*zip(xs, track.high, strict=True), *reversed([*zip(xs, track.low, strict=True)])]
        points = " ".join(f"{x.at(float(a)):.1f},{y.at(max(float(b), y.low)):.1f}" for a, b in around)
        body = f'<polygon class="ribbon" points="{points}"/>' + body
    if track.ends and len(xs) and keep[0]:
        body += _point("ring", x.at(float(xs[0])), y.at(float(ys[0])))
    return f'<g class="s{track.colour % 6}"><title>{escape(track.label)}</title>{body}</g>'
