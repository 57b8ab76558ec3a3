import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file

from diptych.train import checkpoint, parallel
from diptych.train.loop import Diverged, Stopped, TrainConfig, train


class Trap:
    """The toy's data, doing something at one position."""

    def __init__(self, position, act):
        self.data, self.position, self.act = toy.data(), position, act

    def batch(self, position, size):
        rows = self.data.batch(position, size)
        if position == self.position:
            rows = self.act(rows) or rows
        return rows


class Power(Exception):
    """Stands for a power cut."""


def cut(rows):
    raise Power


def run(folder, data=None, loss=toy.loss, model=None, **changes):
    return train(toy.config(**changes), model or toy.net(), loss, data or toy.data(), folder, device="cpu", validate=norm)


def norm(model):
    assert not model.training and not torch.is_grad_enabled()
    return {"norm": sum(p.square().sum().item() for p in model.parameters())}


def log(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in lines]


def final(folder):
    """Every byte of the last checkpoint."""
    path = checkpoint.numbered(folder)[-1]
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, validate_every_images=40)
    return folder


def test_a_run_leaves_what_it_says(whole):
    assert [line["images"] for line in log(whole)] == [24, 40, 64, 80, 96]
    assert [line["step"] for line in log(whole)] == [3, 5, 8, 10, 12]
    assert ["val/norm" in line for line in log(whole)] == [False, True, False, True, True]
    assert [path.name for path in checkpoint.numbered(whole)] == ["000000000048", "000000000072", "000000000096"]
    assert TrainConfig(**json.loads((whole / "config.json").read_text())) == toy.config(validate_every_images=40)
    last = checkpoint.load(whole)
    used = load_file(whole / "model.safetensors")
    assert all(torch.equal(used[name], last.ema[name]) for name in used)
    assert not torch.equal(used["a.weight"], last.model["a.weight"])
    assert not list(whole.rglob("*.part"))


@pytest.mark.parametrize("where", [[28], [52, 92], [4]])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(whole, tmp_path, where):
    for position in where:  # none at the edge of an epoch or right after a checkpoint; 4 is before the first one
        with pytest.raises(Power):
            run(tmp_path, Trap(position, cut), validate_every_images=40)
    trained = run(tmp_path, model=toy.net(), validate_every_images=40)
    assert final(tmp_path) == final(whole)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert log(tmp_path) == log(whole)
    assert (trained.images, trained.step) == (96, 12)


def test_two_runs_with_other_seeds_differ(whole, tmp_path):
    run(tmp_path, seed=1, validate_every_images=40)
    assert final(tmp_path)["model.safetensors"] != final(whole)["model.safetensors"]


def test_a_finished_run_is_not_run_again(whole):
    before = final(whole), log(whole)
    trained = run(whole, Trap(96, cut), validate_every_images=40)
    assert trained.images == 96 and (final(whole), log(whole)) == before


def test_a_constant_rate_lets_a_run_be_lengthened(whole, tmp_path):
    run(tmp_path, images=48, log_every_images=24)
    run(tmp_path, images=96, log_every_images=24)
    assert final(tmp_path)["model.safetensors"] == final(whole)["model.safetensors"]
    with pytest.raises(ValueError, match=r"train\.images: 96.*48"):
        run(tmp_path / "other", images=48, decay="cosine")
        run(tmp_path / "other", images=96, decay="cosine")


def test_the_callers_random_stream_is_left_alone(tmp_path):
    state = torch.get_rng_state()
    run(tmp_path, images=16)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("field, value", [("lr", 0.5), ("batch", 4), ("betas", (0.5, 0.9)), ("seed", 9), ("ema", 0.0)])
def test_other_settings_are_refused_by_name(whole, field, value):
    with pytest.raises(ValueError, match=rf"train\.{field}: .*was started with"):
        run(whole, **{"validate_every_images": 40, field: value})


def test_another_network_is_refused_by_weight(whole):
    other = toy.net()
    other.b = torch.nn.Linear(16, 3)
    with pytest.raises(ValueError, match=r"'b\.bias' is \(4,\), the model's is \(3,\)"):
        run(whole, model=other, validate_every_images=40)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_accumulation_is_one_large_batch(tmp_path, clip):
    weights = []
    for accumulate in (1, 4):
        model = toy.net(dropout=0.0)
        run(tmp_path / str(accumulate), model=model, loss=toy.fixed_loss, accumulate=accumulate, clip=clip)
        weights.append(model.state_dict())
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-6, rtol=1e-5)


