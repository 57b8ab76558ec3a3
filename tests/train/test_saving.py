"""Checkpoints written while training goes on, and what a new run may begin from."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file

from diptych.files import StoreError
from diptych.train import checkpoint, speed
from diptych.train.loop import Start, Trained, train


def run(folder, start=None, data=None, model=None, loss=toy.loss, **changes) -> Trained:
    settings = toy.config(**changes)
    return train(settings, model or toy.net(), loss, data or toy.data(), folder, device="cpu", start=start)


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_save_holds_its_own_moment_however_late_it_is_written(tmp_path, monkeypatch):
    run(tmp_path / "prompt", background=False)
    prompt = {path.name: (path / "model.safetensors").read_bytes() for path in checkpoint.numbered(tmp_path / "prompt")}
    moved, write = threading.Event(), checkpoint.save

    class Moving:
        def batch(self, position, size):
            if position >= 40:  # two steps after the save at 24 began
                moved.set()
            return toy.data().batch(position, size)

    def late(folder, state, keep):
        assert moved.wait(60)
        return write(folder, state, keep)

    monkeypatch.setattr(checkpoint, "save", late)
    run(tmp_path / "late", data=Moving(), keep=9)
    for path in checkpoint.numbered(tmp_path / "late"):
        if path.name in prompt:
            assert (path / "model.safetensors").read_bytes() == prompt[path.name]
    assert (tmp_path / "late" / "model.safetensors").read_bytes() == (tmp_path / "prompt" / "model.safetensors").read_bytes()


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
import toy
from diptych.train.loop import train
from diptych.train import checkpoint
left, fsync = 3 * 4 + 2, os.fsync
def last_breath(handle):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
    fsync(handle)
checkpoint.os.fsync = last_breath
train(toy.config(keep=9), toy.net(), toy.loss, toy.data(), sys.argv[1], device="cpu")
"""


def test_a_run_killed_in_the_middle_of_a_save_goes_on_bit_for_bit(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(toy.__file__).parent)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in checkpoint.numbered(tmp_path / "killed")] == [f"{n:012d}" for n in (24, 48, 72)]
    assert list((tmp_path / "killed" / "checkpoints").glob("*.part")), "it was not killed while saving"
    run(tmp_path / "killed", keep=9)
    run(tmp_path / "whole", keep=9)
    one, two = (checkpoint.load(tmp_path / name) for name in ("killed", "whole"))
    assert all(equal(getattr(one, kind), getattr(two, kind)) for kind in checkpoint.TENSORS)
    assert one.state == two.state and not list((tmp_path / "killed" / "checkpoints").glob("*.part"))


@pytest.mark.parametrize("background", [True, False])
def test_a_full_disk_stops_the_run_and_keeps_the_last_good_one(tmp_path, background):
    run(tmp_path, images=24, background=background)
    good = checkpoint.load(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # config and log fit, tensors do not
    try:
        with pytest.raises(
            StoreError, match=r"cannot write checkpoint .*000000000048 .*last good checkpoint is .*000000000024"
        ):
            run(tmp_path, images=96, log_every_images=96, background=background)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000024"]
    assert equal(checkpoint.load(tmp_path).model, good.model)
    run(tmp_path, images=96)
    run(tmp_path / "whole", images=96)
    assert equal(checkpoint.load(tmp_path).model, checkpoint.load(tmp_path / "whole").model)


class Later:
    """The toy's data from a position on."""

    def __init__(self, first):
        self.first = first

    def batch(self, position, size):
        return toy.data().batch(self.first + position, size)


@pytest.mark.parametrize("moment", ["fp32", "bf16"])
def test_a_second_stage_with_everything_is_the_same_training(tmp_path, moment):
    plain = {"loss": toy.fixed_loss, "warmup_images": 0, "weight_decay": 0.0, "moment": moment}
    run(tmp_path / "whole", model=toy.net(dropout=0.0), images=48, **plain)
    run(tmp_path / "first", model=toy.net(dropout=0.0), images=24, **plain)
    begin = Start(tmp_path / "first", "everything")
    done = run(tmp_path / "second", begin, Later(24), toy.net(1, dropout=0.0), images=24, **plain)
    whole, second = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "second")
    assert all(equal(getattr(whole, kind), getattr(second, kind)) for kind in checkpoint.TENSORS)
    assert (done.images, done.step) == (24, 6)
    run(tmp_path / "alone", Start(tmp_path / "first"), Later(24), toy.net(1, dropout=0.0), images=24, **plain)
    assert not equal(checkpoint.load(tmp_path / "alone").model, whole.model)


def test_weights_alone_begin_with_a_new_optimiser_and_their_average(tmp_path):
    run(tmp_path / "first", images=24)
    given = load_file(tmp_path / "first" / "model.safetensors")
    for path in (tmp_path / "first", tmp_path / "first" / "model.safetensors"):
        model, folder = toy.net(3), tmp_path / f"from-{path.name}"
        run(folder, Start(path), model=model, images=8, lr=1e-9, ema=0.5)
        saved = checkpoint.load(folder)
        assert saved.state["step"] == 1 and saved.optimizer["a.weight|step"] == 1
        for name, value in given.items():
            torch.testing.assert_close(saved.model[name], value, atol=1e-7, rtol=0)
            torch.testing.assert_close(saved.ema[name], value, atol=1e-7, rtol=0)


def test_a_run_that_has_begun_goes_on_and_does_not_start_again(tmp_path):
    run(tmp_path / "first", images=24)
    run(tmp_path / "second", Start(tmp_path / "first"), images=24)
    (tmp_path / "first" / "model.safetensors").unlink()
    run(tmp_path / "second", Start(tmp_path / "first"), images=48)
    assert checkpoint.load(tmp_path / "second").state["step"] == 6


@pytest.mark.parametrize(
    "what, words", [("weights", r"model\.safetensors is missing"), ("everything", "checkpoint: none under")]
)
def test_nothing_to_start_from_is_an_error(tmp_path, what, words):
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "second", Start(tmp_path / "nowhere", what))
    assert not (tmp_path / "second" / "checkpoints").exists()


def test_utilisation_is_arithmetic_over_the_peak(tmp_path):
    layer, x = torch.nn.Linear(64, 32, device="meta"), torch.empty(16, 64, device="meta")
    assert speed.flops(lambda: layer(x)) == 2 * (2 * 16 * 64 * 32)  # forward, and the gradient of the weights
    settings = toy.config(images=32)
    done = train(settings, toy.net(), toy.loss, toy.data(), tmp_path, device="cpu", flops=1e6)
    line = done.log[-1]
    share = line["perf/images_per_s"] * 1e6 / line["perf/utilisation"]
    assert 1e8 < share < 1e14, "a core makes 10^9 to 10^12 operations a second"


@pytest.mark.slow
def test_compiled_blocks_train_as_plain_ones(tmp_path):
    for compiled in (False, True):
        run(tmp_path / str(compiled), model=toy.gated(), images=16, compile=compiled)
    one, two = (checkpoint.load(tmp_path / name) for name in ("False", "True"))
    assert one.model.keys() == two.model.keys()
    for name in one.model:
        torch.testing.assert_close(one.model[name], two.model[name], atol=1e-5, rtol=1e-4)
