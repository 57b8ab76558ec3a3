"""Making a picture the size a model trains at: the short edge resized, the rest cropped around the centre."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}


def cover(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture that fills (width, height) exactly: scaled by one factor (bilinear, antialiased), then cropped centrally."""
    from PIL import Image

    if picture.size == size:
        return picture
    width, height = size
    factor = max(width / picture.width, height / picture.height)
    scaled = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
    if picture.size != scaled:
        picture = picture.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture if picture.size == size else picture.crop((left, top, left + width, top + height))


def encoded(picture: Image.Image, format_: str, quality: int = 95) -> bytes:
    """A picture as a file: "png", lossless "webp" (quality 100) or lossy, "jpeg"; no metadata, the same bytes each time."""
    buffer = io.BytesIO()
    if format_ == "png":
        picture.save(buffer, "PNG", compress_level=6)
    elif format_ == "webp":
        picture.save(buffer, "WEBP", lossless=quality >= 100, quality=quality, method=4)
    else:
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