def test_the_first_step_is_adams(tmp_path):
    model, twin = toy.net(dropout=0.0), toy.net(dropout=0.0)
    run(tmp_path, model=model, loss=toy.fixed_loss, images=8, warmup_images=0, weight_decay=0.0, clip=0.0)
    toy.fixed_loss(twin, toy.data().batch(0, 8), None).mean().backward()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        expected = theirs - 1e-2 * theirs.grad / (theirs.grad.abs() + 1e-8)
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_nan_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path, accumulate):
    def spoil(rows):
        rows["x"][1] = math.nan
        return rows

    model = toy.net()
    with pytest.raises(Diverged, match=r"step 8 \(56 images seen\): loss nan.*000000000048"):
        run(tmp_path, Trap(56, spoil), model=model, accumulate=accumulate)
    assert checkpoint.load(tmp_path).images == 48
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path):
    def steep(model, batch, generator):
        x = model(batch["x"], batch["x"][:, 0], None).sum(1)
        return (x - x.detach()).sqrt()  # zero, with an infinite slope

    with pytest.raises(Diverged, match=r"step 1 \(0 images seen\): loss 0\.0, gradient norm (inf|nan); no checkpoint"):
        run(tmp_path, loss=steep)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(whole, tmp_path, capsys, number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        run(tmp_path, Trap(32, lambda rows: os.kill(os.getpid(), number)), validate_every_images=40)
    assert stopped.value.code == 128 + number
    assert checkpoint.load(tmp_path).images == 40
    assert f"stopped by {signal.Signals(number).name} at 40 of 96 images" in capsys.readouterr().err
    assert signal.getsignal(number) == before
    run(tmp_path, validate_every_images=40)
    assert final(tmp_path) == final(whole) and log(tmp_path) == log(whole)


def test_a_loss_that_is_a_mean_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"loss: shape \(\) for 4 rows"):
        run(tmp_path, loss=lambda model, batch, generator: toy.loss(model, batch, generator).mean())


def test_bf16_is_autocast(tmp_path):
    seen = []

    def watched(model, batch, generator):
        seen.append(model.a(torch.zeros(1, 5)).dtype)
        return toy.loss(model, batch, generator)

    for precision in ("bf16", "fp32", "auto"):
        run(tmp_path / precision, loss=watched, precision=precision, images=8, accumulate=1)
    assert seen == [torch.bfloat16, torch.float32, torch.float32]


def test_no_average_gives_the_plain_weights(tmp_path):
    model = toy.net()
    assert run(tmp_path, model=model, ema=0.0, images=16).model is model
    assert checkpoint.load(tmp_path).ema == {}


def test_samples_go_to_a_folder_a_time(tmp_path):
    train(
        toy.config(images=32, validate_every_images=16),
        toy.net(),
        toy.loss,
        toy.data(),
        tmp_path,
        sample=lambda model, path: (path / "a.txt").write_text("x"),
        device="cpu",
    )
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.glob("samples/*/*"))] == [
        "samples/000000000016/a.txt",
        "samples/000000000032/a.txt",
    ]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"accumulate": 3}, "train.accumulate: 3 does not divide the batch of 8"),
        ({"lr": 0.0}, "train.lr: 0.0"),
        ({"ema": 1.0}, "train.ema: 1.0"),
        ({"images": 0}, "train.images: 0"),
        ({"keep": 0}, "train.keep: 0"),
        ({"decay": "cosin"}, "train.decay: 'cosin' is unknown"),
        ({"tail": 0.0}, "train.tail: 0.0"),
    ],
)
def test_bad_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        toy.config(**changes)


def start(folder, *launcher):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(Path(toy.__file__)), str(folder), "48"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_are_one(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = start(tmp_path / "two", *torchrun)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("toy: 48/48 images") == 1
    train(toy.config(images=48), toy.net(), toy.loss, toy.data(), tmp_path / "one", device="cpu")
    two, one = checkpoint.load(tmp_path / "two"), checkpoint.load(tmp_path / "one")
    for name in one.model:
        torch.testing.assert_close(two.model[name], one.model[name], atol=1e-6, rtol=0)
        torch.testing.assert_close(two.ema[name], one.ema[name], atol=1e-6, rtol=0)
    for mine, theirs in zip(log(tmp_path / "two"), log(tmp_path / "one"), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_ranks_that_cannot_share_are_refused(tmp_path, monkeypatch):
    here = parallel.Ranks(0, 4, torch.device("cpu"))
    monkeypatch.setattr(parallel, "ranks", lambda device: contextlib.nullcontext(here))
    with pytest.raises(ValueError, match=r"2 micro-batches cannot be shared by 4 ranks; set accumulate=4"):
        run(tmp_path)
