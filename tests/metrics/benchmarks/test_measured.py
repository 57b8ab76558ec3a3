"""Scores with intervals over prompts, from a table and as metrics of a study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from diptych.compare.benchmark_scores import scored
from diptych.compare.run import run
from diptych.compare.stats import draw, interval, replicate
from diptych.data.shapes import draw as drawn
from diptych.data.shapes import fitting, prompts
from diptych.metrics.base import mean
from diptych.metrics.benchmarks import dpg, geneval
from diptych.metrics.benchmarks.local_judges import Shapes
from diptych.metrics.benchmarks.measured import Judged, metrics
from diptych.metrics.benchmarks.micro import MICRO_GENEVAL, shape_prompts
from diptych.metrics.benchmarks.t2i import Answer, Prompt, Table, Task
from diptych.study import Arm, Comparison, Samples, Unit

ASKED = shape_prompts(2)


@dataclass(frozen=True)
class Pictures:
    """Right pictures of the prompts, or those of the prompt before."""

    shift: int = 0

    def __call__(self, units: list[Unit]) -> Samples:
        rows = prompts(2)
        where = {prompt.item: prompt.place for prompt in ASKED}
        made = [fitting(rows[where[unit.item] - self.shift], 10 * where[unit.item] + unit.seed) for unit in units]
        return Samples(tuple(units), {"picture": np.stack([drawn(scene, 48) for scene in made])})


@dataclass(frozen=True)
class Blind:
    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        return ((task, {}) for task in tasks)


UNITS = [Unit(prompt.item, seed) for prompt in ASKED for seed in (0, 1)]


def test_rows_are_sums_and_counts_in_the_order_of_the_units():
    rows = Judged(MICRO_GENEVAL, ASKED, Shapes())
    made = rows(Pictures()(UNITS))
    assert rows.cells == geneval.TAGS and made.shape == (24, 12)
    assert made[:, 0::2].sum(0).tolist() == made[:, 1::2].sum(0).tolist() == [4] * 6
    backwards = rows(Pictures()(UNITS[::-1]))
    assert np.array_equal(backwards[::-1], made)


def test_metrics_are_declared_for_the_prompts_they_are_about():
    found = metrics(MICRO_GENEVAL, ASKED, Shapes(), {"overall": 0.05})
    assert [one.name for one in found] == ["micro_geneval", *(f"micro_geneval_{tag}" for tag in geneval.TAGS)]
    assert found[0].margin == 0.05 and found[1].margin is None and found[0].items == tuple(prompt.item for prompt in ASKED)
    counting = next(one for one in found if one.name.endswith("counting"))
    assert counting.items == tuple(prompt.item for prompt in ASKED if prompt.group == "counting")
    with pytest.raises(ValueError, match="margin of 'all': there are overall, single_object"):
        metrics(MICRO_GENEVAL, ASKED, Shapes(), {"all": 0.1})
    with pytest.raises(ValueError, match="item 'else' is none of its prompts"):
        found[0].rows(Samples((Unit("else"),), {"picture": np.zeros((1, 8, 8, 3), np.uint8)}), None)
    with pytest.raises(ValueError, match=r"about .*#0 cannot be read \(no list"):
        Judged(MICRO_GENEVAL, ASKED, Blind())(Pictures()(UNITS[:1]))


def test_a_comparison_judges_pictures_by_them(tmp_path: Path):
    comparison = Comparison(
        name="shapes",
        items=tuple(prompt.item for prompt in ASKED),
        seeds=(0, 1),
        arms=(Arm("right", Pictures()), Arm("wrong", Pictures(4))),
        metrics=metrics(MICRO_GENEVAL, ASKED, Shapes()),
        baseline="right",
        primary="micro_geneval",
        resamples=1000,
    )
    run(comparison, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    cells = {(cell["arm"], cell["metric"]): cell for cell in report["cells"]}
    assert cells["right", "micro_geneval"]["value"] == 1.0
    wrong = cells["wrong", "micro_geneval"]
    assert wrong["value"] < 0.4 and wrong["delta"] < -0.6 and wrong["verdict"] == "worse"
    parts = [cells["wrong", f"micro_geneval_{tag}"]["value"] for tag in geneval.TAGS]
    assert wrong["value"] == pytest.approx(np.mean(parts))


def test_intervals_resample_whole_prompts():
    asked = tuple(Prompt(f"p{n}", "x", "", n, None) for n in range(40))
    rng = np.random.default_rng(0)
    marks = np.repeat(rng.integers(0, 2, 40), 4).astype(float)  # the four pictures of a prompt agree wholly
    table = Table(
        tuple(Unit(f"p{n}", k) for n in range(40) for k in range(4)), ("prompts",), np.stack([marks, np.ones(160)], 1)
    )
    benchmark = dpg.DPG
    kinds = [score for score in scored(_plain(benchmark), asked, table, 2000) if score.score.name == "overall"]
    (one,) = kinds
    share = marks.mean()
    assert one.interval.value == pytest.approx(100 * share) and (one.prompts, one.pictures) == (40, 160)
    assert one.interval.se == pytest.approx(100 * np.sqrt(share * (1 - share) / 39), rel=1e-6)  # as 40 draws, not 160
    names = [f"p{n}" for n in range(40)]
    draws = draw(names, 2000)
    single = interval(replicate(mean, marks[::4, None], np.array([draws.names.index(name) for name in names]), draws))
    assert one.interval.pair == pytest.approx([100 * single.low, 100 * single.high])  # type: ignore[operator]


def _plain(benchmark):
    """DPG without categories: the prompts here have no questions."""
    from dataclasses import replace

    return replace(benchmark, scores=lambda asked: (dpg.Score("overall", ("prompts",), scale=100.0, top=100.0),))


def test_parts_are_estimated_over_their_own_prompts():
    asked = shape_prompts(8)
    rows = np.zeros((48, 12))
    rng = np.random.default_rng(1)
    for i, prompt in enumerate(asked):
        where = geneval.TAGS.index(prompt.group)
        rows[i, 2 * where : 2 * where + 2] = rng.integers(0, 2), 1
    made = scored(MICRO_GENEVAL, asked, Table(tuple(Unit(p.item) for p in asked), geneval.TAGS, rows), 1000)
    assert [(one.score.name, one.prompts) for one in made] == [("overall", 48), *((tag, 8) for tag in geneval.TAGS)]
    values = [rows[:, 2 * n].sum() / 8 for n in range(6)]
    assert [one.interval.value for one in made[1:]] == values and made[0].interval.value == pytest.approx(np.mean(values))
    assert made[0].interval.low is not None and made[0].interval.low < np.mean(values) < made[0].interval.high  # type: ignore[operator]
