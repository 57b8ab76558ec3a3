"""The tutorial on training, from a folder of pictures to scores: every command as it stands, at the smallest size."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli import main
from diptych.data import emoji, items

PAGE = Path(__file__).parent.parent / "docs" / "train_text_to_image.md"
SMALLER = {"limit=240": "limit=2", "limit=120": "limit=2", "--limit 240": "--limit 2", "--limit 120": "--limit 2"}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def photos(folder: Path, count: int = 24) -> None:
    pictures = emoji.load()
    folder.mkdir()
    for n, item in enumerate(items.items(pictures)[:count]):
        Image.fromarray(pictures.pixels[n]).resize((80, 96)).save(folder / f"{n}.png")
        (folder / f"{n}.txt").write_text(item.caption)


@pytest.mark.slow
def test_from_a_folder_of_pictures_to_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    assert len(commands()) == 10
    for command in commands():
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        words = shlex.split(command)
        if words[1] == "train":
            words += ["--size", "tiny"]
        if words[1] == "sample":
            words += ["--set", "steps=2"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0, command
    assert (tmp_path / "grid.png").is_file() and (tmp_path / "models/mine/packed/card.md").is_file()
    log = [json.loads(line) for line in (tmp_path / "models/mine/model/log.jsonl").read_text().splitlines()]
    assert log[-1]["images"] == 32 and log[-1]["perf/utilisation"] > 0
    for name in ("shapes", "words"):
        assert "overall" in (tmp_path / f"{name}.json").read_text()
