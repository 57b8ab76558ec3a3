"""Mixing sets without state: which record and which of its captions stand at a position is a function of seed and position.

Positions come in blocks, and each block holds every set as often as its weight asks (rounded so that the running totals
never drift), in an order drawn for the block. The k-th draw of a set takes the k-th record of an order drawn anew for each
pass over it. So a set is seen whole before any of it comes again, no matter how sets are mixed, and any position can be had
without those before it: a resume is exact to the sample, and ranks share positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from diptych.data import draws
from diptych.data.records import Measured, Record, Source
from diptych.load import suggest

WEIGHTS = ("equal", "proportional", "capped")
SHORT_WORDS = 25  # up to this many a caption counts as short: where i1's own rewriter draws the line


@dataclass(frozen=True)
class Turns:
    """Whose turn it is at each position of an endless stream, in proportion to weights.

    Args:
        weights: positive, of any sum.
        seed, stream: the choices' own.
    """

    weights: tuple[float, ...]
    seed: int
    stream: str = "turns"

    @cached_property
    def block(self) -> int:
        """Positions a block: enough for the smallest weight to come four times. One set alone needs no blocks."""
        return 1 if len(self.weights) == 1 else max(16, math.ceil(4 * sum(self.weights) / min(self.weights)))

    @cached_property
    def _edges(self) -> np.ndarray:
        """Cumulated weights, from 0 to exactly 1."""
        edges = np.concatenate([[0.0], np.cumsum(self.weights)]) / math.fsum(self.weights)
        edges[-1] = 1.0
        return edges

    def _totals(self, blocks: np.ndarray) -> np.ndarray:
        """Draws of each, and of all before it in the list, in the first `blocks` blocks: (B, K + 1)."""
        return np.floor(blocks[:, None].astype(np.float64) * self.block * self._edges + 0.5).astype(np.int64)

    def at(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whose turn it is, and how often it was theirs before in the stream's own order: two of (B,) int64."""
        block, slot = np.divmod(position, self.block)
        slot = draws.permuted(draws.hashed(draws.named(self.seed, self.stream), block), slot, self.block)
        before, after = self._totals(block), self._totals(block + 1)
        starts = after - before  # of each one's slots within the block
        which = (slot[:, None] >= starts[:, 1:]).sum(1)
        rows = np.arange(len(position))
        earlier = before[rows, which + 1] - before[rows, which]
        return which, earlier + slot - starts[rows, which]

    def counts(self, position: int) -> np.ndarray:
        """How often each one's turn came in the first `position` positions, (K,) int64."""
        whole, rest = divmod(position, self.block)
        totals = np.diff(self._totals(np.array([whole]))[0])
        which, _ = self.at(np.arange(whole * self.block, whole * self.block + rest))
        return totals + np.bincount(which, minlength=len(self.weights))


@dataclass(frozen=True)
class Drawn:
    """A record at a position of a mixture.

    Args:
        which: number of its set.
        row: its row there.
        bits: 64 random bits of the position.
    """

    which: np.ndarray
    row: np.ndarray
    bits: np.ndarray


@dataclass(frozen=True)
class Mixture:
    """Sets with weights; see the top of this file. Made by `mix`.

    Args:
        sources: by name.
        weights: one a set, positive.
        seed: of all choices.
        short: share of short captions (up to `short_words` words) among those drawn, where a record has both kinds;
            None draws uniformly among all captions of a record.
        short_words: see `short`.
        rows: only these rows of each set; empty = all.
        stream: name of the choices, for mixtures within mixtures.
    """

    sources: Mapping[str, Source]
    weights: tuple[float, ...]
    seed: int = 0
    short: float | None = None
    short_words: int = SHORT_WORDS
    rows: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)
    stream: str = "mixture"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The sets, in the order of `Drawn.which`."""
        return tuple(self.sources)

    @cached_property
    def turns(self) -> Turns:
        """Which set's turn it is."""
        return Turns(self.weights, self.seed, self.stream)

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([len(rows) for rows in self.rows or self.sources.values()], np.int64)

    @cached_property
    def _keys(self) -> np.ndarray:
        """A key of orders for each set; it goes by the set's name, so that sets can come and go."""
        return np.array([draws.named(self.seed, f"{self.stream}/{name}") for name in self.sources], np.uint64)

    def draw(self, position: int, size: int) -> Drawn:
        """Positions position, ..., position + size - 1."""
        return self.draw_at(np.arange(position, position + size))

    def draw_at(self, position: np.ndarray) -> Drawn:
        """Any positions, (B,) int64."""
        which, turn = self.turns.at(position)
        lengths = self._lengths[which]
        epoch, place = np.divmod(turn, lengths)
        row = draws.permuted(draws.hashed(self._keys[which], epoch), place, lengths)
        if self.rows:
            row = np.array([self.rows[k][i] for k, i in zip(which, row, strict=True)], np.int64)
        return Drawn(which, row, draws.hashed(draws.named(self.seed, f"{self.stream}/bits"), position))

    def wording(self, record: Record, bits: int) -> int:
        """Which of a record's captions is drawn; see `worded`.

        Raises:
            ValueError: it has none, or an empty one.
        """
        if not record.captions or not all(text.strip() for text in record.captions):
            what = "has an empty caption" if record.captions else "has no caption"
            raise ValueError(f"mixture: record {record.key!r} {what}; caption it (diptych data caption) or leave it out")
        words = [0 if self.short is None else len(text.split()) for text in record.captions]
        return worded(words, bits, self.short, self.short_words)

    def counts(self, position: int) -> dict[str, int]:
        """Draws of each set in the first `position` positions."""
        return dict(zip(self.names, self.turns.counts(position).tolist(), strict=True))

    def passes(self, position: int) -> dict[str, float]:
        """How often each set was seen whole by then."""
        return {name: count / length for (name, count), length in zip(self.counts(position).items(), self._lengths.tolist())}


