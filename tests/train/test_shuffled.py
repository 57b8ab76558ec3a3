import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.train.shuffled import Shuffled, keys


def rows(count=10, seed=0):
    return Shuffled({"i": torch.arange(count)}, seed)


def test_every_row_once_an_epoch_in_a_new_order():
    data = rows()
    epochs = [data.batch(10 * epoch, 10)["i"].tolist() for epoch in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert rows(seed=1).batch(0, 10)["i"].tolist() != epochs[0]


@settings(max_examples=40, deadline=None)
@given(position=st.integers(0, 200), size=st.integers(1, 35), cut=st.integers(0, 35))
def test_a_batch_is_the_same_however_it_is_cut_and_in_any_order(position, size, cut):
    cut = min(cut, size)
    flipped = Shuffled({"x": torch.arange(10.0), "i": torch.arange(10)}, 4, lambda b, k: {**b, "x": b["x"] * (1 - 2 * (k & 1))})
    again = Shuffled(flipped.arrays, 4, flipped.augment)
    late = again.batch(position + cut, size - cut) if cut < size else None
    early = again.batch(position, cut) if cut else None
    for name, value in flipped.batch(position, size).items():
        parts = [part[name] for part in (early, late) if part]
        assert torch.equal(value, torch.cat(parts))


def test_keys_are_fair_and_fixed():
    drawn = keys(0, 0, 20_000)
    assert (drawn >= 0).all() and drawn.unique().numel() == 20_000
    for bit in (0, 1, 31, 62):
        assert abs(((drawn >> bit) & 1).double().mean().item() - 0.5) < 0.02
    assert torch.equal(keys(0, 100, 50), drawn[100:150])
    assert not torch.equal(keys(1, 0, 50), drawn[:50])


def test_keys_are_splitmix64():
    # the generator's published first outputs for seed 0; ours drops the sign bit
    published = torch.tensor([0xE220A8397B1DCDAF - 2**64, 0x6E789E6AA1B965F4, 0x06C45D188009454F])
    assert torch.equal(keys(0, 1, 3), published & (2**63 - 1))


def test_bad_arrays_are_refused():
    with pytest.raises(ValueError, match="'a': 2, 'b': 3"):
        Shuffled({"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(ValueError, match="give at least one array"):
        Shuffled({})
    assert toy.data().rows == toy.ROWS
