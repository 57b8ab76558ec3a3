import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.compare import store
from diptych.compare.run import run
from diptych.data import emoji
from diptych.data.images import split
from diptych.recipes import quickstart
from diptych.recipes.quickstart_pack import pack
from diptych.recipes.quickstart_sample import QuickstartSample, sample
from diptych.recipes.quickstart_train import TRAIN, Captions, train_autoencoder, train_dit, training_pictures
from diptych.study import Unit


def test_tiny_runs_and_judges(tmp_path):
    page = run(quickstart.study(quickstart.CONFIGS["tiny"]), tmp_path / "run", progress=False)
    report = store.read_json(page.parent / "report.json")
    spent = {cell["arm"]: cell["value"] for cell in report["cells"] if cell["metric"] == "evaluations"}
    assert spent == {"heun-slow": 7, "euler": 3, "heun": 3, "dpmpp-2m": 3, "euler-unguided": 3}
    assert report["floors"]["aa"] and report["floors"]["other_seed"]


def test_arms_differ_in_one_thing_and_cost_a_fifth():
    study = quickstart.study(quickstart.CONFIGS["core"])
    made = {arm.name: arm.produce for arm in study.arms}
    assert {name: arm.evaluations() for name, arm in made.items()} == {
        "heun-slow": 39, "euler": 8, "heun": 9, "dpmpp-2m": 8, "euler-unguided": 8,
    }  # fmt: skip
    euler, unguided = made["euler"], made["euler-unguided"]
    assert dataclasses.replace(unguided, guidance=euler.guidance) == euler
    assert dataclasses.replace(made["dpmpp-2m"], sampler=euler.sampler) == euler


def test_prompts_are_held_out_pairs():
    captions = quickstart.held_out(256)
    pictures = emoji.load()
    trained = {pictures.ids[i] for i in split(pictures)["train"]}
    assert len(captions) == 256 and not trained & set(captions)
    assert list(quickstart.held_out(24)) == list(captions)[:24]
    with pytest.raises(ValueError, match="prompts: 9999 is not in"):
        quickstart.held_out(9999)


def test_a_picture_is_the_same_alone_and_in_a_batch():
    captions = quickstart.held_out(4)
    arm = quickstart.study(dataclasses.replace(quickstart.CONFIGS["tiny"], prompts=4)).arms[1].produce
    units = [Unit(item, 3) for item in captions]
    together = arm(units).arrays["image"].astype(int)
    alone = np.concatenate([arm([unit]).arrays["image"] for unit in units]).astype(int)
    assert np.abs(together - alone).max() <= 2


def test_sample_writes_a_grid_and_pictures(tmp_path):
    config = QuickstartSample(sampler="euler", steps=2, scale=1)
    files = sample(None, ["red apple, noto style", "owl, twemoji style"], (0, 1, 2), tmp_path / "out", config)
    assert len(files) == 7
    assert Image.open(files[0]).size == (3 * 66 + 2, 2 * 66 + 2)
    assert [path.name for path in sample(None, ["owl"], (5,), tmp_path / "grid.png", config)] == ["grid.png"]
    with pytest.raises(ValueError, match="one is empty or there twice"):
        sample(None, ["owl", " owl "], (0,), tmp_path / "out", config)


def test_weights_that_are_missing_are_named(tmp_path):
    with pytest.raises(ValueError, match="dit is missing"):
        quickstart.study(dataclasses.replace(quickstart.CONFIGS["tiny"], weights=str(tmp_path)))


def test_tiny_training_goes_from_pictures_to_a_packed_model(tmp_path):
    config = TRAIN["tiny"]
    with pytest.raises(ValueError, match="run the stage 'autoencoder' first"):
        train_dit(config, tmp_path)
    train_autoencoder(config, tmp_path)
    train_dit(config, tmp_path)
    packed = pack(config, tmp_path)
    assert {path.name for path in packed.iterdir()} == {"dit", "autoencoder", "samples.png", "card.md", "config.json"}
    assert "images seen | 64 | 64" in (packed / "card.md").read_text()
    assert json.loads((packed / "config.json").read_text())["recipe"] == "quickstart"
    study = quickstart.study(dataclasses.replace(quickstart.CONFIGS["tiny"], weights=str(packed)))
    made = study.arms[1].produce([Unit(study.items[0])])
    assert made.arrays["image"].shape == (1, 64, 64, 3)


def test_half_of_the_captions_are_canonical():
    import torch

    pictures = training_pictures(dataclasses.replace(TRAIN["tiny"], pictures=8))
    captions = Captions(pictures, 32)
    rows = torch.arange(len(pictures))
    batch = {"row": rows, "latent": torch.zeros(len(rows), 1)}
    first = captions.attach(batch, torch.ones(len(rows), dtype=torch.int64))
    for row in rows.tolist():
        states = captions.states[captions.wordings[row][0]].float()
        assert torch.equal(first["text"][row, : len(states)].float(), states)
        assert int(first["text_mask"][row].sum()) == len(states)
    other = captions.attach(batch, 2 * torch.arange(2, 2 + len(rows)))
    assert not torch.equal(other["text_mask"].sum(1), first["text_mask"].sum(1))


def test_shipped_files_are_small_and_described():
    folder = Path(quickstart.ASSETS)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 25e6
    assert "held-out" in (folder / "card.md").read_text()
