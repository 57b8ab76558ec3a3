"""The vorticity solver against exact solutions, its own order, conservation laws and a plain independent right-hand side."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from diptych.physics.kolmogorov import budget
from diptych.physics.navier_stokes import BlowUp, Flow, Solver, initial, simulate
from diptych.physics.vorticity import velocity

FREE = {"amplitude": 0.0, "drag": 0.0, "dtype": "float64"}


def points(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x along the last axis, y along the one before."""
    line = torch.arange(size).double() * (2 * math.pi / size)
    return line[None, :], line[:, None]


def last(flow: Flow, start: torch.Tensor, time: float) -> torch.Tensor:
    return next(simulate(flow, start, time, 1))[1]


def test_a_single_mode_decays_exactly() -> None:
    x, y = points(32)
    flow = Flow(size=32, viscosity=0.05, drag=0.3, amplitude=0.0, dt=0.05, start_wavenumber=2, dtype="float64")
    start = torch.cos(3 * x + 4 * y)[None]
    assert torch.allclose(last(flow, start, 2.0), start * math.exp(-2 * (0.05 * 25 + 0.3)), atol=1e-14, rtol=0)


def test_taylor_green_decays_exactly() -> None:
    x, y = points(32)
    flow = Flow(size=32, viscosity=0.02, dt=0.05, start_wavenumber=2, **FREE)
    start = (2 * torch.cos(x) * torch.cos(y))[None]
    assert torch.allclose(last(flow, start, 5.0), start * math.exp(-2 * 0.02 * 5), atol=1e-13, rtol=0)


def test_the_laminar_flow_is_reached_and_its_order_is_four() -> None:
    _, y = points(16)

    def error(dt: float) -> float:
        flow = Flow(
            size=16,
            viscosity=1.0,
            drag=0.5,
            wavenumber=2,
            amplitude=0.1,
            dt=dt,
            start_wavenumber=1,
            start_speed=0.2,
            dtype="float64",
        )
        steady = -0.1 * 2 / (1.0 * 4 + 0.5) * torch.cos(2 * y)
        return float((last(flow, initial(flow, ["a"]), 24.0)[0] - steady).abs().max())

    assert error(0.1) < 1e-6
    assert 14 < error(0.2) / error(0.1) < 20


def rate_by_hand(flow: Flow, w: np.ndarray) -> np.ndarray:
    """dw/dt with u . grad w on a grid three times as fine, by numpy's full FFT; modes above k_max cut."""
    n, fine = len(w), 3 * len(w)
    k = np.fft.fftfreq(n, 1 / n)
    k_x, k_y = k[None, :], k[:, None]
    keep = (abs(k_x) <= flow.k_max) & (abs(k_y) <= flow.k_max)
    hat = np.fft.fft2(w) * keep
    psi = hat / np.where(k_x**2 + k_y**2 == 0, np.inf, k_x**2 + k_y**2)

    def up(modes: np.ndarray) -> np.ndarray:
        wide = np.zeros((fine, fine), complex)
        place = np.ix_(k.astype(int) % fine, k.astype(int) % fine)
        wide[place] = modes
        return np.fft.ifft2(wide).real * 9

    transport = up(1j * k_y * psi) * up(1j * k_x * hat) + up(-1j * k_x * psi) * up(1j * k_y * hat)
    moved = np.fft.fft2(transport)[np.ix_(k.astype(int) % fine, k.astype(int) % fine)] / 9 * keep
    y = np.arange(n)[:, None] * 2 * np.pi / n
    force = np.fft.fft2(np.broadcast_to(-flow.amplitude * flow.wavenumber * np.cos(flow.wavenumber * y), w.shape))
    return np.fft.ifft2(-moved - (flow.viscosity * (k_x**2 + k_y**2) + flow.drag) * hat + force).real


