"""Costs are read from the trace, never guessed."""

import numpy as np
import pytest

from diptych.metrics import base, cost
from diptych.study import Samples, Unit


def samples(**trace):
    count = len(next(iter(trace.values())))
    return Samples(tuple(Unit(f"i{n}") for n in range(count)), {}, {k: np.asarray(v) for k, v in trace.items()})


def test_evaluations_are_averaged():
    metric = cost.evaluations()
    rows = metric.rows(samples(evaluations=[10, 20, 60]), None)
    assert rows.dtype == np.float64
    assert rows.tolist() == [[10.0], [20.0], [60.0]]
    mean = metric.reduce or base.mean
    assert mean(rows, np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]])) == pytest.approx([30.0, 20.0])
    assert metric.better == "lower"


def test_seconds_are_a_weighted_median():
    metric = cost.seconds()
    rows = metric.rows(samples(seconds=[0.1, 0.2, 0.3, 0.4, 900.0]), None)
    assert metric.reduce is base.median
    assert base.median(rows, np.array([[1.0, 1, 1, 1, 1], [5.0, 0, 0, 0, 0]])) == pytest.approx([0.3, 0.1])
    assert metric.unit == "s"


def test_any_counted_number_can_be_a_metric():
    metric = cost.trace("tokens", better="none", unit="tokens", margin=2.0)
    assert metric.rows(samples(tokens=[3, 5]), None).tolist() == [[3.0], [5.0]]
    assert (metric.name, metric.better, metric.unit, metric.margin) == ("tokens", "none", "tokens", 2.0)


def test_nan_is_passed_on():
    assert np.isnan(cost.seconds().rows(samples(seconds=[np.nan, 1.0]), None)[:, 0]).tolist() == [True, False]


def test_an_uncounted_cost_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="did you mean 'evaluations'"):
        cost.trace("evaluation").rows(samples(evaluations=[1]), None)
    with pytest.raises(ValueError, match=r"it holds \['evaluations'\]"):
        cost.seconds().rows(samples(evaluations=[1]), None)
    with pytest.raises(ValueError, match="one number a unit"):
        cost.trace("evaluations").rows(samples(evaluations=np.ones((2, 2))), None)
