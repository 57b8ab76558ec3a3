"""What holds for every metric of fields: rows a unit, whatever the batch and the order; weights are repetitions; keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from diptych.keys import fingerprint
from diptych.metrics import base, field, structure, support, zone_bias
from diptych.physics.shells import SpectralGrid
from diptych.physics.zones import Zones
from diptych.study import Metric, Samples, Unit

GRID = SpectralGrid((24, 24), (2 * math.pi / 24,) * 2, dealiased=True)
ZONES = Zones.of({"low": (1, 3), "high": (4, 7)})


@dataclass(frozen=True)
class Training:
    seed: int = 5

    def __call__(self) -> np.ndarray:
        return fields(9, self.seed)


MADE: dict[str, Callable[[], Metric]] = {
    "zone_coherence": lambda: field.zone_coherence(GRID, ZONES, "high", margin=0.05),
    "zone_amplitude": lambda: field.zone_amplitude(GRID, ZONES, "high"),
    "gap": lambda: field.gap(structure.band_kurtosis(GRID, ZONES, "high"), margin=0.1),
    "zone_bias": lambda: zone_bias.zone_bias(GRID, ZONES, "high"),
    "zone_error": lambda: zone_bias.zone_error(GRID, ZONES, "high", "ratio", margin=0.1),
    "retained_power": lambda: zone_bias.retained_power(GRID, ZONES, "high", "log", "set"),
    "band_kurtosis": lambda: structure.band_kurtosis(GRID, ZONES, "high"),
    "gradient_kurtosis": lambda: structure.gradient_kurtosis(GRID),
    "increment_kurtosis": lambda: structure.increment_kurtosis(GRID, 3),
    "structure": lambda: structure.structure(GRID, (2, 4), 3),
    "zone_flux": lambda: structure.zone_flux(GRID, ZONES, "high"),
    "support": lambda: support.support_metric(GRID, ZONES, "high"),
    "neighbour": lambda: support.neighbour(GRID, Training()),
}


def fields(count: int, seed: int) -> np.ndarray:
    return torch.randn(count, 24, 24, generator=torch.Generator().manual_seed(seed)).cumsum(1).cumsum(2).numpy()


def samples(values: np.ndarray) -> Samples:
    return Samples(tuple(Unit(f"f{i}") for i in range(len(values))), {"field": values})


def test_every_metric_of_fields_is_held() -> None:
    assert MADE.keys() == {name for module in (field, structure, support, zone_bias) for name in module.METRICS}


@pytest.mark.parametrize("name", list(MADE))
def test_rows_do_not_depend_on_batch_or_order_and_weights_are_repetitions(name: str) -> None:
    metric, mine, truth = MADE[name](), samples(fields(7, 0)), samples(fields(7, 1))
    held = truth if metric.against == "truth" else None
    rows = base.check_rows(metric.rows(mine, held), [unit.key for unit in mine.units], metric.name)
    order = [mine.units[i] for i in (4, 0, 6)]
    part = metric.rows(mine.take(order), held.take(order) if held else None)
    assert np.asarray(part) == pytest.approx(rows[[4, 0, 6]])
    reduce = metric.reduce or base.mean
    weights = np.array([[1.0] * 7, [0.0, 2.0, 1.0, 0.0, 3.0, 0.0, 1.0]])
    index = np.repeat(np.arange(7), weights[1].astype(int))
    once = np.ones((1, 7))
    if metric.against == "set":
        there = metric.rows(truth, None)
        found, other = reduce(rows, weights, there, once), reduce(rows[index], once, there, once)
    else:
        found, other = reduce(rows, weights), reduce(rows[index], once)
    assert found.shape == (2,) and np.isfinite(found).all()
    assert found[1] == pytest.approx(other[0])


@pytest.mark.parametrize("name", list(MADE))
def test_metrics_have_keys_that_follow_their_options(name: str) -> None:
    metric = MADE[name]()
    assert fingerprint(metric) == fingerprint(MADE[name]())
    assert metric.about and metric.name and metric.label


def test_another_zone_is_another_metric() -> None:
    high, low = (zone_bias.zone_bias(GRID, ZONES, zone) for zone in ("high", "low"))
    assert high.name != low.name
    assert fingerprint(high) != fingerprint(low)
    forms = {fingerprint(zone_bias.zone_error(GRID, ZONES, "high", form)) for form in ("paired", "log", "ratio")}
    assert len(forms) == 3
    assert fingerprint(field.gap(structure.gradient_kurtosis(GRID))) != fingerprint(
        field.gap(structure.increment_kurtosis(GRID, 3))
    )
