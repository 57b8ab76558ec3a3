"""DPG-Bench: dependencies, categories and the published program's slips, on a table of seven questions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import originals
import pytest

from diptych.files import png
from diptych.metrics.benchmarks.dpg import DPG, Question, judged, load, stitched
from diptych.metrics.benchmarks.t2i import Table, reported, table
from diptych.metrics.benchmarks.t2i_files import pixels_of

HEAD = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
QUESTIONS = [
    # item, number, depends on, tuple
    ("p1", 1, "0", "entity - whole (dog)"),
    ("p1", 2, "1", "attribute - color (dog, red)"),
    ("p1", 3, "1, 2", "relation - spatial (dog, on, mat)"),
    ("p2", 1, "0", "entity - whole (cat)"),
    ("p2", 2, "0", "attribute - size (cat, big)"),
    ("p2", 3, "1", "entity - part (cat, tail)"),
    ("p2", 4, "3", "attribute - color (tail, black)"),
]
TEXTS = {"p1": 'a red dog, "Rex",\non a mat', "p2": "a big cat"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "dpg_bench.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(HEAD.split(","))
        for item, number, parents, kind in QUESTIONS:
            rows.writerow([item, TEXTS[item], "", number, parents, kind.split(" ")[0], "", kind, f"Is it so, {number}?"])
    (tmp_path / "dpg_bench.json").write_text(json.dumps([["p2", TEXTS["p2"]], ["p1", TEXTS["p1"]]]))
    return tmp_path


def said(*words: str) -> dict:
    return {"answers": {str(n): word for n, word in enumerate(words, 1)}}


ALL = {  # by quarter
    "p1": [said("yes", "yes", "yes"), said("no", "yes", "yes"), said("yes", "no", "yes"), said("yes", "yes", "no")],
    "p2": [
        said("yes", "yes", "yes", "yes"),
        said("no", "no", "no", "no"),
        said("no", "yes", "yes", "yes"),
        said("yes", "no", "no", "yes"),
    ],
}
ANSWERS = {f"{item}.png#{k}": answer for item, held in ALL.items() for k, answer in enumerate(held)}


def values(made: Table, prompts: tuple) -> dict[str, float]:
    ones = np.ones((1, len(made.rows)))
    return {s.name: float(s.reduce(made.cells)(made.rows, ones)[0]) for s in reported(DPG, prompts, made.cells)}


def test_questions_fall_with_what_they_depend_on():
    chain = (Question(1, (), "", ""), Question(2, (1,), "", ""), Question(3, (2,), "", ""))
    assert judged(chain, {1: 0.0, 2: 1.0, 3: 1.0}) == {1: 0, 2: 0, 3: 0}  # through what fell itself
    assert judged(chain, {1: 1.0, 2: 0.0, 3: 1.0}) == {1: 1, 2: 0, 3: 0}
    late = (Question(1, (2,), "", ""), Question(2, (3,), "", ""), Question(3, (), "", ""))
    assert judged(late, {1: 1.0, 2: 1.0, 3: 0.0}) == {
        1: 1,
        2: 0,
        3: 0,
    }  # in the order of the file: 1 was looked at before 2 fell


def test_the_score_is_the_mean_over_quarters_and_prompts(folder: Path):
    prompts = DPG.read([folder / "dpg_bench.csv", folder / "dpg_bench.json"])
    assert [prompt.item for prompt in prompts] == ["p2", "p1"] and prompts[1].text == TEXTS["p1"]
    made = table(DPG, prompts, ANSWERS)
    # p1: (1,1,1), (0,0,0), (1,0,0), (1,1,0) -> 1, 0, 1/3, 2/3: mean 1/2
    # p2: (1,1,1,1), (0,0,0,0), (0,1,0,0), (1,0,0,0) -> 1, 0, 1/4, 1/4: mean 3/8
    found = values(made, prompts)
    assert found["overall"] == pytest.approx(100 * (1 / 2 + 3 / 8) / 2)
    # all quarters, with dependencies: dog 3/4, cat 2/4, tail 1/4 -> entity 6/12; colours: dog 2/4, tail 1/4, size 2/4 -> 5/12
    assert found["entity"] == pytest.approx(50) and found["attribute"] == pytest.approx(100 * 5 / 12)
    assert found["relation"] == pytest.approx(25) and found["entity - whole"] == pytest.approx(100 * 5 / 8)
    assert found["attribute - color"] == pytest.approx(100 * 3 / 8)


def test_upstream_loses_the_first_question_and_with_it_the_first_prompt(folder: Path):
    prompts = DPG.read([folder / "dpg_bench.csv"])
    made = table(DPG, prompts, ANSWERS, mode="upstream")
    assert made.dropped == 4 and {unit.item for unit in made.units} == {"p2"}  # p1's other questions depend on its first
    found = values(made, prompts)
    assert found["overall"] == pytest.approx(100 * 3 / 8)
    # the plain answers of p2's last quarter alone: yes, no, no, yes
    assert found["entity"] == 50 and found["attribute"] == 50 and found["attribute - color"] == 100 and "relation" not in found


def test_upstream_scores_a_first_prompt_that_does_not_need_its_first_question(folder: Path):
    path = folder / "dpg_bench.csv"
    path.write_text(path.read_text().replace("p1,", "p3,").replace('"1, 2"', "2").replace(",2,1,", ",2,0,"))
    prompts = DPG.read([path])
    answers = {name.replace("p1", "p3"): answer for name, answer in ANSWERS.items()}
    made = table(DPG, prompts, answers, mode="upstream")
    rows = {unit: row[0] for unit, row in zip(made.units, made.rows, strict=True) if unit.item == "p3"}
    # questions 2 and 3 alone: (1,1), (1,1), (0,0), (1,0)
    assert [rows[unit] for unit in sorted(rows)] == [1.0, 1.0, 0.0, 0.5] and made.dropped == 0


def test_yes_means_yes(folder: Path):
    prompts = DPG.read([folder / "dpg_bench.csv"])
    odd = {**ANSWERS, "p1.png#0": said("Yes.", "YES", " yes "), "p1.png#3": said("yes", "red", "yes it is")}
    fixed, upstream = (table(DPG, prompts, odd, mode=mode) for mode in ("fixed", "upstream"))
    assert fixed.rows[0, 0] == 1.0 and fixed.rows[3, 0] == pytest.approx(1 / 3)
    assert upstream.dropped == 4
    path = folder / "dpg_bench.csv"
    free = DPG.read([Path(path)])[1:]
    strict = table(DPG, free, {**ANSWERS, "p2.png#0": said("Yes", "yes", "yes", "yes")}, mode="upstream")
    assert strict.rows[0, 0] == 0.25  # "Yes" is not "yes" there: 1 falls, 3 with it, 4 with that


def test_what_is_missing_is_an_error_or_counted(folder: Path):
    prompts = DPG.read([folder / "dpg_bench.csv"])
    short = {**ANSWERS, "p2.png#1": said("no", "no")}
    with pytest.raises(ValueError, match=r"p2.png#1 \(question 3 is not answered\)"):
        table(DPG, prompts, short)
    counted = table(DPG, prompts, {k: v for k, v in ANSWERS.items() if k != "p1.png#0"}, missing="worst")
    assert counted.missing == ("p1.png#0",) and values(counted, prompts)["overall"] == pytest.approx(100 * (1 / 4 + 3 / 8) / 2)
    assert values(counted, prompts)["relation"] == 0.0
    assert table(DPG, prompts[1:], short, mode="upstream", images=1).dropped == 0


def test_grids_are_cut_and_joined(tmp_path: Path, folder: Path):
    quarters = [np.full((6, 8, 3), value, np.uint8) for value in (10, 60, 120, 250)]
    grid = stitched(quarters)
    assert grid.shape == (12, 16, 3)
    prompt = DPG.read([folder / "dpg_bench.csv"])[1]
    (tmp_path / "p2.png").write_bytes(png(grid))
    for k, expected in enumerate(quarters):
        data = load(tmp_path, prompt, k)
        assert data is not None and np.array_equal(pixels_of(data), expected)
    (tmp_path / "p2.png").unlink()
    assert load(tmp_path, prompt, 0) is None
    (tmp_path / "00001" / "samples").mkdir(parents=True)
    (tmp_path / "00001" / "samples" / "00003.png").write_bytes(png(quarters[3]))
    assert load(tmp_path, prompt, 3) == png(quarters[3])
    with pytest.raises(ValueError, match="4 pictures of one size"):
        stitched(quarters[:3])


def test_files_that_do_not_fit(folder: Path):
    path = folder / "dpg_bench.csv"
    with pytest.raises(ValueError, match=r"takes dpg_bench.csv"):
        DPG.read([folder / "dpg_bench.json"])
    (folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'item_id'"):
        DPG.read([folder / "other.csv"])
    (folder / "other.json").write_text('[["p9", "x"]]')
    with pytest.raises(ValueError, match="1 prompts have no questions, the first 'p9'"):
        DPG.read([path, folder / "other.json"])
    path.write_text(path.read_text().replace(",4,3,", ",4,9,"))
    with pytest.raises(ValueError, match="depend on one that is not there"):
        DPG.read([path])


@originals.needed
def test_the_published_prompts_are_ordered_by_their_list(tmp_path: Path):
    listed = json.loads((originals.FOLDER / "dpg_bench.json").read_text())
    with (tmp_path / "all.csv").open("w", newline="") as handle:  # the published questions are not here: one each instead
        rows = csv.writer(handle)
        rows.writerow(HEAD.split(","))
        rows.writerows([item, text, "", 1, "0", "", "", "global - (x)", "Is it?"] for item, text in sorted(listed))
    prompts = DPG.read([tmp_path / "all.csv", originals.FOLDER / "dpg_bench.json"])
    assert len(prompts) == 1065 and len(DPG.units(prompts)) == 4260
    assert [(one.item, one.text) for one in prompts] == [tuple(row) for row in listed]
