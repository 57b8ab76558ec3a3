"""Verdicts: the truth table, the families, the joins, and the words."""

import json

import numpy as np
import pytest

from diptych.compare.measure import Table
from diptych.compare.tables import read_rows
from diptych.compare.verdict import Cell, scored, verdicts
from diptych.compare.wording import format_value
from diptych.metrics import base
from diptych.study import Arm, Comparison, Metric, Unit

ITEMS = tuple(f"item {i:02d}" for i in range(40))


def never(*_):
    raise AssertionError("nothing is sampled or measured here")


def table(values, items=ITEMS, seeds=(0,), replica=None):
    units = tuple(Unit(item, seed) for item in items for seed in seeds)
    return Table(units, np.asarray(values, dtype=float).reshape(len(units), -1), replica)


def study(arms, metrics=None, items=ITEMS, **options):
    """A comparison of arms named like `arms`, the first the baseline, and its verdicts."""
    metrics = metrics or (Metric("score", never),)
    held = {name: value if isinstance(value, dict) else {"score": [value]} for name, value in arms.items()}
    options = {"seeds": (0,), "resamples": 1_000, "primary": metrics[0].name} | options
    extra = {key: options.pop(key) for key in ("again", "other_seed", "reference") if key in options}
    made = options.pop("made", None) or tuple(Arm(name, never) for name in arms)
    comparison = Comparison("study", items, arms=made, metrics=metrics, baseline=next(iter(arms)), **options)
    report = verdicts(comparison, held, **extra)
    return {(cell["arm"], cell["metric"]): Cell(**cell) for cell in report["cells"]}, report


def judged(shift, spread=1.0, *, count=40, better="higher", margin=None):
    """The cell of an arm whose rows differ from the baseline's by `shift` on average, with standard deviation `spread`."""
    noise = np.random.default_rng(1).standard_normal(count)
    noise = (noise - noise.mean()) / noise.std() * spread
    rows = np.random.default_rng(2).standard_normal(count) * 3
    metric = Metric("score", never, better=better, margin=margin)
    arms = {"old": table(rows, ITEMS[:count]), "new": table(rows + noise + shift, ITEMS[:count])}
    return study(arms, (metric,), ITEMS[:count])[0]["new", "score"]


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ({"shift": 1.0}, "better"),
        ({"shift": -1.0}, "worse"),
        ({"shift": 1.0, "better": "lower"}, "worse"),
        ({"shift": -1.0, "better": "lower"}, "better"),
        ({"shift": 1.0, "better": "none"}, "none"),
        ({"shift": 0.0}, "undecided"),  # the interval contains zero, and that is not equivalence
        ({"shift": 0.0, "margin": 0.1}, "undecided"),  # nor is a margin the interval does not fit into
        ({"shift": 0.0, "margin": 0.5}, "equivalent"),
        ({"shift": 0.4, "margin": 0.5}, "better"),  # reaches beyond the margin
        ({"shift": 0.2, "spread": 0.1, "margin": 0.5}, "equivalent"),  # a real difference that does not matter
        ({"shift": 1.0, "margin": 0.5}, "better"),
        ({"shift": 3.0, "count": 7}, "too few units"),
        ({"shift": 3.0, "count": 8}, "better"),
        ({"shift": 0.1, "spread": 0.0}, "better"),  # no unit varies
        ({"shift": 0.0, "spread": 0.0}, "identical"),
        ({"shift": 0.0, "spread": 0.0, "count": 3}, "identical"),
    ],
)
def test_truth_table(case, verdict):
    cell = judged(**case)
    assert cell.verdict == verdict
    assert cell.delta == pytest.approx(case["shift"], abs=1e-12)
    assert (cell.needed is not None) == (verdict == "undecided" and case["shift"] != 0) or case.get("margin")
    low, high = cell.interval
    assert low <= cell.delta <= high
    if verdict in ("better", "worse"):
        assert cell.p_adjusted < 0.05
        assert low > 0 or high < 0


def test_identical_arms_are_exactly_equal():
    cell = judged(0.0, 0.0)
    assert (cell.delta, cell.interval, cell.p) == (0.0, [0.0, 0.0], 1.0)


def test_a_real_difference_inside_the_margin_is_said_to_be_one():
    text = judged(0.2, 0.1, margin=0.5).sentence
    assert "inside the margin of 0.5: equivalent. There is a difference, but it is smaller than what matters." in text


