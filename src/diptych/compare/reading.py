"""Looking things up in a report.json (schema 1), and its small words: shared by the sections of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from diptych.compare.numbers import decimals, number
from diptych.compare.plots import slug

Report = Mapping[str, Any]
Metric = Mapping[str, Any]
Cell = Mapping[str, Any]
BYTES = ("bytes", "byte", "B")
VALUES = ("value", "baseline_value", "delta", "margin", "largest", "spread")
PAIRS = ("value_interval", "interval")
COSTS = ("evaluations", "seconds", "tokens", "attended", "bytes", "memory", "parameters")


def display(report: Report) -> Report:
    """The report with bytes as kB, MB or GB, one unit a metric, for showing."""
    factors = {m["name"]: _bytes(report, m) for m in report["metrics"] if m["unit"] in BYTES}

    def scaled(owner: Mapping[str, Any], metric: str) -> dict[str, Any]:
        by = factors.get(metric, (1.0, ""))[0]
        pairs = {key: [v if v is None else v / by for v in owner[key]] for key in PAIRS if owner.get(key)}
        return {**owner, **{key: owner[key] / by for key in VALUES if owner.get(key) is not None}, **pairs}

    shown = [{**scaled(m, m["name"]), "unit": factors.get(m["name"], (1.0, m["unit"]))[1]} for m in report["metrics"]]
    floors = {key: [scaled(floor, floor["metric"]) for floor in group] for key, group in report["floors"].items()}
    return {**report, "metrics": shown, "floors": floors, "cells": [scaled(cell, cell["metric"]) for cell in report["cells"]]}


def factor(report: Report, metric: str) -> float:
    """What `display` divides the values of a metric by."""
    return next((_bytes(report, m)[0] for m in report["metrics"] if m["name"] == metric and m["unit"] in BYTES), 1.0)


def _bytes(report: Report, metric: Metric) -> tuple[float, str]:
    most = max((abs(c["value"]) for c in report["cells"] if c["metric"] == metric["name"] and c["value"]), default=0.0)
    power = sum(most >= 1000.0**p for p in (1, 2, 3, 4))
    return 1000.0**power, ("bytes", "kB", "MB", "GB", "TB")[power]


def metrics(report: Report) -> list[Mapping[str, Any]]:
    """The metrics, the primary first."""
    return sorted(report["metrics"], key=lambda metric: not metric["primary"])


def label(thing: Mapping[str, Any]) -> str:
    return thing["label"] or thing["name"]


def cells(report: Report) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(cell["arm"], cell["metric"]): cell for cell in report["cells"]}


def arms(report: Report) -> list[Mapping[str, Any]]:
    """The arms, the baseline first; replicas of one recipe are one arm, under their label where they share it."""
    found: dict[str, Mapping[str, Any]] = {}
    for arm in sorted(report["arms"], key=lambda arm: arm["name"] != report["baseline"]):
        first = found.setdefault(arm["name"], arm)
        if first["label"] != arm["label"]:
            found[arm["name"]] = {**first, "label": arm["name"]}
    return list(found.values())


def baseline(report: Report) -> Mapping[str, Any]:
    return arms(report)[0]


def others(report: Report) -> list[Mapping[str, Any]]:
    return arms(report)[1:]


def digits(report: Report, metric: Metric, of: str = "value") -> int:
    """Decimals of a metric's values, or of its differences (of="delta"): as many down a column, by its half intervals."""
    mine = [cell for cell in report["cells"] if cell["metric"] == metric["name"] and cell["value"] is not None]
    pairs = [cell["interval" if of == "delta" else "value_interval"] for cell in mine]
    halves = [(p[1] - p[0]) / 2 for p in pairs if p and p[0] is not None and p[1] is not None and p[1] > p[0]]
    written = len(f"{metric['margin']:g}".partition(".")[2]) if metric["margin"] and metric["margin"] >= 1e-4 else 0
    if halves:
        return max(written, decimals(float(np.median(halves))))
    values = [cell["value"] for cell in mine]
    if not values:
        return written
    return written if all(float(v).is_integer() for v in values) else max(written, decimals(max(map(abs, values)) / 10))


def span(pair: Sequence[float | None], digits: int, *, sign: bool = False) -> str:
    return f"{number(pair[0], digits, sign=sign)} to {number(pair[1], digits, sign=sign)}"


def interval(pair: Sequence[float | None] | None, digits: int, sign: bool = False) -> str:
    return f"[{number(pair[0], digits, sign=sign)}, {number(pair[1], digits, sign=sign)}]" if pair else ""


def margin(metric: Metric) -> str:
    """The margin as it was written, "" where there is none."""
    if not metric["margin"]:
        return ""
    sign = "" if metric["against"] == "baseline" and metric["better"] != "none" else "\u00b1"
    return f"{sign}{metric['margin']:g}{unit(metric)}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def noun(report: Report, cell: Cell) -> str:
    """What a cell's clusters are, in the plural."""
    if cell["method"] == "replica-t":
        return "training seeds"
    return "clusters" if report["units"]["clusters"] < report["units"]["items"] else "items"


def unit(metric: Mapping[str, Any]) -> str:
    return f"\u00a0{metric['unit']}" if metric["unit"] else ""


def unit_tag(metric: Mapping[str, Any]) -> str:
    return f"&nbsp;<i>[{escape(metric['unit'])}]</i>" if metric["unit"] else ""


def listing(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def chip(verdict: str) -> str:
    word = "no verdict" if verdict == "none" else verdict
    return f"{glyph(verdict)}<span>{escape(word)}</span>"


def glyph(verdict: str) -> str:
    return f'<svg class="glyph" aria-hidden="true"><use href="#g-{slug(verdict)}"/></svg>'


def scale(report: Report, name: str) -> float | None:
    """How far two seeds of the baseline lie apart on a drift metric."""
    return next((f["value"] for f in report["floors"].get("other_seed", ()) if f["metric"] == name), None)


def is_cost(metric: Mapping[str, Any]) -> bool:
    """Whether a metric counts what a sample costs, by its name."""
    return metric["name"].lower().startswith(COSTS)
