"""Models come back from disk as they were, and anything that does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diptych.models.autoencoder import Autoencoder, AutoencoderConfig
from diptych.models.dit import DiT, DiTConfig
from diptych.models.hub import describe, load_model, save_model

DIT = DiTConfig(in_channels=4, size=4, width=32, depth=3, heads=2, hidden=32, text_width=12, text_tokens=9)
AUTO = AutoencoderConfig(size=16, latent_channels=4, stem=2, widths=(8, 16))


def other_weights(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    for tensor in [*model.parameters(), *(b for name, b in model.named_buffers() if name.startswith("latent"))]:
        tensor.data += torch.rand(tensor.shape, generator=generator)
    return model


@pytest.mark.parametrize(("build", "config"), [(DiT, DIT), (Autoencoder, AUTO)])
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, build: type[nn.Module], config: object) -> None:
    model = other_weights(build(config))
    folder = save_model(model, config, tmp_path / "model", {"steps": 3})
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    for where in (folder, folder / "model.safetensors", str(folder)):
        back = load_model(where)
        assert type(back) is build and not back.training
        assert back.config == config
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), back.state_dict().values()))
    described = describe(folder)
    assert described["extra"] == {"steps": 3}
    assert described["predicts"] == ("flow" if build is DiT else None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_half_the_bytes_and_comes_back_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    model = other_weights(Autoencoder(AUTO))
    full = save_model(model, AUTO, tmp_path / "full") / "model.safetensors"
    half = save_model(model, AUTO, tmp_path / "half", dtype=dtype) / "model.safetensors"
    assert half.stat().st_size < 0.65 * full.stat().st_size
    back = load_model(half)
    for (name, a), b in zip(model.state_dict().items(), back.state_dict().values()):
        assert b.dtype == torch.float32
        exact = a if name.startswith("latent") else a.to(dtype).float()  # statistics keep their precision
        assert torch.equal(exact, b), name
    assert describe(half)["dtype"] == str(dtype).removeprefix("torch.")


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    save_model(DiT(DIT), DIT, tmp_path)
    changed = other_weights(DiT(DIT))
    save_model(changed, DIT, tmp_path)
    assert torch.equal(load_model(tmp_path).get_parameter("null_text"), changed.get_parameter("null_text"))
    assert len(list(tmp_path.iterdir())) == 2


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = save_model(DiT(DIT), DIT, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors["embed.extra"] = tensors.pop("embed.bias")
    tensors["final.bias"] = torch.zeros(7)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"missing: embed\.bias; unexpected: embed\.extra; .*final\.bias \(7,\)"):
        load_model(path)


def test_broken_or_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_model(tmp_path / "nowhere")
    save_model(DiT(DIT), DIT, tmp_path)
    text = (tmp_path / "config.json").read_text()
    data = json.loads(text)
    data["config"]["widht"] = 3
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="widht"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(text.replace('"DiT"', '"DIT2"'))
    with pytest.raises(ValueError, match="did you mean 'DiT'"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(text[:-20])
    with pytest.raises(ValueError, match="not JSON"):
        load_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(ValueError, match="safetensors"):
        load_model(tmp_path)


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Linear is not a known model"):
        save_model(nn.Linear(2, 2), DIT, tmp_path)
    with pytest.raises(ValueError, match="built from DiTConfig"):
        save_model(DiT(DIT), AUTO, tmp_path)
    with pytest.raises(ValueError, match="cannot be stored"):
        save_model(DiT(DIT), DIT, tmp_path, dtype=torch.int8)
    model = DiT(DIT)
    model.null_text.data[0] = 1e6
    with pytest.raises(ValueError, match="null_text holds values beyond"):
        save_model(model, DIT, tmp_path, dtype=torch.float16)
    assert not list(tmp_path.iterdir())
