"""Items and the wordings of their captions."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.data.images import ImageSet
from diptych.data.items import caption, items, training_caption, variants, with_article


def test_canonical_caption():
    assert caption("hot pepper", "noto") == "hot pepper, noto style"
    assert caption("hot pepper", "noto", "food and drink") == "hot pepper, food and drink, noto style"


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("red apple", "a red apple"),
        ("anchor", "an anchor"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass done", "an hourglass done"),
        ("unamused face", "an unamused face"),
        ("cactus", "a cactus"),
        ("compass", "a compass"),
        ("scissors", "scissors"),
        ("1st place medal", "1st place medal"),
        ("flag of malaysia", "flag of malaysia"),
    ],
)
def test_articles(name, spoken):
    assert with_article(name) == spoken


def test_variants_hold_what_a_user_types_and_no_repeats():
    wordings = variants("red apple", "noto", "food and drink")
    assert wordings[0] == caption("red apple", "noto")
    assert {"a red apple, noto style", "red apple", "red apple, food and drink, noto style"} <= set(wordings)
    for name in ("scissors", "red apple"):
        for category in ("", "objects"):
            wordings = variants(name, "twemoji", category)
            assert len(set(wordings)) == len(wordings)
            assert all(name in wording for wording in wordings)
            assert all(("objects" in wording) <= (category == "objects") for wording in wordings)


def test_training_captions_come_from_the_given_generator():
    def draw(seed: int) -> list[str]:
        generator = np.random.default_rng(seed)
        return [training_caption("red apple", "noto", "food and drink", generator) for _ in range(200)]

    assert draw(1) == draw(1) != draw(2)
    assert set(draw(1)) == set(variants("red apple", "noto", "food and drink"))


def test_items_follow_the_index():
    pixels = np.zeros((2, 1, 1, 3), np.uint8)
    images = ImageSet(("noto/a", "noto/b"), pixels, ("anchor", "bee"), ("noto", "noto"), ("objects", ""))
    assert [item.id for item in items(images)] == ["noto/a", "noto/b"]
    (bee,) = items(images, [1])
    assert (bee.id, bee.caption, bee.name, bee.style, bee.category) == ("noto/b", "bee, noto style", "bee", "noto", "")
