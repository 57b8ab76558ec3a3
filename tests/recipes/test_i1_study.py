"""i1's recipe: an ablation changes what it says and nothing else, from one function for both sizes; findings are read off."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.config import from_json, to_json
from diptych.recipes import i1, i1_findings
from diptych.recipes.i1_cells import ABLATIONS, PAPER, PAPER_SETS, Cell, cells
from diptych.recipes.i1_cost import cost, total
from diptych.recipes.i1_data import Worded, encode_texts, source
from diptych.recipes.i1_findings import FINDINGS, Claim, judged, together
from diptych.recipes.i1_items import MARGINS, ask, measured
from diptych.recipes.i1_loss import flow_loss
from diptych.recipes.i1_train import TRAIN, cell_folder, costs

BASE = TRAIN["full"].base


def differences(one, two, path=""):
    """Names of the leaves in which two dataclasses differ."""
    if dataclasses.is_dataclass(one) and type(one) is type(two):
        fields = [field.name for field in dataclasses.fields(one)]
        return {d for name in fields for d in differences(getattr(one, name), getattr(two, name), f"{path}{name}.")}
    return set() if one == two else {path.rstrip(".")}


CHANGED = {
    "long_skip": {"model.long_skip"},
    "adapter": {"model.adapter_blocks"},
    "adaln": {"model.modulation"},
    "mixing": {"sets.weights", "sets.cap", "sets.sizes", "sets.kinds"},
    "backbone": {"model.backbone"},
    "caption_length": {"sets.short"},
    "captioner": {"sets.mistaken"},
    "repetition": {"sets.unique", "sets.wordings"},
    "resolution": {"sets.sizes", "sets.kinds"},
    "text_encoder": {"encoder", "model.text_width"},
    "vae": {"latents", "model.channels"},
    "time_density": {"density", "density.mean", "density.std"},
    "target": {"target"},
    "norms": {"model.sandwich", "model.norms", "model.qk_norm"},
}


@pytest.mark.parametrize("base", [PAPER, BASE], ids=["paper", "small"])
@pytest.mark.parametrize("name", list(ABLATIONS))
def test_an_ablation_changes_one_thing(name, base):
    baseline, *others = cells(name, base).values()
    assert len(others) >= 1 and len(set(cells(name, base).values())) == len(others) + 1
    for other in others:
        assert differences(baseline, other) and differences(baseline, other) <= CHANGED[name]


def test_margins_are_those_that_were_committed():
    found = {metric.name: metric.margin for metric in measured(ask(1, 1, 2))}
    assert set(MARGINS) <= set(found) and all(found[name] == margin for name, margin in MARGINS.items())


def test_every_ablation_of_the_issue_is_there_for_both_sizes():
    assert set(ABLATIONS) == set(CHANGED) == set(i1.STUDIES)
    assert len(cells("long_skip", PAPER, every_width=True)) == 10 and len(cells("backbone", PAPER, every_width=True)) == 15
    found = {finding for ablation in ABLATIONS.values() if (finding := ablation.finding)}
    assert found == {finding.name for finding in FINDINGS}


def test_costs_are_the_published_integers_and_shared_stages_count_once():
    spent = cost(PAPER)
    assert round(spent.parameters / 1e9, 2) == 0.89 and spent.images == 256_000_000
    assert spent.tokens == 256_000_000 * (256 + 256)
    arms = cells("resolution", BASE)
    alone = sum(cost(cell).images for cell in arms.values())
    assert total(arms, 1).images == alone - 3 * BASE.images and total(arms, 5).images == 5 * total(arms, 1).images
    assert round(sum(size for _, size in PAPER_SETS.sizes) / 1e6, 1) == 167.7


def test_a_replica_is_minutes():
    for name in ("long_skip", "mixing"):
        each = [cost(cell).core_hours for cell in cells(name, BASE).values()]
        assert min(each) > 1 / 60 and max(each) < 0.6, "a replica is minutes, not hours"


def test_cells_are_named_by_what_makes_them_and_come_back_from_json(tmp_path):
    config = TRAIN["full"]
    cell = cells("resolution", BASE)["all"]
    assert from_json(Cell, to_json(cell)) == cell
    folder = cell_folder(tmp_path, config, BASE, 3)
    assert folder.name == "3" and cell_folder(tmp_path, config, cells("adapter", BASE)["mlp"], 3) == folder
    assert cell_folder(tmp_path, config, cells("adapter", BASE)["1-block"], 3) != folder
    assert cell_folder(tmp_path, dataclasses.replace(config, ema=0.5), BASE, 3) != folder


def test_an_untrained_cell_says_which_command_trains_it(tmp_path):
    config = dataclasses.replace(i1.CONFIGS["tiny"], root=str(tmp_path))
    study = i1.STUDIES["long_skip"](config)
    with pytest.raises(ValueError, match=r"is not trained; `diptych train i1 --stage long_skip --size tiny --out .*core-hours"):
        study.arms[0].produce(study.units[:1])
    (line,) = costs(config.training, ["long_skip"], tmp_path)
    assert line.startswith("long_skip: 4 of 4 networks to train")
    rows = i1.costs(config, "long_skip")
    assert [row[0] for row in rows] == ["arm", "with", "without", "all, 2 seeds"]


def test_prompts_are_held_out_and_metrics_are_declared_for_theirs():
    asked = ask(2, 2, 8)
    found = {metric.name: metric for metric in measured(asked)}
    assert list(found) == ["micro_geneval", "micro_geneval_novel", "micro_longtext", "retrieval", "flow_error"]
    assert [len(metric.items) for metric in found.values()] == [12, 12, 6, 8, 26]
    assert len(asked.captions) == 12 + 12 + 6 + 8 and set(asked.truth) == set(found["flow_error"].items)
    forms = ask(1, 0, 0, forms=True)
    assert set(forms.forms) == {"x4", "x12", "x20", "rewritten"}
    assert forms.forms["x4"][0].text == " ".join([forms.shapes[0].text] * 4)
    assert len(forms.forms["rewritten"][0].text.split()) > 15 and forms.forms["rewritten"][0].detail == forms.shapes[0].detail


def test_a_captioner_that_errs_takes_whole_pictures_captions():
    class Held:
        def __len__(self):
            return 2000

        def counts(self, row):
            return [row, row + 1, row + 2]

        def of(self, row, caption):
            return np.array([[row, caption]])

    right, wrong, one = Worded(Held()), Worded(Held(), mistaken=0.3), Worded(Held(), wordings=1)
    assert all(right.of(row, 1).tolist() == [[row, 1]] for row in range(50))
    moved = [row for row in range(2000) if wrong.of(row, 0)[0, 0] != row]
    assert 520 < len(moved) < 680
    assert all(wrong.counts(row)[0] == wrong.of(row, 0)[0, 0] for row in range(200))
    assert len({int(wrong.of(row, 0)[0, 0]) for row in moved}) > 0.75 * len(moved), "those taken are spread"
    chosen = [int(one.of(row, 0)[0, 1]) for row in range(300)]
    assert set(chosen) == {0, 1, 2} and all(len(one.counts(row)) == 1 for row in range(9))


def test_flow_and_data_prediction_have_one_loss():
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(3, 2, 4, 4, generator=generator) for _ in range(2))
    batch = {"latent": x0, "text": torch.zeros(3, 1, 2), "text_mask": torch.ones(3, 1, dtype=torch.bool)}
    t, null = torch.tensor([0.1, 0.5, 0.9]), torch.zeros(3, dtype=torch.bool)
    perfect = {"flow": lambda x, t, cond: eps - x0, "x0": lambda x, t, cond: x0}
    for target, net in perfect.items():
        cell = dataclasses.replace(BASE, target=target)
        assert float(flow_loss(cell, net, batch, t, eps, null).abs().max()) < 1e-9


def test_shallow_text_encoders_know_less():
    bank = ["a river bank", "the bank lends money"]
    deep, _ = encode_texts("minilm", bank)
    words, mask = encode_texts("minilm-words", bank)
    sentence, one = encode_texts("minilm-sentence", bank)
    assert not torch.equal(deep[0, 3], deep[1, 2]) and torch.equal(words[0, 3], words[1, 2])
    assert sentence.shape == (2, 1, 384) and one.all() and words[~mask].abs().sum() == 0


def test_sets_weighed_by_hand_keep_their_weights_when_some_are_left_out():
    sets = dataclasses.replace(BASE.sets, weights=[2.0, 1.0, 3.0])
    assert sets.without("synthetic").weights == (2.0, 3.0) and sets.leaving("emoji").weights == (1.0, 3.0)
    assert dict(sets.leaving("words").sizes) == {"emoji": 5573, "shapes": 12288}
    assert from_json(type(sets), to_json(sets)) == sets
    with pytest.raises(ValueError, match=r"sets\.weights: 2 numbers for 3 sets"):
        dataclasses.replace(sets, weights=(1.0, 2.0))


def test_sets_have_the_length_asked_for():
    assert [len(source(name, 30)) for name in ("emoji", "shapes", "words")] == [30, 30, 30]


def report(**changes):
    cell = {
        "arm": "1-block",
        "metric": "micro_geneval",
        "value": 0.6,
        "delta": 0.1,
        "interval": [0.05, 0.15],
        "verdict": "better",
    }
    return {"claim": changes.pop("claim", "recipe"), "question": "Networks of 9 parameters.", "cells": [{**cell, **changes}]}


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, "agree"),
        ({"verdict": "worse"}, "disagree"),
        ({"verdict": "equivalent"}, "disagree"),
        ({"verdict": "undecided"}, "undecided"),
        ({"claim": "checkpoint"}, "undecided"),
        ({"arm": "2-block"}, "not run"),
    ],
)
def test_a_finding_is_read_off_the_verdict(changes, expected):
    verdict, words = judged(Claim("adapter", "1-block", "micro_geneval", "better"), report(**changes))
    assert verdict == expected and ("0.600, +0.100 (+0.050 to +0.150)" in words) == (expected != "not run")


def test_a_benchmark_at_the_floor_decides_nothing():
    low = report(value=0.05, delta=0.05, interval=[0.03, 0.07])
    assert judged(Claim("adapter", "1-block", "micro_geneval", "better"), low)[0] == "undecided"
    error = report(metric="flow_error", value=0.05, delta=0.05, interval=[0.03, 0.07])
    assert judged(Claim("adapter", "1-block", "flow_error", "better"), error)[0] == "agree"


def test_what_was_not_run_is_not_run_and_the_worst_counts(tmp_path):
    assert together(["agree", "not run"]) == "agree" and together(["agree", "undecided"]) == "undecided"
    assert together(["agree", "undecided", "disagree"]) == "disagree" and together(["not run"]) == "not run"
    assert i1_findings.page(tmp_path).count("**not run**") == 10
    (tmp_path / "i1-adapter").mkdir()
    (tmp_path / "i1-adapter" / "report.json").write_text(json.dumps(report()))
    page = i1_findings.page(tmp_path)
    assert page.count("**not run**") == 9 and "| F2 |" in page and "+0.100" in page
    assert page.count("Ours: Networks of 9 parameters.") == 1


def test_claims_name_arms_and_metrics_that_are_there():
    forms = {metric.name for metric in measured(ask(1, 1, 2))} | {metric.name for metric in measured(ask(1, 0, 0, forms=True))}
    for finding in FINDINGS:
        for claim in finding.claims:
            baseline, *arms = cells(claim.study, BASE)
            assert claim.arm in arms and claim.arm != baseline and claim.metric in forms


def test_the_page_in_the_docs_is_that_of_the_committed_reports():
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / "i1_findings.md").read_text() == i1_findings.page(docs / "results")


def test_the_papers_model_in_three_stages():
    last = TRAIN["paper"].shipped
    stages = [last.after.after, last.after, last]
    assert [(cell.pixels, cell.images // cell.batch, cell.batch) for cell in stages] == [
        (256, 2_000_000, 512), (512, 500_000, 512), (1024, 300_000, 128),
    ]  # fmt: skip
    assert [len(cell.sets.sizes) for cell in stages] == [11, 10, 5] and {cell.sets.weights for cell in stages} == {"equal"}
    assert [cell.image_tokens for cell in stages] == [256, 1024, 4096]
    times = stages[2].density(20_001, torch.Generator().manual_seed(0))
    assert abs(float(1 - times.median()) - 0.23) < 0.01, "published: the median signal falls from 0.50 to 0.23"
