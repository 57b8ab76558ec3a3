"""Aspect buckets: picture sizes of nearly one area, and batches that each hold one size.

The sizes keep the area of a square (as in NovelAI's and SDXL's training), sides divisible by what the model folds. A picture
goes to the size whose aspect is nearest in logarithm. Batches are decided like draws of a mixture: whose turn it is goes by
the group's number, so a batch is a function of its position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diptych.data.mixture import Drawn, Mixture, Turns
from diptych.data.records import Measured

Size = tuple[int, int]
"""(width, height)"""


def bucket_table(side: int, multiple: int = 32, widest: float = 2.0) -> tuple[Size, ...]:
    """Sizes of about side x side pixels, narrowest first.

    Args:
        side: of the square, a multiple of `multiple`.
        multiple: divides every side.
        widest: largest aspect, width over height or the other way round, at least 1.

    Raises:
        ValueError: a side that is not divided, or a `widest` below 1.
    """
    if side < 1 or multiple < 1 or side % multiple:
        raise ValueError(f"buckets: side {side} is not a multiple of {multiple}; give {max(side // multiple, 1) * multiple}")
    if widest < 1:
        raise ValueError(f"buckets: widest {widest} is below 1; it is the longer side over the shorter")
    wide = {(side, side)}
    for height in range(multiple, side, multiple):
        width = round(side * side / height / multiple) * multiple
        if width / height <= widest:
            wide.add((width, height))
    return tuple(sorted(wide | {(height, width) for width, height in wide}, key=lambda size: (size[0] / size[1], size)))


def assign(width: int, height: int, table: tuple[Size, ...]) -> Size:
    """The size nearest in log aspect; the first of two that are equally near."""
    aspect = math.log(width / height)
    return min(table, key=lambda size: abs(aspect - math.log(size[0] / size[1])))


@dataclass(frozen=True)
class Bucketed:
    """A mixture whose batches each hold pictures of one size.

    A size is as frequent as the weights of the sets and their shares of that size make it.

    Args:
        mixture: of sets that know their sizes (prepared sets, pictures in memory).
        group: positions that share a size: the rows of a (micro-)batch.

    Raises:
        ValueError: a set that does not know its sizes, or a group below 1.
    """

    mixture: Mixture
    group: int

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"buckets: group {self.group} is not positive; give the rows of a batch")
        for name, source in self.mixture.sources.items():
            if not isinstance(source, Measured):
                raise ValueError(f"buckets: set {name!r} does not know its sizes; prepare it (diptych data prepare)")

    @cached_property
    def _parts(self) -> tuple[tuple[Size, Mixture], ...]:
        """The sizes there are, and the mixture of each."""
        whole = self.mixture
        sizes = [source.sizes for source in whole.sources.values() if isinstance(source, Measured)]
        found = sorted({(int(w), int(h)) for one in sizes for w, h in np.unique(one, axis=0)}, key=lambda s: (s[0] / s[1], s))
        parts = []
        for size in found:
            rows = [np.flatnonzero((one == size).all(1)) for one in sizes]
            kept = [k for k in range(len(rows)) if len(rows[k])]
            parts.append(
                (
                    size,
                    Mixture(
                        {whole.names[k]: whole.sources[whole.names[k]] for k in kept},
                        tuple(whole.weights[k] * len(rows[k]) / len(sizes[k]) for k in kept),
                        whole.seed,
                        whole.short,
                        whole.short_words,
                        tuple(rows[k] for k in kept),
                        f"{whole.stream}/{size[0]}x{size[1]}",
                    ),
                )
            )
        return tuple(parts)

    @property
    def sizes(self) -> dict[Size, float]:
        """How often each size comes."""
        weights = np.array([sum(part.weights) for _, part in self._parts])
        return {size: float(weight) for (size, _), weight in zip(self._parts, weights / weights.sum(), strict=True)}

    @cached_property
    def _turns(self) -> Turns:
        return Turns(tuple(self.sizes.values()), self.mixture.seed, f"{self.mixture.stream}/sizes")

    def draw(self, position: int, size: int) -> tuple[Size, Drawn]:
        """The picture size and the draws of positions position, ..., position + size - 1, which lie in one group.

        Raises:
            ValueError: positions of two groups.
        """
        number, within = divmod(position, self.group)
        if within + size > self.group:
            raise ValueError(
                f"buckets: {size} rows at position {position} span two groups of {self.group}; "
                "set group to the rows of a micro-batch"
            )
        (which,), (turn,) = self._turns.at(np.array([number]))
        picture, part = self._parts[which]
        start = int(turn) * self.group + within
        drawn = part.draw(start, size)
        whole = np.array([self.mixture.names.index(name) for name in part.names], np.int64)
        return picture, Drawn(whole[drawn.which], drawn.row, drawn.bits)
