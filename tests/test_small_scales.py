"""The tutorial on small scales runs as it stands: its pieces, and its three commands on a folder of fields, shortened."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from diptych.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "small_scales.md"
SHORT = ["--set", "train_autoencoder.images=16", "--set", "train_flow.images=32", "--set", "copies=1"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_pieces_for_ones_own_loop(capsys: pytest.CaptureFixture[str]) -> None:
    held: dict = {}
    exec(compile(blocks("python")[0], str(PAGE), "exec"), held)
    assert held["loss"].shape == (32,) and float(held["loss"].min()) > 0
    assert "right" in capsys.readouterr().out


@pytest.mark.slow
def test_three_commands_from_a_folder_to_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_fields").mkdir()
    generator = np.random.default_rng(0)
    for name in range(5):
        fields = generator.standard_normal((6, 64, 64)).cumsum(1).cumsum(2).astype(np.float32)
        np.savez(tmp_path / "my_fields" / f"run{name}.npz", w=fields)
    commands = [line for block in blocks("sh")[:3] for line in block.splitlines()]
    assert [line.split()[1] for line in commands] == ["data", "train", "compare"]
    for command in commands:
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [*words, *(SHORT if words[1] == "train" else [])])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0, command
    assert "Power and phases" in (tmp_path / "runs" / "spectral-fields" / "report.html").read_text()
