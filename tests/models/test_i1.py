"""i1's network: published integers, an independent float64 reference, and what each switch promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import i1_reference as reference
import pytest
import torch
from torch import Tensor

from diptych.models.i1 import I1
from diptych.models.i1_config import PRESETS, PUBLISHED, WIDTHS, I1Config, sized
from diptych.models.i1_names import manifest
from diptych.models.i1_weights import published_tensors

TOTALS = {
    1152: 1_036_193_492,
    1296: 1_310_648_996,
    1440: 1_617_328_244,
    1584: 1_956_231_236,
    1728: 2_327_357_972,
    1872: 2_730_708_452,
    2016: 3_166_282_676,
}
ADAPTERS = {1152: 35_124_384, 1296: 43_920_144, 1440: 53_711_232, 1584: 64_497_648, 1728: 76_279_392, 1872: 89_056_464}
SKIPS = {1152: 74_350_080, 1296: 94_094_784, 1440: 116_161_920, 1584: 140_551_488, 1728: 167_263_488, 2016: 227_654_784}
TINY = replace(PUBLISHED, channels=3, width=32, heads=2, hidden=40, depth=5, text_width=24, text_tokens=9, base=4, patch=2)


def built(config: I1Config) -> I1:
    """A network whose norms and biases are not at their trivial start."""
    draw = torch.Generator().manual_seed(1)
    net = I1(config, draw)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(torch.randn(value.shape, generator=draw) * 0.05)
    return net.eval()


def prompts(*lengths: int, tokens: int = 9, width: int = 24) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(2)
    mask = torch.arange(tokens) < torch.tensor(lengths)[:, None]
    return {"text": torch.randn(len(lengths), tokens, width, generator=draw), "text_mask": mask}


def latents(count: int, height: int = 8, width: int = 8, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(3))


def ask(net: I1, x: Tensor, cond: Mapping[str, Tensor], t: float = 0.5) -> Tensor:
    with torch.no_grad():
        return net(x, torch.full((len(x),), t), cond)


@pytest.mark.parametrize("width", WIDTHS)
def test_published_sizes(width: int) -> None:
    config = sized(PUBLISHED, width)
    shapes = manifest(config, 256)
    assert len(shapes) == 737
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == TOTALS[width]
    with torch.device("meta"):
        net = I1(config)
    assert sum(value.numel() for value in net.adapter.parameters()) == ADAPTERS.get(width, 102_828_864)
    skips = [value.numel() for name, value in net.named_parameters() if ".skip." in name]
    assert sum(skips) == SKIPS.get(width, 196_297_920)


def test_published_counts_with_and_without_tables() -> None:
    assert sum(torch.Size(shape).numel() for shape in manifest(PRESETS["i1-3B"], 1024).values()) == 3_174_025_844
    for name, trained, clock in (("i1-3B", 3_165_756_752, 4_584_384), ("i1-1B", 1_035_888_752, 1_624_320)):
        with torch.device("meta"):
            net = I1(PRESETS[name])
        assert sum(value.numel() for value in net.parameters()) == trained
        assert net.time is not None and sum(value.numel() for value in net.time.parameters()) == clock


@pytest.mark.parametrize(("name", "count"), [("cross", 894_068_384), ("single", 819_683_984), ("dual", 1_239_338_960)])
def test_published_baselines(name: str, count: int) -> None:
    """Their published counts hold the table of 256 positions and no rotary one."""
    with torch.device("meta"):
        net = I1(PRESETS[name])
    assert sum(value.numel() for value in net.parameters()) + 256 * 1152 == count
    assert sum(value.numel() for value in net.adapter.parameters()) == 4_573_440


def test_one_adapter_block() -> None:
    with torch.device("meta"):
        net = I1(replace(PUBLISHED, adapter_blocks=1))
    assert sum(value.numel() for value in net.adapter.parameters()) == 19_184_784


@pytest.mark.parametrize(("resolution", "tokens"), [(256, 256), (512, 1024), (1024, 4096)])
def test_manifest(resolution: int, tokens: int) -> None:
    shapes = manifest(PRESETS["i1-3B"], resolution)
    h, f = 2016, 5376
    wanted = {
        "pos_embed": (1, tokens, h),
        "x_embedder.proj.weight": (h, 32, 2, 2),
        "t_embedder.linear1.weight": (h, 256),
        "t_embedder.linear2.bias": (h,),
        "text_encoder_adapter.learnable_null_caption": (1, 256, 2304),
        "text_encoder_adapter.connector_in.weight": (h, 2304),
        "text_encoder_adapter.connector_norm4.scale": (h,),
        "text_encoder_adapter.connector_attn.qkv.weight": (3 * h, h),
        "text_encoder_adapter.connector_attn2.k_norm.scale": (72,),
        "text_encoder_adapter.connector_mlp2.w12.bias": (2 * f,),
        "rope_embedder.cos_tables.0": (257, 18),
        "rope_embedder.sin_tables.2": (resolution // 16, 9),
        "in_blocks.13.norm4.scale": (h,),
        "mid_block.attn.qkv_text.weight": (3 * h, h),
        "out_blocks.13.mlp_text.w3.weight": (h, f),
        "out_blocks.0.skip_linear_text.weight": (h, 2 * h),
        "final_layer.linear.weight": (128, h),
    }
    assert {name: shapes[name] for name in wanted} == wanted
    blocks = [f"in_blocks.{i}" for i in range(14)] + ["mid_block"] + [f"out_blocks.{i}" for i in range(14)]
    assert {len([n for n in shapes if n.startswith(f"{b}.") and "skip" not in n]) for b in blocks} == {22}


@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_network_is_the_reference(size: tuple[int, int]) -> None:
    """Blocks, rotation, table, order of skips and of patches against section 1.2 written out in float64."""
    net, x, cond = built(TINY), latents(3, *size), prompts(9, 4, 2)
    null = torch.tensor([False, True, False])
    weights = {name: value.detach().double() for name, value in published_tensors(net, 64).items()}
    ready = reference.prepare(weights, cond["text"].double(), cond["text_mask"], null, size, 2, base=4)
    wanted = -reference.velocity(weights, x.double(), ready, 5, 2)
    found = ask(net, x, {**cond, "null": null})
    assert (found - wanted).abs().max() < 2e-5 * wanted.abs().max()
    assert wanted.std() > 0.3


def test_reference_tells_mistakes() -> None:
    """Swapping two skips, or the axes of a patch, is seen."""
    net, x, cond = built(TINY), latents(2), prompts(9, 4)
    weights = {name: value.detach().double() for name, value in published_tensors(net, 64).items()}
    ready = reference.prepare(weights, cond["text"].double(), cond["text_mask"], torch.zeros(2).bool(), (8, 8), 2, base=4)
    right = reference.velocity(weights, x.double(), ready, 5, 2)
    for a, b in (("out_blocks.0.skip_linear_image.weight", "out_blocks.1.skip_linear_image.weight"),):
        wrong = reference.velocity({**weights, a: weights[b], b: weights[a]}, x.double(), ready, 5, 2)
        assert (wrong - right).abs().max() > 0.01 * right.abs().max()
    entry = weights["x_embedder.proj.weight"].transpose(2, 3)
    wrong = reference.velocity({**weights, "x_embedder.proj.weight": entry}, x.double(), ready, 5, 2)
    assert (wrong - right).abs().max() > 0.01 * right.abs().max()


SWITCHES = {
    "dual": replace(TINY, adapter_mask=True, null="token", keep_unread=False),
    "single": replace(TINY, adapter_mask=True, null="token", keep_unread=False, backbone="single"),
    "cross": replace(TINY, adapter_mask=True, null="token", keep_unread=False, backbone="cross"),
}


@pytest.mark.parametrize("backbone", SWITCHES)
def test_padding_is_not_seen(backbone: str) -> None:
    """With a masked adapter: neither what padding holds, nor how long it is, nor who else is in the batch."""
    net, x, cond = built(SWITCHES[backbone]), latents(2), prompts(7, 3)
    found = ask(net, x, cond)
    noisy = torch.where(cond["text_mask"][..., None], cond["text"], 100.0)
    longer = {
        "text": torch.nn.functional.pad(noisy, (0, 0, 0, 300), value=7.0),
        "text_mask": torch.nn.functional.pad(cond["text_mask"], (0, 300)),
    }
    assert torch.allclose(ask(net, x, longer), found, atol=1e-5)
    alone = ask(net, x[1:], {name: value[1:] for name, value in cond.items()})
    assert torch.allclose(alone, found[1:], atol=1e-5)
    net.trim = 9
    assert torch.allclose(ask(net, x, cond), found, atol=1e-5)


def test_published_adapter_reads_padding() -> None:
    net, x, cond = built(TINY), latents(2), prompts(7, 3)
    noisy = {**cond, "text": torch.where(cond["text_mask"][..., None], cond["text"], 3.0)}
    assert (ask(net, x, noisy) - ask(net, x, cond)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="exactly 9"):
        ask(net, x, prompts(3, 3, tokens=8))


@pytest.mark.parametrize("backbone", SWITCHES)
def test_null_token_forgets_the_prompt(backbone: str) -> None:
    net, x = built(SWITCHES[backbone]), latents(1).expand(2, -1, -1, -1)
    found = ask(net, x, {**prompts(7, 2), "null": torch.tensor([True, True])})
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_published_null_shows_the_length() -> None:
    net, x = built(TINY), latents(1).expand(2, -1, -1, -1)
    found = ask(net, x, {**prompts(7, 2), "null": torch.tensor([True, True])})
    assert (found[0] - found[1]).abs().max() > 1e-3
    longer = built(replace(TINY, adapter_mask=True))
    two = ask(longer, x, {**prompts(14, 9, tokens=14), "null": torch.tensor([True, True])})
    assert torch.allclose(two[0], two[1], atol=1e-6), "the null text has 9 tokens, however long the prompt"


@pytest.mark.parametrize(("modulation", "time", "text"), [("none", 0, 0), ("time", 1, 0), ("text", 0, 1), ("both", 1, 1)])
def test_time_is_read_only_by_modulation(modulation: str, time: int, text: int) -> None:
    net, x, cond = built(replace(SWITCHES["dual"], modulation=modulation)), latents(2), prompts(7, 3)
    early, late = ask(net, x, cond, 0.1), ask(net, x, cond, 0.9)
    assert torch.equal(early, late) == (not time)
    assert (net.time is not None) == bool(time)
    assert (net.final_modulation is not None) == bool(time or text)


def test_clock_of_i1() -> None:
    """256 features [cos, sin] of i1's own time, 0 = noise, unscaled."""
    net = built(replace(SWITCHES["dual"], modulation="time"))
    assert net.time is not None
    t = torch.tensor([0.3, 0.8])
    frequency = 10000.0 ** (-torch.arange(128, dtype=torch.float64) / 128)
    angle = (1 - t.double())[:, None] * frequency
    features = torch.cat([angle.cos(), angle.sin()], 1).float()
    inner = torch.nn.functional.silu(features @ net.time.linear1.weight.T + net.time.linear1.bias)
    wanted = inner @ net.time.linear2.weight.T + net.time.linear2.bias
    assert torch.allclose(net.time(t), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"long_skip": False},
        {"sandwich": False},
        {"norms": "separate"},
        {"qk_norm": False},
        {"positions": "rope"},
        {"positions": "sincos"},
        {"adapter_blocks": 0},
        {"modulation": "both"},
        {"backbone": "single", "modulation": "both"},
        {"backbone": "single", "sandwich": False},
        {"backbone": "cross", "modulation": "both", "norms": "separate"},
    ],
    ids=str,
)
def test_every_trained_weight_matters(change: dict) -> None:
    """Each parameter gets a gradient that is not zero; checkpointing gives the same one."""
    net, x, cond = built(replace(SWITCHES["dual"], **change)), latents(2), prompts(7, 3)
    cond["null"] = torch.tensor([True, False])

    def gradients() -> dict[str, Tensor]:
        net.zero_grad()
        net(x, torch.tensor([0.2, 0.7]), cond).square().mean().backward()
        return {name: value.grad for name, value in net.named_parameters() if value.requires_grad and value.grad is not None}

    plain = gradients()
    assert plain.keys() == {name for name, value in net.named_parameters() if value.requires_grad}
    assert not [name for name, grad in plain.items() if not bool((grad != 0).any())]
    net.recompute = True
    assert all(torch.equal(grad, plain[name]) for name, grad in gradients().items())


