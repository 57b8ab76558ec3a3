"""Reducers: from a table of rows and resampling weights to one number a resample.

A reducer is `reduce(rows, weights) -> (R,)` with rows (N, k) float64 and weights (R, N) >= 0: how often each row counts in each
of R resamples. Weights of one give the point estimate. The non-linear part of a metric (a root, a logarithm, a ratio of sums)
lives here and not in its rows, so that a resample goes through it too.

Most reducers are smooth functions of weighted sums (`OfSums`). The statistics know it: they add the rows up by cluster first,
which turns ten thousand resamples into one small matrix product, and they may trust the jackknife.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PSNR_CEILING = 100.0  # dB; two equal pictures score this, not infinity


@dataclass(frozen=True)
class OfSums:
    """A smooth function of weighted sums: `finish(weights @ prepare(rows))`.

    Args:
        name: what messages call it.
        columns: columns the rows must have; 0 = any, column 0 is used.
        prepare: rows (N, k) -> (N, m), what is summed.
        finish: weighted sums (R, m) -> (R,).
    """

    name: str
    columns: int
    prepare: Callable[[np.ndarray], np.ndarray]
    finish: Callable[[np.ndarray], np.ndarray]

    def terms(self, rows: np.ndarray) -> np.ndarray:
        """What is summed, (N, m).

        Raises:
            ValueError: rows with another number of columns than the reducer takes.
        """
        if self.columns and rows.shape[1] != self.columns:
            raise ValueError(f"reduce {self.name}: rows have {rows.shape[1]} columns; it takes {self.columns}")
        return self.prepare(rows)

    def __call__(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return self.finish(weights @ self.terms(rows))


def _with_count(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows[:, 0], np.ones(len(rows))], axis=1)


def _decibels(squared_error: np.ndarray) -> np.ndarray:
    return -10.0 * np.log10(np.maximum(squared_error, 10.0 ** (-PSNR_CEILING / 10.0)))


def _with_count_db(rows: np.ndarray) -> np.ndarray:
    return np.stack([_decibels(rows[:, 0]), np.ones(len(rows))], axis=1)


def _with_count_square(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows[:, 0] ** 2, np.ones(len(rows))], axis=1)


def _as_is(rows: np.ndarray) -> np.ndarray:
    return rows


def _quotient(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def _root_quotient(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(_quotient(sums))


def _exp_quotient(sums: np.ndarray) -> np.ndarray:
    return np.exp(_quotient(sums))


def _decibel_quotient(sums: np.ndarray) -> np.ndarray:
    return _decibels(_quotient(sums))


mean = OfSums("mean", 0, _with_count, _quotient)
"""Weighted mean of column 0: the default."""

accuracy = OfSums("accuracy", 1, _with_count, _quotient)
"""Share of rows that are 1; rows hold 0 or 1 (or a score between)."""

rms = OfSums("rms", 0, _with_count_square, _root_quotient)
"""Root of the weighted mean square of column 0."""

ratio = OfSums("ratio", 2, _as_is, _quotient)
"""Sum of column 0 over the sum of column 1: a mean per token, per step, per second."""

exp_ratio = OfSums("exp_ratio", 2, _as_is, _exp_quotient)
"""Perplexity: rows are (negative log-likelihood in nats, tokens)."""

psnr = OfSums("psnr", 0, _with_count, _decibel_quotient)
"""PSNR of the whole set [dB]: rows are mean squared errors at data range 1; the logarithm of their mean."""

mean_psnr = OfSums("mean_psnr", 0, _with_count_db, _quotient)
"""Mean of the rows' own PSNRs [dB]: rows are mean squared errors at data range 1."""


