"""Pictures of fields: one colour scale for all of them, an inset that magnifies, animations as GIF."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

ANCHORS = (
    (-1.0, (6, 38, 92)),
    (-0.5, (46, 125, 197)),
    (-0.15, (172, 211, 236)),
    (0.0, (250, 249, 245)),
    (0.15, (248, 202, 160)),
    (0.5, (217, 96, 32)),
    (1.0, (103, 24, 4)),
)
"""Colours of a field's values over its limit: blue below zero, orange above."""
FRAME = (20, 23, 27)
COLOURS = 48
"""Of an animation."""


def colours(values: np.ndarray, limit: float) -> np.ndarray:
    """Values (H, W) as pixels (H, W, 3); what lies beyond the limit is cut off."""
    share = np.clip(values / limit, -1, 1)
    places = [place for place, _ in ANCHORS]
    return np.stack([np.interp(share, places, [one[c] for _, one in ANCHORS]) for c in range(3)], -1).round().astype(np.uint8)


def finer(values: np.ndarray, factor: int, periodic: bool = True) -> np.ndarray:
    """The same field on a grid `factor` times as fine: exactly, by zero padding, where it is periodic; bicubic elsewhere."""
    if not periodic:
        tall, wide = (factor * n for n in values.shape)
        made = Image.fromarray(values.astype(np.float32)).resize((wide, tall), Image.Resampling.BICUBIC)
        return np.asarray(made)
    height, width = values.shape
    modes = np.fft.fftshift(np.fft.fft2(values))
    rows, columns = ((factor - 1) * n // 2 for n in values.shape)
    wide = np.pad(modes, ((rows, (factor - 1) * height - rows), (columns, (factor - 1) * width - columns)))
    return np.fft.ifft2(np.fft.ifftshift(wide)).real * factor**2


def tile(values: np.ndarray, limit: float, factor: int = 4, zoom: tuple[int, int, int] | None = None) -> np.ndarray:
    """A field (H, W) as pixels, `factor` times as large, with an inset in its lower right corner.

    Args:
        zoom: (row, column, side) of the square that the inset magnifies to a little under half of the picture; None = no inset.
    """
    pixels = colours(finer(values, factor), limit)
    if zoom is None:
        return pixels
    row, column, side = (one * factor for one in zoom)
    target = int(0.46 * min(pixels.shape[:2]))
    fine = finer(values, 4 * factor)[4 * row : 4 * (row + side), 4 * column : 4 * (column + side)]
    inset = np.asarray(Image.fromarray(colours(fine, limit)).resize((target, target), Image.Resampling.BICUBIC))
    pixels = outlined(pixels, row, column, side, side)
    top, left = pixels.shape[0] - target - 3, pixels.shape[1] - target - 3
    pixels[top : top + target, left : left + target] = inset
    return outlined(pixels, top, left, target, target)


def outlined(pixels: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    """With a rectangle drawn around a part."""
    made = pixels.copy()
    for k in range(2):
        top, bottom = row - k, min(row + height + k, made.shape[0] - 1)
        left, right = column - k, min(column + width + k, made.shape[1] - 1)
        made[max(top, 0), max(left, 0) : right + 1] = made[bottom, max(left, 0) : right + 1] = FRAME
        made[max(top, 0) : bottom + 1, max(left, 0)] = made[max(top, 0) : bottom + 1, right] = FRAME
    return made


def joined(rows: Sequence[Sequence[np.ndarray]], gap: int = 6) -> np.ndarray:
    """Pictures of one size as a sheet with white gaps."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, one in enumerate(row):
            sheet[i * (height + gap) : i * (height + gap) + height, j * (width + gap) : j * (width + gap) + width] = one
    return sheet


def film(frames: Sequence[np.ndarray], words: str, per_second: int = 8, rest: int = 0) -> str:
    """Frames (H, W, 3) as an animation inside the page; readers who want less motion get the last one.

    Args:
        words: what it shows. rest: milliseconds that the last frame stays longer.
    """
    palette = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])).quantize(COLOURS)
    coded = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    moving, still = io.BytesIO(), io.BytesIO()
    times = [round(1000 / per_second)] * len(coded)
    times[-1] += rest
    coded[0].save(moving, "GIF", save_all=True, append_images=coded[1:], duration=times, loop=0, optimize=True, disposal=1)
    coded[-1].save(still, "PNG", optimize=True)
    gif, png = (base64.b64encode(one.getvalue()).decode() for one in (moving, still))
    return (
        f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="data:image/png;base64,{png}">'
        f'<img src="data:image/gif;base64,{gif}" alt="{escape(words)}" '
        'style="display:block;width:100%;height:auto;border-radius:8px"></picture>'
    )
