"""Feature distances: zero for itself, growing with damage, and a Frechet distance that is the base's."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import ndimage

from diptych.metrics import base, image
from diptych.models import judge as judges
from diptych.study import Samples, Unit


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("judge")
    judges.save(judges.Judge(judges.JudgeConfig(widths=(8, 16), size=16)), folder, {})
    return folder


def scene(count, side=32, seed=5):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((count, side, side, 3)), (0, 2, 2, 0), mode="wrap")
    return np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)


def samples(pictures):
    return Samples(tuple(Unit(f"i{n}") for n in range(len(pictures))), {"image": pictures})


@dataclass(frozen=True)
class MeanColour:
    """Three features a picture; what a user may hand in."""

    def __call__(self, pixels):
        return pixels.mean(axis=(1, 2)) / 255


def test_identical_pictures_are_at_distance_zero(weights):
    clean = samples(scene(3))
    assert np.array_equal(image.feature_distance(weights).rows(clean, clean), np.zeros((3, 1)))


def test_distance_is_half_the_squared_distance_of_unit_features(weights):
    a, b = scene(2), scene(2, seed=6)
    judge = judges.load(weights)
    means = []
    for u, v in zip(judges.feature_vectors(judge, a), judges.feature_vectors(judge, b)):
        lit = (np.linalg.norm(u, axis=1) > 0) & (np.linalg.norm(v, axis=1) > 0)
        assert lit.all()
        means.append((1 - np.sum(u * v, axis=1)).mean(axis=1))
    rows = image.feature_distance(weights).rows(samples(a), samples(b))
    assert rows[:, 0] == pytest.approx(np.mean(means, axis=0), abs=1e-6)
    assert np.all((rows > 0) & (rows <= 1))


def test_more_damage_is_further_away(weights):
    clean = scene(3)
    rng = np.random.default_rng(1)
    grain = rng.normal(0, 1, clean.shape)
    metric = image.feature_distance(weights)
    means = []
    for strength in (0, 5, 15, 45, 90):
        damaged = np.clip(clean + strength * grain, 0, 255).astype(np.uint8)
        means.append(float(base.mean(metric.rows(samples(damaged), samples(clean)), np.ones((1, 3)))[0]))
    assert means == sorted(means)
    assert len(set(means)) == 5
    assert (metric.better, metric.against) == ("lower", "baseline")


def test_rows_follow_their_units_whatever_the_company(weights):
    count = judges.BATCH + 3
    clean, other = samples(scene(count, 16)), samples(scene(count, 16, seed=6))
    metric = image.feature_distance(weights)
    whole = metric.rows(clean, other)
    order = clean.units[::-1]
    assert np.array_equal(metric.rows(clean.take(order), other.take(order)), whole[::-1])
    assert np.array_equal(metric.rows(clean.take(order[:1]), other.take(order[:1])), whole[-1:])


def test_frechet_of_features_is_the_bases(weights):
    mine, theirs = scene(12), scene(15, seed=6)
    metric = image.frechet(MeanColour(), "colour")
    rows, reference = metric.rows(samples(mine), None), metric.rows(samples(theirs), None)
    assert rows.shape == (12, 3)
    shift = np.sum((rows.mean(0) - reference.mean(0)) ** 2)
    value = base.frechet(rows, np.ones((1, 12)), reference, np.ones((1, 15)))[0]
    assert metric.reduce is base.frechet
    assert value >= shift > 0
    assert base.frechet(rows, np.ones((1, 12)), rows, np.ones((1, 12)))[0] == pytest.approx(0, abs=1e-9)
    assert (metric.name, metric.against, metric.level) == ("frechet_colour", "set", "set")


def test_frechet_tells_a_shifted_set_from_a_like_one(weights):
    reference, like = scene(40, 16), scene(40, 16, seed=6)
    metric = image.frechet(image.JudgePooled(judges.JudgeFile(weights / "model.safetensors")), "tiny")
    against = metric.rows(samples(reference), None)
    values = []
    for brighter in (0, 30, 60, 90):
        rows = metric.rows(samples(np.clip(like.astype(int) + brighter, 0, 255).astype(np.uint8)), None)
        assert rows.shape == (40, 16)
        values.append(base.frechet(rows, np.ones((1, 40)), against, np.ones((1, 40)))[0])
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_features_that_are_not_one_row_a_picture_are_refused():
    class Flat:
        def __call__(self, pixels):
            return pixels.ravel()

    with pytest.raises(ValueError, match="one row a picture"):
        image.frechet(Flat(), "flat").rows(samples(scene(2)), None)
    with pytest.raises(ValueError, match="hold no pictures"):
        image.frechet(MeanColour(), "colour").rows(Samples((Unit("a"),), {"field": np.ones((1, 4))}), None)
