"""Captioned pictures in memory: an `ImageSet`, its splits, and a sheet to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

JUDGE_SHARE = 0.25
TEST_SHARE = 0.055  # a little more than wanted: pairs that cannot be tested go back to training


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Pictures with what they show, row i of every field belonging together.

    Args:
        ids: stable and unique, e.g. "noto/hot-pepper".
        pixels: (N, H, W, 3) uint8, sRGB.
        names: the concept in plain words, the same in every style ("hot pepper").
        styles: the style in plain words ("noto classic").
        categories: "food and drink"; empty where the source has none.

    Raises:
        ValueError: fields of different lengths, pixels that are not (N, H, W, 3) uint8, a doubled id.
    """

    ids: tuple[str, ...]
    pixels: np.ndarray
    names: tuple[str, ...]
    styles: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in ("ids", "names", "styles", "categories"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        shape, kind = self.pixels.shape, self.pixels.dtype
        if len(shape) != 4 or shape[3] != 3 or kind != np.uint8:
            raise ValueError(f"images: pixels are {kind} {shape}; give uint8 of shape (N, H, W, 3)")
        for field in ("ids", "names", "styles", "categories"):
            if len(getattr(self, field)) != shape[0]:
                raise ValueError(f"images: {len(getattr(self, field))} {field} for {shape[0]} pictures; give one each")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            doubled = next(i for i in self.ids if i in seen or seen.add(i))
            raise ValueError(f"images: id {doubled!r} occurs twice; ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Sequence[int] | np.ndarray) -> ImageSet:
        """The pictures at `index`, in that order (a copy)."""
        rows = np.asarray(index, dtype=np.int64)
        return ImageSet(
            tuple(self.ids[i] for i in rows),
            self.pixels[rows],
            tuple(self.names[i] for i in rows),
            tuple(self.styles[i] for i in rows),
            tuple(self.categories[i] for i in rows),
        )


def split(images: ImageSet) -> dict[str, np.ndarray]:
    """Disjoint row indices "train" (about 70 %), "judge" (25 %: for a metric's own network) and "test" (5 %), ascending.

    The place of a picture depends on its (concept, style) alone, not on what else is in the set. One exception: a test
    pair whose concept or style is missing from the training pictures (the concept in another style, the style on another
    concept) could not be composed from what was seen, and is trained on instead.
    """
    draw = np.array([_uniform(f"{name}\n{style}") for name, style in zip(images.names, images.styles)])
    test = draw < TEST_SHARE
    judge = (draw >= TEST_SHARE) & (draw < TEST_SHARE + JUDGE_SHARE)
    train = ~test & ~judge
    styles_of: dict[str, set[str]] = {}
    names_of: dict[str, set[str]] = {}
    for i in np.flatnonzero(train):
        styles_of.setdefault(images.names[i], set()).add(images.styles[i])
        names_of.setdefault(images.styles[i], set()).add(images.names[i])
    for i in np.flatnonzero(test):
        name, style = images.names[i], images.styles[i]
        if not (styles_of.get(name, set()) - {style} and names_of.get(style, set()) - {name}):
            test[i], train[i] = False, True
    return {"train": np.flatnonzero(train), "judge": np.flatnonzero(judge), "test": np.flatnonzero(test)}


def contact_sheet(pixels: np.ndarray, columns: int, gap: int = 2) -> Image.Image:
    """Pictures in rows of `columns`, `gap` grey pixels between them.

    Args:
        pixels: (N, H, W, 3) uint8, N >= 1.

    Raises:
        ValueError: no pictures, pixels of another shape or type, columns < 1.
    """
    from PIL import Image

    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8 or not len(pixels):
        raise ValueError(f"contact sheet: pixels are {pixels.dtype} {pixels.shape}; give uint8 (N, H, W, 3) with N >= 1")
    if columns < 1:
        raise ValueError(f"contact sheet: columns {columns} is not positive")
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 200, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return Image.fromarray(sheet)


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
