"""Fitting one autoencoder or one flow of the spectral study, and sharing a list of them among processes."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diptych.config import to_json
from diptych.denoise import parameterize
from diptych.metrics.field_baselines import ShellGain
from diptych.models.field_autoencoder import FieldAutoencoder
from diptych.models.field_unet import FieldUNet
from diptych.models.hub import load_model, save_model
from diptych.noise import Noise
from diptych.physics.shells import band
from diptych.process import Gaussian
from diptych.recipes.spectral_data import Part, Setting, Source, augmented
from diptych.recipes.spectral_scores import Scores, scores
from diptych.recipes.spectral_settings import ArmTraining, SpectralTraining, shaped
from diptych.sample import sample
from diptych.samplers.continuous import Heun
from diptych.schedule import LogitNormal, UniformTimes, uniform_grid
from diptych.train.emphasis import emphasis
from diptych.train.loop import Shuffled, train
from diptych.train.losses import mean_squared, rectified_flow
from diptych.train.spectral_loss import PAPER_WEIGHTS, LogSpectralLoss, WhitenedLoss, gaussian_kl


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a folder for this process; yields whether it does. `wait` until another lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".claim").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def shared(folders: Sequence[Path], finished: Callable[[Path], bool], make: Callable[[int], None]) -> None:
    """Make what is not finished, sharing with other processes; at the end wait for what they still hold."""
    for wait in (False, True):
        for index, folder in enumerate(folders):
            with claimed(folder, wait) as mine:
                if mine and not finished(folder):
                    make(index)


def store(path: Path, made: Part) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez(file, fields=made.fields, names=np.array(made.names), clusters=np.array(made.clusters))
    temporary.replace(path)


@lru_cache(maxsize=4)
def stored(path: Path) -> Part:
    """What `store` wrote.

    Raises:
        ValueError: not there; the stage "data" makes it.
    """
    if not path.exists():
        raise ValueError(f"train: {path} is missing; run the stage 'data' first")
    with np.load(path) as held:
        return Part(held["fields"], tuple(held["names"].tolist()), tuple(held["clusters"].tolist()))


def trained(folder: Path) -> bool:
    return (folder / "weights" / "config.json").exists()


def fit_autoencoder(
    config: SpectralTraining,
    arm: ArmTraining,
    replica: int,
    folder: Path,
    out: Path,
    name: str,
    device: str | None = None,
    trackers: Sequence[str] = (),
    prepare: Callable[[FieldAutoencoder], None] | None = None,
) -> Path:
    """Train one autoencoder in `folder`, measure it on the validation fields, save it as folder/weights.

    Args:
        prepare: changes the network before it is trained (loads one half of another and freezes it).
    """
    shown, setting = stored(out / "data" / "train.npz"), Setting.read(out)
    config = shaped(config, setting)
    held = stored(out / "data" / "validation.npz")
    fields = torch.from_numpy(shown.fields)
    model = FieldAutoencoder(config.autoencoder, torch.Generator().manual_seed(replica))
    model.fit_scale(fields, emphasis(fields, setting.grid, arm.exponent))
    if prepare:
        prepare(model)
    penalties = Penalties.of(arm, model, fields, setting)

    def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        coded = net(batch["field"], generator)
        return penalties(coded.decoded, coded.target) + config.kl * gaussian_kl(coded.mean, coded.log_variance)

    def validate(net: nn.Module) -> dict[str, float]:
        assert isinstance(net, FieldAutoencoder)
        net.calibrate(fields[:: max(len(fields) // 256, 1)].to(net.centre.device))
        found = scores(reconstructed(net, held.fields), held.fields, setting.grid, setting.zones)
        return flat(found)

    settings = replace(config.train_autoencoder, name=name, seed=replica, lr=arm.lr or config.train_autoencoder.lr)
    rows = Shuffled(
        {"field": fields}, settings.seed, lambda batch, keys: {"field": augmented(setting.source, batch["field"], keys)}
    )
    done = train(settings, model, loss, rows, folder, validate=validate, device=device, trackers=trackers)
    net = done.model.cpu()
    assert isinstance(net, FieldAutoencoder)
    net.calibrate(fields)
    found = scores(reconstructed(net, held.fields), held.fields, setting.grid, setting.zones)
    gain = ShellGain.fit(reconstructed(net, shown.fields[::4]), shown.fields[::4], setting.grid, least_coherence=0.0)
    extra = {"arm": to_json(arm), "replica": replica, "training": to_json(settings), "kl": config.kl, "validation": flat(found)}
    return save_model(net, config.autoencoder, folder / "weights", {**extra, "shell_gain": list(gain.gain)})


def flat(found: Scores) -> dict[str, float]:
    """Scores as a log's numbers."""
    by_zone = {f"{what}_{zone}": value for what in ("bias", "coherence") for zone, value in getattr(found, what).items()}
    return {"score": found.total, "error": found.error, **by_zone}


@torch.no_grad()
def reconstructed(net: FieldAutoencoder, fields: np.ndarray, batch: int = 48) -> np.ndarray:
    """Fields through encoder and decoder, (N, C, *shape)."""
    device = net.centre.device
    parts = torch.from_numpy(fields).split(batch)
    return torch.cat([net.decode(net.encode(some.to(device))).cpu() for some in parts]).numpy()


