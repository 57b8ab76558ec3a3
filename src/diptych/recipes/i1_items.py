"""What i1's small models are asked for, in which forms, and by what they are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diptych.data import shapes, words
from diptych.metrics.benchmarks import micro
from diptych.metrics.benchmarks.local_judges import Ocr, Shapes
from diptych.metrics.benchmarks.measured import metrics as scores
from diptych.metrics.benchmarks.t2i import Prompt
from diptych.recipes.quickstart import held_out, judged
from diptych.study import Metric, Samples

MARGINS = {"micro_geneval": 0.02, "micro_longtext": 0.02, "retrieval": 0.02, "flow_error": 0.005}
"""What does not matter; set before any network of an ablation was trained."""
REPEATS = (4, 12, 20)


@dataclass(frozen=True)
class Asked:
    """Prompts of one study.

    Args:
        shapes: prompts of micro-GenEval, of pairs seen in training.
        novel: of pairs that training never shows.
        words: of micro-LongText.
        emoji: item -> caption, held out (concept, style) pairs.
        forms: other forms of the shapes' prompts: name -> prompts whose ids end in @name.
        truth: item -> picture (64, 64, 3) uint8 that fits, for the flow error.
    """

    shapes: tuple[Prompt, ...]
    novel: tuple[Prompt, ...]
    words: tuple[Prompt, ...]
    emoji: Mapping[str, str]
    forms: Mapping[str, tuple[Prompt, ...]]
    truth: Mapping[str, np.ndarray]

    @property
    def captions(self) -> dict[str, str]:
        """item -> text, of everything."""
        others = [prompt for group in self.forms.values() for prompt in group]
        written = {prompt.item: prompt.text for prompt in (*self.shapes, *self.novel, *self.words, *others)}
        return written | dict(self.emoji)


def ask(shape_count: int, word_count: int, emoji_count: int, *, forms: bool = False) -> Asked:
    """Prompts fixed by their counts: `shape_count` a tag of GenEval, `word_count` a number of lines, `emoji_count` emoji.

    Args:
        forms: ask for shapes only, also with the prompt repeated 4, 12 and 20 times, and rewritten as a long caption by who
            knows a fitting scene.
    """
    asked = micro.shape_prompts(shape_count)
    if forms:
        known = {f"x{n}": tuple(_form(p, f"x{n}", " ".join([p.text] * n)) for p in asked) for n in REPEATS}
        rows = shapes.prompts(shape_count)
        dense = [shapes.dense(shapes.fitting(row, i)) for i, row in enumerate(rows)]
        known["rewritten"] = tuple(_form(p, "rewritten", text) for p, text in zip(asked, dense, strict=True))
        return Asked(asked, (), (), {}, known, _fitting(asked))
    novel, written = micro.shape_prompts(shape_count, "novel"), micro.word_prompts(word_count)
    emoji = held_out(emoji_count) if emoji_count else {}
    drawn = _fitting(asked) | {p.item: words.draw(words.fitting({"text": p.detail}, i)) for i, p in enumerate(written)}
    return Asked(asked, novel, written, emoji, {}, drawn | _emoji(emoji))


def _form(prompt: Prompt, name: str, text: str) -> Prompt:
    return replace(prompt, item=f"{prompt.item}@{name}", text=text)


def _fitting(prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    return {prompt.item: picture for prompt, picture in micro.true_shapes(prompts)}


def _emoji(items: Mapping[str, str]) -> dict[str, np.ndarray]:
    from diptych.data import emoji

    if not items:
        return {}
    pictures = emoji.load()
    where = {name: i for i, name in enumerate(pictures.ids)}
    return {item: pictures.pixels[where[item]] for item in items}


def measured(asked: Asked) -> tuple[Metric, ...]:
    """Metrics of a study, micro-GenEval first."""
    overall = {"overall": MARGINS["micro_geneval"]}
    found = [scores(micro.MICRO_GENEVAL, asked.shapes, Shapes(), overall)[0]]
    for name, prompts in asked.forms.items():
        one = scores(micro.MICRO_GENEVAL, prompts, Shapes(), overall)[0]
        found.append(replace(one, name=f"{one.name}_{name}", label=f"{one.label}, prompts {name}"))
    if asked.novel:
        found.append(scores(micro.MICRO_GENEVAL_NOVEL, asked.novel, Shapes(), overall)[0])
    if asked.words:
        found.append(scores(micro.MICRO_LONGTEXT, asked.words, Ocr(), {"overall": MARGINS["micro_longtext"]})[0])
    if len(asked.emoji) >= 2:
        metric = judged(asked.emoji, tuple(held_out().values()))
        found.append(replace(metric, items=tuple(asked.emoji), margin=MARGINS["retrieval"]))
    about = "Error of the predicted flow on pictures that fit the prompts, mean square over four times, the null text aside."
    items = tuple(asked.truth)
    margin = MARGINS["flow_error"]
    return (
        *found,
        Metric("flow_error", _flow_error, better="lower", margin=margin, label="flow error", about=about, items=items),
    )


def _flow_error(samples: Samples, reference: object = None) -> np.ndarray:
    return samples.trace["flow_error"][:, None]
