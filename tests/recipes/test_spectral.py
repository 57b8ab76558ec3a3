"""The spectral study at its smallest: it trains, resumes, judges and reports; what it judges by has known answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.compare import store
from diptych.compare.run import run
from diptych.config import from_json, to_json
from diptych.data.field_files import Source as Files
from diptych.data.fields import Transform
from diptych.metrics.field_summary import reading
from diptych.models.hub import describe
from diptych.noise import Noise
from diptych.physics.random_fields import phase_randomised
from diptych.physics.shells import filtered
from diptych.recipes import spectral, spectral_train
from diptych.recipes.spectral_config import Spectral, claim
from diptych.recipes.spectral_data import Folder, Setting, Simulated, augmented, judged, part
from diptych.recipes.spectral_fit import claimed, stored
from diptych.recipes.spectral_generation import generation, steps_for
from diptych.recipes.spectral_models import ASSETS, Trained, trained_in
from diptych.recipes.spectral_pack import pack
from diptych.recipes.spectral_scores import defect, scores
from diptych.recipes.spectral_settings import TRAIN, ArmTraining, SpectralTraining, jobs, shaped
from diptych.recipes.spectral_swap import explained, fit_adapter
from diptych.study import Samples, Unit

TINY = TRAIN["tiny"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the comparisons of the default suite need, trained for a few steps."""
    out = tmp_path_factory.mktemp("spectral")
    for stage in ("data", "autoencoders", "flows"):
        spectral_train.STAGES[stage](TINY, out, device="cpu")
    return out


def test_reconstructions_are_judged_beside_what_fakes_them(models: Path, tmp_path: Path) -> None:
    config = Spectral(weights=str(models), trajectories=8, fields=2)
    page = run(spectral.study(config), tmp_path / "run", progress=False)
    report = store.read_json(page.parent / "report.json")
    value = {(cell["arm"], cell["metric"]): cell["value"] for cell in report["cells"]}
    arms = {"mse", "log", "whitened", "pre_mse", "pre_log", "pre_mix", "mse_gain", "pre_mse_gain", "other", "random", "phases"}
    assert {entry["name"] for entry in report["arms"]} == arms
    assert report["primary"] == "defect_DD" and report["claim"] == "checkpoint" and report["units"]["clusters"] == 8
    for zone in ("IR", "DO", "DD"):
        assert value["phases", f"retained_{zone}"] == pytest.approx(100, abs=0.1)
        assert abs(value["phases", f"coherence_{zone}"]) < 0.3
        assert 20 < value["random", f"retained_{zone}"] < 300
    assert value["phases", "defect_DD"] == pytest.approx(1, abs=0.3)
    panels = {panel["name"]: panel["html"] for panel in store.read_json(page.parent / "panels.json")}
    assert panels.keys() == {"bars", "zones", "fields", "spectra", "motion"}
    assert "power right, phases wrong" in panels["zones"] and "published, MSE" in panels["zones"]
    assert "not run: no GPU" in panels["bars"] and panels["motion"].count("image/gif") == 1


@pytest.mark.slow
def test_generation_counts_its_evaluations_and_holds_the_ceiling(models: Path, tmp_path: Path) -> None:
    config = Spectral(weights=str(models), trajectories=8, fields=1, evaluations=6)
    page = run(generation(config), tmp_path / "run", progress=False)
    report = store.read_json(page.parent / "report.json")
    value = {(cell["arm"], cell["metric"]): cell["value"] for cell in report["cells"]}
    flows = {"mse", "log", "pre_mse", "pre_log", "pre_mix"}
    assert {arm for arm, metric in value if metric == "evaluations" and value[arm, metric] == 5} == {
        f"{name}_{kind}" for name in flows for kind in ("made", "warm")
    }
    assert {"other", "random", *(f"{name}_given" for name in flows)} <= {entry["name"] for entry in report["arms"]}
    html = next(panel["html"] for panel in store.read_json(page.parent / "panels.json") if panel["name"] == "bars")
    assert html.count("generated as reconstructed") == 5


