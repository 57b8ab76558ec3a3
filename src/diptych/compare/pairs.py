"""Which pairs the report shows, and how pictures, fields and texts are packed into one page.

A pair is the baseline's and an arm's sample of one unit. The worst, the best and some drawn by the hash of the unit's key are
shown, so that nobody picks them; the same files always give the same pairs.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

import numpy as np
from PIL import Image

from diptych.study import Unit

Rows = tuple[tuple[Unit, ...], np.ndarray]
Table = Mapping[tuple[str, str], Sequence[Rows]]
Kind = Literal["worst", "best", "random"]

BUDGET = 3_600_000
LONGEST_TEXT = 4_000
# Longest edge and WebP quality, tried in turn until the pictures fit the budget; None is as produced, lossless.
PACKINGS: tuple[tuple[int | None, int | None], ...] = ((None, None), (768, 92), (512, 90), (384, 88), (256, 85), (160, 80))
DIVERGING = ("#173a6b", "#2f79b5", "#9cc8e0", "#f5f4f0", "#f1b78f", "#c9583c", "#6d1423")
SEQUENTIAL = ("#0b0d2a", "#3b1d6e", "#7c2a80", "#bd3977", "#ee6a4f", "#fba55c", "#fcefb4")


@dataclass(frozen=True)
class Pair:
    """One unit of one arm, to be shown beside the baseline. left and right: a picture's id, or a text as HTML."""

    arm: str
    kind: Kind
    unit: Unit
    left: str = ""
    right: str = ""


@dataclass(frozen=True)
class Gallery:
    """The pairs of a page, the metric that ranked them, and the pictures they name as data URIs."""

    show: Literal["pictures", "texts", "none"] = "none"
    rank: str = ""
    pairs: tuple[Pair, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def column(rows: Rows) -> dict[Unit, float]:
    """Each unit's number: column 0 of its row."""
    units, values = rows
    return {unit: float(value) for unit, value in zip(units, np.asarray(values, dtype=float).reshape(len(units), -1)[:, 0])}


def per_unit(report: Mapping[str, Any], table: Table) -> list[str]:
    """Names of the unit-level metrics whose rows are in the metric's own unit: the mean of column 0 is the reported value.

    A metric that reduces otherwise (squared errors to decibels) has rows of another quantity; those rank and plot nothing.
    """
    values = {(cell["arm"], cell["metric"]): cell["value"] for cell in report["cells"]}
    found = []
    for metric in report["metrics"]:
        held = [(arm, replicas) for (arm, name), replicas in table.items() if name == metric["name"] and replicas]
        means = [
            (values.get((arm, metric["name"])), float(np.mean([v for rows in replicas for v in column(rows).values()])))
            for arm, replicas in held
        ]
        if metric["level"] == "unit" and means and all(v is None or np.isclose(v, m, 1e-4, 1e-9) for v, m in means):
            found.append(metric["name"])
    return found


def ranking(report: Mapping[str, Any], table: Table) -> str:
    """The metric that orders the pairs: a primary drift, else the first drift, the primary, any with a direction."""
    usable = set(per_unit(report, table))
    metrics = [m for m in report["metrics"] if m["name"] in usable and m["better"] != "none"]
    drifts = [m for m in metrics if m["against"] == "baseline"]
    ordered = [m for m in drifts if m["primary"]] + drifts + [m for m in metrics if m["primary"]] + metrics
    return ordered[0]["name"] if ordered else ""


def harm(metric: Mapping[str, Any], arm: Rows, baseline: Rows | None) -> dict[Unit, float]:
    """How much worse than the baseline each unit is: the drift itself, or the signed difference to the baseline."""
    sign = -1.0 if metric["better"] == "higher" else 1.0
    values = column(arm)
    if metric["against"] == "baseline" or baseline is None:
        return {unit: sign * value for unit, value in values.items()}
    base = column(baseline)
    return {unit: sign * (value - base[unit]) for unit, value in values.items() if unit in base}


def choose(arm: str, units: Sequence[Unit], harms: Mapping[Unit, float], count: int = 6) -> list[Pair]:
    """`count` worst, best and hash-drawn units of an arm; ties keep the order of the hash, so they are not the first items."""
    drawn = sorted(units, key=lambda unit: hashlib.sha256(unit.key.encode()).digest())
    known = [unit for unit in drawn if np.isfinite(harms.get(unit, np.nan))]
    worst = sorted(known, key=lambda unit: -harms[unit])[:count]
    best = sorted(known, key=lambda unit: harms[unit])[:count]
    groups: tuple[tuple[Kind, list[Unit]], ...] = (("worst", worst), ("best", best), ("random", drawn[:count]))
    return [Pair(arm, kind, unit) for kind, group in groups for unit in group]


def colour(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A field (H, W) as uint8 colours (H, W, 3): diverging around zero where low < 0 < high, else from dark to light."""
    stops = DIVERGING if low < 0 < high else SEQUENTIAL
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    table = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops], dtype=float)
    place = np.clip((np.nan_to_num(values.astype(float)) - low) / max(high - low, 1e-30), 0, 1) * (len(stops) - 1)
    return np.stack([np.interp(place, np.arange(len(stops)), table[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def as_picture(array: np.ndarray) -> Literal["picture", "field", "text", ""]:
    """What one unit's array can be shown as; of a field (H, W) or (C, H, W) channel 0 is shown."""
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3:
        return "picture"
    if array.dtype.kind == "U" and array.ndim == 0:
        return "text"
    if array.dtype.kind == "f" and array.ndim in (2, 3) and min(array.shape[-2:]) >= 8:
        return "field"
    return ""


def plane(array: np.ndarray) -> np.ndarray:
    """The shown plane (H, W) of a field."""
    return array if array.ndim == 2 else array[0]


def data_uri(picture: np.ndarray, edge: int | None = None, quality: int | None = None) -> str:
    """A picture (H, W, 3) as a WebP data URI, lossless unless `quality` is given, shrunk to `edge` if larger."""
    image = Image.fromarray(picture)
    if edge is not None and max(image.size) > edge:
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=quality is None, quality=40 if quality is None else quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def pack(pictures: Mapping[str, np.ndarray], budget: int = BUDGET) -> tuple[dict[str, str], str]:
    """All pictures as data URIs within `budget` characters, as gently packed as fits, and a note on what that took."""
    for edge, quality in PACKINGS:
        packed: dict[str, str] = {}
        size = 0
        for name, picture in pictures.items():
            packed[name] = data_uri(picture, edge, quality)
            size += len(packed[name])
            if size > budget and (edge, quality) != PACKINGS[-1]:
                break
        else:
            if quality is None:
                return packed, ""
            originals = "the originals lie in the run's samples folder"
            return packed, f"Pictures are shown at no more than {edge} pixels, WebP quality {quality}; {originals}."
    raise AssertionError("the last packing is always taken")


def marked(left: str, right: str) -> tuple[str, str]:
    """Two texts as HTML, what only the left has in <del>, what only the right has in <ins>; long texts are cut."""
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text[:LONGEST_TEXT]) for text in (left, right))
    out: tuple[list[str], list[str]] = ([], [])
    for op, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for side, words, tag in ((0, a[i:j], "del"), (1, b[k:m], "ins")):
            text = escape("".join(words))
            out[side].append(text if op == "equal" or not text else f"<{tag}>{text}</{tag}>")
    cut = ["<i>(cut)</i>" if len(text) > LONGEST_TEXT else "" for text in (left, right)]
    return "".join(out[0]) + cut[0], "".join(out[1]) + cut[1]