def worded(words: Sequence[int], bits: int, short: float | None, short_words: int = SHORT_WORDS) -> int:
    """Which caption is drawn, given how many words each has: first the kind, then uniformly among those of it.

    Args:
        words: one count a caption, at least one.
        bits: 64 random bits.
        short: chance of the short kind where both kinds are there; None = uniform over all.
        short_words: up to this many words a caption is short.
    """
    chosen = range(len(words))
    if short is not None:
        brief = [i for i in chosen if words[i] <= short_words]
        if 0 < len(brief) < len(words):
            take = (bits & 0xFFFFFFFF) / 2**32 < short
            chosen = brief if take else [i for i in chosen if words[i] > short_words]
    return chosen[((bits >> 32) * len(chosen)) >> 32]


def mix(
    sources: Mapping[str, Source],
    weights: str | Mapping[str, float] = "equal",
    *,
    cap: int = 0,
    seed: int = 0,
    short: float | None = None,
    short_words: int = SHORT_WORDS,
) -> Mixture:
    """Mix sets.

    Args:
        sources: by name.
        weights: "equal"; "proportional" to the sets' lengths; "capped": min(length, cap); or a weight a name, of any sum.
        cap: with "capped".
        seed, short, short_words: see `Mixture`.

    Raises:
        ValueError: a weight that is not positive, that names no set or is missing; an empty set; a set with records that
            have no caption; a share outside 0 to 1.
    """
    if not sources:
        raise ValueError("mixture: no sets; give at least one")
    for name, source in sources.items():
        if not len(source):
            raise ValueError(f"mixture: set {name!r} is empty; leave it out")
        counts = source.caption_counts if isinstance(source, Measured) else np.ones(1)  # others say so when they are drawn
        if not counts.all():
            first = int(np.flatnonzero(counts == 0)[0])
            raise ValueError(
                f"mixture: set {name!r} has {int((counts == 0).sum()):,} records without a caption, first "
                f"{source[first].key!r}; caption it (diptych data caption) or prepare it again with captions"
            )
    if short is not None and not 0 <= short <= 1:
        raise ValueError(f"mixture: short {short} is not a share between 0 and 1")
    return Mixture(dict(sources), _weights(sources, weights, cap), seed, short, short_words)


def _weights(sources: Mapping[str, Source], weights: str | Mapping[str, float], cap: int) -> tuple[float, ...]:
    lengths = {name: len(source) for name, source in sources.items()}
    if weights == "equal":
        return (1.0,) * len(lengths)
    if weights == "proportional":
        return tuple(map(float, lengths.values()))
    if weights == "capped":
        if cap < 1:
            raise ValueError(f"mixture: cap {cap} with capped weights; give the length beyond which a set counts no more")
        return tuple(float(min(length, cap)) for length in lengths.values())
    if isinstance(weights, str):
        raise ValueError(f"mixture: weights {weights!r} are unknown{suggest(weights, WEIGHTS)}")
    for name, weight in weights.items():
        if name not in lengths:
            raise ValueError(f"mixture: weights name the set {name!r}, which is not there{suggest(name, lengths)}")
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"mixture: weight {weight} of set {name!r} is not positive; leave the set out instead")
    missing = next((name for name in lengths if name not in weights), None)
    if missing is not None:
        raise ValueError(f"mixture: set {missing!r} has no weight; give one, or leave the set out")
    return tuple(float(weights[name]) for name in lengths)
