import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from diptych.compare import store
from diptych.compare.plan import plan
from diptych.compare.run import run
from diptych.study import Arm, Comparison, Metric, Samples, Unit


@dataclass(frozen=True)
class Counting:
    """Writes down every unit it is asked for."""

    shift: float
    log: str
    fail_at: str = ""

    def __call__(self, units):
        with Path(self.log).open("a") as file:
            file.writelines(f"{self.shift} {unit.key}\n" for unit in units)
        if self.fail_at and any(unit.item == self.fail_at for unit in units):
            raise RuntimeError("the arm fell over")
        value = np.array([len(unit.item) + 0.1 * unit.seed + self.shift for unit in units])
        return Samples(tuple(units), {"value": value})


@dataclass(frozen=True)
class Value:
    times: float = 1.0

    def __call__(self, samples, reference):
        return samples.arrays["value"] * self.times


def study(tmp_path, shifts=(0.0, 1.0), items=10, seeds=(0, 1), fail_at="") -> Comparison:
    log = str(tmp_path / "log.txt")
    return Comparison(
        "study",
        tuple(f"item {'x' * i}" for i in range(items)),
        seeds,
        tuple(Arm(f"arm {shift:g}", Counting(shift, log, fail_at if shift else ""), batch=3, steady=False) for shift in shifts),
        (Metric("value", Value(), margin=0.5),),
        baseline=f"arm {shifts[0]:g}",
        primary="value",
    )


def asked(tmp_path) -> list[str]:
    path = tmp_path / "log.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return lines


def test_running_again_does_nothing_twice(tmp_path):
    page = run(study(tmp_path), tmp_path / "run", progress=False)
    first = page.read_text(), asked(tmp_path)
    assert len(first[1]) == 2 * 20 + 6  # two arms, and the A/A arm on a quarter of the items
    run(study(tmp_path), tmp_path / "run", progress=False)
    assert asked(tmp_path) == []
    assert store.read_json(tmp_path / "run" / "run.json")["status"] == "success"


def test_adding_an_arm_or_seeds_recomputes_nothing_else(tmp_path):
    run(study(tmp_path), tmp_path / "run", progress=False)
    asked(tmp_path)
    run(study(tmp_path, (0.0, 1.0, 2.0)), tmp_path / "run", progress=False)
    assert {line.split()[0] for line in asked(tmp_path)} == {"2.0"}
    run(study(tmp_path, (0.0, 1.0, 2.0), seeds=(0, 1, 5)), tmp_path / "run", progress=False)
    assert all(line.endswith("#5") for line in asked(tmp_path))


def test_a_changed_option_changes_the_key(tmp_path):
    run(study(tmp_path, (0.0, 1.0)), tmp_path / "run", progress=False)
    asked(tmp_path)
    run(study(tmp_path, (0.0, 1.5)), tmp_path / "run", progress=False)
    assert {line.split()[0] for line in asked(tmp_path)} == {"1.5"}


def test_a_changed_metric_is_measured_again_without_sampling(tmp_path):
    made = study(tmp_path)
    run(made, tmp_path / "run", progress=False)
    asked(tmp_path)
    page = run(replace(made, metrics=(Metric("value", Value(3.0), margin=0.5),)), tmp_path / "run", progress=False)
    assert asked(tmp_path) == []
    cell = store.read_json(page.parent / "report.json")["cells"][1]
    assert abs(cell["delta"] - 3.0) < 1e-12


def test_an_arm_that_fails_leaves_the_rest_and_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="fell over"):
        run(study(tmp_path, fail_at="item " + "x" * 7), tmp_path / "run", progress=False)
    record = store.read_json(tmp_path / "run" / "run.json")
    assert record["status"] == "error" and "fell over" in record["error"]
    done = len(asked(tmp_path))
    assert done > 10
    assert sum(len(job.pending) for job in plan(study(tmp_path), tmp_path / "run").jobs) < 2 * 20