def test_the_baseline_has_a_cell_without_a_difference():
    cells, _ = study({"old": table(np.arange(40)), "new": table(np.arange(40) + 1)})
    cell = cells["old", "score"]
    assert (cell.verdict, cell.delta, cell.interval, cell.p, cell.value) == ("baseline", None, None, None, 19.5)
    assert cell.value_interval[0] < 19.5 < cell.value_interval[1]


def test_needed_is_about_right():
    """Twice the spread needs four times the clusters."""
    one, two = judged(0.1).needed, judged(0.1, 2.0).needed
    assert one > 40
    assert two == pytest.approx(4 * one, rel=0.05)


# Families


def noisy(shift, seed, count=40):
    noise = np.random.default_rng(seed).standard_normal(count)
    return (noise - noise.mean()) / noise.std() + shift


def test_holm_over_arms_of_the_primary_metric():
    """p is about 0.03 for each arm: alone it decides, among four it does not."""
    rows = np.zeros(40)
    alone, _ = study({"old": table(rows), "new": table(noisy(0.36, 0))})
    many, _ = study({"old": table(rows)} | {f"new {i}": table(noisy(0.36, i)) for i in range(4)})
    cell = many["new 0", "score"]
    assert alone["new", "score"].verdict == "better"
    assert cell.p == alone["new", "score"].p
    assert cell.interval[0] > 0
    assert cell.verdict == "undecided"
    assert cell.p_adjusted == pytest.approx(4 * min(many[f"new {i}", "score"].p for i in range(4)), rel=0.5)
    assert "undecided after allowing for the other comparisons" in cell.sentence
    assert cell.needed > 40


def test_the_primary_metric_is_a_family_of_its_own():
    metrics = (Metric("score", never), *(Metric(f"other {i}", never) for i in range(9)))
    base_rows = {metric.name: [table(np.zeros(40))] for metric in metrics}
    rows = {metric.name: [table(noisy(0.36, i))] for i, metric in enumerate(metrics)}
    cells, _ = study({"old": base_rows, "new": rows}, metrics)
    assert cells["new", "score"].p_adjusted == cells["new", "score"].p
    assert cells["new", "score"].verdict == "better"
    others = [cells["new", f"other {i}"] for i in range(9)]
    assert min(cell.p_adjusted for cell in others) == pytest.approx(9 * min(cell.p for cell in others))
    assert {cell.verdict for cell in others} == {"undecided"}


# Drift


@pytest.mark.parametrize(
    ("level", "margin", "better", "verdict"),
    [
        (0.1, 0.5, "lower", "equivalent"),
        (0.9, 0.5, "lower", "worse"),
        (0.5, 0.5, "lower", "undecided"),
        (0.9, 0.5, "higher", "equivalent"),
        (0.1, 0.5, "higher", "worse"),
        (-0.9, 0.5, "none", "worse"),
        (0.1, 0.5, "none", "equivalent"),
        (0.1, None, "lower", "none"),
    ],
)
def test_drift_is_judged_against_its_margin(level, margin, better, verdict):
    metric = Metric("drift", never, against="baseline", margin=margin, better=better)
    rows = table(noisy(level / 0.05, 3) * 0.05)
    cells, _ = study({"old": {"drift": []}, "new": {"drift": [rows]}}, (metric,))
    cell = cells["new", "drift"]
    assert (cell.verdict, cell.delta, cell.interval, cell.p) == (verdict, None, None, None)
    assert cell.value == pytest.approx(level)
    assert (cells["old", "drift"].verdict, cells["old", "drift"].value) == ("baseline", None)
    assert (cell.needed is not None and cell.needed > 40) == (verdict == "undecided" and abs(level - margin) > 1e-12)


def test_no_drift_at_all_is_identity():
    metric = Metric("drift", never, against="baseline", margin=1.0, better="lower")
    cells, _ = study({"old": {"drift": []}, "new": {"drift": [table(np.zeros(40))]}}, (metric,))
    assert cells["new", "drift"].verdict == "identical"


# Joins


def test_rows_join_by_unit_in_any_order():
    rng = np.random.default_rng(0)
    seeds, values = (0, 1, 2), rng.standard_normal((2, 120))
    arms = {"old": table(values[0], seeds=seeds), "new": table(values[1], seeds=seeds)}
    shuffled = {}
    for name, held in arms.items():
        order = rng.permutation(120)
        shuffled[name] = Table(tuple(held.units[i] for i in order), held.rows[order])
    clusters = {item: f"group {i // 2}" for i, item in enumerate(ITEMS)}
    one, two = (study(held, seeds=seeds, clusters=clusters)[1] for held in (arms, shuffled))
    assert one == two
    assert one["units"] == {"count": 120, "items": 40, "seeds": [0, 1, 2], "clusters": 20}
    assert {cell["clusters"] for cell in one["cells"]} == {20}
    flipped, _ = study(shuffled, items=ITEMS[::-1], seeds=seeds, clusters=clusters)
    assert flipped["new", "score"].interval == one["cells"][1]["interval"]


