"""The micro benchmarks: the detector is exact on what it should see, and says so where it cannot; the reader's ceiling."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest

from diptych.data.shapes import BACKGROUND, COLOURS, Shape, draw, fitting, prompts, training_scene
from diptych.metrics.benchmarks.geneval import GENEVAL
from diptych.metrics.benchmarks.local_judges import Shapes as ShapeJudge
from diptych.metrics.benchmarks.micro import (
    MICRO_GENEVAL,
    MICRO_GENEVAL_NOVEL,
    MICRO_LONGTEXT,
    OVERLAP,
    ceiling,
    corrupted,
    shape_prompts,
    true_shapes,
    word_prompts,
)
from diptych.metrics.benchmarks.shape_detector import detect
from diptych.metrics.benchmarks.t2i import Task, table
from diptych.metrics.benchmarks.t2i_files import png_of


def found(pixels: np.ndarray) -> Counter:
    return Counter((one["class"], one["color"]) for one in detect(pixels) if one["score"] > OVERLAP)


@pytest.mark.parametrize("size", [32, 64, 100])
def test_the_detector_is_exact_on_drawn_scenes(size: int):
    for index in range(12):
        scene = training_scene(index, seed=9)
        assert found(draw(scene, size)) == Counter((one.kind, one.colour) for one in scene)


def test_boxes_are_where_the_shapes_are():
    (one,) = detect(draw((Shape("circle", "blue", 0.25, 0.625, 0.125),), 64))
    np.testing.assert_allclose(one["box"], [8, 32, 24, 48], atol=1)
    assert (one["class"], one["color"]) == ("circle", "blue") and one["score"] > 0.9


def test_every_pair_is_told_from_every_other():
    for row in prompts(8, "novel", seed=4):
        scene = fitting(row, 3)
        assert found(draw(scene, 64)) == Counter((one.kind, one.colour) for one in scene)


def test_what_is_no_shape_is_not_found():
    grey = np.full((64, 64, 3), BACKGROUND, np.uint8)
    assert detect(grey) == []
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert found(noise) == Counter()
    bar = grey.copy()
    bar[30:34, 4:60] = COLOURS["red"]
    assert found(bar) == Counter()  # a thin bar overlaps no template by 0.7
    with pytest.raises(ValueError, match="square RGB"):
        detect(np.zeros((4, 5, 3), np.uint8))


def test_touching_shapes_of_two_colours_come_apart():
    both = (Shape("square", "red", 0.35, 0.5, 0.2), Shape("square", "blue", 0.35 + 0.2 * 2**0.5, 0.5, 0.2))
    assert found(draw(both, 64)) == Counter({("square", "red"): 1, ("square", "blue"): 1})


def test_ceilings_of_shapes_fall_with_blur_and_noise():
    asked = shape_prompts(4)
    assert ceiling(MICRO_GENEVAL, asked) == 1.0 == ceiling(MICRO_GENEVAL_NOVEL, shape_prompts(4, "novel"))
    assert ceiling(MICRO_GENEVAL, asked, blur=0.5, noise=0.05) == 1.0
    assert ceiling(MICRO_GENEVAL, asked, blur=3.0) < 0.5
    with pytest.raises(ValueError, match="cannot be drawn"):
        ceiling(GENEVAL, asked)


def test_wrong_pictures_score_low():
    """The pictures of other prompts: right only where chance makes them so."""
    asked = shape_prompts(6)
    pictures = [pixels for _, pixels in true_shapes(asked)]
    shifted = [Task(one, 0, partial(png_of, pictures[n - 7])) for n, one in enumerate(asked)]
    answers = {MICRO_GENEVAL.file(task.prompt, 0): answer for task, answer in ShapeJudge()(shifted)}
    made = table(MICRO_GENEVAL, asked, answers, images=1)
    assert MICRO_GENEVAL.scores(asked)[0].reduce(made.cells)(made.rows, np.ones((1, len(made.rows))))[0] < 0.3


def test_ceiling_of_words_is_what_the_reader_reads():
    pytest.importorskip("rapidocr_onnxruntime")
    asked = word_prompts(1)
    assert ceiling(MICRO_LONGTEXT, asked, size=64) >= 5 / 6
    assert ceiling(MICRO_LONGTEXT, asked[:1], size=64, blur=4.0) == 0.0


def test_prompts_of_the_two_splits_have_ids_of_their_own():
    sets = [*shape_prompts(2), *shape_prompts(2, "novel"), *word_prompts(2), *word_prompts(2, "novel")]
    assert len({prompt.item for prompt in sets}) == len(sets) == 12 + 12 + 6 + 6


def test_corruption_repeats_itself():
    pixels = draw(training_scene(0), 64)
    assert np.array_equal(corrupted(pixels, 0.0, 0.0, 1), pixels)
    assert np.array_equal(corrupted(pixels, 1.0, 0.1, 1), corrupted(pixels, 1.0, 0.1, 1))
    assert not np.array_equal(corrupted(pixels, 1.0, 0.1, 1), corrupted(pixels, 1.0, 0.1, 2))
