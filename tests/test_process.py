import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from diptych.noise import Noise
from diptych.process import Gaussian, Masked, categorical
from diptych.schedule import SCHEDULES, VE, Cosine, Linear

MANY = Noise(tuple(map(str, range(4))))
GAUSSIANS = pytest.mark.parametrize("process", [Gaussian(cls()) for cls in SCHEDULES.values()], ids=str)


def times(t, rows=4):
    return torch.full((rows,), t, dtype=torch.float64)


def fits(counts, p):
    """Chi-square."""
    expected = p.double() / p.double().sum() * counts.sum()
    return stats.chisquare(counts.double().numpy(), expected.numpy()).pvalue > 0.001


@GAUSSIANS
def test_corrupt_has_the_moments_of_the_curves(process):
    x0 = torch.full((4, 50_000), 1.5)
    x = process.corrupt(x0, times(0.3), MANY)
    alpha, sigma = process.schedule.alpha(times(0.3))[0], process.schedule.sigma(times(0.3))[0]
    assert x.mean().item() == pytest.approx(1.5 * alpha.item(), abs=4 * sigma.item() / math.sqrt(x.numel()))
    assert x.std().item() == pytest.approx(sigma.item(), rel=0.01)


@GAUSSIANS
def test_the_prior_is_noise_of_scale_sigma_1(process):
    prior = process.prior((50_000,), MANY)
    assert prior.std().item() == pytest.approx(process.schedule.sigma(torch.ones(())).item(), rel=0.01)


@GAUSSIANS
def test_reverse_given_the_data_has_the_marginal_of_the_earlier_time(process):
    """q(x_u | x_t, x0) averaged over q(x_t | x0) is q(x_u | x0), and its correlation with x_t is that of the process."""
    x0 = torch.full((4, 50_000), 0.8)
    x = process.corrupt(x0, times(0.7), MANY.at(0))
    earlier = process.reverse(x, times(0.7), times(0.3), x0, MANY.at(1))
    a, s = (f(torch.tensor([0.7, 0.3])) for f in (process.schedule.alpha, process.schedule.sigma))
    n = x.numel()
    assert earlier.mean().item() == pytest.approx(0.8 * a[1].item(), abs=4 * s[1].item() / math.sqrt(n))
    assert earlier.std().item() == pytest.approx(s[1].item(), rel=0.01)
    wanted = (a[0] / a[1] * s[1] / s[0]).item()
    assert torch.corrcoef(torch.stack([x.flatten(), earlier.flatten()]))[0, 1].item() == pytest.approx(wanted, abs=0.01)


@GAUSSIANS
def test_loss_is_the_squared_error_of_the_flow(process):
    noise = Noise(("a", "b", "c"), dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64)
    x0, x0_hat = noise.normal((2, 4), "x0"), noise.normal((2, 4), "guess")
    x = process.corrupt(x0, t, noise)
    by_hand = (process.flow(x, t, x0_hat) - process.flow(x, t, x0)).square().mean((1, 2))
    assert torch.allclose(process.loss(x0_hat, x0, x, t), by_hand)
    if process == Gaussian(Linear()):
        assert torch.allclose(process.loss(x0_hat, x0, x, t), (x0_hat - x0).square().mean((1, 2)) / t**2)


@GAUSSIANS
def test_the_flow_is_the_velocity_of_a_corrupted_point(process):
    noise = Noise(("a", "b", "c", "d"), dtype=torch.float64)
    x0, h = noise.normal((3,), "x0"), 1e-6
    ahead, here, behind = (process.corrupt(x0, times(0.4 + d), noise) for d in (h, 0, -h))
    assert torch.allclose(process.flow(here, times(0.4), x0), (ahead - behind) / (2 * h), atol=1e-5)
    assert torch.allclose(process.eps(here, times(0.4), x0), noise.normal((3,), "corrupt"))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_masking_keeps_alpha_of_the_tokens(schedule):
    process = Masked(5, 5, schedule)
    x0 = torch.arange(4)[:, None].expand(4, 20_000)
    x = process.corrupt(x0, times(0.3), MANY)
    kept = (x != 5).double().mean().item()
    alpha = schedule.alpha(times(0.3))[0].item()
    assert kept == pytest.approx(alpha, abs=4 * math.sqrt(alpha * (1 - alpha) / x.numel()))
    assert torch.equal(x[x != 5], x0[x != 5])
    assert bool((process.corrupt(x0, times(1.0), MANY) == 5).all())
    assert bool((process.prior((7,), MANY) == 5).all())


