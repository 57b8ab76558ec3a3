"""Does a picture fit its caption: scored by a small image-text judge trained on other pictures than the generator's.

The judge is not CLIP: it knows emoji-like drawings. Its accuracy on real pictures, `ceiling`, belongs beside every score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.metrics.fidelity import pictures
from diptych.models import judge as judges
from diptych.study import Metric, Samples, Unit

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Candidates:
    """The captions every item's picture is held against: its own, and distractors that never change.

    Args:
        captions: (item, own caption) pairs.
        pool: captions that distractors are drawn from; ignored for items that `rivals` names.
        count: candidates an item, its own included.
        rivals: (item, distractors) pairs, for a choice among named alternatives.
    """

    captions: tuple[tuple[str, str], ...]
    pool: tuple[str, ...] = ()
    count: int = 100
    rivals: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @cached_property
    def by_item(self) -> dict[str, tuple[str, ...]]:
        """Candidates of every item, its own caption first."""
        rivals = dict(self.rivals)
        return {item: (own, *(rivals.get(item) or self.drawn(item, own))) for item, own in self.captions}

    def drawn(self, item: str, own: str) -> list[str]:
        """The count - 1 captions of the pool, other than the item's own, whose SHA-256 with the item id is smallest."""
        others = sorted(set(self.pool) - {own}, key=lambda text: hashlib.sha256(f"{item}\0{text}".encode()).digest())
        return others[: self.count - 1]


@dataclass(frozen=True)
class CaptionScores:
    """Rows from the judge's scores of an item's candidate captions, (N, 1).

    Args:
        judge: the judge's files.
        candidates: which captions.
        row: "best" = 1 where the own caption scores above every distractor, else 0; "margin" = own cosine minus the mean
            of the distractors', in [-2, 2].
        picture: name of the picture array; empty: the first.
    """

    judge: judges.JudgeFile
    candidates: Candidates
    row: Literal["best", "margin"] = "best"
    picture: str = ""

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """The sentence embedding of every caption in use, made once."""
        from diptych.models.text_encoder import TextEncoder

        texts = sorted({text for group in self.candidates.by_item.values() for text in group})
        return dict(zip(texts, TextEncoder.load(self.judge.network.config.text).embed(texts).numpy()))

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        groups = self.candidates.by_item
        missing = sorted({unit.item for unit in samples.units} - groups.keys())
        if missing:
            raise ValueError(
                f"metric: item {missing[0]!r} has no caption ({len(missing)} without); give captions for every item"
            )
        rows = np.empty((len(samples), 1))
        for i, (unit, seen) in enumerate(zip(samples.units, judges.embed(self.judge.network, pictures(samples, self.picture)))):
            own, *others = (float(np.dot(self.vectors[text], seen)) for text in groups[unit.item])
            rows[i, 0] = own > max(others) if self.row == "best" else own - np.mean(others)
        return rows


def candidate_set(captions: Mapping[str, str], pool: Sequence[str], count: int) -> Candidates:
    """Candidates drawn by hash from `pool`, or from the captions themselves where it is empty.

    Raises:
        ValueError: an empty caption, or a pool too small for `count`.
    """
    blank = [item for item, text in captions.items() if not text.strip()]
    if blank or not captions:
        raise ValueError(f"retrieval: captions: {f'that of item {blank[0]!r}' if blank else 'the mapping'} is empty")
    texts = tuple(sorted(set(pool or captions.values())))
    smallest = len(texts) - max(text in texts for text in captions.values()) + 1
    if not 2 <= count <= smallest:
        raise ValueError(f"retrieval: candidates={count} must lie in 2..{smallest}, what the pool of captions offers")
    return Candidates(tuple(sorted(captions.items())), texts, count)


