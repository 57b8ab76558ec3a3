"""Metrics of sampled texts against brute force and hand-counted cases."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from diptych.metrics import text
from diptych.study import Samples, Unit


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    for c in range(n + 1):
        right = [i < c for i in range(n)]
        for k in range(1, n + 1):
            brute = np.mean([any(right[i] for i in chosen) for chosen in combinations(range(n), k)])
            assert text.pass_at_k(np.array([c]), n, k)[0] == pytest.approx(brute)
            assert brute == pytest.approx(1 - comb(n - c, k) / comb(n, k))


def test_pass_at_a_budget_meets_pass_at_k():
    right = np.array([0, 1, 3])
    assert np.allclose(text.pass_at_budget(right, 4, 10.0, 20.0), text.pass_at_k(right, 4, 2))
    half = (text.pass_at_k(right, 4, 2) + text.pass_at_k(right, 4, 3)) / 2
    assert np.allclose(text.pass_at_budget(right, 4, 10.0, 25.0), half)
    assert np.allclose(text.pass_at_budget(right, 4, 10.0, 0.0), 0)
    assert np.allclose(text.pass_at_budget(right, 4, 10.0, 1e9), text.pass_at_k(right, 4, 4))
    with pytest.raises(ValueError, match="ask for 1 to 4"):
        text.pass_at_k(right, 4, 5)


def test_diversity_of_hand_counted_answers():
    answers = np.array([[0, 1, 2], [0, 1, 2], [3, 1, 2], [4, 4, 4]])
    assert text.repeats(answers) == 1
    assert text.distinct(answers) == 3 / 4
    assert text.distinct(answers, 2) == 4 / 8
    assert text.effective_number(answers) == pytest.approx(np.exp(0.5 * np.log(2) + 0.5 * np.log(4)))
    assert text.effective_number(np.eye(5)) == pytest.approx(5)


def test_self_bleu_is_one_for_copies_and_small_for_strangers():
    same = np.tile(np.arange(8), (3, 1))
    assert text.self_bleu(same) == pytest.approx(1)
    strangers = np.arange(24).reshape(3, 8)
    assert text.self_bleu(strangers) == pytest.approx(0.1 * np.exp(-np.mean(np.log([8, 7, 6, 5]))))


def test_a_change_of_repeats_is_the_sum_of_its_parts():
    rng = np.random.default_rng(0)
    tables = []
    for share in (0.9, 0.3):
        parts = []
        for _ in range(50):
            right = rng.random(8) < share
            parts.append(text.pairs(np.where(right[:, None], rng.integers(0, 3, (8, 1)), rng.integers(10, 40, (8, 1))), right))
        tables.append(np.sum(parts, 0))
    change, validity, right, wrong = text.split_change(tables[0], tables[1])
    alike = [(table[3] + table[4]) / table[0] for table in tables]
    assert change == pytest.approx(alike[0] - alike[1])
    assert change == pytest.approx(validity + right + wrong)
    assert validity > 3 * abs(right + wrong)


def test_only_validity_moves_where_the_rest_is_the_same():
    base, more = np.array([100, 20, 30, 10, 3.0]), np.array([100, 60, 5, 30, 0.5])
    assert np.allclose(text.split_change(more, base), [0.175, 0.175, 0, 0])


def samples():
    """Item a: three right, two of them equal; item b: one right, one of three solutions."""
    units = [Unit(item, seed) for item in "ab" for seed in range(4)]
    answers = np.array([[1], [1], [2], [9], [5], [8], [8], [7]])
    return Samples(tuple(units), {"answer": answers}, {"ok": np.array([1, 1, 1, 0, 1, 0, 0, 0.0])})


def value(metric, made):
    rows = np.asarray(metric.rows(made, None), dtype=float)
    return float(metric.reduce(rows, np.ones((1, len(rows))))[0]) if metric.reduce else float(rows[:, 0].mean())


def test_metrics_of_samples():
    made = samples()
    assert value(text.accuracy(), made) == 4 / 8
    assert value(text.passes(2), made) == pytest.approx((1 + 0.5) / 2)
    assert value(text.collision(), made) == pytest.approx(1 / 3)
    assert value(text.coverage(lambda item: {"a": 2, "b": 30}[item]), made) == pytest.approx((2 + 1) / (2 + 4))


def test_likelihood_is_the_traces_and_lower_is_better():
    made = samples()
    priced = Samples(made.units, made.arrays, {"nll": np.array([1.0, 2, 3, 4, 5, 6, 7, 8])})
    assert value(text.likelihood(), priced) == 4.5 and text.likelihood().better == "lower"


def test_nothing_right_collides_with_nothing():
    made = samples()
    none = Samples(made.units, made.arrays, {"ok": np.zeros(8)})
    assert value(text.collision(), none) == 0
