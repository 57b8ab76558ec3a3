"""A text-to-image system in a folder: an `I1`, the autoencoder of its latents, the text encoder it was trained on.

    FOLDER/  dit/ or transformer/   the network: any form that `load_i1` reads, or quantised
             autoencoder/ or vae/   ours or diffusers'
             text/ or text_encoder/ (with tokenizer files); none: MiniLM, out of its package

A published checkpoint is one file; its other parts are then named beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.denoise import Cond
from diptych.models.autoencoders import LatentCodec, load_autoencoder
from diptych.models.i1 import I1
from diptych.models.i1_config import I1Config
from diptych.models.text_encoder import TextEncoder
from diptych.models.text_encoders import PublishedEncoder, load_encoder
from diptych.study import Unit

PARTS = {"network": ("dit", "transformer"), "autoencoder": ("autoencoder", "vae"), "text": ("text", "text_encoder")}
LONGEST = 256
"""Tokens of a prompt, where the network sets no length."""


@dataclass(frozen=True)
class System:
    """Where the parts of a text-to-image system lie.

    Args:
        network: folder or file of the `I1`.
        autoencoder: folder of the autoencoder.
        text: folder of the text encoder, or "minilm".
    """

    network: Path
    autoencoder: Path
    text: str = "minilm"


def find_system(where: str | Path, autoencoder: str = "", text: str = "") -> System:
    """The parts of a system in a folder, or beside a checkpoint.

    Args:
        where: the folder, or a checkpoint of the network alone.
        autoencoder, text: parts that lie elsewhere.

    Raises:
        ValueError: a part that is nowhere.
    """
    where = Path(where)
    if not where.exists():
        raise ValueError(f"{where}: no such model; give a folder with {' or '.join(PARTS['network'])}/, or a checkpoint")
    found = {part: next((where / name for name in names if (where / name).is_dir()), None) for part, names in PARTS.items()}
    network = found["network"] or where
    vae = Path(autoencoder) if autoencoder else found["autoencoder"]
    if vae is None:
        raise ValueError(f"{where}: no autoencoder/ or vae/ in it; name the folder of one (--set autoencoder=FOLDER)")
    return System(network, vae, text or str(found["text"] or "minilm"))


@dataclass(frozen=True)
class Texts:
    """The text conditions of units: their item's caption as token states.

    Args:
        captions: (item, caption) pairs.
        encoder: name or folder.
        tokens: the longest text.
        pad: exactly `tokens` columns, as the published adapter wants them.
    """

    captions: tuple[tuple[str, str], ...]
    encoder: str = "minilm"
    tokens: int = LONGEST
    pad: bool = False

    def __call__(self, units: Sequence[Unit], device: str) -> Cond:
        words = dict(self.captions)
        states, mask = encoded(self.encoder, tuple(words[unit.item] for unit in units), self.tokens, self.pad, device)
        return {"text": states, "text_mask": mask}


@dataclass(frozen=True)
class Pictures:
    """Decodes latents to pictures, `chunk` at a time."""

    autoencoder: Path
    chunk: int = 8

    def __call__(self, latents: Tensor) -> Mapping[str, np.ndarray]:
        codec = codec_of(self.autoencoder, str(latents.device))
        images = torch.cat([codec.decode(part) for part in latents.split(self.chunk)])
        scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
        return {"image": scaled.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)}


@lru_cache(maxsize=4)
def codec_of(folder: Path, device: str) -> LatentCodec:
    """A folder's autoencoder, kept."""
    return load_autoencoder(folder, device)


@lru_cache(maxsize=2)
def encoder_of(where: str, device: str) -> TextEncoder | PublishedEncoder:
    """A text encoder, kept."""
    return load_encoder(where, device)


@lru_cache(maxsize=256)
def encoded(where: str, texts: tuple[str, ...], tokens: int, pad: bool, device: str) -> tuple[Tensor, Tensor]:
    """Token states and mask of texts, kept: the steps and arms of a study ask for the same ones."""
    encoder = encoder_of(where, device)
    if isinstance(encoder, PublishedEncoder):
        return encoder.encode(texts, tokens, pad=pad)
    states, mask = encoder.encode(texts, tokens)
    more = tokens - mask.shape[1] if pad else 0
    return F.pad(states, (0, 0, 0, more)), F.pad(mask, (0, more))


def token_count(where: str, text: str, tokens: int, device: str = "cpu") -> int:
    """How many tokens a text has for an encoder, to batch those of like length."""
    encoder = encoder_of(where, device)
    if isinstance(encoder, PublishedEncoder):
        return len(encoder.tokenizer(text, truncation=True, max_length=tokens)["input_ids"])
    encoder.tokenizer.enable_truncation(tokens)
    return len(encoder.tokenizer.encode(text).ids)


def shape_of(net: I1, codec: LatentCodec, height: int = 0, width: int = 0) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a picture.

    Args:
        net, codec: the parts.
        height, width: in pixels; 0 = what the network's positions count by one at.

    Raises:
        ValueError: an autoencoder with other channels; sides that its factor and the patch do not divide.
    """
    config: I1Config = net.config
    if codec.channels != config.channels:
        raise ValueError(f"the network reads latents of {config.channels} channels, the autoencoder makes {codec.channels}")
    pixels = codec.factor * config.patch
    sides = [side or config.base * pixels for side in (height, width)]
    for name, side in zip(("height", "width"), sides):
        if side < pixels or side % pixels:
            raise ValueError(f"{name} {side} is not a multiple of the {pixels} pixels of an image token")
    return config.channels, sides[0] // codec.factor, sides[1] // codec.factor


def texts_of(net: I1, system: System, captions: Mapping[str, str], tokens: int = 0) -> Texts:
    """The conditions of captions for a network: padded to its length where padding counts.

    Args:
        net: the network.
        system: where its encoder lies.
        captions: item -> text.
        tokens: the longest text; 0 = the network's.
    """
    config = net.config
    longest = config.text_tokens if config.compat else tokens or LONGEST
    return replace(Texts(tuple(captions.items())), encoder=system.text, tokens=longest, pad=config.compat)
