"""Shells against a double loop over modes, Parseval, known spectra, leaks, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.physics.shells import SpectralGrid, band, coefficients, fields, filtered, invertible, power_mean, power_sum

GRIDS = [
    SpectralGrid((16, 16)),
    SpectralGrid((15, 12)),
    SpectralGrid((16, 24), (0.5, 0.1)),
    SpectralGrid((12, 18), by="scaled", width=1.5),
    SpectralGrid((12, 16), by="y"),
    SpectralGrid((12, 16), by="x"),
    SpectralGrid((31,), (0.2,)),
    SpectralGrid((16, 12), periodic=(True, False), window="dct"),
    SpectralGrid((12, 15), periodic=(False, True), window="dct"),
    SpectralGrid((9, 12), periodic=False, window="dct"),
]


def named(grid: SpectralGrid) -> str:
    return f"{grid.shape}-{grid.by}-{grid.window if not all(grid.wraps) else 'periodic'}"


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute(x: np.ndarray, grid: SpectralGrid) -> tuple[np.ndarray, np.ndarray]:
    """Shell sums and counts by a loop over all two-sided modes, each an explicit sum over points."""
    bases = []
    for size, wraps in zip(grid.shape, grid.wraps):
        n = np.arange(size)
        if wraps:
            waves = [m - size if 2 * m > size else m for m in range(size)]
            bases.append([(abs(m), np.exp(-2j * np.pi * m * n / size) / size) for m in waves])
        else:
            scale = [math.sqrt((1.0 if m == 0 else 2.0) / size) / math.sqrt(size) for m in range(size)]
            bases.append([(m / 2, s * np.cos(np.pi * m * (n + 0.5) / size)) for m, s in enumerate(scale)])
    longest, largest = max(grid.lengths), max(grid.shape)
    sums, counts = np.zeros(grid.shells), np.zeros(grid.shells)
    for modes in itertools.product(*bases):
        value = x
        for _, wave in reversed(modes):
            value = value @ wave
        if grid.by in ("y", "x"):
            radius = modes[0 if grid.by == "y" else 1][0]
        else:
            scale = [largest / n if grid.by == "scaled" else longest / one for n, one in zip(grid.shape, grid.lengths)]
            radius = math.sqrt(sum((m * s) ** 2 for (m, _), s in zip(modes, scale)))
        shell = math.floor(radius / grid.width + 0.5 + 1e-9)
        sums[shell] += abs(value) ** 2
        counts[shell] += 1
    return sums, counts


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_shells_equal_a_double_loop_and_parseval_holds(grid: SpectralGrid) -> None:
    x = white(2, 3, *grid.shape)
    sums, counts = brute(x[1, 2].numpy(), grid)
    assert grid.counts.tolist() == counts.tolist()
    assert counts[: grid.k_max + 1].min() > 0
    assert power_sum(x, grid)[1, 2].numpy() == pytest.approx(sums, abs=1e-13)
    assert power_mean(x, grid)[1, 2].numpy() == pytest.approx(sums / np.maximum(counts, 1), abs=1e-13)
    assert power_sum(x, grid).sum(-1).numpy() == pytest.approx(x.square().mean(grid.axes).numpy(), rel=1e-12)
    assert fields(coefficients(x, grid), grid).numpy() == pytest.approx(x.numpy(), abs=1e-12)


def test_single_precision_keeps_parseval_to_a_millionth_and_half_is_raised() -> None:
    grid, x = SpectralGrid((64, 64)), white(4, 64, 64).float()
    found = power_sum(x, grid)
    assert found.dtype == torch.float32
    assert found.sum(-1).numpy() == pytest.approx(x.double().square().mean((1, 2)).numpy(), rel=1e-6)
    assert power_sum(x.bfloat16(), grid).dtype == torch.float32


@pytest.mark.parametrize("at", [(0, 3), (5, 0), (3, 4), (-4, 3)])
def test_one_wave_lies_in_its_shell_with_half_its_squared_amplitude(at: tuple[int, int]) -> None:
    grid = SpectralGrid((32, 32), (2 * math.pi / 32,) * 2)
    n = 2 * math.pi * torch.arange(32, dtype=torch.float64) / 32
    wave = 3.0 * torch.cos(at[0] * n[:, None] + at[1] * n + 0.7)
    expected = np.zeros(grid.shells)
    expected[round(math.hypot(*at))] = 4.5
    assert power_sum(wave, grid).numpy() == pytest.approx(expected, abs=1e-12)
    assert grid.wavenumbers[:3].tolist() == pytest.approx([0, 1, 2])


def test_wavenumbers_have_the_units_of_the_spacing() -> None:
    grid = SpectralGrid((64, 32), (0.25, 0.5))  # both axes 16 long
    assert grid.wavenumbers[1] == pytest.approx(2 * math.pi / 16)
    assert grid.k_max == 16  # the coarser axis
    assert grid.magnitude[3, 0] == pytest.approx(3 * 2 * math.pi / 16)
    assert SpectralGrid((64, 64), dealiased=True).k_max == 21
    assert SpectralGrid((256, 256), dealiased=True).k_max == 85
    assert SpectralGrid((96, 96), dealiased=True).k_max == 31  # 32 would alias
    assert SpectralGrid((64, 32), by="y", dealiased=True).k_max == 21


def test_the_power_spectrum_of_noise_under_a_window_is_level() -> None:
    """The correction factor: white noise of variance 4 has the same power a mode with and without windows."""
    for kind in ("hann", "tukey", "dct"):
        grid = SpectralGrid((32, 32), periodic=False, window=kind)
        power = power_mean(2.0 * white(400, 32, 32), grid).mean(0)[3 : grid.k_max]
        assert power.mean() * 32 * 32 == pytest.approx(4.0, rel=0.02), kind
    assert SpectralGrid((32, 32), periodic=False).correction == pytest.approx(9 / 64)
    assert SpectralGrid((32, 32), periodic=False, window="dct").correction == 1.0


def test_a_ramp_does_not_leak_through_a_window() -> None:
    """Declared periodic, a ramp has a tail k^-2 up to the last shell; a window or the even extension take it away."""
    ramp = torch.linspace(-1, 1, 64, dtype=torch.float64).expand(64, 64)
    share = {}
    for name, grid in {
        "periodic": SpectralGrid((64, 64)),
        "hann": SpectralGrid((64, 64), periodic=(True, False)),
        "tukey": SpectralGrid((64, 64), periodic=(True, False), window="tukey"),
        "dct": SpectralGrid((64, 64), periodic=(True, False), window="dct"),
        "plane": SpectralGrid((64, 64), periodic=(True, False), detrend="plane"),
    }.items():
        power = power_sum(ramp, grid)
        share[name] = float(power[22:33].sum() / ramp.square().mean())
    assert share["periodic"] > 3e-3
    assert share["hann"] < 1e-7
    assert share["tukey"] < 1e-5
    assert share["dct"] < 1e-5
    assert share["plane"] < 1e-25


def test_a_windowed_field_does_not_show_its_mean() -> None:
    grid = SpectralGrid((48,), periodic=False)
    x = white(48)
    assert power_sum(x + 1e3, grid).numpy() == pytest.approx(power_sum(x, grid).numpy(), abs=1e-9)
    with pytest.raises(ValueError, match="a window cannot be undone"):
        fields(coefficients(x, grid), grid)
    assert invertible(grid).window == "dct"


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_filters_multiply_shells_and_bands_add_up(grid: SpectralGrid) -> None:
    x = white(2, *grid.shape)
    gain = torch.linspace(0.5, 2.0, grid.shells, dtype=torch.float64)
    assert power_sum(filtered(x, gain, grid), grid).numpy() == pytest.approx((power_sum(x, grid) * gain**2).numpy(), abs=1e-12)
    middle = grid.shells // 2
    parts = band(x, (0, middle), grid) + band(x, (middle + 1, grid.shells - 1), grid)
    assert parts.numpy() == pytest.approx(x.numpy(), abs=1e-12)
    assert power_sum(filtered(x, gain[:3], grid), grid)[..., 3:].abs().max() < 1e-25


def test_filters_of_windowed_grids_are_exact_and_keep_single_precision() -> None:
    grid = SpectralGrid((24, 24), periodic=False)
    x = white(2, 24, 24).float()
    for count in (grid.shells, invertible(grid).shells):  # the last of the windowed grid's shells has no mode of a DCT
        same = filtered(x, torch.ones(count), grid)
        assert same.dtype == torch.float32
        assert same.numpy() == pytest.approx(x.numpy(), abs=1e-5)
    with pytest.raises(ValueError, match="99 gains for 18 shells"):
        filtered(x, torch.ones(99), grid)


@pytest.mark.parametrize("grid", [*GRIDS, SpectralGrid((6, 4), periodic=(False, True), detrend="plane")], ids=named)
def test_shell_sums_have_exact_gradients(grid: SpectralGrid) -> None:
    """Powers are quadratic, so that central differences are exact but for rounding."""
    x, along = white(*grid.shape).requires_grad_(), white(*grid.shape, seed=1)
    weights = white(grid.shells, seed=2)
    (found,) = torch.autograd.grad((power_mean(x, grid) @ weights).sum(), x)
    with torch.no_grad():
        ahead, behind = (power_mean(x + h * along, grid) for h in (0.5, -0.5))
    assert float((found * along).sum()) == pytest.approx(float((ahead - behind) @ weights), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8, 8, 8)}, r"not \(N,\) or \(H, W\)"),
        ({"shape": (2, 8)}, "at least 4 points"),
        ({"shape": (8, 8), "spacing": (1.0,)}, "one positive number for each of 2 axes"),
        ({"shape": (8,), "spacing": (-1.0,)}, "one positive number"),
        ({"shape": (8, 8), "periodic": (True,)}, "one answer for each of 2 axes"),
        ({"shape": (8, 8), "window": "none"}, "choose hann, tukey or dct"),
        ({"shape": (8, 8), "detrend": "cubic"}, "choose mean or plane"),
        ({"shape": (8,), "by": "y"}, "does not fit 1 axes"),
        ({"shape": (8, 8), "width": 0.5}, "narrower shells would be empty"),
    ],
)
def test_grids_that_make_no_sense_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpectralGrid(**arguments)


def test_fields_of_another_shape_and_missing_units_are_named() -> None:
    grid = SpectralGrid((8, 8))
    with pytest.raises(ValueError, match=r"shape \(3, 8, 9\) does not end in the grid's \(8, 8\)"):
        power_sum(torch.zeros(3, 8, 9), grid)
    with pytest.raises(ValueError, match="energy: the grid's spacing is unknown"):
        grid.units("energy")
