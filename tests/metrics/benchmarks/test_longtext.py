"""LongText-Bench: which characters count, words in common, and the phrases that are no text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import originals
import pytest

from diptych.metrics.benchmarks.longtext import LONGTEXT, cleaned, parse, transcript
from diptych.metrics.benchmarks.t2i import reported, table


def row(number: int, category: str, length: str, *text: str) -> dict:
    return {
        "category": category,
        "length": length,
        "prompt": "a sign",
        "text": list(text),
        "text_length": 0,
        "prompt_id": number,
    }


ROWS = [row(0, "sign", "short", "Open daily,", "OPEN late!"), row(7, "label", "long", "Caf\u00e9 N\u00b0 5 -- don't")]


def test_what_counts_of_a_text():
    assert cleaned("  Open,  DAILY\n9-5!") == ["open", "daily", "95"]
    assert cleaned("Caf\u00e9 don't \u00c9t\u00e9") == ["caf\u00e9", "dont", "\u00e9t\u00e9"]
    assert cleaned("ma\u00f1ana \u4f60\u597d _x_") == ["maana", "\u4f60\u597d", "x"]  # no Spanish letters, Chinese ones
    assert cleaned("?!") == []


def test_phrases_that_say_nothing_was_read():
    assert transcript("No text recognized.", "upstream") == transcript("No text recognized.", "fixed") == ""
    assert (
        transcript("No text recognized", "upstream") == "No text recognized" and transcript("No text recognized", "fixed") == ""
    )
    assert transcript("OPEN addCriterion", "upstream") == "OPEN addCriterion"  # only the last phrase is removed there
    assert transcript("OPEN addCriterion", "fixed").strip() == "OPEN"


def test_words_in_common_over_words_asked_for():
    prompts = parse(ROWS)
    answers = {
        "0_0.png": {"text": "late OPEN daily open open"},  # open twice, daily, late: 4 of 4
        "0_1.png": {"text": "open"},  # 1 of 4
        "7_0.png": {"text": "caf\u00e9 5 dont 5"},  # caf\u00e9, 5, dont of caf\u00e9 n 5 dont: 3 of 4
        "7_1.png": {"text": "No text recognized"},
    }
    made = table(LONGTEXT, prompts, answers, images=2)
    found = {s.name: s.reduce(made.cells)(made.rows, np.ones((1, 4)))[0] for s in reported(LONGTEXT, prompts, made.cells)}
    assert found == {"overall": 8 / 16, "sign": 5 / 8, "label": 3 / 8, "short": 5 / 8, "long": 3 / 8}
    gone = {name: answer for name, answer in answers.items() if name != "7_1.png"}
    with pytest.raises(ValueError, match=r"the first is 7_1.png \(no answer\)"):
        table(LONGTEXT, prompts, gone, images=2)
    assert table(LONGTEXT, prompts, gone, missing="worst", images=2).rows.sum(0).tolist() == [5, 8, 3, 8]
    assert table(LONGTEXT, prompts, gone, mode="upstream", images=2).rows.sum(0).tolist() == [5, 8, 3, 4]  # 8 of 12
    with pytest.raises(ValueError, match='no "text" transcribed'):
        table(LONGTEXT, prompts, {**answers, "0_0.png": {"lines": []}}, images=2)


def test_the_mean_is_over_words_not_over_pictures():
    prompts = parse([row(0, "sign", "short", "a"), row(1, "sign", "short", "b c d")])
    made = table(LONGTEXT, prompts, {"0_0.png": {"text": "a"}, "1_0.png": {"text": ""}}, images=1)
    assert LONGTEXT.scores(prompts)[0].reduce(made.cells)(made.rows, np.ones((1, 2)))[0] == 1 / 4


def test_files_and_ids(tmp_path: Path):
    path = tmp_path / "text_prompts.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    prompts = LONGTEXT.read([path])
    assert [LONGTEXT.file(one, 3) for one in prompts] == ["0_3.png", "7_3.png"] and prompts[1].place == 1
    for wrong, words in (
        ([ROWS[0], ROWS[0]], "a prompt_id twice"),
        ([row(1, "sign", "short", "?")], "asks for no words"),
        ([{"prompt": "x"}], "is no LongText prompt"),
    ):
        with pytest.raises(ValueError, match=words):
            parse(wrong)


@originals.needed
def test_the_published_prompts():
    prompts = LONGTEXT.read([originals.FOLDER / "longtext_prompts.jsonl"])
    assert len(prompts) == 160 and len(LONGTEXT.units(prompts)) == 640
    assert [sum(one.group.endswith(length) for one in prompts) for length in ("short", "long")] == [80, 80]
    ids = [int(one.item) for one in prompts]
    assert min(ids) == 0 and max(ids) == 199 and ids != list(range(160))
    perfect = {name: {"text": " ".join(one.detail)} for one in prompts for k in range(4) if (name := LONGTEXT.file(one, k))}
    made = table(LONGTEXT, prompts, perfect)
    assert LONGTEXT.scores(prompts)[0].reduce(made.cells)(made.rows, np.ones((1, 640)))[0] == 1.0
