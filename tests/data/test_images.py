"""ImageSet, its splits and the contact sheet."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.data.images import ImageSet, contact_sheet, split


def grid(concepts: int, styles: tuple[str, ...]) -> ImageSet:
    """Every concept in every style, 2x2 pictures that tell their row."""
    pairs = [(f"thing {i}", style) for style in styles for i in range(concepts)]
    pixels = np.zeros((len(pairs), 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(len(pairs)) % 256, np.arange(len(pairs)) // 256
    return ImageSet(
        tuple(f"{style}/{name}" for name, style in pairs),
        pixels,
        tuple(name for name, _ in pairs),
        tuple(style for _, style in pairs),
        ("",) * len(pairs),
    )


def test_take_keeps_rows_together():
    images = grid(300, ("ink", "chalk"))
    part = images.take(np.array([599, 3]))
    assert part.ids == ("chalk/thing 299", "ink/thing 3")
    assert part.names == ("thing 299", "thing 3") and part.styles == ("chalk", "ink")
    assert part.pixels[:, 0, 0, :2].tolist() == [[599 % 256, 2], [3, 0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": np.zeros((2, 4, 4), np.uint8)}, "uint8 of shape"),
        ({"pixels": np.zeros((2, 4, 4, 3), np.float32)}, "float32"),
        ({"names": ("a",)}, "1 names for 2 pictures"),
        ({"ids": ("x", "x")}, "'x' occurs twice"),
    ],
)
def test_wrong_fields_are_named(change, words):
    fields = {
        "ids": ("x", "y"),
        "pixels": np.zeros((2, 4, 4, 3), np.uint8),
        "names": ("a", "b"),
        "styles": ("s", "s"),
        "categories": ("", ""),
    }
    with pytest.raises(ValueError, match=words) as caught:
        ImageSet(**(fields | change))
    assert "\n" not in str(caught.value)


def test_split_is_a_partition_with_the_stated_shares():
    images = grid(1000, ("ink", "chalk", "oil"))
    parts = split(images)
    together = np.concatenate([parts["train"], parts["judge"], parts["test"]])
    assert sorted(together.tolist()) == list(range(3000))
    for name, share in (("train", 0.70), ("judge", 0.25), ("test", 0.05)):
        assert abs(len(parts[name]) / 3000 - share) < 0.02
        assert (np.diff(parts[name]) > 0).all()


def test_split_depends_on_the_pair_alone():
    images = grid(500, ("ink", "chalk", "oil"))
    order = np.random.default_rng(3).permutation(len(images))
    shuffled = images.take(order)
    for name, index in split(images).items():
        assert {images.ids[i] for i in index} == {shuffled.ids[i] for i in split(shuffled)[name]}


def test_a_concept_in_one_style_is_never_tested():
    lone = grid(2000, ("ink",))
    parts = split(lone)
    assert len(parts["test"]) == 0 and len(parts["train"]) + len(parts["judge"]) == 2000


def test_every_test_pair_was_seen_in_parts():
    images = grid(800, ("ink", "chalk"))
    parts = split(images)
    seen = {(images.names[i], images.styles[i]) for i in parts["train"]}
    assert len(parts["test"]) > 20
    for i in parts["test"]:
        name, style = images.names[i], images.styles[i]
        assert (name, style) not in seen
        assert any(n == name and s != style for n, s in seen)
        assert any(s == style and n != name for n, s in seen)


def test_contact_sheet_places_pictures_in_reading_order():
    pixels = np.zeros((3, 4, 5, 3), np.uint8)
    for i in range(3):
        pixels[i] = 50 * (i + 1)
    sheet = np.asarray(contact_sheet(pixels, columns=2, gap=1))
    assert sheet.shape == (2 * 5 + 1, 2 * 6 + 1, 3)
    assert (sheet[1:5, 1:6] == 50).all() and (sheet[1:5, 7:12] == 100).all() and (sheet[6:10, 1:6] == 150).all()
    assert (sheet[6:10, 7:12] == 200).all() and (sheet[0] == 200).all()


def test_contact_sheet_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="columns 0"):
        contact_sheet(np.zeros((1, 2, 2, 3), np.uint8), columns=0)
    with pytest.raises(ValueError, match="float64"):
        contact_sheet(np.zeros((1, 2, 2, 3)), columns=1)
    with pytest.raises(ValueError, match="N >= 1"):
        contact_sheet(np.zeros((0, 2, 2, 3), np.uint8), columns=1)
