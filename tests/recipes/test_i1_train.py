"""i1's small networks, trained and compared at the tiny size."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from diptych.cli import main
from diptych.compare.run import run
from diptych.files import read_json
from diptych.recipes import i1, i1_train
from diptych.recipes.i1_cells import cells
from diptych.recipes.i1_train import TRAIN, cell_folder, train_ablation, train_cell, train_model
from diptych.train import checkpoint

TINY = dataclasses.replace(TRAIN["tiny"], replicas=1)


def trapped(feed):
    return lambda *arguments, **words: Trap(feed(*arguments, **words))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The autoencoder, and both networks of the first ablation."""
    out = tmp_path_factory.mktemp("i1")
    i1_train.train_autoencoder(TINY, out)
    train_ablation("long_skip", TINY, out)
    return out


def test_an_ablation_is_trained_and_compared(root, tmp_path):
    config = dataclasses.replace(i1.CONFIGS["tiny"], training=TINY, root=str(root))
    page = run(i1.STUDIES["long_skip"](config), tmp_path, progress=False)
    report = read_json(page.parent / "report.json")
    cells_ = {(cell["arm"], cell["metric"]): cell for cell in report["cells"]}
    assert report["claim"] == "checkpoint", "one seed claims nothing about a recipe"
    assert 0 < cells_["without", "flow_error"]["value"] < 100
    assert {name for _, name in cells_} >= {"micro_geneval", "micro_longtext", "retrieval", "flow_error"}


def test_what_is_trained_is_not_trained_again(root):
    before = {path: path.stat().st_mtime_ns for path in (root / "cells").rglob("*.safetensors")}
    train_ablation("long_skip", TINY, root)
    assert {path: path.stat().st_mtime_ns for path in (root / "cells").rglob("*.safetensors")} == before and len(before) == 10
    assert (root / "autoencoder" / "log.jsonl").exists()


class Cut(Exception):
    """Stands for a power cut."""


class Trap:
    def __init__(self, data):
        self.data = data

    def batch(self, position, size):
        if position >= 24:
            raise Cut
        return self.data.batch(position, size)


def test_a_network_that_was_cut_off_goes_on_bit_for_bit(root, tmp_path, monkeypatch):
    whole, parts = tmp_path / "a" / "0", tmp_path / "b" / "0"
    train_cell(TINY, TINY.base, 0, root, whole, TINY.ema)
    with monkeypatch.context() as patch:
        patch.setattr(i1_train, "feed", trapped(i1_train.feed))
        with pytest.raises(Cut):
            train_cell(TINY, TINY.base, 0, root, parts, TINY.ema)
    assert checkpoint.load(parts).images == 16
    train_cell(TINY, TINY.base, 0, root, parts, TINY.ema)
    one, two = checkpoint.load(whole), checkpoint.load(parts)
    for kind in checkpoint.TENSORS:
        mine, theirs = getattr(one, kind), getattr(two, kind)
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert one.optimizer["embed.weight|exp_avg"].dtype == torch.bfloat16
    assert [path.name for path in whole.glob("samples/*/*")] == ["samples.png"]
    line = json.loads((whole / "log.jsonl").read_text().splitlines()[-1])
    assert {"val/loss_emoji", "val/loss_shapes", "val/loss_words", "perf/images_per_s", "perf/utilisation"} <= line.keys()


def test_the_stage_at_twice_the_resolution_carries_everything_on(root):
    cell = cells("resolution", TINY.base)["all"]
    folder = cell_folder(root, TINY, cell, 0)
    train_cell(TINY, cell, 0, root, folder, TINY.ema)
    first = checkpoint.load(cell_folder(root, TINY, cell.after, 0))
    last = checkpoint.load(folder)
    assert (first.images, first.state["step"], last.images, last.state["step"]) == (32, 2, 16, 3)
    assert float(last.optimizer["embed.weight|step"]) == 3 and last.state["ema_step"] == 3
    told = json.loads((folder / "weights" / "config.json").read_text())["extra"]
    assert told["cell"]["pixels"] == 64 and told["cell"]["after"]["pixels"] == 32


def test_a_model_may_begin_from_weights_and_says_where_they_are_missing(root, tmp_path):
    given = cell_folder(root, TINY, cells("long_skip", TINY.base)["with"], 0) / "weights"
    config = dataclasses.replace(TINY, model=cells("long_skip", TINY.base)["with"], init_from=str(given))
    (tmp_path / "autoencoder").symlink_to(root / "autoencoder")
    (tmp_path / "caches").symlink_to(root / "caches")
    train_model(config, tmp_path)
    assert checkpoint.load(tmp_path / "model").state["step"] == 2
    moved = load_file(tmp_path / "model" / "model.safetensors")
    kept = load_file(given / "model.safetensors")
    assert max(float((moved[name] - kept[name]).abs().max()) for name in kept) < 0.01
    with pytest.raises(ValueError, match=r"nowhere.*is missing"):
        train_model(dataclasses.replace(config, init_from="nowhere"), tmp_path / "other")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--resume", "nowhere"], "--resume nowhere: no run there to go on with"),
        (["--stage", "model", "--size", "tiny", "--on", "ray", "--out", "x"], "is one network; give an ablation"),
        (["--on", "ray"], "--on ray: give ray, with one --stage"),
        (["--stage", "pack", "--size", "tiny", "--out", "x"], "run the stage 'model' first"),
    ],
)
def test_mistakes_end_in_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["diptych", "train", "i1", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and said in capsys.readouterr().err.replace("\n", " ")


def launched(root, *launcher):
    command = [
        sys.executable,
        *launcher,
        "-m",
        "diptych",
        "train",
        "i1",
        "--stage",
        "model",
        "--size",
        "tiny",
        "--out",
        str(root),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIPTYCH_DEVICE": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_ranks_that_share_the_weights_train_the_model_of_one(root, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "autoencoder").symlink_to(root / "autoencoder")
    launched(tmp_path / "one")
    launched(tmp_path / "two", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    assert checkpoint.sharded(checkpoint.newest(tmp_path / "two" / "model"))
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-5, rtol=1e-4)


def wait_for(port, process):
    """Until somebody listens there."""
    for _ in range(120):
        assert process.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return time.sleep(10)  # workers come after the port
        time.sleep(1)
    raise AssertionError("Ray did not start")


@pytest.mark.slow
def test_an_ablation_on_ray(root, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from diptych.recipes.i1_sweep import sweep

    (tmp_path / "autoencoder").symlink_to(root / "autoencoder")
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "6391", "--num-cpus", "2"]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6391")
    with subprocess.Popen(start, env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": ""}) as cluster:
        try:
            wait_for(6391, cluster)
            sweep("target", TINY, tmp_path)
            sweep("target", TINY, tmp_path)  # nothing is left
        finally:
            cluster.terminate()
    assert not ray.is_initialized()
    for cell in cells("target", TINY.base).values():
        assert (cell_folder(tmp_path, TINY, cell, 0) / "weights" / "config.json").exists()
