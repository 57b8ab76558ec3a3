"""The report page is rendered from a run folder's files alone and says what report.json says."""

import base64
import copy
import io
import json
import re
import shutil
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from diptych.compare import page_verdicts, pairs, report, store
from diptych.compare.page import page
from diptych.compare.pairs import Gallery
from diptych.compare.run import run as execute
from diptych.study import Arm, Comparison, Metric, Samples, Unit

COLOURS = {"red": "#d8352a", "blue": "#2563c9", "green": "#2f9e55", "yellow": "#f0b429"}
SHAPES = ("circle", "square", "triangle")
PAIRS_OF = [(a, b) for a in COLOURS for b in COLOURS if a != b]
ITEMS = tuple(f"scene-{k:02d}" for k in range(24))
CAPTIONS = {
    item: f"a {PAIRS_OF[k % 12][0]} {SHAPES[k % 3]} left of a {PAIRS_OF[k % 12][1]} {SHAPES[(k // 3) % 3]}"
    for k, item in enumerate(ITEMS)
}
ARMS = {  # name: (label, about, evaluations, strength of the drift, wrong every so many units)
    "heun-20": ("Heun, 20 steps", "the reference sampler", 40, 0.0, 8),
    "heun-10": ("Heun, 10 steps", "half the steps", 20, 0.6, 8),
    "dpmpp-10": ("DPM++ 2M, 10 steps", "multistep, one evaluation a step", 10, 1.0, 24),
    "euler-20": ("Euler, 20 steps", "first order", 20, 3.2, 4),
    "int4": ("Heun, 20 steps, INT4", "weights rounded to four bits", 40, 9.0, 2),
}
METRICS = {  # name: (label, unit, better, margin, against, about)
    "retrieval": ("Retrieval", "", "higher", 0.1, "none", "Whether the caption is found among 24 by its picture; not a taste."),
    "psnr": ("PSNR", "dB", "higher", 30.0, "baseline", "Squared pixel error to the baseline's picture, in decibels."),
    "features": ("Feature distance", "", "lower", 0.05, "baseline", "Distance of frozen random features of the two pictures."),
    "brightness": ("Brightness", "", "none", None, "none", "Mean pixel value; reported only."),
    "evaluations": ("Evaluations", "", "lower", None, "none", "Calls of the network a picture."),
    "seconds": ("Time a picture", "s", "lower", 0.05, "none", "Wall clock a picture, arms taking turns."),
}


