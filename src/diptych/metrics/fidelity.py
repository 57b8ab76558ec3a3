"""Drift from the reference: how far a sample is from the baseline's (or the truth's) sample of the same unit.

Drift says that pictures changed, not that they got worse: two equally good samples of one prompt may differ as much as this.
Hold it against the other-seed scale that every report prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from diptych.metrics import base
from diptych.study import Against, Metric, Samples

PEAK = 255.0
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K = (0.01, 0.03)
CHUNK = 32


def pictures(samples: Samples, name: str = "") -> np.ndarray:
    """The picture array of some samples: `name`, or where that is empty the first uint8 array of shape (N, H, W, 3).

    Raises:
        ValueError: there is no such array, or it does not hold pictures.
    """
    shown = [key for key, value in samples.arrays.items() if value.dtype == np.uint8 and value.shape[3:] == (3,)]
    if not name and not shown:
        raise ValueError(f"metric: samples hold no pictures, only {sorted(samples.arrays)}; pictures are (N, H, W, 3) uint8")
    if name and name not in shown:
        raise ValueError(f"metric: picture={name!r} is not a (N, H, W, 3) uint8 array; there is {shown or 'none'}")
    return samples.arrays[name or shown[0]]


def same_units(samples: Samples, reference: Samples | None, metric: str) -> Samples:
    """The reference, checked to hold the same units in the same order.

    Raises:
        ValueError: there is no reference, or its units differ.
    """
    if reference is None:
        raise ValueError(f"metric {metric!r}: needs a reference to hold the samples against; got none")
    if reference.units != samples.units:
        odd = next((a.key for a, b in zip(samples.units, reference.units) if a != b), "the count")
        raise ValueError(f"metric {metric!r}: samples and reference are of different units ({odd}); join them first")
    return reference


def picture_pair(samples: Samples, reference: Samples | None, name: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of samples and reference, both (N, H, W, 3) uint8.

    Raises:
        ValueError: units or sizes differ.
    """
    mine, theirs = pictures(samples, name), pictures(same_units(samples, reference, metric), name)
    if mine.shape != theirs.shape:
        raise ValueError(
            f"metric {metric!r}: pictures are {mine.shape[1:3]} and the reference's {theirs.shape[1:3]}; resize one arm"
        )
    return mine, theirs


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices of at most `size` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@dataclass(frozen=True)
class MeanSquaredError:
    """Rows of `psnr`: mean squared error of a picture, (N, 1), of values in [0, 1]; 0 for identical pictures."""

    picture: str = ""

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        mine, theirs = picture_pair(samples, reference, self.picture, "psnr")
        rows = np.empty((len(samples), 1))
        for part in chunks(len(samples)):
            error = (mine[part].astype(np.float64) - theirs[part]) / PEAK
            rows[part, 0] = np.mean(error * error, axis=(1, 2, 3))
        return rows


@dataclass(frozen=True)
class StructuralSimilarity:
    """Rows of `ssim`: mean structural similarity of a picture, (N, 1), at most 1; 1 for identical pictures."""

    picture: str = ""

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        mine, theirs = picture_pair(samples, reference, self.picture, "ssim")
        return structural_similarity(mine, theirs)[:, None]


@dataclass(frozen=True)
class RelativeError:
    """Rows of `relative_error`: |sample - reference| / |reference| of one field in the 2-norm, (N, 1)."""

    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        theirs = same_units(samples, reference, "relative_error")
        for name, held in (("samples", samples), ("reference", theirs)):
            if self.array not in held.arrays:
                raise ValueError(f"relative_error: array={self.array!r} is not in the {name}; there is {sorted(held.arrays)}")
        x, y = samples.arrays[self.array], theirs.arrays[self.array]
        if x.shape != y.shape:
            raise ValueError(f"relative_error: {self.array!r} has shape {x.shape[1:]} and the reference's {y.shape[1:]}")
        x, y = (np.asarray(a, dtype=np.float64).reshape(len(samples), -1) for a in (x, y))
        scale = np.linalg.norm(y, axis=1)
        if not np.all(scale > 0):
            unit = samples.units[int(np.argmin(scale > 0))]
            raise ValueError(f"relative_error: the reference's {self.array!r} is zero or NaN for unit {unit.key}")
        return (np.linalg.norm(x - y, axis=1) / scale)[:, None]


def structural_similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Structural similarity index of picture pairs, mean over channels and over the pixels whose window fits.

    Wang et al. 2004, "Image quality assessment", eq. 13: Gaussian window of 11x11, sigma 1.5, K = (0.01, 0.03), population
    covariance, range 255.

    Args:
        x: pictures, (N, H, W, C) uint8, H and W at least 11.
        y: pictures of the same shape.

    Returns:
        (N,) float64.

    Raises:
        ValueError: pictures smaller than the window.
    """
    side = 2 * SSIM_RADIUS + 1
    if min(x.shape[1:3]) < side:
        raise ValueError(f"ssim: pictures of {x.shape[1]}x{x.shape[2]} are smaller than the {side}x{side} window")
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    window = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    window /= window.sum()

    def blur(a: np.ndarray) -> np.ndarray:
        a = ndimage.correlate1d(ndimage.correlate1d(a, window, axis=1), window, axis=2)
        return a[:, SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]

    c1, c2 = ((k * PEAK) ** 2 for k in SSIM_K)
    scores = np.empty(len(x))
    for part in chunks(len(x)):
        a, b = x[part].astype(np.float64), y[part].astype(np.float64)
        mean_a, mean_b = blur(a), blur(b)
        spread = blur(a * a) + blur(b * b) - mean_a**2 - mean_b**2
        both = blur(a * b) - mean_a * mean_b
        index = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread + c2))
        scores[part] = index.mean(axis=(1, 2, 3))
    return scores


def psnr(picture: str = "", against: Against = "baseline", margin: float | None = None) -> Metric:
    """Peak signal-to-noise ratio to the same unit's picture [dB].

    Rows are mean squared errors and the logarithm is taken of their mean (`base.psnr`), so identical pictures among others
    are no special case; where all are identical the value is `base.PSNR_CEILING`, 100 dB, not infinity.
    """
    return Metric(
        name="psnr",
        rows=MeanSquaredError(picture),
        reduce=base.psnr,
        better="higher",
        margin=margin,
        against=against,
        unit="dB",
        label="PSNR",
        about=f"Pixel distance to the {against}'s picture of the same unit; 100 dB stands for identical. Change, not quality.",
    )


def ssim(picture: str = "", against: Against = "baseline", margin: float | None = None) -> Metric:
    """Mean structural similarity to the same unit's picture, at most 1 (identical)."""
    return Metric(
        name="ssim",
        rows=StructuralSimilarity(picture),
        better="higher",
        margin=margin,
        against=against,
        label="SSIM",
        about=f"Local structure shared with the {against}'s picture of the same unit; 1 is identical. Change, not quality.",
    )


def relative_error(array: str, against: Against = "baseline", margin: float | None = None) -> Metric:
    """Relative 2-norm error of a field, a unit: |sample - reference| / |reference|; mean over units."""
    if not array:
        raise ValueError("relative_error: array is empty; name the field, e.g. array='vorticity'")
    return Metric(
        name=f"relative_error_{array}",
        rows=RelativeError(array),
        better="lower",
        margin=margin,
        against=against,
        label=f"relative error of {array}",
        about=f"2-norm distance of {array} to the {against}'s of the same unit, over the latter's norm; 0 is identical.",
    )


METRICS = {"psnr": psnr, "ssim": ssim, "relative_error": relative_error}
