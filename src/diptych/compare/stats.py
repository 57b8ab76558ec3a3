"""Intervals for paired comparisons: whole clusters resampled by weights, the same weights in both arms.

One rule serves every metric from `FEWEST` clusters on. Its ends are those of a t interval, moved outwards, never inwards, to
where the bias-corrected and accelerated bootstrap (BCa) lies further out. Either alone misses its 95 %: t covers 92 % of
exponential rows at 30 clusters, BCa 91 % of heavy-tailed (t3) ones; together they cover 94 to 96 % of both
(tests/compare/test_coverage.py).

Nothing here imports torch. Arrays: R resamples, C clusters, N rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from diptych.metrics.base import OfSums

ALPHA = 0.05
FEWEST = 8  # clusters for a verdict: with 8 even a sign test survives Holm over 6 cells; below, skewed rows cover < 92 %
READABLE = 1_000  # resamples whose 2.5 % quantiles can be read; with fewer, their standard deviation is all that is used
BLOCK = 1 << 17  # counts made at a time, so that a block stays in cache
KEPT = 1 << 28  # counts kept for the next arm; more are made again from the seed


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; low and high are None where one cluster says nothing.

    Args:
        se: standard error.
        p: two-sided p-value of zero, from the same construction: p < 0.05 exactly where the interval excludes zero.
        method: "t", "bca" (t moved outwards by BCa), "wilson", "replica-t" or "none".
        clusters: how many independent pieces it rests on.
    """

    value: float
    low: float | None
    high: float | None
    se: float | None
    p: float | None
    method: str
    clusters: int

    @property
    def pair(self) -> list[float] | None:
        return None if self.low is None or self.high is None else [self.low, self.high]


def scaled(found: Interval, factor: float) -> Interval:
    """The interval in another unit, factor > 0 times as large."""
    low, high, se = (None if x is None else x * factor for x in (found.low, found.high, found.se))
    return replace(found, value=found.value * factor, low=low, high=high, se=se)


@dataclass(frozen=True, eq=False)
class Draws:
    """Bootstrap counts of some clusters, (R, C) in blocks: how often each cluster is drawn in each resample.

    Args:
        names: the clusters, sorted. The seed is their hash: the same clusters get the same draws in every arm, metric, run.
        resamples: R.
        kept: the blocks, if they are few enough to keep.
    """

    names: tuple[str, ...]
    resamples: int
    kept: tuple[np.ndarray, ...] = ()

    def blocks(self) -> Iterator[np.ndarray]:
        """uint8 (r, C), R rows in all, the same ones each time."""
        return iter(self.kept) if self.kept else _blocks(self.names, self.resamples)


def draw(names: Sequence[str], resamples: int) -> Draws:
    """Draws of the clusters `names` (any order, repeats allowed: one name a row will do)."""
    unique = tuple(sorted(set(names)))
    small = len(unique) * resamples <= KEPT
    return Draws(unique, resamples, tuple(_blocks(unique, resamples)) if small else ())


