"""i1's weights in and out: the published torch and JAX files, safetensors, a diffusers-style folder.

`load_i1` is `init_from`: it starts a network from weights and knows of no step, optimiser or data position. Going on with a
run is the training loop's `resume`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import from_json, to_json
from diptych.files import read_json, write_json, writing
from diptych.models.i1 import I1
from diptych.models.i1_config import I1Config
from diptych.models.i1_jax import read_jax, write_jax
from diptych.models.i1_names import TABLES, check_published, from_published, published_name, sizes, tables, to_published
from diptych.models.tensor_files import SHARD, assign, each_tensor, misfit, tensor_files, tensor_shapes, write_tensors

STEM = "diffusion_pytorch_model"
CLASS = "I1Transformer2DModel"


def load_i1(where: str | Path, device: str = "cpu", dtype: torch.dtype | None = None) -> I1:
    """A network with weights from a file, at any resolution: tables of position are made for the size at hand.

    Args:
        where: a published `.pt` (EMA weights under "model") or JAX `.npz` ("params_ema"), safetensors of the same names as
            the `.pt`, or a folder: ours (model.safetensors, config.json) or a diffusers-style one (transformer/).
        device: where it goes, one tensor at a time.
        dtype: floating type; None keeps the stored one.

    Raises:
        ValueError: no such file, code in a pickle, not an i1 checkpoint, or tensors missing, unexpected or of another shape.
    """
    path = Path(where)
    if not path.exists():
        raise ValueError(f"{path}: no such file; give an i1 checkpoint (.pt, .npz, .safetensors) or a folder")
    if path.is_dir():
        return _from_folder(path, device, dtype)
    if path.suffix == ".npz":
        shapes, tensors = read_jax(path, device, dtype)
        return _published(path, {}, shapes, tensors)
    if path.suffix == ".safetensors":
        shapes = tensor_shapes([path])
        return _published(path, {}, shapes, each_tensor([path], device, dtype))
    config, tensors = _unpickled(path)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    moved = ((name, value.to(device, dtype if value.is_floating_point() else None)) for name, value in tensors.items())
    return _published(path, config, shapes, moved)


def save_torch(model: I1, path: str | Path, resolution: int = 256) -> Path:
    """Write what `torch.load(weights_only=True)` reads as a published checkpoint: {"config", "model"}, float32.

    Args:
        model: of a shape that the published layout holds.
        path: of the .pt file.
        resolution: pixels a side, for the fixed tables.

    Raises:
        ValueError: a shape that the layout cannot hold.
    """
    config, path = model.config, Path(path)
    described = {
        "input_size": resolution // 8,
        "image_resolution": resolution,
        "patch_size": config.patch,
        "in_channels": config.channels,
        "hidden_size": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": 4.0,
        "text_embed_dim": config.text_width,
        "text_num_tokens": config.text_tokens,
        "rope_theta": config.theta,
    }
    tensors = {name: value.float() for name, value in published_tensors(model, resolution).items()}
    with writing(path) as file:
        torch.save({"config": described, "model": tensors}, file)
    return path


def save_jax(model: I1, path: str | Path, resolution: int = 256) -> Path:
    """Write the weights as "params_ema" of a JAX checkpoint, float32.

    Raises:
        ValueError: a shape that the published layout cannot hold.
    """
    return write_jax(published_tensors(model, resolution), Path(path), model.config.depth)


def save_diffusers(model: I1, folder: str | Path, resolution: int = 256, shard: int = SHARD, card: str = "") -> Path:
    """Write a folder as diffusers lays them out: transformer/, scheduler/, model_index.json, a card.

    The tensors have their published names and layout where the network has a place there, else ours; config.json tells which.
    No pipeline of diffusers reads it (0.42 has no i1); `load_i1` does, and tools that know the published names.

    Args:
        model: any `I1`.
        folder: made if it is missing.
        resolution: pixels a side, for the fixed tables.
        shard: bytes a file may hold.
        card: README.md; empty = what the shape alone tells.
    """
    folder, layout = Path(folder), "published"
    try:
        tensors = published_tensors(model, resolution)
    except ValueError:
        tensors, layout = model.state_dict(), "diptych"
    write_tensors(tensors, folder / "transformer", STEM, shard)
    told = {"_class_name": CLASS, "layout": layout, "sample_size": resolution // 8, **to_json(model.config)}
    write_json(folder / "transformer" / "config.json", told)
    shift = 1 / 0.3 if layout == "published" else 1.0  # the official sampler's
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": shift}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index = {
        "_class_name": "I1Pipeline",
        "transformer": ["diptych", CLASS],
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    write_json(folder / "model_index.json", index)
    with writing(folder / "README.md") as file:
        file.write((card or model_card(model.config, resolution)).encode())
    return folder


def model_card(config: I1Config, resolution: int) -> str:
    """A card with what the shape alone tells: parameters, sizes, what the network reads."""
    with torch.device("meta"):
        count = sum(value.numel() for value in I1(config).parameters())
    skips = "with long skips" if config.long_skip else "without long skips"
    return f"""---
