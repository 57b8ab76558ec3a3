"""The cells of an ablation on an existing Ray cluster: each network is a task of its own, resumable as it is anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.config import from_json, to_json
from diptych.recipes.i1_cells import ABLATIONS, Cell, cells
from diptych.recipes.i1_data import caches
from diptych.recipes.i1_train import I1Training, cell_folder, finished, train_cell

TRIES = 3
"""Times that a task is begun again where its worker died; it goes on from its last checkpoint."""


def task(told: Mapping[str, Any], stage: str, arm: str, replica: int, root: str) -> str:
    """Train one cell on a worker; takes and gives plain data only.

    Args:
        told: the `I1Training` as JSON.
        stage, arm, replica: which cell.
        root: the folder, which all workers see.
    """
    config = from_json(I1Training, told)
    cell = cells(stage, config.base)[arm]
    folder = cell_folder(Path(root), config, cell, replica)
    return train_cell(config, cell, replica, Path(root), folder, config.ema).as_posix()


def sweep(stage: str, config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train what is missing of an ablation, as many networks at once as the cluster has cores (or GPUs, one each).

    Latents and caption states are cached here first, so that no two workers make them; `out` must be on storage that all see.

    Raises:
        ValueError: Ray is not installed, no cluster is there, or a stage that is no ablation.
    """
    if stage not in ABLATIONS:
        raise ValueError(f"--on ray: stage {stage!r} is one network; give an ablation ({', '.join(ABLATIONS)})")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError('--on ray: Ray is not installed; pip install "diptych[ray]"') from None
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError:
        raise ValueError("--on ray: no cluster is running; `ray start --head` starts one on this machine") from None
    root, told = out.absolute(), to_json(config)
    arms = cells(stage, config.base)
    for cell in _stages(arms.values()):
        caches(cell, root)
    cores = {"num_gpus": 1} if ray.cluster_resources().get("GPU") and device != "cpu" else {"num_cpus": 1}
    remote = ray.remote(max_retries=TRIES, **cores)(task)
    waiting = {
        remote.remote(told, stage, arm, replica, root.as_posix()): f"{arm}, seed {replica}"
        for replica in range(config.replicas)
        for arm, cell in arms.items()
        if not finished(cell_folder(root, config, cell, replica))
    }
    try:
        while waiting:
            done, _ = ray.wait(list(waiting))
            for one in done:
                ray.get(one)
                print(f"i1: {stage}: {waiting.pop(one)} is trained, {len(waiting)} to go")
    finally:
        ray.shutdown()
    return out / "cells"


def _stages(found: Iterable[Cell]) -> list[Cell]:
    """Cells, and the cells that they go on from."""
    every: list[Cell] = []
    for cell in found:
        every += [cell, *([cell.after] if cell.after else [])]
    return list(dict.fromkeys(every))
