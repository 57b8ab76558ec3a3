"""Cross-spectra of channels on fields whose answers are known: mixtures, shifts, channels made apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_fields import GRID, STEEP, ZONES, value, white

from diptych.metrics.channels import channel_coherence, cross_spectrum
from diptych.physics.shells import SpectralGrid, filtered


def two(mix: float, count: int = 300, seed: int = 0) -> torch.Tensor:
    """Two channels of one spectrum whose coherence is `mix` at every scale, (N, 2, 32, 32)."""
    a, b = (filtered(white(count, 32, 32, seed=seed + i), STEEP, GRID) for i in (0, 50))
    return torch.stack([a, mix * a + (1 - mix**2) ** 0.5 * b], 1)


def coherent(fields: torch.Tensor, zone: str, pair: tuple[int, int] = (0, 1), grid: SpectralGrid = GRID) -> complex:
    low, high = ZONES.edges[ZONES.names.index(zone)]
    real, imaginary, a, b = cross_spectrum(fields, grid, pair)[:, :, low : high + 1].sum((0, 2)).tolist()
    return complex(real, imaginary) / (a * b) ** 0.5


@pytest.mark.parametrize("mix", [0.0, 0.6, -0.9])
def test_the_coherence_of_a_mixture_is_its_share(mix: float) -> None:
    for zone in ZONES.names:
        assert coherent(two(mix), zone) == pytest.approx(mix, abs=0.03)


def test_a_channel_that_runs_ahead_turns_the_coherence() -> None:
    x = torch.arange(32, dtype=torch.float64) * 2 * np.pi / 32
    wave = torch.cos(9 * x).expand(1, 32, 32)
    fields = torch.stack([wave, torch.cos(9 * x - np.pi / 3).expand(1, 32, 32)], 1)
    assert coherent(fields, "DD") == pytest.approx(np.exp(1j * np.pi / 3))
    assert coherent(fields, "DD", (1, 0)) == pytest.approx(np.exp(-1j * np.pi / 3))
    line = SpectralGrid((32,), periodic=False, window="dct")
    assert cross_spectrum(white(3, 2, 32), line, (0, 1))[:, 1].abs().max() == 0.0


def test_the_distance_is_to_the_truths_coherence() -> None:
    metric = channel_coherence(GRID, ZONES, "DD", channels=2)
    assert value(metric, two(0.6), two(0.6)) == 0.0
    assert value(metric, two(0.6), two(0.6, seed=7)) == pytest.approx(0.0, abs=0.04)
    assert value(metric, two(0.0), two(0.6, seed=7)) == pytest.approx(0.6, abs=0.04)
    assert value(metric, 3.0 * two(0.6), two(0.6)) == pytest.approx(0.0, abs=1e-12), "loudness does not count"


def test_all_pairs_count() -> None:
    truth = torch.cat([two(0.8), two(0.0, seed=200)[:, :1]], 1)
    model = torch.cat([two(0.0), two(0.0, seed=200)[:, :1]], 1)
    metric = channel_coherence(GRID, ZONES, "DO", channels=3)
    assert value(metric, model, truth) == pytest.approx(0.8 / 3, abs=0.04)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="1 channel; it takes two or more"):
        channel_coherence(GRID, ZONES, "DD", channels=1)
    with pytest.raises(ValueError, match=r"channels \(0, 2\) of 2"):
        cross_spectrum(two(0.5, 2), GRID, (0, 2))
