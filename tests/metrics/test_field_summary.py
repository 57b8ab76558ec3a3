"""Two ensembles side by side: figures against the single metrics, and words that cannot be fooled by power."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_fields import GRID, STEEP, ZONES, band_gain, samples, truth_fields, value, white

from diptych.metrics.field import zone_amplitude, zone_coherence
from diptych.metrics.field_summary import POWER_KEPT, compare_fields, reading, words
from diptych.metrics.structure import band_kurtosis
from diptych.metrics.support import support_metric
from diptych.metrics.zone_bias import zone_bias
from diptych.physics.random_fields import gaussian_field, phase_randomised
from diptych.physics.shells import SpectralGrid, filtered, power_mean
from diptych.physics.zones import Zones


def patchy(count: int, seed: int) -> torch.Tensor:
    """Noise of the toy spectrum, loud in a few places."""
    envelope = (torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) < 0.25).double()
    return (
        filtered(white(count, 32, 32, seed=seed), STEEP, GRID)
        * torch.nn.functional.interpolate(envelope + 0.05, scale_factor=8)[:, 0]
    )


@pytest.mark.parametrize(
    ("retained", "coherent", "expected"),
    [
        (100.0, 0.9, "right"),
        (POWER_KEPT[0], 0.6, "right"),
        (97.0, 0.01, "power right, phases wrong"),
        (97.0, 0.45, "power right, phases partly right"),
        (24.0, 0.62, "power lost, phases right"),
        (24.0, 0.02, "power lost, phases wrong"),
        (143.0, 0.62, "power in excess, phases right"),
    ],
)
def test_reading_of_pairs(retained: float, coherent: float, expected: str) -> None:
    assert reading(retained, coherent) == expected


@pytest.mark.parametrize(
    ("retained", "kurtosis", "expected"),
    [
        (100.0, (6.5, 7.0), "right"),
        (103.0, (3.0, 7.0), "power right, structure lost"),
        (103.0, (2.5, 7.0), "power right, structure lost"),
        (50.0, (6.5, 7.0), "power lost, structure right"),
        (100.0, (40.0, 7.0), "power right, structure exaggerated"),
        (100.0, (float("nan"), 7.0), "power right, structure lost"),
        (100.0, (3.0, 3.1), "power right"),  # a truth that is nearly Gaussian cannot tell
    ],
)
def test_reading_of_ensembles(retained: float, kurtosis: tuple[float, float], expected: str) -> None:
    assert reading(retained, kurtosis=kurtosis) == expected


def test_power_that_is_off_by_less_than_two_errors_is_undecided() -> None:
    assert reading(85.0, kurtosis=(7.0, 7.0), error=0.05) == "power undecided, structure right"
    assert reading(85.0, kurtosis=(7.0, 7.0), error=0.01) == "power lost, structure right"
    assert reading(115.0, 0.9, error=0.02) == "power undecided, phases right"
    assert reading(150.0, 0.9, error=0.02) == "power in excess, phases right"
    assert reading(95.0, 0.9, error=0.5) == "right"


def test_pairs_have_the_figures_of_the_metrics() -> None:
    truth = truth_fields(12)
    model = filtered(truth + 0.05 * white(12, 32, 32, seed=3), band_gain("DD", 0.7), GRID)
    found = compare_fields(truth.numpy(), model.numpy(), GRID, ZONES)
    assert found.paired and found.structure == {}
    for zone in found.zones:
        assert zone.bias == pytest.approx(value(zone_bias(GRID, ZONES, zone.name), model, truth))
        assert zone.ratio_bias == pytest.approx(value(zone_bias(GRID, ZONES, zone.name, "ratio"), model, truth))
        assert zone.retained == pytest.approx(100 * 10**zone.bias)
        assert zone.coherent == pytest.approx(value(zone_coherence(GRID, ZONES, zone.name), model, truth))
        assert zone.amplitude == pytest.approx(value(zone_amplitude(GRID, ZONES, zone.name), model, truth))
        assert zone.kurtosis[1] == pytest.approx(value(band_kurtosis(GRID, ZONES, zone.name), truth, None))
        for what in ("iou", "chance", "recall"):
            assert getattr(zone, what) == pytest.approx(value(support_metric(GRID, ZONES, zone.name, what), model, truth))
        rows = zone_bias(GRID, ZONES, zone.name).rows(samples(model), samples(truth))
        logs = np.log10(rows[:, : rows.shape[1] // 2] / rows[:, rows.shape[1] // 2 :])
        assert zone.spread == pytest.approx(logs.std())
        assert zone.error == pytest.approx(logs.mean(1).std(ddof=1) / np.sqrt(12))
        assert zone.floor == 0.0
    curves = found.curves
    assert all(len(curve) == GRID.k_max + 1 for curve in curves.values())
    assert curves["truth"] == pytest.approx(power_mean(truth, GRID).mean(0)[: GRID.k_max + 1].numpy())
    assert (curves["truth_low"][1:] < curves["truth"][1:]).all() and (curves["truth"] < curves["truth_high"]).all()


def test_words_are_not_fooled_by_power() -> None:
    """The truth is right; its phase-randomised copy and a Gaussian field of its spectrum have its power and nothing else."""
    truth, fresh = patchy(300, 1), patchy(300, 2)
    random = phase_randomised(truth, white(300, 32, 32, seed=3), GRID)
    noise = gaussian_field(power_mean(truth, GRID).mean(0), white(300, 32, 32, seed=4), GRID)
    assert [zone.words for zone in compare_fields(truth.numpy(), truth.numpy(), GRID, ZONES).zones] == ["right"] * 3
    paired = compare_fields(truth.numpy(), random.numpy(), GRID, ZONES)
    assert [zone.words for zone in paired.zones] == ["power right, phases wrong"] * 3
    ensemble = compare_fields(truth.numpy(), fresh.numpy(), GRID, ZONES, paired=False)
    assert ensemble.zones[-1].words == "right"
    assert ensemble.zones[-1].floor < -0.1  # the number of loud places differs from field to field
    assert ensemble.zones[-1].coherent is None and ensemble.zones[-1].iou is None
    assert "coherence" not in ensemble.curves
    gaussian = compare_fields(truth.numpy(), noise.numpy(), GRID, ZONES, paired=False).zones[-1]
    assert abs(gaussian.ratio_bias) < 0.1
    assert gaussian.words.endswith("structure lost")
    assert "DD: power right, phases wrong (100 % kept, coherence 0.0" in words(paired) or "coherence -0.0" in words(paired)
    assert "kurtosis" in words(ensemble)


def test_structure_functions_come_where_they_are_asked_for() -> None:
    grid = SpectralGrid((32, 32), (0.2, 0.2))
    truth = truth_fields(4)
    found = compare_fields(truth.numpy(), 2.0 * truth.numpy(), grid, ZONES, separations=(2, 5), of="velocity")
    assert found.structure["separation"].tolist() == [2, 5]
    assert found.structure["model_S2"] == pytest.approx(4.0 * found.structure["truth_S2"])
    assert found.structure["model_S3"] == pytest.approx(8.0 * found.structure["truth_S3"])


def test_signals_of_several_channels_without_periods() -> None:
    grid = SpectralGrid((128,), (0.01,), periodic=False)
    zones = Zones.fractions(grid, (0.1, 0.5, 1.0), ("low", "high"))
    truth = white(20, 2, 128).cumsum(-1)
    found = compare_fields(truth.numpy(), truth.numpy(), grid, zones, separations=(3,))
    assert [zone.words for zone in found.zones] == ["right", "right"]


def test_what_cannot_be_compared_is_refused() -> None:
    truth = truth_fields(4).numpy()
    with pytest.raises(ValueError, match="do not fit"):
        compare_fields(truth, truth[:3], GRID, ZONES)
    with pytest.raises(ValueError, match="fewer than two fields"):
        compare_fields(truth[:1], truth[:1], GRID, ZONES)
    with pytest.raises(ValueError, match="model: row 2 holds values that are not finite"):
        broken = truth.copy()
        broken[2, 0, 0] = np.inf
        compare_fields(truth, broken, GRID, ZONES)
    with pytest.raises(ValueError, match="truth: row 0 is a constant field"):
        compare_fields(np.zeros_like(truth), truth, GRID, ZONES)
    with pytest.raises(ValueError, match="exceed k_max"):
        compare_fields(truth, truth, GRID, Zones.of({"a": (5, 16)}))
