"""Every sampler of Gaussian processes against a mixture whose posterior mean and flow are exact.

In one dimension the probability flow keeps quantiles, so where a deterministic rule must end is known in closed form.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from exact import Mixture

from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import sample
from diptych.samplers.continuous import SAMPLERS
from diptych.schedule import SCHEDULES, VE, Linear, karras_grid, uniform_grid

MIXTURE = Mixture()
QUANTILES = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
ROOT = Path(__file__).parent


def draw(sampler, schedule, grid, x=None, rows=64, key="r"):
    noise = Noise(tuple(f"{key}{i}" for i in range(rows)), dtype=torch.float64)
    return sample(Gaussian(schedule), sampler, MIXTURE.denoiser(schedule), grid, (1,), noise, x=x).x


def at(schedule, t):
    t = torch.tensor(t, dtype=torch.float64)
    return MIXTURE.quantile(QUANTILES, schedule.alpha(t).item(), schedule.sigma(t).item())[:, None]


def deterministic(sampler) -> bool:
    grid, start = uniform_grid(4), at(Linear(), 1.0)
    return torch.equal(draw(sampler, Linear(), grid, start, key="a"), draw(sampler, Linear(), grid, start, key="b"))


RULES = sorted(name for name, rule in SAMPLERS.items() if deterministic(rule()))
DEFAULT_VE = {"ve": VE(5.0)}


def test_both_kinds_of_rule_are_there():
    assert {"euler", "heun", "rk4", "dpmpp_2m"} <= set(RULES)
    assert {"ancestral", "edm_stochastic"} <= set(SAMPLERS) - set(RULES)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_exact_flow_is_the_flow_of_the_exact_posterior_mean(name):
    schedule = DEFAULT_VE.get(name) or SCHEDULES[name]()
    t, h = 0.4, 1e-4
    slope = (at(schedule, t + h) - at(schedule, t - h)) / (2 * h)
    times = torch.full((64,), t, dtype=torch.float64)
    flow = Gaussian(schedule).flow(at(schedule, t), times, MIXTURE.denoiser(schedule)(at(schedule, t), times, {}))
    assert torch.allclose(flow, slope, atol=1e-6)


def fitted_order(name, schedule, first, last, steps):
    sampler, curve = SAMPLERS[name](), DEFAULT_VE.get(schedule) or SCHEDULES[schedule]()
    errors = []
    for count in steps:
        grid = torch.linspace(first, last, count + 1, dtype=torch.float64)
        errors.append((draw(sampler, curve, grid, at(curve, first)) - at(curve, last)).square().mean().sqrt().item())
    return math.log(errors[0] / errors[-1]) / math.log(steps[-1] / steps[0])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("name", RULES)
def test_a_deterministic_rule_has_its_order(name, schedule):
    fitted = fitted_order(name, schedule, 0.98, 0.02, (80, 160))
    assert abs(fitted - SAMPLERS[name]().order) < 0.15, f"{name} on {schedule}: order {fitted:.2f}"


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("name", RULES)
def test_a_deterministic_rule_keeps_its_order_from_prior_to_data(name, schedule):
    """Multistep rules in log-SNR, whose steps grow without bound at both ends, lose a logarithm."""
    fitted = fitted_order(name, schedule, 1.0, 0.0, (20, 320))
    assert fitted > SAMPLERS[name]().order - 0.5, f"{name} on {schedule}: order {fitted:.2f}"


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_rule_draws_the_distribution(name, schedule):
    curve, count = SCHEDULES[schedule](), 4000
    grid = karras_grid(80, curve) if schedule == "ve" else uniform_grid(120)
    noise = Noise(("unit",), dtype=torch.float64)
    x = sample(Gaussian(curve), SAMPLERS[name](), MIXTURE.denoiser(curve), grid, (count,), noise).x.flatten()
    ranked = MIXTURE.cdf(x.sort().values)
    place = torch.arange(count, dtype=torch.float64) / count
    distance = torch.maximum((ranked - place).abs(), (ranked - place - 1 / count).abs()).max().item()
    assert distance < 0.031, f"{name} on {schedule}: Kolmogorov-Smirnov distance {distance:.3f}"  # 0.1 % of exact draws
    assert abs(x.mean().item() - MIXTURE.mean) < 4 * math.sqrt(MIXTURE.variance / count)
    assert abs(x.var().item() / MIXTURE.variance - 1) < 0.08


@pytest.mark.parametrize("name", sorted(json.loads((ROOT / "diffusers.json").read_text())["cases"]))
def test_a_rule_visits_the_states_of_its_reference_scheduler(name):
    case = json.loads((ROOT / "diffusers.json").read_text())["cases"][name]
    kind, rule = name.split("/")
    schedule = {"linear": Linear(), "ve": VE(80.0)}[kind]

    def denoise(x, t, cond):
        sigma = schedule.sigma(t)[:, None]
        return torch.tanh(1.5 * x / (1 + sigma)) * (1 - sigma / (2 + 2 * sigma))

    grid = torch.tensor(case["sigmas"], dtype=torch.float64) / schedule.sigma(torch.ones(()))
    start = torch.tensor(case["start"], dtype=torch.float64)[:, None]
    noise = Noise(tuple(map(str, range(len(start)))))
    drawn = sample(Gaussian(schedule), SAMPLERS[rule](), denoise, grid, (1,), noise, x=start, trajectory=True)
    assert len(drawn.trajectory) == len(case["states"])
    for (_, x), wanted in zip(drawn.trajectory, case["states"]):
        assert torch.allclose(x[:, 0], torch.tensor(wanted, dtype=torch.float64), atol=2e-6)
