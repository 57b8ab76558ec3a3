"""Saved models: a folder with model.safetensors and config.json, written and read strictly.

config.json: {"schema": 1, "class": "DiT", "predicts": "flow" | null, "dtype": "float16", "config": {...}, "extra": {...}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from diptych.config import from_json, suggest, to_json
from diptych.models.autoencoder import Autoencoder, AutoencoderConfig
from diptych.models.dit import DiT, DiTConfig
from diptych.models.field_autoencoder import FieldAutoencoder, FieldAutoencoderConfig
from diptych.models.field_unet import FieldUNet, FieldUNetConfig
from diptych.models.i1 import I1
from diptych.models.i1_config import I1Config
from diptych.models.masked_lm import MaskedLM, MaskedLMConfig
from diptych.models.patch_conv import PatchConv, PatchConvConfig

MODELS: dict[str, tuple[type[nn.Module], type]] = {
    "Autoencoder": (Autoencoder, AutoencoderConfig),
    "DiT": (DiT, DiTConfig),
    "FieldAutoencoder": (FieldAutoencoder, FieldAutoencoderConfig),
    "FieldUNet": (FieldUNet, FieldUNetConfig),
    "I1": (I1, I1Config),
    "MaskedLM": (MaskedLM, MaskedLMConfig),
    "PatchConv": (PatchConv, PatchConvConfig),
}
BARE = {"I1"}
"""Classes whose state_dict is all they hold: built without values, which the file's tensors then are."""
STORED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WEIGHTS, CONFIG, SCHEMA = "model.safetensors", "config.json", 1


def save_model(
    model: nn.Module,
    config: Any,
    folder: str | Path,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a model's parameters and buffers with what is needed to build it again.

    Args:
        model: an instance of a class in `MODELS`.
        config: the frozen config it was built from.
        folder: made if it is missing; its two files are replaced, each atomically.
        extra: anything JSON can hold, kept under "extra" (how it was trained, scores).
        dtype: float32, float16 or bfloat16 to store floating parameters in; None keeps each tensor's own.
            Buffers (statistics) are stored as they are.

    Returns:
        The folder.

    Raises:
        ValueError: a class not in `MODELS`, another config than its own, a dtype not listed, values beyond float16.
    """
    name = type(model).__name__
    if name not in MODELS or not isinstance(model, MODELS[name][0]):
        raise ValueError(f"save_model: {name} is not a known model; there are {sorted(MODELS)}")
    if not isinstance(config, MODELS[name][1]):
        raise ValueError(f"save_model: {name} is built from {MODELS[name][1].__name__}, got {type(config).__name__}")
    if dtype is not None and dtype not in STORED.values():
        raise ValueError(f"save_model: dtype {dtype} cannot be stored; choose one of {sorted(STORED)}")
    learned = {key for key, _ in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        stored = value.to(dtype) if dtype is not None and key in learned and value.is_floating_point() else value
        if not bool(stored.isfinite().all()) and bool(value.isfinite().all()):
            raise ValueError(f"save_model: {key} holds values beyond {dtype}; store it as bfloat16 or float32")
        tensors[key] = stored.detach().cpu().contiguous().clone()
    described = {
        "schema": SCHEMA,
        "class": name,
        "predicts": getattr(model, "predicts", None),
        "dtype": str(dtype or torch.float32).removeprefix("torch."),
        "config": to_json(config),
        "extra": dict(extra or {}),
    }
    text = json.dumps(described, indent=2) + "\n"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{WEIGHTS}.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(to_bytes(tensors, metadata={"format": "pt"}))  # save_file would hide it from other users
        os.replace(temporary, folder / WEIGHTS)
        temporary.with_suffix(".json").write_text(text, encoding="utf-8")
        os.replace(temporary.with_suffix(".json"), folder / CONFIG)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_suffix(".json").unlink(missing_ok=True)
    return folder


def describe(where: str | Path) -> dict[str, Any]:
    """The config.json of a saved model, checked.

    Args:
        where: the model's folder, or its safetensors file with config.json beside it.

    Raises:
        ValueError: no such files, not JSON, another schema, or a class that is not in `MODELS`.
    """
    folder = _weights(where).parent
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder}: no {CONFIG} beside the weights; a model is both files") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / CONFIG}: not JSON ({error})") from None
    if not isinstance(described, dict) or described.get("schema") != SCHEMA:
        raise ValueError(f"{folder / CONFIG}: not a model description of schema {SCHEMA}")
    if described.get("class") not in MODELS:
        name = str(described.get("class"))
        raise ValueError(f"{folder / CONFIG}: class {name!r} is not a known model{suggest(name, MODELS)}")
    return described


def load_model(where: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Build a saved model and put its weights in, in float32 and in evaluation mode.

    Args:
        where: the model's folder, or its safetensors file with config.json beside it.
        device: where it goes.

    Raises:
        ValueError: files missing or broken, or tensors that are missing, unexpected or of another shape.
    """
    path = _weights(where)
    described = describe(where)
    build, config_class = MODELS[described["class"]]
    bare = described["class"] in BARE
    with torch.device("meta") if bare else nullcontext():
        model = build(from_json(config_class, described["config"]))
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from None
    wanted = model.state_dict()
    missing, unexpected = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted.keys() & tensors.keys()
        if tensors[key].shape != wanted[key].shape
    ]
    if missing or unexpected or shapes:
        parts = {"missing": missing, "unexpected": unexpected, "of another shape": sorted(shapes)}
        told = "; ".join(f"{what}: {_some(keys)}" for what, keys in parts.items() if keys)
        raise ValueError(f"{path}: does not fit its {described['class']} config; tensors {told}")
    model.load_state_dict({key: value.to(wanted[key].dtype) for key, value in tensors.items()}, strict=True, assign=bare)
    return model.to(device).eval()


def _weights(where: str | Path) -> Path:
    path = Path(where)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a model's folder (with {WEIGHTS} and {CONFIG}) or its weights")
    return path


def _some(keys: Iterable[str], most: int = 5) -> str:
    keys = list(keys)
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