def test_reverse_reveals_the_right_share_and_draws_from_the_prediction():
    process, p = Masked(3, 3), torch.tensor([0.6, 0.3, 0.1])
    x = torch.full((4, 20_000), 3)
    x[:, 0] = 2
    out = process.reverse(x, times(0.8), times(0.5), p.log().expand(4, 20_000, 3), MANY)
    assert bool((out[:, 0] == 2).all())
    revealed = out[:, 1:][out[:, 1:] != 3]
    share, n = 0.3 / 0.8, 4 * 19_999
    assert len(revealed) / n == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n))
    assert fits(torch.bincount(revealed), p)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_the_masked_bound_is_the_exact_likelihood_for_exact_conditionals_and_above_it_for_others(schedule):
    """Two correlated tokens; the average over masks is summed exactly, that over t by Gauss-Legendre."""
    process = Masked(2, 2, schedule)
    joint = torch.tensor([[0.5, 0.1], [0.15, 0.25]], dtype=torch.float64)

    def exact(x):
        rows = []
        for first, second in x.tolist():
            table = joint.clone()
            if first < 2:
                table[1 - first] = 0
            if second < 2:
                table[:, 1 - second] = 0
            table /= table.sum()
            rows.append(torch.stack([table.sum(1), table.sum(0)]))
        return torch.stack(rows).log()

    def bound(predict, x0):
        nodes, weights = np.polynomial.legendre.leggauss(12 if isinstance(schedule, Linear) else 60)
        total = 0.0
        for node, weight in zip((nodes + 1) / 2, weights / 2):
            t = torch.tensor([node], dtype=torch.float64)
            keep = schedule.alpha(t).item()
            for masked in itertools.product((False, True), repeat=2):
                x = x0.masked_fill(torch.tensor([masked]), 2)
                chance = math.prod(1 - keep if m else keep for m in masked)
                total += weight * chance * process.loss(predict(x), x0, x, t).item()
        return 2 * total  # the loss is a mean over the two tokens

    for a, b in itertools.product((0, 1), repeat=2):
        x0, nll = torch.tensor([[a, b]]), -math.log(joint[a, b].item())
        assert bound(exact, x0) == pytest.approx(nll, rel=1e-6)
    flat = sum(
        joint[a, b].item() * bound(lambda x: (0.7 * exact(x).exp() + 0.15).log(), torch.tensor([[a, b]]))
        for a, b in itertools.product((0, 1), repeat=2)
    )
    entropy = -(joint * joint.log()).sum().item()
    assert flat > entropy + 0.01


def test_the_masked_bound_drawn_by_corrupt_agrees_with_the_likelihood():
    """Independent tokens: the bound, averaged over stratified t and drawn masks, is the entropy."""
    process, rows, length = Masked(3, 3), 2000, 8
    p = torch.tensor([0.5, 0.3, 0.2])
    noise = Noise(tuple(map(str, range(rows))))
    x0 = categorical(p.log().expand(rows, length, 3), noise.uniform((length,), "data"))
    t = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    loss = process.loss(p.log().expand(rows, length, 3), x0, process.corrupt(x0, t, noise), t)
    error = (loss.std() / math.sqrt(rows)).item()
    assert loss.mean().item() == pytest.approx(-(p * p.log()).sum().item(), abs=4 * error)
    assert error < 0.05


def test_impossible_tokens_at_written_places_do_not_spoil_the_loss():
    process = Masked(2, 2)
    x0_hat = torch.tensor([[[-math.inf, 0.0], [math.log(0.5), math.log(0.5)]]])
    loss = process.loss(x0_hat, torch.tensor([[0, 1]]), torch.tensor([[0, 2]]), torch.tensor([0.5]))
    assert loss.item() == pytest.approx(2 * math.log(2) / 2)


def test_a_mask_or_schedule_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match="mask_id 4 is a token of the vocabulary of 5; use 5"):
        Masked(5, 4)
    with pytest.raises(ValueError, match="keeps 1 of the tokens at t = 1; use Linear or Cosine"):
        Masked(5, 5, VE())
    assert Masked(5, 126_336).mask_id == 126_336


def test_categorical_draws_the_given_probabilities():
    p = torch.tensor([0.05, 0.0, 0.25, 0.4, 0.3, 0.0])
    tokens = categorical((p.log() + 7.0).expand(4, 20_000, 6), MANY.uniform((20_000,), "token"))
    found = torch.bincount(tokens.flatten(), minlength=6)
    assert found[1] == found[5] == 0
    possible = p > 0
    assert fits(found[possible], p[possible])


@pytest.mark.parametrize("u", [2.0**-24, 0.5, 1 - 2.0**-24])
@pytest.mark.parametrize(
    ("logits", "allowed"),
    [
        ([-math.inf, 0.0, -math.inf], {1}),
        ([1e4, -1e4, -1e4], {0}),
        ([-1e4, -1e4, 1e4], {2}),
        ([0.0, -math.inf, 0.0], {0, 2}),
        ([-1e4, -1e4, -math.inf], {0, 1}),
    ],
)
def test_categorical_is_safe_at_extremes(logits, allowed, u):
    for dtype in (torch.float32, torch.float64):
        assert categorical(torch.tensor([logits], dtype=dtype), torch.tensor([u])).item() in allowed
    assert categorical(torch.tensor([logits], dtype=torch.bfloat16), torch.tensor([u])).item() in allowed


def test_categorical_reaches_every_token_of_a_large_vocabulary():
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    tokens = categorical(torch.zeros(1, 1000).expand(10_000, 1000), u)
    assert torch.equal(torch.bincount(tokens), torch.full((1000,), 10))
