"""i1's published tensors and ours: names, layouts and shapes, both ways.

Published (torch and JAX alike): time runs from noise to data, so the network predicts data - noise, minus our flow; the last
Linear changes its sign at this border. Patches enter through a convolution, here through a Linear on (dy, dx, channel). The
files hold two kinds of fixed table as well, which belong to one resolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from diptych.models.i1_config import PUBLISHED, I1Config
from diptych.models.i1_positions import joint_turn, table

FACTOR = 8
"""Pixels a latent covers along a side, in the published autoencoder."""

TABLES = re.compile(r"pos_embed|rope_embedder\.(cos|sin)_tables\.\d")
"""Published tensors that are recomputed for the size at hand."""

RULES = (
    (r"^embed\.", "x_embedder.proj."),
    (r"^time\.", "t_embedder."),
    (r"^adapter\.null$", "text_encoder_adapter.learnable_null_caption"),
    (r"^adapter\.inlet\.", "text_encoder_adapter.connector_in."),
    (r"^final_norm\.weight$", "final_layer.norm_final.scale"),
    (r"^final\.", "final_layer.linear."),
)
INNER = (
    (r"^norms\.all\.(norm\d)\.weight$", r"\1.scale"),
    (r"^norms\.all\.([qk])\.weight$", r"attn.\1_norm.scale"),
    (r"^streams\.(image|text)\.(qkv|proj)\.(weight|bias)$", r"attn.\2_\1.\3"),
    (r"^streams\.(image|text)\.mlp\.(w12|w3)\.(weight|bias)$", r"mlp_\1.\2.\3"),
    (r"^streams\.(image|text)\.skip\.(weight|bias)$", r"skip_linear_\1.\2"),
)


def check_published(config: I1Config) -> None:
    """Refuse a network that the published layout cannot hold, naming the first field that differs.

    Raises:
        ValueError: naming the field.
    """
    for name in ("backbone", "adapter_mask", "null", "long_skip", "modulation", "sandwich", "norms", "qk_norm", "positions"):
        if getattr(config, name) != getattr(PUBLISHED, name):
            raise ValueError(
                f"i1: {name} {getattr(config, name)!r} has no place in the published layout, whose networks have "
                f"{getattr(PUBLISHED, name)!r}; save it as a folder of ours"
            )
    if config.adapter_blocks < 1:
        raise ValueError("i1: an MLP adapter has no place in the published layout; save it as a folder of ours")


def published_name(ours: str, depth: int) -> str:
    """Published name of one of our parameters."""
    for pattern, name in RULES:
        if re.search(pattern, ours):
            return re.sub(pattern, name, ours)
    if found := re.fullmatch(r"adapter\.blocks\.(\d+)\.(.+)", ours):
        return "text_encoder_adapter." + _connector(int(found[1]), found[2])
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", ours)
    inner = (
        next((re.sub(pattern, name, found[2]) for pattern, name in INNER if re.search(pattern, found[2])), "") if found else ""
    )
    if not found or not inner:
        raise ValueError(f"i1: {ours} has no published name")
    i, half = int(found[1]), depth // 2
    where = f"in_blocks.{i}" if i < half else "mid_block" if i == half else f"out_blocks.{i - half - 1}"
    return f"{where}.{inner}"


def _connector(block: int, inner: str) -> str:
    suffix = "" if block == 0 else str(block + 1)
    if found := re.fullmatch(r"norms\.all\.norm([12])\.weight", inner):
        return f"connector_norm{2 * block + int(found[1])}.scale"
    if found := re.fullmatch(r"norms\.all\.([qk])\.weight", inner):
        return f"connector_attn{suffix}.{found[1]}_norm.scale"
    return re.sub(
        r"^streams\.text\.mlp",
        f"connector_mlp{suffix}",
        re.sub(r"^streams\.text\.(?=qkv|proj)", f"connector_attn{suffix}.", inner),
    )


def to_published(name: str, value: Tensor, config: I1Config) -> Tensor:
    """One of our tensors in the published layout; `from_published` undoes it."""
    if name == "embed.weight":
        return value.unflatten(1, (config.patch, config.patch, config.channels)).permute(0, 3, 1, 2).contiguous()
    return -value if name.startswith("final.") else value


def from_published(name: str, value: Tensor) -> Tensor:
    """A published tensor, of our name `name`, in our layout."""
    if name == "embed.weight":
        return value.permute(0, 2, 3, 1).flatten(1)
    return -value if name.startswith("final.") else value


def tables(config: I1Config, resolution: int) -> dict[str, Tensor]:
    """The fixed tensors of a published file for square pictures of `resolution` pixels, float32."""
    side = _side(config, resolution)
    head, base, theta = config.width // config.heads, config.base, config.theta
    longest = torch.ones(1, config.text_tokens, dtype=torch.bool)
    turn = joint_turn(longest, side, side, head, base, theta)[0]
    grid = turn[: side * side].unflatten(0, (side, side))
    line = torch.cat([turn[side * side :], turn[:1]])  # 0 .. L - 1 from the text, L from the picture behind it
    quarter, half = head // 4, head // 8
    axes = (line[:, :quarter], grid[:, 0, quarter : quarter + half], grid[0, :, quarter + half :])
    made = {"pos_embed": table(side, side, config.width, base, "cpu")[None]}
    for kind, which in (("cos", 0), ("sin", 1)):
        made |= {f"rope_embedder.{kind}_tables.{i}": axis[..., which].contiguous() for i, axis in enumerate(axes)}
    return made


def manifest(config: I1Config, resolution: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a published torch file (section 1.5 of the format: 737 of them at depth 29)."""
    from diptych.models.i1 import I1

    check_published(config)
    with torch.device("meta"):
        model = I1(replace(config, keep_unread=True))
    shapes = {
        published_name(name, config.depth): tuple(to_published(name, value, config).shape)
        for name, value in model.state_dict().items()
    }
    return shapes | {name: tuple(value.shape) for name, value in tables(config, resolution).items()}


