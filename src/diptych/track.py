"""Where numbers of a run go: a JSON-lines file always, and any of `TRACKERS` beside it.

A tracker is an object with `log(values, step)` and `finish()`; `step` counts images seen.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from diptych.files import write_lines


class Tracker(Protocol):
    """What takes the numbers of a run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record `values` at `step` (images seen)."""
        ...

    def finish(self) -> None:
        """Write what is buffered and close."""
        ...


class Jsonl:
    """One JSON object a line, flushed as it is written; numbers that are not finite become null.

    Args:
        path: the file, appended to.
        step: lines beyond this step are dropped first, so that a resumed run doubles nothing.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        truncate(path, step)
        self._file = path.open("a", encoding="ascii")

    def log(self, values: Mapping[str, float], step: int) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"images": step, **finite}) + "\n")
        self._file.flush()

    def finish(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines log; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="ascii").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def truncate(path: Path, step: int) -> None:
    """Drop the lines of a log that lie beyond `step`, atomically."""
    if not path.exists():
        return
    kept = [line for line in read(path) if line["images"] <= step]
    write_lines(path, kept)


class _TensorBoard:
    def __init__(self, name: str, folder: Path, config: Mapping[str, Any], step: int) -> None:
        _need("tensorboard", "tensorboard")
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        self._writer.add_text("config", f"```\n{json.dumps(dict(config), indent=1)}\n```", step)
        self._writer.add_text("name", name, step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Hosted:
    """wandb, and trackio, which speaks its dialect: the run is told apart by its folder, so a resumed one goes on in it."""

    def __init__(self, module: str, name: str, options: Mapping[str, Any]) -> None:
        self._run = _need(module, module).init(project="diptych", name=name, resume="allow", **options)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()


def _wandb(name: str, folder: Path, config: Mapping[str, Any], step: int) -> Tracker:
    return _Hosted("wandb", name, {"config": dict(config), "dir": str(folder), "id": _number(name, folder)})


def _trackio(name: str, folder: Path, config: Mapping[str, Any], step: int) -> Tracker:
    return _Hosted("trackio", _number(name, folder), {"config": dict(config)})


def _number(name: str, folder: Path) -> str:
    return f"{name.replace('/', '-')}-{hashlib.blake2b(str(folder.resolve()).encode(), digest_size=4).hexdigest()}"


Open = Callable[[str, Path, Mapping[str, Any], int], Tracker]
TRACKERS: dict[str, Open] = {"tensorboard": _TensorBoard, "wandb": _wandb, "trackio": _trackio}


def open_tracker(kind: str, name: str, folder: Path, config: Mapping[str, Any], step: int = 0) -> Tracker:
    """Open one of `TRACKERS`.

    Args:
        kind: a key of `TRACKERS`.
        name: name of the run.
        folder: folder of the run; local trackers write under it.
        config: what is shown as the run's settings.
        step: images already seen, where the run is resumed.

    Raises:
        ValueError: an unknown kind, or one whose package is not installed.
    """
    if kind not in TRACKERS:
        near = difflib.get_close_matches(kind, TRACKERS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(TRACKERS)}"
        raise ValueError(f"tracker {kind!r} is unknown; {hint}")
    return TRACKERS[kind](name, folder, config, step)


def _need(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"tracker {module!r} is not installed; run `pip install {package}` or leave it out") from error
