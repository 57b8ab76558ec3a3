"""Axes without periods: windows, DCT, slopes, masks, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft, signal

from diptych.physics.transforms import dct, idct, tapered, window, without_slope


@pytest.mark.parametrize("size", [4, 7, 32])
def test_dct_is_scipys_and_its_inverse_undoes_it(size: int) -> None:
    x = torch.randn(3, size, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = dct(x, -2)
    assert found.numpy() == pytest.approx(fft.dct(x.numpy(), norm="ortho", axis=-2), abs=1e-13)
    assert idct(found, -2).numpy() == pytest.approx(x.numpy(), abs=1e-13)


def test_gradients_are_those_of_an_orthonormal_matrix() -> None:
    x = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    up = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for way, back in ((dct, idct), (idct, dct)):
        (found,) = torch.autograd.grad((way(x, -1) * up).sum(), x)
        assert found.numpy() == pytest.approx(back(up, -1).numpy(), abs=1e-13)


@pytest.mark.parametrize(("name", "correction"), [("hann", 3 / 8), ("tukey", 11 / 16), ("none", 1.0)])
def test_windows_are_scipys_with_mean_square_one(name: str, correction: float) -> None:
    scaled, found = window(name, 64)
    spec = {"hann": "hann", "tukey": ("tukey", 0.5), "none": "boxcar"}[name]
    assert found == pytest.approx(correction)
    assert scaled * np.sqrt(found) == pytest.approx(signal.get_window(spec, 64, fftbins=True), abs=1e-12)
    assert np.mean(scaled**2) == pytest.approx(1.0)


def test_an_unknown_window_is_named() -> None:
    with pytest.raises(ValueError, match="'hanning' is unknown; choose from hann"):
        window("hanning", 8)


def test_slopes_go_and_the_mean_stays() -> None:
    y, x = torch.arange(9.0, dtype=torch.float64)[:, None], torch.arange(8.0, dtype=torch.float64)
    plane = 3.0 + 0.5 * y - 2.0 * x
    flat = without_slope(plane[None], (-2, -1), 2)
    assert flat.numpy() == pytest.approx(float(plane.mean()))
    assert without_slope(plane[None], (-1,), 2)[0, :, 3].numpy() == pytest.approx((plane.mean(1)).numpy())


def test_a_tapered_mask_rises_smoothly_from_the_gap() -> None:
    mask = np.ones((1, 12), bool)
    mask[0, :3] = False
    found = tapered(mask, 4.0)[0]
    assert found[:3].tolist() == [0, 0, 0]
    assert found[3:7] == pytest.approx(0.5 - 0.5 * np.cos(np.pi * np.arange(1, 5) / 4))
    assert found[7:].tolist() == [1.0] * 5
    assert tapered(np.ones(3, bool), 2.0).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="no cell is known"):
        tapered(np.zeros(3, bool), 2.0)