def _blocks(names: tuple[str, ...], resamples: int) -> Iterator[np.ndarray]:
    seed = hashlib.blake2b("\n".join(names).encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.SFC64(int.from_bytes(seed, "little")))
    count, most = len(names), max(1, BLOCK // len(names))
    for start in range(0, resamples, 32 * most):
        rows = min(32 * most, resamples - start)
        bits = rng.bit_generator.random_raw(-(-rows * count // 4)).view(np.uint16)[: rows * count].reshape(rows, count)
        for first in range(0, rows, most):
            yield _counts(bits[first : first + most], rng)


def _counts(bits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multinomial counts, uint8 (R, C), each row summing to C, from 16 random bits a count.

    Throwing C balls one by one costs one random index a ball. Independent Poisson counts are multinomial given their sum, and
    balls may be added to a multinomial; so most balls come as Poisson counts with a mean a little below one, by comparing the
    bits with the cumulative probabilities, and only the missing ones (about 2 sqrt(C) a row) are thrown. Rows that overshoot
    are thrown afresh. The 16 bits leave the clusters exchangeable and the counts' variance true to 1e-5.
    """
    clusters = bits.shape[1]
    steps = np.rint(special.pdtr(np.arange(12), max(0.0, 1.0 - 2.0 / math.sqrt(clusters))) * 65536.0)
    counts, more = np.zeros(bits.shape, np.uint8), np.empty(bits.shape, np.bool_)
    for step in steps[steps < 65536]:
        counts += np.greater_equal(bits, np.uint16(step), out=more).view(np.uint8)
    missing = clusters - counts.sum(axis=1, dtype=np.uint32).astype(np.int64)
    counts[missing < 0] = 0
    missing[missing < 0] = clusters
    where = np.repeat(np.arange(len(counts)) * clusters, missing)
    where += rng.integers(clusters, size=len(where))
    np.add.at(counts.reshape(-1), where, np.uint8(1))
    return counts


@dataclass(frozen=True, eq=False)
class Replicates:
    """A statistic as it is, in every resample, and with each cluster left out; differences and averages act on all three.

    Args:
        value: on the rows as they are. draws: (R,). left_out: (C,), or None for set metrics.
        smooth: a smooth function of sums, whose jackknife standard error can be trusted.
        scale: magnitude of what was subtracted, for telling rounding from a difference.
        clusters: C; for set metrics the smaller of the two sides.
    """

    value: float
    draws: np.ndarray
    left_out: np.ndarray | None
    smooth: bool
    scale: float
    clusters: int

    def minus(self, other: Replicates) -> Replicates:
        """The paired difference; both must rest on the same draws. Differences within rounding are exactly 0."""
        scale, left = max(self.scale, other.scale), None
        if self.left_out is not None and other.left_out is not None:
            left = _settled(self.left_out - other.left_out, scale)
        return Replicates(
            float(_settled(np.array(self.value - other.value), scale)),
            _settled(self.draws - other.draws, scale),
            left,
            self.smooth and other.smooth,
            scale,
            self.clusters,
        )


def _settled(difference: np.ndarray, scale: float) -> np.ndarray:
    return np.where(np.abs(difference) <= 1e-13 * scale, 0.0, difference)


def average(parts: Sequence[Replicates]) -> Replicates:
    """The mean over the replicas of one recipe, on the same draws."""
    if len(parts) == 1:
        return parts[0]
    left = [part.left_out for part in parts if part.left_out is not None]
    return Replicates(
        float(np.mean([part.value for part in parts])),
        np.mean([part.draws for part in parts], axis=0),
        np.mean(left, axis=0) if len(left) == len(parts) else None,
        all(part.smooth for part in parts),
        max(part.scale for part in parts),
        parts[0].clusters,
    )


Reduce = Callable[..., np.ndarray]
Reference = tuple[np.ndarray, np.ndarray, Draws]


def replicate(
    reduce: Reduce, rows: np.ndarray, index: np.ndarray, draws: Draws, reference: Reference | None = None
) -> Replicates:
    """A metric's value on every resample.

    Args:
        reduce: see `diptych.metrics.base`.
        rows: (N, k). index: each row's cluster, a position in `draws.names`, (N,).
        reference: rows, index and draws (as many resamples) of the reference set, for `against="set"` metrics.

    Raises:
        ValueError: a resample on which the metric is not finite.
    """
    count = len(draws.names)
    if reference is not None:
        value, drawn, left = *_against_set(reduce, rows, index, draws, reference), None
    elif isinstance(reduce, OfSums):
        terms = reduce.terms(rows)
        sums = np.stack([np.bincount(index, column, count) for column in terms.T], axis=1)
        value = reduce.finish(sums.sum(axis=0, keepdims=True))
        drawn = reduce.finish(np.concatenate([block.astype(np.float64) @ sums for block in draws.blocks()]))
        left = reduce.finish(sums.sum(axis=0) - sums) if count > 1 else None
    else:
        value = reduce(rows, np.ones((1, len(rows))))
        drawn = np.concatenate([reduce(rows, block[:, index].astype(np.float64)) for block in draws.blocks()])
        left = _left_out(reduce, rows, index, count) if count > 1 else None
    for what, numbers in (("the rows as they are", value), ("resamples", drawn), ("rows with one cluster left out", left)):
        if numbers is not None and not np.isfinite(numbers).all():
            bad = int((~np.isfinite(numbers)).sum())
            raise ValueError(
                f"the reducer is not finite on {what} ({bad} of {numbers.size}); is a denominator zero on some items?"
            )
    count = count if reference is None else min(count, len(reference[2].names))
    return Replicates(float(value[0]), drawn, left, isinstance(reduce, OfSums), float(abs(value[0])), count)


def _left_out(reduce: Reduce, rows: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    step = max(1, BLOCK // len(rows))
    parts = [np.arange(start, min(start + step, count)) for start in range(0, count, step)]
    return np.concatenate([reduce(rows, (index[None] != part[:, None]).astype(np.float64)) for part in parts])


def _against_set(
    reduce: Reduce, rows: np.ndarray, index: np.ndarray, draws: Draws, reference: Reference
) -> tuple[np.ndarray, np.ndarray]:
    there, place, other = reference
    here, held = np.concatenate(list(draws.blocks())), np.concatenate(list(other.blocks()))
    parts = np.array_split(np.arange(draws.resamples), max(1, draws.resamples * (len(rows) + len(there)) // (8 * BLOCK)))
    drawn = [
        reduce(rows, here[part][:, index].astype(np.float64), there, held[part][:, place].astype(np.float64)) for part in parts
    ]
    return reduce(rows, np.ones((1, len(rows))), there, np.ones((1, len(there)))), np.concatenate(drawn)


def interval(rep: Replicates) -> Interval:
    """The 95 % interval of a statistic or of a paired difference, see the head of this file.

    The t interval takes the jackknife's standard error (for a mean of equal clusters, exactly Student's), or the bootstrap's,
    its variance expanded by n / (n - 1), where the metric is not smooth. With fewer than `FEWEST` clusters or `READABLE`
    resamples it stands alone. Where nothing varies, the interval has no width.
    """
    n, value = rep.clusters, rep.value
    if n < 2:
        return Interval(value, None, None, None, None, "none", n)
    if rep.smooth and rep.left_out is not None:
        se = math.sqrt((n - 1) / n * float(((rep.left_out - rep.left_out.mean()) ** 2).sum()))
    else:
        se = float(rep.draws.std()) * math.sqrt(n / (n - 1))
    if se <= 1e-11 * rep.scale or se == 0.0:
        return Interval(value, value, value, 0.0, 1.0 if value == 0.0 else 0.0, "t", n)
    reach = float(special.stdtrit(n - 1, 1 - ALPHA / 2)) * se
    low, high = value - reach, value + reach
    p = 2.0 * float(special.stdtr(n - 1, -abs(value) / se))
    if n < FEWEST or len(rep.draws) < READABLE:
        return Interval(value, low, high, se, p, "t", n)
    low_b, high_b, p_b = _bca(rep)
    return Interval(value, min(low, low_b), max(high, high_b), se, max(p, p_b), "bca", n)


def _bca(rep: Replicates) -> tuple[float, float, float]:
    """BCa (Efron 1987), its normal levels expanded to Student's (Hesterberg 2015): low, high, and p of zero by inversion."""
    n, ordered = rep.clusters, np.sort(rep.draws)
    expanded = math.sqrt(n / (n - 1)) * float(special.stdtrit(n - 1, 1 - ALPHA / 2))
    low, high = bca_ends(ordered, rep, expanded)
    if rep.value == 0.0:
        return low, high, 1.0
    bias, skew = _bias(ordered, rep.value), _acceleration(rep.left_out)
    sign = 1.0 if rep.value > 0 else -1.0
    shift = (_place_of_zero(ordered) if sign > 0 else -_place_of_zero(-ordered[::-1])) - bias
    bend = 1.0 + skew * shift
    z = shift / bend - bias if bend > 0 else math.copysign(math.inf, shift)
    return low, high, min(1.0, 2.0 * float(special.stdtr(n - 1, sign * z * math.sqrt((n - 1) / n))))


def bca_ends(ordered: np.ndarray, rep: Replicates, z: float) -> tuple[float, float]:
    """Both ends of the BCa interval from sorted draws; z = 1.96 is the textbook's 95 %."""
    bias, skew = _bias(ordered, rep.value), _acceleration(rep.left_out)
    ends = []
    for end in (-z, z):
        shift = bias + end
        bend = 1.0 - skew * shift
        ends.append(_quantile(ordered, bias + shift / bend if bend > 0 else math.copysign(40.0, shift)))
    return ends[0], ends[1]


def _bias(ordered: np.ndarray, value: float) -> float:
    """z0: the normal quantile of the share of draws below the value, ties counted by half."""
    count = len(ordered)
    below = (np.searchsorted(ordered, value, "left") + np.searchsorted(ordered, value, "right")) / 2
    return float(special.ndtri(min(max(below, 1.0), count - 1.0) / count))


def _acceleration(left_out: np.ndarray | None) -> float:
    """a: a sixth of the skewness of the jackknife's values."""
    if left_out is None:
        return 0.0
    d = left_out.mean() - left_out
    spread = float((d**2).sum())
    return float((d**3).sum()) / (6.0 * spread**1.5) if spread > 0 else 0.0


def _quantile(ordered: np.ndarray, z: float) -> float:
    """Quantile of sorted draws at the normal level z: the k-th of R stands at k / (R + 1), beyond them the tail is normal."""
    count = len(ordered)
    edge = float(special.ndtri(1 / (count + 1)))
    if abs(z) > -edge:
        return float(ordered[0] + (z - edge) * ordered.std() if z < 0 else ordered[-1] + (z + edge) * ordered.std())
    place = min(max(float(special.ndtr(z)) * (count + 1) - 1.0, 0.0), count - 1.0)
    floor = min(int(place), count - 2)
    return float(ordered[floor] + (place - floor) * (ordered[floor + 1] - ordered[floor]))


def _place_of_zero(ordered: np.ndarray) -> float:
    """The inverse of `_quantile`: the normal level of zero, the highest where draws tie with it."""
    count = len(ordered)
    edge, spread = float(special.ndtri(1 / (count + 1))), float(ordered.std())
    k = int(np.searchsorted(ordered, 0.0, "right"))
    if k == 0:
        return edge - float(ordered[0]) / spread
    if k == count:
        return -edge - float(ordered[-1]) / spread
    part = -ordered[k - 1] / (ordered[k] - ordered[k - 1])
    return float(special.ndtri((k + part) / (count + 1)))


def proportion(rows: np.ndarray, index: np.ndarray, clusters: int) -> Interval:
    """Wilson's interval (1927) for a share of ones among clustered rows, sensible up to 0 and 1.

    The number of rows is replaced by an effective one: the binomial variance over the variance between clusters, the latter
    taken with one more cluster that agrees with itself fully, so that a few clusters cannot claim to be independent rows.
    The quantile is Student's. Coverage jumps with the share, as for any interval of a count: 94 to 98 % from 30 clusters on.

    Args:
        rows: 0 or 1, (N,). index: each row's cluster, (N,).
    """
    share = float(rows.mean())
    if clusters < 2:
        return Interval(share, None, None, None, None, "none", clusters)
    sizes = np.bincount(index, minlength=clusters)
    offset = (np.bincount(index, rows, clusters) - share * sizes) * clusters / len(rows)
    binomial = share * (1.0 - share)
    between = (float((offset**2).sum()) + binomial) / clusters
    effective = min(max(binomial * clusters / between, 1.0), len(rows)) if binomial > 0 else clusters
    z = float(special.stdtrit(clusters - 1, 1 - ALPHA / 2))
    centre = (share + z * z / (2 * effective)) / (1 + z * z / effective)
    reach = z / (1 + z * z / effective) * math.sqrt(binomial / effective + (z / (2 * effective)) ** 2)
    low, high = min(centre - reach, share), max(centre + reach, share)
    return Interval(share, max(low, 0.0), min(high, 1.0), math.sqrt(between / clusters), None, "wilson", clusters)


def over_replicas(values: Sequence[float], others: Sequence[float] | None = None) -> Interval:
    """t interval over training seeds: of values or paired differences, or of two different sets of seeds (Welch 1947)."""
    a = np.asarray(values, dtype=np.float64)
    b = np.zeros(0) if others is None else np.asarray(others, dtype=np.float64)
    if min(len(a), len(b) if others is not None else len(a)) < 2:
        raise ValueError(f"replicas: a t interval needs at least 2 training seeds; there are {len(a)}")
    parts = [x.var(ddof=1) / len(x) for x in (a, b) if len(x)]
    value = float(a.mean() - (b.mean() if len(b) else 0.0))
    se, count = math.sqrt(sum(parts)), min(len(x) for x in (a, b) if len(x))
    if se <= 1e-11 * float(np.abs(np.concatenate([a, b])).max()):
        return Interval(value, value, value, 0.0, 1.0 if value == 0.0 else 0.0, "replica-t", count)
    df = sum(parts) ** 2 / sum(v * v / (len(x) - 1) for v, x in zip(parts, (a, b)))
    reach = float(special.stdtrit(df, 1 - ALPHA / 2)) * se
    p = 2.0 * float(special.stdtr(df, -abs(value) / se))
    return Interval(value, value - reach, value + reach, se, p, "replica-t", count)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979), in the order given; each at most 1."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, reached = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = reached
    return adjusted


def needed(found: Interval, margin: float | None = None, tests: int = 1) -> int | None:
    """Clusters that would decide: enough to exclude zero, or to fit inside the margin, if this difference is the true one.

    The half-width shrinks as the root of the number of clusters. Excluding zero must survive Holm over `tests` cells (at worst
    Bonferroni), fitting inside the margin need not. The smaller of the two; None where it is more than ten million.
    """
    if found.low is None or found.high is None or found.high <= found.low:
        return None
    half, size = (found.high - found.low) / 2, abs(found.value)
    stricter = float(special.ndtri(1 - ALPHA / 2 / max(tests, 1)) / special.ndtri(1 - ALPHA / 2))
    ratios = [half * stricter / size if size > 0 else math.inf]
    if margin is not None and size < margin:
        ratios.append(half / (margin - size))
    count = found.clusters * min(ratios) ** 2
    return max(found.clusters + 1, math.ceil(count)) if count <= 1e7 else None
