"""PRISM-Bench: marks out of replies as models write them, and means of all marks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import originals
import pytest

from diptych.metrics.benchmarks.prism import PRISM, TRACKS, mark
from diptych.metrics.benchmarks.t2i import Malformed, reported, table

FENCED = '```json\n{"justification": "fine", "score": 7,}\n```'
LOOSE = "{justification: 'good', score: 6}"
BROKEN = '{"justification": "it says "OPEN" twice", "score": 4}'
CURLY = "{\u201cjustification\u201d: \u201cfair\u201d, \u201cscore\u201d: 5}"


@pytest.mark.parametrize(
    ("reply", "upstream", "fixed"),
    [
        (8, 8, 8),
        ('{"justification": "x", "score": 8}', 8, 8),
        (FENCED, 7, 7),
        ('{"score": 7.5}', 7.5, 7.5),
        (LOOSE, 6, 6),  # demjson3 reads it there, the mark is found by its name here
        (BROKEN, None, 4),
        (CURLY, None, 5),
        ('Here it is: {"justification": "x", "score": 3} Thanks.', None, 3),
        ('{"justification": "two\nlines", "score": 3}', None, 3),
        ('{"score": "9"}', None, 9),  # a mark in quotes is no number there
        ('{"score": 11}', 11, None),
        ('{"score": -1}', -1, None),
        ('{"score": true}', 1, None),
        ('{"mark": 3}', None, None),
        ("I cannot judge this.", None, None),
        ("", None, None),
        (None, None, None),
        (12, 12, None),
    ],
)
def test_marks(reply: object, upstream: float | None, fixed: float | None):
    for mode, expected in (("upstream", upstream), ("fixed", fixed)):
        if expected is None:
            with pytest.raises(Malformed):
                mark(reply, mode)  # type: ignore[arg-type]
        else:
            assert mark(reply, mode) == expected  # type: ignore[arg-type]


@pytest.fixture
def prompts(tmp_path: Path) -> tuple:
    for track, count in (("style", 2), ("affection", 1)):
        (tmp_path / f"{track}.jsonl").write_text("".join(json.dumps({"prompt": f"{track} {n}"}) + "\n" for n in range(count)))
    return PRISM.read([tmp_path])


def test_prompts_come_in_the_order_of_the_tracks(prompts: tuple, tmp_path: Path):
    assert [(one.item, one.text, PRISM.file(one, 0)) for one in prompts] == [
        ("affection/0", "affection 0", "affection/0.png"),
        ("style/0", "style 0", "style/0.png"),
        ("style/1", "style 1", "style/1.png"),
    ]
    assert PRISM.read([tmp_path / "style.jsonl"])[0].place == 0
    (tmp_path / "other.jsonl").write_text("{}\n")
    assert len(PRISM.read([tmp_path])) == 3  # a folder may hold other files
    with pytest.raises(ValueError, match="no track of PRISM-Bench"):
        PRISM.read([tmp_path / "other.jsonl"])
    (tmp_path / "entity.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(ValueError, match='row 1: has no "prompt"'):
        PRISM.read([tmp_path])
    with pytest.raises(ValueError, match="none was found"):
        PRISM.read([])


def test_the_score_is_ten_times_the_mean_of_all_marks(prompts: tuple):
    answers = {
        "affection/0.png": {"alignment": 9, "aesthetic": '{"score": 6}'},
        "style/0.png": {"alignment": 4, "aesthetic": 5},
        "style/1.png": {"alignment": "no idea", "aesthetic": 8},
    }

    def values(made):
        ones = np.ones((1, len(made.rows)))
        return {s.name: s.reduce(made.cells)(made.rows, ones)[0] for s in reported(PRISM, prompts, made.cells)}

    with pytest.raises(ValueError, match=r"style/1.png \(alignment: no mark\)"):
        table(PRISM, prompts, answers)
    upstream = table(PRISM, prompts, answers, mode="upstream")
    found = values(upstream)
    assert found["overall"] == pytest.approx(10 * (9 + 6 + 4 + 5 + 8) / 5)  # the unread one is left out of the mean
    assert found["alignment"] == pytest.approx(65) and found["aesthetic"] == pytest.approx(10 * 19 / 3)
    assert found["style"] == pytest.approx(10 * 17 / 3) and upstream.dropped == 0
    counted = values(table(PRISM, prompts, answers, missing="worst"))
    assert counted["overall"] == pytest.approx(10 * (9 + 6 + 4 + 5) / 6)  # the picture counts as 0 in both passes
    whole = {**answers, "style/1.png": {"alignment": 10, "aesthetic": 8}}
    assert values(table(PRISM, prompts, whole))["overall"] == pytest.approx(70)


@originals.needed
def test_the_published_prompts():
    prompts = PRISM.read([originals.FOLDER])
    assert len(prompts) == 700 and [prompts[100 * n].group for n in range(7)] == list(TRACKS)
    assert prompts[699].item == "text_rendering/99" and len(PRISM.units(prompts)) == 700
