import math

import pytest
import torch

from diptych.schedule import (
    SCHEDULES,
    VE,
    Cosine,
    Linear,
    LogitNormal,
    LogNormalSigma,
    UniformTimes,
    karras_grid,
    log_snr,
    shift,
    uniform_grid,
)

T = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
ONE, ZERO = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
ALL = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=str)


@ALL
def test_derivatives_are_those_of_the_curves(schedule):
    h = 1e-6
    for curve, slope in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        assert torch.allclose(slope(T), (curve(T + h) - curve(T - h)) / (2 * h), atol=1e-6)


@ALL
def test_log_snr_falls_and_time_inverts_it(schedule):
    values = log_snr(schedule, T)
    assert bool((values.diff() < 0).all())
    assert torch.allclose(schedule.time(values), T, atol=1e-12)


@ALL
def test_data_at_0_and_prior_at_1(schedule):
    assert schedule.alpha(ZERO) == 1
    assert schedule.sigma(ZERO) == 0
    assert log_snr(schedule, ZERO) == math.inf
    assert schedule.sigma(ONE) > 0


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_signal_at_all_is_left_at_1(schedule, dtype):
    one = torch.ones((), dtype=dtype)
    assert schedule.alpha(one) == 0
    assert log_snr(schedule, one) == -math.inf


def test_closed_forms():
    assert Linear().alpha(torch.tensor(0.25)) == 0.75
    assert log_snr(Linear(), torch.tensor(0.5)) == 0
    assert torch.allclose(Cosine().alpha(T) ** 2 + Cosine().sigma(T) ** 2, torch.ones_like(T))
    assert torch.allclose(Cosine().alpha(T), torch.cos(T * math.pi / 2))
    assert VE(5.0).sigma(torch.tensor(0.5)) == 2.5


def test_a_noise_level_that_is_not_positive_is_an_error():
    with pytest.raises(ValueError, match=r"VE: sigma_max 0\.0 is not positive"):
        VE(0.0)


def test_shift_moves_to_the_prior_and_composes():
    assert torch.equal(shift(T, 1.0), T)
    assert bool((shift(T, 3.0) > T).all())
    assert torch.allclose(shift(shift(T, 3.0), 2.0), shift(T, 6.0))
    assert torch.allclose(shift(shift(T, 3.0), 1 / 3), T)
    assert (shift(ZERO, 3.0), shift(ONE, 3.0)) == (0, 1)
    # In log-SNR a shift is a shift (arXiv:2403.03206, eq. 23): by -2 log factor for the linear schedule.
    moved = log_snr(Linear(), shift(T, 3.0)) - log_snr(Linear(), T)
    assert torch.allclose(moved, torch.full_like(T, -2 * math.log(3.0)))


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan])
def test_a_shift_that_is_not_positive_is_an_error(factor):
    with pytest.raises(ValueError, match="not positive; 1 = no shift"):
        uniform_grid(4, factor)


def test_uniform_grid():
    assert uniform_grid(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    grid = uniform_grid(10, 3.0)
    assert (grid[0], grid[-1], grid.dtype) == (1, 0, torch.float64)
    assert bool((grid.diff() < 0).all())


@ALL
@pytest.mark.parametrize("steps", [1, 2, 18])
def test_karras_grid_goes_from_the_prior_to_the_data(schedule, steps):
    grid = karras_grid(steps, schedule)
    assert len(grid) == steps + 1
    assert (grid[0], grid[-1]) == (1, 0)
    assert bool((grid.diff() < 0).all())


@ALL
def test_karras_levels_are_those_of_the_paper(schedule):
    """Equation 5: 18 steps from 80 to 0.002 with rho = 7; the first level is the prior's where that keeps no signal."""
    levels = torch.exp(-log_snr(schedule, karras_grid(18, schedule)[:-1]) / 2)
    by_hand = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert torch.allclose(levels[1:], torch.tensor(by_hand[1:], dtype=torch.float64), rtol=1e-9)
    assert levels[0] == pytest.approx(80 if isinstance(schedule, VE) else math.inf)


def test_a_grid_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match="steps 0 is not positive"):
        uniform_grid(0)
    with pytest.raises(ValueError, match="steps -1 is not positive"):
        karras_grid(-1, VE())
    with pytest.raises(ValueError, match="sigma_max 80 is above the prior's noise level of 5"):
        karras_grid(5, VE(5.0))
    assert karras_grid(5, VE(5.0), sigma_max=5.0)[0] == 1


@pytest.mark.parametrize("density", [UniformTimes(), LogitNormal(), LogitNormal(1.0, 2.0, 3.0), LogNormalSigma(VE())])
def test_densities_draw_times_from_their_generator(density):
    draw = density(20_000, torch.Generator().manual_seed(0))
    assert draw.shape == (20_000,)
    assert bool(((draw > 0) & (draw <= 1)).all())
    assert torch.equal(draw, density(20_000, torch.Generator().manual_seed(0)))
    assert not torch.equal(draw, density(20_000, torch.Generator().manual_seed(1)))


def test_densities_have_their_moments():
    generator = torch.Generator().manual_seed(0)
    uniform = UniformTimes(0.1)(40_000, generator)
    assert uniform.min() >= 0.1
    assert uniform.mean().item() == pytest.approx(0.55, abs=0.005)
    logits = torch.logit(LogitNormal(-0.5, 0.8)(40_000, generator).double())
    assert logits.mean().item() == pytest.approx(-0.5, abs=0.02)
    assert logits.std().item() == pytest.approx(0.8, abs=0.015)
    shifted = torch.logit(LogitNormal(0.0, 1.0, 3.0)(40_000, generator).double())
    assert shifted.mean().item() == pytest.approx(math.log(3.0), abs=0.02)
    for schedule in (Linear(), VE()):
        levels = -log_snr(schedule, LogNormalSigma(schedule)(40_000, generator).double()) / 2
        assert levels.mean().item() == pytest.approx(-1.2, abs=0.025)
        assert levels.std().item() == pytest.approx(1.2, abs=0.02)
