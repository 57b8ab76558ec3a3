"""The page about data runs as it stands, and every mistake with `diptych data` is one line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chat_server import serving
from diptych.cli import main
from diptych.data.sources import emoji_source, open_source

PAGE = Path(__file__).parent.parent / "docs" / "data.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def diptych(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["diptych", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Done(int(stop.value.code or 0), said.out, said.err)

    return call


def photos(folder: Path, count: int = 12) -> None:
    """Real pictures without captions: emoji, one of them twice, one of them broken."""
    folder.mkdir()
    source = emoji_source(["noto"], "test")
    for number, row in enumerate(range(0, 7 * count, 7)):  # apart: neighbours by name may look alike
        Image.fromarray(source.array[row % len(source)]).resize((90, 80)).save(folder / f"{number:02d}.png")
    shutil.copy(folder / "03.png", folder / "99.png")
    (folder / "50.png").write_bytes(b"no picture")


def test_the_page_about_data(diptych: Callable[..., Done], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    photos(tmp_path / "photos")
    looked, captioned, prepared, looked_again = (line for block in blocks("sh") for line in block.splitlines())

    def run(line: str) -> Done:
        done = diptych(*shlex.split(line)[1:])
        assert done.code == 0, done.err
        return done

    said = run(looked).out
    assert re.search(r"pictures +13, ", said) and re.search(r"same bytes +1\n", said) and re.search(r"broken +1\n", said)
    assert "50: the picture cannot be read" in said and Image.open("photos-sheet.png").width > 1000
    with serving(lambda body: f"A drawn thing, take {body['seed']}. " + "It has many parts. " * 20 * body["seed"]) as stub:
        done = run(captioned.replace("http://localhost:8000/v1", stub.url))
        assert done.out == "pets.jsonl\n" and "13 pictures, 26 captions" in done.err and "broken: 50: " in done.err
        assert len(stub.seen) == 26 and stub.seen[0]["model"].startswith("Qwen/Qwen3-VL")
    done = run(prepared)
    assert done.out == "data/pets-64\n" and "12 pictures, 24 captions; left out: 1" in done.err
    assert "1 no caption" in done.err and "1 duplicate" in done.err  # the broken one was never captioned
    assert run(prepared).out == done.out  # a second time there is nothing to do
    said = run(looked_again).out
    assert re.search(r"sizes +64x64 \(12\)", said) and re.search(r"captions each +2 \(12\)", said)
    assert re.search(r"look alike +0\n", said) and "\nwords a caption\n" in said
    assert "51-75" in said or "76-100" in said
    assert open_source("data/pets-64")[0].captions[0] == "A drawn thing, take 0."
    code = "\n".join(blocks("python"))
    assert '"emoji")' in code
    held: dict = {}
    exec(compile(code.replace('"emoji")', '"emoji=emoji/noto")'), str(PAGE), "exec"), held)
    assert held["pixels"].shape == (8, 64, 64, 3) and len(held["captions"]) == 8
    assert held["batch"]["latent"].shape == (16, 3, 8, 8) and held["batch"]["text"].shape[0] == 16
    counts = held["mixture"].counts(1_000_000)
    assert counts["emoji"] == 750_000 and counts["pets"] == 250_000
    assert "(16, 3, 8, 8)" in capsys.readouterr().out


def test_json_on_stdout(diptych: Callable[..., Done], tmp_path: Path) -> None:
    photos(tmp_path / "photos", 6)
    done = diptych("data", "inspect", "photos", "--json", "--sheet", "none")
    found = json.loads(done.out)
    assert found["records"] == 7 and found["captions"] == {"0": 7} and found["sheet"] is None
    assert not list(tmp_path.glob("*.png"))
    made = json.loads(diptych("data", "prepare", "p", "--from", "photos", "--size", "32", "--bare", "--json", "-o", "out").out)
    assert made == {"out": "out", "records": 7, "captions": 0, "sizes": {"32x32": 7}, "skipped": {"broken": 1}}
    public = {entry["name"]: entry for entry in json.loads(diptych("data", "ls", "--json").out)["public"]}
    assert len(public) == 12 and public["gptedit"]["layout"]["image"] == "output"
    assert round(sum(entry["images"] for entry in public.values()) / 1e6, 1) == 167.7  # as published
    used = {stage: [one for one in public.values() if stage in one["stages"]] for stage in ("256", "512", "1024")}
    assert [len(sets) for sets in used.values()] == [11, 10, 5]
    assert round(sum(entry["images"] for entry in used["256"]) / 1e6, 1) == 162.9
    text = diptych("data", "ls").out
    assert "yfcc100m" in text and "98,121,424" in text


def test_a_public_set_is_prepared_by_its_own_columns(diptych: Callable[..., Done], tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    source = emoji_source(["noto"], "test")
    (tmp_path / "copy").mkdir()
    (tmp_path / "pictures").mkdir()
    data = []
    for row in range(3):
        Image.fromarray(source.array[row]).save(tmp_path / f"pictures/{row}.png")
        data.append({"bytes": (tmp_path / f"pictures/{row}.png").read_bytes(), "path": None})
    wrong = [{"bytes": b"not to be read", "path": None}] * 3
    table = {"id": [7, 8, 9], "input": wrong, "output": data, "instruction": ["x"] * 3}
    parquet.write_table(pa.table(table), tmp_path / "copy/part.parquet")
    parquet.write_table(pa.table({"key": ["7", "9"], "caption1": ["seven", "nine"]}), tmp_path / "captions.parquet")
    done = diptych("data", "prepare", "gptedit", "--from", "copy", "--captions", "captions.parquet", "--size", "64")
    assert done.code == 0, done.err
    made = open_source("data/gptedit-64")
    assert [made[i].captions for i in range(2)] == [("seven",), ("nine",)] and "1 no caption" in done.err
    assert np.array_equal(made[1].pixels(), source.array[2]) and not list(tmp_path.glob("data/.*"))
    words = ("data", "prepare", "gptedit", "--from", "copy", "--captions", "captions.parquet", "--size", "64")
    assert "is whole already" in diptych(*words).err
    parquet.write_table(pa.table({"key": ["7", "9"], "caption1": ["seven", "another"]}), tmp_path / "captions.parquet")
    done = diptych(*words)
    assert done.code == 2 and "was prepared with captions '" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "prepare gptedit",
            "give the local copy by --from; GPT-Image-Edit-1.5M, simpler form is at UCSC-VLAA/gpt-edit-simpler",
        ),
        ("prepare places", "places: nearly the catalogue's 'places365'"),
        ("prepare pets --from nowhere", "nowhere: no such file or folder"),
        ("prepare pets --from photos --size 64", "no record is left of 7 (7 no caption)"),
        ("prepare pets --from photos --words 3", "--words 3: write a span such as 3-200"),
        ("prepare pets --from photos --duplicates exakt", "duplicates 'exakt' is unknown; did you mean 'exact'"),
        ("prepare pets --from photos --captions none.jsonl", "captions none.jsonl: no such file or folder"),
        ("prepare pets --from photos --key {id", "write a template of plain fields"),
        ("inspect nowhere", "nowhere: no such file or folder"),
        ("inspect emoji/nto", "style 'nto' is unknown; did you mean 'noto'"),
        ("caption photos", "give the server by --server http://HOST:PORT/v1 and the model by --model"),
        ("caption photos --server localhost --model m", "give its base address, such as http://localhost:8000/v1"),
        ("caption photos --server http://localhost:1/v1 --model m --captions 9", "9 captions a picture; give 1 to 5"),
    ],
)
def test_mistakes(diptych: Callable[..., Done], tmp_path: Path, words: str, message: str) -> None:
    photos(tmp_path / "photos", 5)
    done = diptych("data", *shlex.split(words))
    assert done.code == 2 and message in done.err and done.out == "", done.err
    assert sum(line.startswith("diptych: ") for line in done.err.splitlines()) == 1 and "Traceback" not in done.err
