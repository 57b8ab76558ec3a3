"""The chat client against a real server: what it sends, what it keeps, and what becomes of failures."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from chat_server import serving
from diptych.data.chat_client import AnswerFile, Question, Server, ServerError, ask, content_key, image_part, text_part
from diptych.files import png

PICTURE = png(np.zeros((2, 2, 3), np.uint8))


def echo(body: dict) -> str:
    return f"heard {body['messages'][-1]['content']}"


def plain(*words: str) -> list[Question]:
    return [Question(word, lambda word=word: [{"role": "user", "content": word}]) for word in words]


def test_what_is_sent_is_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    with serving(lambda body: " a cat \n") as stub:
        server = Server(stub.url, "vlm", 0.6, top_p=0.95, max_tokens=7, seed=3, extra={"top_k": 20}, key_variable="MY_KEY")
        parts = [text_part("what is it?"), image_part(PICTURE)]
        question = Question("k", lambda: [{"role": "system", "content": "look"}, {"role": "user", "content": parts}])
        (answer,) = ask(server, [question], AnswerFile(tmp_path / "a.jsonl"))
    assert (answer.key, answer.text, answer.finish, answer.kept) == ("k", "a cat", "stop", False)
    (body,) = stub.seen
    assert body["path"] == "/v1/chat/completions" and stub.headers[0]["authorization"] == "Bearer sesame"
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == ("vlm", 0.6, 0.95, 7, 3)
    assert body["top_k"] == 20  # beside the others, not inside an "extra" of its own
    sent = body["messages"][1]["content"][1]["image_url"]["url"]
    assert sent.startswith("data:image/png;base64,") and base64.b64decode(sent.partition(",")[2]) == PICTURE
    assert "sesame" not in (tmp_path / "a.jsonl").read_text()


def test_answers_are_kept_and_not_asked_again(tmp_path: Path):
    file = tmp_path / "deep" / "a.jsonl"
    with serving(echo) as stub:
        server = Server(stub.url, "lm", at_once=4)
        first = {answer.key: answer for answer in ask(server, plain("a", "b", "c"), AnswerFile(file))}
        again = {answer.key: answer for answer in ask(server, plain("c", "b", "a", "d"), AnswerFile(file))}
        assert len(stub.seen) == 4
        other = list(ask(Server(stub.url, "lm", seed=1), plain("a"), AnswerFile(file)))
    assert len(stub.seen) == 5 and not other[0].kept  # another seed is another answer
    assert {key: answer.text for key, answer in first.items()} == {key: f"heard {key}" for key in "abc"}
    assert [again[key].kept for key in "abcd"] == [True, True, True, False]
    assert len(file.read_text().splitlines()) == 5
    elsewhere = list(ask(Server("http://127.0.0.1:1/v1", "lm"), plain("a"), AnswerFile(file)))
    assert elsewhere[0].kept  # where the model was served does not matter, and nobody is called


def test_a_line_cut_off_is_dropped_and_a_damaged_one_named(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    with serving(echo) as stub:
        server = Server(stub.url, "lm")
        list(ask(server, plain("a", "b"), AnswerFile(file)))
        data = file.read_bytes()
        file.write_bytes(data[:-9])
        found = {answer.key: answer.kept for answer in ask(server, plain("a", "b"), AnswerFile(file))}
    assert sorted(found.values()) == [False, True] and len(AnswerFile(file).path.read_text().splitlines()) == 2
    file.write_text('{"key": "a"}\n' + json.dumps({"key": "b", "options": {}, "text": "t", "finish": "stop"}) + "\n")
    with pytest.raises(ValueError, match="line 1"):
        AnswerFile(file)


def test_requests_run_beside_each_other_up_to_the_limit(tmp_path: Path):
    together = threading.Barrier(3, timeout=20)

    def slow(body: dict) -> str:
        together.wait()  # passes only if three requests are under way at once
        return "x"

    drawn = []

    def source():
        for question in plain(*"abcdef"):
            drawn.append(question.key)
            yield question

    with serving(slow) as stub:
        answers = ask(Server(stub.url, "lm", at_once=3), source(), AnswerFile(tmp_path / "a.jsonl"))
        next(answers)
        assert len(drawn) == 3  # the rest is not drawn before it is its turn
        assert len(list(answers)) == 5
    assert stub.most == 3


def test_a_full_server_is_asked_again(tmp_path: Path):
    tries = []

    def busy(body: dict) -> str | tuple[int, str]:
        tries.append(1)
        return (503, "loading") if len(tries) == 1 else "ready"

    with serving(busy) as stub:
        (answer,) = ask(Server(stub.url, "lm"), plain("a"), AnswerFile(tmp_path / "a.jsonl"))
    assert answer.text == "ready" and len(tries) == 2


def test_a_server_that_goes_away_loses_nothing(tmp_path: Path):
    file = tmp_path / "a.jsonl"

    def failing(body: dict) -> str | tuple[int, str]:
        return (500, "out of memory") if body["messages"][-1]["content"] == "b" else echo(body)

    with serving(failing) as stub:
        server = Server(stub.url, "lm", attempts=1, at_once=3)
        with pytest.raises(ServerError, match=r"no answer after 1 attempts .*out of memory"):
            list(ask(server, plain("a", "b", "c"), AnswerFile(file)))
    assert sorted(json.loads(line)["key"] for line in file.read_text().splitlines()) == ["a", "c"]
    with pytest.raises(ServerError, match="what was answered is kept"):  # nobody listens there any more
        list(ask(server, plain("a", "b"), AnswerFile(file)))
    with serving(echo) as stub:
        found = {a.key: a.kept for a in ask(Server(stub.url, "lm"), plain("a", "b", "c"), AnswerFile(file))}
    assert found == {"a": True, "b": False, "c": True}


def test_one_question_refused_does_not_stop_the_others(tmp_path: Path):
    file = tmp_path / "a.jsonl"

    def picky(body: dict) -> str | tuple[int, str]:
        return (400, "too many tokens") if body["messages"][-1]["content"] == "b" else echo(body)

    with serving(picky) as stub:
        found = {a.key: a for a in ask(Server(stub.url, "lm"), plain("a", "b", "c"), AnswerFile(file))}
    assert "too many tokens" in found["b"].refused and found["b"].text == "" and not found["a"].refused
    assert len(file.read_text().splitlines()) == 2  # what was refused is asked again next time


@pytest.mark.parametrize(("status", "words"), [(401, "OPENAI_API_KEY"), (404, "knows no model 'lm'")])
def test_a_wrong_key_or_model_is_bad_input(tmp_path: Path, status: int, words: str):
    with serving(lambda body: (status, "no")) as stub, pytest.raises(ValueError, match=words):
        list(ask(Server(stub.url, "lm"), plain("a"), AnswerFile(tmp_path / "a.jsonl")))


def test_cut_off_answers_say_so(tmp_path: Path):
    with serving(echo, finish="length") as stub:
        (answer,) = ask(Server(stub.url, "lm"), plain("a"), AnswerFile(tmp_path / "a.jsonl"))
    assert (
        answer.finish == "length"
        and AnswerFile(tmp_path / "a.jsonl").get("a", Server(stub.url, "lm").options).finish == "length"
    )


def test_bad_input():
    with pytest.raises(ValueError, match="base address"):
        Server("localhost:8000", "m")
    with pytest.raises(ValueError, match="which model"):
        Server("http://localhost", "")
    with pytest.raises(ValueError, match="at_once"):
        Server("http://localhost", "m", at_once=0)
    with pytest.raises(ValueError, match="neither PNG"):
        image_part(b"GIF89a")


def test_content_keys_separate_their_parts():
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("a", b"b") == content_key("a", "b") and len(content_key("")) == 32