def test_samples_that_do_not_fit_are_refused(tmp_path):
    def wrong(units):
        return Samples(tuple(units)[::-1], {"value": np.zeros(len(units))})

    def infinite(units):
        return Samples(tuple(units), {"value": np.where(np.arange(len(units)) == 1, np.inf, 0.0)})

    for produce, words in ((wrong, "not of the units"), (infinite, "is not finite")):
        made = study(tmp_path)
        made = replace(made, arms=(made.arms[0], Arm("bad", produce, batch=4)))
        with pytest.raises(ValueError, match=words):
            run(made, tmp_path / produce.__name__, progress=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"items": ()}, "items: there are none"),
        ({"items": ("a", "b", "a")}, "'a' is there twice"),
        ({"seeds": ()}, "seeds: there are none"),
        ({"seeds": (1, 1)}, "'1' is there twice"),
        ({"baseline": "arm 9"}, "baseline: unknown name 'arm 9'"),
        ({"primary": "valu"}, "did you mean 'value'"),
        ({"clusters": {"nobody": "c"}}, "clusters: unknown name 'nobody'"),
        ({"claim": "recipe"}, "needs arms with a replica"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_runs(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        run(replace(study(tmp_path), **change), tmp_path / "run", progress=False)
    assert asked(tmp_path) == []


def test_doubled_arms_and_missing_truth_are_named(tmp_path):
    made = study(tmp_path)
    with pytest.raises(ValueError, match="arms: 'arm 0' is there twice"):
        plan(replace(made, arms=(made.arms[0], made.arms[0])), tmp_path)
    truthful = replace(made.metrics[0], against="truth")
    with pytest.raises(ValueError, match="held against the truth"):
        plan(replace(made, metrics=(truthful,)), tmp_path)


def test_rows_that_do_not_fit_are_refused(tmp_path):
    made = study(tmp_path)
    for rows, words in ((lambda s, r: np.zeros(3), "rows have shape"), (lambda s, r: np.full(len(s), np.nan), "is not finite")):
        with pytest.raises(ValueError, match=words):
            run(replace(made, metrics=(Metric("value", rows),)), tmp_path / words[:4], progress=False)


SLOW_STUDY = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from diptych.compare.run import run
from diptych.study import Arm, Comparison, Metric, Samples

@dataclass(frozen=True)
class Slow:
    shift: float
    def __call__(self, units):
        time.sleep(0.004)
        with Path(sys.argv[2]).open("a") as file:
            file.writelines(f"{self.shift} {unit.key}\\n" for unit in units)
        pixels = np.stack([np.full((8, 8, 3), len(unit.item) + unit.seed, np.uint8) for unit in units])
        return Samples(tuple(units), {"image": pixels, "value": np.array([unit.seed + self.shift for unit in units])})

def value(samples, reference):
    return samples.arrays["value"]

if __name__ == "__main__":
    items = tuple(f"i{n}" for n in range(40))
    arms = (Arm("a", Slow(0.0), batch=4, steady=False), Arm("b", Slow(1.0), batch=4, steady=False))
    run(Comparison("s", items, (0, 1), arms, (Metric("v", value),), "a", "v"), Path(sys.argv[1]), progress=False)
"""


def killed(tmp_path: Path, times: int, spread: float) -> None:
    """Kill a run at random moments, then let it finish: each unit is made once, but for those of a batch in flight."""
    script, log, out = tmp_path / "slow.py", tmp_path / "log.txt", tmp_path / "run"
    script.write_text(SLOW_STUDY)
    log.touch()
    command = [sys.executable, str(script), str(out), str(log)]
    generator = np.random.default_rng(0)
    kills = 0
    while kills < times:
        child = subprocess.Popen(command)
        try:
            child.wait(float(generator.uniform(0.3, 1.0)) * spread)
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            for path in out.rglob("*.npz"):
                with np.load(path) as file:
                    assert file.files
    subprocess.run(command, check=True)
    lines = log.read_text().splitlines()
    wanted = {f"{shift} i{n}#{seed}" for shift in (0.0, 1.0) for n in range(40) for seed in (0, 1)}
    again = 20  # the A/A arm's units are the baseline's own
    assert set(lines) == wanted
    assert len(lines) <= len(wanted) + again + 4 * kills
    assert store.read_json(out / "run.json")["status"] == "success"
    whole = store.read_samples(out, store.read_json(out / "run.json")["arms"][0]["key"])
    assert whole is not None and len(whole) == 80
    assert (whole.arrays["image"][:, 0, 0, 0] == [len(u.item) + u.seed for u in whole.units]).all()


def test_killed_twice_then_finished(tmp_path):
    killed(tmp_path, 2, 4.0)


@pytest.mark.slow
def test_killed_fifty_times_then_finished(tmp_path):
    killed(tmp_path, 50, 5.0)


def test_ranks_share_the_batches(tmp_path):
    script, log, out = tmp_path / "slow.py", tmp_path / "log.txt", tmp_path / "run"
    script.write_text(SLOW_STUDY)
    command = [sys.executable, str(script), str(out), str(log)]
    for rank in (1, 0):
        subprocess.run(command, check=True, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"})
        if rank == 1:
            alone = len(log.read_text().splitlines())
    lines = log.read_text().splitlines()
    assert 0.3 < alone / len(lines) < 0.7
    assert len(lines) == len(set(lines)) + 20
    assert Unit("i0") in store.units_in(out / "samples" / store.read_json(out / "run.json")["arms"][0]["key"])


def test_rows_measured_on_the_way_are_the_rows_of_the_end(tmp_path, capsys):
    made = study(tmp_path)
    shown = run(made, tmp_path / "shown", progress=True)
    quiet = run(made, tmp_path / "quiet", progress=False)
    first, second = (store.read_json(page.parent / "report.json") for page in (shown, quiet))
    assert first["cells"] == second["cells"]
    key = store.read_json(tmp_path / "shown" / "run.json")["arms"][0]["key"]
    units, _ = store.read_rows(tmp_path / "shown", key, "value")
    assert set(units) == set(made.units)
    assert "2 arms, 46 samples, 0 of them on disk already" in capsys.readouterr().err
