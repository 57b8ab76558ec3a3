import math

import pytest
import torch
from torch import nn

from diptych.train.ema import Ema, decay_at, power_of


def walk(decay, profile, steps=12):
    """Averages of a weight that is 1, 2, 3, ... after each update, starting from 0."""
    model = nn.Linear(1, 1, bias=False).double()
    model.weight.data.zero_()
    ema = Ema(model, decay, profile)
    for step in range(1, steps + 1):
        model.weight.data.fill_(step)
        ema.update()
    return ema.model.weight.item()


def test_constant_is_the_geometric_sum():
    decay, steps = 0.9, 12
    expected = sum((1 - decay) * decay ** (steps - step) * step for step in range(1, steps + 1))
    assert walk(decay, "constant", steps) == pytest.approx(expected, rel=1e-12)


def test_warmup_starts_quickly_and_ends_at_the_decay():
    assert [decay_at(n, 0.99, "warmup") for n in (1, 2)] == [1 / 10, 2 / 11]
    assert decay_at(10_000, 0.99, "warmup") == 0.99


def test_power_weights_follow_the_power():
    width, steps = 0.1, 400
    gamma = power_of(width)
    # the closed form weighs step k by about k^gamma; the mean of such steps is (gamma + 1) / (gamma + 2) of the end
    assert walk(width, "power", steps) / steps == pytest.approx((gamma + 1) / (gamma + 2), rel=5e-3)


@pytest.mark.parametrize("gamma", [1.0, 6.94, 16.97])
def test_the_exponent_is_the_widths_inverse(gamma):
    # 6.94 and 16.97 are the exponents the paper gives for widths 0.10 and 0.05
    width = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
    assert power_of(width) == pytest.approx(gamma, rel=1e-6)
    with pytest.raises(ValueError, match=r"relative width 0\.9"):
        Ema(nn.Linear(1, 1), 0.9, "power")


def test_the_papers_exponents():
    assert power_of(0.10) == pytest.approx(6.94, abs=0.005)
    assert power_of(0.05) == pytest.approx(16.97, abs=0.005)


def test_buffers_are_copied_frozen_weights_kept_and_half_is_averaged_in_float():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(torch.bfloat16)
    model[0].bias.requires_grad_(False)
    bias = model[0].bias.clone()
    ema = Ema(model, 0.5, "constant")
    model[1].running_mean.fill_(3)
    model[0].weight.data.fill_(1)
    start = ema.model[0].weight.clone()
    ema.update()
    assert ema.model[1].running_mean.tolist() == [3, 3]
    assert ema.model[0].weight.dtype == torch.float32
    torch.testing.assert_close(ema.model[0].weight, (start + 1) / 2)
    assert torch.equal(ema.model[0].bias, bias.float())
    assert not any(p.requires_grad for p in ema.model.parameters()) and not ema.model.training
