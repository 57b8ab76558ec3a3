"""One set of weights over several ranks: the run is that of one process, its checkpoints fit any number of ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file

from diptych.models.blocks import SwiGLU
from diptych.train import checkpoint, sharding
from diptych.train.loop import Start, train
from diptych.train.parallel import Ranks


def start(ranks, folder, images, **changes):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks))
    command = [sys.executable, *launcher, str(Path(toy.__file__)), str(folder), str(images), json.dumps(changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stderr


def alone(folder, images, **changes):
    return train(toy.config(images=images, **changes), toy.gated(), toy.loss, toy.data(), folder, device="cpu")


def close(one, two):
    for kind in checkpoint.TENSORS:
        mine, theirs = getattr(one, kind), getattr(two, kind)
        assert mine.keys() == theirs.keys() and mine
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], atol=2e-6, rtol=1e-5)


def same(one, two):
    for kind in checkpoint.TENSORS:
        assert all(torch.equal(value, getattr(two, kind)[name]) for name, value in getattr(one, kind).items())


@pytest.mark.slow
def test_two_ranks_that_share_their_weights_are_one_process(tmp_path):
    start(2, tmp_path / "two", 48, fsdp=2)
    alone(tmp_path / "one", 48)
    path = checkpoint.newest(tmp_path / "two")
    assert len(list(path.glob("shard-*.safetensors"))) == 2 and not (path / "model.safetensors").exists()
    one, two = checkpoint.load(tmp_path / "one"), checkpoint.load(tmp_path / "two")
    close(one, two)
    used = load_file(tmp_path / "two" / "model.safetensors")
    assert all(torch.equal(used[name], two.ema[name]) for name in two.ema)


@pytest.mark.slow
def test_a_cut_up_run_that_stopped_goes_on_bit_for_bit(tmp_path):
    start(2, tmp_path / "whole", 48, fsdp=2, moment="bf16", weight_decay=0.0)
    start(2, tmp_path / "parts", 24, fsdp=2, moment="bf16", weight_decay=0.0)
    start(2, tmp_path / "parts", 48, fsdp=2, moment="bf16", weight_decay=0.0)
    a, b = (checkpoint.newest(tmp_path / name) for name in ("whole", "parts"))
    files = sorted(file.name for file in a.iterdir())
    assert files == sorted(file.name for file in b.iterdir()) and len(files) == 3
    assert (a / "state.json").read_bytes() == (b / "state.json").read_bytes()
    same(checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts"))
    assert checkpoint.load(tmp_path / "whole").optimizer["a.weight|exp_avg"].dtype == torch.bfloat16


@pytest.mark.slow
def test_checkpoints_go_from_one_process_to_two_and_back(tmp_path):
    alone(tmp_path, 24)
    start(2, tmp_path, 40, fsdp=-1)
    assert checkpoint.sharded(checkpoint.newest(tmp_path))
    alone(tmp_path, 56)
    assert not checkpoint.sharded(checkpoint.newest(tmp_path))
    alone(tmp_path / "whole", 56)
    close(checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path))


@pytest.mark.slow
def test_ranks_that_share_a_row_are_one_process(tmp_path):
    start(2, tmp_path / "two", 48, fsdp=0, tensor=2)
    alone(tmp_path / "one", 48)
    close(checkpoint.load(tmp_path / "one"), checkpoint.load(tmp_path / "two"))
    used, last = load_file(tmp_path / "two" / "model.safetensors"), checkpoint.load(tmp_path / "one").ema
    for name in last:
        torch.testing.assert_close(used[name], last[name], atol=2e-6, rtol=1e-5)


@pytest.mark.slow
def test_four_ranks_in_a_square_go_on_bit_for_bit(tmp_path):
    start(4, tmp_path / "whole", 32, fsdp=2, tensor=2)
    start(4, tmp_path / "parts", 16, fsdp=2, tensor=2)
    start(4, tmp_path / "parts", 32, fsdp=2, tensor=2)
    whole = checkpoint.load(tmp_path / "whole")
    same(whole, checkpoint.load(tmp_path / "parts"))
    alone(tmp_path / "one", 32)
    close(checkpoint.load(tmp_path / "one"), whole)


@pytest.mark.slow
def test_a_stage_carries_on_from_a_cut_up_one(tmp_path):
    start(2, tmp_path / "first", 24, fsdp=2)
    first = checkpoint.load(tmp_path / "first")
    second = tmp_path / "second"
    begin = Start(tmp_path / "first", "everything")
    train(toy.config(images=8, seed=1), toy.gated(1), toy.loss, toy.data(), second, device="cpu", start=begin)
    assert checkpoint.load(second).state["step"] == first.state["step"] + 1


def test_woven_rows_are_gate_and_value_of_each_part():
    generator = torch.Generator().manual_seed(0)
    block, x = SwiGLU(4, 6), torch.randn(3, 4, generator=generator)
    w12, b12 = sharding.woven(block.w12.weight, 2), sharding.woven(block.w12.bias, 2)
    total = block.w3.bias.clone()
    for part in range(2):
        rows, columns = slice(6 * part, 6 * part + 6), slice(3 * part, 3 * part + 3)
        gate, value = (x @ w12[rows].T + b12[rows]).chunk(2, dim=-1)
        total = total + (torch.nn.functional.silu(gate) * value) @ block.w3.weight[:, columns].T
    torch.testing.assert_close(total, block(x))
    assert torch.equal(sharding.unwoven(w12, 2), block.w12.weight)


@pytest.mark.parametrize(
    "world, fsdp, tensor, words",
    [(2, 4, 1, "train.fsdp: 2 ranks are no multiple of 4"), (3, 0, 2, "train.tensor: 3 ranks are no multiple of 2")],
)
def test_ranks_that_cannot_be_laid_out_are_refused(world, fsdp, tensor, words):
    with pytest.raises(ValueError, match=words):
        sharding.arrange(Ranks(0, world, torch.device("cpu")), fsdp, tensor)


def test_one_process_shares_with_itself():
    here = Ranks(0, 1, torch.device("cpu"))
    assert sharding.arrange(here, -1, 1) is here
