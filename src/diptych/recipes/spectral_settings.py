"""The settings under which the spectral study's models are trained, in three sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from diptych.models.field_autoencoder import FieldAutoencoderConfig
from diptych.models.field_unet import FieldUNetConfig
from diptych.physics.navier_stokes import Flow
from diptych.recipes.spectral_data import Folder, Setting, Simulated, Source
from diptych.recipes.spectral_models import ARMS
from diptych.train.loop import TrainConfig


@dataclass(frozen=True)
class ArmTraining:
    """What sets one autoencoder apart; all see the same fields in the same order and pay the same squared error.

    Args:
        exponent: of the pre-emphasis; 0 = none.
        log_weight: of the log-spectral loss, in the paper's weights (1e-3, 4e-3, 6e-3 for IR, DO, DD).
        whitened: weight of the whitened (phase-aware) loss.
        flow: train a flow in its latents too.
        replicas: how many of the study's training seeds; 0 = all.
        lr: peak learning rate; 0 = that of `train_autoencoder`.
    """

    exponent: float = 0.0
    log_weight: float = 0.0
    whitened: float = 0.0
    flow: bool = True
    replicas: int = 0
    lr: float = 0.0


@dataclass(frozen=True)
class SpectralTraining:
    """How the models are trained.

    Args:
        source: of the fields. own: a user's folder of fields to take instead, where its path is given.
        autoencoder: shape of every autoencoder. unet: of every flow network.
        mse, log, whitened, pre_mse, pre_log, pre_mix: the arms, each with the setting of its lowest score in the sweep.
        kl: weight of the latents' divergence from N(0, 1).
        train_autoencoder: one run; a row is a field. train_flow: one run; a row is a field's latents.
        copies: symmetric copies of the training fields whose latents the flow sees.
        times: how the flow's training times are drawn.
        replicas: training seeds.
        extras: stages that are not passed over.
        downscaled: arm in whose latents a flow learns to fill in small scales. cut: the last shell it is told.
    """

    source: Simulated = Simulated()
    own: Folder = Folder()
    autoencoder: FieldAutoencoderConfig = FieldAutoencoderConfig()
    unet: FieldUNetConfig = FieldUNetConfig()
    mse: ArmTraining = ArmTraining(lr=8e-3)
    log: ArmTraining = ArmTraining(log_weight=1)
    whitened: ArmTraining = ArmTraining(whitened=1, flow=False, replicas=1, lr=2e-3)
    pre_mse: ArmTraining = ArmTraining(0.8)
    pre_log: ArmTraining = ArmTraining(0.8, log_weight=10)
    pre_mix: ArmTraining = ArmTraining(0.8, log_weight=30, whitened=1)
    kl: float = 1e-3
    train_autoencoder: TrainConfig = TrainConfig(
        name="spectral/autoencoder",
        images=12_000,
        batch=16,
        lr=4e-3,
        warmup_images=800,
        decay="cosine",
        ema=0,
        log_every_images=2_000,
        save_every_images=4_000,
        threads=1,
    )
    train_flow: TrainConfig = TrainConfig(
        name="spectral/flow",
        images=32_000,
        batch=32,
        lr=2e-3,
        warmup_images=1_600,
        decay="cosine",
        betas=(0.9, 0.99),
        ema=0.999,
        log_every_images=3_200,
        save_every_images=12_800,
        threads=1,
    )
    copies: int = 4
    times: Literal["uniform", "logit_normal"] = "logit_normal"
    replicas: tuple[int, ...] = (0, 1, 2, 3, 4)
    downscaled: Literal["mse", "log", "whitened", "pre_mse", "pre_log", "pre_mix"] = "pre_mix"
    cut: int = 7

    extras: tuple[str, ...] = ("sweep", "swaps", "downscaling", "pack")

    def __post_init__(self) -> None:
        object.__setattr__(self, "replicas", tuple(self.replicas))
        object.__setattr__(self, "extras", tuple(self.extras))
        if not self.replicas:
            raise ValueError("train.replicas: there are none; give at least one training seed, such as [0]")
        latent = self.autoencoder.latent_shape
        if (self.unet.channels, *self.unet.shape) != latent or self.unet.periodic != self.autoencoder.periodic:
            raise ValueError(f"train.unet: takes {(self.unet.channels, *self.unet.shape)}, but the latents are {latent}")


def source_of(config: SpectralTraining) -> Source:
    """Where the fields come from."""
    return config.own if config.own.files.path else config.source


def shaped(config: SpectralTraining, setting: Setting) -> SpectralTraining:
    """The same with networks that fit the fields: channels, points and periods of a user's own.

    Raises:
        ValueError: fields that the networks cannot halve.
    """
    grid = setting.grid
    if (setting.channels, grid.shape, grid.wraps) == (
        config.autoencoder.channels,
        config.autoencoder.shape,
        config.autoencoder.periodic,
    ):
        return config
    autoencoder = replace(config.autoencoder, channels=setting.channels, shape=grid.shape, periodic=grid.wraps)
    channels, *shape = autoencoder.latent_shape
    unet = replace(config.unet, channels=channels, shape=tuple(shape), periodic=grid.wraps)
    return replace(config, autoencoder=autoencoder, unet=unet)


def arm_of(config: SpectralTraining, name: str) -> ArmTraining:
    return getattr(config, name)


def jobs(config: SpectralTraining) -> list[tuple[str, int]]:
    """Every (arm, replica), replica by replica, so that what is done first is a whole study of fewer seeds."""
    found = []
    for place, replica in enumerate(config.replicas):
        for name in ARMS:
            most = arm_of(config, name).replicas
            if not most or place < most:
                found.append((name, replica))
    return found


TINY = SpectralTraining(
    source=Simulated(
        Flow(size=32, viscosity=3e-2, dt=0.02, start_wavenumber=3), 2.0, 0.5, 0.5, trajectories=(4, 2, 8), fields=(8, 4, 2)
    ),
    autoencoder=FieldAutoencoderConfig(shape=(32, 32), widths=(16, 16), refine=4),
    unet=FieldUNetConfig(shape=(4, 4), width=16, time=16, features=16),
    train_autoencoder=TrainConfig(name="spectral/autoencoder", images=48, batch=8, lr=2e-3, ema=0, threads=1),
    train_flow=TrainConfig(name="spectral/flow", images=64, batch=16, lr=2e-3, ema=0.9, threads=1),
    copies=1,
    replicas=(0,),
)
CORE = replace(SpectralTraining(), replicas=(0,))
TRAIN = {"tiny": TINY, "fields": replace(CORE, extras=()), "core": CORE, "full": SpectralTraining()}
"""Sizes; "fields" is for a user's own, one training seed and nothing beside the arms."""
