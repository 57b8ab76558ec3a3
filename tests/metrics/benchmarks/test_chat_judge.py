"""A served model as judge: what it is asked, what becomes of odd replies, and that nothing is asked twice."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from chat_server import serving
from diptych.data.chat_client import Server, ServerError
from diptych.files import png
from diptych.metrics.benchmarks.chat_judge import ChatJudge, yes_or_no
from diptych.metrics.benchmarks.cvtg import Place
from diptych.metrics.benchmarks.dpg import Asked, Question
from diptych.metrics.benchmarks.prism import PRISM, TRACKS
from diptych.metrics.benchmarks.rubrics import Rubrics, read_rubrics
from diptych.metrics.benchmarks.t2i import Prompt, Task, table

PICTURES = [png(np.full((4, 4, 3), 40 * n, np.uint8)) for n in range(4)]
QUESTIONS = (Question(1, (), "Is there a dog?", "entity"), Question(2, (1,), "Is it red?", "attribute"))
DPG_PROMPT = Prompt("p", "a red dog", "", 0, Asked(QUESTIONS, QUESTIONS))
STYLE = Prompt("style/0", "a cubist cat", "style", 0, 0)


def task(prompt: Prompt, number: int, picture: int) -> Task:
    return Task(prompt, number, partial(PICTURES.__getitem__, picture))


def words(body: dict) -> str:
    return next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("**No**, it is", "no"),
        ("Yes, there is a dog", "yes"),
        ("nothing", "nothing"),
        ("a dog", "a dog"),
        ("", ""),
    ],
)
def test_yes_or_no(reply: str, read: str):
    assert yes_or_no(reply) == read


def test_every_question_is_asked_of_every_picture_once(tmp_path: Path):
    with serving(lambda body: "Yes." if "dog" in words(body) else "no") as stub:
        judge = ChatJudge("dpg", Server(stub.url, "vlm"), tmp_path / "kept.jsonl")
        twice = [task(DPG_PROMPT, 0, 0), task(DPG_PROMPT, 1, 1), task(DPG_PROMPT, 2, 0)]  # the third is the first again
        made = list(judge(twice))
        assert len(stub.seen) == 4
        assert {one.number: answer for one, answer in made} == {k: {"answers": {"1": "yes", "2": "no"}} for k in range(3)}
        assert {words(body) for body in stub.seen} == {Rubrics().question.replace("{question}", one.words) for one in QUESTIONS}
        more = {one.number: answer for one, answer in judge([task(DPG_PROMPT, 3, 2), task(DPG_PROMPT, 0, 0)])}
        assert len(stub.seen) == 6 and more[0] == {"answers": {"1": "yes", "2": "no"}}  # only the new picture
    gone = ChatJudge("dpg", Server(stub.url, "vlm", attempts=1), tmp_path / "kept.jsonl")
    assert len(list(gone([task(DPG_PROMPT, 0, 0)]))) == 1  # all is on disk
    with pytest.raises(ServerError):
        list(gone([task(DPG_PROMPT, 0, 3)]))


def test_a_reply_that_cannot_be_used_is_asked_for_again_and_then_left(tmp_path: Path):
    def judge_of(body: dict) -> str:
        looks = "inspect" in words(body)
        if looks:
            return '{"justification": "x", "score": 6}' if body["seed"] == 1 else "hm"
        return "never a mark"

    with serving(judge_of) as stub:
        judge = ChatJudge("prism", Server(stub.url, "vlm"), tmp_path / "kept.jsonl")
        ((_, answer),) = judge([task(STYLE, 0, 0)])
        assert [body["seed"] for body in stub.seen if "inspect" in words(body)] == [0, 1]
        assert [body["temperature"] for body in stub.seen if "inspect" not in words(body)] == [0.0, 0.7, 0.7]
        assert answer == {"alignment": "never a mark", "aesthetic": '{"justification": "x", "score": 6}'}
        asked = len(stub.seen)
        assert next(iter(judge([task(STYLE, 0, 0)])))[1] == answer and len(stub.seen) == asked
    with pytest.raises(ValueError, match="1 malformed"):
        table(PRISM, [STYLE], {"style/0.png": answer})
    assert table(PRISM, [STYLE], {"style/0.png": answer}, mode="upstream").rows.tolist() == [[6.0, 1.0]]


def test_a_picture_that_is_refused_has_no_answer(tmp_path: Path):
    with serving(lambda body: (400, "too large")) as stub:
        ((_, answer),) = ChatJudge("prism", Server(stub.url, "vlm"), tmp_path / "kept.jsonl")([task(STYLE, 0, 0)])
    assert answer == {}
    with pytest.raises(ValueError, match="malformed"):
        table(PRISM, [STYLE], {"style/0.png": answer})


def test_transcripts(tmp_path: Path):
    sign = Prompt("CVTG_2_0", "a sign 'A'", "CVTG 2", 0, Place("CVTG", 2, 0))
    replies = iter(["OPEN\nDAILY", "No text recognized."])
    with serving(lambda body: next(replies)) as stub:
        judge = ChatJudge("cvtg", Server(stub.url, "vlm", at_once=1), tmp_path / "kept.jsonl")
        assert [answer for _, answer in judge([task(sign, 0, 0), task(sign, 0, 1)])] == [
            {"lines": ["OPEN", "DAILY"]},
            {"lines": []},
        ]
    with serving(lambda body: "OPEN\nDAILY") as stub:
        ((_, answer),) = ChatJudge("longtext", Server(stub.url, "vlm"), tmp_path / "b.jsonl")([task(sign, 0, 0)])
    assert answer == {"text": "OPEN\nDAILY"}
    with pytest.raises(ValueError, match="cannot judge it; it can judge dpg"):
        ChatJudge("geneval", Server("http://localhost", "vlm"), tmp_path / "c.jsonl")


def test_rubrics_are_ours_or_from_a_file(tmp_path: Path):
    ours = Rubrics()
    assert set(ours.alignment) == set(TRACKS) and len(set(ours.alignment.values())) == 7
    assert all("{text_prompt}" in text and '"score"' in text for text in (*ours.alignment.values(), ours.aesthetic))
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"alignment": {"style": "mark this: {text_prompt}"}, "aesthetic": "looks of {text_prompt}"}))
    given = read_rubrics(path)
    assert (
        given.name == "published.json"
        and given.question == ours.question
        and given.alignment["entity"] == ours.alignment["entity"]
    )
    seen: list[str] = []

    def model(body: dict) -> str:
        seen.append(words(body))
        return '{"score": 5}'

    with serving(model) as stub:
        list(ChatJudge("prism", Server(stub.url, "vlm"), tmp_path / "kept.jsonl", given)([task(STYLE, 0, 0)]))
    assert sorted(seen) == ["looks of a cubist cat", "mark this: a cubist cat"]
    for wrong, said in (
        ({"aesthetic": "no place"}, "must be text that holds {text_prompt}"),
        ({"looks": "x"}, "'looks' is none of question"),
        ({"alignment": {"colour": "x"}}, "'colour' is none of the tracks"),
        ({"alignment": {"style": "x"}}, "alignment.style: must be text"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=said):
            read_rubrics(path)
