"""The flow network of fields: the paper's count, conditions, periodicity, bad shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diptych.models.field_unet import FieldUNet, FieldUNetConfig, paper_unet

TINY = FieldUNetConfig(channels=4, shape=(4, 8), width=16, time=16, features=8)


def woken(config: FieldUNetConfig) -> FieldUNet:
    """A network whose quiet layers are not near zero."""
    net, generator = FieldUNet(config), torch.Generator().manual_seed(1)
    for p in net.parameters():
        if p.ndim > 1:
            p.data.normal_(0, p[0].numel() ** -0.5, generator=generator)
    return net


def test_the_papers_network_has_its_parameters() -> None:
    count = sum(p.numel() for p in FieldUNet(paper_unet()).parameters())
    assert count == 1_838_536 and f"{count / 1e6:.2f}" == "1.84"


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, periodic=(False, True)), replace(TINY, shape=(16,), periodic=(False,)), replace(TINY, middle=0)],
)
def test_every_shape_gives_a_flow_and_gradients(config: FieldUNetConfig) -> None:
    net = woken(config)
    x = torch.randn(3, 4, *config.shape, generator=torch.Generator().manual_seed(0))
    flow = net(x, torch.tensor([0.1, 0.5, 1.0]), {})
    assert flow.shape == x.shape
    flow.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_time_is_heard_all_along_the_path() -> None:
    net = woken(TINY)
    x = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(0)).expand(11, -1, -1, -1)
    with torch.no_grad():
        flow = net(x, torch.linspace(0, 1, 11), {})
    steps = flow.diff(dim=0).flatten(1).norm(dim=1)
    assert float(steps.min()) > 0.02 * float(flow.flatten(1).norm(dim=1).mean())


def test_shifts_of_a_periodic_grid_commute_with_the_network() -> None:
    net = woken(TINY)
    x, t = torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.7])
    with torch.no_grad():
        assert torch.allclose(net(x.roll((2, 4), (2, 3)), t, {}), net(x, t, {}).roll((2, 4), (2, 3)), atol=1e-5)


def test_a_condition_is_needed_and_heard() -> None:
    net = woken(replace(TINY, given=4))
    x, t = torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.7])
    with torch.no_grad():
        assert not torch.allclose(net(x, t, {"given": x}), net(x, t, {"given": -x}))
    with pytest.raises(ValueError, match="given"):
        net(x, t, {})


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 8, 8\).*takes \(4, 4, 8\)"):
        FieldUNet(TINY)(torch.zeros(1, 4, 8, 8), torch.ones(1), {})
    with pytest.raises(ValueError, match="even"):
        replace(TINY, shape=(5, 8))
    with pytest.raises(ValueError, match="4 or more"):
        replace(TINY, shape=(2, 8), periodic=(False, True))
    with pytest.raises(ValueError, match="multiple of 8"):
        replace(TINY, width=12)
