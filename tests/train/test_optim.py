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


def test_the_half_moment_is_rounded_only_to_be_kept():
    """Against Adam written out in float64 with the first moment rounded once a step."""
    generator = torch.Generator().manual_seed(2)
    model, (b1, b2), lr = nn.Linear(7, 5), (0.9, 0.95), 0.01
    optimizer = optim.Adam16(model, lr, (b1, b2))
    weights = [p.detach().double().clone() for p in model.parameters()]
    first, second = [[torch.zeros_like(p) for p in weights] for _ in range(2)]
    for n in range(1, 40):
        for i, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=generator) * 10 ** (n % 5 - 2)
            grad = parameter.grad.double()
            mean = b1 * first[i] + (1 - b1) * grad
            second[i] = b2 * second[i] + (1 - b2) * grad**2
            weights[i] -= lr * (mean / (1 - b1**n)) / ((second[i] / (1 - b2**n)).sqrt() + 1e-8)
            first[i] = mean.bfloat16().double()
        optimizer.step()
    kept = optim.tensors(optimizer, model)
    assert kept["weight|exp_avg"].dtype == torch.bfloat16 and kept["weight|exp_avg_sq"].dtype == torch.float32
    for parameter, expected in zip(model.parameters(), weights):
        torch.testing.assert_close(parameter.double(), expected, atol=3e-4, rtol=0)


def test_the_half_moment_without_rounding_is_adam():
    """Gradients that are powers of two, and moments that bfloat16 holds exactly: torch's Adam to rounding."""
    models = [nn.Linear(3, 3), nn.Linear(3, 3)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [optim.Adam16(models[0], 0.1, (0.5, 0.75)), optim.adamw(models[1], 0.1, (0.5, 0.75), 0.0)]
    for n in range(6):
        for model, optimizer in zip(models, optimizers):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, (-1.0) ** n)
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_weights_without_gradient_stay_and_the_state_comes_back():
    model, twin = toy.net(), toy.net()
    optimizer, other = optim.Adam16(model, 0.1, (0.9, 0.99)), optim.Adam16(twin, 0.1, (0.9, 0.99))
    before = model.b.bias.clone()
    for parameter in [p for name, p in model.named_parameters() if name != "b.bias"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(model.b.bias, before) and not torch.equal(model.a.weight, twin.a.weight)
    twin.load_state_dict(model.state_dict())
    optim.restore(other, twin, {name: value.clone() for name, value in optim.tensors(optimizer, model).items()})
    for one, own in ((model, optimizer), (twin, other)):
        for parameter in one.parameters():
            parameter.grad = torch.full_like(parameter, 0.3)
        own.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))
    with pytest.raises(ValueError, match="nothing to train"):
        optim.Adam16(model.requires_grad_(False), 0.1, (0.9, 0.99))
