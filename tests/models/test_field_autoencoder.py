"""The fields' autoencoder: the paper's count, exact filters, symmetries of the grid, standardised latents, bad shapes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.models.field_autoencoder import FieldAutoencoder, FieldAutoencoderConfig, paper_autoencoder
from diptych.models.hub import load_model, save_model
from diptych.physics.shells import SpectralGrid, filtered, power_mean
from diptych.train.emphasis import emphasis, mirrored_shells

TINY = FieldAutoencoderConfig(shape=(16, 16), stem=2, widths=(16, 16), refine=4, latent_channels=4)
SHAPES = [
    TINY,
    replace(TINY, channels=3, shape=(16, 24), periodic=(True, False)),
    replace(TINY, shape=(24, 16), periodic=(False, True), refine=0),
    replace(TINY, shape=(16, 16), periodic=(False, False), network="paper", stem=1, widths=(8, 8, 8)),
    FieldAutoencoderConfig(2, (64,), (True,), 4, "lean", 4, (16, 16), refine=4),
    FieldAutoencoderConfig(1, (64,), (False,), 4, "lean", 4, (16, 16), refine=0),
]


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def fields(config: FieldAutoencoderConfig, count: int = 24, slope: float = 4.0, seed: int = 0) -> torch.Tensor:
    """Random fields whose power falls with the wavenumber."""
    noise = torch.randn(count, config.channels, *config.shape, generator=torch.Generator().manual_seed(seed))
    grid = grid_of(config)
    return 3.0 + filtered(noise, torch.arange(grid.shells).clamp(min=1.0) ** (-slope / 2), grid)


def grid_of(config: FieldAutoencoderConfig, dealiased: bool = False) -> SpectralGrid:
    return SpectralGrid(config.shape, periodic=config.periodic, window="dct", dealiased=dealiased)


def test_the_papers_network_has_its_parameters() -> None:
    config = paper_autoencoder()
    model = FieldAutoencoder(config)
    assert (parameters(model.encoder), parameters(model.decoder)) == (2_479_056, 2_476_993)
    assert f"{parameters(model) / 1e6:.2f}" == "4.96"
    assert config.latent_shape == (8, 16, 16) and config.compression == 32


def test_the_lean_network_is_eightfold_and_small() -> None:
    config = FieldAutoencoderConfig()
    assert config.latent_shape == (8, 8, 8) and config.compression == 8
    assert 0.3e6 < parameters(FieldAutoencoder(config)) < 0.42e6


@pytest.mark.parametrize("config", SHAPES)
def test_every_shape_trains_and_gives_back_its_grid(config: FieldAutoencoderConfig) -> None:
    model, x = FieldAutoencoder(config), fields(config)
    model.fit_scale(x, emphasis(x, grid_of(config), 0.6))
    coded = model(x[:4], torch.Generator().manual_seed(0))
    assert coded.decoded.shape == coded.target.shape == x[:4].shape
    assert coded.mean.shape[1:] == config.latent_shape
    (coded.decoded - coded.target).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.encoder.parameters())
    model.calibrate(x)
    latents = model.encode(x).detach()
    dims = (0, *range(2, latents.ndim))
    assert torch.allclose(latents.mean(dims), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std(dims, correction=0), torch.ones(4), atol=1e-3)
    assert model.decode(latents).shape == x.shape


@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("exponent", [0.4, 1.0])
def test_emphasis_is_undone_exactly_and_flattens_the_spectrum(config: FieldAutoencoderConfig, exponent: float) -> None:
    model, x, grid = FieldAutoencoder(config), fields(config, 200), grid_of(config)
    model.fit_scale(x, emphasis(x, grid, exponent))
    seen = model.emphasised(x)
    assert torch.allclose(model.plain(seen), x, atol=2e-4 * float(x.std()))
    dims = (0, *range(2, x.ndim))
    assert torch.allclose(seen.std(dims, correction=0), torch.ones(config.channels), atol=1e-4)
    before, after = (power_mean(one, grid).mean((0, 1))[1 : grid.k_max] for one in (x, seen))
    slopes = [torch.log(p[-1] / p[0]) for p in (before, after)]
    assert slopes[1] == pytest.approx(float(slopes[0]) * (1 - exponent), abs=0.05 * abs(float(slopes[0])))


def test_the_filter_is_the_shells_of_a_transform_of_the_mirrored_field() -> None:
    flat = grid_of(replace(TINY, periodic=(False, True)))
    whole = SpectralGrid((32, 16), spacing=(1.0, 1.0))
    radius = (whole.components[0] ** 2 + whole.components[1] ** 2) ** 0.5 * 16 / (2 * math.pi)
    inside = (radius < 7) & (abs(radius % 1 - 0.5) > 1e-6)
    assert (mirrored_shells(flat) == (radius + 0.5).astype(int))[inside].all()


def test_projection_drops_what_the_data_do_not_have() -> None:
    grid, model = grid_of(TINY, dealiased=True), FieldAutoencoder(TINY)
    x = fields(TINY)
    model.fit_scale(x, emphasis(x, grid, 0.6))
    model.calibrate(x)
    latents = torch.randn(4, *TINY.latent_shape, generator=torch.Generator().manual_seed(0))
    made = power_mean(model.decode(latents).detach(), grid)
    assert grid.k_max == 5
    assert float(made[..., 6:].max()) < 1e-8 * float(made.max())


def test_a_shift_by_whole_latents_shifts_the_reconstruction_on_periodic_axes() -> None:
    model, x = FieldAutoencoder(TINY), fields(TINY)
    model.fit_scale(x, emphasis(x, grid_of(TINY), 0.6))
    model.calibrate(x)
    with torch.no_grad():
        there = model.decode(model.encode(x))
        moved = model.decode(model.encode(x.roll((4, 8), (2, 3))))
    assert torch.allclose(moved, there.roll((4, 8), (2, 3)), atol=1e-4)


def test_saved_and_loaded_in_half_precision_keeps_the_filter(tmp_path: Path) -> None:
    model, x = FieldAutoencoder(TINY), fields(TINY)
    model.fit_scale(x, emphasis(x, grid_of(TINY), 0.8))
    model.calibrate(x)
    again = load_model(save_model(model, TINY, tmp_path / "m", dtype=torch.float16))
    assert isinstance(again, FieldAutoencoder) and torch.equal(again.gain, model.gain)
    with torch.no_grad():
        error = (again.decode(again.encode(x)) - model.decode(model.encode(x))).square().mean().sqrt()
    assert float(error) < 0.02 * float(x.std())


def test_bad_input() -> None:
    model, x = FieldAutoencoder(TINY), fields(TINY)
    for call, words in (
        (lambda: model.encode(x[..., :8]), r"fields of shape \(1, 16, 8\).*takes \(1, 16, 16\)"),
        (lambda: model.fit_scale(torch.ones_like(x)), "constant"),
        (lambda: model.fit_scale(x, torch.ones(1, 3, 3)), "filter"),
        (lambda: emphasis(x, grid_of(TINY), 3.0), "exponent"),
        (lambda: replace(TINY, shape=(18, 16)), "multiple of 4"),
        (lambda: replace(TINY, shape=(4, 16), periodic=(False, True)), "8 or more"),
        (lambda: replace(TINY, periodic=(True,)), "a flag each"),
        (lambda: replace(TINY, widths=(16,)), "one entry a resolution"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
