"""Numbers read well, axes hold what they must, and marks lie where the numbers say."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from diptych.compare import numbers, plots, reading


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.1234, 2, True, "+0.12"),
        (-0.001, 2, True, "0.00"),
        (-0.5, 1, False, "\u22120.5"),
        (12345.6, 0, False, "12,346"),
        (0.00002, 3, False, "2.0\u00d710\u207b\u2075"),
        (3.1e9, 2, False, "3.1\u00d710\u2079"),
        (None, 2, False, "\u2013"),
        (math.inf, 2, False, "\u2013"),
    ],
)
def test_numbers_read_well(value, digits, sign, text):
    assert numbers.number(value, digits, sign=sign) == text


def test_decimals_show_the_spread():
    assert [numbers.decimals(v) for v in (0.21, 0.05, 0.003, 5.0, 12.0, 0.0)] == [2, 2, 4, 0, 0, 0]


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0.0, 1.0, False), (-0.03, 0.002, False), (3.0, 900.0, True), (1e4, 1.3e4, False)]
)
def test_axis_keeps_everything_inside_and_ticks_are_round(low, high, log):
    x = numbers.axis([low, high, None, math.nan], 10, 300, log=log)
    assert 10 <= x.at(low) < x.at(high) <= 300 and x.log == log
    ticks = x.ticks()
    assert 2 <= len(ticks) <= 9
    for value, text in ticks:
        assert x.low <= value <= x.high
        assert float(text.replace("\u2212", "-").replace(",", "")) == pytest.approx(value)


def numbers_of(svg: str, tag: str, kind: str, *names: str) -> list[list[float]]:
    root = ET.fromstring(svg)
    return [[float(node.get(n, "nan")) for n in names] for node in root.iter(tag) if kind in node.get("class", "").split()]


def test_forest_places_intervals_over_the_band():
    marks = [plots.Mark("in <the> band", 0.01, -0.02, 0.03, "equivalent"), plots.Mark("beyond", 0.2, 0.1, 0.3, "better")]
    svg = plots.forest(marks, title="t", band=(-0.05, 0.05), better="higher", scale=("another seed", 9.0))
    (left, width), *_ = numbers_of(svg, "rect", "band", "x", "width")
    inside, beyond = numbers_of(svg, "line", "whisker", "x1", "x2")
    assert left < inside[0] < inside[1] < left + width < beyond[0] < beyond[1]
    assert "another seed 9.00 \u2192" in svg, "a yardstick far outside is named, not drawn to scale"
    assert not numbers_of(svg, "line", "scale", "x1")
    assert "v-equivalent" in svg and "v-better" in svg


def test_cost_quality_keeps_labels_apart_and_inside():
    points = [
        (plots.Mark("arm number one", 10 + k / 9, 9, 12), plots.Mark("arm number one", 0.5 + k / 99, 0.4, 0.6))
        for k in range(4)
    ]
    root = ET.fromstring(plots.cost_quality(points, title="t", x_title="x", y_title="y", better="higher", width=322))
    labels = [(float(n.get("x", 0)), float(n.get("y", 0))) for n in root.iter("text") if n.get("class") == "lab"]
    wide = plots.CHARACTER * len("arm number one")
    assert len(labels) == 4 and all(x >= 0 and x + wide <= 330 for x, _ in labels)
    assert all(abs(a[1] - b[1]) > 10 or abs(a[0] - b[0]) >= wide for i, a in enumerate(labels) for b in labels[:i])


def test_scatter_and_quadrants_count_every_unit():
    svg = plots.scatter([0.1, 0.2, math.nan], [0.2, 0.1, 0.3], title="t", x_title="x", y_title="y", better="higher")
    assert len(numbers_of(svg, "circle", "dot", "cx")) == 2, "a unit without a number has no dot"
    assert svg.count("v-better") == 1 and svg.count("v-worse") == 1
    svg = plots.quadrants(np.array([1, 1, 1, 0, 0.0]), np.array([1, 1, 0, 1, 0.0]), title="t")
    assert re.findall(r'class="big"[^>]*>(\d+)<', svg) == ["2", "1", "1", "1"]


def test_strip_and_lines_are_drawn():
    svg = plots.strip([("arm", "worse", [0.1, 0.2, 0.3])], title="t", x_title="x", band=(0, 0.15), scale=("another seed", 0.4))
    (mean, _), *_ = numbers_of(svg, "line", "whisker", "x1", "x2")
    dots = sorted(x for (x,) in numbers_of(svg, "circle", "dot", "cx"))
    assert mean == pytest.approx(dots[1], abs=0.1)
    series = [
        plots.Series("truth", [1, 10, 100], [1, 0.1, 0.01], [0.9, 0.05, 0.0], [1.1, 0.2, 0.02]),
        plots.Series("arm", [1, 10], [1, 0.2]),
    ]
    svg = plots.lines(series, title="t", x_title="k", y_title="E", log_x=True, log_y=True)
    root = ET.fromstring(svg)
    curves = [node.get("points", "").split() for node in root.iter("polyline")]
    assert [len(points) for points in curves] == [3, 2] and len(list(root.iter("polygon"))) == 1


def test_digits_follow_the_intervals_and_the_margin():
    metric = {"name": "m", "margin": 0.005}
    cell = {"metric": "m", "value": 0.5, "value_interval": [0.3, 0.7], "interval": [0.0011, 0.0017]}
    assert reading.digits({"cells": [cell]}, metric) == 3, "the margin can be read off"
    assert reading.digits({"cells": [cell]}, metric, "delta") == 5
