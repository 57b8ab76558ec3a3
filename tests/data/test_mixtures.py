import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from diptych.data.mixture import Turns, mix, worded
from diptych.data.records import Record
from diptych.data.sources import Pictures

LONG = "a long caption of " + "many words " * 15


def pictures(name, count, captions=("a b c",)):
    array = np.zeros((count, 2, 2, 3), np.uint8)
    return Pictures(name, tuple(f"{name}-{i}" for i in range(count)), array, (captions,) * count)


SETS = {"small": pictures("small", 7), "large": pictures("large", 400), "middle": pictures("middle", 50)}


@given(st.integers(0, 3000), st.integers(1, 60), st.integers(0, 60), st.sampled_from(["equal", "proportional"]))
def test_a_position_is_the_same_however_the_stream_is_cut(position, size, cut, weights):
    mixture = mix(SETS, weights, seed=5)
    whole = mixture.draw(position, size)
    cut = min(cut, size)
    parts = [mixture.draw(position, cut), mixture.draw(position + cut, size - cut)]
    for name in ("which", "row", "bits"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


@pytest.mark.parametrize(
    ("weights", "cap", "shares"),
    [
        ("equal", 0, (1 / 3, 1 / 3, 1 / 3)),
        ("proportional", 0, (7 / 457, 400 / 457, 50 / 457)),
        ("capped", 50, (7 / 107, 50 / 107, 50 / 107)),
        ({"middle": 0.5, "small": 1.5, "large": 2}, 0, (1.5 / 4, 2 / 4, 0.5 / 4)),
    ],
)
def test_shares_are_exact_over_long_stretches_and_fair_in_short_ones(weights, cap, shares):
    mixture = mix(SETS, weights, cap=cap, seed=1)
    for position in (1000, 30_001):
        counts = np.bincount(mixture.draw(0, position).which, minlength=3)
        assert mixture.counts(position) == dict(zip(SETS, counts.tolist()))
        assert np.abs(counts - np.array(shares) * position).max() <= mixture.turns.block
    far = np.array(list(mixture.counts(10**9).values()))
    assert np.abs(far - np.array(shares) * 1e9).max() <= mixture.turns.block  # nothing drifts
    # a short stretch anywhere within blocks: as many as the shares ask, by chance
    block = mixture.turns.block
    starts = np.arange(4000) * block + 5
    which = mixture.turns.at(starts)[0]
    assert chisquare(np.bincount(which, minlength=3), np.array(shares) * 4000).pvalue > 0.001


def test_order_within_a_block_has_no_pattern():
    turns = Turns((1.0, 1.0), 3)
    which = turns.at(np.arange(128_000))[0].reshape(-1, turns.block)
    assert (which.sum(1) == turns.block // 2).all()
    assert chisquare(which.sum(0), np.full(turns.block, len(which) / 2)).pvalue > 0.001
    pairs = np.bincount(2 * which[:, 0] + which[:, 1], minlength=4)
    half = turns.block / 2
    apart, alike = half / (2 * half - 1) / 2, (half - 1) / (2 * half - 1) / 2
    assert chisquare(pairs, len(which) * np.array([alike, apart, apart, alike])).pvalue > 0.001


def test_a_set_is_seen_whole_before_any_of_it_comes_again():
    mixture = mix(SETS, {"small": 1, "large": 10, "middle": 3}, seed=2)
    drawn = mixture.draw(0, 5000)
    for number, source in enumerate(SETS.values()):
        _, turn = mixture.turns.at(np.arange(5000))
        mine = drawn.which == number
        by_turn = drawn.row[mine][np.argsort(turn[mine])]
        epochs = [by_turn[i : i + len(source)] for i in range(0, len(by_turn) - len(source), len(source))]
        assert epochs and all(sorted(epoch) == list(range(len(source))) for epoch in epochs)
        assert len(epochs) == 1 or epochs[0].tolist() != epochs[1].tolist()
    assert mixture.passes(5000)["small"] == pytest.approx(mixture.counts(5000)["small"] / 7)


def test_another_seed_and_another_mixture_differ_and_a_set_keeps_its_order():
    one, other = mix(SETS, seed=0), mix(SETS, seed=1)
    assert one.draw(0, 100).row.tolist() != other.draw(0, 100).row.tolist()
    alone = mix({"middle": SETS["middle"]}, seed=0)
    _, turn = one.turns.at(np.arange(200))
    drawn = one.draw(0, 200)
    middle = drawn.which == 2
    rows = drawn.row[middle][np.argsort(turn[middle])][:40]
    assert rows.tolist() == alone.draw(0, 40).row.tolist()


def test_captions_are_drawn_uniformly_or_by_length():
    bits = mix(SETS).draw(0, 20_000).bits.tolist()
    words = [3, 40, 5, 33]
    uniform = np.bincount([worded(words, one, None) for one in bits], minlength=4)
    assert chisquare(uniform).pvalue > 0.001
    mixed = np.bincount([worded(words, one, 0.4) for one in bits], minlength=4)
    assert chisquare(mixed, 20_000 * np.array([0.2, 0.3, 0.2, 0.3])).pvalue > 0.001
    assert {worded(words, one, 0.0) for one in bits} == {1, 3} and {worded(words, one, 1.0) for one in bits} == {0, 2}
    assert {worded([3, 5], one, 0.0) for one in bits} == {0, 1}  # one kind only: that one
    assert {worded([25, 26], one, 1.0) for one in bits[:50]} == {0}  # 25 words are short, 26 are not
    mixture = mix({"a": pictures("a", 3, (LONG, "short one"))}, short=0.25)
    record = mixture.sources["a"][0]
    drawn = [mixture.wording(record, one) for one in bits[:4000]]
    assert chisquare(np.bincount(drawn), [3000, 1000]).pvalue > 0.001


@pytest.mark.parametrize(
    ("weights", "options", "words"),
    [
        ({"small": 1, "lrge": 1}, {}, "weights name the set 'lrge', which is not there; did you mean 'large'"),
        ({"small": 1, "large": 0, "middle": 1}, {}, "weight 0 of set 'large' is not positive"),
        ({"small": 1, "large": float("nan"), "middle": 1}, {}, "weight nan of set 'large' is not positive"),
        ({"small": 1, "large": 2}, {}, "set 'middle' has no weight"),
        ("equl", {}, "weights 'equl' are unknown; did you mean 'equal'"),
        ("capped", {}, "cap 0 with capped weights"),
        ("equal", {"short": 1.5}, "short 1.5 is not a share"),
    ],
)
def test_bad_mixtures_are_one_line(weights, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        mix(SETS, weights, **options)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_captions_and_empty_sets_are_refused():
    with pytest.raises(ValueError, match="'bare' has 4 records without a caption, first 'bare-0'"):
        mix({"bare": pictures("bare", 4, ())})
    with pytest.raises(ValueError, match="'none' is empty"):
        mix({"none": pictures("none", 0)})
    with pytest.raises(ValueError, match="no sets"):
        mix({})
    mixture = mix(SETS)
    for captions, words in (((), "has no caption"), (("fine", " "), "has an empty caption")):
        with pytest.raises(ValueError, match=words):
            mixture.wording(Record("k", b"", captions), 0)
