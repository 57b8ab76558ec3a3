"""Content keys: what changes them and what does not."""

from __future__ import annotations

import functools
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.keys import code_text, fingerprint
from diptych.load import load_object


@dataclass(frozen=True)
class Inner:
    steps: int = 3

    def more(self) -> int:
        return self.steps + 1


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    inner: Inner = Inner()
    values: tuple[float, ...] = (1.0, 2.0)
    device: str = field(default="", metadata={"fingerprint": False})


@dataclass(frozen=True)
class Twin:
    steps: int = 3


class Colour(Enum):
    RED = 1
    BLUE = 2


class Net(torch.nn.Module):
    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.layer = torch.nn.Linear(4, 4)
        torch.nn.init.constant_(self.layer.weight, 0.5)
        torch.nn.init.zeros_(self.layer.bias)


def scaled(x: float, by: float = 2.0, *, shift: float = 0.0) -> float:
    return x * by + shift


def closing_over(value: Any) -> Callable[[], Any]:
    def inner() -> Any:
        return value

    return inner


def either(first: bool) -> Callable[[int], int]:
    if first:

        def chosen(x: int) -> int:
            return x + 1

    else:

        def chosen(x: int) -> int:
            return x + 2

    return chosen


def recursive() -> Callable[[int], int]:
    def down(n: int) -> int:
        return down(n - 1) if n else 0

    return down


DIFFERENT = [
    None,
    True,
    False,
    0,
    1,
    1.5,
    math.nan,
    math.inf,
    "",
    "1",
    b"1",
    (),
    (1,),
    ((1,),),
    (1, 2),
    (2, 1),
    {},
    {"a": 1},
    {"a": 2},
    {"b": 1},
    {1, 2},
    Colour.RED,
    Colour.BLUE,
    Inner(),
    Inner(4),
    Twin(),
    Inner,
    Twin,
    Outer(),
    scaled,
    functools.partial(scaled, by=3.0),
    functools.partial(scaled, by=4.0),
    functools.partial(scaled, 3.0),
    closing_over(1),
    closing_over(2),
    closing_over(Inner()),
    either(True),
    either(False),
    recursive(),
    lambda x: x + 1,
    lambda x: x + 2,
    len,
    math.sin,
    torch.relu,
    torch.nn.functional.silu,
    np.mean,
    np.exp,
    math,
    Inner().more,
    Inner(4).more,
    Inner.more,
    np.zeros(3),
    np.zeros(3, np.float32),
    np.zeros((3, 1)),
    np.ones(3),
    np.dtype("f4"),
    torch.zeros(3),
    torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, dtype=torch.bool),
    torch.zeros(0),
    torch.ones(()),
    torch.float32,
    Net(),
    Net(4),
    torch.nn.LayerNorm(4),
    torch.nn.LayerNorm(4, eps=1e-6),
]


def test_different_values_have_different_keys_and_equal_ones_the_same() -> None:
    keys = [fingerprint(value) for value in DIFFERENT]
    for key in keys:
        assert re.fullmatch("[0-9a-f]{16}", key)
    doubled = [(i, j) for i, a in enumerate(keys) for j, b in enumerate(keys) if i < j and a == b]
    assert not doubled, [(DIFFERENT[i], DIFFERENT[j]) for i, j in doubled]
    assert keys == [fingerprint(value) for value in DIFFERENT]


def test_values_that_are_equal_in_python_share_a_key() -> None:
    for one, other in [
        (1, 1.0),
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        ([1, 2], (1, 2)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
        (Outer(device="cuda"), Outer()),
        (closing_over((1, 2)), closing_over((1, 2))),
        (Net(), Net()),
        (Net().eval(), Net().train()),
    ]:
        assert fingerprint(one) == fingerprint(other), (one, other)


@given(
    st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner).map(tuple), max_leaves=8)
)
def test_nesting_is_part_of_the_key(value: object) -> None:
    assert fingerprint((value,)) != fingerprint(value)
    assert fingerprint((value, value)) != fingerprint((value,))


def test_one_field_however_deep_changes_the_key() -> None:
    base = fingerprint(Outer())
    assert fingerprint(replace(Outer(), name="b")) != base
    assert fingerprint(replace(Outer(), inner=Inner(4))) != base
    assert fingerprint(replace(Outer(), values=(1.0, 2.5))) != base


def test_a_weight_changes_the_key() -> None:
    net = Net()
    before = fingerprint(net)
    with torch.no_grad():
        net.layer.bias[2] += 1e-7
    assert fingerprint(net) != before
    assert fingerprint(closing_over(net)) == fingerprint(closing_over(net)) != fingerprint(closing_over(Net()))