@dataclass(frozen=True)
class Penalties:
    """The loss of an arm on standardised, pre-emphasised fields: squared error and whatever the arm adds, (B,)."""

    log: LogSpectralLoss | None
    whitened: WhitenedLoss | None
    weight: float

    @classmethod
    def of(cls, arm: ArmTraining, model: FieldAutoencoder, fields: Tensor, setting: Setting) -> Penalties:
        """Weights beyond the third zone repeat the last of the paper's."""
        weights = (*PAPER_WEIGHTS, *[PAPER_WEIGHTS[-1]] * len(setting.zones))[: len(setting.zones)]
        log = (
            LogSpectralLoss(setting.grid, setting.zones, tuple(arm.log_weight * w for w in weights)) if arm.log_weight else None
        )
        seen = torch.cat([model.emphasised(some) for some in fields[::4].split(64)])
        return cls(log, WhitenedLoss.fit(seen, setting.grid) if arm.whitened else None, arm.whitened)

    def __call__(self, decoded: Tensor, target: Tensor) -> Tensor:
        total = mean_squared(decoded, target)
        if self.log is not None:
            total = total + self.log(decoded, target)
        if self.whitened is not None:
            total = total + self.weight * self.whitened(decoded, target)
        return total


def fit_flow(
    config: SpectralTraining,
    replica: int,
    weights: Path,
    folder: Path,
    out: Path,
    name: str,
    device: str | None = None,
    trackers: Sequence[str] = (),
    cut: int = 0,
) -> Path:
    """Train one flow on the latents of the autoencoder in `weights`; saved as folder/weights.

    Args:
        cut: tell the flow the latents of the same fields without the shells beyond this; 0 = tell it nothing.

    Raises:
        ValueError: that autoencoder is not there.
    """
    if not weights.is_dir():
        raise ValueError(f"train: {weights} is missing; run the stage 'autoencoders' first")
    autoencoder, setting = load_model(weights), Setting.read(out)
    config = shaped(config, setting)
    assert isinstance(autoencoder, FieldAutoencoder)
    latents, held = (
        flow_rows(autoencoder, setting, stored(out / "data" / f"{split}.npz").fields, copies, replica, cut)
        for split, copies in (("train", config.copies), ("validation", 1))
    )
    density = UniformTimes() if config.times == "uniform" else LogitNormal()

    def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0 = batch["latent"]
        eps = torch.randn(x0.shape, generator=generator, device=x0.device)
        cond = {"given": batch["given"]} if cut else {}
        return rectified_flow(net, x0, cond, density(len(x0), generator), eps)

    def validate(net: nn.Module) -> dict[str, float]:
        device = next(net.parameters()).device
        there = {key: value.to(device) for key, value in held.items()}
        return {"loss": float(loss(net, there, torch.Generator(device).manual_seed(0)).mean())}

    settings = replace(config.train_flow, name=name, seed=replica)
    shape = replace(config.unet, given=config.unet.channels) if cut else config.unet
    model = FieldUNet(shape, torch.Generator().manual_seed(replica))
    rows = Shuffled(latents, settings.seed)
    done = train(settings, model, loss, rows, folder, validate=validate, device=device, trackers=trackers)
    net = done.model.cpu()
    assert isinstance(net, FieldUNet)
    extra = {"replica": replica, "training": to_json(settings)}
    extra |= {"cut": cut, "arm": config.downscaled} if cut else {"temperature": temperature(net)}
    return save_model(net, shape, folder / "weights", extra)


def flow_rows(
    net: FieldAutoencoder, setting: Setting, fields: np.ndarray, copies: int, seed: int, cut: int
) -> dict[str, Tensor]:
    """What a flow learns from: "latent" and, with a cut, "given"."""
    rows = {"latent": encoded(net, setting.source, fields, copies, seed)}
    if cut:
        low = band(torch.from_numpy(fields), (0, cut), setting.grid).numpy()
        rows["given"] = encoded(net, setting.source, low, copies, seed)
    return rows


@torch.no_grad()
def temperature(net: FieldUNet, count: int = 96, steps: int = 10) -> float:
    """T = std(training latents) / std(samples): how much wider than N(0, 1) the prior would have to be (arXiv:2606.11691).

    Training latents have a deviation of 1. The samples are of keys that no study uses.
    """
    noise = Noise(tuple(f"temperature-{n}" for n in range(count)))
    process = Gaussian()
    shape = (net.config.channels, *net.config.shape)
    drawn = sample(process, Heun(), parameterize(net, "flow", process), uniform_grid(steps), shape, noise)
    return float(1 / drawn.x.std(correction=0))


@torch.no_grad()
def encoded(net: FieldAutoencoder, source: Source, fields: np.ndarray, copies: int, seed: int) -> Tensor:
    """Standardised latents of `copies` symmetric copies of every field, (copies * N, L, M...)."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for copy in range(copies):
        for some in torch.from_numpy(fields).split(64):
            keys = torch.randint(2**62, (len(some),), generator=generator)
            made.append(net.encode(augmented(source, some, keys) if copy else some))
    return torch.cat(made)