def test_joins_reject_missing_doubled_and_undeclared_units_by_name():
    full = table(np.arange(40.0))
    short = table(np.arange(39.0), ITEMS[:-1])
    with pytest.raises(ValueError, match=r"arm 'new', metric 'score': 1 of 40 units have no row, the first is item 39#0"):
        study({"old": full, "new": short})
    doubled = Table((*full.units, full.units[3]), np.vstack([full.rows, full.rows[:1]]))
    with pytest.raises(ValueError, match=r"arm 'new', metric 'score': unit item 03#0 has two rows"):
        study({"old": full, "new": doubled})
    more = Table((*full.units, Unit("stranger", 0)), np.vstack([full.rows, full.rows[:1]]))
    with pytest.raises(ValueError, match=r"unit stranger#0 has a row, but is not among the 40 units declared"):
        study({"old": full, "new": more})
    holed = Table(full.units, np.where(full.rows == 5, np.nan, full.rows))
    with pytest.raises(ValueError, match=r"metric 'score', arm 'new': item 05#0 is nan"):
        study({"old": full, "new": holed})
    with pytest.raises(ValueError, match="arm 'new', metric 'score': 0 tables of rows for 1 arms"):
        study({"old": full, "new": {}})


def test_a_declared_subset_is_joined_on_itself():
    rows = np.arange(40.0)
    made = (Arm("old", never), Arm("new", never, items=ITEMS[10:30]))
    cells, report = study({"old": table(rows), "new": table(rows[10:30] + noisy(0, 1, 20), ITEMS[10:30])}, made=made)
    cell = cells["new", "score"]
    assert (cell.units, cell.clusters, cell.baseline_value) == (20, 20, rows[10:30].mean())
    assert cells["old", "score"].value == rows.mean()
    assert any("declared for 20 of 40 items" in text for text in report["warnings"])
    metric = Metric("score", never, items=ITEMS[:12])
    cells, _ = study({"old": table(rows[:12], ITEMS[:12]), "new": table(rows[10:12], ITEMS[10:12])}, (metric,), made=made)
    assert (cells["old", "score"].units, cells["new", "score"].units) == (12, 2)
    far = Metric("far", never, items=ITEMS[:5])
    cells, _ = study({"old": {"far": [table(rows[:5], ITEMS[:5])]}, "new": {"far": []}}, (far,), made=made)
    assert set(cells) == {("old", "far")}


# Levels, sets, replicas


def test_item_rows_and_a_median():
    metrics = (Metric("passed", never, level="item"), Metric("seconds", never, base.median, better="lower", unit="s"))
    rng = np.random.default_rng(0)
    passed, seconds = (rng.random(40) < 0.5) * 1.0, rng.uniform(1, 2, 160)
    arms = {
        "old": {"passed": [table(passed)], "seconds": [table(seconds, seeds=range(4))]},
        "new": {"passed": [table(np.ones(40))], "seconds": [table(seconds * 0.5, seeds=range(4))]},
    }
    cells, _ = study(arms, metrics, seeds=(0, 1, 2, 3))
    assert (cells["new", "passed"].units, cells["new", "passed"].verdict) == (40, "better")
    assert cells["new", "passed"].value_interval[1] == 1.0
    assert (cells["new", "seconds"].units, cells["new", "seconds"].clusters) == (160, 40)
    assert cells["new", "seconds"].verdict == "better"
    assert cells["new", "seconds"].value == np.median(seconds * 0.5)


def test_a_set_metric_is_held_against_its_reference():
    rng = np.random.default_rng(0)
    a, there = rng.standard_normal((40, 3)), rng.standard_normal((60, 3))
    metric = Metric("frechet", never, base.frechet, better="lower", against="set", level="set", resamples=200)
    reference = {"frechet": Table(tuple(Unit(f"item {i:02d}") for i in range(60)), there)}
    arms = {"old": {"frechet": [table(a)]}, "far": {"frechet": [table(a + 1)]}, "same": {"frechet": [table(a.copy())]}}
    cells, _ = study(arms, (metric,), reference=reference)
    assert (cells["far", "frechet"].verdict, cells["far", "frechet"].method) == ("worse", "t")
    assert cells["same", "frechet"].verdict == "identical"
    assert cells["old", "frechet"].value == pytest.approx(base.frechet(a, np.ones((1, 40)), there, np.ones((1, 60)))[0])
    with pytest.raises(ValueError, match="no rows of a reference set"):
        study(arms, (metric,))