library_name: diptych
pipeline_tag: text-to-image
tags: [text-to-image, flow-matching, i1]
---

# Text-to-image transformer

| | |
|---|---|
| parameters | {count:,} |
| backbone | {config.backbone}, {config.depth} blocks, {skips} |
| width | {config.width}, {config.heads} heads, SwiGLU {config.hidden} |
| reads | text states of {config.text_width} channels; time: {"no" if config.modulation in ("none", "text") else "yes"} |
| latents | {config.channels} channels, patches of {config.patch} |
| predicts | the flow of rectified flow |
| resolution | {resolution} pixels, others by scaled positions |

Load it with `diptych.models.i1_weights.load_i1`. Training data, scores and licence are for who trained it to fill in.
"""


def published_tensors(model: I1, resolution: int) -> dict[str, Tensor]:
    """The network by its published names, tables included; zeros stand for weights that it leaves out and nothing reads.

    Raises:
        ValueError: a shape that the published layout cannot hold.
    """
    config = model.config
    check_published(config)
    state = model.state_dict()
    with torch.device("meta"):
        whole = I1(replace(config, keep_unread=True)).state_dict()
    found = {}
    for name, like in whole.items():
        value = state.get(name)
        if value is None or value.shape != like.shape:
            value = _grown(value, like, next(iter(state.values())))
        found[published_name(name, config.depth)] = to_published(name, value, config)
    return found | tables(config, resolution)


def _grown(value: Tensor | None, like: Tensor, kind: Tensor) -> Tensor:
    """A weight that the network leaves out: zeros; of the last block's keys and values, with zeros before for the queries."""
    whole = torch.zeros(like.shape, dtype=kind.dtype, device=kind.device)
    if value is not None:
        whole[len(whole) - len(value) :] = value
    return whole


def _published(
    path: Path,
    told: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, Tensor]],
) -> I1:
    try:
        config = sizes(shapes, told)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return _filled(path, config, shapes, tensors, published=True)


def _filled(
    path: Path,
    config: I1Config,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, Tensor]],
    *,
    published: bool,
) -> I1:
    """A network of a config with tensors in it, by their published names or by ours; tables among them are left out.

    Raises:
        ValueError: naming what is missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        model = I1(config)
    ours = {published_name(name, config.depth) if published else name: name for name in model.state_dict()}
    wanted = {
        theirs: tuple((to_published(name, value, config) if published else value).shape)
        for (theirs, name), value in zip(ours.items(), model.state_dict().values())
    }
    wrong = misfit(wanted, {name: shape for name, shape in shapes.items() if not TABLES.fullmatch(name)})
    if wrong:
        raise ValueError(f"{path}: does not fit the i1 network of its size; tensors {wrong}")
    for theirs, value in tensors:
        if not TABLES.fullmatch(theirs):
            assign(model, ours[theirs], from_published(ours[theirs], value) if published else value)
    return model.eval()


def _from_folder(folder: Path, device: str, dtype: torch.dtype | None) -> I1:
    where = folder / "transformer" if (folder / "transformer").is_dir() else folder
    if not (where / "config.json").is_file():
        raise ValueError(f"{where}: no config.json beside the weights; give a folder that has both")
    told = read_json(where / "config.json")
    if told.get("_class_name") == CLASS:
        fields = {name: value for name, value in told.items() if name not in ("_class_name", "layout", "sample_size")}
        try:
            config = from_json(I1Config, fields)
        except ValueError as error:
            raise ValueError(f"{where / 'config.json'}: {error}") from None
        files, published = tensor_files(where, STEM), told.get("layout") == "published"
        return _filled(where, config, tensor_shapes(files), each_tensor(files, device, dtype), published=published)
    from diptych.models.hub import load_model

    model = load_model(where, device)
    if not isinstance(model, I1):
        raise ValueError(f"{where}: holds a {type(model).__name__}, not an i1 network")
    return model.to(dtype) if dtype is not None else model


def _unpickled(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Config and tensors of a torch file; nothing in it is run."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable torch file ({str(error).splitlines()[0]})") from None
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ValueError(f"{path}: holds more than tensors, which could run code; it is not opened") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: holds a {type(data).__name__}; an i1 checkpoint is a dict with config and model")
    tensors = data.get("model", data)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path}: its model is not a dict of tensors; give an i1 checkpoint")
    return data.get("config") or {}, tensors
