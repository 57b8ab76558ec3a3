"""Tries on the validation trajectories: three settings an arm, half the training, one score that holds no training weight.

The score is `spectral_scores.Scores.total`: mean over zones of |power bias| + 1 - coherence. What was chosen stands in
`SpectralTraining`; sweep.json keeps every try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diptych.files import write_json
from diptych.models.hub import describe
from diptych.recipes.spectral_fit import fit_autoencoder, shared, trained
from diptych.recipes.spectral_settings import ArmTraining, SpectralTraining, arm_of

RATES = (1e-3, 2e-3, 4e-3)
EXPONENTS = (0.4, 0.6, 0.8)
LOG_WEIGHTS = (1.0, 10.0, 100.0)
WHITENED = (0.1, 0.3, 1.0)
SHARE = 0.4
"""Of an autoencoder's training that a try gets."""


@dataclass(frozen=True)
class Try:
    """One setting of an arm.

    Args:
        arm: its name. setting: what is tried, in words.
    """

    arm: str
    setting: str
    training: ArmTraining


def tries(config: SpectralTraining) -> list[Try]:
    """Three an arm: the rate for plain squared error, for the others what only they have."""
    found = [Try("mse", f"rate {rate:g}", replace(config.mse, lr=rate)) for rate in RATES]
    found += [Try("pre_mse", f"exponent {a:g}", replace(config.pre_mse, exponent=a)) for a in EXPONENTS]
    for name in ("log", "pre_log"):
        arm = arm_of(config, name)
        found += [Try(name, f"log-spectral x {weight:g}", replace(arm, log_weight=weight)) for weight in LOG_WEIGHTS]
    for name in ("whitened", "pre_mix"):
        arm = arm_of(config, name)
        found += [Try(name, f"whitened x {weight:g}", replace(arm, whitened=weight)) for weight in WHITENED]
    return found


def train_sweep(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train every try in out/sweep and write out/sweep.json, their scores on the validation fields."""
    todo = tries(config)
    images = max(round(config.train_autoencoder.images * SHARE), config.train_autoencoder.batch)
    short = replace(config, train_autoencoder=replace(config.train_autoencoder, images=images))
    seed = config.replicas[0]
    folders = [out / "sweep" / f"{one.arm}-{one.setting.replace(' ', '-')}" for one in todo]

    def make(index: int) -> None:
        one = todo[index]
        fit_autoencoder(
            short, one.training, seed, folders[index], out, f"spectral/sweep/{folders[index].name}", device, trackers
        )

    shared(folders, trained, make)
    rows = [
        {"arm": one.arm, "setting": one.setting, "images": images, **describe(folder / "weights")["extra"]["validation"]}
        for one, folder in zip(todo, folders, strict=True)
    ]
    write_json(out / "sweep.json", rows)
    return out / "sweep.json"
