"""Further questions of the spectral study at their smallest: swaps, cost against fidelity, tries, filling in small scales."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.compare import store
from diptych.compare.run import run
from diptych.models.field_autoencoder import FieldAutoencoder
from diptych.models.hub import load_model
from diptych.recipes import spectral, spectral_train
from diptych.recipes.spectral_config import Spectral
from diptych.recipes.spectral_settings import TRAIN
from diptych.recipes.spectral_swap import adopt, half_folder
from diptych.recipes.spectral_sweep import tries

TINY = replace(TRAIN["tiny"], extras=("sweep", "swaps", "downscaling"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spectral")
    for stage in ("data", "sweep", "autoencoders", "flows", "swaps", "downscaling"):
        spectral_train.STAGES[stage](TINY, out, device="cpu")
    return out


def judged(models: Path, out: Path, name: str) -> tuple[dict, dict[str, str]]:
    config = Spectral(weights=str(models), trajectories=8, fields=1, evaluations=4, sweep=(4, 7))
    page = run(spectral.STUDIES[name](config), out / name, progress=False)
    panels = page.parent / "panels.json"
    return store.read_json(page.parent / "report.json"), {one["name"]: one["html"] for one in store.read_json(panels)}


@pytest.mark.slow
def test_swaps_adapters_and_halves(models: Path, tmp_path: Path) -> None:
    report, panels = judged(models, tmp_path, "swap")
    arms = {entry["name"] for entry in report["arms"]}
    assert {"mse_log_raw", "log_mse_adapter", "decoder_log_on_mse", "encoder_pre_mix_on_pre_mse"} <= arms and len(
        arms
    ) == 4 + 8 + 8
    assert "Published" in panels["swap"] and "Trained anew" in panels["swap"]
    for half, other in (("decoder", "encoder"), ("encoder", "decoder")):
        made = load_model(half_folder(models, half, "log", "mse") / "weights")
        frozen = load_model(models / "mse-0" / "autoencoder" / "weights")
        assert isinstance(made, FieldAutoencoder) and isinstance(frozen, FieldAutoencoder)
        kept, trained = (
            [torch.equal(a, b) for a, b in zip(getattr(made, one).parameters(), getattr(frozen, one).parameters(), strict=True)]
            for one in (other, half)
        )
        assert all(kept) and not all(trained)


@pytest.mark.slow
def test_cost_against_fidelity(models: Path, tmp_path: Path) -> None:
    report, panels = judged(models, tmp_path, "integrators")
    spent = {cell["arm"]: cell["value"] for cell in report["cells"] if cell["metric"] == "evaluations"}
    assert spent["mse_euler_4"] == 4 and spent["mse_heun_7"] == 7 and spent["mse_rk4_7"] == 7 and spent["mse_rk4_4"] == 3
    assert panels["fidelity"].count("its own reconstructions") >= 5


@pytest.mark.slow
def test_the_sweep_on_fields_that_chose_nothing(models: Path, tmp_path: Path) -> None:
    report, _ = judged(models, tmp_path, "weights")
    assert len(report["arms"]) == len(tries()) == 30
    assert len(store.read_json(models / "sweep.json")) == 30


@pytest.mark.slow
def test_filling_in_small_scales_beats_nothing_at_all(models: Path, tmp_path: Path) -> None:
    report, _ = judged(models, tmp_path, "downscaling")
    value = {(cell["arm"], cell["metric"]): cell["value"] for cell in report["cells"]}
    assert value["smooth", "retained_DD"] < 1e-3 < value["flow", "retained_DD"]
    assert value["smooth", "defect_DD"] > 5


def test_adopting_a_half_freezes_it_alone() -> None:
    one, two = (FieldAutoencoder(TINY.autoencoder, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    adopt(one, "decoder", two)
    assert not any(p.requires_grad for p in two.encoder.parameters()) and all(p.requires_grad for p in two.decoder.parameters())
    pairs = zip(one.encoder.parameters(), two.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_every_arm_has_as_many_tries() -> None:
    names = [one.arm for one in tries()]
    assert {names.count(name) for name in names} == {5}