def test_training_again_does_nothing(models: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")}
    assert len(before) >= 20
    for stage in ("data", "autoencoders", "flows"):
        spectral_train.STAGES[stage](TINY, models, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")} == before


def test_a_model_is_made_by_one_process(tmp_path: Path) -> None:
    with claimed(tmp_path) as first, claimed(tmp_path) as second:
        assert first and not second
    with claimed(tmp_path) as again:
        assert again


def test_parts_share_no_trajectory_and_come_again(models: Path) -> None:
    fields = {split: part(TINY.source, split) for split in ("train", "validation", "test", "floor")}
    clusters = [set(one.clusters) for one in fields.values()]
    assert sum(map(len, clusters)) == len(set.union(*clusters))
    part.cache_clear()
    assert np.array_equal(part(TINY.source, "test").fields, fields["test"].fields)
    assert np.array_equal(stored(models / "data" / "train.npz").fields, fields["train"].fields)
    more = part(TINY.source.tested(9, 2), "test")
    assert np.allclose(more.fields[:16], fields["test"].fields, atol=1e-4)


def test_the_setting_travels_with_the_weights(models: Path) -> None:
    setting = Setting.read(models)
    assert from_json(Setting, to_json(setting)) == setting
    assert setting.zones.names == ("IR", "DO", "DD") and setting.zones.edges[-1][1] == setting.grid.k_max
    grid, zones = judged(Simulated())
    assert grid.k_max == 21 and zones.edges == ((4, 10), (11, 16), (17, 21))


def test_defect_and_scores_have_known_answers() -> None:
    grid, zones = judged(TINY.source)
    truth = torch.from_numpy(part(TINY.source, "test").fields).double()
    gain = torch.ones(grid.shells, dtype=torch.float64)
    low, high = zones.edges[-1]
    gain[low : high + 1] = 0.5
    units = tuple(Unit(f"u{i}") for i in range(len(truth)))
    metric = defect(grid, zones, "DD")

    def judge(made: torch.Tensor) -> float:
        mine, there = (Samples(units, {"field": x.numpy()}) for x in (made, truth))
        return float(metric.reduce(metric.rows(mine, there), np.ones((1, len(units))))[0])  # type: ignore[misc]

    quieter = filtered(truth, gain, grid)
    assert judge(quieter) == pytest.approx(2 * math.log10(2), abs=1e-6) and judge(truth) == pytest.approx(0, abs=1e-9)
    white = Noise(tuple(unit.key for unit in units)).normal(truth.shape[1:], "phases").double()
    assert judge(phase_randomised(truth, white, grid)) == pytest.approx(1, abs=0.25)
    found = scores(quieter.numpy(), truth.numpy(), grid, zones)
    assert found.bias["DD"] == pytest.approx(-2 * math.log10(2), abs=1e-6) and found.coherence["DD"] == pytest.approx(1)
    assert found.bias["IR"] == pytest.approx(0, abs=1e-9)
    assert found.total == pytest.approx(2 * math.log10(2) / len(found.bias), abs=1e-6)
    assert reading(100, 0.01) == "power right, phases wrong" and reading(95, 0.8) == "right"


def test_symmetric_copies_have_the_same_spectrum() -> None:
    grid, zones = judged(TINY.source)
    fields = torch.from_numpy(part(TINY.source, "test").fields)
    keys = torch.arange(len(fields)) * 7_919 + 3
    moved = augmented(TINY.source, fields, keys)
    assert not torch.allclose(moved, fields)
    assert max(abs(b) for b in scores(moved.numpy(), fields.numpy(), grid, zones).bias.values()) < 1e-5


def test_an_adapter_finds_a_planted_map() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(40, 4, 3, 3, generator=generator)
    matrix, offset = torch.randn(4, 4, generator=generator), torch.randn(4, generator=generator)
    target = torch.einsum("ij,bjyx->biyx", matrix, source) + offset[:, None, None]
    found = fit_adapter(source, target)
    assert torch.allclose(found[0].float(), matrix, atol=1e-2) and torch.allclose(found[1].float(), offset, atol=1e-2)
    assert explained(source, target, *found) > 0.999
    noise = torch.randn(40, 4, 3, 3, generator=generator)
    assert explained(source, noise, *fit_adapter(source, noise)) < 0.15


def test_steps_never_exceed_the_evaluations_asked_for() -> None:
    for rule, each, fewer in (("euler", 1, 0), ("heun", 2, 1), ("rk4", 4, 1)):
        for wanted in range(4, 50):
            steps = steps_for(rule, wanted)
            assert steps * each - fewer <= wanted < (steps + 1) * each - fewer


def test_replicas_come_in_turn_and_decide_the_claim() -> None:
    todo = jobs(SpectralTraining())
    assert todo[:6] == [(name, 0) for name in ("mse", "log", "whitened", "pre_mse", "pre_log", "pre_mix")]
    assert [replica for _, replica in todo] == sorted(replica for _, replica in todo) and len(todo) == 6 + 4 * 5
    five = [Trained("mse", r, Path(), None) for r in range(5)]
    assert claim([*five, Trained("pre_mix", 0, Path(), None)]) == "recipe"
    assert claim([*five, *(Trained("log", r, Path(), None) for r in range(4))]) == "checkpoint"


def test_packing_halves_the_weights_and_tells_what_they_do(models: Path) -> None:
    packed = pack(TINY, models)
    names = {path.relative_to(packed).as_posix() for path in packed.rglob("*.safetensors")}
    shipped = [("autoencoder", ("mse", "log", "pre_mse", "pre_mix")), ("flow", ("mse", "pre_mix"))]
    assert names == {f"{arm}-0/{kind}/model.safetensors" for kind, arms in shipped for arm in arms}
    assert describe(packed / "mse-0" / "autoencoder")["dtype"] == "float16"
    assert "| pre-emphasis, mix | 0.8 | 30 x published |" in (packed / "card.md").read_text()
    assert [one.name for one in trained_in(packed)] == ["mse", "log", "pre_mse", "pre_mix"] and Setting.read(packed)


@pytest.mark.parametrize("shape", [(64,), pytest.param((32, 40), marks=pytest.mark.slow)])
def test_a_folder_of_fields_is_trained_on_and_judged(shape: tuple[int, ...], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for name in range(5):
        walk = generator.standard_normal((4, *shape))
        for axis in range(1, len(shape) + 1):
            walk = np.cumsum(walk, axis)
        np.savez(tmp_path / "mine" / f"{name}.npz", w=walk.astype(np.float32))
    own = Folder(Files(str(tmp_path / "mine"), layout="t" + "yx"[-len(shape) :]))
    short = replace(TINY.train_autoencoder, images=16)
    config = replace(TINY, own=own, extras=(), train_autoencoder=short, log=ArmTraining(log_weight=1, flow=False))
    out = tmp_path / "models"
    for stage in ("data", "sweep", "autoencoders"):
        spectral_train.STAGES[stage](config, out, device="cpu")
    setting = Setting.read(out)
    cropped = tuple(n - n % 16 for n in shape)
    assert setting.grid.shape == cropped and setting.grid.wraps == (False,) * len(shape)
    assert shaped(config, setting).autoencoder.shape == cropped and not (out / "sweep").exists()
    page = run(spectral.fields(Spectral(weights=str(out))), tmp_path / "run", progress=False)
    assert store.read_json(page.parent / "report.json")["name"] == "spectral-fields"
    assert "Power and phases" in page.read_text()


def test_rain_is_learnt_by_its_logarithm_and_judged_in_both_spaces(tmp_path: Path) -> None:
    """Two channels, positive and heavy-tailed, as a user's rain and its cloud water."""
    generator = np.random.default_rng(0)
    (tmp_path / "rain").mkdir()
    for name in range(4):
        walk = np.cumsum(generator.standard_normal((4, 2, 32)), 2)
        np.savez(tmp_path / "rain" / f"{name}.npz", w=np.exp(0.5 * walk).astype(np.float32))
    own = Folder(Files(str(tmp_path / "rain"), layout="tcx"), transform=Transform("log1p", 0.1))
    short = replace(TINY.train_autoencoder, images=16)
    config = replace(TINY, own=own, extras=(), train_autoencoder=short, log=ArmTraining(log_weight=1, flow=False))
    for stage in ("data", "autoencoders"):
        spectral_train.STAGES[stage](config, tmp_path / "models", device="cpu")
    held = part(own, "train").fields
    raw = np.concatenate([np.load(path)["w"] for path in sorted((tmp_path / "rain").iterdir())])
    assert held.max() <= np.log1p(raw / 0.1).max() * 1.0001 and held.min() > 0
    comparison = spectral.fields(Spectral(weights=str(tmp_path / "models")))
    page = run(comparison, tmp_path / "run", progress=False)
    names = [metric["name"] for metric in store.read_json(page.parent / "report.json")["metrics"]]
    zone = Setting.read(tmp_path / "models").zones.names[-1]
    assert {f"retained_{zone}_own", f"coherence_{zone}_own", "field_error_own", f"channels_{zone}"} <= set(names)
    assert "the log1p undone" in page.read_text()


def test_bad_input(models: Path, tmp_path: Path) -> None:
    for call, words in (
        (lambda: spectral.study(Spectral(weights=str(tmp_path))), "holds no data.json"),
        (lambda: Spectral(evaluations=2), "evaluations: 2 is too few"),
        (lambda: Spectral(sweep=()), "sweep"),
        (lambda: Simulated(fields=(1, 2)), "three numbers"),  # pyright: ignore[reportArgumentType]
        (lambda: replace(TINY, replicas=()), "at least one training seed"),
        (lambda: replace(TINY, unet=replace(TINY.unet, channels=4)), r"takes \(4, 4, 4\), but the latents are \(8, 4, 4\)"),
        (lambda: spectral_train.STAGES["autoencoders"](TINY, tmp_path, device="cpu"), "run the stage 'data' first"),
        (lambda: spectral.fields(Spectral(weights=str(models))), "trained on turbulence"),
        (lambda: spectral.STUDIES["swap"](Spectral(weights=str(models))), "--stage swaps"),
        (lambda: spectral.STUDIES["weights"](Spectral(weights=str(models))), "--stage sweep"),
        (lambda: spectral.STUDIES["downscaling"](Spectral(weights=str(models))), "--stage downscaling"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_shipped_models_run_at_their_smallest(tmp_path: Path) -> None:
    page = run(spectral.study(spectral.CONFIGS["tiny"]), tmp_path / "run", progress=False)
    report = store.read_json(page.parent / "report.json")
    value = {(cell["arm"], cell["metric"]): cell["value"] for cell in report["cells"]}
    assert value["pre_mix", "coherence_DD"] > 0.85 > 0.6 > value["mse", "coherence_DD"]
    assert value["log", "retained_DD"] > value["mse", "retained_DD"] + 15 and value["log", "coherence_DD"] < 0.5
    assert sum(path.stat().st_size for path in ASSETS.rglob("*.safetensors")) < 4e6
