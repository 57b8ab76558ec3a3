"""The examples of CONTRIBUTING.md are one working file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from diptych.cli import main
from diptych.load import load_object

ROOT = Path(__file__).parent.parent


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    file = tmp_path / "rules.py"
    file.write_text("\n".join(blocks))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return file


def test_the_recipe_runs_and_finds_the_better_sampler(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["diptych", "compare", "rules.py:study", "--set", "steps=8"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    report = json.loads((example.parent / "runs/rules/report.json").read_text())
    cell = next(cell for cell in report["cells"] if cell["arm"] == "midpoint")
    assert cell["verdict"] == "better" and cell["value"] < cell["baseline_value"]


def test_the_sampler_has_the_order_it_declares(example: Path) -> None:
    import torch

    from diptych.noise import Noise
    from diptych.process import Gaussian
    from diptych.sample import sample
    from diptych.samplers.continuous import RK4
    from diptych.schedule import uniform_grid

    midpoint, exact = load_object("rules.py:Midpoint")(), load_object("rules.py:exact")("cpu")
    noise = Noise(tuple(str(n) for n in range(64)), dtype=torch.float64)

    def end(rule: object, steps: int) -> torch.Tensor:
        return sample(Gaussian(), rule, exact, uniform_grid(steps), (1,), noise).x  # type: ignore[arg-type]

    truth = end(RK4(), 400)
    coarse, fine = ((end(midpoint, steps) - truth).abs().mean().item() for steps in (32, 64))
    assert coarse / fine > 2**1.5
