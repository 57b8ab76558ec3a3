import math

import pytest
import torch

from diptych.denoise import KINDS, Canvas, edm_precondition, from_x0, log_probabilities, parameterize, to_x0
from diptych.noise import Noise
from diptych.process import Gaussian, Masked
from diptych.schedule import SCHEDULES, VE, Linear

NOISE = Noise(("a", "b", "c"), dtype=torch.float64)
T = torch.tensor([0.05, 0.5, 0.97], dtype=torch.float64)
GAUSSIAN_KINDS = [kind for kind in KINDS if kind != "logits"]
SCHEDULE = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=str)


@SCHEDULE
@pytest.mark.parametrize("kind", GAUSSIAN_KINDS)
def test_from_x0_and_to_x0_are_inverse(kind, schedule):
    process = Gaussian(schedule)
    x0 = NOISE.normal((2, 3), "x0")
    x = process.corrupt(x0, T, NOISE)
    prediction = from_x0(x0, x, T, kind, process)
    assert torch.allclose(to_x0(prediction, x, T, kind, process), x0, atol=1e-8)


@SCHEDULE
def test_kinds_mean_what_they_say(schedule):
    process = Gaussian(schedule)
    x0, eps = NOISE.normal((2, 3), "x0"), NOISE.normal((2, 3), "corrupt")
    x = process.corrupt(x0, T, NOISE)
    alpha, sigma, d_alpha, d_sigma = (
        f(T)[:, None, None] for f in (schedule.alpha, schedule.sigma, schedule.d_alpha, schedule.d_sigma)
    )
    wanted = {
        "x0": x0,
        "eps": eps,
        "score": -(x - alpha * x0) / sigma**2,
        "v": alpha * eps - sigma * x0,
        "flow": d_alpha * x0 + d_sigma * eps,
    }
    assert set(wanted) == set(GAUSSIAN_KINDS)
    for kind, value in wanted.items():
        assert torch.allclose(from_x0(x0, x, T, kind, process), value, atol=1e-8), kind


@pytest.mark.parametrize("kind", GAUSSIAN_KINDS)
def test_parameterize_makes_a_denoiser_of_a_network(kind):
    process = Gaussian(Linear())
    x0, asked = NOISE.normal((4,), "x0"), []

    def net(x, t, cond):
        asked.append(cond)
        return from_x0(x0, x, t, kind, process)

    out = parameterize(net, kind, process)(process.corrupt(x0, T, NOISE), T, {"label": T})
    assert torch.allclose(out, x0, atol=1e-8)
    assert asked == [{"label": T}]


def test_kinds_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match=r"kind 'logits' does not fit Gaussian; use one of x0, eps, v, flow, score"):
        parameterize(lambda x, t, cond: x, "logits", Gaussian())
    with pytest.raises(ValueError, match="kind 'flow' does not fit Masked; use one of logits"):
        parameterize(lambda x, t, cond: x, "flow", Masked(3, 3))
    with pytest.raises(ValueError, match="kind 'velocity' is not a Gaussian one"):
        to_x0(T, T, T, "velocity", Gaussian())


@pytest.mark.parametrize("mask_id", [5, -1, 9])
def test_logits_become_log_probabilities_of_the_real_tokens(mask_id):
    process = Masked(5, mask_id)
    logits = NOISE.normal((7, 6), "logits")  # one more than the vocabulary: the mask's
    out = parameterize(lambda x, t, cond: logits, "logits", process)(torch.full((3, 7), mask_id), T, {})
    assert out.shape == (3, 7, 5)
    assert torch.allclose(out.exp().sum(-1), torch.ones(3, 7, dtype=torch.float64))
    assert torch.allclose(out, logits[..., :5] - logits[..., :5].logsumexp(-1, keepdim=True))
    assert log_probabilities(logits.bfloat16(), process).dtype == torch.float32


def recorded(x_in, c_noise, cond):
    """A raw network that returns its input, so that the coefficients can be read off."""
    recorded.seen = (x_in, c_noise)
    return torch.zeros_like(x_in)


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_coefficients_are_those_of_table_1(sigma_data):
    process, x = Gaussian(VE(80.0)), NOISE.normal((2, 3), "x")
    sigma = 80 * T
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    c_in = 1 / (sigma**2 + sigma_data**2).sqrt()
    zero = edm_precondition(recorded, process, sigma_data)(x, T, {})
    one = edm_precondition(lambda x, t, cond: torch.ones_like(x), process, sigma_data)(x, T, {})
    assert torch.allclose(zero, c_skip[:, None, None] * x)
    assert torch.allclose(one - zero, c_out[:, None, None].expand_as(x))
    assert torch.allclose(recorded.seen[0], c_in[:, None, None] * x)
    assert torch.allclose(recorded.seen[1], sigma.log() / 4)


@SCHEDULE
def test_edm_preconditioning_is_exact_for_gaussian_data_in_any_frame(schedule):
    """The raw network that is optimal in the variance-exploding frame serves every schedule."""
    mean, std, sigma_data = 0.7, 0.9, 0.5

    def optimal(x_in, c_noise, cond):
        level = torch.exp(4 * c_noise)[:, None]
        y = x_in * (level**2 + sigma_data**2).sqrt()
        posterior = (level**2 * mean + std**2 * y) / (level**2 + std**2)
        skip = sigma_data**2 / (level**2 + sigma_data**2)
        return (posterior - skip * y) * (level**2 + sigma_data**2).sqrt() / (level * sigma_data)

    x = Gaussian(schedule).corrupt(mean + std * NOISE.normal((6,), "x0"), T, NOISE)
    alpha, sigma = schedule.alpha(T)[:, None], schedule.sigma(T)[:, None]
    posterior = (sigma**2 * mean + alpha * std**2 * x) / (sigma**2 + alpha**2 * std**2)
    assert torch.allclose(edm_precondition(optimal, Gaussian(schedule), sigma_data)(x, T, {}), posterior)


@SCHEDULE
def test_edm_preconditioning_is_finite_at_the_prior(schedule):
    """Where no signal is left the network's output alone, times sigma_data, is the prediction."""
    ones = torch.ones(3)
    x = Gaussian(schedule).prior((4,), Noise(("a", "b", "c")))
    out = edm_precondition(recorded, Gaussian(schedule))(x, ones, {})
    assert bool(out.isfinite().all())
    assert bool(recorded.seen[1].isfinite().all())
    if schedule.alpha(ones)[0] == 0:
        full = edm_precondition(lambda x, t, cond: torch.ones_like(x), Gaussian(schedule))(x, ones, {})
        assert torch.allclose(full, torch.full_like(x, 0.5))
        assert recorded.seen[1][0].item() == pytest.approx(math.log(1e6) / 4)


def test_a_canvas_counts_what_it_attends_to():
    ids = torch.zeros(2, 5, dtype=torch.int64)
    assert Canvas(ids).pairs().tolist() == [25, 25]
    shared = torch.ones(1, 5, 5, dtype=torch.bool).tril()
    assert Canvas(ids, attend=shared).pairs().tolist() == [15, 15]
    own = torch.stack([torch.ones(5, 5), torch.eye(5)]).bool()
    assert Canvas(ids, attend=own).pairs().tolist() == [25, 5]