def draw(k: int, strength: float, edge: int = 48) -> np.ndarray:
    """Scene k as an arm of this strength drew it: shapes shifted, blurred by resampling, and noisy."""
    random = np.random.default_rng(1000 * k + int(10 * strength))
    image = Image.new("RGB", (4 * edge, 4 * edge), ("#f3efe6", "#dfe8ee", "#2c3440", "#e9e2f0")[k % 4])
    pen, shift = ImageDraw.Draw(image), random.normal(0, 1.2 * strength, 4)
    for side, (colour, shape) in enumerate(zip(PAIRS_OF[k % 12], (SHAPES[k % 3], SHAPES[(k // 3) % 3]), strict=True)):
        x, y, r = 50 + 92 * side + shift[2 * side], 96 + shift[2 * side + 1], 34
        if shape == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[colour])
        elif shape == "square":
            pen.rectangle((x - r, y - r, x + r, y + r), fill=COLOURS[colour])
        else:
            pen.polygon(((x, y - r), (x + r, y + r), (x - r, y + r)), fill=COLOURS[colour])
    pixels = np.asarray(image.resize((edge, edge), Image.Resampling.BOX), dtype=float)
    return np.clip(pixels + random.normal(0, 1.1 * strength, pixels.shape), 0, 255).astype(np.uint8)


def rows_of(arm: str, pictures: np.ndarray, base: np.ndarray) -> dict[str, np.ndarray]:
    """Rows (24, k) of every metric for one arm."""
    _, _, evaluations, strength, wrong = ARMS[arm]
    k, random = np.arange(24), np.random.default_rng(int(10 * strength) + evaluations)
    error = ((pictures.astype(float) - base) / 255) ** 2
    rows = {
        "retrieval": ((k * 7 + 3) % wrong != 0).astype(float),
        "brightness": pictures.mean((1, 2, 3)) / 255,
        "evaluations": np.full(24, float(evaluations)),
        "seconds": evaluations * 0.012 * (1 + 0.1 * random.random(24)) + 0.02,
    }
    if arm != "heun-20":
        rows |= {"psnr": error.mean((1, 2, 3)), "features": np.sqrt(error.mean((1, 2, 3))) * (1 + 0.2 * random.random(24))}
    return {name: value[:, None] for name, value in rows.items()}


def reduce(metric: str, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean, in decibels for the PSNR."""
    mean = weights @ rows[:, 0] / weights.sum(1)
    return -10 * np.log10(mean) if metric == "psnr" else mean


def verdict_of(metric: str, value: float, interval: tuple[float, float]) -> str:
    _, _, better, margin, against, _ = METRICS[metric]
    low, high = interval
    if better == "none":
        return "none"
    if against == "baseline":
        assert margin is not None
        low, high, edge = (low, high, margin) if better == "lower" else (-high, -low, -margin)
        return "equivalent" if high <= edge else "worse" if low > edge else "undecided"
    if low == high == 0:
        return "identical"
    if margin and -margin < low and high < margin:
        return "equivalent"
    if low > 0 or high < 0:
        return "better" if (value > 0) == (better == "higher") else "worse"
    return "undecided"


def make_report(rows: dict[str, dict[str, np.ndarray]]) -> dict:
    """A report.json of schema 1 over the example's rows; percentile intervals stand for the engine's."""
    random, cells = np.random.default_rng(7), []
    weights = random.multinomial(24, np.full(24, 1 / 24), size=2000).astype(float)
    ones = np.ones((1, 24))
    for arm in ARMS:
        for metric, (label, unit, _, margin, against, _) in METRICS.items():
            cell = {"arm": arm, "metric": metric, "units": 24, "clusters": 24, "method": "bca", "p": None, "p_adjusted": None}
            cell |= {"needed": None, "delta": None, "interval": None, "baseline_value": None, "value_interval": None}
            words = f"{ARMS[arm][0]} on {label}"
            if arm == "heun-20" and against == "baseline":
                cell |= {"value": None, "verdict": "baseline", "clusters": 0, "method": "none"}
                cells.append(cell | {"sentence": f"{ARMS[arm][0]} is what {label} is measured from."})
                continue
            value = float(reduce(metric, rows[arm][metric], ones)[0])
            spread = reduce(metric, rows[arm][metric], weights)
            cell |= {"value": value, "value_interval": [float(q) for q in np.quantile(spread, [0.025, 0.975])]}
            if arm == "heun-20":
                cell |= {"verdict": "baseline", "sentence": f"{words} is the baseline: {value:.3g}{unit}."}
            elif against == "baseline":
                verdict = verdict_of(metric, value, tuple(cell["value_interval"]))
                cell |= {
                    "verdict": verdict,
                    "sentence": f"{words} drifts by {value:.3g}{unit}; the margin is {margin}: {verdict}.",
                }
            else:
                base = reduce(metric, rows["heun-20"][metric], ones)[0]
                deltas = spread - reduce(metric, rows["heun-20"][metric], weights)
                interval = [float(q) for q in np.quantile(deltas, [0.025, 0.975])]
                verdict = verdict_of(metric, value - base, (interval[0], interval[1]))
                cell |= {"baseline_value": float(base), "delta": float(value - base), "interval": interval, "verdict": verdict}
                cell |= {"p": 0.031 if verdict in ("better", "worse") else 0.4, "p_adjusted": 0.062}
                cell |= {"needed": 310 if verdict == "undecided" else None}
                cell |= {"sentence": f"{words} differs by {value - base:+.3g}{unit} <per picture> & is {verdict}."}
            cells.append(cell)
    return {
        "schema": 1,
        "name": "fewer-steps",
        "title": "Fewer steps: what holds below forty evaluations?",
        "question": "Which cheaper sampler, or cheaper weights, draws the same scenes as twenty Heun steps?",
        "claim": "checkpoint",
        "created": "2026-06-14T09:31:07+00:00",
        "command": "diptych compare quickstart --set size=core --seeds 0 --out runs/fewer-steps",
        "size": "core",
        "baseline": "heun-20",
        "primary": "retrieval",
        "units": {"count": 24, "items": 24, "seeds": [0], "clusters": 24},
        "arms": [
            {"name": name, "label": label, "key": f"{index:016x}", "units": 24, "baseline": name == "heun-20", "about": about}
            | {"config": {"sampler": name, "guidance": 3.0, "shift": 1.5}, "replica": None}
            for index, (name, (label, about, *_)) in enumerate(ARMS.items(), 0xA11CE)
        ],
        "metrics": [
            {"name": name, "label": label, "unit": unit, "better": better, "margin": margin, "against": against}
            | {"level": "unit", "primary": name == "retrieval", "about": about, "key": f"key{name}"}
            for name, (label, unit, better, margin, against, about) in METRICS.items()
        ],
        "cells": cells,
        "floors": {
            "aa": [
                {"metric": "retrieval", "delta": 0.0, "interval": [0.0, 0.0], "largest": 0.0},
                {"metric": "features", "delta": 0.0003, "interval": [0.0001, 0.0006], "largest": 0.0011},
            ],
            "other_seed": [
                {"metric": "psnr", "value": 11.8, "interval": [11.2, 12.5]},
                {"metric": "features", "value": 0.262, "interval": [0.24, 0.285]},
            ],
            "replicas": [],
        },
        "warnings": ["24 units are few: intervals are wide, and a difference below about 0.1 in retrieval cannot be seen."],
        "results": {},
        "environment": {
            "diptych": "0.1.0",
            "python": "3.11.7",
            "device": "CPU",
            "packages": {"torch": "2.13.0", "numpy": "2.3.1"},
        },
    }


def write_run(run: Path) -> dict:
    """A whole run folder with pictures; returns its report."""
    units = tuple(Unit(item) for item in ITEMS)
    pictures = {arm: np.stack([draw(k, values[3]) for k in range(24)]) for arm, values in ARMS.items()}
    rows = {arm: rows_of(arm, pictures[arm], pictures["heun-20"]) for arm in ARMS}
    made = make_report(rows)
    base = made["arms"][0]["key"]
    for arm in made["arms"]:
        store.write_part(run / "samples" / arm["key"], Samples(units, {"picture": pictures[arm["name"]]}))
        for metric, values in rows[arm["name"]].items():
            held = base if METRICS[metric][4] == "baseline" else ""
            store.write_part(store.rows_folder(run, arm["key"], metric, f"key{metric}", held), Samples(units, {"rows": values}))
    store.write_json(run / "report.json", made)
    info = {key: made[key] for key in ("schema", "name", "command", "arms", "metrics", "environment")}
    info["arms"] = [{**arm, "held": base} for arm in made["arms"]]
    store.write_json(run / "run.json", info | {"status": "success", "captions": CAPTIONS, "shown": "", "truth_key": ""})
    store.write_json(run / "config.json", {"recipe": "quickstart", "size": "core", "seeds": [0]})
    store.write_lines(run / "units.jsonl", [{"item": unit.item, "seed": unit.seed} for unit in units])
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "fewer-steps"
    write_run(folder)
    report.render(folder)
    return folder


def embedded(text: str, name: str):
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


def test_page_says_what_report_json_says(run: Path):
    text, made = (run / "report.html").read_text(), json.loads((run / "report.json").read_text())
    assert embedded(text, "report") == made
    shown = re.findall(r'data-metric="(\w+)" data-verdict="([\w ]+)">', text)
    order = ["retrieval", "psnr", "features", "brightness", "evaluations", "seconds"]
    told = {(c["arm"], c["metric"]): c["verdict"] for c in made["cells"]}
    assert shown == [(m, told[arm, m]) for arm in ARMS for m in order if (arm, m) in told]
    visible = unescape(text)
    assert all(cell["sentence"] in visible for cell in made["cells"])
    assert "<per picture>" not in text, "text from the report is escaped"
    assert made["command"] in text and made["warnings"][0] in text


def test_page_is_one_small_file_that_loads_nothing(run: Path):
    text = (run / "report.html").read_text()
    assert len(text) < 6_000_000
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:|//|file:)""", text)
    assert "$" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S), "every placeholder is filled"


def test_rendering_is_a_pure_function_of_the_folder(run: Path, tmp_path: Path):
    elsewhere = tmp_path / "moved"
    shutil.copytree(run, elsewhere)
    (elsewhere / "report.html").unlink()
    assert report.render(elsewhere).read_bytes() == (run / "report.html").read_bytes()


def test_other_schema_and_missing_run_are_named(run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist"):
        report.render(tmp_path)
    store.write_json(tmp_path / "report.json", {"schema": 99})
    with pytest.raises(ValueError, match="schema 99"):
        report.render(tmp_path)


def test_pairs_are_the_worst_the_best_and_drawn_by_hash(run: Path):
    text, made = (run / "report.html").read_text(), json.loads((run / "report.json").read_text())
    gallery = embedded(text, "gallery")
    assert gallery["rank"] == "features", "the first drift whose rows are in its own unit"
    assert gallery["metrics"] == ["retrieval", "features", "brightness", "evaluations", "seconds"], (
        "PSNR has rows of another kind"
    )
    table = report.read_table(run, made, [Unit(item) for item in ITEMS])
    for arm in list(ARMS)[1:]:
        drift = pairs.column(table[arm, "features"][0])
        ranked = sorted(drift, key=lambda unit: drift[unit])
        held = {
            kind: [p for p in gallery["pairs"] if p["arm"] == arm and p["kind"] == kind] for kind in ("worst", "best", "random")
        }
        assert [p["item"] for p in held["worst"]] == [u.item for u in ranked[::-1][:6]]
        assert [p["item"] for p in held["best"]] == [u.item for u in ranked[:6]]
        assert [p["item"] for p in held["random"]] == [p["item"] for p in gallery["pairs"] if p["kind"] == "random"][:6]
        assert all(p["caption"] == CAPTIONS[p["item"]] for p in held["worst"])
    first = gallery["pairs"][0]
    shown = Image.open(io.BytesIO(base64.b64decode(gallery["pictures"][first["right"]].split(",")[1]))).convert("RGB")
    assert np.array_equal(np.asarray(shown), draw(int(first["item"][-2:]), ARMS[first["arm"]][3])), (
        "small pictures are kept exactly"
    )


def shapeless(run: Path, tmp_path: Path, arrays: dict[str, np.ndarray]) -> str:
    """The page of the same run had its arms made `arrays`, and no pictures."""
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "samples")
    for arm in json.loads((run / "report.json").read_text())["arms"]:
        made = {name: np.char.add(value, arm["name"]) if value.dtype.kind == "U" else value for name, value in arrays.items()}
        store.write_part(tmp_path / "run" / "samples" / arm["key"], Samples(tuple(Unit(item) for item in ITEMS), made))
    return report.render(tmp_path / "run").read_text()


def test_text_samples_show_both_texts(run: Path, tmp_path: Path):
    text = shapeless(run, tmp_path, {"answer": np.array([f"the answer of {item} is " for item in ITEMS])})
    gallery = embedded(text, "gallery")
    assert gallery["show"] == "texts" and gallery["pictures"] == {}
    worst = next(p for p in gallery["pairs"] if p["arm"] == "int4")
    assert worst["left"] == f"the answer of {worst['item']} is <del>heun-20</del>"
    assert re.sub("<.*?>", "", worst["right"]) == f"the answer of {worst['item']} is int4"


def test_samples_without_a_picture_leave_the_viewer_out(run: Path, tmp_path: Path):
    text = shapeless(run, tmp_path, {"points": np.zeros((24, 3))})
    assert embedded(text, "gallery")["show"] == "none"
    assert 'id="pairs"' not in text and "#pairs" not in text and 'id="units"' in text


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<.*?>", "", html)))


def test_answer_speaks_of_every_verdict():
    rows = {
        arm: rows_of(arm, *(np.stack([draw(k, s) for k in range(24)]) for s in (values[3], 0.0)))
        for arm, values in ARMS.items()
    }
    made = make_report(rows)
    words = plain(page_verdicts.answer(made))
    assert words.startswith("The verdict rests on Retrieval, chosen before the run. The baseline, Heun, 20 steps, has 0.88.")
    assert "Heun, 20 steps, INT4 (\u22120.38, 95 % interval \u22120.58 to \u22120.17) is worse." in words
    assert "about 310 items would decide the nearest of them." in words
    drift = copy.deepcopy(made)
    for metric in drift["metrics"]:
        metric["primary"] = metric["name"] == "features"
    words = plain(page_verdicts.answer(drift))
    assert "how far an arm's sample lies from that of Heun, 20 steps, the baseline" in words
    assert "are worse: beyond the margin of 0.05." in words and "within the margin of 0.05." in words
    few = copy.deepcopy(made)
    for cell in few["cells"]:
        cell["verdict"] = "too few units" if cell["verdict"] != "baseline" else "baseline"
    assert "have too few units for a verdict." in page_verdicts.answer(few)


def test_replicas_are_one_row_and_several_keys(run: Path):
    made = json.loads((run / "report.json").read_text())
    table = {key: [rows[0], rows[0]] for key, rows in report.read_table(run, made, [Unit(item) for item in ITEMS]).items()}
    twin = {**made["arms"][1], "key": "feed", "replica": 1}
    made["arms"] = [*made["arms"], twin]
    made["claim"] = "recipe"
    made["floors"]["replicas"] = [{"arm": "heun-10", "metric": "retrieval", "spread": 0.021}]
    text = page(made, Gallery(), table, captions={})
    assert text.count('<tr data-arm="heun-10">') == 1 and "feed" in text and "training seed 1" in text
    assert "about the training method" in text and "Training again" in text and "<td>0.021</td>" in text
    assert [len(runs) for runs in embedded(text, "rows")["rows"]["retrieval"].values()] == [2] * 5
    row = '<tr data-arm="heun-10"><th scope="row"><b>{}</b>'
    assert row.format("Heun, 10 steps") in text
    made["arms"][-1] = {**twin, "label": "Heun, 10 steps, trained again"}
    assert row.format("heun-10") in page(made, Gallery(), table, captions={})


def test_arm_outside_a_metric_is_named_so(run: Path):
    made = json.loads((run / "report.json").read_text())
    made["cells"] = [c for c in made["cells"] if (c["arm"], c["metric"]) != ("int4", "seconds")]
    assert page(made, Gallery(), {}, captions={}).count("not declared") == 1


def test_many_rows_are_cut_to_the_first_column(run: Path):
    made = json.loads((run / "report.json").read_text())
    table = {(arm, "retrieval"): [(tuple(Unit(f"u{k}") for k in range(900)), np.ones((900, 40)))] for arm in ARMS}
    rows = embedded(page(made, Gallery(), table, captions={}), "rows")
    assert rows["whole"] is False and {len(line) for line in rows["rows"]["retrieval"]["int4"][0]} == {2}


def test_bytes_are_shown_in_one_larger_unit(run: Path):
    made = json.loads((run / "report.json").read_text())
    made["metrics"] = [{**m, "unit": "bytes"} if m["name"] == "evaluations" else m for m in made["metrics"]]
    for cell in made["cells"]:
        if cell["metric"] == "evaluations":
            delta = cell["delta"] and cell["delta"] * 1e8
            cell |= {"value": cell["value"] * 1e8, "value_interval": None, "delta": delta, "interval": None}
    table = {(arm, "evaluations"): [(tuple(map(Unit, ITEMS)), np.full((24, 1), 1e8 * ARMS[arm][2]))] for arm in ARMS}
    text = page(made, Gallery(), table, captions={})
    assert "Evaluations&nbsp;<i>[GB]</i>" in text and "Evaluations [GB]" in text
    row = text.split('<tr data-arm="dpmpp-10">')[1].split('data-metric="evaluations"')[1]
    assert re.findall(r'<div class="(?:value|delta)">([^< ]*)', row)[:2] == ["1", "\u22123"]
    assert embedded(text, "report") == made, "what the page carries stays in bytes"


@dataclass(frozen=True)
class Drawn:
    strength: float

    def __call__(self, units):
        return Samples(tuple(units), {"picture": np.stack([draw(int(u.item[-2:]) + u.seed, self.strength, 16) for u in units])})


def test_a_real_run_is_rendered_with_its_pairs(tmp_path: Path):
    strengths = {"base": 0.0, "soft": 0.5, "hard": 8.0}
    arms = tuple(Arm(name, Drawn(strength), label=f"strength {strength}") for name, strength in strengths.items())
    metrics = (
        Metric("light", lambda samples, _: samples.arrays["picture"].mean((1, 2, 3)), better="none"),
        Metric("error", drift_of, better="lower", margin=4.0, against="baseline"),
        Metric("seconds", lambda samples, _: samples.trace["seconds"], better="lower", unit="s"),
    )
    study = Comparison("drawn", ITEMS[:10], (0,), arms, metrics, "base", "error", captions=CAPTIONS)
    text = execute(study, tmp_path / "run", command="diptych compare drawn", progress=False).read_text()
    made, gallery = embedded(text, "report"), embedded(text, "gallery")
    assert made == store.read_json(tmp_path / "run" / "report.json")
    assert [c["verdict"] for c in made["cells"] if c["metric"] == "error"] == ["baseline", "equivalent", "worse"]
    assert gallery["rank"] == "error" and gallery["show"] == "pictures"
    kinds = [p["kind"] for p in gallery["pairs"] if p["arm"] == "hard"]
    assert kinds == ["worst"] * 6 + ["best"] * 6 + ["random"] * 6
    assert 'id="cost"' in text and 'id="units"' in text and "another seed" in text


def drift_of(samples, reference):
    return np.abs(samples.arrays["picture"].astype(float) - reference.arrays["picture"]).mean((1, 2, 3))