def replicas(count, effect, first=0):
    """Two recipes trained `count` times each: items alike, training seeds far apart."""
    items = np.random.default_rng(9).standard_normal(40)
    training = np.random.default_rng(8).standard_normal((2, 20))
    groups, made = {}, []
    for g, name in enumerate(("old", "new")):
        rows = [items + training[g, r] + g * effect for r in range(first, first + count)]
        groups[name] = {"score": [table(x, replica=r) for r, x in enumerate(rows)]}
        made += [Arm(f"{name} {r}", never, replica=r, group=name) for r in range(count)]
    return groups, tuple(made), training


def test_a_recipe_claim_is_about_training_seeds():
    arms, made, training = replicas(6, 0.3)
    cells, report = study(arms, made=made, claim="recipe")
    cell = cells["new", "score"]
    deltas = training[1, :6] + 0.3 - training[0, :6]
    assert (report["claim"], cell.method, cell.clusters) == ("recipe", "replica-t", 6)
    assert (cell.verdict == "better") == (cell.p_adjusted < 0.05)
    assert cell.delta == pytest.approx(deltas.mean())
    assert cell.interval[1] - cell.interval[0] == pytest.approx(2 * 2.5706 * deltas.std(ddof=1) / np.sqrt(6), rel=1e-4)
    assert "training seeds" in cell.sentence
    spread = {(entry["arm"], entry["metric"]): entry["spread"] for entry in report["floors"]["replicas"]}
    assert spread["old", "score"] == pytest.approx(training[0, :6].std(ddof=1))
    assert report["warnings"] == []


def test_with_too_few_training_seeds_it_is_a_claim_about_checkpoints():
    arms, made, training = replicas(3, 0.3)
    cells, report = study(arms, made=made, claim="recipe")
    cell = cells["new", "score"]
    assert (report["claim"], cell.clusters) == ("checkpoint", 40)
    assert cell.delta == pytest.approx((training[1, :3] - training[0, :3]).mean() + 0.3)
    assert "about these checkpoints alone" in report["warnings"][0]


def test_recipes_of_different_training_seeds_are_not_paired():
    arms, made, _ = replicas(6, 0.3)
    arms["new"]["score"] = [Table(t.units, t.rows, t.replica + 10) for t in arms["new"]["score"]]
    made = tuple(Arm(arm.name, never, replica=arm.replica + 10 * (arm.group == "new"), group=arm.group) for arm in made)
    cells, _ = study(arms, made=made, claim="recipe")
    paired, _ = study(*replicas(6, 0.3)[:1], made=replicas(6, 0.3)[1], claim="recipe")
    assert cells["new", "score"].delta == pytest.approx(paired["new", "score"].delta)
    assert cells["new", "score"].interval != paired["new", "score"].interval


# The rest of the report


def test_floors_and_the_warning_they_give():
    rows = np.random.default_rng(0).standard_normal(40)
    drift = Metric("drift", never, against="baseline", better="lower")
    arms = {
        "old": {"score": [table(rows)], "drift": []},
        "new": {"score": [table(rows + 0.01)], "drift": [table(np.full(40, 0.3))]},
    }
    quarter = ITEMS[::4]
    again = {
        "score": (table(rows[::4], quarter), table(rows[::4] + 0.02, quarter)),
        "drift": (None, table(np.linspace(0, 0.1, 10), quarter)),
    }
    other = {"drift": table(np.full(10, 0.7), quarter)}
    cells, report = study(arms, (Metric("score", never), drift), again=again, other_seed=other)
    floors = report["floors"]
    assert floors["aa"][0] == {
        "metric": "score",
        "delta": pytest.approx(0.02),
        "interval": pytest.approx([0.02, 0.02]),
        "largest": pytest.approx(0.02),
    }
    assert (floors["aa"][1]["delta"], floors["aa"][1]["largest"]) == (pytest.approx(0.05), 0.1)
    assert floors["other_seed"] == [{"metric": "drift", "value": pytest.approx(0.7), "interval": pytest.approx([0.7, 0.7])}]
    assert cells["new", "score"].verdict == "better"
    assert report["warnings"] == ["new, score: called better, but the baseline run again in another batch size moves as much."]


