"""Support and amplitude of strong events by hand, chance levels, and distance to training fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_fields import value, white

from diptych.metrics.support import chance_iou, nearest, neighbour, support, support_metric
from diptych.physics.random_fields import phase_randomised
from diptych.physics.shells import SpectralGrid
from diptych.physics.zones import Zones

GRID = SpectralGrid((32, 32), dealiased=True)
ZONES = Zones.of({"DD": (8, 10)})


def test_by_hand() -> None:
    truth = torch.zeros(1, 20, dtype=torch.float64)
    truth[0, :4] = torch.tensor([4.0, -5.0, 6.0, 7.0])  # top 20 %
    truth[0, 4:] = torch.linspace(0.1, 1.0, 16)
    model = torch.zeros(1, 20, dtype=torch.float64)
    model[0, [0, 1, 9]] = torch.tensor([2.0, -3.0, 9.0]).double()
    found = {name: one.item() for name, one in support(model, truth, 80.0).items()}
    assert found["iou"] == pytest.approx(2 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 4)
    assert found["amplitude"] == pytest.approx(5 / 22)
    assert found["chance"] == pytest.approx(0.03 / (0.15 + 0.2 - 0.03))


@pytest.mark.parametrize("percentile", [50.0, 75.0, 90.0])
def test_independent_fields_score_the_chance_level(percentile: float) -> None:
    share = 1 - percentile / 100
    a, b = white(50, 4000), white(50, 4000, seed=1)
    found = support(a, b, percentile)
    assert found["chance"].mean() == pytest.approx(share / (2 - share), abs=0.003)
    assert found["iou"].mean() == pytest.approx(found["chance"].mean(), abs=0.003)
    assert found["recall"].mean() == pytest.approx(share, abs=0.005)
    assert found["precision"].mean() == pytest.approx(share, abs=0.005)
    assert float(chance_iou(torch.tensor(0.1), torch.tensor(0.1))) == pytest.approx(0.0526, abs=1e-4)


def test_a_quiet_copy_has_the_place_and_not_the_size() -> None:
    truth = white(3, 32, 32)

    def metric(what: str, fields: torch.Tensor) -> float:
        return value(support_metric(GRID, ZONES, "DD", what), fields, truth)

    assert metric("iou", truth) == metric("precision", truth) == metric("recall", truth) == 1.0
    assert metric("amplitude", 0.4 * truth) == pytest.approx(0.4)
    assert 0.2 < metric("recall", 0.8 * truth) < 0.6
    assert metric("precision", 0.8 * truth) == 1.0
    assert metric("precision", 0.0 * truth) == metric("iou", 0.0 * truth) == metric("chance", 0.0 * truth) == 0.0
    random = phase_randomised(truth, white(3, 32, 32, seed=4), GRID)
    assert metric("iou", random) == pytest.approx(metric("chance", random), abs=0.04)
    with pytest.raises(ValueError, match="what='iuo' is unknown"):
        support_metric(GRID, ZONES, "DD", "iuo")
    with pytest.raises(ValueError, match="outside"):
        support(truth, truth, 100.0)


def test_copies_are_near_and_independent_fields_are_not() -> None:
    training = white(60, 32, 32)
    fresh = white(20, 32, 32, seed=1)
    assert nearest(training[3:5], training) == pytest.approx(0.0, abs=1e-6)
    distances = ((fresh[:, None] - training).flatten(2).norm(dim=2).amin(1) / fresh.flatten(1).norm(dim=1)).numpy()
    assert nearest(fresh, training) == pytest.approx(distances)
    assert distances.mean() == pytest.approx(np.sqrt(2), abs=0.1)
    metric = neighbour(GRID, lambda: training.numpy())
    assert value(metric, fresh, white(20, 32, 32, seed=2)) == pytest.approx(1.0, abs=0.02)
    assert value(metric, training[:20] + 0.01 * fresh, fresh) < 0.02
