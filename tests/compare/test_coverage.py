"""Do nominal 95 % intervals cover 95 %? Simulated, with fixed seeds, for the rows that comparisons really have.

The default suite runs a part of the grid with few repetitions and so can only catch gross failures; `pytest -m slow` runs all
of it. Bounds are 93 % and 97 %, widened by 2.6 binomial standard errors of the repetitions.
"""

import math

import numpy as np
import pytest
from scipy import special

from diptych.compare import stats
from diptych.metrics import base

LOW, HIGH = 0.93, 0.97


def rows_of(kind: str, clusters: int, seeds: int, agreement: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Rows (clusters, seeds) of a Gaussian copula with correlation `agreement` within a cluster, and their true mean."""
    shared, own = rng.standard_normal((clusters, 1)), rng.standard_normal((clusters, seeds))
    z = math.sqrt(agreement) * shared + math.sqrt(1 - agreement) * own
    u = np.clip(special.ndtr(z), 1e-14, 1 - 1e-14)
    if kind == "gaussian":
        return z, 0.0
    if kind == "exponential":
        return -np.log1p(-u), 1.0
    if kind == "lognormal":
        return np.exp(0.5 * z), math.exp(0.125)
    if kind == "t3":
        return special.stdtrit(3, u), 0.0
    if kind.startswith("share"):
        share = float(kind.split()[1])
        return (u < share) * 1.0, share
    better, worse = map(float, kind.split()[1:])  # paired 0/1 outcomes that differ, "differ P(+1) P(-1)"
    return (u < better) * 1.0 - (u > 1 - worse), better - worse


def coverage(kind: str, clusters: int, seeds: int, agreement: float, repeats: int, *, by_row: bool = False) -> float:
    """Share of simulated intervals that hold the truth. by_row: resample rows as if they were independent."""
    rng = np.random.default_rng(20_26)
    index = np.arange(clusters * seeds) if by_row else np.repeat(np.arange(clusters), seeds)
    draws = stats.draw([f"{i:06d}" for i in range(index[-1] + 1)], 2_000)
    hits = 0
    for _ in range(repeats):
        rows, truth = rows_of(kind, clusters, seeds, agreement, rng)
        if kind.startswith("share"):
            found = stats.proportion(rows.ravel(), index, index[-1] + 1)
        else:
            found = stats.interval(stats.replicate(base.mean, rows.reshape(-1, 1), index, draws))
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    return hits / repeats


def assert_near(share: float, repeats: int, low: float = LOW, high: float = HIGH) -> None:
    slack = 2.6 * math.sqrt(0.05 * 0.95 / repeats)
    assert low - slack <= share <= high + slack, f"covers {share:.3f} of {repeats}"


KINDS = ("gaussian", "exponential", "lognormal", "t3", "differ 0.2 0.1", "differ 0.1 0.1", "share 0.5", "share 0.8")


@pytest.mark.parametrize("kind", KINDS)
def test_covers_at_30_clusters(kind):
    assert_near(coverage(kind, 30, 4, 0.5, repeats=700), 700)


@pytest.mark.parametrize("clusters", [8, 15])
def test_small_gaussian_samples_cover(clusters):
    assert_near(coverage("gaussian", clusters, 2, 0.3, repeats=700), 700, high=0.98)


def test_resampling_rows_undercovers_and_resampling_items_does_not():
    """40 prompts x 8 seeds, correlation 0.5 within a prompt: rows are not independent."""
    assert coverage("gaussian", 40, 8, 0.5, repeats=300, by_row=True) < 0.80
    assert coverage("gaussian", 40, 8, 0.5, repeats=300) > 0.91


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [30, 60, 150])
@pytest.mark.parametrize(("seeds", "agreement"), [(1, 0.0), (4, 0.3), (8, 0.1), (8, 0.7)])
@pytest.mark.parametrize("kind", [*KINDS, "share 0.3", "differ 0.3 0.3"])
def test_covers_everywhere(kind, seeds, agreement, clusters):
    repeats = 2_000
    # A share of whole rows jumps between samples: exact coverage of any interval swings by a point or so around its mean.
    slack = 0.01 if kind.startswith(("share", "differ")) else 0.0
    assert_near(coverage(kind, clusters, seeds, agreement, repeats), repeats, LOW - slack, HIGH + slack)


@pytest.mark.slow
def test_the_difference_of_two_frechet_distances_is_covered():
    """8 features, 256 samples, arms of correlation 0.9 apart by 0.15 a feature: the bias of finite sets cancels."""
    rng, hits, repeats = np.random.default_rng(0), 0, 100
    draws, other = (stats.draw([f"{side} {i}" for i in range(256)], 200) for side in ("item", "reference"))
    index = np.arange(256)
    for _ in range(repeats):
        a, there, own = rng.standard_normal((3, 256, 8))
        b = math.sqrt(0.9) * a + math.sqrt(0.1) * own + 0.15
        one, two = (stats.replicate(base.frechet, x, index, draws, (there, index, other)) for x in (a, b))
        found = stats.interval(two.minus(one))
        hits += found.low <= 8 * 0.15**2 <= found.high
    assert_near(hits / repeats, repeats)