def test_the_report_is_json_and_has_an_lm_eval_block():
    rows = (np.arange(40) % 4 == 0) * 1.0
    _, report = study({"old": table(rows), "new": table(1 - rows)})
    text = json.dumps(report, allow_nan=False)
    assert set(json.loads(text)) == {"claim", "units", "cells", "floors", "warnings", "results"}
    assert report["results"]["old"]["score,none"] == 0.25
    assert report["results"]["old"]["score_stderr,none"] == pytest.approx(np.sqrt(0.25 * 0.75 / 40), rel=0.03)
    assert report["results"]["old"]["alias"] == "old"


def test_a_few_items_are_warned_of():
    rows = np.arange(4.0)
    cells, report = study({"old": table(rows, ITEMS[:4]), "new": table(rows**2, ITEMS[:4])}, items=ITEMS[:4])
    assert cells["new", "score"].verdict == "too few units"
    assert report["warnings"] == ["Only 4 clusters: at least 8 are needed for a verdict."]


def test_a_table_of_scores_is_judged(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["arm,metric,item,seed,value"]
    for arm, shift in (("old", 0.0), ("new", -0.5)):
        for i in range(30):
            for seed in (0, 1):
                value = (i * 7 + seed) % 10 + shift + rng.standard_normal() / 10
                lines += [f"{arm},quality,q{i},{seed},{value}"]
            lines.append(f"{arm},votes,q{i},,{i % 3}")
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines))
    scores = read_rows([path])
    comparison = scored(scores, name="scores", baseline="old", margins={"votes": 0.5}, better={"quality": "lower"})
    assert (comparison.primary, comparison.claim, len(comparison.units)) == ("quality", "checkpoint", 60)
    report = verdicts(comparison, scores)
    found = {(cell["arm"], cell["metric"]): (cell["verdict"], cell["units"], cell["clusters"]) for cell in report["cells"]}
    assert found["new", "quality"] == ("better", 60, 30)
    assert found["new", "votes"] == ("identical", 30, 30)
    with pytest.raises(ValueError, match="baseline 'odl' is not in the scores; there is old, new"):
        scored(scores, name="scores", baseline="odl")
    path.write_text("\n".join(lines[:-2]))
    short = read_rows([path])
    with pytest.raises(ValueError, match=r"arm 'new', metric 'quality': 1 of 60 units have no row, the first is q29#1"):
        verdicts(scored(short, name="scores", baseline="old"), short)


# Words


def test_a_sentence_reads_as_a_person_would_say_it():
    rng = np.random.default_rng(4)
    rows = (rng.random(400) < 0.6) * 100.0
    worse = rows * (rng.random(400) > 0.08)
    items = tuple(f"item {i:03d}" for i in range(400))
    made = (Arm("heun", never, label="Heun-20"), Arm("euler", never, label="Euler"))
    metric = Metric("acc", never, unit="%", label="retrieval accuracy")
    arms = {"heun": {"acc": [table(rows, items)]}, "euler": {"acc": [table(worse, items)]}}
    cells, _ = study(arms, (metric,), items, made=made)
    cell = cells["euler", "acc"]
    low, high = cell.interval
    assert cell.sentence == (
        f"Euler's retrieval accuracy is {-cell.delta:.1f} points lower than Heun-20's "
        f"(95 % interval {low:.1f} to {high:.1f}): worse."
    )
    assert cells["heun", "acc"].sentence.startswith(f"Heun-20's retrieval accuracy is {rows.mean():.1f} % (95 % interval ")


@pytest.mark.parametrize(
    ("value", "unit", "spread", "text"),
    [
        (0.123456, "", None, "0.123"),
        (12.3456, "dB", None, "12.3 dB"),
        (1234.5678, "", None, "1,235"),
        (3.0, "s", None, "3 s"),
        (12.3456, "dB", 0.021, "12.346 dB"),
        (0.4, "%", 17.0, "0 %"),
        (-0.001, "", 0.5, "0.00"),
        (2_340_000_000, "bytes", None, "2.34 GB"),
        (512, "bytes", None, "512 bytes"),
        (3.2e-6, "", None, "3.20e-06"),
        (0.0, "m", 0.01, "0.000 m"),
        (None, "m", None, "n/a"),
        (float("inf"), "m", None, "n/a"),
    ],
)
def test_format_value(value, unit, spread, text):
    assert format_value(value, unit, spread) == text
