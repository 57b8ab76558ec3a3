"""`diptych data turbulence | fields` as a user meets them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from diptych.cli import main
from diptych.data.turbulence import load


def diptych(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["diptych", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_turbulence_is_planned_made_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "flow"
    small = ["--set", "flow.size=32", "--set", "flow.start_wavenumber=3", "--set", "fields=4", "--set", "spin_up=1.0"]
    asked = ["data", "turbulence", "--trajectories", "2,1,1", "--seed", "5", *small, "-o", str(folder)]
    assert diptych(monkeypatch, *asked, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["field_steps"], plan["bytes"]) == (4 * 300, 4 * 4 * 4 * 32 * 32)
    assert plan["config"]["flow"]["seed"] == 5 and plan["splits"] == {"train": 8, "validation": 4, "test": 4}
    assert not folder.exists()
    assert diptych(monkeypatch, *asked) == 0
    done = capsys.readouterr()
    assert done.out == f"{folder}\n" and "1,200 field-steps" in done.err and "16/16 fields" in done.err
    assert load(folder, "train").shape == (2, 4, 32, 32)

    assert diptych(monkeypatch, "data", "fields", str(folder)) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("16 fields of 32 y x 32 x in 4 sources (4 each)\nspacing: 0.1963, 0.1963")
    assert "axis y: periodic" in shown and "channel vorticity" in shown and "spectrum: peak at shell" in shown

    assert diptych(monkeypatch, *asked[:-2], "-o", str(folder), "--set", "flow.drag=0.2") == 2
    assert "holds turbulence with flow.drag=0.1, and 0.2 is asked for" in capsys.readouterr().err
    assert diptych(monkeypatch, "data", "turbulence", "--trajectories", "4") == 2
    assert "give three whole numbers" in capsys.readouterr().err
    assert diptych(monkeypatch, "data", "turbulence", "--set", "flow.viscosty=1") == 2
    assert "did you mean 'flow.viscosity'" in capsys.readouterr().err


def test_a_blow_up_is_a_failure_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "flow.dt=0.5", "--set", "spin_up=1.0", "-o", str(tmp_path)]
    assert diptych(monkeypatch, "data", "turbulence", *words) == 1
    assert "CFL number" in capsys.readouterr().err.splitlines()[-1]


def test_fields_of_a_ramp_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    signal = np.cumsum(np.random.default_rng(0).standard_normal((6, 256)), 1)
    np.save(tmp_path / "walk.npy", signal)
    path = str(tmp_path / "walk.npy")
    assert diptych(monkeypatch, "data", "fields", path, "--layout", "tx", "--periodic", "x", "--spacing", "0.5") == 0
    done = capsys.readouterr()
    assert "6 fields of 256 x in 1 source" in done.out and "fewer than 3 sources" in done.out
    assert "warning: axis x: declared periodic, but the jump" in done.err
    assert diptych(monkeypatch, "data", "fields", path, "--layout", "tx", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["axes"][0]["leaks"] and found["spacing"] is None
    assert found["channels"]["value"]["std"] == pytest.approx(float(signal.std()), rel=1e-5)
    assert diptych(monkeypatch, "data", "fields", path, "--spacing", "a,b") == 2
    assert "give one number an axis" in capsys.readouterr().err