def _side(config: I1Config, resolution: int) -> int:
    pixels = FACTOR * config.patch
    if resolution < pixels or resolution % pixels:
        raise ValueError(f"i1: resolution {resolution} is not a multiple of the {pixels} pixels of an image token")
    return resolution // pixels


def sizes(shapes: Mapping[str, tuple[int, ...]], told: Mapping[str, object]) -> I1Config:
    """The config of a published file.

    Args:
        shapes: its tensors.
        told: its own "config", or nothing: what it says is checked against the shapes; the rest is read off them.

    Raises:
        ValueError: tensors that tell no size, or a config that contradicts them.
    """
    try:
        width, channels, patch, _ = shapes["x_embedder.proj.weight"]
        head = shapes["mid_block.attn.q_norm.scale"][0]
        hidden = shapes["mid_block.mlp_image.w3.weight"][1]
        _, tokens, text_width = shapes["text_encoder_adapter.learnable_null_caption"]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not an i1 checkpoint: {error} is missing or of another shape") from None
    depth = 1 + sum(name.endswith(".norm1.scale") and name.startswith(("in_blocks.", "out_blocks.")) for name in shapes)
    adapter = sum(name.startswith("text_encoder_adapter.connector_mlp") and name.endswith(".w3.bias") for name in shapes)
    found = {
        "hidden_size": width,
        "in_channels": channels,
        "patch_size": patch,
        "depth": depth,
        "num_heads": width // head,
        "text_embed_dim": text_width,
        "text_num_tokens": tokens,
    }
    for name, value in found.items():
        if told.get(name, value) != value:
            raise ValueError(f"its config says {name} {told[name]}, its tensors {value}; the file is damaged")
    return replace(
        PUBLISHED,
        width=width,
        channels=channels,
        patch=patch,
        depth=depth,
        heads=width // head,
        hidden=hidden,
        text_width=text_width,
        text_tokens=tokens,
        adapter_blocks=adapter,
        theta=float(str(told.get("rope_theta", PUBLISHED.theta))),
    )
