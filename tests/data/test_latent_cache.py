"""Caches: what is in them, when they are shared, and that a stop or a full disk costs a shard at most."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from pictures import folder, png
from torch import Tensor, nn

from diptych.data import latent_cache
from diptych.data.latent_cache import build, open_cache
from diptych.data.prepare import Settings, prepare
from diptych.data.sources import open_source
from diptych.files import StoreError


def network(seed: int = 0) -> nn.Module:
    net = nn.Conv2d(3, 4, 4, stride=4)
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return net


class Encoder:
    """Encodes by a network, and counts pictures."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.pictures = net, 0

    def __call__(self, pixels: Tensor) -> Tensor:
        self.pictures += len(pixels)
        return self.net(pixels.float() / 127.5 - 1)


def words(texts):
    """Two channels a word: its length and its first letter; padded."""
    states = [torch.tensor([[len(word), ord(word[0]) / 100] for word in text.split()]) for text in texts]
    mask = torch.zeros(len(texts), max(map(len, states)), dtype=torch.bool)
    for row, one in zip(mask, states, strict=True):
        row[: len(one)] = True
    return nn.utils.rnn.pad_sequence(states, batch_first=True, padding_value=99.0), mask


def test_latents_are_those_of_the_network(tmp_path):
    source = prepare(open_source(folder(tmp_path / "set", 7)), tmp_path / "out", Settings(size=16))
    encoder = Encoder(network())
    cache = latent_cache.latents(source, encoder, tmp_path / "cache", network="n", batch=3, per_shard=4, dtype="float32")
    assert len(cache) == 7 and encoder.pictures == 7
    for row in range(7):
        pixels = torch.from_numpy(source[row].pixels().copy()).permute(2, 0, 1)[None]
        assert np.allclose(cache[row], encoder.net(pixels / 127.5 - 1).detach()[0], atol=1e-6) and cache[row].shape == (4, 4, 4)
    assert isinstance(cache[0].base, np.memmap) or isinstance(cache[0], np.memmap)
    again = Encoder(network())
    same = latent_cache.latents(source, again, tmp_path / "cache", network="n", per_shard=4, dtype="float32")
    assert same == cache and again.pictures == 0
    with pytest.raises(IndexError):
        cache[7]


def test_the_key_goes_by_network_and_data(tmp_path):
    root = folder(tmp_path / "set", 3)
    source = open_source(root)

    def cached(net):
        def encode(pixels):
            return net(pixels.float())

        return latent_cache.latents(source, encode, tmp_path / "cache")

    first, other = cached(network(0)), cached(network(1))
    assert first.folder != other.folder and cached(network(0)) == first
    (root / "p00.png").write_bytes(png(77))
    assert cached(network(0)).folder not in (first.folder, other.folder)


def test_pictures_of_several_sizes(tmp_path):
    root = folder(tmp_path / "set", 5)
    (root / "p02.png").write_bytes(png(2, 24, 60))
    source = prepare(open_source(root), tmp_path / "out", Settings(size=32, buckets=True, multiple=8))
    cache = latent_cache.latents(source, Encoder(network()), tmp_path / "cache", network="n")
    assert [cache[i].shape for i in range(5)] == [(4, h // 4, w // 4) for w, h in source.sizes.tolist()]
    assert len({cache[i].shape for i in range(5)}) == 2


def test_texts_keep_each_captions_own_length(tmp_path):
    root = folder(tmp_path / "set", 4)
    (root / "p01.txt").unlink()
    (root / "p01.json").write_text('{"captions": ["one", "two words", "three small words"]}')
    source = open_source(root)
    texts = latent_cache.texts(source, words, tmp_path / "cache", batch=2, per_shard=3, dtype="float32")
    assert len(texts) == 4 and texts.counts(1) == [1, 2, 3] and texts.counts(0) == [6]
    for row in range(4):
        for number, text in enumerate(source[row].captions):
            assert np.array_equal(texts.of(row, number), words([text])[0][0].numpy())
    (root / "p03.txt").unlink()
    with pytest.raises(ValueError, match="record 'p03' of 'set' has no caption"):
        latent_cache.texts(source, words, tmp_path / "cache")


def test_a_stopped_build_goes_on(tmp_path):
    done, stop = [], [True]

    def encode(part):
        if part.start == 6 and stop[0]:
            raise KeyboardInterrupt
        done.append(part)
        return [torch.full((2,), float(item)) for item in part]

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "c", "k", 9, encode, per_shard=3)
    with pytest.raises(ValueError, match="is not finished; build it again"):
        open_cache(tmp_path / "c")
    stop[0] = False
    cache = build(tmp_path / "c", "k", 9, encode, per_shard=3)
    assert done == [range(3), range(3, 6), range(6, 9)] and [cache[i][0] for i in range(9)] == list(range(9))
    with pytest.raises(ValueError, match="holds a cache whose key is 'k', not 'other'"):
        build(tmp_path / "c", "other", 9, encode, per_shard=3)
    with pytest.raises(ValueError, match="holds no cache"):
        open_cache(tmp_path / "none")


def test_a_full_disk_or_a_corrupt_picture_leaves_whole_shards_only(tmp_path, monkeypatch):
    root = folder(tmp_path / "set", 6)
    source = open_source(root)
    real, calls = os.fsync, [0]

    def full(handle):
        calls[0] += 1
        if calls[0] == 5:  # the values of the third shard
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="disk full while writing"):
            latent_cache.latents(source, Encoder(network()), tmp_path / "cache", network="n", per_shard=2)
    (folder_,) = (tmp_path / "cache").iterdir()
    names = sorted(path.name for path in folder_.iterdir())
    assert "cache.json" not in names and not [name for name in names if name.startswith(".tmp")]
    encoder = Encoder(network())
    latent_cache.latents(source, encoder, tmp_path / "cache", network="n", per_shard=2)
    assert encoder.pictures == 6 - 2 * sum(name.endswith("shapes.npy") for name in names) > 0
    (root / "p04.png").write_bytes(png(4)[:120])
    with pytest.raises(ValueError, match="record p04: the picture cannot be read"):
        latent_cache.latents(source, Encoder(network()), tmp_path / "cache", network="n", per_shard=2)


def test_bad_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="item 1 has numbers that are not finite in float16"):
        build(tmp_path / "a", "k", 2, lambda part: [torch.full((2,), 10.0 ** (4 * item + 1)) for item in part])
    with pytest.raises(ValueError, match="1 arrays for 2 items"):
        build(tmp_path / "b", "k", 2, lambda part: [torch.zeros(1)])
