"""Does a picture show the words it was asked for: read by PP-OCR, held against the target as exact match and edit distance.

The reader is PP-OCRv4 (detector and recogniser) as the package rapidocr-onnxruntime ships it; it runs offline. What is compared
is stated, and the same for target and reading: `normalised`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from diptych.metrics.fidelity import pictures
from diptych.study import Metric, Samples

Mode = Literal["page", "line"]
KEPT_READINGS = 20_000


def normalised(text: str, spaces: bool = False) -> str:
    """Text as it is compared: Unicode NFKC, upper case, no punctuation, white space collapsed.

    Args:
        text: a target or a reading.
        spaces: keep one space between words; the detector tends to drop them, so by default none is kept.
    """
    text = unicodedata.normalize("NFKC", text).upper()
    text = "".join(" " if c.isspace() else c for c in text if not unicodedata.category(c).startswith("P"))
    return (" " if spaces else "").join(text.split())


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: insertions, deletions and substitutions of one character, 1 each."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@dataclass(frozen=True)
class Reader:
    """PP-OCRv4.

    Args:
        mode: "page": the detector finds lines, read from top to bottom; "line": the whole picture is one line, recogniser only.
        confidence: detected lines below it are dropped.
        version: of the package, so that rows made by another reader are not taken for these.
    """

    mode: Mode = "page"
    confidence: float = 0.5
    version: str = ""

    def read(self, picture: np.ndarray) -> str:
        """The words in a picture (H, W, 3) of uint8; empty where there are none."""
        return " ".join(self.lines(picture))

    def lines(self, picture: np.ndarray) -> tuple[str, ...]:
        """The lines in a picture (H, W, 3) of uint8, from top to bottom."""
        return _read(self.mode, self.confidence, picture.tobytes(), picture.shape)


@lru_cache(maxsize=KEPT_READINGS)
def _read(mode: Mode, confidence: float, data: bytes, shape: tuple[int, ...]) -> tuple[str, ...]:
    pixels = np.frombuffer(data, np.uint8).reshape(shape)[:, :, ::-1]  # the engine wants blue first
    page = mode == "page"
    found, _ = _engine()(np.ascontiguousarray(pixels), use_det=page, use_cls=False, use_rec=True, text_score=confidence)
    return tuple(str(line[-2]) for line in found or ())


@lru_cache(maxsize=1)
def _engine() -> Any:
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        raise ValueError('ocr: the reader is not installed; pip install "diptych[ocr]"') from None
    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


@dataclass(frozen=True)
class WordScores:
    """Rows of the reading of every picture against its item's words, (N, 1).

    Args:
        words: (item, target) pairs.
        reader: reads a picture.
        row: "exact" = 1 where they are the same; "share" = edit distance over the longer length, in [0, 1]; "edits" = edits.
        spaces: whether spaces count.
        picture: name of the picture array; empty: the first.
    """

    words: tuple[tuple[str, str], ...]
    reader: Reader
    row: Literal["exact", "share", "edits"]
    spaces: bool = False
    picture: str = ""

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        targets = {item: normalised(text, self.spaces) for item, text in self.words}
        rows = np.empty((len(samples), 1))
        for i, (unit, picture) in enumerate(zip(samples.units, pictures(samples, self.picture))):
            if unit.item not in targets:
                raise ValueError(f"ocr: item {unit.item!r} has no words; declare the metric for the items that have some")
            target, seen = targets[unit.item], normalised(self.reader.read(picture), self.spaces)
            edits = edit_distance(target, seen)
            rows[i, 0] = {"exact": edits == 0, "share": edits / max(len(target), len(seen)), "edits": edits}[self.row]
        return rows


def _metric(
    name: str,
    row: Literal["exact", "share", "edits"],
    words: Mapping[str, str],
    category: str,
    mode: Mode,
    spaces: bool,
    picture: str,
    margin: float | None,
    about: str,
) -> Metric:
    blank = [item for item, text in words.items() if not normalised(text, spaces)]
    if blank or not words:
        raise ValueError(f"ocr: words: {f'those of item {blank[0]!r}' if blank else 'the mapping'} are empty")
    return Metric(
        name=f"{name}_{category}" if category else name,
        rows=WordScores(tuple(sorted(words.items())), Reader(mode, version=_version()), row, spaces, picture),
        better="higher" if row == "exact" else "lower",
        margin=margin,
        label={"exact": "words read", "share": "edit distance, normalised", "edits": "edit distance"}[row]
        + (f" ({category})" if category else ""),
        about=about + (" Spaces count." if spaces else " Spaces, case and punctuation do not count."),
        items=tuple(words),
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rapidocr-onnxruntime")
    except PackageNotFoundError:
        return ""


def ocr_exact(
    words: Mapping[str, str],
    category: str = "",
    mode: Mode = "page",
    spaces: bool = False,
    picture: str = "",
    margin: float | None = None,
) -> Metric:
    """How often PP-OCR reads exactly the words asked for, in [0, 1].

    Args:
        words: item -> the words its picture should show; the metric is declared for these items.
        category: of the prompts, for the metric's name and label.
        mode: "page" finds lines first; "line" takes the whole picture for one.
        spaces: whether spaces count.
        picture: name of the picture array; empty: the first.
        margin: the largest difference that does not matter.

    Raises:
        ValueError: words that are empty.
    """
    about = "How often PP-OCRv4 reads exactly the words asked for."
    return _metric("ocr_exact", "exact", words, category, mode, spaces, picture, margin, about)


def ocr_distance(
    words: Mapping[str, str],
    category: str = "",
    mode: Mode = "page",
    spaces: bool = False,
    picture: str = "",
    margin: float | None = None,
) -> Metric:
    """Edit distance between the words asked for and those PP-OCR reads, over the longer length, in [0, 1]; as `ocr_exact`."""
    about = "Edits between the words asked for and those PP-OCRv4 reads, over the longer length; 1 where nothing is read."
    return _metric("ocr_distance", "share", words, category, mode, spaces, picture, margin, about)


def ocr_edits(
    words: Mapping[str, str],
    category: str = "",
    mode: Mode = "page",
    spaces: bool = False,
    picture: str = "",
    margin: float | None = None,
) -> Metric:
    """Edit distance between the words asked for and those PP-OCR reads, in characters; as `ocr_exact`."""
    about = "Edits between the words asked for and those PP-OCRv4 reads, in characters."
    return _metric("ocr_edits", "edits", words, category, mode, spaces, picture, margin, about)


METRICS = {"ocr_exact": ocr_exact, "ocr_distance": ocr_distance, "ocr_edits": ocr_edits}
