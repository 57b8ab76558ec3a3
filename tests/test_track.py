import json
import math
import sys

import pytest

from diptych import track


def test_lines_are_objects_and_null_stands_for_nan(tmp_path):
    log = track.Jsonl(tmp_path / "a" / "log.jsonl")
    log.log({"train/loss": 0.1 + 0.2, "val/loss": math.nan}, 8)
    assert track.read(tmp_path / "a" / "log.jsonl") == [{"images": 8, "train/loss": 0.1 + 0.2, "val/loss": None}]
    log.finish()


def test_opening_at_a_step_drops_what_lies_beyond_and_a_torn_last_line(tmp_path):
    path = tmp_path / "log.jsonl"
    log = track.Jsonl(path)
    for step in (8, 16, 24):
        log.log({"x": step}, step)
    log.finish()
    with path.open("a") as file:
        file.write('{"images": 32, "x"')
    log = track.Jsonl(path, 16)
    log.log({"x": -1}, 24)
    log.finish()
    assert [(line["images"], line["x"]) for line in track.read(path)] == [(8, 8), (16, 16), (24, -1)]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_unknown_and_missing_trackers_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'tensorbord' is unknown; did you mean 'tensorboard'"):
        track.open_tracker("tensorbord", "run", tmp_path, {})
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ValueError, match="'trackio' is not installed; run `pip install trackio`"):
        track.open_tracker("trackio", "run", tmp_path, {})


def test_tensorboard_gets_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = track.open_tracker("tensorboard", "run", tmp_path, {"lr": 1e-4})
    tracker.log({"train/loss": 0.5}, 100)
    tracker.log({"train/loss": 0.25}, 200)
    tracker.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(100, 0.5), (200, 0.25)]