def test_positions_span_the_same_range_at_every_size() -> None:
    """A token's place is its index times base / sqrt(rows x columns): every second token of 8 x 8 stands where 4 x 4's do."""
    from diptych.models.i1_positions import image_turn, joint_turn, table

    small, large = table(4, 4, 32, 4, "cpu"), table(8, 8, 32, 4, "cpu").unflatten(0, (8, 8))[::2, ::2].flatten(0, 1)
    assert torch.allclose(small, large)
    small, large = (image_turn(side, side, 16, 4, 1e4, "cpu").unflatten(0, (side, side)) for side in (4, 8))
    assert torch.allclose(small, large[::2, ::2])
    wide = joint_turn(torch.ones(1, 3, dtype=torch.bool), 2, 8, 16, 4, 1e4)[0, :16].unflatten(0, (2, 8))
    square = joint_turn(torch.ones(1, 3, dtype=torch.bool), 4, 4, 16, 4, 1e4)[0, :16].unflatten(0, (4, 4))
    assert torch.allclose(wide[:2, :4], square[:2, :4]), "as many tokens, the same scale"


def test_start_is_the_same_on_meta_and_off() -> None:
    config = SWITCHES["dual"]
    with torch.device("meta"):
        net = I1(config)
    net.to_empty(device="cpu")
    net.init(torch.Generator().manual_seed(0))
    for (name, found), wanted in zip(net.state_dict().items(), I1(config).state_dict().values(), strict=True):
        assert torch.equal(found, wanted), name


