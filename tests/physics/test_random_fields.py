"""Fields with a spectrum and nothing else: their spectrum, and that there is nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.physics.random_fields import gaussian_field, phase_randomised
from diptych.physics.shells import SpectralGrid, coefficients, invertible, mode_power, power_mean

GRIDS = [
    SpectralGrid((24, 16), (0.5, 0.5)),
    SpectralGrid((16, 16), periodic=(True, False)),
    SpectralGrid((64,), periodic=False),
]


def white(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("grid", GRIDS, ids=["plane", "half", "signal"])
def test_a_gaussian_field_has_the_power_asked_for(grid: SpectralGrid) -> None:
    power = torch.arange(1, grid.shells + 1, dtype=torch.float64) ** -3.0
    found = gaussian_field(power, white(3000, *grid.shape, seed=0), grid)
    mean = power_mean(found, invertible(grid)).mean(0)
    shells = invertible(grid).shells
    assert mean.numpy() == pytest.approx(power[:shells].numpy(), rel=0.12)  # one mode a field: 2.6 % a standard deviation
    middle = found.flatten(1)[:, grid.points // 2]
    assert float(middle.pow(4).mean() / middle.square().mean() ** 2) == pytest.approx(3.0, abs=0.35)


@pytest.mark.parametrize("grid", GRIDS, ids=["plane", "half", "signal"])
def test_phase_randomisation_keeps_every_modes_power_and_the_mean_and_no_phase(grid: SpectralGrid) -> None:
    truth = white(200, *grid.shape, seed=1) + 2.0
    found = phase_randomised(truth, white(200, *grid.shape, seed=2), grid)
    plain = invertible(grid)
    a, b = coefficients(truth, plain), coefficients(found, plain)
    assert mode_power(b).numpy() == pytest.approx(mode_power(a).numpy(), abs=1e-12)
    assert found.mean(grid.axes).numpy() == pytest.approx(truth.mean(grid.axes).numpy())
    centred = [x - x.mean(grid.axes, keepdim=True) for x in (truth, found)]
    correlation = (centred[0] * centred[1]).sum() / (centred[0].square().sum() * centred[1].square().sum()).sqrt()
    assert abs(float(correlation)) < 0.03


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="noise of shape"):
        phase_randomised(torch.zeros(2, 24, 16), torch.zeros(24, 16), GRIDS[0])
