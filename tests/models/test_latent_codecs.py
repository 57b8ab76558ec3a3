"""Published autoencoders and text encoders, as tiny random networks in their true format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diptych.models.autoencoder import Autoencoder, AutoencoderConfig
from diptych.models.autoencoders import fold, load_autoencoder, unfold
from diptych.models.hub import save_model
from diptych.models.text_encoders import PublishedEncoder, load_encoder

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

BLOCKS = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def made(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "AutoencoderKLFlux2":
        net = diffusers.AutoencoderKLFlux2(**BLOCKS, latent_channels=3)
        with torch.no_grad():
            net.bn.running_mean.copy_(torch.linspace(-1, 1, 12))
            net.bn.running_var.copy_(torch.linspace(0.5, 4, 12))
        return net
    if name == "AutoencoderKL":
        return diffusers.AutoencoderKL(**BLOCKS, latent_channels=4, shift_factor=0.1159, scaling_factor=0.3611)
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False]
    )


@pytest.mark.parametrize("name", ["AutoencoderKLFlux2", "AutoencoderKL", "AutoencoderKLQwenImage"])
def test_published_autoencoders(name: str, tmp_path: Path) -> None:
    """Latents by the stated formula, written out element by element; decoding undoes it."""
    net = made(name).eval()
    net.save_pretrained(tmp_path)
    codec = load_autoencoder(tmp_path)
    x = torch.rand(2, 3, 16, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        raw = net.encode(x[:, :, None] if name.endswith("QwenImage") else x).latent_dist
        mode = raw.mode().reshape(2, -1, 8, 4)
    found = codec.encode(x)
    assert found.shape == (2, codec.channels, 8, 4) and codec.factor == 2
    wanted = torch.empty_like(mode)
    for c in range(codec.channels):
        for i in range(8):
            for j in range(4):
                z = mode[:, c, i, j]
                if name == "AutoencoderKLFlux2":
                    at = 4 * c + 2 * (i % 2) + j % 2
                    mean, var = torch.linspace(-1, 1, 12)[at], torch.linspace(0.5, 4, 12)[at]
                    wanted[:, c, i, j] = (z - mean) / (var + 1e-4).sqrt()
                elif name == "AutoencoderKL":
                    wanted[:, c, i, j] = (z - 0.1159) * 0.3611
                else:
                    wanted[:, c, i, j] = (z - net.config.latents_mean[c]) / net.config.latents_std[c]
    assert torch.allclose(found, wanted, atol=1e-5)
    with torch.no_grad():
        z = mode[:, :, None] if name.endswith("QwenImage") else mode
        picture = net.decode(z).sample.reshape(x.shape)
    assert torch.allclose(codec.decode(found), picture, atol=1e-4)
    drawn = codec.encode(x, torch.Generator().manual_seed(2))
    assert not torch.equal(drawn, found)
    assert torch.equal(drawn, codec.encode(x, torch.Generator().manual_seed(2)))


def test_fold_is_channel_4c_2dy_dx() -> None:
    z = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    folded = fold(z, 2)
    assert folded[0, 4 * 1 + 2 * 1 + 0, 1, 2] == z[0, 1, 2 * 1 + 1, 2 * 2 + 0]
    assert torch.equal(unfold(folded, 2), z)


def test_our_own_autoencoder(tmp_path: Path) -> None:
    config = AutoencoderConfig(size=16, widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), refine=0)
    net = Autoencoder(config).eval()
    codec = load_autoencoder(save_model(net, config, tmp_path))
    x = torch.zeros(1, 3, 16, 16)
    assert (codec.channels, codec.factor) == (16, 8) and codec.encode(x).shape == (1, 16, 2, 2)
    assert torch.equal(codec.decode(codec.encode(x)), net.decode(net.encode(x)))


def test_autoencoders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="licence must be accepted"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLFlux"}))
    with pytest.raises(ValueError, match="did you mean 'AutoencoderKLFlux2'"):
        load_autoencoder(tmp_path)


def tokenizer(folder: Path) -> None:
    """Words of a tiny vocabulary, an end token, padding: written as a hub lists it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "<eos>", "<unk>", "red", "green", "apple", "rocket", "a"]
    tok = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    fast.padding_side = "left"
    fast.save_pretrained(folder)


def encoder(name: str, folder: Path) -> torch.nn.Module:
    """A tiny random network saved whole, as the published ones are; returns its encoder."""
    torch.manual_seed(0)
    if name == "t5gemma":
        module = {
            "vocab_size": 16,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        }
        net = transformers.T5GemmaForConditionalGeneration(
            transformers.T5GemmaConfig(encoder=module, decoder={**module, "cross_attention_hidden_size": 16}, vocab_size=16)
        )
        inner = net.model.encoder
    elif name == "t5":
        net = transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
        )
        inner = net.encoder
    elif name == "clip":
        text = transformers.CLIPTextConfig(
            vocab_size=16, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=16, eos_token_id=1, bos_token_id=3, pad_token_id=0,
        )  # fmt: skip
        net = inner = transformers.CLIPTextModel(text)
    else:
        net = transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(
                vocab_size=16, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=1, head_dim=8, max_position_embeddings=32,
            )
        )  # fmt: skip
        inner = net.model
    net.eval().save_pretrained(folder)
    tokenizer(folder)
    return inner


@pytest.mark.parametrize("name", ["t5gemma", "t5", "clip", "qwen3"])
def test_published_text_encoders(name: str, tmp_path: Path) -> None:
    """The encoder out of a whole checkpoint; right padding whatever the tokenizer says; padding as i1's adapter wants it."""
    inner = encoder(name, tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, PublishedEncoder) and (loaded.name, loaded.width) == (name, 16)
    states, mask = loaded.encode(["a red apple", "rocket"], 8)
    assert mask.tolist() == [[True] * 4, [True] * 2 + [False] * 2]
    with torch.no_grad():
        alone = inner(input_ids=torch.tensor([[6, 1]]), attention_mask=torch.ones(1, 2)).last_hidden_state
    assert torch.allclose(states[1, :2], alone[0], atol=1e-5)
    assert bool((states[1, 2:] == 0).all())
    padded, mask = loaded.encode(["a red apple", "rocket"], 8, pad=True)
    assert padded.shape == (2, 8, 16) and mask.sum(1).tolist() == [4, 2]
    assert torch.allclose(padded[1, :2], alone[0], atol=1e-5) and bool((padded[1, 2:] != 0).any())
    cut, mask = loaded.encode(["a red apple " * 9], 8)
    assert cut.shape == (1, 8, 16) and bool(mask.all())


def test_text_encoders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5gemma3"}))
    with pytest.raises(ValueError, match="did you mean 't5gemma'"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'minilm'"):
        load_encoder("minilmm")
