"""The trained arms of the spectral study: their names, and where their weights lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets" / "spectral"
ARMS = {
    "mse": "squared error alone",
    "log": "and the squared log ratio of shell powers, weighted by zone: the paper's loss",
    "whitened": "and every mode's squared error over its shell's power",
    "pre_mse": "squared error alone, fields seen through the inverse root of their spectrum to a power",
    "pre_log": "the paper's loss, through the same filter",
    "pre_mix": "log-spectral and whitened loss, through the same filter",
}
"""Each arm and what sets it apart, in the order of the tables."""
LABELS = {
    "mse": "MSE",
    "log": "log-spectral",
    "whitened": "whitened",
    "pre_mse": "pre-emphasis, MSE",
    "pre_log": "pre-emphasis, log-spectral",
    "pre_mix": "pre-emphasis, mix",
}


@dataclass(frozen=True)
class Trained:
    """One trained autoencoder, and the flow in its latents where there is one.

    Args:
        name: of the arm. replica: training seed. autoencoder, flow: folders of weights.
    """

    name: str
    replica: int
    autoencoder: Path
    flow: Path | None


def weights_in(folder: Path) -> Path | None:
    """The folder of the weights: "weights" below it as trained, itself as shipped; None where there are none."""
    for one in (folder / "weights", folder):
        if (one / "model.safetensors").is_file() and (one / "config.json").is_file() and not (one / "checkpoints").exists():
            return one
    return None


def trained_in(folder: Path) -> list[Trained]:
    """Every finished model of a folder, arm by arm.

    Raises:
        ValueError: there is none of the baseline.
    """
    found = []
    for name in ARMS:
        for path in sorted(folder.glob(f"{name}-[0-9]*"), key=lambda path: int(path.name.rpartition("-")[2])):
            autoencoder = weights_in(path / "autoencoder")
            if autoencoder:
                found.append(Trained(name, int(path.name.rpartition("-")[2]), autoencoder, weights_in(path / "flow")))
    if not any(one.name == "mse" for one in found):
        raise ValueError(f"weights: {folder} holds no finished autoencoder of the arm mse; `diptych train spectral` makes it")
    return found
