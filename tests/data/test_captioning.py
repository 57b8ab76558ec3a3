"""The captioning driver against a real local server that speaks the protocol."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import folder, photo, png
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
from chat_server import serving
from diptych.data import captions as joined
from diptych.data.captioning import INSTRUCTIONS, caption, shown, usable
from diptych.data.chat_client import Server, ServerError
from diptych.data.fitting import cover
from diptych.data.records import Layout, Record
from diptych.data.sources import open_source

pytest.importorskip("openai")


def picture_of(body: dict) -> Image.Image:
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def words_of(body: dict) -> str:
    return body["messages"][0]["content"][1]["text"]


def colour(body: dict) -> str:
    return "A soft picture of mean colour {:.0f} {:.0f} {:.0f}.".format(*np.asarray(picture_of(body)).mean((0, 1)))


def server(url: str, **options) -> Server:
    return Server(url, "vl", **{"temperature": 0.7, "max_tokens": 256, "seed": 0, "attempts": 1, "at_once": 4, **options})


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_captions_of_a_folder_join_in_its_preparation(tmp_path):
    source = open_source(folder(tmp_path / "set", 5))
    out = tmp_path / "set.jsonl"
    with serving(lambda body: f"{colour(body)} Drawn with seed {body['seed']}.") as stub:
        done = caption(source, out, server(stub.url), captions=2)
        assert (done.pictures, done.captions, done.kept, len(stub.seen)) == (5, 10, 0, 10)
        assert picture_of(stub.seen[0]).size == (512, 512) and words_of(stub.seen[0]) == INSTRUCTIONS["detailed"]
        assert stub.seen[0]["max_tokens"] == 256 and {body["seed"] for body in stub.seen} == {0, 1}
        again = caption(source, out, server(stub.url), captions=3)
        assert (again.captions, again.kept, len(stub.seen)) == (15, 10, 15)
    rows = lines(out)
    assert [row["key"] for row in rows] == [f"p{i:02d}" for i in range(5)] and list(rows[0]) == [
        "key",
        "caption1",
        "caption2",
        "caption3",
    ]
    mean = np.asarray(cover(photo(3), (512, 512))).mean((0, 1))
    told = [int(word) for word in rows[3]["caption1"].split("colour ")[1].partition(".")[0].split()]
    assert np.abs(mean - told).max() < 2  # the right picture was shown
    store = tmp_path / "store"
    assert joined.gather([out], store) == 5 and joined.look_up(store, "p03") == tuple(rows[3][f"caption{n}"] for n in (1, 2, 3))


def test_a_server_that_goes_away_costs_nothing_answered(tmp_path):
    source = open_source(folder(tmp_path / "set", 8))
    left = [5]

    def answer(body):
        left[0] -= 1
        return colour(body) if left[0] >= 0 else (500, "out of memory")

    with serving(answer) as stub, pytest.raises(ServerError, match="what was answered is kept"):
        caption(source, tmp_path / "c.jsonl", server(stub.url, at_once=1))
    assert not (tmp_path / "c.jsonl").exists()
    with serving(colour) as stub:
        done = caption(source, tmp_path / "c.jsonl", server(stub.url))
        assert (done.pictures, done.kept, len(stub.seen)) == (8, 5, 3)


def test_answers_of_no_use_are_counted_and_broken_pictures_named(tmp_path):
    root = folder(tmp_path / "set", 6)
    (root / "p01.png").write_bytes(png(1)[:100])
    numbers = {}

    def answer(body):
        number = numbers.setdefault(colour(body), len(numbers))
        return [" ", (400, "picture refused"), "Fine."][min(number, 2)]

    with serving(answer) as stub:
        done = caption(open_source(root), tmp_path / "c.jsonl", server(stub.url, at_once=1))
        assert done.bad == {"empty": 1, "refused": 1} and done.pictures == 3
        assert len(done.broken) == 1 and done.broken[0].startswith("p01: the picture cannot be read")
        assert [row["key"] for row in lines(tmp_path / "c.jsonl")] == ["p03", "p04", "p05"]
        with pytest.raises(ValueError, match="more than 0 pictures are broken: p01"):
            caption(open_source(root), tmp_path / "d.jsonl", server(stub.url), broken=0)


def test_what_is_known_of_a_picture_is_handed_over(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.png").write_bytes(png(0))
    (root / "a.json").write_text(json.dumps({"ocr": ["SALE", "50 %"], "text": "x"}))
    source = open_source(root, layout=Layout(annotation="ocr"))
    with serving(lambda body: "Words.") as stub:
        caption(source, tmp_path / "c.jsonl", server(stub.url), instruction="rendered")
        caption(source, tmp_path / "d.jsonl", server(stub.url), instruction="Name the colours of this picture.")
    assert '["SALE", "50 %"]' in words_of(stub.seen[0]) and "{annotation}" not in words_of(stub.seen[0])
    assert words_of(stub.seen[1]) == "Name the colours of this picture."
    assert all("{annotation}" in INSTRUCTIONS[name] for name in ("rendered", "annotated"))


def test_answers_in_one_line_and_cut_back_to_a_sentence():
    assert usable("One.\n\nTwo  three", "stop") == ("One. Two three", "")
    assert usable("A first sentence. A second one that is cu", "length") == ("A first sentence.", "")
    assert usable('It says "Stop!" in red. And', "length") == ('It says "Stop!" in red.', "")
    assert usable("no end of a sentence at", "length") == ("", "cut off")
    assert usable(" \n", "stop") == ("", "empty")


def test_the_captioner_sees_a_square_of_512():
    assert Image.open(io.BytesIO(shown(Record("k", png(0, 300, 90))))).size == (512, 512)


def test_bad_requests_are_one_line(tmp_path):
    source = open_source(folder(tmp_path / "set", 1))
    good = server("http://127.0.0.1:9/v1")
    for options, words in (
        ({"captions": 6}, "6 captions a picture; give 1 to 5"),
        ({"instruction": "detaild"}, "'detaild' is unknown; did you mean 'detailed'"),
        ({"captions": 2, "server": server(good.url, temperature=0.0)}, "at temperature 0 would all be the same"),
        ({"out": tmp_path / "c.json"}, "must end in .jsonl"),
    ):
        given = {"out": tmp_path / "c.jsonl", "server": good, **options}
        with pytest.raises(ValueError, match=words):
            caption(source, given.pop("out"), given.pop("server"), **given)
