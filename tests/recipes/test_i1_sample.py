"""Pictures from a tiny text-to-image system: folder, seeds, sizes, batches, benchmark layouts, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.files import picture_path
from diptych.metrics.benchmarks.geneval import GENEVAL
from diptych.metrics.benchmarks.t2i_files import read_picture
from diptych.metrics.ocr import Reader
from diptych.models.autoencoder import Autoencoder, AutoencoderConfig
from diptych.models.hub import save_model
from diptych.models.i1 import I1
from diptych.models.i1_config import PRESETS
from diptych.models.i1_weights import save_torch
from diptych.models.text_to_image import find_system
from diptych.recipes.i1_sample import I1Sample, draw, sample
from diptych.study import Unit

SHAPE = {"channels": 4, "patch": 1, "width": 32, "depth": 3, "heads": 2, "hidden": 32, "base": 2, "adapter_blocks": 1}
TINY = replace(PRESETS["i1-1B"], text_width=384, text_tokens=128, adapter_mask=True, null="token", keep_unread=False, **SHAPE)
CODES = AutoencoderConfig(size=16, latent_channels=4, widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), refine=0)
FAST = I1Sample(sampler="euler", steps=2, guidance=3.0, rescale=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("system")
    save_model(I1(TINY), TINY, where / "dit")
    save_model(Autoencoder(CODES), CODES, where / "autoencoder")
    return where


def test_grid_and_pictures(folder: Path, tmp_path: Path) -> None:
    files = sample(folder, ["a red apple", "a rocket over a very long green field"], (0, 1), tmp_path / "out", FAST)
    assert [file.name for file in files[:1]] == ["grid.png"] and len(files) == 5
    assert Image.open(files[0]).size == (2 * 16 + 6, 2 * 16 + 6)
    pictures = [np.asarray(Image.open(file)) for file in files[1:]]
    assert all(picture.shape == (16, 16, 3) for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1]), "another seed is another picture"
    (alone,) = sample(folder, ["a red apple"], (0,), tmp_path / "one.png", replace(FAST, count=1, scale=2))
    assert Image.open(alone).size == (36, 36)


def test_the_shipped_model_writes(tmp_path: Path) -> None:
    """Words that it can, by the rule it was judged by; of all words PP-OCR reads a tenth."""
    pytest.importorskip("rapidocr_onnxruntime")
    written = ("OWL", "LAMP", "COAT", "CHAIR", "DUCK", "HAT")
    sample(None, [f'a sign that says "{word}"' for word in written], (0, 1), tmp_path, I1Sample())
    reader, read = Reader(), []
    for word in written:
        for seed in (0, 1):
            path = picture_path(tmp_path, "pictures", Unit(f'a sign that says "{word}"', seed))
            read.append(word in reader.lines(np.asarray(Image.open(path))))
    assert sum(read) >= 3, read


def test_a_picture_does_not_depend_on_its_batch(folder: Path) -> None:
    """Nor on the prompts beside it, though they are longer."""
    system = find_system(folder)
    captions = {"short": "apple", "long": "one two three four five six seven eight nine ten"}
    units = [Unit("long", 0), Unit("short", 3), Unit("short", 0)]
    together = dict(draw(system, captions, units, FAST))
    apart = dict(draw(system, captions, units, replace(FAST, batch=1)))
    assert together.keys() == apart.keys() == set(units)
    for unit in units:
        assert np.abs(together[unit].astype(int) - apart[unit].astype(int)).max() <= 1


def test_published_checkpoint_with_parts_elsewhere(folder: Path, tmp_path: Path) -> None:
    """A compat network in one file: prompts are padded to its length; another size and shape of picture."""
    config = replace(TINY, adapter_mask=False, null="prompt", keep_unread=True, text_tokens=12, base=16)
    path = save_torch(I1(config), tmp_path / "i1.pt", 16)
    options = replace(FAST, autoencoder=str(folder / "autoencoder"), text="minilm", height=16, width=16, guidance=1.0)
    (grid,) = sample(path, ["apple"], (0,), tmp_path / "grid.png", options)
    assert Image.open(grid).size == (20, 20)
    with pytest.raises(ValueError, match="no autoencoder/ or vae/"):
        sample(path, ["apple"], (0,), tmp_path / "grid.png", FAST)


def test_benchmark_layout_and_resume(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {"tag": "counting", "include": [{"class": "cow", "count": 2}], "prompt": "a photo of two cows"},
    ]
    prompts = tmp_path / "evaluation_metadata.jsonl"
    prompts.write_text("\n".join(map(json.dumps, rows)))
    options = replace(FAST, benchmark="geneval", files=(str(prompts),), count=2)
    out = tmp_path / "out"
    files = sample(folder, [], (5,), out, options)
    assert len(files) == 5 and (out / "00001/samples/00001.png").is_file()
    for prompt in GENEVAL.read([prompts]):
        assert all(read_picture(out, GENEVAL.file(prompt, number)) for number in range(2))
    written = [json.loads(line) for line in (out / "prompts.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in written] == [row["prompt"] for row in rows]
    kept = files[0].read_bytes()
    files[1].unlink()
    files[0].write_bytes(b"kept")
    again = sample(folder, [], (5,), out, options)
    assert again == files and files[0].read_bytes() == b"kept" and files[1].is_file()
    assert kept != files[1].read_bytes()


def test_rewritten_prompts(folder: Path, tmp_path: Path) -> None:
    """The network sees the rewriting; names and noise stay the prompt's own; a second run asks nothing."""
    pytest.importorskip("openai")
    from chat_server import serving

    long = " ".join(["A single ripe apple rests alone upon a plain wooden table."] * 9)
    plain = sample(folder, ["apple"], (0,), tmp_path / "plain", FAST)
    with serving(lambda body: long) as stub:
        options = replace(FAST, rewriter=stub.url, rewriter_model="m")
        files = sample(folder, ["apple"], (0,), tmp_path / "out", options)
        again = sample(folder, ["apple"], (0,), tmp_path / "out", options)
        assert len(stub.seen) == 1 and stub.seen[0]["top_k"] == 20 and files == again
    captions = {"apple": long}
    ((_, wanted),) = draw(find_system(folder), captions, [Unit("apple", 0)], FAST)
    assert np.array_equal(np.asarray(Image.open(files[1])), wanted)
    assert files[1].name == plain[1].name and files[1].read_bytes() != plain[1].read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 20}, "height 20 is not a multiple of the 8 pixels"),
        ({"benchmark": "genevl"}, "did you mean 'geneval'"),
        ({"autoencoder": "nowhere"}, "licence must be accepted"),
        ({"text": "minilmm"}, "did you mean 'minilm'"),
    ],
)
def test_refused(folder: Path, tmp_path: Path, change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample(folder, ["apple"], (0,), tmp_path / "out", replace(FAST, **change))


def test_refused_before_anything_is_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty or there twice"):
        sample(folder, ["apple", "apple "], (0,), tmp_path, FAST)
    with pytest.raises(ValueError, match="no such model"):
        sample(tmp_path / "absent", ["apple"], (0,), tmp_path, FAST)
    with pytest.raises(ValueError, match="not in \\[0, 1\\]"):
        I1Sample(rescale=2.0)
    assert torch.is_grad_enabled()
