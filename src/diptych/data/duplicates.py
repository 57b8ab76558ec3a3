"""Finding pictures that are in a set already: the same bytes, or the same to the eye.

To the eye: two difference hashes of 64 bits (is a pixel of a 9 x 8 grey miniature brighter than its right, than its lower
neighbour?), as in dHash, and the mean colour. Two pictures are alike when few bits differ and the colours are close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

LEVELS = 3  # a neighbour counts as brighter from so many grey levels on: flat parts do not flicker
COLOUR = 16  # levels by which a channel's mean may differ
MOST_BITS = 7  # of 128: eight bands of 16 bits, one of which then agrees exactly

Look = tuple[int, int]


def looks(picture: Image.Image) -> tuple[Look, tuple[int, int, int]]:
    """The two hashes of an RGB picture, and its mean colour."""
    from PIL import Image

    grey = picture.convert("L")
    across = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    down = np.asarray(grey.resize((8, 9), Image.Resampling.BOX), np.int16)
    bits = (across[:, :-1] >= across[:, 1:] + LEVELS, down[:-1] >= down[1:] + LEVELS)
    first, second = (int.from_bytes(np.packbits(one).tobytes(), "big") for one in bits)
    red, green, blue = (round(float(level)) for level in np.asarray(picture).reshape(-1, 3).mean(0))
    return (first, second), (red, green, blue)


class Seen:
    """The pictures of a set so far.

    Args:
        near: bits that may differ for two pictures to be alike, 0 to `MOST_BITS`; None compares bytes only.
    """

    def __init__(self, near: int | None) -> None:
        self.near = near
        self._digests: set[int] = set()
        self._looks: list[tuple[int, tuple[int, int, int]]] = []
        self._bands: dict[tuple[int, int], list[int]] = {}

    def known(self, digest: int, look: Look, colour: tuple[int, int, int]) -> bool:
        """Whether such a picture was added."""
        if digest in self._digests:
            return True
        if self.near is None:
            return False
        bits = look[0] << 64 | look[1]
        return any(self._alike(bits, colour, other) for band in _bands(bits) for other in self._bands.get(band, ()))

    def add(self, digest: int, look: Look, colour: tuple[int, int, int]) -> None:
        """Add a picture."""
        self._digests.add(digest)
        if self.near is not None:
            bits = look[0] << 64 | look[1]
            for band in _bands(bits):
                self._bands.setdefault(band, []).append(len(self._looks))
            self._looks.append((bits, colour))

    def _alike(self, bits: int, colour: tuple[int, int, int], other: int) -> bool:
        held, its = self._looks[other]
        return (bits ^ held).bit_count() <= (self.near or 0) and all(abs(a - b) <= COLOUR for a, b in zip(colour, its))


def _bands(bits: int) -> list[tuple[int, int]]:
    return [(i, bits >> 16 * i & 0xFFFF) for i in range(MOST_BITS + 1)]
