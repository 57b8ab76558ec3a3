"""Two benchmarks that need no judge from outside, for small models: drawn shapes found exactly, written words read by PP-OCR.

Their prompts, rules and pictures' names are GenEval's and LongText-Bench's; only what the pictures show is simpler
(`data/shapes.py`, `data/words.py`). Each comes with the ceiling that a perfect model would reach: the judge's own score on
pictures drawn from the prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from diptych.data import shapes, words
from diptych.metrics.benchmarks import geneval, longtext
from diptych.metrics.benchmarks.local_judges import Ocr, Shapes
from diptych.metrics.benchmarks.t2i import Benchmark, Judge, Prompt, Task, table
from diptych.metrics.benchmarks.t2i_files import json_lines, one_path, png_of

OVERLAP = 0.7
"""Detections count above it, for every tag; at 64 pixels a clean shape overlaps its template by 0.84 or more."""
PROMPTS = 40
"""Of every tag, or number of lines, where no file of prompts is given."""

RULES = geneval.Rules(score=OVERLAP, counting=OVERLAP)


def shape_prompts(count: int = PROMPTS, split: shapes.Split = "train", seed: int = 0) -> tuple[Prompt, ...]:
    """`count` prompts of each of GenEval's tags; "novel" asks for pairs of shape and colour that training never shows."""
    return _named(geneval.parse(shapes.prompts(count, split, seed), "micro_geneval"), f"shapes-{split}")


def word_prompts(count: int = PROMPTS, split: words.Split = "train", seed: int = 0) -> tuple[Prompt, ...]:
    """`count` prompts of one, two and three lines; "novel" asks for words that training never writes."""
    return _named(longtext.parse(words.prompts(count, split, seed), "micro_longtext"), f"words-{split}")


def _named(prompts: Sequence[Prompt], prefix: str) -> tuple[Prompt, ...]:
    """Ids that stay apart from those of the other prompts in one study."""
    return tuple(replace(prompt, item=f"{prefix}-{prompt.item}") for prompt in prompts)


def _read_shapes(split: shapes.Split, paths: Sequence[Path]) -> tuple[Prompt, ...]:
    return geneval.read(paths) if paths else shape_prompts(split=split)


def _read_words(split: words.Split, paths: Sequence[Path]) -> tuple[Prompt, ...]:
    if not paths:
        return word_prompts(split=split)
    path = one_path(paths, "micro_longtext", "a file of prompts in LongText-Bench's format")
    return longtext.parse(json_lines(path), str(path))


def _shapes(split: shapes.Split) -> Benchmark:
    return Benchmark(
        name="micro_geneval" if split == "train" else f"micro_geneval_{split}",
        label="micro-GenEval" if split == "train" else f"micro-GenEval, {split} pairs",
        about="How often drawn shapes are as many, as coloured and where asked, by an exact detector; the mean of six tags.",
        judge="the detector of drawn shapes",
        images=4,
        read=partial(_read_shapes, split),
        file=geneval.file,
        row=partial(geneval.row, RULES),
        worst=geneval.worst,
        scores=geneval.scores,
    )


def _words(split: words.Split) -> Benchmark:
    return Benchmark(
        name="micro_longtext" if split == "train" else f"micro_longtext_{split}",
        label="micro-LongText" if split == "train" else f"micro-LongText, {split} words",
        about="Share of the words asked for that PP-OCR reads from the picture, in [0, 1].",
        judge="PP-OCRv4",
        images=4,
        read=partial(_read_words, split),
        file=longtext.file,
        row=longtext.row,
        worst=longtext.worst,
        scores=longtext.scores,
    )


MICRO_GENEVAL, MICRO_GENEVAL_NOVEL = _shapes("train"), _shapes("novel")
MICRO_LONGTEXT, MICRO_LONGTEXT_NOVEL = _words("train"), _words("novel")


def true_shapes(prompts: Sequence[Prompt], size: int = 64) -> Iterator[tuple[Prompt, np.ndarray]]:
    """A picture of drawn shapes that fits each prompt."""
    for prompt in prompts:
        asked = prompt.detail
        clauses = [{"class": one.kind, "count": one.count, "color": one.colour} for one in asked.include]
        for clause, one in zip(clauses, asked.include, strict=True):
            if one.relation:
                clause["position"] = [one.relation, one.other]
        yield prompt, shapes.draw(shapes.fitting({"include": clauses}, prompt.place), size)


def true_words(prompts: Sequence[Prompt], size: int = 64) -> Iterator[tuple[Prompt, np.ndarray]]:
    """A picture of written words that fits each prompt."""
    return ((prompt, words.draw(words.fitting({"text": prompt.detail}, prompt.place), size)) for prompt in prompts)


def corrupted(pixels: np.ndarray, blur: float, noise: float, seed: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 blurred by `blur` pixels (of 64 a side) and with noise of `noise` of the full range."""
    sigma = blur * len(pixels) / 64
    soft = ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0))
    rng = np.random.default_rng(seed)
    soft += 255 * noise * rng.standard_normal(soft.shape)
    return np.rint(soft).clip(0, 255).astype(np.uint8)


def ceiling(
    benchmark: Benchmark,
    prompts: Sequence[Prompt],
    size: int = 64,
    blur: float = 0.0,
    noise: float = 0.0,
) -> float:
    """The overall score of right pictures, as they are drawn or corrupted: what the judge lets a perfect model reach.

    Raises:
        ValueError: a benchmark that is none of the micro ones.
    """
    drawn: Callable[[Sequence[Prompt], int], Iterator[tuple[Prompt, np.ndarray]]]
    judge: Judge
    if benchmark in (MICRO_GENEVAL, MICRO_GENEVAL_NOVEL):
        drawn, judge = true_shapes, Shapes()
    elif benchmark in (MICRO_LONGTEXT, MICRO_LONGTEXT_NOVEL):
        drawn, judge = true_words, Ocr()
    else:
        raise ValueError(f"{benchmark.name}: its right pictures cannot be drawn; only the micro benchmarks' can")
    tasks = [
        Task(prompt, 0, partial(png_of, corrupted(pixels, blur, noise, n)))
        for n, (prompt, pixels) in enumerate(drawn(prompts, size))
    ]
    answers = {benchmark.file(task.prompt, 0): answer for task, answer in judge(tasks)}
    made = table(benchmark, prompts, answers, images=1)
    return float(benchmark.scores(prompts)[0].reduce(made.cells)(made.rows, np.ones((1, len(made.rows))))[0])