def retrieval(
    captions: Mapping[str, str],
    pool: Sequence[str] = (),
    candidates: int = 100,
    weights: str | Path = "",
    picture: str = "",
    margin: float | None = None,
) -> Metric:
    """Caption retrieval accuracy, in [0, 1]: how often the judge ranks the picture's own caption first among `candidates`.

    Args:
        captions: item -> caption it was made from.
        pool: captions that distractors come from, e.g. those of all test prompts; empty: the captions given.
        candidates: captions a picture chooses among, its own included; chance is 1 / candidates. Fixed by hashing the item id
            and the text, so every arm and seed faces the same ones.
        weights: a judge's folder; empty: the shipped one.
        picture: name of the picture array; empty: the first.
        margin: the largest difference that does not matter.

    Raises:
        ValueError: an empty caption, or a pool too small.
    """
    return Metric(
        name="retrieval",
        rows=CaptionScores(
            judges.JudgeFile(judges.weights_file(weights)), candidate_set(captions, pool, candidates), "best", picture
        ),
        better="higher",
        margin=margin,
        label="caption retrieval",
        about=f"How often a small judge (not CLIP) ranks the own caption first of {candidates}; chance {1 / candidates:.3g}.",
    )


def choice(
    captions: Mapping[str, str], rivals: Mapping[str, Sequence[str]], name: str, weights: str | Path = "", picture: str = ""
) -> Metric:
    """How often the judge prefers the own caption to named alternatives, in [0, 1]; e.g. the same thing in other styles.

    Args:
        captions: item -> caption it was made from.
        rivals: item -> the other captions it is held against.
        name: the metric's name, e.g. "style".
        weights: a judge's folder; empty: the shipped one.
        picture: name of the picture array; empty: the first.

    Raises:
        ValueError: an item without rivals, or one that is its own rival.
    """
    for item, own in captions.items():
        others = rivals.get(item, ())
        if not others or own in others:
            raise ValueError(f"choice: rivals of item {item!r} are missing or hold its own caption; give at least one other")
    pairs = tuple((item, tuple(rivals[item])) for item in sorted(captions))
    return Metric(
        name=name,
        rows=CaptionScores(
            judges.JudgeFile(judges.weights_file(weights)),
            Candidates(tuple(sorted(captions.items())), rivals=pairs),
            "best",
            picture,
        ),
        better="higher",
        label=f"{name} accuracy",
        about=f"How often a small judge (not CLIP) prefers the own caption to {len(pairs[0][1])} named others.",
    )


def alignment(
    captions: Mapping[str, str],
    pool: Sequence[str] = (),
    candidates: int = 100,
    weights: str | Path = "",
    picture: str = "",
    margin: float | None = None,
) -> Metric:
    """Own caption's cosine less the mean cosine of the distractors, in [-2, 2]: the continuous companion of `retrieval`.

    Arguments and refusals as in `retrieval`.
    """
    return Metric(
        name="alignment",
        rows=CaptionScores(
            judges.JudgeFile(judges.weights_file(weights)), candidate_set(captions, pool, candidates), "margin", picture
        ),
        better="higher",
        margin=margin,
        label="caption margin",
        about=f"A small judge's cosine (not CLIP) with the own caption, less the mean of {candidates - 1} others.",
    )


def ceiling(metric: Metric, items: Sequence[str], pixels: np.ndarray) -> tuple[float, float, float]:
    """A retrieval or choice metric on real pictures, with its 95 % Wilson interval: what a perfect generator would score.

    Args:
        metric: rows of 0 and 1.
        items: item of every picture.
        pixels: real pictures, (N, H, W, 3) uint8.

    Returns:
        (accuracy, low, high).
    """
    units = tuple(Unit(item, n) for n, item in enumerate(items))
    hits = metric.rows(Samples(units, {"image": pixels}), None)[:, 0]
    n, p = len(hits), float(hits.mean())
    centre, half = p + Z95**2 / (2 * n), Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return p, float((centre - half) / (1 + Z95**2 / n)), float((centre + half) / (1 + Z95**2 / n))


METRICS = {"retrieval": retrieval, "choice": choice, "alignment": alignment}
