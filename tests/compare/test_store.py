import json
import os
import subprocess
import sys

import numpy as np
import pytest

from diptych.compare import store
from diptych.study import Samples, Unit


def made(items, seed=0, value=0.0):
    units = tuple(Unit(item, seed) for item in items)
    generator = np.random.default_rng(len(items))
    return Samples(
        units,
        {
            "image": generator.integers(0, 256, (len(units), 5, 4, 3), dtype=np.uint8),
            "field": np.full((len(units), 2), value, np.float32),
            "text": np.array(["a", "bc"] * len(units))[: len(units)],
        },
        {"seconds": np.ones(len(units))},
    )


def test_parts_come_back_as_written_and_compact_to_one_file(tmp_path):
    first, second = made(["a", "odd / name?", "ü"]), made(["b"], value=2.0)
    for part in (first, second):
        store.write_part(tmp_path, part)
    before = store.read_folder(tmp_path)
    store.compact(tmp_path)
    after = store.read_folder(tmp_path)
    assert before is not None and after is not None
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["all.npz"]
    for part in (first, second):
        for whole in (before, after):
            again = whole.take(part.units)
            for name, value in part.arrays.items():
                np.testing.assert_array_equal(again.arrays[name], value)
                assert again.arrays[name].dtype == value.dtype
    store.compact(tmp_path)
    assert store.units_in(tmp_path) == {*first.units, *second.units}


def test_only_the_named_arrays_are_read(tmp_path):
    store.write_part(tmp_path, made(["a"]))
    table = store.read_folder(tmp_path, ["field"])
    assert table is not None and set(table.arrays) == {"field"}


def test_a_part_left_beside_the_compacted_file_is_not_counted_twice(tmp_path):
    store.write_part(tmp_path, made(["a", "b"]))
    part = next(tmp_path.glob("part-*.npz"))
    data = part.read_bytes()
    store.compact(tmp_path)
    part.write_bytes(data)
    table = store.read_folder(tmp_path)
    assert table is not None and len(table) == 2
    store.write_part(tmp_path, made(["c"]))
    store.compact(tmp_path)
    assert store.units_in(tmp_path) == {Unit("a"), Unit("b"), Unit("c")}


def test_pictures_of_unlike_items_never_share_a_file(tmp_path):
    items = ["a b", "a-b", "a/b", "A b", "a" * 200, "a" * 201, "..", "a?b"]
    paths = {store.picture_path(tmp_path, "image", Unit(item)) for item in items}
    assert len(paths) == len(items)
    assert all(path.parent == tmp_path / "image" for path in paths)


def test_nothing_half_written_when_the_write_fails(tmp_path):
    script = (
        "import resource, sys; from pathlib import Path; from diptych.compare import store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: store.write_bytes(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except store.StoreError as error: print(error)"
    )
    target = tmp_path / "file"
    target.write_text("before")
    done = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True)
    assert "what was written before is intact" in done.stdout and str(target) in done.stdout
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_disk_full_is_named(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        store.write_part(disk, made(["a"]))
        with pytest.raises(store.StoreError, match="disk full"):
            store.write_bytes(disk / "big", bytes(1_000_000))
        table = store.read_folder(disk)
        assert table is not None and table.units == (Unit("a"),)
        assert not list(disk.glob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_second_process_is_refused(tmp_path):
    script = (
        "import sys; from pathlib import Path; from diptych.compare import store\n"
        "try:\n with store.locked(Path(sys.argv[1])): print('in')\n"
        "except ValueError as error: print(error)"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    with store.locked(tmp_path):
        held = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    free = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert f"in use by process {os.getpid()}" in held and free == "in\n"


def test_json_refuses_nan_and_names_what_is_missing(tmp_path):
    with pytest.raises(ValueError):
        store.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(ValueError, match=r"a\.json does not exist"):
        store.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        store.read_json(tmp_path / "a.json")
    store.write_lines(tmp_path / "b.jsonl", [{"a": 1}, {"a": 2}])
    assert [json.loads(line)["a"] for line in (tmp_path / "b.jsonl").read_text().splitlines()] == [1, 2]
