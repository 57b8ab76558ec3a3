"""Mixtures as training data: functions of the position, whichever way it is read, resumed or shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import folder, photo, png
from torch import Tensor, nn

from diptych.data import latent_cache
from diptych.data.buckets import Bucketed
from diptych.data.feed import MixedLatents, MixedPictures
from diptych.data.fitting import cover
from diptych.data.mixture import mix
from diptych.data.prepare import Settings, prepare
from diptych.data.sources import Pictures, open_source
from diptych.train.loop import TrainConfig, train


def two(tmp_path: Path) -> dict:
    array = np.stack([np.asarray(photo(100 + i, 16, 16)) for i in range(4)])
    memory = Pictures("memory", tuple("abcd"), array, tuple(((f"short {i}",) if i else ("a", "word " * 40)) for i in range(4)))
    return {"files": prepare(open_source(folder(tmp_path / "files", 6)), tmp_path / "out", Settings(size=16)), "memory": memory}


def words(texts):
    length = max(len(text.split()) for text in texts)
    states = torch.zeros(len(texts), length, 3)
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    for i, text in enumerate(texts):
        for j, word in enumerate(text.split()):
            states[i, j], mask[i, j] = len(word), True
    return states, mask


def encode(pixels: Tensor) -> Tensor:
    return pixels.float().unflatten(2, (4, 4)).mean(3)[..., ::4] / 255


def test_pictures_and_words_are_those_of_the_records(tmp_path):
    sets = two(tmp_path)
    mixture = mix(sets, seed=3)
    data = MixedPictures(mixture, (16, 16), lambda texts: {"length": torch.tensor([len(text) for text in texts])})
    batch, drawn = data.batch(5, 12), mixture.draw(5, 12)
    pixels, captions = data.read(5, 12)
    assert batch["pixels"].shape == (12, 3, 16, 16) and batch["pixels"].dtype == torch.uint8
    assert batch["length"].tolist() == [len(text) for text in captions]
    for i in range(12):
        record = sets[mixture.names[drawn.which[i]]][int(drawn.row[i])]
        assert np.array_equal(pixels[i], record.pixels()) and captions[i] in record.captions
    late = data.batch(9, 4)
    assert all(torch.equal(value, batch[name][4:8]) for name, value in late.items())
    resized = MixedPictures(mix({"raw": open_source(tmp_path / "files")}), (8, 8))
    row = int(mix({"raw": open_source(tmp_path / "files")}).draw(0, 1).row[0])
    assert np.array_equal(resized.read(0, 1)[0][0], np.asarray(cover(photo(row), (8, 8))))


def test_latents_come_with_the_words_that_were_drawn(tmp_path):
    sets = two(tmp_path)
    latents = {name: latent_cache.latents(one, encode, tmp_path / "cache") for name, one in sets.items()}
    texts = {name: latent_cache.texts(one, words, tmp_path / "cache") for name, one in sets.items()}
    mixture = mix(sets, seed=3, short=0.5)
    data = MixedLatents(mixture, latents, texts)
    batch = data.batch(0, 40)
    pixels, captions = MixedPictures(mixture, (16, 16)).read(0, 40)
    expected = encode(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert batch["latent"].dtype == torch.float32 and torch.allclose(batch["latent"], expected, atol=1e-3)
    states, mask = words(captions)
    assert torch.equal(batch["text_mask"], mask) and torch.equal(batch["text"].float(), states)
    assert batch["text"].shape[1] == 40 and {len(text.split()) for text in captions} == {1, 2, 6, 40}
    cut = MixedLatents(mixture, latents, texts, tokens=4).batch(0, 40)
    assert cut["text"].shape == (40, 4, 3) and torch.equal(cut["text_mask"], mask[:, :4])
    with pytest.raises(ValueError, match="texts: none for the set 'memory'"):
        MixedLatents(mixture, latents, {"files": texts["files"]})
    with pytest.raises(ValueError, match="latents: 4 of the set 'files', which has 6"):
        MixedLatents(mixture, {**latents, "files": latents["memory"]}, texts)


def test_a_steps_rows_come_by_length_and_are_the_same_rows(tmp_path):
    sets = two(tmp_path)
    latents = {name: latent_cache.latents(one, encode, tmp_path / "cache") for name, one in sets.items()}
    texts = {name: latent_cache.texts(one, words, tmp_path / "cache") for name, one in sets.items()}
    mixture = mix(sets, seed=3, short=0.5)
    drawn, data = (MixedLatents(mixture, latents, texts, step=step) for step in (0, 8))
    for first in (0, 8, 24):
        plain, parts = drawn.batch(first, 8), [data.batch(first + 2 * i, 2) for i in range(4)]
        lengths = torch.cat([part["text_mask"].sum(1) for part in parts])
        assert torch.equal(lengths, plain["text_mask"].sum(1).sort().values)
        seen = sorted(tuple(row.flatten().tolist()) for part in parts for row in part["latent"])
        assert seen == sorted(tuple(row.flatten().tolist()) for row in plain["latent"])
        assert [part["text_mask"].shape[1] for part in parts] == [int(part["text_mask"].sum(1).max()) for part in parts]
    across, whole = data.batch(5, 6), data.batch(0, 16)
    assert torch.equal(across["latent"], whole["latent"][5:11])


def test_buckets(tmp_path):
    root = folder(tmp_path / "set", 6)
    for i in (1, 4):
        (root / f"p0{i}.png").write_bytes(png(i, 20, 60))
    source = prepare(open_source(root), tmp_path / "out", Settings(size=32, buckets=True, multiple=8))
    mixture = mix({"set": source})
    data = MixedPictures(Bucketed(mixture, 2))
    shapes = {tuple(data.batch(2 * i, 2)["pixels"].shape) for i in range(12)}
    assert shapes == {(2, 3, height, width) for width, height in source.sizes.tolist()} and len(shapes) == 2
    latents = {"set": latent_cache.latents(source, lambda pixels: pixels.float() / 255, tmp_path / "cache")}
    texts = {"set": latent_cache.texts(source, words, tmp_path / "cache")}
    bucketed = MixedLatents(Bucketed(mixture, 2), latents, texts)
    for i in range(6):
        assert torch.allclose(bucketed.batch(2 * i, 2)["latent"] * 255, data.batch(2 * i, 2)["pixels"].float(), atol=0.2)
    with pytest.raises(ValueError, match="in one batch; mix with Bucketed"):
        MixedLatents(mixture, latents, texts).batch(0, 6)
    with pytest.raises(ValueError, match="give one with a plain mixture, none with buckets"):
        MixedPictures(mixture)


def test_a_broken_record_gives_way_the_same_way_each_time_up_to_a_limit(tmp_path):
    root = folder(tmp_path / "set", 8)
    source = open_source(root)
    whole = MixedPictures(mix({"set": source}), (8, 8)).read(0, 32)[0]
    (root / "p03.png").write_bytes(b"junk")
    data, other = (MixedPictures(mix({"set": source}), (8, 8), limit=1) for _ in range(2))
    first, again = data.read(0, 32)[0], other.read(7, 5)[0]
    assert np.array_equal(first[7:12], again) and list(data.broken) == [("set", 3)]
    changed = [i for i in range(32) if not np.array_equal(first[i], whole[i])]
    assert changed == np.flatnonzero(mix({"set": source}).draw(0, 32).row == 3).tolist()
    (root / "p05.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"more than 1 records are broken: p03: .*; p05: "):
        data.read(0, 32)


def test_training_resumes_to_the_sample(tmp_path):
    sets = two(tmp_path)

    def run(place: str, images: int) -> dict:
        torch.manual_seed(0)
        model = nn.Linear(3 * 16 * 16, 4)

        def loss(net, batch, generator):
            return net(batch["pixels"].flatten(1).float() / 255).square().mean(1)

        config = TrainConfig(name="feed", images=images, batch=8, lr=1e-2, save_every_images=24)
        train(config, model, loss, MixedPictures(mix(sets, seed=1), (16, 16)), tmp_path / place, device="cpu")
        return model.state_dict()

    straight = run("straight", 48)
    run("stopped", 24)
    resumed = run("stopped", 48)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
