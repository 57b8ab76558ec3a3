"""Written words: captions that quote them, words that training never shows, letters that lie where they should."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.data.words import INKS, NOVEL, PAPERS, WORDS, Page, Words, captions, dense, draw, fitting, prompts, training_page

PAGES = [training_page(index) for index in range(300)]


def inked(page: Page, size: int) -> np.ndarray:
    """Where the picture is nearer to the ink than to the paper."""
    pixels = draw(page, size).astype(float)
    ink, paper = (np.linalg.norm(pixels - table, axis=2) for table in (INKS[page.ink], PAPERS[page.paper]))
    return ink < paper


def test_words_held_out_are_never_written_in_training():
    assert len(set(WORDS)) == len(WORDS) == 235 and len(NOVEL) == 39
    assert all(word.isascii() and word.isupper() and 2 < len(word) <= 6 for word in WORDS)
    written = {line for page in PAGES for line in page.lines}
    assert written <= set(WORDS) - NOVEL and len(written) > 150
    assert {letter for word in NOVEL for letter in word} <= {letter for word in written for letter in word}
    assert all(set(row["text"]) <= NOVEL for row in prompts(20, "novel"))
    assert all(not set(row["text"]) & NOVEL for row in prompts(20))


def test_lines_are_centred_and_whole():
    for size in (32, 64, 200):
        for page in PAGES[:40]:
            mask = inked(page, size)
            columns = np.flatnonzero(mask.any(0))
            assert columns[0] > 0 and columns[-1] < size - 1
            assert (columns[0] + columns[-1]) / 2 == pytest.approx(size / 2, abs=0.04 * size + 1)
            bands = np.array_split(mask, len(page.lines))
            assert all(band.any() for band in bands)


def test_rows_are_the_same_whenever_they_are_drawn():
    source = Words(5)
    assert np.array_equal(source[3].image, Words(5)[3].image) and source[3].annotation == " ".join(training_page(3).lines)
    assert source[3].image.shape == (64, 64, 3) and Words(5, size=48)[3].image.shape == (48, 48, 3)
    with pytest.raises(IndexError):
        source[5]


def test_every_caption_quotes_the_text():
    page = Page(("OPEN", "DAILY"), "red", "white")
    assert captions(page)[:3] == ('"OPEN DAILY"', 'a sign that says "OPEN DAILY"', 'the text "OPEN DAILY" in red on white')
    assert dense(page) == (
        "A plain white sign shows exactly two words in clear red capital letters, centred. "
        'At the top it reads "OPEN". At the bottom it reads "DAILY".'
    )


def test_prompts_are_longtexts_and_pages_fit_them():
    rows = prompts(4)
    assert [row["prompt_id"] for row in rows] == list(range(12)) and [row["text_length"] for row in rows] == [1] * 4 + [
        2
    ] * 4 + [3] * 4
    assert rows[4]["category"] == "two words" and rows == prompts(4) != prompts(4, seed=1)
    for index, row in enumerate(rows):
        assert list(fitting(row, index).lines) == row["text"] and f'"{" ".join(row["text"])}"' in row["prompt"]
