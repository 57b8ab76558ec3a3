"""The small cells' pictures: emoji, drawn shapes and written words, as cached latents and caption states of a mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.config import fingerprint
from diptych.data import draws, emoji, items, shapes, words
from diptych.data.feed import MixedLatents
from diptych.data.images import split
from diptych.data.latent_cache import Cache, Texts, latents, texts
from diptych.data.mixture import Mixture, mix
from diptych.data.records import Source
from diptych.data.sources import emoji_source, open_source
from diptych.models.autoencoder import Autoencoder
from diptych.models.hub import load_model
from diptych.models.text_encoder import TextEncoder
from diptych.models.text_to_image import codec_of, encoder_of
from diptych.recipes.i1_cells import Cell, Kinds, Sets
from diptych.samplers.arm import default_device

TEXT_TOKENS = 128
PUBLISHED_TOKENS = 256
KINDS: dict[str, Kinds] = {"emoji": "real", "shapes": "synthetic", "words": "text"}
ASSETS = Path(__file__).parent.parent / "assets"


@lru_cache(maxsize=16)
def source(name: str, count: int, pixels: int = 64) -> Source:
    """A set of training pictures by name, or by the path of a set of one's own; of the emoji at most `count` are used."""
    if name not in KINDS:
        return open_source(name)
    if name == "emoji":
        pictures = emoji_source()
        kept = range(0, len(pictures), max(len(pictures) // count, 1))[:count]
        return replace(
            pictures,
            keys=tuple(pictures.keys[i] for i in kept),
            array=pictures.array[list(kept)],
            captions=tuple(pictures.captions[i] for i in kept),
        )
    return {"shapes": shapes.Shapes, "words": words.Words}[name](count, pixels)


def small_sets(drawn: int, written: int, real: int = 5573) -> Sets:
    """The three sets: real pictures, synthetic ones, written text; short captions only, which have up to 15 words here."""
    sizes = (("emoji", real), ("shapes", drawn), ("words", written))
    return Sets(sizes, tuple(KINDS[name] for name, _ in sizes), short=1.0, short_words=15)


def chosen_sets(base: Sets, names: Sequence[str]) -> Sets:
    """Sets named by the user in equal parts, each one of the three or the path of a set of one's own.

    Raises:
        ValueError: a path that holds no set.
    """
    known = dict(base.sizes)
    sizes = tuple((name, known[name] if name in known else len(open_source(name))) for name in names)
    return replace(base, sizes=sizes, kinds=tuple(KINDS.get(name, "real") for name in names), weights="equal")


@dataclass(frozen=True)
class Latents:
    """Pictures to latents and back, one way of `LATENTS`.

    Args:
        name: "mixed": the autoencoder trained on all three sets, below `root` or else the shipped one; "quickstart": the
            quickstart's; "pixels": squares of 8 x 8 pixels as they are; else the folder of a published autoencoder (FLUX.2,
            FLUX.1, Qwen-Image) or of one of ours.
        root: where "mixed" lies, below autoencoder/weights.
        pixels: side of the pictures.
    """

    name: str
    root: Path
    pixels: int = 64

    @property
    def key(self) -> str:
        """Of what is computed."""
        weights = self.folder
        return fingerprint((self.name, self.pixels, weights)) if weights else f"pixels-{self.pixels}"

    @property
    def folder(self) -> Path | None:
        """Of the autoencoder's weights.

        Raises:
            ValueError: it is not trained yet.
        """
        if self.name == "pixels":
            return None
        if self.name not in LATENTS:
            return Path(self.name)
        if self.name == "quickstart":
            return ASSETS / "quickstart" / "autoencoder"
        folder = self.root / "autoencoder" / "weights"
        shipped = ASSETS / "i1" / "autoencoder"
        if not folder.exists() and shipped.exists():
            return shipped
        if not folder.exists():
            command = f"diptych train i1 --stage autoencoder --out {self.root.as_posix()}"
            raise ValueError(f"latents: {folder} is missing; train it first: {command}")
        return folder

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) uint8 to latents; larger ones are averaged down to `pixels` first."""
        images = pixels.float() / 127.5 - 1
        if images.shape[-1] != self.pixels:
            images = F.interpolate(images, size=(self.pixels, self.pixels), mode="area")
        if self.name == "pixels":
            return F.pixel_unshuffle(images, 8) * 2
        if self.name not in LATENTS:
            return codec_of(Path(self.name), str(pixels.device)).encode(images)
        with torch.no_grad():
            return network(self.folder, self.pixels, str(pixels.device)).encode(images)

    def decode(self, z: Tensor) -> Mapping[str, np.ndarray]:
        """Latents to pictures (B, H, W, 3) uint8, named "image"."""
        if self.name == "pixels":
            images = F.pixel_shuffle(z / 2, 8)
        elif self.name not in LATENTS:
            images = codec_of(Path(self.name), str(z.device)).decode(z)
        else:
            images = network(self.folder, self.pixels, str(z.device)).decode(z)
        scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
        return {"image": scaled.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)}


LATENTS = {"mixed": 16, "quickstart": 16, "pixels": 192}
"""Channels of each way at an eighth of the side."""


@lru_cache(maxsize=4)
def network(folder: Path | None, pixels: int, device: str) -> Autoencoder:
    """An autoencoder's weights at a size of pictures of one's own: it is convolutions only."""
    assert folder is not None
    trained = load_model(folder, device)
    assert isinstance(trained, Autoencoder)
    if trained.config.size == pixels:
        return trained
    other = Autoencoder(replace(trained.config, size=pixels))
    other.load_state_dict(trained.state_dict())
    return other.to(device).eval()


@lru_cache(maxsize=1)
def _minilm() -> TextEncoder:
    return TextEncoder.load()


def encode_texts(name: str, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """States (B, L, 384) and mask of captions.

    Args:
        name: "minilm": its last layer; "minilm-words": its word vectors, which know nothing of their neighbours;
            "minilm-sentence": one vector a caption; else the folder of a published encoder (T5Gemma, T5, CLIP, Qwen3).
        captions: texts.
    """
    if name not in ENCODERS:
        return encoder_of(name, default_device()).encode(list(captions), PUBLISHED_TOKENS)
    encoder = _minilm()
    if name == "minilm-sentence":
        vectors = encoder.embed(captions) * encoder.width**0.5
        return vectors[:, None], torch.ones(len(captions), 1, dtype=torch.bool)
    states, mask = encoder.encode(captions, TEXT_TOKENS)
    if name == "minilm":
        return states, mask
    encodings = encoder.tokenizer.encode_batch(list(captions))
    ids = torch.zeros(mask.shape, dtype=torch.long)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
    vectors = F.layer_norm(encoder.weights["embeddings.word_embeddings.weight"][ids], (encoder.width,))
    return vectors * mask[:, :, None], mask


ENCODERS = ("minilm", "minilm-words", "minilm-sentence")


@dataclass(frozen=True)
class Worded:
    """Caption states of a set seen by a captioner that is short of words or errs; reads as `Texts`.

    Args:
        texts: what is there.
        wordings: 1 = one caption a picture, chosen once; 0 = all.
        mistaken: share of pictures with the captions of another.
    """

    texts: Texts
    wordings: int = 0
    mistaken: float = 0.0

    def __len__(self) -> int:
        return len(self.texts)

    def _row(self, row: int) -> int:
        word = draws.hashed(draws.named(0, "mistaken"), np.array([row]))
        if draws.uniform(word)[0] >= self.mistaken:
            return row
        other = draws.hashed(draws.named(0, "mistaken for"), np.array([row]))
        return (row + 1 + int(draws.below(other, len(self) - 1)[0])) % len(self)

    def _only(self, row: int) -> int:
        word = draws.hashed(draws.named(0, "wording"), np.array([row]))
        return int(draws.below(word, len(self.texts.counts(row)))[0])

    def counts(self, row: int) -> list[int]:
        """Words of each caption of a picture."""
        row = self._row(row)
        counts = self.texts.counts(row)
        return [counts[self._only(row)]] if self.wordings else counts

    def of(self, row: int, caption: int) -> np.ndarray:
        """States of a picture's caption, (L, D)."""
        row = self._row(row)
        return self.texts.of(row, self._only(row) if self.wordings else caption)


_OPEN: dict[tuple[object, ...], Any] = {}
"""Caches that this process has found: to find one again means to read its whole set, half a minute for these."""


def caches(cell: Cell, root: Path, told: Callable[[str], None] | None = None) -> tuple[dict[str, Cache], dict[str, Texts]]:
    """Latents and caption states of a cell's sets, made where they are missing; below root/caches."""
    pictures, states = {}, {}
    how = Latents(cell.latents, root, cell.pixels)
    for name, count in cell.sets.sizes:
        held = source(name, count)

        def tell(done: int, whole: int, name: str = name) -> None:
            if told:
                told(f"{name}: {done:,} of {whole:,} cached")

        encoder, read = f"{cell.encoder}-{TEXT_TOKENS}", partial(encode_texts, cell.encoder)
        place = root.absolute()
        seen, worded = ("latents", name, count, how.key, place), ("texts", name, count, encoder, place)
        if seen not in _OPEN:
            _OPEN[seen] = latents(held, how.encode, root / "caches", network=how.key, told=tell)
        if worded not in _OPEN:
            _OPEN[worded] = texts(held, read, root / "caches", network=encoder, told=tell)
        pictures[name], states[name] = _OPEN[seen], _OPEN[worded]
    return pictures, states


def feed(cell: Cell, seed: int, root: Path, held: int, told: Callable[[str], None] | None = None) -> MixedLatents:
    """What a cell is trained on; the order and the captions drawn depend on `seed`.

    Args:
        held: pictures at the end of each set of one's own that are left out, for validation.
    """
    sets = cell.sets
    pictures, states = caches(cell, root, told)
    weights = sets.weights if isinstance(sets.weights, str) else dict(zip((name for name, _ in sets.sizes), sets.weights))
    mixture: Mixture = mix(
        {name: source(name, count) for name, count in sets.sizes},
        weights,
        cap=sets.cap,
        seed=seed,
        short=sets.short,
        short_words=sets.short_words,
    )
    seen = {name: len(source(name, count)) - (held if name not in KINDS else 0) for name, count in sets.sizes}
    few = next((name for name, count in seen.items() if count < 1), None)
    if few is not None:
        raise ValueError(f"pictures: {few} has no more than the {held} that are held out; add some, or set held lower")
    rows = tuple(_spread(count, sets.unique or count) for count in seen.values())
    mixture = replace(mixture, rows=rows)
    worded = {name: Worded(held, sets.wordings, sets.mistaken) for name, held in states.items()}
    tokens = cell.model.text_tokens if cell.model.compat else 0
    step = 0 if cell.model.compat else cell.batch
    return MixedLatents(mixture, pictures, worded, tokens, step)  # pyright: ignore[reportArgumentType]


def _spread(count: int, kept: int) -> np.ndarray:
    """At most `kept` of `count` rows, evenly spaced."""
    return np.arange(count) if kept >= count else np.arange(kept) * count // kept


def own_pictures(name: str, count: int) -> tuple[np.ndarray, list[str]]:
    """The last pictures of a set of one's own, (N, H, W, 3) uint8 as large as the first of them, with a caption each."""
    held = open_source(name)
    records = [held[row] for row in range(max(len(held) - count, 0), len(held))]
    first = records[0].pixels().shape
    kept = [record for record in records if record.pixels().shape == first]
    return np.stack([record.pixels() for record in kept]), [record.captions[0] for record in kept]


@lru_cache(maxsize=2)
def held_pictures(count: int) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Pictures (N, 64, 64, 3) uint8 of each kind that training has not seen, with their captions."""
    pictures = emoji.load()
    real = pictures.take(split(pictures)["test"][:count])
    shown, written = shapes.prompts(-(-count // 6), seed=1)[:count], words.prompts(-(-count // 3), seed=1)[:count]
    return {
        "emoji": (real.pixels, [item.caption for item in items.items(real)]),
        "shapes": (np.stack([shapes.draw(shapes.fitting(p, i)) for i, p in enumerate(shown)]), [p["prompt"] for p in shown]),
        "words": (np.stack([words.draw(words.fitting(p, i)) for i, p in enumerate(written)]), [p["prompt"] for p in written]),
    }
