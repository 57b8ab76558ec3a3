"""`diptych benchmark` as a user meets it: prompts out, pictures in, answers kept, scores, the published table, bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from chat_server import serving
from diptych.cli import main
from diptych.data.shapes import draw, fitting
from diptych.files import png

ROWS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": "a circle"},
    {
        "tag": "counting",
        "include": [{"class": "star", "count": 2}],
        "exclude": [{"class": "star", "count": 3}],
        "prompt": "two stars",
    },
]


def diptych(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["diptych", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: diptych("benchmark", *words, monkeypatch=monkeypatch)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for n, row in enumerate(ROWS):
        for k in range(2):
            path = tmp_path / "pictures" / f"{n:05d}" / "samples" / f"{k:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(draw(fitting(ROWS[0] if (n, k) == (1, 1) else row, 5 * n + k), 64)))
    return tmp_path


def test_the_list(run, capsys: pytest.CaptureFixture[str]):
    assert run() == 0
    out = capsys.readouterr().out
    assert "geneval" in out and "micro_longtext_novel" in out and "mPLUG" in out
    assert run("--json") == 0
    assert {row["name"]: row["images"] for row in json.loads(capsys.readouterr().out)}["prism"] == 1


def test_pictures_are_judged_and_answers_scored_again(run, shapes: Path, capsys: pytest.CaptureFixture[str]):
    given = ("micro_geneval", "--prompts", "prompts.jsonl", "--count", 2)
    assert run(*given, "--images", "pictures", "--json", "-o", "scores.json") == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert {one["name"]: one["value"] for one in result["scores"]} == {"overall": 0.75, "single_object": 1.0, "counting": 0.5}
    assert (result["pictures"], result["missing"], result["judge"]) == (4, 0, "the detector of drawn shapes")
    assert json.loads((shapes / "scores.json").read_text()) == result
    assert "score them again with --answers" in told.err
    answers = shapes / "pictures" / "micro_geneval.answers.jsonl"
    assert len(answers.read_text().splitlines()) == 4
    assert run(*given, "--answers", answers) == 0
    out = capsys.readouterr().out
    assert "0.7500" in out and "answers of micro_geneval.answers.jsonl" in out
    (shapes / "pictures" / "00001" / "samples" / "00000.png").unlink()
    assert run(*given, "--images", "pictures") == 2
    assert "1 of 4 pictures are missing, the first is 00001/samples/00000.png" in capsys.readouterr().err
    assert run(*given, "--images", "pictures", "--missing", "worst", "--json") == 0
    worst = json.loads(capsys.readouterr().out)
    assert worst["missing"] == 1 and worst["scores"][0]["value"] == 0.5
    assert run(*given, "--images", "pictures", "--mode", "upstream", "--json") == 0
    upstream = json.loads(capsys.readouterr().out)
    assert upstream["dropped"] == 1 and upstream["scores"][0]["value"] == 0.5  # counting: 0 of the one left


def test_a_served_model_judges(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "style.jsonl").write_text('{"prompt": "a cubist cat"}\n')
    (tmp_path / "pictures" / "style").mkdir(parents=True)
    (tmp_path / "pictures" / "style" / "0.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    given = ("prism", "--prompts", "style.jsonl", "--images", "pictures")
    with serving(lambda body: '{"justification": "x", "score": 7}') as stub:
        assert run(*given, "--judge", stub.url, "--model", "vlm") == 0
        told = capsys.readouterr()
        assert "70.00" in told.out and "vlm (instructions: ours)" in told.out
        assert "judged by Qwen2.5-VL-72B-Instruct with the published rubrics; another judge's are not comparable" in told.err
        assert run(*given, "--judge", stub.url) == 2
        assert "--model is missing" in capsys.readouterr().err
    assert run(*given, "--judge", stub.url, "--model", "vlm") == 0  # all replies are on disk
    capsys.readouterr()
    (tmp_path / "pictures" / "style" / "0.png").write_bytes(png(np.ones((4, 4, 3), np.uint8)))
    code = run(*given, "--judge", "http://127.0.0.1:1/v1", "--model", "vlm")
    assert code == 1 and "what was answered is kept" in capsys.readouterr().err


def test_prompts_are_written_plain_and_rewritten(run, shapes: Path, capsys: pytest.CaptureFixture[str]):
    assert run("micro_geneval", "--prompts", "prompts.jsonl", "--write-prompts", "out.txt") == 0
    assert (shapes / "out.txt").read_text() == "a circle\ntwo stars\n"
    assert run("micro_geneval", "--prompts", "prompts.jsonl", "--write-prompts", "out.jsonl", "--count", 1, "--limit", 1) == 0
    (row,) = map(json.loads, (shapes / "out.jsonl").read_text().splitlines())
    assert row == {"item": "00000", "prompt": "a circle", "files": ["00000/samples/00000.png"]}
    capsys.readouterr()
    long = " ".join(["calm"] * 80)
    with serving(lambda body: long if "circle" in body["messages"][1]["content"] else "no") as stub:
        rewriting = ("--write-prompts", "long.jsonl", "--rewrite", stub.url, "--model", "lm")
        assert run("micro_geneval", "--prompts", "prompts.jsonl", *rewriting) == 0
    assert "1 of 2 prompts rewritten; 1 stay as they were" in capsys.readouterr().err
    first, second = map(json.loads, (shapes / "long.jsonl").read_text().splitlines())
    assert (first["prompt"], first["original"]) == (long, "a circle") and second["prompt"] == second["original"] == "two stars"


def result(name: str, value: float, se: float) -> str:
    score = {"name": "overall", "value": value, "interval": [value - 2 * se, value + 2 * se], "se": se, "prompts": 100}
    return json.dumps({"benchmark": name, "scores": [score]})


def test_the_published_table(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    values = {"geneval": 0.8, "dpg": 85.0, "prism": 65.0, "cvtg": 0.7, "longtext": 0.6}
    for name, value in values.items():
        (tmp_path / f"{name}.json").write_text(result(name, value, 0.01 * value))
    assert run("table", *(f"{name}.json" for name in values), "--label", "mine") == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert next(n for n, line in enumerate(lines) if line.startswith("mine")) == 5  # after HiDream-I1-Full
    assert "mine: average 72.0 [" in told.err and "0.84*" in told.out
    assert run("table", "dpg.json", "--json") == 0
    part = json.loads(capsys.readouterr().out)
    assert part["average"] is None and len(part["rows"]) == 18
    (tmp_path / "other.json").write_text("{}")
    assert run("table", "other.json") == 2 and "is no result" in capsys.readouterr().err
    assert run("table", "dpg.json", "dpg.json") == 2 and "is of it twice" in capsys.readouterr().err
    assert run("table") == 2 and "give the files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("genevall",), "benchmark genevall: unknown; did you mean 'geneval'?"),
        (("geneval",), "--prompts is missing"),
        (("geneval", "--prompts", "none.jsonl", "--answers", "a.jsonl"), "--prompts none.jsonl: does not exist"),
        (("micro_geneval",), "--answers is missing"),
        (("micro_geneval", "--answers", "none.jsonl"), "none.jsonl does not exist"),
        (("micro_geneval", "--images", "none"), "--images none: is no folder"),
        (("micro_geneval", "--images", ".", "--judge", "rapidocr"), "does not judge micro_geneval; give shapes"),
        (("micro_geneval", "--images", ".", "--mode", "strict"), "--mode strict: must be fixed or upstream"),
        (("micro_geneval", "--images", ".", "--count", "-1"), "must not be negative"),
        (("micro_geneval", "--judge", "shapes"), "--images is missing"),
    ],
)
def test_bad_input_is_one_line(run, capsys: pytest.CaptureFixture[str], words: tuple, said: str):
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
