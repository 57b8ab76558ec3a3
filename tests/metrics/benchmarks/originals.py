"""Where the benchmarks' published prompt files lie, if they do: beside the repository, never inside it."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "t2i-benchmarks"
needed = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published prompt files are not here")
