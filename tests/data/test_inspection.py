from __future__ import annotations

import shutil

import numpy as np
import pytest
from pictures import folder, png
from PIL import Image, ImageDraw, ImageFont

from diptych.data.inspection import _lines, bars, histogram, inspect, sheet
from diptych.data.sources import open_source


def test_counts_of_a_known_folder(tmp_path):
    root = folder(tmp_path / "set", 6)
    (root / "p00.txt").unlink()
    shutil.copy(root / "p01.png", root / "p02.png")
    Image.open(root / "p01.png").save(root / "p03.png", "PNG", compress_level=0)
    (root / "p04.png").write_bytes(png(4, 60, 20))
    (root / "p05.png").write_bytes(b"junk")
    found = inspect(open_source(root))
    assert (found.records, found.of, found.repeated, found.alike) == (5, 6, 1, 1)
    assert found.sizes == {"40x30": 4, "60x20": 1} and found.short_edges == (20, 30, 30)
    assert found.captions == {0: 1, 1: 4} and found.words == {"6-10": 4}
    assert found.broken == ["p05: the picture cannot be read (of no known format)"]
    assert found.bytes == sum(path.stat().st_size for path in root.glob("p0[0-4].png"))
    some = inspect(open_source(root), limit=3)
    assert some.records + len(some.broken) == 3 and some.of == 6


def test_histograms():
    assert histogram([0, 1, 5, 6, 25, 26, 400, 401, 5000]) == {
        "0": 1, "1-5": 2, "6-10": 1, "11-25": 1, "26-50": 1, "51-75": 0, "76-100": 0, "101-150": 0, "151-200": 0,
        "201-400": 1, "401+": 2,
    }  # fmt: skip
    assert histogram([]) == {} and histogram([7, 8]) == {"6-10": 2}
    assert bars({"1-5": 10, "6-10": 1, "11-25": 0}, width=5) == ["  1-5  #####  10", " 6-10  #      1", "11-25         0"]


def test_a_sheet_shows_pictures_where_they_belong(tmp_path):
    root = folder(tmp_path / "set", 9)
    (root / "p04.png").write_bytes(b"junk")
    source = open_source(root)
    page = sheet(source, pictures=20, columns=4)
    assert page.size == (2 * 28 + 4 * 176 + 3 * 14, 62 + 2 * (176 + 46) + 14 + 28)
    pixels = np.asarray(page, int)
    for place, row in enumerate(i for i in range(9) if i != 4):
        left, top = 28 + place % 4 * 190 + 6, 62 + place // 4 * 236 + (176 - 123) // 2
        shown = pixels[top + 10 : top + 110, left + 10 : left + 150].mean((0, 1))
        whole = np.asarray(Image.open(root / f"p{row:02d}.png"), int)[3:27, 3:37].mean((0, 1))
        assert np.abs(shown - whole).max() < 6, row
        below = pixels[62 + place // 4 * 236 + 180 : 62 + place // 4 * 236 + 200, left : left + 150]
        assert below.min() < 100  # its caption
    few = sheet(source, pictures=3)
    assert few.size[0] == 2 * 28 + 3 * 176 + 2 * 14
    for path in root.glob("*.png"):
        path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="none of its pictures can be read"):
        sheet(source)


def test_captions_are_broken_into_lines_that_fit():
    draw, font = ImageDraw.Draw(Image.new("RGB", (10, 10))), ImageFont.load_default(12)
    assert _lines(draw, "short", font, 170, 2) == ["short"]
    lines = _lines(draw, "word " * 40, font, 170, 2)
    assert len(lines) == 2 and lines[1].endswith("...") and all(draw.textlength(line, font) <= 170 for line in lines)
    (only,) = _lines(draw, "x" * 200, font, 170, 1)
    assert only.endswith("...") and draw.textlength(only, font) <= 170
