"""An exact detector of the drawn shapes of `data/shapes.py`: what the picture shows is fitted by the shapes it could show.

Pixels that are not background fall into blobs, a blob takes its colour from its most coloured pixels and its shape from the
template of equal area around its centroid that overlaps it best. That overlap, from 0 to 1, is the detection's score.
"""

from __future__ import annotations

import math
from functools import cache
from typing import cast

import numpy as np
from scipy import ndimage

from diptych.data.shapes import COLOURS, SHAPES, coverage

DISTANCE = 40.0  # from the background, in 8-bit RGB, that makes a pixel part of something
SMALLEST = 0.004  # of the picture's area; the smallest star covers 0.015
SMOOTH = 0.011  # of the picture's side: standard deviation of the blur that noise is met with
_NAMES = tuple(COLOURS)
_PALETTE = np.array([COLOURS[name] for name in _NAMES], np.float64)
_EIGHT = np.ones((3, 3), bool)


@cache
def area_of(kind: str) -> float:
    """Area of a shape in radii squared, as it is drawn."""
    return float(coverage(kind, 0.5, 0.5, 0.4, 256).mean()) / 0.4**2


def detect(pixels: np.ndarray) -> list[dict]:
    """Shapes in a square picture, the surest first.

    Args:
        pixels: (S, S, 3) uint8.

    Returns:
        {"class", "box": [x0, y0, x1, y1] in pixels, "score": overlap with the best template, "color"}, as GenEval's answers.

    Raises:
        ValueError: a picture that is not square.
    """
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] != 3:
        raise ValueError(f"shapes: a picture of shape {pixels.shape}; the detector reads square RGB pictures")
    size = len(pixels)
    sigma = SMOOTH * size
    smooth = ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0))
    background = np.median(smooth.reshape(-1, 3), axis=0)
    away = np.linalg.norm(smooth - background, axis=2)
    found = [_fitted(smooth, background, away, blob, sigma) for blob in _blobs(smooth, away > DISTANCE)]
    return sorted(found, key=lambda one: -one["score"])


def _blobs(smooth: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Masks of what is one thing: pieces that hang together, cut where the colour of their insides changes."""
    least = SMALLEST * mask.size
    pieces, count = _labelled(mask)
    nearest = np.argmin(((smooth[:, :, None] - _PALETTE) ** 2).sum(3), axis=2)
    inner = ndimage.binary_erosion(mask, _EIGHT)
    blobs = []
    for number in range(1, count + 1):
        piece = pieces == number
        if piece.sum() < least:
            continue
        seeds = np.zeros(mask.shape, np.int64)
        for colour in range(len(_NAMES)):
            kernels, several = _labelled(piece & inner & (nearest == colour))
            for n in range(1, several + 1):
                if (kernels == n).sum() >= least:
                    seeds[kernels == n] = colour + 1
        if len(np.unique(seeds)) < 3:  # one colour, or none that is sure
            blobs.append(piece)
            continue
        nearby = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        owner = seeds[tuple(cast(np.ndarray, nearby))]
        for colour in np.unique(seeds[seeds > 0]):
            parts, several = _labelled(piece & (owner == colour))
            blobs += [parts == n for n in range(1, several + 1) if (parts == n).sum() >= least]
    return blobs


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Pieces that hang together, numbered from 1, and how many there are."""
    return cast("tuple[np.ndarray, int]", ndimage.label(mask, _EIGHT))


def _fitted(smooth: np.ndarray, background: np.ndarray, away: np.ndarray, blob: np.ndarray, sigma: float) -> dict:
    colour = np.median(smooth[blob & (away >= np.quantile(away[blob], 0.7))], axis=0)
    axis = (colour - background) / ((colour - background) ** 2).sum()
    share, top, left = _square(np.clip((smooth - background) @ axis, 0.0, 1.0) * ndimage.binary_dilation(blob, _EIGHT), sigma)
    side, area = len(share), share.sum()
    y, x = (float((share * grid).sum() / area) + 0.5 for grid in np.indices(share.shape))
    best, kind = -1.0, ""
    for name in SHAPES:
        radius = math.sqrt(area / area_of(name)) / side
        template = ndimage.gaussian_filter(coverage(name, x / side, y / side, radius, side), sigma)
        overlap = float(np.minimum(share, template).sum() / np.maximum(share, template).sum())
        if overlap > best:
            best, kind = overlap, name
    rows, columns = (np.flatnonzero((share > 0.5).any(side)) for side in (1, 0))
    ends = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (x, y, x, y)
    box = [float(end) + start for end, start in zip(ends, (left, top, left, top), strict=True)]
    told = _NAMES[int(np.argmin(((_PALETTE - colour) ** 2).sum(1)))]
    return {"class": kind, "box": box, "score": best, "color": told}


def _square(share: np.ndarray, sigma: float) -> tuple[np.ndarray, int, int]:
    """The part of a map that is not zero, in a square with room for a template and its blur, and where that begins."""
    rows, columns = (np.flatnonzero(share.any(side)) for side in (1, 0))
    room = math.ceil(4 * sigma) + max(rows[-1] - rows[0], columns[-1] - columns[0]) // 4 + 1
    top, left = int(rows[0]) - room, int(columns[0]) - room
    side = max(int(rows[-1]) - top, int(columns[-1]) - left) + 1 + room
    out = np.zeros((side, side))
    held = share[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    out[room : room + held.shape[0], room : room + held.shape[1]] = held
    return out, top, left
