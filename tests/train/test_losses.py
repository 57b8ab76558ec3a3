import pytest
import torch

from diptych.train.losses import mean_squared, rectified_flow


def test_the_true_flow_has_no_loss_and_zero_has_its_square():
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(3, 2, 4, 4, generator=generator) for _ in range(2))
    t = torch.tensor([0.0, 0.25, 1.0])

    def true(x, t, cond):
        assert torch.equal(x[0], x0[0]) and torch.equal(x[2], eps[2]) and cond == "words"
        torch.testing.assert_close(x[1], 0.75 * x0[1] + 0.25 * eps[1])
        return eps - x0

    assert torch.equal(rectified_flow(true, x0, "words", t, eps), torch.zeros(3))
    losses = rectified_flow(lambda x, t, cond: torch.zeros_like(x), x0, None, t, eps)
    torch.testing.assert_close(losses, (eps - x0).square().mean((1, 2, 3)))


def test_float32_and_equal_shapes():
    half = torch.full((2, 3), 100.0, dtype=torch.bfloat16)
    assert mean_squared(half, torch.zeros(2, 3)).tolist() == [10_000.0, 10_000.0]
    with pytest.raises(ValueError, match=r"\(2, 3\) and target \(2, 1\)"):
        mean_squared(half, torch.zeros(2, 1))