def gallery(
    pairs: Sequence[Pair], samples: Mapping[str, Mapping[Unit, np.ndarray]], baseline: str, rank: str = "", budget: int = BUDGET
) -> Gallery:
    """Fill chosen pairs with what the arms made, samples[arm name][unit]; pairs without both are left out."""
    full = [p for p in pairs if p.unit in samples.get(p.arm, {}) and p.unit in samples.get(baseline, {})]
    if not full:
        return Gallery(rank=rank)
    kind = as_picture(samples[baseline][full[0].unit])
    if kind == "text":
        texts = [marked(str(samples[baseline][p.unit]), str(samples[p.arm][p.unit])) for p in full]
        done = tuple(Pair(p.arm, p.kind, p.unit, a, b) for p, (a, b) in zip(full, texts))
        return Gallery("texts", rank, done, note="Words that only one side has are marked.")
    if not kind:
        return Gallery(rank=rank)
    wanted = {f"{arm}/{p.unit.key}": samples[arm][p.unit] for p in full for arm in (baseline, p.arm)}
    note = ""
    if kind == "field":
        low, high = np.nanpercentile(np.stack([plane(samples[baseline][p.unit]) for p in full]), [0.5, 99.5])
        wanted = {name: colour(plane(value), float(low), float(high)) for name, value in wanted.items()}
        note = f"Fields share one colour scale, {low:.3g} to {high:.3g}, taken from the baseline. "
    pictures, packing = pack(wanted, budget)
    done = tuple(Pair(p.arm, p.kind, p.unit, f"{baseline}/{p.unit.key}", f"{p.arm}/{p.unit.key}") for p in full)
    return Gallery("pictures", rank, done, pictures, note + packing)
