"""CVTG-2K: quoted words, words found, closeness; and what an apostrophe does upstream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import originals
import pytest

from diptych.metrics.benchmarks.cvtg import CVTG, clip_score, closeness, words
from diptych.metrics.benchmarks.t2i import Malformed, Prompt, reported, table


def rows(*texts: str) -> str:
    return json.dumps({"data_list": [{"index": n, "prompt": text} for n, text in enumerate(texts)]})


@pytest.fixture
def prompts(tmp_path: Path) -> tuple[Prompt, ...]:
    (tmp_path / "CVTG").mkdir()
    (tmp_path / "CVTG-Style").mkdir()
    (tmp_path / "CVTG" / "2.json").write_text(rows("A sign 'Open Daily' and a cup 'TEA'.", "A door 'Exit', a lamp 'Exit'."))
    (tmp_path / "CVTG-Style" / "3.json").write_text(rows("'a' in red, 'b' in blue, 'c' in bold."))
    return CVTG.read([tmp_path])


def test_files_are_told_by_their_names(prompts: tuple, tmp_path: Path):
    assert [(one.item, one.group, CVTG.file(one, 0)) for one in prompts] == [
        ("CVTG_2_0", "CVTG 2", "CVTG/2/0.png"),
        ("CVTG_2_1", "CVTG 2", "CVTG/2/1.png"),
        ("CVTG-Style_3_0", "CVTG-Style 3", "CVTG-Style/3/0.png"),
    ]
    (tmp_path / "cvtg_style_5.json").write_text(rows("'x'"))
    assert CVTG.read([tmp_path / "cvtg_style_5.json"])[0].item == "CVTG-Style_5_0"
    (tmp_path / "other.json").write_text("[]")
    assert len(CVTG.read([tmp_path])) == 4
    with pytest.raises(ValueError, match="no file of CVTG-2K; they are called"):
        CVTG.read([tmp_path / "other.json"])
    (tmp_path / "cvtg_2.json").write_text("[]")
    with pytest.raises(ValueError, match=r"cvtg_2\.json: is no file of CVTG-2K"):
        CVTG.read([tmp_path / "cvtg_2.json"])


def test_apostrophes_break_upstream_alone():
    text = "A sign 'Don't Stop' and a cup 'Tea'."
    assert words(text, "fixed") == ["don't", "stop", "tea"]
    assert words(text, "upstream") == ["don", "and", "a", "cup"]  # 'Don', ' and a cup '
    plain = "A sign 'Open Daily' and a cup 'TEA'."
    assert words(plain, "fixed") == words(plain, "upstream") == ["open", "daily", "tea"]


def test_closeness_is_one_less_edits_over_the_longer():
    assert closeness("open", "open") == 1.0
    assert closeness("open", "oven") == pytest.approx(1 - 1 / 4.00001, abs=1e-12)
    assert closeness("tea", "steam") == pytest.approx(1 - 2 / 5.00001, abs=1e-12)
    assert closeness("tea", "") == pytest.approx(1 - 3 / 3.00001, abs=1e-12)


def test_words_count_over_all_groups_alike(prompts: tuple):
    answers = {
        "CVTG/2/0.png": {"lines": ["OPEN", "dally tea!"]},  # open found; daily ~ dally; tea ~ tea!
        "CVTG/2/1.png": {"lines": ["EXIT"]},  # read once, asked twice: both count
        "CVTG-Style/3/0.png": {"lines": []},
    }
    made = table(CVTG, prompts, answers)
    ones = np.ones((1, 3))
    found = {s.name: s.reduce(made.cells)(made.rows, ones)[0] for s in reported(CVTG, prompts, made.cells)}
    assert found["overall"] == pytest.approx(3 / 8)  # (1 + 2 + 0) of (3 + 2 + 3): not the mean of the groups' 3/5 and 0
    assert found["CVTG 2"] == pytest.approx(3 / 5) and found["CVTG-Style 3"] == 0.0
    near = [1, 1 - 1 / 5.00001, 1 - 1 / 4.00001, 1, 1] + [1 - 1 / 1.00001] * 3  # nothing read: one empty word
    assert found["ned"] == pytest.approx(sum(near) / 8, abs=1e-12)
    assert "clip" not in found


def test_other_scores_are_means_over_pictures(prompts: tuple):
    answers = {CVTG.file(one, 0): {"lines": [], "clip": 0.5 + 0.1 * n, "vqa": 0.3} for n, one in enumerate(prompts)}
    made = table(CVTG, prompts, answers)
    found = {s.name: s.reduce(made.cells)(made.rows, np.ones((1, 3)))[0] for s in reported(CVTG, prompts, made.cells)}
    assert found["clip"] == pytest.approx(0.6) and found["vqa"] == pytest.approx(0.3)
    del answers["CVTG/2/0.png"]["clip"]
    with pytest.raises(ValueError, match='2 of 3 answers hold "clip"; give it to all, or to none'):
        table(CVTG, prompts, answers)
    assert clip_score(0.3) == pytest.approx(0.75) and clip_score(-0.2) == 0.0


def test_a_reading_that_failed_is_zero_upstream_and_malformed_here(prompts: tuple):
    answers = {CVTG.file(one, 0): {"lines": None if n == 0 else ["exit"]} for n, one in enumerate(prompts)}
    upstream = table(CVTG, prompts, answers, mode="upstream")
    assert upstream.rows[0, :4].tolist() == [0, 3, 0, 3] and upstream.dropped == 0
    with pytest.raises(ValueError, match='no list of "lines" read'):
        table(CVTG, prompts, answers)
    with pytest.raises(Malformed):
        CVTG.row(prompts[0], 0, {}, "upstream")
    gone = {name: answer for name, answer in answers.items() if name != "CVTG/2/1.png"}
    assert table(CVTG, prompts, gone, mode="upstream").dropped == 1  # a picture that is not there is not asked about


@originals.needed
def test_the_published_prompts():
    prompts = CVTG.read([originals.FOLDER])
    counts = {group: sum(one.group == group for one in prompts) for group in dict.fromkeys(one.group for one in prompts)}
    assert list(counts.values()) == [200, 301, 300, 201, 200, 299, 302, 197] and len(prompts) == 2000
    assert all(words(one.text, "fixed") == words(one.text, "upstream") for one in prompts)
    assert sum(len(words(one.text, "fixed")) for one in prompts) == 16206
