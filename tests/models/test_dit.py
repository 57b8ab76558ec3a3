"""The transformer's published size, its masks, its null branch, its skips and its gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diptych.models.dit import DiT, DiTConfig

TINY = DiTConfig(in_channels=4, size=4, width=32, depth=5, heads=2, hidden=32, text_width=12, text_tokens=9)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def awake(config: DiTConfig = TINY) -> DiT:
    """A network with nothing left at zero, so that every path shows in the output."""
    model = DiT(config)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.2 / max(parameter.shape[-1], 1) ** 0.5 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def inputs(config: DiTConfig = TINY, lengths: tuple[int, ...] = (3, 6, 1)) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    batch, longest = len(lengths), max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    cond = {"text": draw(batch, longest, config.text_width, seed=1), "text_mask": mask}
    return draw(batch, config.in_channels, config.size, config.size), torch.linspace(0.1, 0.9, batch), cond


def test_the_quickstart_preset_has_its_parameters_and_widths() -> None:
    preset = DiT(DiTConfig())
    assert sum(p.numel() for p in preset.parameters()) == 10_185_104
    assert preset.positions.shape == (64, 256)
    sides = {p.shape[-1] for name, p in preset.named_parameters() if p.ndim == 2 and name.startswith("blocks.")}
    assert all(side % 256 == 0 for side in sides)


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("modulation", ["none", "shared"])
@pytest.mark.parametrize("long_skip", [True, False])
def test_every_form_gives_a_flow_of_the_latents_shape(patch: int, modulation: str, long_skip: bool) -> None:
    config = replace(TINY, patch=patch, modulation=modulation, long_skip=long_skip, depth=5 if long_skip else 4)
    x, t, cond = inputs(config)
    flow = awake(config)(x, t, cond)
    assert flow.shape == x.shape
    assert flow.isfinite().all()
    assert flow.std() > 0.01


@pytest.mark.parametrize("length", [1, 9])
def test_text_from_one_token_to_the_longest(length: int) -> None:
    x, t, cond = inputs(lengths=(length,))
    assert awake()(x, t, cond).shape == x.shape


def test_padding_never_reaches_the_output() -> None:
    model, (x, t, cond) = awake(), inputs()
    plain = model(x, t, cond)
    other = torch.where(cond["text_mask"][:, :, None], cond["text"], 100 * draw(*cond["text"].shape, seed=5))
    assert torch.allclose(model(x, t, {**cond, "text": other}), plain, atol=1e-6)
    longer = {
        "text": torch.cat([other, 50 * draw(3, 3, 12, seed=6)], dim=1),
        "text_mask": torch.cat([cond["text_mask"], torch.zeros(3, 3, dtype=torch.bool)], dim=1),
    }
    assert torch.allclose(model(x, t, longer), plain, atol=1e-5)
    real = cond["text"].clone()
    real[1, 5] += 1
    assert (model(x, t, {**cond, "text": real}) - plain)[1].abs().max() > 1e-4


def test_the_null_branch_knows_nothing_of_the_prompt_not_even_its_length() -> None:
    model, (x, t, cond) = awake(), inputs()
    null = torch.tensor([True, True, False])
    first = model(x, t, {**cond, "null": null})
    alone = {"text": draw(3, 2, 12, seed=8), "text_mask": torch.tensor([[True, False], [True, True], [True, False]])}
    second = model(x, t, {**alone, "null": null})
    assert torch.allclose(first[:2], second[:2], atol=1e-5)
    plain = model(x, t, cond)
    assert torch.allclose(first[2], plain[2], atol=1e-5)
    assert (first[:2] - plain[:2]).abs().max() > 1e-3


def test_rows_do_not_depend_on_their_batch() -> None:
    model, (x, t, cond) = awake(), inputs()
    together = model(x, t, cond)
    for i in range(3):
        row = {key: value[i : i + 1] for key, value in cond.items()}
        assert torch.allclose(model(x[i : i + 1], t[i : i + 1], row), together[i : i + 1], atol=1e-5)


def test_time_is_seen_only_with_modulation() -> None:
    x, t, cond = inputs()
    assert not torch.allclose(awake()(x, t, cond), awake()(x, 1 - t, cond), atol=1e-3)
    unmodulated = awake(replace(TINY, modulation="none"))
    assert torch.equal(unmodulated(x, t, cond), unmodulated(x, 1 - t, cond))


@pytest.mark.parametrize("modulation", ["none", "shared"])
def test_gradients_reach_every_parameter(modulation: str) -> None:
    config = replace(TINY, modulation=modulation)
    model, (x, t, cond) = awake(config), inputs(config)
    model(x, t, {**cond, "null": torch.tensor([True, False, False])}).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_fresh_network_predicts_zero_and_is_the_same_every_time() -> None:
    x, t, cond = inputs()
    first, second = DiT(TINY), DiT(TINY)
    assert not first(x, t, cond).any()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    other = DiT(TINY, torch.Generator().manual_seed(1))
    assert not torch.equal(first.embed.weight, other.embed.weight)
    model = awake()
    assert torch.equal(model(x, t, cond), model(x, t, cond))


def test_long_skips_join_block_i_to_block_depth_minus_1_minus_i() -> None:
    model, (x, t, cond) = awake(), inputs()
    outputs: dict[int, Tensor] = {}
    joined: dict[int, Tensor] = {}
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _, __, out, i=i: outputs.__setitem__(i, out[0]))
        if block.skip_image is not None:
            block.skip_image.register_forward_hook(lambda _, got, __, i=i: joined.__setitem__(i, got[0]))
    model(x, t, cond)
    assert sorted(joined) == [3, 4]
    for late, early in ((3, 1), (4, 0)):
        assert torch.equal(joined[late], torch.cat([outputs[late - 1], outputs[early]], dim=-1))


def test_attention_is_joint() -> None:
    model, (x, t, cond) = awake(replace(TINY, modulation="none")), inputs(lengths=(3, 3, 3))
    moved = cond["text"].clone()
    moved[:, 2] += 1  # one word changes the picture; swapping words changes it too, so their order is seen
    swapped = cond["text"][:, [1, 0, 2]]
    plain = model(x, t, cond)
    assert (model(x, t, {**cond, "text": moved}) - plain).abs().max() > 1e-4
    assert (model(x, t, {**cond, "text": swapped}) - plain).abs().max() > 1e-5


def test_bfloat16_autocast_stays_near_float32() -> None:
    model, (x, t, cond) = awake(), inputs()
    plain = model(x, t, cond)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, t, cond)
    assert (rough.float() - plain).norm() < 0.03 * plain.norm()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"depth": 4}, "odd"),
        ({"size": 5, "patch": 2}, "multiple"),
        ({"heads": 3}, "heads"),
        ({"modulation": "full"}, "'none' or 'shared'"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(TINY, **change)  # pyright: ignore[reportArgumentType]


def test_wrong_inputs_are_refused() -> None:
    model, (x, t, cond) = DiT(TINY), inputs()
    with pytest.raises(ValueError, match="latents of shape"):
        model(x[:, :3], t, cond)
    with pytest.raises(ValueError, match="1 to 9 tokens"):
        model(x, t, {"text": draw(3, 10, 12), "text_mask": torch.ones(3, 10, dtype=torch.bool)})