@pytest.mark.parametrize("size", [32, 36])
def test_the_rate_is_the_equation(size: int) -> None:
    """A short step against the derivative written out plainly; 36 is a multiple of 3, where N // 3 would alias."""
    flow = Flow(size=size, viscosity=0.01, drag=0.1, wavenumber=2, dt=1e-4, start_wavenumber=3, dtype="float64")
    start = initial(flow, ["a", "b"])
    found = (last(flow, start, 1e-4) - last(flow, start, 2e-4) / 4 - 0.75 * start) * 2 / 1e-4
    wanted = np.stack([rate_by_hand(flow, one) for one in start.numpy()])
    assert np.abs(found.numpy() - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_errors_fall_with_the_fourth_power_of_dt() -> None:
    def at(dt: float) -> torch.Tensor:
        flow = Flow(size=32, viscosity=0.01, dt=dt, start_wavenumber=3, dtype="float64")
        return last(flow, initial(flow, ["a"]), 0.8)

    exact = at(0.00125)
    errors = [float((at(dt) - exact).abs().max()) for dt in (0.04, 0.02, 0.01)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(3.7 < order < 4.4 for order in orders), orders


def test_without_forces_energy_and_enstrophy_stay_to_the_order_of_the_rule() -> None:
    def drift(dt: float) -> list[float]:
        flow = Flow(size=32, viscosity=0.0, dt=dt, start_wavenumber=3, **FREE)
        start = initial(flow, ["a"])
        before, after = budget(flow, start), budget(flow, last(flow, start, 2.0))
        return [abs(float(after[name] / before[name]) - 1) for name in ("energy", "enstrophy")]

    coarse, fine = drift(0.02), drift(0.01)
    assert max(fine) < 1e-5
    assert all(a / b > 14 for a, b in zip(coarse, fine)), (coarse, fine)  # 16 for order 4, 32 where the leading term cancels


def test_budgets_close() -> None:
    """The change of energy and enstrophy over a developed stretch is the integral of what goes in and out (Simpson)."""
    flow = Flow(size=32, viscosity=0.02, dt=0.01, start_wavenumber=3, dtype="float64")
    terms = [budget(flow, one) for _, one in simulate(flow, initial(flow, ["a", "b"]), 0.02, 201, after=15.0)]
    weight = torch.full((201, 1), 2.0).double()
    weight[1::2] = 4
    weight[[0, -1]] = 1
    for name in ("energy", "enstrophy"):
        net = torch.stack([t[f"{name}_injection"] - t[f"{name}_viscous"] - t[f"{name}_drag"] for t in terms])
        change = terms[-1][name] - terms[0][name]
        flux = torch.stack([t[f"{name}_injection"] for t in terms]).mean(0) * 4.0
        assert ((net * weight).sum(0) * 0.02 / 3 - change).abs().max() < 1e-5 * flux.abs().max()


def test_a_trajectory_depends_on_its_own_key_alone() -> None:
    flow = Flow(size=32, start_wavenumber=3)
    many = [one for _, one in simulate(flow, initial(flow, ["a", "b", "c", "d", "e"]), 0.5, 4)]
    alone = [one for _, one in simulate(flow, initial(flow, ["d", "a"]), 0.5, 4)]
    for wide, narrow in zip(many, alone):
        assert torch.equal(wide[[3, 0]], narrow)
    assert not torch.equal(initial(flow, ["a"]), initial(Flow(size=32, start_wavenumber=3, seed=1), ["a"]))


def test_going_on_from_a_stored_field_repeats_the_rest() -> None:
    flow = Flow(size=32, start_wavenumber=3)
    whole = [one for _, one in simulate(flow, initial(flow, ["a"]), 0.2, 4)]
    rest = [one for _, one in simulate(flow, torch.from_numpy(whole[1].numpy().copy()), 0.2, 2)]
    assert torch.equal(whole[3], rest[1])


def test_the_start_is_one_flow_on_every_grid_and_has_the_speed_asked() -> None:
    few, many = (Flow(size=n, start_wavenumber=2, start_speed=0.7, dtype="float64") for n in (32, 64))
    assert torch.allclose(initial(few, ["a"]), initial(many, ["a"])[:, ::2, ::2], atol=1e-12)
    u, v = velocity(initial(few, ["a"]), few.grid)
    assert float((u**2 + v**2).mean().sqrt()) == pytest.approx(0.7)


def test_a_long_step_is_named_with_the_last_good_fields() -> None:
    flow = Flow(size=32, start_wavenumber=3, dt=0.25, start_speed=3.0)
    start = initial(flow, ["a", "b"])
    with pytest.raises(BlowUp, match=r"CFL number .* last good fields: time 0; take dt below") as caught:
        list(simulate(flow, start, 0.5, 2))
    assert caught.value.cfl > 2.83
    assert torch.equal(caught.value.fields, start)


def test_a_field_with_nan_is_named() -> None:
    flow = Flow(size=32, start_wavenumber=3)
    start = initial(flow, ["a", "b"])
    start[1, 3, 4] = math.nan
    with pytest.raises(BlowUp, match=r"row 1 .*CFL number inf"):
        last(flow, start, 0.1)


def test_adaptive_steps_are_halved_for_the_trajectories_that_need_it() -> None:
    coarse = Flow(size=32, start_wavenumber=3, dt=0.25, adaptive=True, dtype="float64")
    slow, fast = initial(coarse, ["a"]) * 0.1, initial(coarse, ["b"])
    both = last(coarse, torch.cat([slow, fast]), 0.25)
    exact = Flow(size=32, start_wavenumber=3, dt=0.0025, dtype="float64")
    assert torch.allclose(both[1:], last(exact, fast, 0.25), atol=5e-2)
    whole = Solver(Flow(size=32, start_wavenumber=3, dt=0.25, dtype="float64")).advance(slow, 0.0, 1)
    assert torch.equal(both[:1], whole)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": 33}, "size: 33 is odd"),
        ({"dt": 0.0}, "dt: 0.0 must be a positive"),
        ({"viscosity": -1.0}, "viscosity: -1.0"),
        ({"wavenumber": 22}, r"wavenumber: 22 must lie in 1\.\.21"),
        ({"start_wavenumber": 8}, r"start_wavenumber: 8 must lie in 1\.\.7"),
        ({"dtype": "float16"}, "dtype: 'float16' is unknown"),
    ],
)
def test_bad_flows_are_one_clear_line(wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Flow(**wrong)


def test_bad_times_and_grids_are_one_clear_line() -> None:
    flow = Flow()
    with pytest.raises(ValueError, match=r"every: 0\.125 is not a whole number of steps of 0\.01; take 0\.12"):
        list(simulate(flow, initial(flow, ["a"]), 0.125, 1))
    with pytest.raises(ValueError, match=r"shape \(1, 32, 32\); give \(B, 64, 64\)"):
        list(simulate(flow, torch.zeros(1, 32, 32), 0.1, 1))


@pytest.mark.gpu
def test_cuda_gives_the_same_flow() -> None:
    flow = Flow(dtype="float64")
    start = initial(flow, ["a", "b"])
    assert torch.allclose(last(flow, start.cuda(), 1.0).cpu(), last(flow, start, 1.0), atol=1e-9)


def test_torch_cfd_integrates_the_same_flow() -> None:
    """An independent solver with another rule in time, on a grid where its 2/3 rule keeps the same modes."""
    spectral, grids = pytest.importorskip("torch_cfd.spectral"), pytest.importorskip("torch_cfd.grids")
    flow = Flow(amplitude=0.0, dtype="float64")
    grid = grids.Grid((64, 64), domain=((0, 2 * math.pi), (0, 2 * math.pi)))
    peer = spectral.NavierStokes2DSpectral(flow.viscosity, grid, flow.drag, step_fn=spectral.RK4CrankNicolsonStepper()).double()
    start = initial(flow, ["a", "b"])
    modes, _ = peer(torch.fft.rfft2(start.mT), flow.dt, 100)  # its arrays are (x, y)
    found, wanted = torch.fft.irfft2(modes).mT, last(flow, start, 1.0)
    assert (found - wanted).square().mean().sqrt() < 2e-5 * wanted.square().mean().sqrt()
