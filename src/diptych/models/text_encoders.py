"""Frozen text encoders by name: the small one that ships in a package, and published ones from local folders.

Each gives token states and their mask: `encode(texts, max_tokens)`, as `TextEncoder` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import suggest
from diptych.models.tensor_files import some
from diptych.models.text_encoder import TextEncoder


@dataclass(frozen=True)
class TextFormat:
    """A family of published encoders.

    Args:
        network: class of transformers that reads the folder.
        config: model_type in the folder's config.json.
        tokens: how many tokens i1 reads of it.
        extra: fields of the config that loading changes.
    """

    network: str
    config: str
    tokens: int
    extra: tuple[tuple[str, Any], ...] = ()


FORMATS = {
    "t5gemma": TextFormat("T5GemmaEncoderModel", "t5gemma", 256, (("is_encoder_decoder", False),)),
    "t5": TextFormat("T5EncoderModel", "t5", 120),
    "clip": TextFormat("CLIPTextModel", "clip", 77),
    "qwen3": TextFormat("Qwen3Model", "qwen3", 256),
}
"""Encoders read from a folder, as a hub lists it. i1 was trained on t5gemma (google/t5gemma-2b-2b-ul2-it)."""


@dataclass(frozen=True)
class PublishedEncoder:
    """A text encoder of transformers with its tokenizer; its last hidden state is what it gives.

    Args:
        name: key of `FORMATS`.
        network: the encoder, in evaluation mode.
        tokenizer: pads and cuts on the right.
    """

    name: str
    network: Any = field(repr=False)
    tokenizer: Any = field(repr=False)

    @property
    def width(self) -> int:
        """Channels of a token state."""
        return self.network.get_input_embeddings().weight.shape[1]

    @torch.no_grad()
    def encode(self, texts: Sequence[str], max_tokens: int, batch: int = 16, pad: bool = False) -> tuple[Tensor, Tensor]:
        """Token states of each text, cut on the right to `max_tokens`.

        Args:
            texts: B of them.
            max_tokens: the longest.
            batch: texts run at a time.
            pad: give exactly `max_tokens` columns and leave in padding what the encoder makes of it, which i1's published
                adapter reads; else the longest text's, and zeros at padding.

        Returns:
            states (B, L, D) in the encoder's dtype, and mask (B, L) bool, True at tokens.

        Raises:
            ValueError: no texts, or `max_tokens` below 1.
        """
        if not texts or isinstance(texts, str):
            raise ValueError("text encoder: expected a list of at least one text")
        if max_tokens < 1:
            raise ValueError(f"text encoder: max_tokens={max_tokens} is not positive")
        padding = "max_length" if pad else "longest"
        told = self.tokenizer(list(texts), padding=padding, truncation=True, max_length=max_tokens, return_tensors="pt")
        ids, mask = (told[key].to(self.network.device) for key in ("input_ids", "attention_mask"))
        parts = [
            self.network(input_ids=i, attention_mask=m).last_hidden_state for i, m in zip(ids.split(batch), mask.split(batch))
        ]
        states, mask = torch.cat(parts), mask.bool()
        return states if pad else states * mask[:, :, None], mask


def load_encoder(
    where: str | Path = "minilm", device: str = "cpu", dtype: torch.dtype | None = None
) -> TextEncoder | PublishedEncoder:
    """A text encoder: "minilm", or the folder of a published one.

    Args:
        where: a name or a folder with config.json, weights and tokenizer.
        device: where it runs.
        dtype: of its weights; None = as stored (i1 used bfloat16).

    Raises:
        ValueError: neither a name nor such a folder, another architecture, or weights that do not fill the network.
    """
    folder = Path(where)
    if not folder.is_dir():
        return TextEncoder.load(str(where), device)
    name = _kind(folder)
    import transformers

    form = FORMATS[name]
    network, told = getattr(transformers, form.network).from_pretrained(
        folder, local_files_only=True, dtype=dtype or "auto", output_loading_info=True, **dict(form.extra)
    )
    missing = sorted(told["missing_keys"])
    if missing:
        raise ValueError(f"{folder}: weights of the text encoder are missing: {some(missing)}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return PublishedEncoder(name, network.to(device).eval().requires_grad_(False), tokenizer)


def _kind(folder: Path) -> str:
    from diptych.files import read_json

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json; give the folder of a text encoder as a hub lists it")
    kind = str(read_json(folder / "config.json").get("model_type"))
    found = [name for name, form in FORMATS.items() if kind in (form.config, f"{form.config}_text_model")]
    if not found:
        raise ValueError(f"{folder}: model_type {kind!r} is no text encoder that is read{suggest(kind, FORMATS)}")
    return found[0]
