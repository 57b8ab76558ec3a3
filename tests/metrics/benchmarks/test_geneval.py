"""GenEval's rules, each on boxes small enough to reckon by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import originals
import pytest

from diptych.metrics.benchmarks.geneval import GENEVAL, TAGS, Found, Rules, correct, iou, kept, objects_of, parse, relations
from diptych.metrics.benchmarks.t2i import Malformed, reported, table

BOX = (0.0, 0.0, 10.0, 10.0)


def objects(*rows: tuple) -> dict:
    """An answer of (class, score), (class, score, colour) or (class, score, colour, box) rows."""
    found = []
    for kind, score, colour, box in ((*row, "", BOX)[:4] if len(row) != 3 else (*row, BOX) for row in rows):
        found.append({"class": kind, "score": score, "box": list(box), **({"color": colour} if colour else {})})
    return {"objects": found}


def prompt(tag: str, *include: dict, exclude: tuple = ()) -> dict:
    return {"tag": tag, "include": list(include), **({"exclude": list(exclude)} if exclude else {}), "prompt": "a photo"}


def right(row: dict, answer: dict, mode: str = "fixed") -> float:
    (one,) = parse([row])
    ((above, below),) = GENEVAL.row(one, 0, answer, mode).values()  # type: ignore[arg-type]
    assert below == 1.0
    return above


DOG = prompt("single_object", {"class": "dog", "count": 1})
TWO = prompt("counting", {"class": "dog", "count": 2}, exclude=({"class": "dog", "count": 3},))
RED = prompt("colors", {"class": "car", "count": 1, "color": "red"})
BOTH = prompt("color_attr", {"class": "car", "count": 1, "color": "red"}, {"class": "dog", "count": 1, "color": "brown"})


def test_a_box_counts_above_its_threshold():
    assert right(DOG, objects(("dog", 0.31))) == 1
    assert right(DOG, objects(("dog", 0.3))) == 0  # above, not at
    assert right(DOG, objects(("cat", 0.99))) == 0
    assert right(TWO, objects(("dog", 0.91), ("dog", 0.92))) == 1
    assert right(TWO, objects(("dog", 0.91), ("dog", 0.9))) == 0  # counting asks for more than 0.9
    assert right(TWO, objects(("dog", 0.91), ("dog", 0.92), ("dog", 0.93))) == 0  # excluded: three
    assert right(TWO, objects(("dog", 0.91), ("dog", 0.92), ("dog", 0.5))) == 1  # the third is not sure enough
    assert right(TWO, objects(("dog", 0.91), ("dog", 0.92), ("cat", 0.99))) == 1


def test_colours_of_the_surest_boxes_decide():
    assert right(RED, objects(("car", 0.9, "red"), ("car", 0.8, "blue"))) == 1
    assert right(RED, objects(("car", 0.8, "red"), ("car", 0.9, "blue"))) == 0  # the surest car is blue
    assert right(BOTH, objects(("car", 0.9, "red"), ("dog", 0.9, "brown"))) == 1
    assert right(BOTH, objects(("car", 0.9, "brown"), ("dog", 0.9, "red"))) == 0
    two = prompt("colors", {"class": "car", "count": 2, "color": "red"})
    assert right(two, objects(("car", 0.9, "red"), ("car", 0.8, "red"))) == 1
    assert right(two, objects(("car", 0.9, "red"), ("car", 0.8, "pink"))) == 0


@pytest.mark.parametrize(
    ("a", "b", "holds"),
    [
        ((0, 0, 10, 10), (20, 0, 30, 10), {"left of"}),  # centres 5 and 25: offset -20, less 0.1 * 20 = 2: -18 / 20
        ((20, 0, 30, 10), (0, 0, 10, 10), {"right of"}),
        ((0, 0, 10, 10), (0, 20, 10, 30), {"above"}),
        ((0, 20, 10, 30), (0, 0, 10, 10), {"below"}),
        ((0, 0, 10, 10), (2, 0, 12, 10), set()),  # offset 2 is no more than the slack of 2
        ((0, 0, 10, 10), (4, 0, 14, 10), set()),  # (4 - 2) / 4 = 0.5 is not beyond one half
        ((0, 0, 10, 10), (5, 0, 15, 10), {"left of"}),  # (5 - 2) / 5 = 0.6
        ((0, 0, 10, 10), (20, 20, 30, 30), {"left of", "above"}),  # 18 / (20 sqrt 2) = 0.636 both ways
        ((0, 0, 10, 10), (20, 40, 30, 50), {"above"}),  # dx = 18 / 44.7 = 0.40, dy = 38 / 44.7 = 0.85
        ((0, 0, 100, 10), (0, 0, 10, 10), {"right of"}),  # centres 50, 5: 45 - 0.1 * 110 = 34, 34 / 45 = 0.76
        ((0, 0, 10, 10), (0, 0, 10, 10), set()),
    ],
)
def test_relations_of_boxes(a: tuple, b: tuple, holds: set):
    assert relations(a, b) == holds


def test_positions_hold_for_every_pair():
    left, middle, far = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
    row = prompt("position", {"class": "cup", "count": 1}, {"class": "dog", "count": 2, "position": ["left of", 0]})
    assert right(row, objects(("cup", 0.9, "", far), ("dog", 0.9, "", left), ("dog", 0.8, "", middle))) == 1
    assert right(row, objects(("cup", 0.9, "", middle), ("dog", 0.9, "", left), ("dog", 0.8, "", far))) == 0
    assert right(row, objects(("dog", 0.9, "", left), ("dog", 0.8, "", middle))) == 0  # nothing to be left of
    # the position is of the clause's own surest boxes; a third dog elsewhere does not matter
    assert (
        right(
            row,
            objects(("cup", 0.9, "", far), ("dog", 0.9, "", left), ("dog", 0.8, "", middle), ("dog", 0.4, "", (60, 0, 70, 10))),
        )
        == 1
    )


def test_a_clause_that_failed_has_nothing_to_be_beside():
    row = prompt(
        "position", {"class": "cup", "count": 1, "color": "red"}, {"class": "dog", "count": 1, "position": ["left of", 0]}
    )
    answer = objects(("cup", 0.9, "blue", (20, 0, 30, 10)), ("dog", 0.9, "", (0, 0, 10, 10)))
    fine, lacks = correct(parse([row])[0].detail, objects_of(answer, "position"))
    assert not fine and lacks == "0 of 1 cup are red"


def test_overlap_counts_both_ends_of_a_box():
    assert iou((0, 0, 9, 9), (0, 0, 9, 9)) == 1.0
    assert iou((0, 0, 9, 9), (5, 0, 14, 9)) == pytest.approx(50 / 150)  # ten wide each, five shared
    assert iou((0, 0, 9, 9), (9, 0, 18, 9)) == pytest.approx(10 / 190)  # one column shared
    assert iou((0, 0, 9, 9), (20, 0, 29, 9)) == 0.0


def test_suppression_is_off_unless_asked_for_and_sixteen_are_the_most():
    same = [Found(BOX, 0.5), Found(BOX, 0.6)]
    assert [one.score for one in kept(same, 0.3, Rules())] == [0.6, 0.5]
    assert [one.score for one in kept(same, 0.3, Rules(overlap=0.9))] == [0.6]
    many = [Found(BOX, 0.3 + 0.01 * n) for n in range(1, 31)]
    assert len(kept(many, 0.3, Rules())) == 16 and kept(many, 0.3, Rules())[0].score == pytest.approx(0.6)


def test_overall_is_the_mean_of_the_tags_not_of_the_pictures():
    prompts = parse([DOG, RED, RED | {"prompt": "b"}])
    answers = {GENEVAL.file(prompts[0], 0): objects(("dog", 0.9))}
    answers |= {GENEVAL.file(prompts[1], 0): objects(("car", 0.9, "blue"))}
    answers |= {GENEVAL.file(prompts[2], 0): objects(("car", 0.9, "red"))}
    made = table(GENEVAL, prompts, answers, images=1)
    found = {s.name: s.reduce(made.cells)(made.rows, np.ones((1, 3)))[0] for s in reported(GENEVAL, prompts, made.cells)}
    assert found == {"overall": 0.75, "single_object": 1.0, "colors": 0.5}  # (1 + 1/2) / 2, where pictures give 2/3
    weights = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]])  # resamples: the second holds no single_object at all
    overall = reported(GENEVAL, prompts, made.cells)[0]
    np.testing.assert_allclose(overall.reduce(made.cells)(made.rows, weights), [1.0, 0.5])


def test_missing_and_malformed_answers():
    prompts = parse([DOG, RED])
    answers = {"00000/samples/00000.png": objects(("dog", 0.9)), "00001/samples/00000.png": objects(("car", 0.9))}
    with pytest.raises(ValueError, match=r"1 of 2 .* 1 malformed.*no \"color\" of a car.*--missing worst"):
        table(GENEVAL, prompts, answers, images=1)
    counted = table(GENEVAL, prompts, answers, missing="worst", images=1)
    assert counted.malformed == ("00001/samples/00000.png",) and counted.rows.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]
    upstream = table(GENEVAL, prompts, answers, mode="upstream", images=1)
    assert upstream.dropped == 1 and len(upstream.rows) == 1
    with pytest.raises(ValueError, match=r"4 of 8 .*4 missing.*00001/samples/00000.png"):
        table(GENEVAL, prompts, {f"00000/samples/0000{k}.png": objects(("dog", 0.9)) for k in range(4)})
    with pytest.raises(ValueError, match="belong to no picture"):
        table(GENEVAL, prompts, {"00007/samples/00000.png": objects()}, images=1)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"objects": {}},
        {"objects": [{"class": "dog", "score": 0.9}]},
        {"objects": [{"class": "dog", "score": 0.9, "box": [1, 2, 3]}]},
        {"objects": [{"class": "dog", "score": float("nan"), "box": [1, 2, 3, 4]}]},
        {"objects": [{"class": "dog", "score": 0.9, "box": [1, 2, 3, 4], "color": "teal"}]},
    ],
)
def test_answers_that_are_none(answer: dict):
    with pytest.raises(Malformed):
        right(DOG, answer)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"tag": "colors", "include": []}, "is no GenEval prompt"),
        (DOG | {"tag": "shape"}, "none of single_object"),
        (prompt("position", {"class": "a", "count": 1, "position": ["near", 0]}), "cannot be checked"),
        (prompt("position", {"class": "a", "count": 1, "position": ["above", 0]}), "cannot be checked"),  # of itself
        (prompt("colors"), "cannot be checked"),
    ],
)
def test_prompts_that_are_none(row: dict, words: str):
    with pytest.raises(ValueError, match=words):
        parse([row])


def test_a_file_is_read_and_named(tmp_path: Path):
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (DOG, TWO)))
    prompts = GENEVAL.read([path])
    assert [GENEVAL.file(one, 2) for one in prompts] == ["00000/samples/00002.png", "00001/samples/00002.png"]
    assert prompts[1].detail.classes == ("dog",) and prompts[1].group == "counting"
    with pytest.raises(ValueError, match="takes one path"):
        GENEVAL.read([path, path])
    with pytest.raises(ValueError, match="does not exist"):
        GENEVAL.read([tmp_path / "none.jsonl"])


@originals.needed
def test_the_published_prompts():
    prompts = GENEVAL.read([originals.FOLDER / "geneval_metadata.jsonl"])
    counts = [sum(one.group == tag for one in prompts) for tag in TAGS]
    assert len(prompts) == 553 and counts == [80, 99, 80, 94, 100, 100]
    assert len(GENEVAL.units(prompts)) == 2212
    names = set((originals.FOLDER / "geneval_object_names.txt").read_text().split("\n")) - {""}
    assert {kind for one in prompts for kind in one.detail.classes} <= names and len(names) == 80
    perfect = {}
    for one in prompts:  # a picture that shows what is asked, by construction
        at = {"left of": (0, 200), "right of": (400, 200), "above": (200, 0), "below": (200, 400)}
        rows = []
        for clause in one.detail.include:
            x, y = at[clause.relation] if clause.relation else (200, 200)
            rows += [(clause.kind, 0.95, clause.colour, (x, y, x + 50, y + 50))] * clause.count
        perfect |= {GENEVAL.file(one, k): objects(*rows) for k in range(4)}
    made = table(GENEVAL, prompts, perfect)
    assert all(score.reduce(made.cells)(made.rows, np.ones((1, 2212)))[0] == 1.0 for score in GENEVAL.scores(prompts))
