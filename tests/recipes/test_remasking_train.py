"""The trainings of the remasking study: a tiny run of stages, cards, and the shipped models against their cards."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from diptych.data.puzzles import TASKS, task
from diptych.models.hub import describe, load_model
from diptych.recipes import remasking_train
from diptych.recipes.remasking_pack import ASSETS, card, pack
from diptych.recipes.remasking_train import REPLICAS, STAGES, TRAIN, Clock, decoded

SHIPPED = sorted(path.parent for path in ASSETS.glob("*/*/card.md"))


@pytest.fixture(autouse=True)
def fewer_prompts(monkeypatch):
    monkeypatch.setattr(remasking_train, "JUDGED", 8)


def test_every_task_has_a_training_and_every_replica_a_stage():
    names = {field.name for field in dataclasses.fields(TRAIN["full"])}
    assert names == set(TASKS) == set(REPLICAS)
    assert list(STAGES)[:4] == ["sudoku4-0", "latin6-0", "sum_chain-0", "sudoku9-0"]
    assert len(STAGES) == sum(REPLICAS.values()) + 1 and list(STAGES)[-1] == "pack"
    for config in TRAIN.values():
        for name in names:
            model = getattr(config, name).model
            assert (model.vocab, model.length) == (task(name).vocab, task(name).length)


def test_tiny_stages_leave_weights_with_measures_and_a_card(tmp_path):
    with pytest.raises(ValueError, match="pack: no trained model under"):
        pack(TRAIN["tiny"], tmp_path)
    for stage in ("sum_chain-1", "text-0"):
        weights = STAGES[stage](TRAIN["tiny"], tmp_path)
        extra = describe(weights)["extra"]
        assert extra["measured"]["bound"] > 0 and extra["training"]["train"]["seed"] == extra["replica"] == int(stage[-1])
        before = (weights / "model.safetensors").stat().st_mtime_ns
        STAGES[stage](TRAIN["tiny"], tmp_path)
        assert (weights / "model.safetensors").stat().st_mtime_ns == before
    packed = pack(TRAIN["tiny"], tmp_path)
    text = (packed / "sum_chain" / "1" / "card.md").read_text()
    assert "training seed 1" in text and "right, one token a step, from left to right | 0.0% in 32 evaluations" in text
    assert {path.name for path in (packed / "text" / "0").iterdir()} == {
        "card.md",
        "config.json",
        "log.jsonl",
        "model.safetensors",
    }


def test_replicas_start_and_learn_differently(tmp_path):
    first, second = (load_model(STAGES[f"sudoku4-{i}"](TRAIN["tiny"], tmp_path)) for i in (0, 1))
    assert not torch.equal(first.state_dict()["head.weight"], second.state_dict()["head.weight"])


def test_a_model_of_another_task_is_named(tmp_path):
    config = dataclasses.replace(TRAIN["tiny"], latin6=TRAIN["tiny"].sudoku4)
    with pytest.raises(ValueError, match="latin6: the model has 5 tokens and 32 positions; the task needs 6 and 36"):
        STAGES["latin6-0"](config, tmp_path)


def test_the_clock_goes_on_from_the_log(tmp_path):
    log = tmp_path / "log.jsonl"
    assert Clock(log).minutes() < 0.1
    log.write_text('{"images": 1}\n{"images": 2, "val/cpu_minutes": 2.5}\n')
    assert 2.5 <= Clock(log).minutes() < 2.6


def test_decoding_leaves_clues_alone_and_counts_evaluations():
    net = torch.nn.Module()
    net.anchor = torch.nn.Parameter(torch.zeros(1))
    net.forward = lambda x, t, cond: torch.zeros(*x.shape, 6)  # type: ignore[method-assign]
    found = decoded(net, task("latin6"), "test", 5)
    assert found["clues"] == 1 and found["valid"] == 0 and found["evaluations"] == 24
    assert decoded(net, task("latin6"), "test", 5, tau=0.1)["evaluations"] == 1


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_shipped_model_is_what_its_card_says(folder):
    described = describe(folder)
    extra, measured = described["extra"], described["extra"]["measured"]
    assert (folder / "card.md").read_text() == card(folder)
    assert (folder / "model.safetensors").stat().st_size < 1.6e6
    assert (extra["task"], str(extra["replica"])) == (folder.parent.name, folder.name)
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["val/cpu_minutes"] <= extra["cpu_minutes"] + 0.01
    if extra["task"] in FLOORS:
        assert measured["one_by_one"]["valid"] > FLOORS[extra["task"]]
        net, asked = load_model(folder), task(extra["task"])
        assert decoded(net, asked, "test", 12)["valid"] > FLOORS[extra["task"]] - 0.25


FLOORS = {"sudoku4": 0.95, "latin6": 0.95, "sudoku9": 0.95, "sum_chain": 0.8}
