import math
from itertools import pairwise

import pytest
import torch

from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import sample
from diptych.samplers.continuous import SAMPLERS, Ancestral, DPMSolver2M, Euler, Heun, Stochastic
from diptych.schedule import SCHEDULES, VE, Cosine, Linear, karras_grid, log_snr, uniform_grid

NOISE = Noise(tuple("abcd"), dtype=torch.float64)
EVERY = pytest.mark.parametrize("name", sorted(SAMPLERS))
CURVES = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=str)


def known(x, t, cond):
    """A denoiser that knows the answer."""
    return torch.tensor([1.0, -2.0, 0.5], dtype=x.dtype).expand_as(x)


def half(x, t, cond):
    return x / 2


def draw(sampler, schedule, grid, denoise=known, noise=NOISE, **options):
    return sample(Gaussian(schedule), sampler, denoise, grid, (3,), noise, **options)


@EVERY
@CURVES
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_rule_lands_on_data_that_are_known(name, schedule, steps):
    """Exactly but for rounding where the flow of a constant x0_hat is straight in t, else by its order."""
    grid = karras_grid(steps, schedule)
    x = draw(SAMPLERS[name](), schedule, grid).x
    straight = not isinstance(schedule, Cosine) or name in ("dpmpp_2m", "ancestral")
    if straight:
        assert torch.allclose(x, known(x, None, None), atol=1e-9)
    else:
        finest = draw(SAMPLERS[name](), schedule, uniform_grid(100)).x
        assert torch.allclose(finest, known(x, None, None), atol=0.03)


def test_euler_on_the_linear_schedule_is_ddim():
    """DDIM (arXiv:2010.02502, eq. 12 with no noise): alpha_u x0_hat + sigma_u eps."""
    process, grid = Gaussian(Linear()), uniform_grid(4)
    x = NOISE.normal((3,), "prior")
    for t, u in pairwise(grid):
        x0_hat = half(x, t, {})
        eps = process.eps(x, t[None], x0_hat)
        x = (1 - u) * x0_hat + u * eps
    assert torch.allclose(draw(Euler(), Linear(), grid, half).x, x)


def test_one_step_of_heun_averages_two_slopes():
    process, x = Gaussian(Cosine()), NOISE.normal((3,), "prior")
    t, u = torch.tensor([0.8]).double(), torch.tensor([0.5]).double()
    first = process.flow(x, t, half(x, t, {}))
    ahead = x - 0.3 * first
    second = process.flow(ahead, u, half(ahead, u, {}))
    drawn = draw(Heun(), Cosine(), torch.tensor([0.8, 0.5]).double(), half, x=x)
    assert torch.allclose(drawn.x, x - 0.15 * (first + second), atol=1e-7)


@CURVES
def test_dpm_solver_is_exact_where_x0_hat_is_linear_in_log_snr_steps_of_equal_length(schedule):
    """Algorithm 2 of arXiv:2211.01095 by hand: D = (1 + 1 / 2r) x0_hat_i - 1 / 2r x0_hat_(i-1), r = h_(i-1) / h_i."""
    half_snr = torch.tensor([-3.0, -2.0, 0.0, 1.5], dtype=torch.float64)
    grid = schedule.time(2 * half_snr)
    if isinstance(schedule, VE):
        grid = grid.clamp(max=1)
    x = NOISE.normal((3,), "prior") * schedule.sigma(grid[0])
    drawn = draw(DPMSolver2M(), schedule, grid, half, x=x)
    alpha, sigma, level = schedule.alpha(grid), schedule.sigma(grid), log_snr(schedule, grid) / 2
    last = None
    for i in range(3):
        h = level[i + 1] - level[i]
        x0_hat = half(x, None, None)
        r = (level[i] - level[i - 1]) / h if i else None
        best = x0_hat if last is None else (1 + 1 / (2 * r)) * x0_hat - 1 / (2 * r) * last
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * torch.expm1(-h) * best
        last = x0_hat
    assert torch.allclose(drawn.x, x, atol=1e-9)


@EVERY
def test_every_rule_starts_at_a_given_state(name):
    start = torch.full((4, 3), 0.3, dtype=torch.float64)
    grid = torch.tensor([0.4, 0.2, 0.0], dtype=torch.float64)
    drawn = draw(SAMPLERS[name](), Linear(), grid, x=start, trajectory=True)
    assert [t for t, _ in drawn.trajectory] == pytest.approx([0.2, 0.0])
    assert torch.allclose(drawn.x, known(drawn.x, None, None))


@EVERY
@CURVES
def test_every_rule_is_finite_in_single_precision_over_many_steps(name, schedule):
    for grid in (uniform_grid(50, 3.0), karras_grid(50, schedule)):
        x = draw(SAMPLERS[name](), schedule, grid, half, Noise(tuple("abcd"))).x
        assert x.dtype == torch.float32
        assert bool(x.isfinite().all())


def test_ancestral_draws_one_normal_a_step_from_the_noise_of_that_step():
    process, grid = Gaussian(Cosine()), uniform_grid(3)
    x = process.prior((3,), NOISE)
    for step, (t, u) in enumerate(pairwise(grid)):
        x = process.reverse(x, t[None], u[None], half(x, t, {}), NOISE.at(step))
    assert torch.equal(draw(Ancestral(), Cosine(), grid, half).x, x)


@pytest.mark.parametrize("rule", [Stochastic(churn=0.0), Stochastic(low=60.0, high=60.0), Stochastic(churn=5.0, high=1e-4)])
def test_the_stochastic_rule_without_noise_is_heun(rule):
    grid = karras_grid(6, VE())
    assert torch.equal(draw(rule, VE(), grid, half).x, draw(Heun(), VE(), grid, half).x)


@CURVES
def test_churn_raises_the_noise_level_and_keeps_the_marginal(schedule):
    """From x at t the state goes up to where sigma / alpha is (1 + gamma) times as large, as q(x) there."""
    rule, rows = Stochastic(churn=1.0, scale=1.0), 20_000
    noise = Noise(("one",), dtype=torch.float64)
    t = schedule.time(torch.tensor([0.0], dtype=torch.float64)).item()  # sigma = alpha
    clean = torch.full((1, rows), 0.6, dtype=torch.float64)
    x = Gaussian(schedule).corrupt(clean, torch.tensor([t], dtype=torch.float64), noise)
    up, time = rule._noised(Gaussian(schedule), x, t, 1.4, noise)
    there = torch.tensor([time], dtype=torch.float64)
    alpha, sigma = schedule.alpha(there).item(), schedule.sigma(there).item()
    assert sigma / alpha == pytest.approx(1.4)
    assert up.mean().item() == pytest.approx(0.6 * alpha, abs=4 * sigma / math.sqrt(rows))
    assert up.std().item() == pytest.approx(sigma, rel=0.02)


def test_churn_is_shared_out_over_the_grid_and_bounded():
    """S_churn / steps, at most sqrt(2) - 1 (Karras et al. 2022, algorithm 2); seen through the times that are asked for."""
    asked = []

    def spy(x, t, cond):
        asked.append(t[0].item())
        return x / 2

    grid = torch.tensor([0.5, 0.25, 0.0], dtype=torch.float64)
    start = torch.zeros(4, 3, dtype=torch.float64)
    for churn, gamma in ((0.2, 0.1), (1e9, math.sqrt(2) - 1)):
        asked.clear()
        draw(Stochastic(churn=churn, low=0.0, high=1e9), VE(), grid, spy, x=start)
        assert asked == pytest.approx([0.5 * (1 + gamma), 0.25, 0.25 * (1 + gamma)])