def test_what_cannot_be_keyed_says_how_to_mend_it(tmp_path: Path) -> None:
    @dataclass
    class Loose:
        x: int = 1

    class Plain:
        def __call__(self) -> int:
            return 1

    for value, words in [
        (Loose(), "Loose: its dataclass is not frozen; make it @dataclass(frozen=True)"),
        (Plain(), "Plain; make it a function or a frozen dataclass with __call__"),
        (object(), "cannot fingerprint builtins.object; make it a frozen dataclass"),
        ((1, {"a": object()}), "cannot fingerprint builtins.object"),
        (np.array([object()]), "numpy.ndarray"),
        (torch.zeros(2, device="meta"), "torch.Tensor"),
        (tmp_path / "none", "none does not exist"),
        (eval("lambda: 1"), "its source is not found; put it in a file"),
    ]:
        with pytest.raises(ValueError) as caught:
            fingerprint(value)
        assert words in str(caught.value)


def test_paths_are_keyed_by_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "a.bin").write_bytes(b"123")
    (one / "b.bin").write_bytes(b"456")
    shutil.copytree(one, other)
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one / "a.bin") == fingerprint(other / "a.bin") != fingerprint(one / "b.bin")
    (other / "b.bin").write_bytes(b"4567")
    assert fingerprint(one) != fingerprint(other)
    (one / "b.bin").rename(one / "c.bin")
    shutil.copy(one / "c.bin", other / "b.bin")
    assert fingerprint(one) != fingerprint(other)


STUDY = '''"""A study."""
from dataclasses import dataclass

from parts_of_study import helper


@dataclass(frozen=True)
class Scale:
    by: int = 2

    def __call__(self, x: int) -> int:
        """Scale."""
        return x * self.by


def make(x: int, n: int = 3) -> str:
    # a comment
    return """
        text  # not a comment

        end""" * n
'''


def keys(folder: Path) -> tuple[str, str]:
    scale, make = load_object(f"{folder / 'study.py'}:Scale"), load_object(f"{folder / 'study.py'}:make")
    sys.path.remove(str(folder))
    sys.modules.pop("parts_of_study", None)
    return fingerprint(scale()), fingerprint(make)


def study(folder: Path, *changes: tuple[str, str], parts: str = "def helper():\n    return 1\n") -> Path:
    folder.mkdir()
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "study.py").write_text(text)
    (folder / "parts_of_study.py").write_text(parts)
    return folder


def test_code_of_a_users_file_counts_but_not_its_place_or_comments(tmp_path: Path) -> None:
    base = keys(study(tmp_path / "base"))
    same = [
        study(tmp_path / "moved"),
        study(tmp_path / "comment", ("# a comment", "# another")),
        study(tmp_path / "docstring", ('"""Scale."""', '"""Scales x.\n\n        by a number.\n        """')),
        study(tmp_path / "blank", ("\n\n\n", "\n\n\n\n\n")),
        study(tmp_path / "helper-comment", parts="def helper():\n    return 1  # one\n"),
    ]
    other = [
        study(tmp_path / "default", ("n: int = 3", "n: int = 4")),
        study(tmp_path / "body", ("x * self.by", "x + self.by")),
        study(tmp_path / "text", ("text  # not a comment", "text  # not  a comment")),
        study(tmp_path / "text-blank", ("comment\n\n", "comment\n\n\n")),
        study(tmp_path / "helper", parts="def helper():\n    return 2\n"),
    ]
    assert [keys(folder) == base for folder in same] == [True] * len(same)
    for folder in other:
        assert all(a != b for a, b in zip(keys(folder), base, strict=True)), folder


def test_a_string_that_shares_its_line_with_code_is_kept() -> None:
    assert code_text('def f(): "doc"; return 1\n') != code_text('def f(): "doc"; return 2\n')
    assert code_text("x = 1  # one\r\n") == code_text("x = 1\n")


def test_a_fresh_process_finds_the_same_key(tmp_path: Path) -> None:
    folder = study(tmp_path / "base")
    script = (
        "import sys; from diptych.keys import fingerprint; from diptych.load import load_object;"
        "print(fingerprint((load_object(sys.argv[1])(), {'a', 'b', 'c'})))"
    )
    command = [sys.executable, "-c", script, f"{folder / 'study.py'}:Scale"]
    found = {
        subprocess.run(command, env={"PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True).stdout
        for seed in (1, 2)
    }
    assert len(found) == 1 and len(found.pop()) == 17
