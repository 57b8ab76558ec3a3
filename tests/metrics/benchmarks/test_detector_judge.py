"""GenEval's judge on tiny networks with random weights, saved and loaded in the format that real ones are published in."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.files import png
from diptych.metrics.benchmarks.cvtg import CVTG, Place
from diptych.metrics.benchmarks.detector_judge import GREY, TEMPLATES, Detector, DetectorJudge, Seen, cut_out
from diptych.metrics.benchmarks.geneval import COLOURS, GENEVAL, parse
from diptych.metrics.benchmarks.local_judges import Clipped, Remembered
from diptych.metrics.benchmarks.t2i import Prompt, Task, table
from diptych.models.clip import ClipFolder

pytest.importorskip("transformers")
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
PROMPTS = parse(
    [
        {"tag": "colors", "include": [{"class": "tv remote", "count": 1, "color": "red"}], "prompt": "a red tv remote"},
        {
            "tag": "two_object",
            "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1}],
            "prompt": "a dog and a cat",
        },
    ]
)
LETTERS = "abcdefghijklmnopqrstuvwxyz-"


def tokenizer(path: Path, length: int) -> list[str]:
    tokens = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": length}))
    return tokens


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    from transformers import CLIPConfig, CLIPModel

    path = tmp_path_factory.mktemp("clip")
    tokens = tokenizer(path, 40)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **tower,
        "vocab_size": len(tokens),
        "max_position_embeddings": 40,
        "eos_token_id": len(tokens) - 1,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=16)
    ).save_pretrained(path)
    return ClipFolder(path)


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, SwinConfig

    path = tmp_path_factory.mktemp("mask2former")
    backbone = SwinConfig(image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
                          out_features=["stage1", "stage2", "stage3", "stage4"])  # fmt: skip
    names = {0: "remote", 1: "dog", 2: "cat"}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    widths = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "num_attention_heads": 2, "num_queries": 6}
    label = {name: n for n, name in names.items()}
    config = Mask2FormerConfig(backbone_config=backbone, **layers, **widths, id2label=names, label2id=label)
    torch.manual_seed(1)
    Mask2FormerForUniversalSegmentation(config).save_pretrained(path)
    Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, ignore_index=255).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    path = tmp_path_factory.mktemp("owlv2")
    tokens = tokenizer(path, 24)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **tower,
        "vocab_size": len(tokens),
        "max_position_embeddings": 24,
        "eos_token_id": len(tokens) - 1,
        "pad_token_id": 0,
    }
    config = Owlv2Config(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=16)
    torch.manual_seed(2)
    Owlv2ForObjectDetection(config).save_pretrained(path)
    pictures = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(pictures, CLIPTokenizer.from_pretrained(path)).save_pretrained(path)
    return path


def test_segments_become_boxes_with_their_pixels(mask2former: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diptych.metrics.benchmarks.detector_judge.LOWEST", 0.0)  # random weights are sure of nothing
    found = Detector(mask2former).find(PICTURE, ("tv remote", "dog", "cat"))
    assert found and {one.kind for one in found} <= {"tv remote", "dog", "cat"}
    for one in found:
        assert one.mask is not None and one.mask.shape == PICTURE.shape[:2] and 0 <= one.score <= 1
        rows, columns = np.nonzero(one.mask)
        assert one.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    kinds = {one.kind for one in found}
    alone = Detector(mask2former).find(PICTURE, (min(kinds),))
    assert {one.kind for one in alone} == {min(kinds)} and len(alone) == sum(one.kind == min(kinds) for one in found)


def test_classes_by_name(owlv2: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diptych.metrics.benchmarks.detector_judge.LOWEST", 0.0)
    found = Detector(owlv2).find(PICTURE, ("dog", "cat"))
    assert found and {one.kind for one in found} <= {"dog", "cat"} and all(one.mask is None for one in found)


def test_answers_are_genevals(mask2former: Path, clip: ClipFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diptych.metrics.benchmarks.detector_judge.LOWEST", 0.0)
    judge = DetectorJudge(Detector(mask2former), clip)
    tasks = [Task(prompt, 0, partial(png, PICTURE)) for prompt in PROMPTS]
    made = {task.prompt.item: answer for task, answer in Remembered(judge, judge.name, tmp_path / "kept.jsonl")(tasks)}
    assert all("color" not in one for one in made["00001"]["objects"])
    assert all(one["color"] in COLOURS for one in made["00000"]["objects"] if one["class"] == "tv remote")
    table(GENEVAL, PROMPTS, {GENEVAL.file(task.prompt, 0): made[task.prompt.item] for task in tasks}, images=1)

    def fails(tasks):
        raise AssertionError("asked again")

    again = Remembered(fails, judge.name, tmp_path / "kept.jsonl")(tasks)
    assert {task.prompt.item: answer for task, answer in again} == made
    with pytest.raises(AssertionError):
        list(Remembered(fails, "other weights", tmp_path / "kept.jsonl")(tasks))


def test_colours_are_the_nearest_of_three_phrasings(mask2former: Path, clip: ClipFolder):
    judge = DetectorJudge(Detector(mask2former), clip)
    seen = Seen("dog", (10.0, 8.0, 40.0, 40.0), 0.9, np.ones(PICTURE.shape[:2], bool))
    vectors = []
    for colour in COLOURS:
        three = clip.texts([form.format(colour=colour, kind="dog") for form in TEMPLATES]).mean(0)
        vectors.append(three / three.norm())
    cosines = [float(clip.pictures(PICTURE[8:40, 10:40][None])[0] @ vector) for vector in vectors]
    assert judge.colour(PICTURE, seen) == COLOURS[int(np.argmax(cosines))]


def test_clip_score_beside_a_reading(clip: ClipFolder):
    sign = Prompt("CVTG_2_0", "a sign", "CVTG 2", 0, Place("CVTG", 2, 0))

    def reader(tasks):
        return ((task, {"lines": ["X"]}) for task in tasks)

    ((_, answer),) = Clipped(reader, clip)([Task(sign, 0, partial(png, PICTURE))])
    cosine = float(clip.pictures(PICTURE[None])[0] @ clip.texts(["A photo depicts a sign"])[0])
    assert answer == {"lines": ["X"], "clip": pytest.approx(2.5 * max(cosine, 0.0))}
    assert CVTG.row(sign, 0, answer, "fixed")["CVTG 2:clip"] == (answer["clip"], 1.0)


def test_objects_are_cut_out_on_grey():
    mask = np.zeros((48, 64), bool)
    mask[10:20, 5:9] = True
    made = cut_out(PICTURE, Seen("dog", (4.0, 9.0, 10.0, 21.0), 1.0, mask))
    assert made.shape == (12, 6, 3) and (made[0] == GREY).all() and np.array_equal(made[1:11, 1:5], PICTURE[10:20, 5:9])
    assert cut_out(PICTURE, Seen("dog", (-5.0, -5.0, 3.0, 2.0), 1.0)).shape == (2, 3, 3)
    assert cut_out(PICTURE, Seen("dog", (63.6, 47.7, 63.9, 47.9), 1.0)).shape == (1, 1, 3)


def test_other_folders_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="folder without config; give Mask2Former or OWLv2"):
        Detector(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is a bert"):
        Detector(tmp_path)
