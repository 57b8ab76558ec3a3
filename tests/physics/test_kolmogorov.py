"""The symmetries of the forced flow: a moved field's future is the moved future."""

from __future__ import annotations

import itertools

import pytest
import torch

from diptych.physics.kolmogorov import budget, moved, moved_at_random, moved_by_keys
from diptych.physics.navier_stokes import Flow, initial, simulate

FLOW = Flow(size=32, wavenumber=2, start_wavenumber=3, dtype="float64")


def later(start: torch.Tensor) -> torch.Tensor:
    return next(simulate(FLOW, start, 1.0, 1))[1]


def every_move() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = list(itertools.product((0, 5), (0, 1, 2, 3), (False, True)))
    across, along, turned = zip(*rows)
    return torch.tensor(across), torch.tensor(along), torch.tensor(turned)


def test_every_symmetry_commutes_with_the_flow() -> None:
    moves = every_move()
    start = initial(FLOW, ["a"]).expand(16, -1, -1)
    assert torch.allclose(later(moved(start, 2, *moves)), moved(later(start), 2, *moves), atol=1e-10)


def test_what_is_no_symmetry_does_not() -> None:
    """So that the test above can fail: a shift by a quarter period, and a reflection alone."""
    start = initial(FLOW, ["a"])
    assert (later(start.roll(4, 1)) - later(start).roll(4, 1)).abs().max() > 0.1
    assert (later(-start.flip(2)) + later(start).flip(2)).abs().max() > 0.1


def test_moves_differ_and_keep_the_budgets() -> None:
    moves = every_move()
    made = moved(initial(FLOW, ["a"]).expand(16, -1, -1), 2, *moves)
    assert len({tuple(one[3, :4].tolist()) for one in made}) == 16
    for name, value in budget(FLOW, made).items():
        assert torch.allclose(value, value[:1].expand(16), atol=1e-10), name


def test_augmentation_draws_from_keys_and_generators() -> None:
    fields = initial(FLOW, list("abcdefgh"))[:, None].float()
    keys = torch.arange(8) * 982451653
    assert torch.equal(moved_by_keys(fields, 2, keys)[2:4], moved_by_keys(fields[2:4], 2, keys[2:4]))
    one, other = (moved_at_random(fields, 2, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(one, moved_at_random(fields, 2, torch.Generator().manual_seed(0)))
    assert not torch.equal(one, other)
    assert torch.allclose(one.square().sum((1, 2, 3)), fields.square().sum((1, 2, 3)))


def test_a_grid_without_half_periods_is_refused() -> None:
    with pytest.raises(ValueError, match="grid of 32 does not hold half periods of forcing 3"):
        moved(torch.zeros(1, 32, 32), 3, *(torch.zeros(1, dtype=torch.long),) * 3)
