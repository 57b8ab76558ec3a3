"""Items and their captions: what a unit of a text-to-image study asks for, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.data.images import ImageSet

_PLAIN_PLURALS = ("ss", "us", "is")
_YOU = ("uni", "eu", "use", "ufo")
_SILENT_H = ("hour", "heir", "honest")
_NO_ARTICLE = ("flag of ", "people ", "men ", "women ", "keycap ", "digit ", "letter ")


@dataclass(frozen=True)
class Item:
    """One thing to be drawn.

    Args:
        id: stable id, what `study.Unit.item` holds; for emoji the picture's id, e.g. "noto/hot-pepper".
        caption: the prompt in its canonical form.
        name: the concept alone ("hot pepper").
        style: the style alone ("noto").
        category: may be empty.
    """

    id: str
    caption: str
    name: str
    style: str
    category: str = ""


def items(images: ImageSet, index: Sequence[int] | np.ndarray | None = None) -> tuple[Item, ...]:
    """The pictures at `index` (all if None) as items with canonical captions, in that order."""
    rows = range(len(images)) if index is None else np.asarray(index, dtype=np.int64)
    return tuple(
        Item(
            images.ids[i],
            caption(images.names[i], images.styles[i]),
            images.names[i],
            images.styles[i],
            images.categories[i],
        )
        for i in rows
    )


def caption(name: str, style: str, category: str | None = None) -> str:
    """The canonical prompt, "hot pepper, noto style"; with a category "hot pepper, food and drink, noto style"."""
    return ", ".join(part for part in (name, category, f"{style} style") if part)


def variants(name: str, style: str, category: str = "") -> tuple[str, ...]:
    """Every wording a training caption may take, the canonical one first, without repeats.

    Users type "a red apple, noto style" as well as "red apple, noto style"; training sees both, and the name alone.
    """
    noun = with_article(name)
    wordings = (
        caption(name, style),
        caption(noun, style),
        caption(name, style, category),
        caption(noun, style, category),
        f"{style} style, {name}",
        f"{noun} in {style} style",
        name,
    )
    return tuple(dict.fromkeys(wordings))


def training_caption(name: str, style: str, category: str, generator: np.random.Generator) -> str:
    """One of `variants`, drawn with equal chances from the caller's generator."""
    wordings = variants(name, style, category)
    return wordings[int(generator.integers(len(wordings)))]


def with_article(name: str) -> str:
    """ "a hot pepper", "an apple"; plurals, numbers and names that take no article stay as they are."""
    last = name.split()[-1] if name.split() else ""
    plural = last.endswith("s") and not last.endswith(_PLAIN_PLURALS)
    if not name or plural or name[0].isdigit() or name.startswith(_NO_ARTICLE):
        return name
    vowel = name[0] in "aeiou" and not name.startswith(_YOU)
    return f"an {name}" if vowel or name.startswith(_SILENT_H) else f"a {name}"
