"""The written-out backward pass against torch's own and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from diptych.models.rms_norm import LeanRMSNorm, _Lean


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 4, 6), (1, 1)])
def test_values_and_gradients(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    norm = LeanRMSNorm(shape[-1])
    x, g = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(shape[-1:], generator=draw))
        quiet = norm(x)
    x.requires_grad_()
    wanted = F.rms_norm(x, norm.weight.shape, norm.weight, 1e-6)
    found = norm(x)
    assert torch.allclose(found, wanted, atol=1e-6) and torch.allclose(quiet, wanted, atol=1e-6)
    for a, b in zip(torch.autograd.grad(found, (x, norm.weight), g), torch.autograd.grad(wanted, (x, norm.weight), g)):
        assert torch.allclose(a, b, atol=1e-5)


def test_finite_differences() -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(3, 4, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: _Lean.apply(x, w, 1e-3), (x, weight))


def test_zeros_and_half() -> None:
    norm = LeanRMSNorm(4)
    x = torch.zeros(2, 4, requires_grad=True)
    norm(x).sum().backward()
    assert bool(x.grad.isfinite().all())  # type: ignore[union-attr]
    assert norm(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_bfloat16_is_rounded_once() -> None:
    draw = torch.Generator().manual_seed(2)
    norm = LeanRMSNorm(64)
    wide = torch.randn(50, 64, generator=draw).bfloat16().float().requires_grad_()
    x, g = wide.detach().bfloat16().requires_grad_(), torch.randn(50, 64, generator=draw).bfloat16()
    (wanted,) = torch.autograd.grad(norm(wide), wide, g.float())
    (found,) = torch.autograd.grad(norm(x), x, g)
    assert torch.equal(norm(x), norm(wide).bfloat16()) and torch.equal(found, wanted.bfloat16())
