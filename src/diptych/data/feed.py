"""Mixtures as training data: `batch(position, size)` is a function of its arguments, as `train.loop.Data` asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from diptych.data import draws
from diptych.data.buckets import Bucketed
from diptych.data.fitting import cover
from diptych.data.latent_cache import Cache, Texts
from diptych.data.mixture import Drawn, Mixture, worded
from diptych.data.records import Broken, Record

Batch = dict[str, Tensor]


class MixedPictures:
    """Pictures and captions, decoded as they are asked for.

    A record that cannot be read gives way to another of its set, decided by the position too; it is named in `broken`.

    Args:
        mixture: or a `Bucketed` one, whose pictures come in their own sizes.
        size: (width, height) pictures are brought to where they have another.
        text: makes tensors of captions, "text" and "text_mask" as a rule; None leaves words out.
        limit: broken records that are stood for; one more stops.

    Raises:
        ValueError: neither a size nor buckets, or both.
    """

    def __init__(
        self,
        mixture: Mixture | Bucketed,
        size: tuple[int, int] | None = None,
        text: Callable[[Sequence[str]], Batch] | None = None,
        limit: int = 10,
    ) -> None:
        if (size is None) != isinstance(mixture, Bucketed):
            raise ValueError(f"pictures: size {size}; give one with a plain mixture, none with buckets")
        self.mixture, self.size, self.text, self.limit = mixture, size, text, limit
        self.broken: dict[tuple[str, int], str] = {}

    def batch(self, position: int, size: int) -> Batch:
        """`pixels` (B, 3, H, W) uint8, and what `text` makes.

        Raises:
            ValueError: more than `limit` broken records, a caption that is missing.
        """
        pixels, captions = self.read(position, size)
        made: Batch = {"pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()}
        return made | self.text(captions) if self.text else made

    def read(self, position: int, size: int) -> tuple[np.ndarray, list[str]]:
        """Pixels (B, H, W, 3) uint8 and captions."""
        picture, drawn = _draw(self.mixture, position, size, self.size)
        whole = self.mixture.mixture if isinstance(self.mixture, Bucketed) else self.mixture
        assert picture is not None
        pixels = np.empty((size, picture[1], picture[0], 3), np.uint8)
        captions = []
        for i, (which, row, bits) in enumerate(zip(drawn.which.tolist(), drawn.row.tolist(), drawn.bits.tolist(), strict=True)):
            record, pixels[i] = self._readable(whole, which, row, bits, picture)
            captions.append(record.captions[whole.wording(record, bits)])
        return pixels, captions

    def _readable(self, mixture: Mixture, which: int, row: int, bits: int, size: tuple[int, int]) -> tuple[Record, np.ndarray]:
        name = mixture.names[which]
        source = mixture.sources[name]
        attempt = 0
        while True:
            try:
                record = source[row]
                return record, np.asarray(cover(record.open(), size))
            except Broken as broken:
                self.broken[name, row] = str(broken)
                if len(self.broken) > self.limit:
                    named = "; ".join(list(self.broken.values())[:10])
                    raise ValueError(f"pictures: more than {self.limit} records are broken: {named}") from None
                word = draws.hashed(np.uint64(bits), np.array([attempt]))
                row, attempt = int(draws.below(word, len(source))[0]), attempt + 1


class MixedLatents:
    """Cached latents and caption states.

    Args:
        mixture: or a `Bucketed` one.
        latents: a cache a set, by the sets' names.
        texts: likewise.
        tokens: length that captions are padded or cut to; 0 = the longest of the batch.
        step: within every so many positions the rows come by the length of their captions, so that the micro-batches of a
            step hold less padding; the step has the same rows. 0 = as they are drawn.

    Raises:
        ValueError: a set without a cache, or one of another length.
    """

    def __init__(
        self,
        mixture: Mixture | Bucketed,
        latents: Mapping[str, Cache],
        texts: Mapping[str, Texts],
        tokens: int = 0,
        step: int = 0,
    ) -> None:
        whole = mixture.mixture if isinstance(mixture, Bucketed) else mixture
        for name, source in whole.sources.items():
            for what, caches in (("latents", latents), ("texts", texts)):
                if name not in caches:
                    raise ValueError(f"{what}: none for the set {name!r}; build them (diptych.data.latent_cache.{what})")
                if len(caches[name]) != len(source):
                    raise ValueError(
                        f"{what}: {len(caches[name]):,} of the set {name!r}, which has {len(source):,}; build them anew"
                    )
        self.mixture, self.tokens, self.step, self.whole = mixture, tokens, step, whole
        self._latents = [latents[name] for name in whole.names]
        self._texts = [texts[name] for name in whole.names]

    def batch(self, position: int, size: int) -> Batch:
        """`latent` (B, ...) float32, `text` (B, L, D) in the cache's format, `text_mask` (B, L) bool.

        Raises:
            ValueError: latents of several shapes in a batch; use `Bucketed`.
        """
        first = position // self.step * self.step if self.step else position
        last = -(-(position + size) // self.step) * self.step if self.step else position + size
        _, drawn = _draw(self.mixture, first, last - first)
        rows, texts = list(zip(drawn.which.tolist(), drawn.row.tolist())), []
        for (which, row), bits in zip(rows, drawn.bits.tolist(), strict=True):
            held = self._texts[which]
            texts.append(held.of(row, worded(held.counts(row), bits, self.whole.short, self.whole.short_words)))
        order = range(len(rows))
        if self.step:
            order = sorted(order, key=lambda i: (i // self.step, len(texts[i])))
        order = order[position - first :][:size]
        texts = [texts[i] for i in order]
        latents = [self._latents[which][row] for which, row in (rows[i] for i in order)]
        shapes = {latent.shape for latent in latents}
        if len(shapes) > 1:
            raise ValueError(f"latents: shapes {', '.join(map(str, sorted(shapes)))} in one batch; mix with Bucketed")
        length = self.tokens or max(len(states) for states in texts)
        text = np.zeros((size, length, texts[0].shape[1]), texts[0].dtype)
        mask = np.zeros((size, length), bool)
        for i, states in enumerate(texts):
            kept = states[:length]
            text[i, : len(kept)], mask[i, : len(kept)] = kept, True
        stacked = torch.from_numpy(np.stack(latents).astype(np.float32))
        return {"latent": stacked, "text": torch.from_numpy(text), "text_mask": torch.from_numpy(mask)}


def _draw(
    mixture: Mixture | Bucketed, position: int, size: int, picture: tuple[int, int] | None = None
) -> tuple[tuple[int, int] | None, Drawn]:
    if isinstance(mixture, Bucketed):
        return mixture.draw(position, size)
    return picture, mixture.draw(position, size)
