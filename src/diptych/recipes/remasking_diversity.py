"""Quality beside diversity, raw and true, and what a change of raw diversity is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diptych.compare.numbers import number
from diptych.compare.panels import figure, prose, table
from diptych.compare.plots import Mark, Series, cost_quality, lines
from diptych.compare.stats import Interval
from diptych.metrics.text import distinct, effective_number, pairs, pass_at_k, self_bleu, split_change
from diptych.recipes.remasking_arms import Cell, known, prompt_of
from diptych.recipes.remasking_field import Field, interval_of, told, weights

if TYPE_CHECKING:
    from diptych.recipes.remasking import Remasking


def _tables(field: Field, arm: str, cell: Cell) -> np.ndarray:
    """Pairs of samples a prompt, see `metrics.text.pairs`, (prompts, 5)."""
    answers, right = field.arrays(arm, "answer", cell), field.values(arm, "ok", cell) > 0
    return np.array([pairs(*rows) for rows in zip(answers, right)])


def change(field: Field, arm: str, plain: str, cell: Cell) -> list[Interval]:
    """The change of the chance that two samples are equal, and its parts; see `metrics.text.split_change`."""
    ours, theirs = _tables(field, arm, cell), _tables(field, plain, cell)
    weight = weights(len(ours))
    parts = split_change(weight @ ours, weight @ theirs)
    return [interval_of(column, len(ours)) for column in parts.T]


def collisions(field: Field, arm: str, plain: str, cell: Cell) -> Interval:
    """Difference of the chance that two right samples are equal."""
    weight = weights(len(field.values(arm, "ok", cell)))
    rates = []
    for name in (arm, plain):
        sums = weight @ _tables(field, name, cell)
        rates.append(np.where(sums[:, 1] > 0, sums[:, 3] / np.where(sums[:, 1] > 0, sums[:, 1], 1), 0.0))
    return interval_of(rates[0] - rates[1], weight.shape[1])


def diversity(field: Field, config: Remasking) -> str:
    """Quality beside diversity, raw and true, and where the change comes from."""
    warm = [t for t in config.temperatures if t > 0]
    if not warm or len(config.seeds) < 2:
        return ""
    out = []
    for task in config.judged():
        cell = Cell(task, config.shown(task)[-1], config.warm, config.seeds_of(task)[0])
        arms = [name for name in field.names if field.has(name, cell)]
        found = {name: figures_of(field, name, cell) for name in arms}
        uniform = found[arms[0]]["uniform"]
        rows = [
            (field.labels[name], *(number(one[key], digits) for key, digits in COLUMNS.items())) for name, one in found.items()
        ]
        head = ("decoder", *COLUMNS)
        plot = quality_plot(field, config, task, warm, found)
        parts = []
        for ours, plain in (("wino-0.5", "threshold-0.5"), ("wino-0.7", "threshold-0.7"), ("repair-0.5", "threshold-0.5")):
            parts.append((f"{field.labels[ours]} less {field.labels[plain]}", *map(told, change(field, ours, plain, cell))))
        title = f"{known(task).label}, block {cell.block}, T {cell.temperature:g}"
        even = (
            "" if uniform is None else f" Drawn evenly from all right answers, two samples are equal with chance {uniform:.3f}."
        )
        out.append(f'<h3 style="margin-top:26px">{title}</h3>' + plot)
        out.append(
            table(
                ("change in the chance that two samples are alike", "in all", "by validity", "among right", "among wrong"),
                parts,
            )
        )
        out.append(f"<details><summary>All decoders</summary>{table(head, rows, ABOUT + even)}</details>")
    return prose(
        "Raw diversity counts wrong answers as variety. So repeats are split: what a higher share of right answers does by "
        "itself, and what happens among right answers alone."
    ) + "".join(out)


COLUMNS = dict.fromkeys(("accuracy", "pass@n", "collision", "coverage", "effective", "distinct", "distinct-2", "self-BLEU"), 3)


ABOUT = (
    "Collision: chance that two right samples of a prompt are equal. Coverage: distinct right answers, of those that as many "
    "samples could find. Effective: the number of equally frequent right answers it amounts to. Distinct, distinct-2 and "
    "self-BLEU look at all samples, right or wrong."
)


def figures_of(field: Field, arm: str, cell: Cell) -> dict[str, float | None]:
    """Quality and diversity of a decoder at a cell."""
    from diptych.recipes.remasking import CountSolutions

    answers, right = field.arrays(arm, "answer", cell), field.values(arm, "ok", cell) > 0
    prompts, many = right.shape
    sums = _tables(field, arm, cell).sum(0)
    task, count = known(cell.task), CountSolutions()
    length = task.answer_length
    there = [count(cell.item(p)) for p in range(prompts)]
    free = [prompt_of(cell.item(p)) for p in range(prompts)]
    kept = [
        answers[p][:, :length] if task.given == "before" else answers[p][:, :length][:, free[p] == task.mask_id]
        for p in range(prompts)
    ]
    covered = [len(np.unique(answers[p][right[p]], axis=0)) for p in range(prompts)]
    numbers = [effective_number(answers[p][right[p]]) for p in range(prompts) if right[p].any()]
    return {
        "accuracy": float(right.mean()),
        "pass@n": float(pass_at_k(right.sum(1), many, many).mean()),
        "collision": float(sums[3] / sums[1]) if sums[1] else None,
        "coverage": sum(covered) / max(sum(min(n, many) for n in there), 1),
        "effective": float(np.mean(numbers)) if numbers else None,
        "distinct": float(np.mean([distinct(rows) for rows in kept])),
        "distinct-2": float(np.mean([distinct(rows, 2) for rows in kept])),
        "self-BLEU": float(np.mean([self_bleu(rows) for rows in kept[:64]])),
        "uniform": float(np.mean([1 / n for n in there if n])) if max(there) < count.most else None,
    }


PLOTTED = ("threshold-0.5", "threshold-0.9", "wino-0.5", "wino-0.7", "one", "order-entropy", "order-random")


def quality_plot(
    field: Field, config: Remasking, task: str, warm: Sequence[float], found: dict[str, dict[str, float | None]]
) -> str:
    """Accuracy over coverage: a line over temperatures where there are several, points where there is one."""
    shown = [name for name in PLOTTED if name in found]
    if len(warm) == 1:
        marks = []
        for name in shown:
            x, y = found[name]["coverage"], found[name]["accuracy"]
            if x and y is not None:
                marks.append((Mark(name, x), Mark(field.labels[name], y)))
        svg = cost_quality(marks, title="quality and diversity", x_title="coverage of the right answers", y_title="accuracy")
    else:
        series = []
        for name in shown[:6]:
            cells = [Cell(task, config.shown(task)[-1], t, config.seeds_of(task)[0]) for t in warm]
            held = [figures_of(field, name, cell) for cell in cells if field.has(name, cell)]
            x, y = ([float(one[key] or 0) for one in held] for key in ("coverage", "accuracy"))
            series.append(Series(field.labels[name], x, y))
        svg = lines(series, title="quality and diversity", x_title="coverage of the right answers", y_title="accuracy")
    over = f" A line runs over the temperatures {', '.join(f'{t:g}' for t in warm)}." if len(warm) > 1 else ""
    return figure(svg, "Quality and diversity", f"Up and to the right is better.{over}")
