"""Small smooth pictures that differ, and files of them, for the tests of readers and of preparation."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """A few soft blobs of colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1:1j*height, 0:1:1j*width]  # fmt: skip
    picture = np.zeros((height, width, 3)) + rng.uniform(40, 200, 3)
    for _ in range(4):
        cx, cy, spread = rng.uniform(0, 1, 3)
        picture += rng.uniform(-120, 120, 3) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (0.02 + 0.1 * spread))[..., None]
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def png(seed: int, width: int = 40, height: int = 30) -> bytes:
    buffer = io.BytesIO()
    photo(seed, width, height).save(buffer, "PNG")
    return buffer.getvalue()


def folder(root: Path, count: int = 6, width: int = 40, height: int = 30) -> Path:
    """Pictures p00.png, ... with captions in .txt files."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (root / f"p{i:02d}.png").write_bytes(png(i, width, height))
        (root / f"p{i:02d}.txt").write_text(f"picture number {i} of soft blobs")
    return root
