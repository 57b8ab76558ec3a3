"""Rewriting prompts: which route, what must come back, and what becomes of answers that will not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_server import serving
from diptych.data.chat_client import AnswerFile, Server, ServerError
from diptych.data.rewrite import Rewriting, fault, quoted, rewrite, route

FILLER = " ".join(["calm"] * 80)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a sign 'OPEN' and a cup \"TEA\"", ("OPEN", "TEA")),
        ("the dog's bowl", ()),
        ("a sign 'Don't Stop' there", ("Don't Stop",)),
        ("\u201cHi\u201d she's said", ("Hi",)),
        ("a banner \"It's 'on'\" up", ("It's 'on'",)),
        ("the dogs' toys and the cats' bowl", ()),
        ("'A', 'B'", ("A", "B")),
    ],
)
def test_what_is_quoted(text: str, found: tuple):
    assert quoted(text) == found


def test_routes():
    assert route("a red apple") == "A"
    assert route(" ".join(["word"] * 24)) == "A" and route(" ".join(["word"] * 25)) == "B"
    assert route("a sign 'Open all day long'") == "A" and route("a sign 'Open all day and night'") == "B"


def test_faults():
    rewriting = Rewriting(Server("http://localhost", "lm"))
    assert fault("a sign 'Open'", f'"Open" {FILLER}', rewriting) == ""
    assert fault("a sign 'Open'", f'"OPEN" {FILLER}', rewriting) == "the quoted text 'Open' did not come back"
    assert fault("a sign", "too short", rewriting) == "2 words, not 75 to 150"
    assert fault("a sign", " ".join(["x"] * 151), rewriting) == "151 words, not 75 to 150"
    assert fault("a sign", f'it says "SALE" {FILLER}', rewriting) == "quotes 'SALE', which the prompt does not"
    long = " ".join(["w"] * 60)
    assert fault(f"'{long}'", f"'{long}' " + " ".join(["x"] * 140), rewriting) == ""  # quoted words come on top
    with pytest.raises(ValueError, match="0 < least < most"):
        Rewriting(Server("http://localhost", "lm"), least=10, most=10)


def test_prompts_are_rewritten_checked_and_kept(tmp_path: Path):
    def model(body: dict) -> str:
        told, prompt = (message["content"] for message in body["messages"])
        if "sign" in prompt and body["seed"] == 5:  # forgets the text at first, remembers at the second try
            return f"A sign. {FILLER}"
        if prompt == "a cat":
            return "no"  # never long enough
        quote = '"OPEN" ' if "OPEN" in prompt else ""
        short = "short" if "The prompt is short" in told else "dense"
        return f"<think>hm</think> Prompt: {short} {quote}{FILLER}"

    dense = "a street " * 20
    prompts = ["a dog", "a sign 'OPEN'", "a cat", dense, "a dog"]
    with serving(model) as stub:
        rewriting = Rewriting(Server(stub.url, "lm", temperature=0.6, seed=5))
        made = rewrite(prompts, rewriting, AnswerFile(tmp_path / "a.jsonl"))
        asked = len(stub.seen)
        again = rewrite(prompts, rewriting, AnswerFile(tmp_path / "a.jsonl"))
        assert len(stub.seen) == asked == 4 + 2 + 1  # a dog once; the sign twice, the cat three times
    assert made == again and [one.original for one in made] == prompts
    assert made[0].text == made[4].text == f"short {FILLER}" and made[0].tries == 1
    assert made[1].text == f'short "OPEN" {FILLER}' and (made[1].failed, made[1].tries) == ("", 2)
    assert made[2].text == "a cat" and made[2].failed == "1 words, not 75 to 150" and made[2].tries == 3
    assert (made[3].route, made[3].text) == ("B", f"dense {FILLER}")
    down = rewrite(prompts, rewriting, AnswerFile(tmp_path / "a.jsonl"))  # the server is gone, nothing is asked
    assert down == made
    with pytest.raises(ServerError):
        rewrite(["a hen"], Rewriting(Server(stub.url, "lm", attempts=1)), AnswerFile(tmp_path / "a.jsonl"))
    with pytest.raises(ValueError, match="prompt 2 is empty"):
        rewrite(["a", " "], rewriting, AnswerFile(tmp_path / "a.jsonl"))


def test_an_answer_cut_off_will_not_do(tmp_path: Path):
    with serving(lambda body: FILLER, finish="length") as stub:
        (made,) = rewrite(["a dog"], Rewriting(Server(stub.url, "lm"), rounds=1), AnswerFile(tmp_path / "a.jsonl"))
    assert made.text == "a dog" and made.failed == "cut off"
