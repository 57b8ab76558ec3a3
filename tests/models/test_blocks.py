"""Positions, norms, patches and attention against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from diptych.models.blocks import (
    RMSNorm,
    SwiGLU,
    TimeEmbedding,
    attention,
    init_weight,
    patchify,
    rope,
    rope_angles,
    sincos,
    sincos_2d,
    unpatchify,
)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def turn(positions: torch.Tensor, widths: tuple[int, ...]) -> torch.Tensor:
    angles = rope_angles(positions, widths)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def test_rms_norm_follows_its_formula_and_computes_in_float32() -> None:
    norm = RMSNorm(6)
    norm.weight.data = draw(6, seed=1)
    x = draw(4, 6)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    assert torch.allclose(norm(x), expected, atol=1e-6)
    large = torch.full((1, 6), 300.0, dtype=torch.float16)  # its square is beyond float16
    assert norm(large).dtype == torch.float16
    assert torch.allclose(norm(large).float(), norm.weight, atol=2e-3)


def test_swiglu_takes_the_gate_from_the_first_half() -> None:
    mlp = SwiGLU(4, 6)
    x = draw(3, 4)
    both = x @ mlp.w12.weight.T + mlp.w12.bias
    gate, value = both[:, :6], both[:, 6:]
    expected = (gate * gate.sigmoid() * value) @ mlp.w3.weight.T + mlp.w3.bias
    assert torch.allclose(mlp(x), expected, atol=1e-6)


def test_sincos_2d_puts_the_column_first_and_scales_the_grid() -> None:
    table = sincos_2d(2, 3, 16)
    assert table.shape == (6, 16)
    assert torch.equal(table[0, :8], table[3, :8])  # tokens 0 and 3 share column 0
    assert torch.equal(table[0, 8:], table[2, 8:])  # tokens 0 and 2 share row 0
    assert table[1, 0].item() == pytest.approx(math.sin(1.0))
    assert table[1, 4].item() == pytest.approx(math.cos(1.0))
    assert torch.allclose(sincos_2d(4, 4, 16, scale=0.5)[2, :8], sincos_2d(4, 4, 16)[1, :8])
    assert torch.allclose(sincos(torch.tensor([3.0]), 8).square().sum(), torch.tensor(4.0))


def test_time_embedding_tells_times_apart_and_is_row_local() -> None:
    embed = TimeEmbedding(8)
    t = torch.tensor([0.0, 0.001, 0.5, 1.0])
    out = embed(t)
    assert torch.pdist(out).min() > 1e-4
    assert torch.allclose(out[2:3], embed(t[2:3]), atol=1e-6)


def test_rope_keeps_lengths_and_sees_only_differences_of_position() -> None:
    widths = (8, 4, 4)
    q, k = draw(1, 1, 2, 16, seed=1), draw(1, 1, 2, 16, seed=2)

    def score(at: list[float], to: list[float]) -> torch.Tensor:
        turned_q, turned_k = rope(q, turn(torch.tensor([at]), widths)), rope(k, turn(torch.tensor([to]), widths))
        assert torch.allclose(turned_q.norm(), q.norm(), atol=1e-5)
        return (turned_q * turned_k).sum(-1)

    near, far = score([3, 1, 5], [1, 0, 2]), score([7, 4, 13], [5, 3, 10])
    assert torch.allclose(near, far, atol=1e-4)
    assert not torch.allclose(near, score([3, 1, 5], [1, 0, 3]), atol=1e-2)
    assert torch.equal(rope(q, turn(torch.zeros(1, 3), widths)), q)


def test_rope_turns_interleaved_pairs() -> None:
    x = torch.tensor([[[[1.0, 0.0, 0.0, 1.0]]]])
    turned = rope(x, turn(torch.tensor([[0.3]]), (4,)))
    slow = 0.3 * 10000.0**-0.5
    expected = [math.cos(0.3), math.sin(0.3), -math.sin(slow), math.cos(slow)]
    assert turned.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_come_back(patch: int) -> None:
    x = draw(2, 3, 8, 4)
    tokens = patchify(x, patch)
    assert tokens.shape == (2, 8 * 4 // patch**2, 3 * patch**2)
    assert torch.equal(unpatchify(tokens, patch, 8 // patch, 4 // patch), x)
    assert torch.equal(tokens[0, 0, :3], x[0, :, 0, 0])  # channel fastest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_matches_its_formula_in_both_paths(dtype: torch.dtype) -> None:
    q, k, v = (draw(2, n, 2, 8, seed=n, dtype=torch.float64).to(dtype) for n in (3, 5, 5))
    v = v.roll(1, 1)
    keep = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / math.sqrt(8)
    for mask in (None, keep):
        masked = scores if mask is None else scores.masked_fill(~mask[:, None, None], -torch.inf)
        expected = torch.einsum("bhqk,bkhd->bqhd", masked.softmax(-1), v.double()).flatten(2)
        got = attention(q, k, v, mask)
        assert got.dtype == dtype
        assert torch.allclose(got.double(), expected, atol=1e-6 if dtype == torch.float32 else 3e-2)


def test_initial_weights_have_the_asked_spread() -> None:
    layer = torch.nn.Linear(256, 512)
    init_weight(layer, torch.Generator().manual_seed(0), gain=0.5)
    assert layer.weight.std().item() == pytest.approx(0.5 / 16, rel=0.02)
    assert not layer.bias.any()
