"""How the spectral study's models are made: autoencoders that differ in loss and filter, then a flow in the latents of each.

Every stage goes on where a killed run left off. Two processes given the same command and folder share the models out between
them: each takes the next one that nobody holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.recipes.spectral_data import Setting, part
from diptych.recipes.spectral_fit import claimed, fit_autoencoder, fit_flow, shared, store, trained
from diptych.recipes.spectral_settings import TRAIN, SpectralTraining, arm_of, jobs, source_of

__all__ = ["STAGES", "TRAIN"]


def make_data(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Simulate (or read) the training and validation fields, and write data.json: grid, zones, training spectrum."""
    with claimed(out / "data", wait=True):
        if not (out / "data" / "validation.npz").exists():
            for split in ("train", "validation"):
                made = part(source_of(config), split)
                store(out / "data" / f"{split}.npz", made)
            Setting.of(source_of(config)).save(out)
    return out / "data"


def train_autoencoders(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train every autoencoder of every arm and replica; out/ARM-REPLICA/autoencoder/weights."""
    todo = jobs(config)
    folders = [out / f"{name}-{replica}" / "autoencoder" for name, replica in todo]

    def make(index: int) -> None:
        name, replica = todo[index]
        fit_autoencoder(
            config, arm_of(config, name), replica, folders[index], out, f"spectral/{name}-{replica}", device, trackers
        )

    shared(folders, trained, make)
    return out


def train_flows(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train a flow in the latents of every autoencoder whose arm asks for one; out/ARM-REPLICA/flow/weights."""
    todo = [(name, replica) for name, replica in jobs(config) if arm_of(config, name).flow]
    folders = [out / f"{name}-{replica}" / "flow" for name, replica in todo]

    def make(index: int) -> None:
        name, replica = todo[index]
        weights = folders[index].parent / "autoencoder" / "weights"
        fit_flow(config, replica, weights, folders[index], out, f"spectral/{name}-{replica}-flow", device, trackers)

    shared(folders, trained, make)
    return out


def pack(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Write the shipped form of the first replica's models with a card; see `spectral_pack`."""
    if "pack" not in config.extras:
        return out
    from diptych.recipes import spectral_pack

    return spectral_pack.pack(config, out)


def train_swaps(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Adapters between latents, and halves trained against the frozen half of another; see `spectral_swap`."""
    if "swaps" not in config.extras:
        return out
    from diptych.recipes import spectral_swap

    return spectral_swap.train_swaps(config, out, device, trackers)


def train_sweep(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Every arm's tries on the validation fields, from which its settings were chosen; see `spectral_sweep`."""
    if "sweep" not in config.extras:
        return out
    from diptych.recipes import spectral_sweep

    return spectral_sweep.train_sweep(config, out, device, trackers)


def train_downscaling(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train a flow that is told the large scales, in the latents of one arm's first replica; out/downscaling/weights."""
    if "downscaling" not in config.extras:
        return out
    folder, replica = out / "downscaling", config.replicas[0]
    weights = out / f"{config.downscaled}-{replica}" / "autoencoder" / "weights"

    def make(_: int) -> None:
        fit_flow(config, replica, weights, folder, out, "spectral/downscaling", device, trackers, cut=config.cut)

    shared([folder], trained, make)
    return folder / "weights"


STAGES = {
    "data": make_data,
    "sweep": train_sweep,
    "autoencoders": train_autoencoders,
    "flows": train_flows,
    "swaps": train_swaps,
    "downscaling": train_downscaling,
    "pack": pack,
}
"""In order. Settings are not taken over from the sweep by themselves: they stand in `SpectralTraining`."""
