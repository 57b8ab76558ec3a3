import os

import pytest
import torch
import toy
from torch import nn

from diptych.train import checkpoint


def some(images, value=1.0):
    weights = {"w": torch.full((3,), value)}
    return checkpoint.Checkpoint(images, weights, {}, {"w|step": torch.tensor(2.0)}, {"config": {"a": 1}})


def test_round_trip_newest_by_number_and_only_the_last_kept(tmp_path):
    for images in (900, 10_000, 20_000):
        checkpoint.save(tmp_path, some(images, images), keep=2)
    assert [path.name for path in checkpoint.numbered(tmp_path)] == ["000000010000", "000000020000"]
    newest = checkpoint.load(tmp_path)
    assert newest.images == 20_000 and newest.state["config"] == {"a": 1} and newest.ema == {}
    assert newest.model["w"].tolist() == [20_000] * 3 and newest.optimizer["w|step"] == 2


@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_a_kill_while_saving_leaves_the_old_one(tmp_path, monkeypatch, moment):
    checkpoint.save(tmp_path, some(10), keep=1)

    def kill(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, kill)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, some(20), keep=1)
    assert checkpoint.load(tmp_path).images == 10
    checkpoint.save(tmp_path, some(20), keep=1)
    assert checkpoint.load(tmp_path).images == 20
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000020"]


def test_none_and_spoilt_ones_are_named(tmp_path):
    with pytest.raises(ValueError, match="checkpoint: none under"):
        checkpoint.load(tmp_path)
    path = checkpoint.save(tmp_path, some(10), keep=1)
    (path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"000000000010 cannot be read .*delete it"):
        checkpoint.load(tmp_path)


def test_tied_weights_are_saved_and_come_back_tied(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    checkpoint.save_weights(tmp_path / "model.safetensors", model.state_dict(), {"name": "tied"})
    value = model[0].weight.clone()
    model[0].weight.data.zero_()
    checkpoint.load_weights(tmp_path, model)
    assert torch.equal(model[0].weight, value) and model[1].weight is model[0].weight


def test_weights_must_fit_and_be_there(tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors is missing"):
        checkpoint.load_weights(tmp_path, toy.net())
    checkpoint.save_weights(tmp_path / "model.safetensors", toy.net().state_dict(), {})
    with pytest.raises(ValueError, match=r"'a\.bias': the model has no such weight"):
        checkpoint.load_weights(tmp_path, nn.Linear(2, 2))


def test_equal_weights_are_equal_files(tmp_path):
    path, about = tmp_path / "model.safetensors", {"name": "a", "images": "8", "more": "words"}
    written = set()
    for _ in range(8):
        checkpoint.save_weights(path, toy.net().state_dict(), about)
        written.add(path.read_bytes())
    assert len(written) == 1