def test_initial_deviations() -> None:
    net = I1(replace(PRESETS["small"], depth=3, long_skip=True, adapter_blocks=2))
    width = 256
    stds = {
        "blocks.0.streams.image.qkv.weight": width**-0.5,
        "blocks.2.streams.text.skip.weight": (2 / (3 * width)) ** 0.5,
        "adapter.inlet.weight": (2 / (384 + width)) ** 0.5,
        "adapter.null": 384**-0.5,
    }
    state = net.state_dict()
    for name, std in stds.items():
        assert state[name].std().item() == pytest.approx(std, rel=0.06), name
    x = latents(8, channels=16)
    assert 0.5 < ask(net, x, prompts(*[9] * 8, width=384)).std() < 1.5


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("backbone", "triple", "choose from dual, single, cross"),
        ("depth", 4, "long skips need an odd depth"),
        ("width", 36, "multiple of 8 a head"),
        ("hidden", 0, "hidden 0 is not positive"),
        ("refiners", -1, "refiners -1 is negative"),
    ],
)
def test_config_is_checked(field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **{field: value})


def test_inputs_are_checked() -> None:
    net, cond = built(TINY), prompts(9, 9)
    with pytest.raises(ValueError, match="multiples of the patch, 2"):
        ask(net, latents(2, 7, 8), cond)
    with pytest.raises(ValueError, match="expected \\(batch, 3"):
        ask(net, latents(2, channels=4), cond)
    with pytest.raises(ValueError, match="24"):
        ask(net, latents(2), prompts(9, 9, width=20))
    with pytest.raises(ValueError, match="no text token"):
        ask(built(SWITCHES["cross"]), latents(2), prompts(9, 0))
    with pytest.raises(ValueError, match="none of the paper's"):
        sized(TINY, 1000)
