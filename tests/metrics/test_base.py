"""Reducers against plain numpy on rows really repeated; the Frechet distance against closed forms and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from diptych.metrics import base


def repeated(rows, counts, fn):
    return np.array([fn(np.repeat(rows, row, axis=0)) for row in counts])


PLAIN = {
    "mean": lambda x: x[:, 0].mean(),
    "accuracy": lambda x: x[:, 0].mean(),
    "rms": lambda x: np.sqrt((x[:, 0] ** 2).mean()),
    "ratio": lambda x: x[:, 0].sum() / x[:, 1].sum(),
    "exp_ratio": lambda x: np.exp(x[:, 0].sum() / x[:, 1].sum()),
    "psnr": lambda x: -10 * np.log10(x[:, 0].mean()),
    "mean_psnr": lambda x: (-10 * np.log10(x[:, 0])).mean(),
    "median": lambda x: np.median(x[:, 0]),
}


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_reducers_weigh_rows_as_repeating_them_does(name, data):
    count = data.draw(st.integers(1, 12))
    seed = data.draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    columns = 1 if name == "accuracy" else 2
    rows = np.round(rng.uniform(0.05, 3.0, (count, columns)), 1)  # rounded, so that ties occur
    counts = rng.integers(0, 4, (5, count))
    counts[counts.sum(1) == 0, 0] = 1
    np.testing.assert_allclose(getattr(base, name)(rows, counts.astype(float)), repeated(rows, counts, PLAIN[name]), rtol=1e-12)


def test_plain_gives_any_function_of_rows_the_weights():
    rows, counts = np.arange(6.0)[:, None], np.array([[1, 0, 2, 0, 0, 3], [1, 1, 1, 1, 1, 1]])
    found = base.plain(lambda x: float(np.quantile(x, 0.9)))(rows, counts.astype(float))
    np.testing.assert_array_equal(found, repeated(rows, counts, lambda x: np.quantile(x, 0.9)))
    with pytest.raises(ValueError, match="not whole numbers"):
        base.plain(np.mean)(rows, counts / 2)


def test_equal_pictures_score_the_ceiling_and_not_infinity():
    rows = np.zeros((4, 1))
    assert base.psnr(rows, np.ones((1, 4))) == base.PSNR_CEILING
    assert base.mean_psnr(rows, np.ones((1, 4))) == base.PSNR_CEILING


def test_a_reducer_refuses_rows_of_the_wrong_width():
    with pytest.raises(ValueError, match=r"ratio: rows have 1 columns; it takes 2"):
        base.ratio(np.ones((3, 1)), np.ones((1, 3)))


def test_frechet_distance_of_diagonal_gaussians():
    a, b = np.array([1.0, 2.0, 0.5]), np.array([0.3, 2.5, 0.0])
    shift = np.array([0.1, -0.2, 3.0])
    found = base.frechet_distance(shift, np.diag(a**2), np.zeros(3), np.diag(b**2))
    assert found == pytest.approx(shift @ shift + ((a - b) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize("samples", [12, 200])  # fewer samples than features, and more
def test_frechet_agrees_with_the_matrix_square_root(samples):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((samples, 24)), 0.8 * rng.standard_normal((240, 24)) + 0.3
    mixed = np.cov(a.T) @ np.cov(b.T)
    shift = a.mean(0) - b.mean(0)
    expected = shift @ shift + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * np.trace(linalg.sqrtm(mixed)).real
    found = base.frechet(a, np.ones((1, samples)), b, np.ones((1, 240)))
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_frechet_of_a_set_to_itself_is_zero_and_weights_are_repeats():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((30, 5)), rng.standard_normal((20, 5))
    assert base.frechet(a, np.ones((1, 30)), a, np.ones((1, 30)))[0] == pytest.approx(0.0, abs=1e-10)
    wa, wb = rng.integers(0, 3, (4, 30)), rng.integers(0, 3, (4, 20))
    found = base.frechet(a, wa.astype(float), b, wb.astype(float))
    expected = [
        base.frechet(np.repeat(a, p, axis=0), np.ones((1, p.sum())), np.repeat(b, q, axis=0), np.ones((1, q.sum())))[0]
        for p, q in zip(wa, wb)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    fixed = base.frechet(a, wa.astype(float), b, np.ones((1, 20)))
    np.testing.assert_allclose(fixed, base.frechet(a, wa.astype(float), b, np.ones((4, 20))), rtol=1e-12)


def test_frechet_refuses_what_has_no_covariance():
    with pytest.raises(ValueError, match="at least two rows"):
        base.frechet(np.ones((1, 3)), np.ones((1, 1)), np.ones((5, 3)), np.ones((1, 5)))
    with pytest.raises(ValueError, match="3 columns, the reference 4"):
        base.frechet(np.ones((5, 3)), np.ones((1, 5)), np.ones((5, 4)), np.ones((1, 5)))


def test_check_rows_names_the_metric_the_arm_and_the_unit():
    with pytest.raises(ValueError, match=r"metric 'psnr', arm 'euler': cat#1 is nan \(1 of 2 rows"):
        base.check_rows(np.array([1.0, np.nan]), ["cat#0", "cat#1"], "psnr", "euler")
    with pytest.raises(ValueError, match=r"shape \(3,\) for 2 rows"):
        base.check_rows(np.ones(3), ["a#0", "b#0"], "psnr")
    assert base.check_rows([1, 2], ["a#0", "b#0"], "psnr").shape == (2, 1)
