"""Spectral losses: zeros, invariances, known values, gradients by finite differences, precision, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.physics.random_fields import phase_randomised
from diptych.physics.shells import SpectralGrid, filtered, power_mean
from diptych.physics.zones import Zones
from diptych.train.losses import mean_squared
from diptych.train.spectral_loss import (
    PAPER_CLAMP,
    PAPER_WEIGHTS,
    BinnedPowerLoss,
    FocalFrequencyLoss,
    LogSpectralLoss,
    Mix,
    WhitenedLoss,
    gaussian_kl,
)

GRID = SpectralGrid((32, 32), dealiased=True)
ZONES = Zones.of({"IR": (2, 4), "DO": (5, 7), "DD": (8, 10)})
LOG = LogSpectralLoss(GRID, ZONES, PAPER_WEIGHTS)
STEEP = torch.arange(1, GRID.shells + 1, dtype=torch.float64) ** -2.0


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turbulent(count: int, seed: int = 0, channels: int = 1) -> Tensor:
    x = filtered(white(count, channels, 32, 32, seed=seed), STEEP, GRID)
    return x / x.std()


def losses() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "log": LOG,
        "log, batch": LogSpectralLoss(GRID, ZONES, PAPER_WEIGHTS, per_sample=False),
        "whitened": WhitenedLoss.fit(turbulent(64, seed=9), GRID),
        "binned": BinnedPowerLoss(GRID),
        "focal": FocalFrequencyLoss(GRID),
        "mix": Mix(((1.0, mean_squared), (2.0, LOG))),
    }


@pytest.mark.parametrize("name", list(losses()))
def test_identical_fields_cost_nothing_and_every_row_its_own(name: str) -> None:
    loss, truth, other = losses()[name], turbulent(5), turbulent(5, seed=1)
    assert loss(truth, truth).tolist() == [0.0] * 5
    found = loss(other, truth)
    assert found.shape == (5,)
    assert (found > 0).all()
    if name != "log, batch":
        assert loss(other[2:3], truth[2:3]).numpy() == pytest.approx(found[2:3].numpy())


@pytest.mark.parametrize("name", ["log", "log, batch", "whitened", "binned"])
def test_gradients_match_finite_differences(name: str) -> None:
    loss, truth = losses()[name], turbulent(3)
    x, along = turbulent(3, seed=1).requires_grad_(), white(3, 1, 32, 32, seed=2)
    loss(x, truth).sum().backward()
    assert x.grad is not None
    step = 1e-5
    with torch.no_grad():
        change = (loss(x + step * along, truth).sum() - loss(x - step * along, truth).sum()) / (2 * step)
    assert float((x.grad * along).sum()) == pytest.approx(float(change), rel=1e-6)


def test_focal_gradient_holds_its_weights_fixed() -> None:
    """The gradient equals that of the squared errors under the weights written out by a plain two-sided transform."""
    truth, x = turbulent(2), turbulent(2, seed=1).requires_grad_()
    loss = FocalFrequencyLoss(GRID)
    error = torch.fft.fft2(x - truth, norm="ortho")
    size = error.abs()
    focus = (size / size.amax((2, 3), keepdim=True)).detach()
    by_hand = (focus * size.square()).mean((2, 3)).mean(1)
    assert loss(x, truth).detach().numpy() == pytest.approx(by_hand.detach().numpy())
    found, wanted = (torch.autograd.grad(value.sum(), x)[0] for value in (loss(x, truth), by_hand))
    assert found.numpy() == pytest.approx(wanted.numpy(), abs=1e-14)


@pytest.mark.parametrize("name", ["log", "log, batch", "binned"])
def test_power_losses_do_not_see_shifts_nor_phases_nor_a_common_filter(name: str) -> None:
    loss, truth, model = losses()[name], turbulent(4), turbulent(4, seed=1)
    found = loss(model, truth)
    assert loss(model.roll((3, 5), (2, 3)), truth).numpy() == pytest.approx(found.numpy(), rel=1e-9)
    assert loss(phase_randomised(model, white(4, 1, 32, 32, seed=3), GRID), truth).numpy() == pytest.approx(found.numpy())
    emphasis = STEEP**-0.6
    both = [filtered(x, emphasis, GRID) for x in (model, truth)]
    assert loss(*both).numpy() == pytest.approx(found.numpy(), rel=1e-6)  # not exact for eps alone


def test_a_gain_costs_its_squared_logarithm_in_its_zone_alone() -> None:
    truth = turbulent(3)
    gain = torch.ones(GRID.shells, dtype=torch.float64)
    gain[8:11] = 0.5
    by_zone = LOG.by_zone(filtered(truth, gain, GRID), truth)
    assert by_zone.numpy() == pytest.approx(np.tile([0, 0, np.log(4.0) ** 2], (3, 1)), abs=1e-6)
    assert LOG(filtered(truth, gain, GRID), truth).numpy() == pytest.approx(6e-3 * np.log(4.0) ** 2, rel=1e-6)
    assert BinnedPowerLoss(GRID, (8, 10))(filtered(truth, gain, GRID), truth).numpy() == pytest.approx(0.75**2)


def test_the_loss_is_the_papers_formula_on_an_unnormalised_transform() -> None:
    truth, model, eps = turbulent(2), turbulent(2, seed=1), 1e-6
    k = np.fft.fftfreq(32, 1 / 32)
    shell = np.floor(np.hypot(k[:, None], k) + 0.5)
    expected = np.zeros(2)
    for weight, (low, high) in zip(PAPER_WEIGHTS, ZONES.edges):
        for row in range(2):
            powers = [np.abs(np.fft.fft2(x[row, 0].numpy())) ** 2 for x in (model, truth)]
            logs = [[np.log(p[shell == j].mean() + eps) for j in range(low, high + 1)] for p in powers]
            expected[row] += weight * np.mean((np.array(logs[0]) - np.array(logs[1])) ** 2)
    assert LOG(model, truth).numpy() == pytest.approx(expected, rel=1e-12)


def test_batch_powers_leave_single_fields_free() -> None:
    truth = turbulent(6)
    loss = LogSpectralLoss(GRID, ZONES, PAPER_WEIGHTS, per_sample=False)
    assert loss(truth.flip(0), truth).abs().max() < 1e-20
    assert LOG(truth.flip(0), truth).min() > 1e-5


def test_the_papers_clamp_silences_the_gradient_of_the_worst_zone() -> None:
    truth = turbulent(1)
    gain = torch.ones(GRID.shells, dtype=torch.float64)
    gain[8:11] = 1e-2  # (2 ln 0.01)^2 is 84.8
    gain[5:8] = 0.7
    grads = {}
    for clamp in (None, PAPER_CLAMP):
        x = filtered(truth, gain, GRID).requires_grad_()
        loss = LogSpectralLoss(GRID, ZONES, PAPER_WEIGHTS, clamp=clamp)
        value = loss(x, truth).sum()
        value.backward()
        grads[clamp] = power_mean(x.grad, GRID)[0, 0]
        worst = (2 * np.log(0.01)) ** 2 if clamp is None else 50.0
        assert value.item() == pytest.approx(4e-3 * np.log(0.49) ** 2 + 6e-3 * worst, rel=1e-3)
    assert grads[None][9] > 0
    assert grads[PAPER_CLAMP][9] < 1e-20 * grads[None][9]
    assert grads[PAPER_CLAMP][6] > 0.99 * grads[None][6]


def test_whitened_loss_counts_every_scale_alike_and_sees_phases() -> None:
    data = turbulent(256, seed=9)
    loss = WhitenedLoss.fit(data, GRID)
    assert float(loss(torch.zeros_like(data), data).mean()) == pytest.approx(1.0)
    noise = phase_randomised(data, white(256, 1, 32, 32, seed=4), GRID)
    assert float(loss(noise, data).mean()) == pytest.approx(2.0, rel=0.02)
    for shells in ((2, 4), (8, 10)):
        gain = torch.ones(GRID.shells, dtype=torch.float64)
        gain[shells[0] : shells[1] + 1] = 0.0
        share = GRID.counts[shells[0] : shells[1] + 1].sum() / GRID.counts[1:11].sum()
        assert float(loss(filtered(data, gain, GRID), data).mean()) == pytest.approx(share)


def test_whitening_leaves_empty_shells_and_other_ranges_out() -> None:
    data = filtered(turbulent(16), torch.ones(8, dtype=torch.float64), GRID)  # nothing from shell 8 up
    loss = WhitenedLoss.fit(data, GRID)
    assert torch.isfinite(loss(data + white(16, 1, 32, 32), data)).all()
    beyond = filtered(white(16, 1, 32, 32), torch.tensor([0.0] * 9 + [1.0] * 5, dtype=torch.float64), GRID)
    assert loss(data + beyond, data).abs().max() < 1e-12
    only = WhitenedLoss.fit(turbulent(16), GRID, shells=(8, 10))
    large = filtered(turbulent(16), torch.ones(8, dtype=torch.float64), GRID)
    assert float(only(turbulent(16) - large, turbulent(16)).abs().max()) < 1e-12


def test_whitening_is_by_channel() -> None:
    scale = torch.tensor([1.0, 1e3], dtype=torch.float64).view(1, 2, 1, 1)
    data = turbulent(64, channels=2) * scale
    loss = WhitenedLoss.fit(data, GRID)
    half = data.clone()
    half[:, 1] = 0
    assert float(loss(half, data).mean()) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="1 channels, fitted on 2"):
        loss(data[:, :1], data[:, :1])


def test_focal_loss_without_focus_is_the_mean_squared_error() -> None:
    a, b = turbulent(3, channels=2), turbulent(3, seed=1, channels=2)
    assert FocalFrequencyLoss(GRID, 0.0)(a, b).numpy() == pytest.approx(mean_squared(a, b).numpy(), rel=1e-6)


@pytest.mark.parametrize("name", ["log", "log, batch", "whitened", "binned", "focal"])
def test_autocast_and_half_precision_do_not_reach_inside(name: str) -> None:
    loss, truth, model = losses()[name], turbulent(2).float(), turbulent(2, seed=1).float()
    plain = loss(model, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(model, truth)
        rounded = loss(model.bfloat16(), truth)
    assert found.dtype == rounded.dtype == torch.float32
    assert found.tolist() == plain.tolist()
    assert loss(model.bfloat16().float(), truth).tolist() == rounded.tolist()


@pytest.mark.parametrize(
    "grid",
    [SpectralGrid((40,), periodic=False), SpectralGrid((24, 16), (0.1, 0.3), periodic=(True, False), window="dct")],
    ids=["signal", "half periodic"],
)
def test_other_grids_work_and_have_finite_gradients(grid: SpectralGrid) -> None:
    zones = Zones.fractions(grid, (0.2, 0.6, 1.0), ("low", "high"))
    truth, model = white(4, 2, *grid.shape), white(4, 2, *grid.shape, seed=1).requires_grad_()
    for loss in (LogSpectralLoss(grid, zones, (1.0, 1.0)), WhitenedLoss.fit(truth, grid), BinnedPowerLoss(grid)):
        assert loss(truth, truth).tolist() == [0.0] * 4
        (grad,) = torch.autograd.grad(loss(model, truth).sum(), model)
        assert torch.isfinite(grad).all() and grad.abs().max() > 0


def test_a_prediction_of_zero_has_a_finite_gradient() -> None:
    x = torch.zeros(2, 1, 32, 32, requires_grad=True)
    for name, loss in losses().items():
        (grad,) = torch.autograd.grad(loss(x, turbulent(2).float()).sum(), x)
        assert torch.isfinite(grad).all(), name


def test_constants_made_while_sampling_serve_training() -> None:
    grid = SpectralGrid((18, 18))  # of no other test: its constants are not there yet
    zones = Zones.of({"all": (1, 9)})
    truth, model = white(2, 1, 18, 18), white(2, 1, 18, 18, seed=1)
    whitened = WhitenedLoss.fit(truth, grid)
    for loss in (LogSpectralLoss(grid, zones, (1.0,)), whitened):
        with torch.inference_mode():
            seen = loss(model, truth)
        x = model.clone().requires_grad_()
        loss(x, truth).sum().backward()
        assert loss(x, truth).tolist() == seen.tolist()


def test_kl_is_torchs() -> None:
    mean, log_variance = white(3, 8, 4), white(3, 8, 4, seed=1).clamp(-6, 2)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(normal, unit).flatten(1).mean(1)
    assert gaussian_kl(mean, log_variance).numpy() == pytest.approx(expected.numpy(), rel=1e-5)
    assert gaussian_kl(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0.0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one number >= 0 for each of"):
        LogSpectralLoss(GRID, ZONES, (1.0, 2.0))
    with pytest.raises(ValueError, match="eps 0 is not positive"):
        LogSpectralLoss(GRID, ZONES, PAPER_WEIGHTS, eps=0.0)
    with pytest.raises(ValueError, match="exceed k_max"):
        LogSpectralLoss(SpectralGrid((16, 16)), ZONES, PAPER_WEIGHTS)
    with pytest.raises(ValueError, match="differ in shape"):
        LOG(torch.zeros(2, 1, 32, 32), torch.zeros(2, 32, 32))
    with pytest.raises(ValueError, match="has no batch axis"):
        LOG(torch.zeros(32, 32), torch.zeros(32, 32))
    with pytest.raises(ValueError, match=r"does not end in the grid's \(32, 32\)"):
        LOG(torch.zeros(2, 16, 16), torch.zeros(2, 16, 16))
    with pytest.raises(ValueError, match="use fit"):
        WhitenedLoss(GRID, ((0.0, 0.0),))
