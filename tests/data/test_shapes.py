"""Drawn shapes: geometry by formula, captions that are true, and pairs that training never shows."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from diptych.data.shapes import (
    BACKGROUND,
    COLOURS,
    NOVEL,
    NUMBERS,
    RELATIONS,
    SHAPES,
    TAGS,
    Shape,
    Shapes,
    captions,
    coverage,
    dense,
    draw,
    fitting,
    prompts,
    relation,
    training_scene,
)

STAR = 5 * 0.42 * math.sin(math.pi / 5)  # ten triangles of sides 1 and 0.42, 36 degrees between
AREAS = {
    "circle": math.pi,
    "square": 2.0,
    "triangle": 3 * math.sqrt(3) / 4,
    "star": STAR,
    "cross": 2 * (0.6 * 2 * math.sqrt(0.91)) - 0.36,
    "ring": math.pi * (1 - 0.55**2),
}
SCENES = [training_scene(index) for index in range(300)]


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_covers_its_area_around_its_centre(kind: str):
    cover = coverage(kind, 0.4, 0.55, 0.25, 256)
    assert cover.sum() == pytest.approx(AREAS[kind] * (0.25 * 256) ** 2, rel=0.02)
    rows, columns = np.nonzero(cover > 0.5)
    far = np.hypot(columns + 0.5 - 0.4 * 256, rows + 0.5 - 0.55 * 256).max()
    assert far == pytest.approx(0.25 * 256, abs=1.5)
    assert (columns + 0.5).mean() == pytest.approx(0.4 * 256, abs=0.5)


def test_a_picture_holds_the_colours_asked_for():
    pixels = draw((Shape("circle", "red", 0.25, 0.5, 0.2), Shape("square", "white", 0.75, 0.5, 0.2)), 64)
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert tuple(pixels[32, 16]) == COLOURS["red"] and tuple(pixels[32, 48]) == COLOURS["white"]
    assert tuple(pixels[0, 0]) == BACKGROUND == tuple(pixels[32, 32])
    assert draw(SCENES[0], 97).shape == (97, 97, 3)


def test_rows_are_the_same_whenever_they_are_drawn():
    source = Shapes(10)
    assert len(source) == 10 and np.array_equal(source[7].image, Shapes(10)[7].image) and source[7].key == "shapes/0/7"
    assert not np.array_equal(source[7].image, Shapes(10, seed=1)[7].image)
    assert source[7].captions == Shapes(10, size=32)[7].captions
    with pytest.raises(IndexError):
        source[10]


def test_nothing_touches_and_nothing_is_cut_off():
    for scene in SCENES:
        for shape in scene:
            assert min(shape.x, shape.y, 1 - shape.x, 1 - shape.y) >= shape.radius
        for a, b in combinations(scene, 2):
            assert math.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius + 0.049


def test_held_out_pairs_are_never_trained_on_and_their_parts_are():
    seen = {(shape.kind, shape.colour) for scene in SCENES for shape in scene}
    assert len(NOVEL) == 12 and seen == {(kind, colour) for kind in SHAPES for colour in COLOURS} - NOVEL
    for split in ("train", "novel"):
        for row in prompts(20, split):
            for clause in row["include"]:
                if "color" in clause:
                    assert ((clause["class"], clause["color"]) in NOVEL) == (split == "novel")


def test_relations_hold_within_thirty_degrees():
    centre = Shape("circle", "red", 0.5, 0.5, 0.1)
    for degrees, words in (
        (0, "right of"),
        (29, "right of"),
        (31, ""),
        (59, ""),
        (61, "below"),
        (180, "left of"),
        (271, "above"),
    ):
        angle = math.radians(degrees)
        there = Shape("ring", "red", 0.5 + 0.3 * math.cos(angle), 0.5 + 0.3 * math.sin(angle), 0.1)
        assert relation(there, centre) == words


def test_captions_say_what_is_there():
    pair = (Shape("star", "orange", 0.2, 0.5, 0.18), Shape("cross", "blue", 0.8, 0.5, 0.12))
    assert captions(pair)[:2] == ("a star and a cross", "an orange star and a blue cross")
    assert "an orange star left of a blue cross" in captions(pair)
    assert dense(pair) == (
        "A clean drawing on a plain grey background shows exactly two shapes that do not touch. "
        "There is a large orange star at the left. There is a small blue cross at the right. "
        "The orange star is left of the blue cross."
    )
    three = tuple(Shape("cross", "red", x, 0.5, 0.12) for x in (0.2, 0.5, 0.8))
    assert captions(three)[:2] == ("three crosses", "three red crosses")
    assert dense(three).endswith("Together they are three red crosses.")
    for scene in SCENES:
        assert f"exactly {NUMBERS[len(scene)]} shape" in dense(scene)
        assert captions(scene)[-1] == dense(scene) and len(set(captions(scene))) == len(captions(scene))


def test_prompts_are_genevals_and_scenes_fit_them():
    rows = prompts(5)
    assert [row["tag"] for row in rows] == [tag for tag in TAGS for _ in range(5)]
    assert rows == prompts(5) != prompts(5, seed=1)
    for index, row in enumerate(rows):
        scene = fitting(row, index)
        for clause in row["include"]:
            same = [s for s in scene if s.kind == clause["class"] and s.colour == clause.get("color", s.colour)]
            assert len(same) == clause["count"]
            if "position" in clause:
                where, other = clause["position"]
                assert other == 0 and where in RELATIONS and relation(same[0], scene[0]) == where
        if row["tag"] == "counting":
            assert row["exclude"] == [{"class": row["include"][0]["class"], "count": len(scene) + 1}]
            assert row["prompt"].split()[0] == NUMBERS[len(scene)]
