"""The official i1 sampler's grid and noise; guidance on the flow; conditions prepared once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diptych.denoise import Cond, parameterize
from diptych.guide import ClassifierFree, null_flag
from diptych.models.i1 import I1
from diptych.models.i1_config import PRESETS
from diptych.models.i1_sampling import OnFlow, prepared, stored_null
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import Forwards, sample
from diptych.samplers.continuous import Euler
from diptych.samplers.upstream import OneNoise, UpstreamEuler, exact_times, upstream_times
from diptych.schedule import uniform_grid
from diptych.study import Unit

NOISE = Noise(("a", "b", "c"))


def toy(x: Tensor, t: Tensor, cond: Cond) -> Tensor:
    """A flow that depends on all it is given."""
    return torch.sin(3 * x) * (1 + cond["text"][:, None, None, :1] * t[:, None, None, None])


@pytest.mark.parametrize(("shift", "steps", "still"), [(0.3, 250, 28), (1.0, 250, 20), (0.3, 50, 0)])
def test_steps_of_no_length(shift: float, steps: int, still: int) -> None:
    times = upstream_times(steps, shift)
    assert times[0] == 1 and times[-1] == 0 and len(times) == steps + 1
    assert int((times.diff() == 0).sum()) == still
    assert torch.allclose(exact_times(steps, shift), uniform_grid(steps, 1 / shift))


def test_mean_error_of_a_step() -> None:
    """39 % of a step at 250 steps, 7 % at 50."""
    for steps, share in ((250, 0.39), (50, 0.07)):
        right = exact_times(steps).diff()
        error = ((upstream_times(steps).diff() - right) / right).abs().mean().item()
        assert error == pytest.approx(share, abs=0.006)


def test_upstream_euler_walks_its_grid() -> None:
    """Without rounded states it is Euler over the rounded times; it evaluates in steps of no length all the same."""
    cond = {"text": torch.ones(3, 1)}
    denoise = parameterize(toy, "flow", Gaussian())

    def drawn(rule: object, grid: Tensor) -> tuple[Tensor, Tensor]:
        out = sample(Gaussian(), rule, denoise, grid, (2, 2, 2), NOISE, cond=cond)  # type: ignore[arg-type]
        return out.x, out.evaluations

    x, evaluations = drawn(UpstreamEuler(states=False), uniform_grid(250))
    assert evaluations.tolist() == [250] * 3
    moving = torch.unique_consecutive(upstream_times(250))
    assert torch.allclose(x, drawn(Euler(), moving)[0], atol=1e-5)
    rounded = drawn(UpstreamEuler(), uniform_grid(250))[0]
    assert torch.equal(rounded, rounded.bfloat16().float())
    fine = drawn(Euler(), exact_times(250))[0]
    assert (rounded - fine).norm() > 2 * (x - fine).norm() > 0


def test_one_noise() -> None:
    start = OneNoise((2, 4, 4))([Unit("a", 0), Unit("b", 7)], "cpu")
    assert torch.equal(start[0], start[1]) and 0.5 < start.std() < 1.5
    assert torch.equal(start[:1], OneNoise((2, 4, 4))([Unit("c", 1)], "cpu"))


def test_guidance_on_the_flow() -> None:
    """v = c + (w - 1)(c - u), then v std(c) / std(v), all of the flow; without rescale the same as on x0."""
    x, t = NOISE.normal((2, 3, 3), "x"), torch.tensor([0.9, 0.5, 0.2])
    cond = {"text": torch.tensor([[1.0], [2.0], [-1.0]])}

    def null(cond: Cond) -> Cond:
        return {"text": torch.zeros_like(cond["text"])}

    denoise = parameterize(toy, "flow", Gaussian())
    c, u = toy(x, t, cond), toy(x, t, null(cond))
    v = c + 11 * (c - u)
    for rescale in (0.0, 0.4, 1.0):
        wanted = v * (1 - rescale + rescale * c.std((1, 2, 3), keepdim=True) / (v.std((1, 2, 3), keepdim=True) + 1e-8))
        guided = OnFlow(ClassifierFree(12.0, null, rescale))(denoise)(x, t, cond)
        assert torch.allclose(Gaussian().flow(x, t, guided), wanted, atol=1e-3)
        plain = ClassifierFree(12.0, null, rescale)(denoise)(x, t, cond)
        assert torch.allclose(plain, guided, atol=1e-4) == (rescale == 0)


@pytest.mark.parametrize("backbone", ["dual", "single", "cross"])
@pytest.mark.parametrize("null", ["token", "prompt"])
def test_prepared_conditions_change_nothing(backbone: str, null: str) -> None:
    """One adapter pass for all steps and both branches, the same pictures."""
    small = replace(PRESETS["small"], width=32, depth=3, heads=2, hidden=32, channels=4, text_width=8, text_tokens=6)
    config = replace(small, backbone=backbone, null=null, modulation="both" if backbone == "cross" else "none")
    net = I1(config)
    calls = []
    net.adapter.register_forward_hook(lambda *_: calls.append(1))
    cond = {"text": NOISE.normal((6, 8), "text"), "text_mask": torch.arange(6) < torch.tensor([[5], [2], [3]])}
    grid = uniform_grid(3)

    def drawn(cond: Cond, null: object) -> tuple[Tensor, int]:
        forwards = Forwards(net)
        guidance = OnFlow(ClassifierFree(4.0, null, rescale=1.0))  # type: ignore[arg-type]
        denoise = parameterize(forwards, "flow", Gaussian())
        out = sample(Gaussian(), Euler(), denoise, grid, (4, 4, 4), NOISE, cond=cond, guidance=guidance)
        return out.x, forwards.rows

    wanted, rows = drawn(cond, null_flag)
    assert (len(calls), rows) == (3, 18)
    ready = prepared(net, cond, (4, 4))
    found, rows = drawn(ready, stored_null)
    assert (len(calls), rows) == (4, 18)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert ready["adapted"].shape[1] == 5, "cut to the longest prompt"
