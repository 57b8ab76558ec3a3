"""Spectral bias, coherence and amplitude on fields whose answers are known: gains, noise of known variance, random phases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_fields import GRID, ZONES, band_gain, truth_fields, value, white

from diptych.metrics.field import gap, shell_power, shell_products, zone_amplitude, zone_coherence
from diptych.metrics.structure import band_kurtosis
from diptych.metrics.zone_bias import LOST, retained_power, zone_bias, zone_error
from diptych.physics.random_fields import phase_randomised
from diptych.physics.shells import SpectralGrid, filtered
from diptych.physics.zones import Zones


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_pure_gain_is_its_bias_and_leaves_the_phases(factor: float) -> None:
    truth = truth_fields()
    model = filtered(truth, band_gain("DD", factor), GRID)
    for form in ("paired", "ratio"):
        bias = value(zone_bias(GRID, ZONES, "DD", form), model, truth)
        assert bias == pytest.approx(2 * np.log10(factor), abs=1e-12)
    assert value(zone_bias(GRID, ZONES, "IR"), model, truth) == pytest.approx(0.0, abs=1e-12)
    assert value(retained_power(GRID, ZONES, "DD"), model, truth) == pytest.approx(100 * factor**2)
    assert value(zone_error(GRID, ZONES, "DD"), model, truth) == pytest.approx(abs(2 * np.log10(factor)), abs=1e-12)
    assert value(zone_coherence(GRID, ZONES, "DD"), model, truth) == pytest.approx(1.0)
    assert value(zone_amplitude(GRID, ZONES, "DD"), model, truth) == pytest.approx(factor)


def test_random_phases_keep_the_power_and_lose_the_coherence() -> None:
    truth = truth_fields()
    model = phase_randomised(truth, white(40, 32, 32, seed=7), GRID)
    for zone in ZONES.names:
        assert value(zone_bias(GRID, ZONES, zone), model, truth) == pytest.approx(0.0, abs=1e-10)
        assert abs(value(zone_coherence(GRID, ZONES, zone), model, truth)) < 0.1
    assert value(zone_coherence(GRID, ZONES, "DD"), -truth, truth) == pytest.approx(-1.0)


def test_white_noise_of_known_variance_gives_the_predicted_bias_and_coherence() -> None:
    truth, sigma = truth_fields(400), 0.02
    model = truth + sigma * white(400, 32, 32, seed=8)
    noise = sigma**2 / GRID.points  # power a mode
    for zone in ZONES.names:
        shells = ZONES.shells(zone)
        mean = shell_power(truth[:, None], GRID)[:, shells].mean(0)
        found = value(zone_bias(GRID, ZONES, zone, "ratio"), model, truth)
        assert found == pytest.approx(np.log10(1 + noise / mean).mean(), abs=0.006)
        total = (mean * GRID.counts[shells]).sum()
        coherent = np.sqrt(total / (total + noise * GRID.counts[shells].sum()))
        assert value(zone_coherence(GRID, ZONES, zone), model, truth) == pytest.approx(coherent, abs=0.006)


def test_the_truth_scores_zero_but_for_the_floor_of_the_log_form() -> None:
    """Jensen: of log-normal power whose logarithm has variance s^2 the floor is -(s^2 / 2) / ln 10; here s = 1."""
    a, b = truth_fields(2000), truth_fields(2000, seed=1)
    for against in ("truth", "set"):
        ratio = value(zone_bias(GRID, ZONES, "DD", "ratio", against), a, b)
        log = value(zone_bias(GRID, ZONES, "DD", "log", against), a, b)
        assert abs(ratio) < 0.03
        assert log == pytest.approx(-0.5 / np.log(10), abs=0.05)
    assert value(zone_bias(GRID, ZONES, "DD"), a, a) == 0.0


def test_forms_differ_as_they_say() -> None:
    """By hand, from the powers of two fields."""
    truth, model = truth_fields(2), truth_fields(2, seed=3)
    shells = ZONES.shells("DO")
    p, t = (shell_power(x[:, None], GRID)[:, shells] for x in (model, truth))
    expected = {
        "paired": np.log10(p / t).mean(),
        "log": (np.log10(p).mean(0) - np.log10(t.mean(0))).mean(),
        "ratio": np.log10(p.mean(0) / t.mean(0)).mean(),
    }
    for form, wanted in expected.items():
        assert value(zone_bias(GRID, ZONES, "DO", form), model, truth) == pytest.approx(wanted)
    for form in ("log", "ratio"):
        assert value(zone_bias(GRID, ZONES, "DO", form, "set"), model, truth) == pytest.approx(expected[form])


def test_power_that_is_gone_counts_as_a_bound_and_stays_finite() -> None:
    truth = truth_fields(4)
    for form, against in (("paired", "truth"), ("log", "truth"), ("ratio", "truth"), ("log", "set"), ("ratio", "set")):
        found = value(zone_bias(GRID, ZONES, "DD", form, against), torch.zeros_like(truth), truth)
        assert np.log10(LOST) - 1.0 < found <= np.log10(LOST) + 1.0
    assert value(zone_coherence(GRID, ZONES, "DD"), torch.zeros_like(truth), truth) == 0.0


def test_shell_products_are_the_sums_over_a_two_sided_transform() -> None:
    a, b = truth_fields(2), truth_fields(2, seed=5)
    found = shell_products(a[:, None], b[:, None], GRID)
    k = np.fft.fftfreq(32, 1 / 32)
    shell = np.floor(np.hypot(k[:, None], k) + 0.5)
    x, y = (np.fft.fft2(one[1].numpy()) / 32**2 for one in (a, b))
    for j in (0, 3, 9):
        inside = shell == j
        expected = [(x * y.conj()).real[inside].sum(), (abs(x) ** 2)[inside].sum(), (abs(y) ** 2)[inside].sum()]
        assert found[1, :, j] == pytest.approx(expected)


def test_channels_are_added_up() -> None:
    truth = torch.stack([truth_fields(6), truth_fields(6, seed=2)], 1)
    model = truth.clone()
    model[:, 1] = 0.0
    powers = [shell_power(truth[:, i : i + 1], GRID)[:, 8:11] for i in (0, 1)]
    assert value(zone_bias(GRID, ZONES, "DD"), model, truth) == pytest.approx(np.log10(powers[0] / sum(powers)).mean())


def test_windowed_and_one_dimensional_fields_have_the_same_answers() -> None:
    for grid in (SpectralGrid((64,), periodic=False), SpectralGrid((32, 24), (0.1, 0.2), periodic=(True, False), window="dct")):
        zones = Zones.fractions(grid, (0.2, 0.6, 1.0), ("low", "high"))
        truth = white(30, *grid.shape)
        assert value(zone_bias(grid, zones, "high"), 0.1 * truth, truth) == pytest.approx(-2.0)
        assert value(zone_coherence(grid, zones, "high"), 0.1 * truth, truth) == pytest.approx(1.0)
        other = white(30, *grid.shape, seed=1)
        assert abs(value(zone_coherence(grid, zones, "high"), other, truth)) < 0.1


def test_gap_is_the_relative_distance_of_pooled_statistics() -> None:
    truth, model = truth_fields(8), truth_fields(8, seed=4)
    metric = band_kurtosis(GRID, ZONES, "DD")
    mine, theirs = value(metric, model, None), value(metric, truth, None)
    assert value(gap(metric), model, truth) == pytest.approx(abs(mine - theirs) / theirs)
    assert value(gap(metric), truth, truth) == 0.0
    with pytest.raises(ValueError, match="held against truth"):
        gap(zone_coherence(GRID, ZONES, "DD"))


def test_bad_fields_are_named() -> None:
    truth = truth_fields(3)
    metric = zone_bias(GRID, ZONES, "DD")
    broken = truth.clone()
    broken[1, 4, 4] = torch.nan
    with pytest.raises(ValueError, match="row 1 holds values that are not finite"):
        value(metric, broken, truth)
    flat = truth.clone()
    flat[2] = 3.0
    with pytest.raises(ValueError, match="truth: row 2 is a constant field"):
        value(metric, truth, flat)
    with pytest.raises(ValueError, match=r"shape \(3, 16, 16\) is not"):
        value(metric, truth[:, :16, :16], truth)
    empty = truth.clone()
    empty[1] = torch.cos(2 * torch.pi * torch.arange(32.0).double() / 4).round()  # one wave, exactly: shell 8
    with pytest.raises(ValueError, match="the truth has no power in shells 2-4"):
        value(zone_bias(GRID, ZONES, "IR"), truth, empty)
    with pytest.raises(ValueError, match="samples hold no 'w'"):
        value(zone_bias(GRID, ZONES, "DD", array="w"), truth, truth)
    with pytest.raises(ValueError, match="form='paired' against='set' is not there"):
        zone_bias(GRID, ZONES, "DD", "paired", "set")
    with pytest.raises(ValueError, match="unknown; did you mean 'DD'"):
        zone_bias(GRID, ZONES, "DDD")
