"""The command line: what it prints where, its exit codes, and that every mistake is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import toy_study
from diptych.cli import main
from diptych.commands.recipe import narrowed
from diptych.commands.verdicts import figure
from diptych.recipes import RECIPES

TOY = f"{Path(__file__).parent / 'toy_study.py'}:study"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def diptych(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command line in an empty folder, with the toy among the recipes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIPTYCH_DEVICE", "cpu")
    monkeypatch.setitem(RECIPES, "toy", "toy_study")

    def call(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["diptych", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Done(int(stop.value.code or 0), said.out, said.err)

    return call


def test_a_further_comparison_of_a_recipe(diptych: Callable[..., Done], tmp_path: Path) -> None:
    done = diptych("compare", "toy:reversed", "--size", "tiny", "--json")
    assert done.code == 0 and json.loads(done.out)["baseline"] == "shifted"
    again = diptych("compare", "runs/toy-reversed", "--dry-run")
    assert again.code == 0 and '"recipe": "toy:reversed"' in again.out
    typo = diptych("compare", "toy:reverse")
    assert typo.code == 2 and "toy:reverse: no such comparison; did you mean 'reversed'?" in typo.err
    assert "there are toy:reversed" in typo.err
    none = diptych("compare", "quickstart:first")
    assert none.code == 2 and "it has only `quickstart`" in none.err


def test_compare_prints_verdicts_and_leaves_a_page(diptych: Callable[..., Done], tmp_path: Path) -> None:
    done = diptych("compare", TOY, "--set", "prefix=thing")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "Is the shift found?"
    assert lines[-1] == "report: runs/toy/report.html"
    table = lines[lines.index("score: primary, higher is better, margin 0.1") + 1 :][:4]
    assert [line.split()[0] for line in table] == ["arm", "base", "shifted", "twin"]
    assert table[2].split()[-1] == "better" and table[3].split()[-1] == "identical" and table[1].split()[-1] == "baseline"
    assert all(len(line) <= 80 and line == line.rstrip() for line in table)
    assert (tmp_path / "runs/toy/report.html").stat().st_size > 1000
    saved = json.loads((tmp_path / "runs/toy/config.json").read_text())
    assert saved["recipe"] == TOY and saved["config"]["prefix"] == "thing"
    again = diptych("compare", TOY, "--set", "prefix=thing")
    assert again.out == done.out and "39 of them on disk already" in again.err


def test_a_saved_config_is_a_recipe(diptych: Callable[..., Done], tmp_path: Path) -> None:
    diptych("compare", "toy", "--size", "tiny", "--set", "shift=0.5", "--seeds", "1,3", "--limit", "8")
    saved = json.loads((tmp_path / "runs/toy/config.json").read_text())
    assert saved["size"] == "tiny" and saved["seeds"] == "1,3" and saved["limit"] == 8
    units = [json.loads(line) for line in (tmp_path / "runs/toy/units.jsonl").read_text().splitlines()]
    assert {unit["seed"] for unit in units} == {1, 3} and len(units) == 16
    for name in ("runs/toy", "runs/toy/config.json"):
        done = diptych("compare", name, "--out", "again", "--json")
        assert json.loads((tmp_path / "again/config.json").read_text()) == saved
    first = json.loads((tmp_path / "runs/toy/report.json").read_text())
    assert json.loads(done.out)["cells"] == first["cells"]
    assert done.out == (tmp_path / "again/report.json").read_text()


def test_dry_run_does_nothing(diptych: Callable[..., Done], tmp_path: Path) -> None:
    done = diptych("compare", "toy", "--dry-run")
    assert done.code == 0 and "12 items x 1 seeds = 12 units, 3 arms, into runs/toy/" in done.out
    data = json.loads(diptych("compare", "toy", "--dry-run", "--json").out)
    assert data["units"] == 12 and [arm["pending"] for arm in data["arms"]] == [12, 12, 12, 3]
    assert not list(tmp_path.iterdir())


def test_report_renders_again(diptych: Callable[..., Done], tmp_path: Path) -> None:
    first = diptych("compare", f"{TOY.rpartition(':')[0]}:plain")
    page = tmp_path / "runs/toy/report.html"
    text = page.read_bytes()
    page.unlink()
    assert diptych("report", "toy").out == first.out
    assert page.read_bytes() == text
    assert json.loads(diptych("report", "runs/toy", "--json").out)["name"] == "toy"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "toi"], "recipe 'toi' is unknown; did you mean 'toy'? (`diptych ls recipes` lists them)"),
        (["compare"], "compare: which recipe? `diptych ls recipes` lists them; `diptych compare quickstart` is a start"),
        (["compare", "toy", "--size", "huge"], "--size huge: toy has the sizes tiny, core"),
        (["compare", TOY, "--size", "tiny"], "toy_study.py:study has no sizes; change its fields by --set"),
        (["compare", "toy", "--set", "shfit=3"], "--set shfit=3: unknown field 'shfit'; did you mean 'shift'?"),
        (["compare", "toy", "--set", "items=many"], "--set items=many: items: 'many' should be a valid integer"),
        (["compare", "toy", "--seeds", "4-1"], "seeds '4-1': the range 4-1 runs backwards; write 1-4"),
        (["compare", "toy", "--limit", "-2"], "--limit -2: give the number of items to keep"),
        (["compare", "toy", "--set", "items=0"], "items: there are none; give at least one item (a prompt file may be empty)"),
        (["compare", "toy", "--margin", "score=1"], "--margin: has a meaning with --rows only; a recipe commits its own"),
        (["compare", TOY.replace(":study", ":studdy")], "no 'studdy' in it; did you mean 'study'?"),
        (["compare", TOY.replace(":study", ":wrong")], "toy_study.py:wrong: returned int, not a diptych.study.Comparison"),
        (["compare", TOY.replace(":study", ":many")], "its arguments do not fit; give it none, or one annotated"),
        (
            ["compare", TOY.replace(":study", ":plain"), "--set", "a=1"],
            "takes no config; give it one argument, a frozen dataclass",
        ),
        (["compare", TOY.replace(":study", ":CONFIGS")], ": dict; a recipe is a function that returns a Comparison"),
        (["compare", "none.py:study"], "none.py: no such file in "),
        (
            ["compare", "none.json"],
            "none.json: no such file; give a recipe's name, file.py:function, or the config.json of a run",
        ),
        (["compare", "."], "config.json: no such file"),
        (["report", "none"], "none/report.json does not exist; is none the folder of a run?"),
        (["train", "toy", "--stage", "frist"], "--stage frist: unknown; did you mean 'first'?"),
        (["train", "toy", "--track", "tensorbord"], "--track tensorbord: unknown; did you mean 'tensorboard'?"),
        (["sample", "none", "--prompt", "x"], "model 'none': no such folder, nor a recipe"),
        (["sample", "toy"], "sample: no prompts; give some"),
        (["sample", "toy", "--prompts", "nowhere.txt"], "--prompts nowhere.txt: no such file"),
        (["sample", ".", "--prompt", "x"], ".: which recipe made it? give --recipe"),
        (["ls", "sampler"], "ls sampler: unknown; did you mean 'samplers'?"),
        (["compare", "--rows", "none.csv"], "rows: none.csv does not exist; give a .csv, .jsonl or .parquet file"),
        (["compare", "toy", "--rows", "none.csv"], "RECIPE: has no meaning with --rows; leave it out"),
    ],
)
def test_bad_input_is_one_line_and_code_2(diptych: Callable[..., Done], words: list[str], message: str) -> None:
    done = diptych(*words)
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.err.startswith("diptych: ") and message in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("words", [["comprae"], ["compare", "--sise", "tiny"], ["train"], ["ls", "runs", "more"]])
def test_bad_usage_is_code_2(diptych: Callable[..., Done], words: list[str]) -> None:
    done = diptych(*words)
    assert done.code == 2 and done.out == "" and "Usage: diptych" in done.err and "Traceback" not in done.err


def test_an_unforeseen_failure_names_its_log(
    diptych: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = TOY.replace(":study", ":broken")
    done = diptych("compare", spec)
    assert done.code == 1 and done.out == "" and done.err.count("\n") == 1
    assert done.err.startswith("diptych: RuntimeError: no luck (traceback in ")
    log = Path(done.err.partition("traceback in ")[2].partition(";")[0])
    assert "second line" in log.read_text() and "toy_study.py" in log.read_text()
    monkeypatch.setattr(sys, "argv", ["diptych", "compare", spec, "--debug"])
    with pytest.raises(RuntimeError, match="no luck"):
        main()


def test_a_value_error_from_below_is_a_failure_not_an_answer(diptych: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("def study():\n    return int('x')\n")
    done = diptych("compare", "odd.py:study")
    assert done.code == 1 and "invalid literal for int()" in done.err and "traceback in" in done.err


def test_train_and_sample(diptych: Callable[..., Done], tmp_path: Path) -> None:
    plan = json.loads(diptych("train", "toy", "--set", "prefix=p", "--dry-run").out)
    assert plan["stages"] == ["first", "second"] and not (tmp_path / "models").exists()
    done = diptych("train", "toy", "--set", "prefix=p", "--track", "tensorboard")
    assert done.code == 0 and done.out.strip() == plan["out"]
    folder = tmp_path / plan["out"]
    assert (folder / "first/weights.txt").read_text() == "p None tensorboard"
    assert json.loads((folder / "config.json").read_text())["config"]["prefix"] == "p"
    assert json.loads(diptych("train", plan["out"], "--dry-run").out)["out"] == plan["out"]
    (tmp_path / "more.txt").write_text("b\n\n")
    words = ("--prompt", "a", "--prompts", "more.txt", "--seeds", "0-1", "--set", "prefix=q")
    made = diptych("sample", plan["out"], *words).out.split()
    assert made == [f"runs/samples/toy/{name}.txt" for name in ("a-0", "a-1", "b-0", "b-1")]
    assert (tmp_path / made[0]).read_text() == f"{plan['out']} q"
    (tmp_path / "empty.txt").write_text("\n")
    assert "empty.txt: holds no prompts" in diptych("sample", "toy", "--prompts", "empty.txt").err
    assert json.loads(diptych("sample", "toy", "--prompt", "a", "--json", "--out", "here").out) == ["here/a-0.txt"]
    assert (tmp_path / "here/a-0.txt").read_text() == "None item"


def scores(path: Path, lines: int = 20) -> str:
    text = "".join(
        f"{arm},q{n},{n % 3 + shift + 0.01 * (n % 2)},{n}\n" for n in range(lines) for arm, shift in (("A", 0), ("B", 1))
    )
    path.write_text("arm,item,acc,loss\n" + text.replace("B,q1,2.01", "B,q1,2.5"))
    return str(path)


def test_scores_of_another_tool_are_judged(diptych: Callable[..., Done], tmp_path: Path) -> None:
    file = scores(tmp_path / "scores.csv")
    words = ["--baseline", "A", "--primary", "acc", "--margin", "acc=0.5", "--lower", "loss"]
    done = diptych("compare", "--rows", file, *words, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    cells = {(cell["arm"], cell["metric"]): cell for cell in report["cells"]}
    assert cells["B", "acc"]["verdict"] == "better" and cells["B", "acc"]["delta"] == pytest.approx(1.0245)
    assert cells["B", "loss"]["verdict"] == "identical"
    metric = {metric["name"]: metric for metric in report["metrics"]}
    assert metric["acc"]["margin"] == 0.5 and metric["loss"]["better"] == "lower"
    assert (tmp_path / "runs/scores/report.html").exists()
    fewer = json.loads(diptych("compare", "--rows", file, *words, "--limit", "10", "--json", "--out", "fewer").out)
    assert fewer["units"]["items"] == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--baseline is missing; choose from A, B"),
        (["--baseline", "C"], "--baseline C: unknown; choose from A, B"),
        (["--baseline", "A"], "--primary is missing; choose from acc, loss"),
        (["--baseline", "A", "--primary", "ac"], "--primary ac: unknown; did you mean 'acc'?"),
        (["--baseline", "A", "--primary", "acc", "--margin", "acc"], "--margin acc: write it as METRIC=NUMBER"),
        (["--baseline", "A", "--primary", "acc", "--margin", "los=1"], "--margin los: unknown; did you mean 'loss'?"),
        (["--baseline", "A", "--primary", "acc", "--margin", "acc=-1"], "margin -1.0 is not positive"),
        (["--baseline", "A", "--primary", "acc", "--set", "a=1"], "--set: has no meaning with --rows; leave it out"),
    ],
)
def test_bad_questions_about_scores(diptych: Callable[..., Done], tmp_path: Path, words: list[str], message: str) -> None:
    done = diptych("compare", "--rows", scores(tmp_path / "scores.csv"), *words)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_scores_of_unequal_units_are_refused(diptych: Callable[..., Done], tmp_path: Path) -> None:
    file = Path(scores(tmp_path / "scores.csv"))
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    done = diptych("compare", "--rows", str(file), "--baseline", "A", "--primary", "acc")
    assert done.code == 2 and "arm 'B' lacks acc of unit q19#0 (1 such units)" in done.err


def test_lists(diptych: Callable[..., Done]) -> None:
    text = diptych("ls", "samplers").out
    assert any(line.startswith("heun ") and "Second-order trapezoidal" in line for line in text.splitlines())
    lists = json.loads(diptych("ls", "--json").out)
    assert list(lists) == ["recipes", "samplers", "metrics", "formats", "runs"]
    assert {"quickstart"} <= {entry["name"] for entry in lists["recipes"]}
    assert {"evaluations", "seconds"} <= {entry["name"] for entry in lists["metrics"]}
    assert lists["runs"] == []
    diptych("compare", "toy", "--size", "tiny")
    assert json.loads(diptych("ls", "runs", "--json").out)["runs"][0]["name"] == "toy"


def test_lists_name_what_there_really_is(diptych: Callable[..., Done]) -> None:
    from diptych.samplers import continuous
    from diptych.samplers.decoders import DECODERS

    listed = [entry["name"] for entry in json.loads(diptych("ls", "samplers", "--json").out)["samplers"]]
    assert sorted(listed) == sorted([*continuous.SAMPLERS, *DECODERS])


def test_env_and_data(diptych: Callable[..., Done]) -> None:
    facts = json.loads(diptych("env", "--json").out)
    assert facts["devices"][0] == "cpu" and facts["packages"]["numpy"] and facts["python"].startswith("3.")
    assert "torch" in diptych("env").out
    styles = {entry["style"]: entry for entry in json.loads(diptych("data", "ls", "--json").out)["emoji"]}
    assert styles["noto"]["embedded"] > 1000 and styles["openmoji"]["embedded"] is None
    assert diptych("data", "emoji", "nto").code == 2


def test_completion_offers_names() -> None:
    def offered(line: str) -> list[str]:
        words = line.split(" ")
        env = {**os.environ, "_DIPTYCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        command = [sys.executable, "-c", "from diptych.cli import main; main()"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout.split()

    assert offered("diptych compare qui") == ["quickstart"]
    assert offered("diptych compare quickstart --set model.sampler=he") == ["model.sampler=heun"]
    assert offered("diptych ls sa") == ["samplers"]


def test_narrowing_keeps_declared_subsets_within_the_items() -> None:
    whole = toy_study.study(toy_study.Toy())
    items = whole.items
    arms = (whole.arms[0], replace(whole.arms[1], items=items[1:3]), whole.arms[2])
    whole = replace(whole, arms=arms, clusters={items[0]: "c", items[5]: "c"}, captions={items[5]: "words"})
    part = narrowed(whole, (4, 5), 2)
    assert part.items == items[:2] and part.seeds == (4, 5) and part.arms[1].items == (items[1],)
    assert part.clusters == {items[0]: "c"} and part.captions == {}
    with pytest.raises(ValueError, match="none of the items 'shifted' is declared for is left"):
        narrowed(whole, None, 1)
    assert narrowed(whole, None, 0) == whole


@pytest.mark.parametrize(
    ("value", "places", "sign", "text"),
    [
        (0.12345, 2, False, "0.12"),
        (0.12345, 2, True, "+0.12"),
        (-0.001, 2, True, "0.00"),
        (0.0, 1, True, "0.0"),
        (1234567.0, 0, False, "1,234,567"),
        (3.2e-7, 6, True, "+3.20e-07"),
        (4.5e9, 0, False, "4.50e+09"),
        (None, 2, False, ""),
    ],
)
def test_figures(value: float | None, places: int, sign: bool, text: str) -> None:
    assert figure(value, places, sign) == text
