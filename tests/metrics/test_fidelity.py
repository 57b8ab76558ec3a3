"""Drift metrics: known answers, frozen reference values, order of damage, and what they refuse."""

import numpy as np
import pytest
from scipy import ndimage

from diptych.metrics import base, fidelity
from diptych.study import Samples, Unit

FROZEN_NOISY = [0.744485622, 0.726556831, 0.74461574]
FROZEN_SHIFTED = [0.604838006, 0.63794906, 0.581485251]


def scene(count=3, side=32, seed=5):
    """Smooth random colour pictures, (count, side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((count, side, side, 3)), (0, 2, 2, 0), mode="wrap")
    return np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)


def shifted(pictures, by):
    return np.roll(pictures, by, axis=2)


def samples(pictures, name="image"):
    return Samples(tuple(Unit(f"i{n}") for n in range(len(pictures))), {name: pictures})


def value(metric, mine, reference):
    rows = metric.rows(mine, reference)
    reduce = metric.reduce or base.mean
    return float(reduce(rows, np.ones((1, len(rows))))[0])


def test_psnr_known_answer():
    zeros = np.zeros((2, 16, 16, 3), np.uint8)
    metric = fidelity.psnr()
    offset = samples(np.full_like(zeros, 51))  # 51/255 = 0.2: mean squared error 0.04
    assert metric.rows(offset, samples(zeros)) == pytest.approx(np.full((2, 1), 0.04))
    assert value(metric, offset, samples(zeros)) == pytest.approx(10 * np.log10(25))


def test_psnr_averages_errors_not_decibels_and_caps_identical_pictures():
    zeros = np.zeros((2, 16, 16, 3), np.uint8)
    half = zeros.copy()
    half[1] = 51
    metric = fidelity.psnr()
    assert value(metric, samples(half), samples(zeros)) == pytest.approx(10 * np.log10(50))
    assert value(metric, samples(zeros), samples(zeros)) == base.PSNR_CEILING
    rows = metric.rows(samples(half), samples(zeros))
    assert metric.reduce is base.psnr
    per_resample = base.psnr(rows, np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    assert per_resample == pytest.approx([100.0, 10 * np.log10(25), 10 * np.log10(50)])


def test_ssim_matches_frozen_scikit_image_values():
    """scikit-image 0.26: gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1."""
    clean = scene()
    rng = np.random.default_rng(11)
    noisy = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
    assert fidelity.structural_similarity(noisy, clean) == pytest.approx(FROZEN_NOISY, abs=1e-5)
    assert fidelity.structural_similarity(shifted(clean, 2), clean) == pytest.approx(FROZEN_SHIFTED, abs=1e-5)


def test_ssim_matches_scikit_image_where_installed():
    skimage = pytest.importorskip("skimage.metrics")
    clean = scene(2, 40, seed=9)
    moved = shifted(clean, 1)
    expected = [
        skimage.structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=255
        )
        for a, b in zip(moved, clean)
    ]
    assert fidelity.structural_similarity(moved, clean) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("make", [fidelity.psnr, fidelity.ssim])
def test_more_damage_scores_worse(make):
    clean = scene()
    metric = make()
    scores = [value(metric, samples(shifted(clean, by)), samples(clean)) for by in range(5)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 5
    assert metric.better == "higher"
    assert metric.against == "baseline"


@pytest.mark.parametrize("make", [fidelity.psnr, fidelity.ssim])
def test_rows_follow_their_units_whatever_the_company(make):
    clean, moved = scene(fidelity.CHUNK + 3, 16), shifted(scene(fidelity.CHUNK + 3, 16), 1)
    metric = make()
    whole = metric.rows(samples(moved), samples(clean))
    order = samples(clean).units[::-1]
    assert np.array_equal(metric.rows(samples(moved).take(order), samples(clean).take(order)), whole[::-1])
    last = order[:1]
    assert np.array_equal(metric.rows(samples(moved).take(last), samples(clean).take(last)), whole[-1:])


def test_relative_error_known_answer_and_scale():
    field = np.arange(1.0, 13.0).reshape(2, 2, 3)
    metric = fidelity.relative_error("omega")
    for factor, expected in ((1.0, 0.0), (1.1, 0.1), (-1.0, 2.0)):
        rows = metric.rows(samples(field * factor, "omega"), samples(field, "omega"))
        assert rows == pytest.approx(np.full((2, 1), expected))
    assert metric.name == "relative_error_omega"
    assert metric.better == "lower"


def test_relative_error_passes_nan_on_for_its_own_unit_alone():
    field = np.ones((3, 4))
    broken = field * 1.5
    broken[1, 2] = np.nan
    rows = fidelity.relative_error("omega").rows(samples(broken, "omega"), samples(field, "omega"))
    assert np.isnan(rows[:, 0]).tolist() == [False, True, False]
    assert rows[[0, 2], 0] == pytest.approx([0.5, 0.5])


def test_refusals_say_what_is_wrong():
    a, b = samples(scene(2)), samples(scene(3))
    with pytest.raises(ValueError, match="needs a reference"):
        fidelity.psnr().rows(a, None)
    with pytest.raises(ValueError, match="different units"):
        fidelity.psnr().rows(a, b)
    with pytest.raises(ValueError, match="resize one arm"):
        fidelity.ssim().rows(a, samples(scene(2, side=40)))
    with pytest.raises(ValueError, match="smaller than the 11x11 window"):
        fidelity.ssim().rows(samples(scene(1, 8)), samples(scene(1, 8)))
    with pytest.raises(ValueError, match="picture='imgae'"):
        fidelity.psnr("imgae").rows(a, a)
    with pytest.raises(ValueError, match="hold no pictures"):
        fidelity.psnr().rows(samples(np.ones((2, 4)), "omega"), samples(np.ones((2, 4)), "omega"))
    with pytest.raises(ValueError, match="zero or NaN for unit i0#0"):
        fidelity.relative_error("w").rows(samples(np.ones((1, 4)), "w"), samples(np.zeros((1, 4)), "w"))
    with pytest.raises(ValueError, match="array='w' is not in the samples"):
        fidelity.relative_error("w").rows(a, a)
