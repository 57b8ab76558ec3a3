"""Distances between pictures in a network's features: to the baseline's picture of the same unit, and to a set.

The network is the shipped image-text judge (`models.judge`), a small one trained on emoji-like drawings. So these are neither
LPIPS nor FID, though built alike, and are not to be held against figures made with other networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.metrics import base
from diptych.metrics.fidelity import chunks, picture_pair, pictures
from diptych.models import judge as judges
from diptych.study import Metric, Samples

Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class JudgePooled:
    """Picture features for `frechet`: the judge's last feature map averaged over positions, (N, 144) for the shipped one."""

    judge: judges.JudgeFile

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return judges.pooled(self.judge.network, pixels)


@dataclass(frozen=True)
class FeatureDistance:
    """Rows of `feature_distance`: mean over stages of half the squared distance of unit feature vectors, (N, 1) in [0, 1]."""

    judge: judges.JudgeFile
    picture: str = ""

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        mine, theirs = picture_pair(samples, reference, self.picture, "feature_distance")
        rows = np.empty((len(samples), 1))
        for part in chunks(len(samples), judges.BATCH):
            a, b = (judges.feature_vectors(self.judge.network, x[part]) for x in (mine, theirs))
            # Features are non-negative, so cosines lie in [0, 1] and 1 - cosine is half the squared distance.
            distances = [0.5 * np.sum((u - v) ** 2, axis=1).mean(axis=1) for u, v in zip(a, b)]
            rows[part, 0] = np.mean(distances, axis=0)
        return rows


@dataclass(frozen=True)
class SetFeatures:
    """Rows of a set metric: the features of every picture, (N, k) float64. The reference set's rows are made likewise."""

    features: Features
    picture: str = ""

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        rows = np.asarray(self.features(pictures(samples, self.picture)), dtype=np.float64)
        if rows.ndim != 2 or len(rows) != len(samples):
            raise ValueError(f"frechet: features gave shape {rows.shape} for {len(samples)} pictures; give one row a picture")
        return rows


def feature_distance(weights: str | Path = "", picture: str = "", margin: float | None = None) -> Metric:
    """Judge-feature distance to the baseline's picture of the same unit: 0 identical, at most 1.

    Built as LPIPS (Zhang et al. 2018, eq. 1) with equal channel weights: unit feature vectors at every position of every stage
    of the judge, half their squared distance, mean over positions, then over stages.

    Args:
        weights: a judge's folder; empty: the shipped one.
        picture: name of the picture array; empty: the first.
        margin: the largest drift that does not matter.
    """
    return Metric(
        name="feature_distance",
        rows=FeatureDistance(judges.JudgeFile(judges.weights_file(weights)), picture),
        better="lower",
        margin=margin,
        against="baseline",
        label="judge-feature distance",
        about="Distance to the baseline's picture in a small drawing judge's features (not LPIPS); 0 is identical.",
    )


def frechet(features: Features | None = None, name: str = "judge", picture: str = "", resamples: int | None = 200) -> Metric:
    """Frechet distance of two Gaussians fitted to features of the samples and of a reference set (Heusel et al. 2017, eq. 6).

    Args:
        features: pictures (N, H, W, 3) uint8 -> (N, k); None: the shipped judge's pooled features. A frozen dataclass, so
            that the metric's key follows its fields.
        name: what the features are, for the metric's name: "frechet_<name>".
        picture: name of the picture array; empty: the first.
        resamples: bootstrap resamples, each of which costs a matrix root.
    """
    return Metric(
        name=f"frechet_{name}",
        rows=SetFeatures(features or JudgePooled(judges.JudgeFile()), picture),
        reduce=base.frechet,
        better="lower",
        against="set",
        level="set",
        label=f"Frechet distance ({name} features)",
        about=f"Frechet distance to the reference set in {name} features, biased upwards for small sets; not FID.",
        resamples=resamples,
    )


METRICS = {"feature_distance": feature_distance, "frechet": frechet}
