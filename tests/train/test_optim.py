import pytest
import torch
import toy
from torch import nn

from diptych.train import optim


def rate(images, **changes):
    settings = {"lr": 2.0, "batch": 10, "total": 1000, "warmup": 100, "decay": "constant", "tail": 0.2}
    return optim.rate(images, **{**settings, **changes})


def test_warmup_is_linear_and_its_first_step_moves():
    assert [rate(n) for n in (0, 40, 90, 500, 999)] == pytest.approx([0.2, 1.0, 2.0, 2.0, 2.0])
    assert rate(0, warmup=0) == 2.0


def test_cosine_ends_at_zero():
    assert [rate(n, decay="cosine") for n in (100, 550, 1000)] == pytest.approx([2.0, 1.0, 0.0], abs=1e-12)
    falling = [rate(n, decay="cosine") for n in range(100, 1000, 10)]
    assert falling == sorted(falling, reverse=True)


def test_the_linear_tail_is_only_the_tail():
    assert [rate(n, decay="linear_tail") for n in (500, 800, 900, 990, 1000)] == pytest.approx([2, 2, 1, 0.1, 0])


def test_vectors_and_frozen_weights_are_not_decayed():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2, bias=False))
    model[2].weight.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    optimizer = optim.adamw(model, 0.1, (0.9, 0.99), 0.5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = list(model.parameters())
    torch.testing.assert_close(after[0], before[0] * 0.95)
    assert all(torch.equal(a, b) for a, b in zip(after[1:], before[1:]))
    with pytest.raises(ValueError, match="nothing to train"):
        optim.adamw(model.requires_grad_(False), 0.1, (0.9, 0.99), 0.0)


def test_state_survives_the_round_trip():
    def step(model, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    model = toy.net()
    optimizer = optim.adamw(model, 0.1, (0.9, 0.99), 0.01)
    step(model, optimizer, 1)
    twin = toy.net()
    twin.load_state_dict(model.state_dict())
    other = optim.adamw(twin, 0.1, (0.9, 0.99), 0.01)
    kept = {name: value.clone() for name, value in optim.tensors(optimizer, model).items()}
    optim.restore(other, twin, kept)
    step(model, optimizer, 2)
    step(twin, other, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))
    with pytest.raises(ValueError, match=r"'c\.weight'"):
        optim.restore(other, twin, {"c.weight|exp_avg": torch.zeros(1)})
