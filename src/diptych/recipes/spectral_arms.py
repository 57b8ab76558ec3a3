"""Arms of the spectral study: true fields, fields that only have their spectrum, reconstructions, generated fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diptych.denoise import Cond
from diptych.metrics.field_baselines import ShellGain
from diptych.models.field_autoencoder import FieldAutoencoder
from diptych.models.field_unet import FieldUNet
from diptych.models.hub import describe, load_model
from diptych.noise import Noise
from diptych.physics.random_fields import gaussian_field, phase_randomised
from diptych.physics.shells import band
from diptych.recipes.spectral_data import Part, Setting, Source, Split, part
from diptych.samplers.arm import default_device
from diptych.study import Samples, Unit


@lru_cache(maxsize=64)
def setting_of(weights: Path) -> Setting:
    """data.json of a folder of weights, read once."""
    return Setting.read(weights)


@lru_cache(maxsize=64)
def autoencoder_of(folder: Path, device: str) -> FieldAutoencoder:
    """The autoencoder of a folder, kept.

    Raises:
        ValueError: another model, or none.
    """
    net = load_model(folder, device)
    if not isinstance(net, FieldAutoencoder):
        raise ValueError(f"{folder}: holds a {type(net).__name__}, not a FieldAutoencoder")
    return net


def gain_of(folder: Path, setting: Setting) -> ShellGain:
    """The shell gain that was fitted on an autoencoder's reconstructions of training fields."""
    return ShellGain(setting.grid, tuple(describe(folder)["extra"]["shell_gain"]))


def picked(source: Source, units: Sequence[Unit], split: Split = "test") -> Part:
    """The test fields of units, by the names of their items; of another part, the fields in the same places."""
    where = {name: i for i, name in enumerate(part(source, "test").names)}
    held = part(source, split)
    return held.take([where[unit.item] % len(held.names) for unit in units])


@dataclass(frozen=True)
class Truth:
    """The test fields themselves; with another part, true fields of trajectories that have nothing to do with them."""

    source: Source
    split: Split = "test"

    def __call__(self, units: Sequence[Unit]) -> Samples:
        return of_fields(units, picked(self.source, units, self.split).fields)


@dataclass(frozen=True)
class Reference:
    """All test fields as a set; an item is a trajectory, so that whole trajectories are resampled."""

    source: Source

    def __call__(self) -> Samples:
        held = part(self.source, "test")
        units = [Unit(cluster, held.clusters[:i].count(cluster)) for i, cluster in enumerate(held.clusters)]
        return of_fields(units, held.fields)


def of_fields(units: Sequence[Unit], fields: np.ndarray) -> Samples:
    """Samples of fields that no flow made."""
    arrays = {"field": fields.astype(np.float32), "spread": np.ones(len(units), np.float32)}
    return Samples(tuple(units), arrays, {"evaluations": np.zeros(len(units))})


def white(units: Sequence[Unit], shape: Sequence[int]) -> Tensor:
    """Noise of the units, (N, *shape)."""
    noise = Noise(tuple(unit.key for unit in units))
    return noise.normal(shape, "random field")


@dataclass(frozen=True)
class RandomField:
    """Gaussian random fields of the training spectrum: right power everywhere, no structure."""

    weights: Path

    def __call__(self, units: Sequence[Unit]) -> Samples:
        setting = setting_of(self.weights)
        power = torch.tensor(setting.spectrum)
        made = gaussian_field(power, white(units, (setting.channels, *setting.grid.shape)), setting.grid)
        return of_fields(units, made.numpy())


@dataclass(frozen=True)
class PhaseRandomised:
    """The test fields with the phases of noise: each mode's own power, no structure."""

    source: Source
    weights: Path

    def __call__(self, units: Sequence[Unit]) -> Samples:
        truth = torch.from_numpy(picked(self.source, units).fields)
        made = phase_randomised(truth, white(units, truth.shape[1:]), setting_of(self.weights).grid)
        return of_fields(units, made.numpy())


@dataclass(frozen=True)
class Reconstructed:
    """Test fields through an encoder and a decoder.

    Args:
        encoder: folder of the autoencoder that encodes. decoder: of the one that decodes; None = the same.
        gained: apply the encoder's shell gain to what comes out.
        matrix, offset: a linear map of the latents' channels in between; empty = none.
    """

    source: Source
    weights: Path
    encoder: Path
    decoder: Path | None = None
    gained: bool = False
    matrix: tuple[tuple[float, ...], ...] = ()
    offset: tuple[float, ...] = ()

    @torch.no_grad()
    def __call__(self, units: Sequence[Unit]) -> Samples:
        device = default_device()
        encoder = autoencoder_of(self.encoder, device)
        decoder = autoencoder_of(self.decoder, device) if self.decoder else encoder
        latents = encoder.encode(torch.from_numpy(picked(self.source, units).fields).to(device))
        if self.matrix:
            latents = mapped(latents, torch.tensor(self.matrix), torch.tensor(self.offset))
        made = decoder.decode(latents).cpu()
        if self.gained:
            made = gain_of(self.encoder, setting_of(self.weights))(made)
        return of_fields(units, made.numpy())


def mapped(latents: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """A linear map of channels at every place: latents (B, L, M...), matrix (L', L), offset (L',)."""
    moved = torch.einsum("ij,bj...->bi...", matrix.to(latents), latents)
    return moved + offset.to(latents).reshape(-1, *[1] * (latents.ndim - 2))


@dataclass(frozen=True)
class FlowNetwork:
    """Loads a flow network from its folder."""

    folder: Path

    def __call__(self, device: str) -> FieldUNet:
        net = load_model(self.folder, device)
        if not isinstance(net, FieldUNet):
            raise ValueError(f"{self.folder}: holds a {type(net).__name__}, not a FieldUNet")
        return net


@dataclass(frozen=True)
class Decoded:
    """Latents to fields; with them the latents' mean square, 1 for latents as spread as the training's."""

    folder: Path

    def __call__(self, latents: Tensor) -> Mapping[str, np.ndarray]:
        fields = autoencoder_of(self.folder, str(latents.device)).decode(latents)
        spread = latents.square().flatten(1).mean(1)
        return {"field": fields.cpu().numpy().astype(np.float32), "spread": spread.cpu().numpy()}


@dataclass(frozen=True)
class Warmed:
    """A prior that is `temperature` times as wide: the calibration of arXiv:2606.11691, section on the prior."""

    temperature: float
    shape: tuple[int, ...]

    def __call__(self, units: Sequence[Unit], device: str) -> Tensor:
        noise = Noise(tuple(unit.key for unit in units), device)
        return self.temperature * noise.normal(self.shape, "prior")


@dataclass(frozen=True)
class LowPassed:
    """The condition of a super-resolving flow: latents of the test fields' large scales, shells 0 to `cut`."""

    source: Source
    weights: Path
    autoencoder: Path
    cut: int

    @torch.no_grad()
    def __call__(self, units: Sequence[Unit], device: str) -> Cond:
        truth = torch.from_numpy(picked(self.source, units).fields)
        low = band(truth, (0, self.cut), setting_of(self.weights).grid).to(device)
        return {"given": autoencoder_of(self.autoencoder, device).encode(low)}


@dataclass(frozen=True)
class Smoothed:
    """The test fields' large scales alone: what a super-resolving flow is given."""

    source: Source
    weights: Path
    cut: int

    def __call__(self, units: Sequence[Unit]) -> Samples:
        truth = torch.from_numpy(picked(self.source, units).fields)
        return of_fields(units, band(truth, (0, self.cut), setting_of(self.weights).grid).numpy())
