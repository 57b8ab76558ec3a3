"""Which model a set of tensor names is, what each of its layers does, and what the loaders of its files ask for.

A model is recognised by a few names that no other has. Its layers are sorted into classes (attention_qkv, ffn_down, ...),
which plans may name instead of layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from diptych.config import suggest

CLASSES = (
    "attention_qkv",
    "attention_q",
    "attention_k",
    "attention_v",
    "attention_out",
    "ffn_up",
    "ffn_down",
    "modulation",
    "skip",
    "text_in",
    "time",
    "in_out",
    "other",
)
"""What a layer does. Fused projections have their own class; so have the layers where pictures enter and leave."""

COMMON = (
    (r"(attn2?|attention|self_attn)\.qkv$|qkv(_image|_text)?$|\.linear1$|\.attn_qkv$", "attention_qkv"),
    (r"(to_q|add_q_proj|q_proj|attn_q)$", "attention_q"),
    (r"(to_k|add_k_proj|k_proj|attn_k)$", "attention_k"),
    (r"(to_v|add_v_proj|v_proj|attn_v)$", "attention_v"),
    (
        r"(to_out\.0|to_add_out|(attn2?|attention|img_attn|txt_attn)\.(proj|o)|proj_image|proj_text|o_proj|attn_output)$",
        "attention_out",
    ),
    (r"(w12|w1|mlp\.fc1|net\.0\.proj|(img|txt)_mlp\.0|proj_mlp|up_proj|gate_proj|ffn_up|ffn_gate)$", "ffn_up"),
    (r"(mlp\.fc2|(ff|ff_context|img_mlp|txt_mlp)\.net\.2|(img|txt)_mlp\.2|down_proj|ffn_down)$", "ffn_down"),
    (r"(mod|modulation|norm|norm1|norm1_context)\.(lin|linear|1)$|adaLN_modulation\.1$|(img|txt)_mod\.1$", "modulation"),
    (r"(adaln_modulation|^modulation)$", "modulation"),
    (r"skip(_image|_text)?$", "skip"),
)
"""(pattern, class) that hold in more than one model; looked up after the model's own."""


@dataclass(frozen=True)
class Architecture:
    """A model that is recognised by its names.

    Args:
        name: in plans and messages; with "_diffusers" where the names are those of a diffusers folder.
        label: for people.
        key: `general.architecture` of its GGUF file.
        marks: names that are all there in this model and in no other of the list.
        classes: (regular expression searched in a layer's name, class), the first that fits; `COMMON` comes after.
        tables: matrices that are looked up by row or added, not multiplied with: left as they are.
        loaders: who runs its GGUF files.
        original: the architecture whose names its diffusers names can be turned into; empty where there is none.
    """

    name: str
    label: str
    key: str
    marks: tuple[str, ...]
    classes: tuple[tuple[str, str], ...] = ()
    tables: str = r"(^|[._])(embedding|embeddings|embed_tokens|token_embd|embed_image_indicator)$"
    loaders: str = "diptych"
    original: str = ""


