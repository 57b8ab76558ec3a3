"""Turbulence data: resumed bit for bit, independent trajectories, and what they must look like."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych import files
from diptych.data.field_files import Source, read
from diptych.data.turbulence import PRESETS, Turbulence, load, make, preset, read_config
from diptych.physics.navier_stokes import BlowUp, Flow
from diptych.physics.vorticity import velocity

TINY = Turbulence(Flow(size=32, start_wavenumber=3, dt=0.02), 2, 1, 1, spin_up=0.4, every=0.2, fields=7, part=3, batch=3)


def parts(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in sorted(folder.rglob("*.npy"))}


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = parts(make(TINY, tmp_path / "whole", quiet=True))
    assert len(whole) == 4 * 3
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole", broken)
    for name in ("train/001/000003.npy", "train/001/000006.npy", "test/000/000000.npy", "test/000/000003.npy"):
        (broken / name).unlink()
    kept = (broken / "train/000/000003.npy").stat().st_mtime_ns
    (broken / "manifest.json").write_text((broken / "manifest.json").read_text().replace('"complete"', '"started"'))
    with pytest.raises(ValueError, match="is not finished"):
        load(broken, "train")
    make(replace(TINY, batch=1), broken)
    assert parts(broken) == whole
    assert (broken / "train/000/000003.npy").stat().st_mtime_ns == kept
    assert "28/28 fields" in capsys.readouterr().err


def test_more_trajectories_leave_the_first_alone(tmp_path: Path) -> None:
    before = parts(make(TINY, tmp_path, quiet=True))
    after = parts(make(replace(TINY, train=3, test=2), tmp_path, quiet=True))
    assert before.items() < after.items()
    assert load(tmp_path, "train").shape == (3, 7, 32, 32)


def test_what_a_folder_says_and_holds(tmp_path: Path) -> None:
    make(TINY, tmp_path, quiet=True)
    manifest = files.read_json(tmp_path / "manifest.json")
    held = load(tmp_path, "train")
    assert read_config(tmp_path) == TINY
    assert manifest["spacing"] == pytest.approx([2 * np.pi / 32] * 2)
    assert manifest["statistics of train"]["std"] == pytest.approx(float(held.std()), rel=1e-5)
    assert held.dtype == np.float32
    flat = held.reshape(14, -1)
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    assert gaps[:7, 7:].min() > 1.5 * gaps[0, 1]  # trajectories are further apart than neighbouring fields
    fields = read(Source(str(tmp_path)))
    assert fields.sources == ("train/000", "train/001", "validation/000", "test/000")
    assert (len(fields), fields.channels, fields.periodic) == (28, ("vorticity",), (True, True))
    assert np.array_equal(fields.values[7:14, 0], held[1])


def test_third_order_structure_function_is_positive(tmp_path: Path) -> None:
    """Two-dimensional theory: <(du_L)^3> > 0 at small and middling r; the other sign of velocity would turn it."""
    wanted = replace(PRESETS["64"], train=4, validation=0, test=0, spin_up=10.0, fields=8, every=1.0)
    wanted = replace(wanted, flow=replace(wanted.flow, dt=0.02))
    held = load(make(wanted, tmp_path, quiet=True), "train").reshape(-1, 64, 64)
    u, v = velocity(torch.from_numpy(held).double(), wanted.flow.grid)
    for r in (2, 4, 8):
        cubed = (u.roll(-r, 2) - u) ** 3 + (v.roll(-r, 1) - v) ** 3
        assert float(cubed.mean()) > 0, r


def test_another_data_set_in_the_folder_is_named(tmp_path: Path) -> None:
    make(TINY, tmp_path, quiet=True)
    with pytest.raises(ValueError, match=r"holds turbulence with flow\.viscosity=0\.012, and 0\.02 is asked for"):
        make(replace(TINY, flow=replace(TINY.flow, viscosity=0.02)), tmp_path)
    with pytest.raises(ValueError, match="fields=7, and 9"):
        make(replace(TINY, fields=9), tmp_path)
    with pytest.raises(ValueError, match="'tests' of turbulence is unknown; did you mean 'test'"):
        load(tmp_path, "tests")
    with pytest.raises(ValueError, match="holds no turbulence"):
        load(tmp_path / "train", "train")
    with pytest.raises(ValueError, match="has no validation trajectories"):
        load(make(replace(TINY, validation=0), tmp_path, quiet=True), "validation")


def test_a_blow_up_keeps_what_was_written(tmp_path: Path) -> None:
    wild = replace(TINY, flow=replace(TINY.flow, amplitude=60.0), spin_up=0.2, every=0.1, fields=60)
    with pytest.raises(
        BlowUp, match=r"trajectory \w+/\d, fields from \d+ on: .*CFL number .*the last good field is in"
    ) as caught:
        make(wild, tmp_path, quiet=True)
    assert parts(tmp_path)
    kept = next(tmp_path.glob("last-good-*.npy"))
    assert np.array_equal(np.load(kept), caught.value.fields[caught.value.row].numpy())
    assert np.isfinite(np.load(kept)).all()
    assert files.read_json(tmp_path / "manifest.json")["status"] == "started"


def test_presets_have_the_stated_sizes() -> None:
    ladder = preset("64")
    assert ladder.train * ladder.fields == 1440
    assert (ladder.flow.viscosity, ladder.flow.wavenumber, ladder.flow.dt) == (1.2e-2, 2, 0.01)
    assert ladder.spin_up + ladder.fields * ladder.every == 145
    paper = preset("paper")
    assert (paper.flow.size, paper.flow.viscosity, paper.flow.wavenumber, paper.flow.dt) == (256, 1e-3, 4, 5e-4)
    assert (paper.train * paper.fields, paper.flow.k_max) == (4500, 85)
    assert all(one.seconds > 0 and one.steps * one.flow.dt > 0 for one in PRESETS.values())
    with pytest.raises(ValueError, match="preset '65' of turbulence is unknown; choose from 64, 128"):
        preset("65")
    with pytest.raises(ValueError, match=r"turbulence\.part: 0"):
        replace(TINY, part=0)
