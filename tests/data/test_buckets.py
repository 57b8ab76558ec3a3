import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from diptych.data.buckets import Bucketed, assign, bucket_table
from diptych.data.folders import Folder
from diptych.data.mixture import mix


@pytest.mark.parametrize(("side", "multiple", "widest"), [(256, 32, 2.0), (512, 64, 4.0), (1024, 64, 2.0), (64, 8, 1.0)])
def test_a_table_keeps_the_area_and_divides(side, multiple, widest):
    table = bucket_table(side, multiple, widest)
    assert (side, side) in table and len(set(table)) == len(table)
    assert {(height, width) for width, height in table} == set(table)
    for width, height in table:
        assert width % multiple == height % multiple == 0
        assert max(width, height) / min(width, height) <= widest
        assert abs(width * height / side**2 - 1) <= multiple / 2 / min(width, height) + 1e-9
    assert list(table) == sorted(table, key=lambda size: size[0] / size[1])
    assert len(table) == 1 if widest == 1 else len(table) > 3


@given(st.integers(20, 4000), st.integers(20, 4000))
def test_a_picture_goes_to_the_nearest_log_aspect(width, height):
    table = bucket_table(256, 32, 2.0)
    chosen = assign(width, height, table)
    off = [abs(math.log(width / height) - math.log(w / h)) for w, h in table]
    assert abs(math.log(width / height) - math.log(chosen[0] / chosen[1])) == min(off)
    mirrored = assign(height, width, table)
    assert min(off) == 0 or mirrored == (chosen[1], chosen[0]) or sorted(off)[0] == pytest.approx(sorted(off)[1])


class Sized:
    """A set that has sizes and nothing else to look at."""

    def __init__(self, name, sizes):
        self.name, self.sizes = name, np.array(sizes)
        self.caption_counts = np.ones(len(sizes), np.int64)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, row):
        raise AssertionError("not read")


def two():
    tall, wide, square = (2, 4), (4, 2), (3, 3)
    return {"a": Sized("a", [tall] * 10 + [square] * 30), "b": Sized("b", [square] * 20 + [wide] * 60 + [tall] * 20)}


def test_batches_hold_one_size_and_are_functions_of_their_position():
    sets = two()
    mixture = Bucketed(mix(sets, seed=4), group=8)
    for number in range(50):
        size, drawn = mixture.draw(8 * number, 8)
        for which, row in zip(drawn.which, drawn.row):
            assert tuple(sets["ab"[which]].sizes[row]) == size
        later, part = mixture.draw(8 * number + 3, 5)
        assert later == size and part.row.tolist() == drawn.row[3:].tolist() and part.bits.tolist() == drawn.bits[3:].tolist()


def test_sizes_and_sets_come_as_often_as_the_weights_say():
    sets = two()
    mixture = Bucketed(mix(sets, {"a": 3, "b": 1}, seed=0), group=4)
    expected = {(2, 4): 0.75 * 0.25 + 0.25 * 0.2, (3, 3): 0.75 * 0.75 + 0.25 * 0.2, (4, 2): 0.25 * 0.6}
    assert mixture.sizes == pytest.approx(expected)
    sizes, which = [], []
    for number in range(800):
        size, drawn = mixture.draw(4 * number, 4)
        sizes.append(size)
        which += drawn.which.tolist()
    assert all(abs(sizes.count(size) / 800 - share) < 0.02 for size, share in expected.items())
    assert chisquare(np.bincount(which), [2400, 800]).pvalue > 0.001


def test_within_a_size_every_record_comes_once_a_pass():
    sets = {"b": two()["b"]}
    mixture = Bucketed(mix(sets, seed=9), group=4)
    rows = {}
    for number in range(400):
        size, drawn = mixture.draw(4 * number, 4)
        rows.setdefault(size, []).extend(drawn.row.tolist())
    assert len(rows) == 3
    for size, seen in rows.items():
        counts = np.bincount(seen, minlength=100)[(sets["b"].sizes == size).all(1)]
        assert counts.sum() == len(seen) and counts.max() - counts.min() <= 2  # two passes overlap at most, at their ends


def test_bad_buckets_are_one_line():
    with pytest.raises(ValueError, match="side 250 is not a multiple of 32; give 224"):
        bucket_table(250, 32)
    with pytest.raises(ValueError, match=r"widest 0.5 is below 1"):
        bucket_table(256, 32, 0.5)
    mixture = Bucketed(mix(two()), group=8)
    with pytest.raises(ValueError, match="8 rows at position 4 span two groups of 8"):
        mixture.draw(4, 8)
    with pytest.raises(ValueError, match="group 0 is not positive"):
        Bucketed(mix(two()), group=0)
    with pytest.raises(ValueError, match="'f' does not know its sizes"):
        Bucketed(mix({"f": Folder("f", ".", ("p.png",))}), group=2)
