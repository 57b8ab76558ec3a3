"""Answers and pictures on disk: what is read, what is written, what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.files import png, write_lines
from diptych.metrics.benchmarks.geneval import GENEVAL, parse
from diptych.metrics.benchmarks.local_judges import Ocr, Remembered, Shapes
from diptych.metrics.benchmarks.t2i import Task
from diptych.metrics.benchmarks.t2i_files import answer_lines, pixels_of, quarter, read_answers, read_picture
from diptych.metrics.ocr import Reader

(PROMPT,) = parse([{"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a dog"}])


def test_answers_come_back_as_they_were_written(tmp_path: Path):
    answers = {"a.png": {"text": "x"}, "b.png#2": {"answers": {"1": "yes"}}}
    write_lines(tmp_path / "a.jsonl", answer_lines(answers.items()))
    assert read_answers(tmp_path / "a.jsonl") == answers
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "text": "x"}\n\n{"image": "a.png", "text": "y"}\n')
    assert read_answers(tmp_path / "a.jsonl") == {"a.png": {"text": "y"}}  # judged again: the last counts
    for line in ("[1]", '{"text": "x"}', '{"image"'):
        (tmp_path / "a.jsonl").write_text('{"image": "a.png"}\n' + line + "\n")
        with pytest.raises(ValueError, match="line 2: is no answer"):
            read_answers(tmp_path / "a.jsonl")


def test_pictures_may_have_another_ending(tmp_path: Path):
    assert read_picture(tmp_path, "x/0.png") is None
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "0.jpg").write_bytes(b"jpeg")
    assert read_picture(tmp_path, "x/0.png") == b"jpeg"
    (tmp_path / "x" / "0.png").write_bytes(b"png")
    assert read_picture(tmp_path, "x/0.png") == b"png"
    assert GENEVAL.picture(tmp_path, PROMPT, 0) is None


def test_pixels_of_any_file():
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 5), 7, np.uint8)).save(buffer, "PNG")
    assert pixels_of(buffer.getvalue()).tolist() == [[[7, 7, 7]] * 5] * 3
    with pytest.raises(ValueError, match="cannot be read"):
        pixels_of(b"no picture")


def test_quarters_of_an_odd_grid_are_of_one_size():
    grid = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for number, (top, left) in enumerate(((0, 0), (0, 3), (2, 0), (2, 3))):
        assert np.array_equal(pixels_of(quarter(png(grid), number)), grid[top : top + 2, left : left + 3])


def test_units_are_all_pictures_or_as_many_as_there_are():
    assert [number for _, number in GENEVAL.units([PROMPT])] == [0, 1, 2, 3] and len(GENEVAL.units([PROMPT], 1)) == 1


def test_remembered_answers_are_by_picture_and_prompt(tmp_path: Path):
    looked = []

    def judge(tasks):
        for task in tasks:
            looked.append(task.number)
            yield from Shapes()([task])

    blank = png(np.full((16, 16, 3), 160, np.uint8))
    other = png(np.full((16, 16, 3), 100, np.uint8))
    kept = Remembered(judge, "mine", tmp_path / "kept.jsonl")
    tasks = [Task(PROMPT, number, lambda data=data: data) for number, data in enumerate((blank, other, blank))]
    assert [answer for _, answer in kept(tasks)] == [{"objects": []}] * 3
    assert looked == [0, 1]
    assert len(list(Remembered(judge, "mine", tmp_path / "kept.jsonl")(tasks))) == 3 and looked == [0, 1]


def test_pp_ocr_says_text_or_lines():
    pytest.importorskip("rapidocr_onnxruntime")
    from diptych.data.words import Page, draw

    picture = draw(Page(("OPEN", "RIVER"), "black", "white"), 96)
    task = Task(PROMPT, 0, lambda: png(picture))
    assert [answer for _, answer in Ocr("lines")([task])] == [{"lines": ["OPEN", "RIVER"]}]
    assert [answer for _, answer in Ocr("text")([task])] == [{"text": "OPEN RIVER"}]
    assert Reader().read(picture) == "OPEN RIVER"
