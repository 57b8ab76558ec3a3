"""Draws, intervals, p-values, Holm and power against references and hand-computed values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sc

from diptych.compare import stats
from diptych.metrics import base


def names(count):
    return [f"item {i:04d}" for i in range(count)]


def replicate(x, *, index=None, reduce=base.mean, resamples=2_000):
    rows = np.asarray(x, dtype=float).reshape(len(x), -1)
    index = np.arange(len(rows)) if index is None else np.asarray(index)
    return stats.replicate(reduce, rows, index, stats.draw(names(index.max() + 1), resamples))


# Draws


@pytest.mark.parametrize("clusters", [2, 5, 30, 150])
def test_counts_are_multinomial(clusters):
    counts = np.concatenate(list(stats.draw(names(clusters), 20_000).blocks())).astype(int)
    assert counts.shape == (20_000, clusters)
    assert (counts.sum(1) == clusters).all()
    expected = sc.binom.pmf(np.arange(5), clusters, 1 / clusters) * counts.size
    seen = np.bincount(counts.ravel(), minlength=5)[:5]
    np.testing.assert_allclose(seen, expected, atol=5 * math.sqrt(counts.size))
    assert np.abs(counts.mean(0) - 1).max() < 5 / math.sqrt(20_000)
    assert counts.var(0).mean() == pytest.approx(1 - 1 / clusters, abs=10 / math.sqrt(counts.size))
    neighbours = (counts * np.roll(counts, 1, axis=1)).mean() - 1.0
    assert neighbours == pytest.approx(-1 / clusters, abs=10 / math.sqrt(counts.size))


def test_draws_follow_the_names_alone():
    a, b = stats.draw(names(20), 300), stats.draw(names(20)[::-1] * 2, 300)
    assert a.names == b.names
    np.testing.assert_array_equal(np.concatenate(list(a.blocks())), np.concatenate(list(b.blocks())))
    other = stats.draw([f"other {i}" for i in range(20)], 300)
    assert not np.array_equal(np.concatenate(list(a.blocks())), np.concatenate(list(other.blocks())))


def test_draws_that_are_not_kept_are_made_again_alike():
    kept = stats.draw(names(700), 500)
    again = stats.Draws(kept.names, 500)
    assert len(kept.kept) > 1
    assert not again.kept
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(again.blocks())), np.concatenate(kept.kept))


# Intervals


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(1)
    x = rng.exponential(size=40)
    rep = replicate(x, resamples=40_000)
    ours = stats.bca_ends(np.sort(rep.draws), rep, 1.959964)
    theirs = sc.bootstrap((x,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(2)).confidence_interval
    se = x.std() / math.sqrt(40)
    np.testing.assert_allclose(ours, theirs, atol=0.06 * se)
    percentile = np.quantile(rep.draws, [0.025, 0.975])
    assert np.abs(ours - percentile).max() > 0.1 * se  # so the corrections were tested


def test_bca_of_a_paired_ratio_agrees_with_scipy():
    rng = np.random.default_rng(5)
    tokens = rng.uniform(5, 30, 50)
    nll = tokens * rng.uniform(1, 4, 50)
    rep = replicate(np.stack([nll, tokens], 1), reduce=base.exp_ratio, resamples=40_000)

    def perplexity(a, b, axis=-1):
        return np.exp(a.sum(axis) / b.sum(axis))

    theirs = sc.bootstrap((nll, tokens), perplexity, paired=True, n_resamples=40_000, rng=np.random.default_rng(2))
    ours = stats.bca_ends(np.sort(rep.draws), rep, 1.959964)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.06 * theirs.standard_error)
    assert stats.interval(rep).se == pytest.approx(theirs.standard_error, rel=0.05)


@pytest.mark.parametrize("count", [2, 7, 40])
def test_without_enough_to_bootstrap_it_is_students_interval(count):
    x = np.random.default_rng(count).standard_normal(count) + 0.4
    found, expected = stats.interval(replicate(x, resamples=200)), sc.ttest_1samp(x, 0.0)
    assert found.method == "t"
    np.testing.assert_allclose([found.low, found.high], expected.confidence_interval(0.95), rtol=1e-9)
    assert found.p == pytest.approx(expected.pvalue)


def test_one_cluster_has_a_value_and_no_interval():
    found = stats.interval(replicate([1.0, 2.0, 3.0], index=[0, 0, 0]))
    assert (found.value, found.pair, found.p, found.method) == (2.0, None, None, "none")


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(8, 40), kind=st.sampled_from(["normal", "skewed", "three"]))
def test_p_is_below_5_percent_exactly_where_the_interval_excludes_zero(seed, count, kind):
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-1, 1)
    if kind == "normal":
        x = rng.standard_normal(count) + shift
    elif kind == "skewed":
        x = rng.exponential(size=count) - 1 + shift
    else:
        x = rng.choice([-1.0, 0.0, 1.0], size=count, p=[0.1, 0.4, 0.5])
    found = stats.interval(replicate(x, resamples=1_000))
    assert found.low <= found.value <= found.high
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(8, 60))
def test_the_interval_never_lies_inside_students(seed, count):
    x = np.random.default_rng(seed).exponential(size=count) ** 1.5
    found, student = stats.interval(replicate(x, resamples=1_000)), sc.ttest_1samp(x, 0.0)
    low, high = student.confidence_interval(0.95)
    assert found.method == "bca"
    assert found.low <= low + 1e-9
    assert found.high >= high - 1e-9
    assert found.p >= student.pvalue * (1 - 1e-9)


def test_identical_arms_differ_by_exactly_zero():
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(30), 4)
    for reduce in (base.mean, base.median, base.psnr):
        rows = rng.random(120)
        a, b = (replicate(rows, index=index, reduce=reduce) for _ in range(2))
        found = stats.interval(a.minus(b))
        assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
        assert not a.minus(b).draws.any()


def test_a_constant_difference_has_no_width():
    x = np.random.default_rng(0).standard_normal(40) * 1e3
    found = stats.interval(replicate(x + 0.1).minus(replicate(x)))
    assert found.value == pytest.approx(0.1)
    assert found.low == found.high == found.value
    assert found.p == 0.0


def test_pairing_finds_what_two_separate_samples_miss():
    """Correlation 0.9 between arms, 100 items, a true difference of 0.2."""
    rng, found, missed = np.random.default_rng(7), 0, 0
    for _ in range(60):
        shared = rng.standard_normal(100)
        a, b = (math.sqrt(0.9) * shared + math.sqrt(0.1) * rng.standard_normal(100) for _ in range(2))
        paired = stats.interval(replicate(a + 0.2, resamples=1_000).minus(replicate(b, resamples=1_000)))
        found += paired.low > 0
        missed += sc.ttest_ind(a + 0.2, b, equal_var=False).pvalue > 0.05
    assert found >= 57
    assert missed >= 40


def test_a_cluster_is_resampled_whole():
    x = np.random.default_rng(0).standard_normal(30)
    copies = np.repeat(x, 8)
    once, eight = stats.interval(replicate(x)), stats.interval(replicate(copies, index=np.repeat(np.arange(30), 8)))
    np.testing.assert_allclose([once.low, once.high, once.p], [eight.low, eight.high, eight.p], rtol=1e-9)
    assert stats.interval(replicate(copies)).se < 0.4 * once.se


def test_any_reducer_agrees_with_the_short_cut_for_sums():
    rng = np.random.default_rng(0)
    index = np.sort(rng.integers(0, 25, 100))  # clusters of unequal size
    index = np.unique(index, return_inverse=True)[1]
    rows = rng.uniform(1, 2, (100, 2))
    short = replicate(rows, index=index, reduce=base.ratio)
    long = replicate(rows, index=index, reduce=lambda r, w: base.ratio(r, w))
    np.testing.assert_allclose(long.draws, short.draws, rtol=1e-12)
    np.testing.assert_allclose(long.left_out, short.left_out, rtol=1e-12)
    assert long.value == pytest.approx(short.value)
    assert stats.interval(long).se == pytest.approx(stats.interval(short).se, rel=0.05)  # bootstrap and jackknife
    slow = replicate(rows, index=index, reduce=base.plain(lambda r: float(np.median(r[:, 0]))), resamples=50)
    np.testing.assert_array_equal(slow.draws, replicate(rows, index=index, reduce=base.median, resamples=50).draws)


def test_a_metric_that_is_not_finite_on_a_resample_says_so():
    rows = np.array([[1.0, 1.0]] + [[0.0, 0.0]] * 9)
    with pytest.raises(ValueError, match="not finite on resamples"):
        replicate(rows, reduce=base.ratio)


def test_a_set_metric_resamples_the_reference_too_and_alike_in_both_arms():
    rng = np.random.default_rng(0)
    a, there = rng.standard_normal((40, 3)), rng.standard_normal((60, 3))
    b = a + 0.3 * rng.standard_normal((40, 3)) + 0.4
    draws, other = stats.draw(names(40), 200), stats.draw([f"reference {i}" for i in range(60)], 200)
    held = there, np.arange(60), other
    one, two = (stats.replicate(base.frechet, x, np.arange(40), draws, held) for x in (a, b))
    again = stats.replicate(base.frechet, a, np.arange(40), draws, held)
    assert stats.interval(one.minus(again)).pair == [0.0, 0.0]
    fixed = [base.frechet(x, block.astype(float), there, np.ones((1, 60))) for x in (a,) for block in draws.blocks()]
    assert one.draws.std() > 1.1 * np.concatenate(fixed).std()  # the reference adds its own uncertainty
    assert two.minus(one).draws.std() < 0.8 * math.hypot(one.draws.std(), two.draws.std())  # and much of it cancels
    assert stats.interval(two.minus(one)).low > 0


# Shares


def test_a_share_of_many_independent_rows_has_wilsons_interval():
    x = (np.arange(4_000) % 5 == 0) * 1.0
    expected = sc.binomtest(800, 4_000).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose(stats.proportion(x, np.arange(4_000), 4_000).pair, expected, atol=2e-5)
    mixed = np.random.default_rng(0).permutation(x)
    np.testing.assert_allclose(stats.proportion(mixed, np.arange(4_000) // 4, 1_000).pair, expected, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_none_or_all_has_a_sensible_interval(value):
    found = stats.proportion(np.full(30, value), np.arange(30), 30)
    assert found.value == value
    assert found.low >= 0
    assert found.high <= 1
    assert 0.05 < found.high - found.low < 0.2


def test_seeds_that_agree_add_nothing_to_a_share():
    x = (np.random.default_rng(0).random(40) < 0.3) * 1.0
    once = stats.proportion(x, np.arange(40), 40)
    eight = stats.proportion(np.repeat(x, 8), np.repeat(np.arange(40), 8), 40)
    np.testing.assert_allclose([once.low, once.high], [eight.low, eight.high], rtol=1e-12)


# Replicas, families, power


def test_replicas_get_students_and_welchs_intervals():
    a, b = np.array([1.0, 1.2, 0.9, 1.4, 1.1]), np.array([0.8, 1.1, 0.9, 0.7, 1.0, 0.6])
    paired, one = stats.over_replicas(a - b[:5]), sc.ttest_rel(a, b[:5])
    np.testing.assert_allclose(paired.pair, one.confidence_interval(0.95), rtol=1e-9)
    assert paired.p == pytest.approx(one.pvalue)
    apart, two = stats.over_replicas(a, b), sc.ttest_ind(a, b, equal_var=False)
    np.testing.assert_allclose(apart.pair, two.confidence_interval(0.95), rtol=1e-9)
    assert apart.p == pytest.approx(two.pvalue)
    with pytest.raises(ValueError, match="at least 2"):
        stats.over_replicas([1.0])


def test_holm_by_hand():
    """Sorted 0.005 0.01 0.03 0.04, times 4 3 2 1, made monotone: 0.02 0.03 0.06 0.06."""
    np.testing.assert_allclose(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p):
    for raw, adjusted in zip(p, stats.holm(p)):
        assert raw <= adjusted <= min(1.0, len(p) * raw) or math.isclose(adjusted, min(1.0, len(p) * raw))


def test_needed_counts_clusters_by_the_root_law():
    found = stats.Interval(0.1, -0.1, 0.3, 0.1, 0.3, "bca", 100)
    assert stats.needed(found) == 400  # half-width 0.2 to 0.1
    assert stats.needed(found, margin=0.25) == 178  # 0.2 to 0.15: (4/3)^2
    assert stats.needed(found, margin=0.05) == 400  # it does not fit
    assert stats.needed(found, tests=5) == math.ceil(400 * (2.5758 / 1.96) ** 2)
    assert stats.needed(stats.Interval(1e-6, -0.1, 0.1, 0.05, 1.0, "bca", 100)) is None
    assert stats.needed(stats.Interval(0.0, -0.1, 0.1, 0.05, 1.0, "bca", 100), margin=0.05) == 400
