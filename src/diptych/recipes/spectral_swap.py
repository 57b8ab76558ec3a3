"""Encoder or decoder? Halves of two autoencoders put together raw, through a linear adapter, or with one half trained anew.

A raw swap of two autoencoders that were trained apart confounds "the information is not there" with "the coordinates differ":
latents may be turned, permuted, of other sign. An adapter (a linear map of the latents' channels, the same at every place)
takes most of that away; a half trained against the other, frozen one takes away the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diptych.config import from_json, to_json
from diptych.files import read_json, write_json
from diptych.models.field_autoencoder import FieldAutoencoder
from diptych.models.hub import load_model
from diptych.recipes.spectral_data import Setting
from diptych.recipes.spectral_fit import encoded, fit_autoencoder, shared, stored, trained
from diptych.recipes.spectral_models import weights_in
from diptych.recipes.spectral_settings import SpectralTraining, arm_of

PAIRS = (("mse", "log"), ("pre_mse", "pre_mix"))
"""(power lost, power kept): the paper's pair, and the same two losses behind the pre-emphasis."""
HALVES = ("decoder", "encoder")
RIDGE = 1e-4


@dataclass(frozen=True)
class Adapter:
    """A linear map from the latents of one autoencoder to those of another, channels at every place.

    Args:
        encoder, decoder: arms. matrix: (L, L). offset: (L,).
        explained: share of the variance of the target's latents, on the validation fields.
    """

    encoder: str
    decoder: str
    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]
    explained: float


@dataclass(frozen=True)
class Adapters:
    """swap.json."""

    adapters: tuple[Adapter, ...]


def fit_adapter(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression of channels on channels: latents (B, L, M...) twice -> matrix (L, L), offset (L,), in float64."""
    a, b = (x.double().transpose(0, 1).flatten(1) for x in (source, target))
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    a, b = a - mean_a, b - mean_b
    gram = a @ a.T / a.shape[1]
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(a), dtype=a.dtype)
    matrix = torch.linalg.solve(gram + ridge, a @ b.T / a.shape[1]).T
    return matrix, (mean_b - matrix @ mean_a)[:, 0]


def explained(source: Tensor, target: Tensor, matrix: Tensor, offset: Tensor) -> float:
    """Share of the target's variance that the map explains."""
    moved = torch.einsum("ij,bj...->bi...", matrix, source.double()) + offset.reshape(-1, *[1] * (source.ndim - 2))
    return float(1 - (moved - target.double()).square().mean() / target.double().var(correction=0))


def half_folder(out: Path, half: str, trained_with: str, frozen: str) -> Path:
    """Where a half that was trained with the loss of one arm against the frozen half of another lies."""
    return out / "swap" / f"{half}-{trained_with}-on-{frozen}"


def adopt(other: FieldAutoencoder, half: str, net: FieldAutoencoder) -> None:
    """Give `net` the half of `other` that is not to be trained, and freeze it."""
    kept = ("encoder",) if half == "decoder" else ("decoder", "refine")
    for name in kept:
        mine, theirs = getattr(net, name), getattr(other, name)
        if mine is not None:
            mine.load_state_dict(theirs.state_dict())
            mine.requires_grad_(False)


def train_swaps(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Fit the adapters (out/swap.json) and train the halves of both pairs (out/swap/...), first replica.

    Raises:
        ValueError: the autoencoders of the pairs are not there, or see their fields through different filters.
    """
    seed = config.replicas[0]
    nets = {name: _net(out, name, seed) for pair in PAIRS for name in pair}
    source = Setting.read(out).source
    fields = {split: stored(out / "data" / f"{split}.npz").fields for split in ("train", "validation")}
    found = []
    for pair in PAIRS:
        latents = {name: {s: encoded(nets[name], source, some, 1, 0) for s, some in fields.items()} for name in pair}
        for one, two in (pair, pair[::-1]):
            matrix, offset = fit_adapter(latents[one]["train"], latents[two]["train"])
            share = explained(latents[one]["validation"], latents[two]["validation"], matrix, offset)
            found.append(Adapter(one, two, tuple(map(tuple, matrix.tolist())), tuple(offset.tolist()), share))
    write_json(out / "swap.json", to_json(Adapters(tuple(found))))
    todo = [(half, *order) for pair in PAIRS for order in (pair, pair[::-1]) for half in HALVES]
    folders = [half_folder(out, half, one, two) for half, one, two in todo]

    def make(index: int) -> None:
        half, one, two = todo[index]
        if arm_of(config, one).exponent != arm_of(config, two).exponent:
            raise ValueError(f"swap: {one} and {two} see fields through different filters; give them one exponent")
        fit_autoencoder(
            config,
            arm_of(config, one),
            seed,
            folders[index],
            out,
            f"spectral/swap/{folders[index].name}",
            device,
            trackers,
            partial(adopt, nets[two], half),
        )

    shared(folders, trained, make)
    return out / "swap.json"


def read_adapters(folder: Path) -> dict[tuple[str, str], Adapter]:
    """The adapters of a folder of weights; none where swaps were not trained."""
    if not (folder / "swap.json").is_file():
        return {}
    return {(one.encoder, one.decoder): one for one in from_json(Adapters, read_json(folder / "swap.json")).adapters}


def _net(out: Path, name: str, replica: int) -> FieldAutoencoder:
    folder = weights_in(out / f"{name}-{replica}" / "autoencoder")
    if folder is None:
        raise ValueError(
            f"train: {out / f'{name}-{replica}'} holds no finished autoencoder; run the stage 'autoencoders' first"
        )
    net = load_model(folder)
    assert isinstance(net, FieldAutoencoder)
    return net
