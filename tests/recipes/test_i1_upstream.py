"""The comparison of the official sampler's choices, at its tiny size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diptych.recipes.i1_upstream import CONFIGS, Upstream, spread, study
from diptych.study import Samples, Unit


def test_one_noise_makes_one_picture() -> None:
    comparison = study(CONFIGS["tiny"])
    arms = {arm.name: arm for arm in comparison.arms}
    units = [Unit(item, seed) for item in comparison.items[:2] for seed in (0, 1)]
    rows = {}
    for name in ("float32", "half", "one-noise", "official"):
        samples = arms[name].produce(units)
        rows[name] = spread().rows(samples, None)
        assert samples.trace["evaluations"].tolist() == [6] * 4
    assert rows["one-noise"].tolist() == rows["official"].tolist() == [[0.0], [0.0]]
    assert rows["float32"].min() > 0.05 and rows["half"].min() > 0.05


def test_spread_is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    units = tuple(Unit("a", seed) for seed in (0, 1, 4))

    def distance(*index: int) -> float:
        return spread().rows(Samples(tuple(units[i] for i in index), {"image": pictures[list(index)]}, {}), None)[0, 0]

    assert distance(0, 1, 2) == pytest.approx((distance(0, 1) + distance(1, 2) + distance(0, 2)) / 3)
    assert distance(0, 1) > 0


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="two or more"):
        Upstream(seeds=(0,))
    with pytest.raises(ValueError, match="few: 60"):
        replace(Upstream(), few=60, steps=50)
