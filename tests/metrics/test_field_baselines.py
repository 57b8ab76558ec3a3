"""Shell gain, low pass and principal components: what they mend, what they cannot, and against independent references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_fields import GRID, STEEP, ZONES, truth_fields, value, white

from diptych.metrics.field import zone_coherence
from diptych.metrics.field_baselines import CAP, LowPass, Principal, ShellGain
from diptych.metrics.zone_bias import zone_bias
from diptych.physics.shells import SpectralGrid, filtered, power_mean


def test_a_gain_undoes_a_filter_exactly() -> None:
    truth = truth_fields()
    loss = 1.0 / (1.0 + 0.1 * torch.arange(GRID.shells, dtype=torch.float64))
    recon = filtered(truth, loss, GRID)
    fitted = ShellGain.fit(recon.numpy(), truth.numpy(), GRID)
    assert fitted.gain[1:] == pytest.approx((1.0 / loss[1:]).tolist())
    assert fitted.gain[0] == 1.0
    assert fitted(recon)[:5].numpy() == pytest.approx(truth[:5].numpy(), abs=1e-10)


def test_a_gain_mends_power_and_no_phases() -> None:
    truth = truth_fields(200)
    recon = filtered(0.5 * truth + 0.3 * filtered(white(200, 32, 32, seed=5), STEEP, GRID), STEEP**0.2, GRID)
    fitted = ShellGain.fit(recon.numpy(), truth.numpy(), GRID)
    before, after = (value(zone_coherence(GRID, ZONES, "DD"), x, truth) for x in (recon, fitted(recon)))
    assert after == pytest.approx(before, abs=0.01)
    assert abs(value(zone_bias(GRID, ZONES, "DD", "ratio"), fitted(recon), truth)) < 1e-10
    assert value(zone_bias(GRID, ZONES, "DD", "ratio"), recon, truth) < -0.3


def test_noise_is_not_lifted_and_gains_are_capped() -> None:
    truth = truth_fields(200)
    keep = torch.ones(GRID.shells, dtype=torch.float64)
    keep[8:11] = 0.0
    noise = filtered(1e-3 * white(200, 32, 32, seed=6), 1.0 - keep, GRID)
    recon = filtered(truth, keep, GRID) + noise  # nothing but faint noise from shell 8 to 10
    fitted = ShellGain.fit(recon.numpy(), truth.numpy(), GRID)
    assert list(fitted.gain[8:11]) == [1.0] * 3
    assert fitted.gain[5] == pytest.approx(1.0)
    lifted = ShellGain.fit(recon.numpy(), truth.numpy(), GRID, least_coherence=-1.0)
    assert list(lifted.gain[8:11]) == [CAP] * 3
    empty = ShellGain.fit(np.zeros((4, 32, 32)), truth[:4].numpy(), GRID)
    assert set(empty.gain) == {1.0}
    with pytest.raises(ValueError, match="differ in shape"):
        ShellGain.fit(recon.numpy()[:3], truth.numpy(), GRID)


def test_low_pass_keeps_the_largest_scales_its_numbers_can_hold() -> None:
    x = white(2, 32, 32)
    kept = LowPass(GRID, 100)(x)
    k = np.fft.fftfreq(32, 1 / 32)
    radius = np.hypot(k[:, None], k)
    sizes = np.unique(radius.round(9))
    last = max(size for size in sizes if (radius <= size + 1e-6).sum() <= 100)
    expected = np.fft.ifft2(np.where(radius <= last + 1e-6, np.fft.fft2(x.numpy()), 0.0)).real
    assert kept.numpy() == pytest.approx(expected, abs=1e-12)
    assert LowPass(GRID, 1024)(x).numpy() == pytest.approx(x.numpy(), abs=1e-12)
    assert LowPass(GRID, 1)(x).numpy() == pytest.approx(x.mean((1, 2), keepdim=True).expand(2, 32, 32).numpy())
    signal = SpectralGrid((40,), periodic=False)
    assert LowPass(signal, 40)(white(3, 40)).numpy() == pytest.approx(white(3, 40).numpy(), abs=1e-12)
    with pytest.raises(ValueError, match="has 1024"):
        LowPass(GRID, 2000)


@pytest.mark.parametrize("count", [30, 90])
def test_principal_components_are_those_of_the_singular_values(count: int) -> None:
    """More fields than values and fewer: the error is what the left-out singular values hold."""
    data = white(count, 2, 5, 6) * torch.linspace(0.1, 3.0, 60, dtype=torch.float64).view(2, 5, 6)
    code = Principal.fit(data, 12)
    flat = data.flatten(1) - data.flatten(1).mean(0)
    left = np.linalg.svd(flat.numpy(), compute_uv=False)[12:]
    assert float((code(data) - data).square().sum()) == pytest.approx((left**2).sum())
    assert code(data).shape == data.shape
    assert (code.basis @ code.basis.T).numpy() == pytest.approx(np.eye(12), abs=1e-9)
    assert code(code(data)).numpy() == pytest.approx(code(data).numpy(), abs=1e-9)
    with pytest.raises(ValueError, match="numbers=0"):
        Principal.fit(data, 0)


def test_principal_components_of_a_stationary_field_find_its_strong_modes() -> None:
    """Translation-invariant data have Fourier modes for components: with many fields PCA and the low pass agree."""
    grid = SpectralGrid((16,))
    power = torch.arange(1, grid.shells + 1, dtype=torch.float64) ** -2.0
    data = filtered(white(20000, 16), power, grid)
    kept = Principal.fit(data, 7)(data[:500])
    other = LowPass(grid, 7)(data[:500])
    assert float((kept - other).square().mean() / data[:500].square().mean()) < 2e-3
    assert power_mean(kept, grid).mean(0)[6] < 1e-3 * power_mean(data[:500], grid).mean(0)[6]