_IDEOGRAM = (
    (r"feed_forward\.(w1|w3)$", "ffn_up"),
    (r"feed_forward\.w2$", "ffn_down"),
    (r"attention\.to_out\.0$", "attention_out"),
    (r"^llm_cond_proj$", "text_in"),
    (r"^(t_embedding\.|adaln_proj$)", "time"),
    (r"^(input_proj|final_layer\.linear)$", "in_out"),
)
_DIT = (
    (r"mlp_(image|text)\.w12$", "ffn_up"),
    (r"mlp_(image|text)\.w3$", "ffn_down"),
    (r"^text_(in|out)$", "text_in"),
    (r"^time\.", "time"),
    (r"^(embed|final)$", "in_out"),
)
_I1 = (
    (r"streams\.\w+\.proj$|cross\.proj$", "attention_out"),
    (r"cross\.q$", "attention_q"),
    (r"cross\.k$", "attention_k"),
    (r"cross\.v$", "attention_v"),
    (r"\.(mlp\w*|connector_mlp\d*)\.w3$", "ffn_down"),
    (r"(^|\.)(final_)?modulation$", "modulation"),
    (r"^adapter\.(inlet|outlet)$|connector_in$", "text_in"),
    (r"^(time|t_embedder)\.", "time"),
    (r"^(embed|final)$|^final_layer\.linear$", "in_out"),
    (r"connector_attn\d*\.qkv$", "attention_qkv"),
    (r"connector_attn\d*\.proj$", "attention_out"),
    (r"skip_linear_(image|text)$", "skip"),
)
_DIFFUSERS = (
    (r"^(context_embedder|txt_in)$", "text_in"),
    (r"^time_text_embed\.text_embedder\.", "text_in"),
    (r"^time_text_embed\.", "time"),
    (r"^norm_out\.linear$", "modulation"),
    (r"^single_transformer_blocks\.\d+\.proj_out$", "ffn_down"),
    (r"^(x_embedder|img_in|proj_out)$", "in_out"),
)

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "ideogram4",
        "Ideogram 4",
        "ideogram4",
        ("embed_image_indicator.weight", "input_proj.weight", "layers.0.attention.qkv.weight"),
        _IDEOGRAM,
        loaders="stable-diffusion.cpp; ComfyUI-GGUF with one of its open pull requests",
    ),
    Architecture(
        "ideogram4_diffusers",
        "Ideogram 4, diffusers names",
        "ideogram4",
        ("embed_image_indicator.weight", "input_proj.weight", "layers.0.attention.to_q.weight"),
        _IDEOGRAM,
        original="ideogram4",
    ),
    Architecture(
        "flux",
        "Flux",
        "flux",
        ("double_blocks.0.img_attn.proj.weight", "single_blocks.0.linear1.weight", "img_in.weight"),
        (
            (r"single_blocks\.\d+\.linear2$", "ffn_down"),
            (r"^(txt_in|vector_in\.)", "text_in"),
            (r"^(time_in|guidance_in)\.", "time"),
            (r"^(img_in|final_layer\.linear)$", "in_out"),
        ),
        loaders="diffusers, ComfyUI-GGUF, stable-diffusion.cpp",
    ),
    Architecture(
        "flux_diffusers",
        "Flux, diffusers names",
        "flux",
        ("single_transformer_blocks.0.proj_mlp.weight", "transformer_blocks.0.attn.norm_added_k.weight", "x_embedder.weight"),
        _DIFFUSERS,
        loaders="diffusers",
        original="flux",
    ),
    Architecture(
        "sd3",
        "Stable Diffusion 3",
        "sd3",
        ("joint_blocks.0.x_block.attn.qkv.weight", "x_embedder.proj.weight", "context_embedder.weight"),
        (
            (r"^(context_embedder|y_embedder\.)", "text_in"),
            (r"^t_embedder\.", "time"),
            (r"^final_layer\.linear$", "in_out"),
        ),
        loaders="diffusers, ComfyUI-GGUF, stable-diffusion.cpp",
    ),
    Architecture(
        "sd3_diffusers",
        "Stable Diffusion 3, diffusers names",
        "sd3",
        ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight", "context_embedder.weight"),
        _DIFFUSERS,
        loaders="diffusers",
        original="sd3",
    ),
    Architecture(
        "qwen_image",
        "Qwen-Image",
        "qwen_image",
        ("transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.attn.add_q_proj.weight", "txt_norm.weight"),
        _DIFFUSERS,
        loaders="diffusers, ComfyUI-GGUF, stable-diffusion.cpp",
    ),
    Architecture(
        "diptych_dit",
        "Diptych DiT",
        "diptych_dit",
        ("blocks.0.qkv_image.weight", "blocks.0.mlp_image.w3.weight", "final.weight"),
        _DIT,
    ),
    Architecture(
        "diptych_i1",
        "Diptych i1",
        "diptych_i1",
        ("adapter.null", "adapter.inlet.weight", "final_norm.weight"),
        _I1,
    ),
    Architecture(
        "i1",
        "i1, published names",
        "i1",
        ("text_encoder_adapter.connector_in.weight", "mid_block.attn.qkv_image.weight", "x_embedder.proj.weight"),
        _I1,
    ),
    Architecture(
        "llama",
        "Llama-type language model (GGUF names)",
        "llama",
        ("blk.0.attn_q.weight", "blk.0.ffn_down.weight", "token_embd.weight"),
        ((r"^(token_embd|output)$", "in_out"),),
        tables=r"^$",
        loaders="llama.cpp",
    ),
)
"""In the order they are tried."""

ANY = Architecture("any", "no known architecture", "any", ())
"""Every matrix `X.weight` taken for a layer; for models that are not in the list."""


def recognise(names: Iterable[str], asked: str = "") -> Architecture:
    """The architecture whose marks are all among these names.

    Args:
        names: of the tensors.
        asked: an architecture to take without looking, "any" among them; empty = look.

    Raises:
        ValueError: none fits, or no architecture of the asked name.
    """
    names = set(names)
    known = {one.name: one for one in (*ARCHITECTURES, ANY)}
    if asked:
        if asked not in known:
            raise ValueError(f"architecture {asked!r} is unknown{suggest(asked, known)}")
        return known[asked]
    for one in ARCHITECTURES:
        if names.issuperset(one.marks):
            return one
    first = ", ".join(sorted(names)[:3])
    raise ValueError(
        f"architecture not recognised ({len(names)} tensors, such as {first}); known are "
        f"{', '.join(one.name for one in ARCHITECTURES)}; --architecture any takes every matrix for a layer"
    )


def layer_class(name: str, architecture: Architecture) -> str:
    """What a layer does, one of `CLASSES`.

    Args:
        name: of the layer, without ".weight".
        architecture: of its model.
    """
    for pattern, kind in (*architecture.classes, *COMMON):
        if re.search(pattern, name):
            return kind
    return "other"


def layers(shapes: Mapping[str, tuple[int, ...]], architecture: Architecture) -> dict[str, str]:
    """The layers among tensors (matrices that inputs are multiplied with) and the class of each.

    Args:
        shapes: tensor name -> shape.
        architecture: of the model.

    Returns:
        layer name (without ".weight") -> class, in the order of the tensors.
    """
    found = {}
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and len(shape) == 2 and not re.search(architecture.tables, layer):
            found[layer] = layer_class(layer, architecture)
    return found
