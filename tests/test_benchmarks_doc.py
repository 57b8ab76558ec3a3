"""docs/benchmarks_t2i.md runs as it stands; commands that need published files say which one is missing."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from diptych.cli import main

PAGE = (Path(__file__).parent.parent / "docs" / "benchmarks_t2i.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    first, second = blocks("sh")
    code = blocks("python")
    assert len(code) == 2 and PAGE.index(first) < PAGE.index(code[0]) < PAGE.index(second)
    small = [text.replace("--limit 60", "--limit 9").replace("[:60]", "[:9]") for text in (first, code[0], second)]
    assert run(small[0].strip(), monkeypatch) == 0
    exec(compile(small[1], "page", "exec"), {})
    scored, again = small[2].strip().splitlines()
    assert run(scored, monkeypatch) == 0 and (tmp_path / "scores.json").is_file()
    told = capsys.readouterr().out
    assert run(again, monkeypatch) == 0
    for out in (told, capsys.readouterr().out):
        assert re.search(r"^overall +1\.0000 +\[1\.0000, 1\.0000\] +9 +9$", out, re.MULTILINE)
    exec(compile(code[1], "page", "exec"), {})
    assert capsys.readouterr().out.strip().endswith("1.0")


@pytest.mark.parametrize("command", [line for block in blocks("text") for line in block.splitlines()])
def test_other_commands_are_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert run(command, monkeypatch) == 2
    assert re.search("does not exist", capsys.readouterr().err)
