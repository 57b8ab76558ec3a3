"""i1's weights: published files of tiny networks in and out, other resolutions, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import i1_reference as reference
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_i1 import SWITCHES, TINY, ask, built, latents, prompts

from diptych.models.hub import load_model, save_model
from diptych.models.i1 import I1
from diptych.models.i1_jax import jax_name, torch_name
from diptych.models.i1_names import manifest, tables
from diptych.models.i1_weights import load_i1, published_tensors, save_diffusers, save_jax, save_torch
from diptych.models.tensor_files import each_tensor, tensor_files, tensor_shapes, write_tensors

PUBLIC = replace(TINY, base=16)  # what a published file does not tell: positions count by one at 256 pixels


@pytest.fixture(scope="module")
def net() -> I1:
    return built(PUBLIC)


def same(a: I1, b: I1) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return a.config == b.config and one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("resolution", [64, 128])
def test_torch_file(net: I1, tmp_path: Path, resolution: int) -> None:
    path = save_torch(net, tmp_path / "i1.pt", resolution)
    held = torch.load(path, weights_only=True)
    assert {name: tuple(value.shape) for name, value in held["model"].items()} == manifest(PUBLIC, resolution)
    assert held["config"]["input_size"] == resolution // 8 and held["config"]["num_heads"] == 2
    assert same(load_i1(path), net)


def test_a_published_file_draws_what_its_own_code_draws(net: I1, tmp_path: Path) -> None:
    """The sign, the patches and the tables, from the file alone."""
    held = torch.load(save_torch(net, tmp_path / "i1.pt", 64), weights_only=True)["model"]
    x, cond = latents(2), prompts(9, 4)
    ready = reference.prepare(held, cond["text"], cond["text_mask"], torch.tensor([False, True]), (8, 8), 2)
    assert torch.allclose(held["pos_embed"][0], ready[4], atol=1e-6)
    places = ([16, 17, 18], [0, 4, 8], [0, 1, 2])  # tokens whose text, row or column is 0, 1, 2 times the scale
    for axis, (place, bands) in enumerate(zip(places, (slice(0, 4), slice(4, 6), slice(6, 8)))):
        for kind, angles in (("cos", ready[2]), ("sin", ready[3])):
            table = held[f"rope_embedder.{kind}_tables.{axis}"]
            assert torch.allclose(table[:3], angles[0, place][:, bands], atol=1e-6)
    wanted = -reference.velocity(held, x, ready, 5, 2)
    found = ask(load_i1(tmp_path / "i1.pt"), x, {**cond, "null": torch.tensor([False, True])})
    assert torch.allclose(found, wanted, atol=1e-4)


def test_jax_file(net: I1, tmp_path: Path) -> None:
    path = save_jax(net, tmp_path / "checkpoint.npz-002800000.npz", 64)
    with np.load(path) as arrays:
        keys = dict(arrays)
    assert keys["params_ema/x_embedder/proj/kernel"].shape == (2, 2, 3, 32)
    assert keys["params_ema/blocks_2/attn/qkv_image/kernel"].shape == (32, 96)
    assert keys["params_ema/blocks_4/skip_linear_text/kernel"].shape == (64, 32)
    assert not any("rope" in key for key in keys)
    raw = {key.replace("params_ema", "params"): value + 1 for key, value in keys.items()}
    extra = {"opt/count": np.zeros(1), "chrono/step": np.ones(1)}
    np.savez(tmp_path / "both.npz", **raw, **extra, **keys)
    for file in (path, tmp_path / "both.npz"):
        assert same(load_i1(file), net)
    np.savez(tmp_path / "raw.npz", **raw)
    assert torch.allclose(load_i1(tmp_path / "raw.npz").final_norm.weight, net.final_norm.weight + 1)


def test_names_of_jax_go_both_ways() -> None:
    for name in manifest(replace(TINY, depth=7), 64):
        assert torch_name(jax_name(name, 7), 7) == name


def test_another_resolution_needs_no_other_weights(net: I1, tmp_path: Path) -> None:
    """Tables of a file are dropped and made anew: 64 and 128 pixels differ in them alone."""
    small, large = (torch.load(save_torch(net, tmp_path / f"{r}.pt", r), weights_only=True)["model"] for r in (64, 128))
    differ = {name for name in small if small[name].shape != large[name].shape or not torch.equal(small[name], large[name])}
    assert differ == tables(PUBLIC, 64).keys() - {"rope_embedder.cos_tables.0", "rope_embedder.sin_tables.0"}
    assert same(load_i1(tmp_path / "64.pt"), load_i1(tmp_path / "128.pt"))
    out = ask(load_i1(tmp_path / "64.pt"), latents(1, 16, 16), prompts(9))
    ready = reference.prepare(large, prompts(9)["text"], prompts(9)["text_mask"], torch.zeros(1).bool(), (16, 16), 2)
    assert torch.allclose(out, -reference.velocity(large, latents(1, 16, 16), ready, 5, 2), atol=1e-4)


def test_diffusers_folder_in_shards(net: I1, tmp_path: Path) -> None:
    folder = save_diffusers(net, tmp_path / "out", 64, shard=40_000)
    files = tensor_files(folder / "transformer", "diffusion_pytorch_model")
    assert len(files) > 2
    index = json.loads((folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in published_tensors(net, 64).values())
    assert tensor_shapes(files) == manifest(PUBLIC, 64)
    assert json.loads((folder / "model_index.json").read_text())["transformer"] == ["diptych", "I1Transformer2DModel"]
    assert f"{sum(value.numel() for value in net.parameters()):,}" in (folder / "README.md").read_text()
    assert same(load_i1(folder), net)
    files[1].unlink()
    with pytest.raises(ValueError, match="shards that the index names are missing"):
        load_i1(folder)


@pytest.mark.parametrize("backbone", SWITCHES)
def test_folders_of_other_backbones(backbone: str, tmp_path: Path) -> None:
    net = built(replace(SWITCHES[backbone], modulation="both"))
    assert same(load_i1(save_diffusers(net, tmp_path / "out")), net)
    save_model(net, net.config, tmp_path / "ours")
    loaded = load_model(tmp_path / "ours")
    assert isinstance(loaded, I1) and same(loaded, net)
    assert all(value.requires_grad for value in loaded.parameters())
    with pytest.raises(ValueError, match="has no place in the published layout"):
        save_torch(net, tmp_path / "x.pt")


def test_what_nothing_reads_may_be_left_out(net: I1, tmp_path: Path) -> None:
    lean = I1(replace(PUBLIC, keep_unread=False))
    lean.load_state_dict(
        {name: net.state_dict()[name][-len(value) :] if name.endswith(("qkv.weight", "qkv.bias")) else net.state_dict()[name]
         for name, value in lean.state_dict().items()}
    )  # fmt: skip
    assert sum(p.numel() for p in lean.parameters()) < sum(p.numel() for p in net.parameters())
    whole = load_i1(save_torch(lean, tmp_path / "lean.pt", 64))
    x, cond = latents(2), prompts(9, 4)
    assert torch.allclose(ask(whole, x, cond), ask(lean, x, cond), atol=1e-5)
    assert torch.allclose(ask(net, x, cond), ask(lean, x, cond), atol=1e-5)


def test_dtype_on_the_way_in(net: I1, tmp_path: Path) -> None:
    loaded = load_i1(save_diffusers(net, tmp_path / "out", 64), dtype=torch.bfloat16)
    assert {value.dtype for value in loaded.parameters()} == {torch.bfloat16}
    out = ask(loaded, latents(2), {**prompts(9, 4), "text": prompts(9, 4)["text"].bfloat16()})
    assert out.dtype == torch.float32
    assert (out - ask(net, latents(2), prompts(9, 4))).norm() < 0.05 * out.norm()


class Bomb:
    def __reduce__(self) -> tuple:
        return (print, ("this ran",))


def test_what_is_refused(net: I1, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = torch.load(save_torch(net, tmp_path / "good.pt", 64), weights_only=True)

    def refused(name: str, data: object, words: str) -> None:
        torch.save(data, tmp_path / name)
        with pytest.raises(ValueError, match=words) as caught:
            load_i1(tmp_path / name)
        assert "\n" not in str(caught.value)

    refused("code.pt", {"model": Bomb()}, "could run code")
    assert "this ran" not in capsys.readouterr().out
    held = dict(good["model"])
    del held["mid_block.norm1.scale"]
    held["in_blocks.0.extra"] = torch.zeros(1)
    held["final_layer.linear.bias"] = torch.zeros(5)
    words = "missing: mid_block.norm1.scale; unexpected: in_blocks.0.extra; of another shape: final_layer.linear.bias"
    refused("keys.pt", {**good, "model": held}, words)
    refused("told.pt", {**good, "config": {**good["config"], "depth": 29}}, "depth 29, its tensors 5")
    refused("other.pt", {"model": {"weight": torch.zeros(3)}}, "not an i1 checkpoint")
    refused("list.pt", [1, 2], "holds a list")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.pt"):
        load_i1(tmp_path / "broken.pt")
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable npz"):
        load_i1(tmp_path / "broken.npz")
    with pytest.raises(ValueError, match="no such file"):
        load_i1(tmp_path / "absent.pt")


def test_safetensors_alone(net: I1, tmp_path: Path) -> None:
    save_file(
        {name: value.contiguous().clone() for name, value in published_tensors(net, 64).items()}, tmp_path / "x.safetensors"
    )
    assert same(load_i1(tmp_path / "x.safetensors"), net)


def test_tensor_files_are_read_by_safetensors(tmp_path: Path) -> None:
    """Scalars, empty tensors, transposed views and every dtype; a write to a loaded tensor leaves the file as it is."""
    tensors = {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "turned": torch.arange(12.0).reshape(3, 4).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "whole": torch.arange(5),
        "flags": torch.tensor([True, False]),
    }
    (path,) = write_tensors(tensors, tmp_path, "x")
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())
    loaded = dict(each_tensor([path]))
    loaded["turned"].add_(1)
    assert torch.equal(dict(each_tensor([path]))["turned"], tensors["turned"])