def median(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted median of column 0; with whole weights, the median of the rows so often repeated. (R,)"""
    order = np.argsort(rows[:, 0], kind="stable")
    values = rows[order, 0]
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2.0
    below = np.argmax(reached >= half, axis=1)
    above = np.argmax(reached > half, axis=1)
    return (values[below] + values[above]) / 2.0


@dataclass(frozen=True)
class Plain:
    """A user's `fn(rows) -> float` as a reducer, see `plain`."""

    fn: Callable[[np.ndarray], float]

    def __call__(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        times = np.rint(weights).astype(np.int64)
        if not np.array_equal(times, weights):
            raise ValueError("reduce plain: weights are not whole numbers; write a reducer that takes weights")
        return np.array([float(self.fn(np.repeat(rows, row, axis=0))) for row in times])


def plain(fn: Callable[[np.ndarray], float]) -> Plain:
    """Make a reducer of `fn(rows) -> float` by repeating rows as often as they were drawn. Slow: one call a resample."""
    return Plain(fn)


def _moments(features: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean (d,) and unbiased covariance (d, d) of features (n, d); weights count whole rows."""
    used = weight > 0
    features, weight = features[used], weight[used]
    total = weight.sum()
    centre = weight @ features / total
    offset = (features - centre) * np.sqrt(weight)[:, None]
    return centre, offset.T @ offset / (total - 1.0)


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians.

    Dowson and Landau 1982: |m_a - m_b|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2)), all roots by symmetric eigenvalues, so
    that singular covariances (fewer samples than features) are no special case. Zero, up to rounding, for equal arguments;
    never negative.

    Args:
        mean_a: (d,). cov_a: (d, d), symmetric, positive semi-definite. The same for b.
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = root @ cov_b @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((cross + cross.T) / 2.0), 0.0)).sum()
    shift = mean_a - mean_b
    return max(0.0, float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2.0 * shared))


def frechet(rows: np.ndarray, weights: np.ndarray, reference_rows: np.ndarray, reference_weights: np.ndarray) -> np.ndarray:
    """Squared Frechet distance of weighted features to a weighted reference set, for `against="set"` metrics. (R,)

    The plug-in estimate is biased upwards by finite sets (Chong and Forsyth 2020); a difference of two arms with the same
    number of rows against the same reference is nearly free of it, a single value is not.

    Args:
        rows: features, (N, d). weights: (R, N).
        reference_rows: features, (M, d). reference_weights: (R, M), or (1, M) for a reference that is not resampled.

    Raises:
        ValueError: features of two widths, or fewer than two rows on a side.
    """
    if rows.shape[1] != reference_rows.shape[1]:
        raise ValueError(f"reduce frechet: features have {rows.shape[1]} columns, the reference {reference_rows.shape[1]}")
    if len(rows) < 2 or len(reference_rows) < 2:
        raise ValueError("reduce frechet: a covariance needs at least two rows on each side")
    fixed = _moments(reference_rows, reference_weights[0]) if len(reference_weights) == 1 else None
    out = np.empty(len(weights))
    for i, weight in enumerate(weights):
        there = fixed or _moments(reference_rows, reference_weights[i])
        out[i] = frechet_distance(*there, *_moments(rows, weight))
    return out


def check_rows(rows: np.ndarray, names: Sequence[str], metric: str, arm: str = "") -> np.ndarray:
    """Rows as (N, k) float64, or an error that names what is wrong.

    Args:
        rows: (N,) or (N, k) numbers.
        names: what each row belongs to (unit keys or items), for the message.
        metric: the metric that made them. arm: the arm they were made of.

    Raises:
        ValueError: another number of rows than names, another shape, or a value that is not finite.
    """
    where = f"metric {metric!r}" + (f", arm {arm!r}" if arm else "")
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or len(table) != len(names) or table.shape[1] == 0:
        raise ValueError(f"{where}: rows have shape {np.shape(rows)} for {len(names)} rows; return (N, k)")
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        value = table[bad[0]][~np.isfinite(table[bad[0]])][0]
        raise ValueError(
            f"{where}: {names[bad[0]]} is {value} ({len(bad)} of {len(table)} rows are not finite); mend the sample or "
            "let the metric say what such a row counts as"
        )
    return table
