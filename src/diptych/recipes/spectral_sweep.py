"""Tries on the validation trajectories: five settings an arm, part of the training, one score that holds no training weight.

The score is `spectral_scores.Scores.total`: mean over zones of |power bias| + 1 - coherence. The second round was laid out
after the first: at the rate that plain squared error liked best, near or beyond what each arm liked best. What was chosen is in
`SpectralTraining`; sweep.json keeps every try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diptych.files import write_json
from diptych.models.hub import describe
from diptych.recipes.spectral_fit import fit_autoencoder, shared, trained
from diptych.recipes.spectral_settings import ArmTraining, SpectralTraining

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
    """Five an arm, in two rounds: the rate for plain squared error, for the others what only they have."""
    found = []
    for rate, exponents, weights, joint, whitened, mixed in (
        (
            2e-3,
            (0.4, 0.6, 0.8),
            (1, 10, 100),
            ((0.6, 1), (0.6, 10), (0.6, 100)),
            (0.1, 0.3, 1),
            ((0.6, 10, 0.1), (0.6, 10, 0.3), (0.6, 10, 1)),
        ),
        (4e-3, (0.8, 1.0), (0.1, 1), ((0.8, 10), (0.8, 30)), (1, 3), ((0.8, 10, 1), (0.8, 30, 1))),
    ):
        rates = (1e-3, 2e-3, 4e-3) if rate == 2e-3 else (6e-3, 8e-3)
        found += [Try("mse", f"rate {one:g}", ArmTraining(lr=one)) for one in rates]
        found += [Try("log", f"rate {rate:g}, log-spectral x {w:g}", ArmTraining(log_weight=w, lr=rate)) for w in weights]
        found += [Try("whitened", f"rate {rate:g}, whitened x {w:g}", ArmTraining(whitened=w, lr=rate)) for w in whitened]
        found += [Try("pre_mse", f"rate {rate:g}, exponent {a:g}", ArmTraining(a, lr=rate)) for a in exponents]
        for a, w in joint:
            found.append(Try("pre_log", f"rate {rate:g}, exponent {a:g}, log-spectral x {w:g}", ArmTraining(a, w, lr=rate)))
        for a, w, v in mixed:
            words = f"rate {rate:g}, exponent {a:g}, log-spectral x {w:g}, whitened x {v:g}"
            found.append(Try("pre_mix", words, ArmTraining(a, w, v, lr=rate)))
    return found


def train_sweep(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train every try in out/sweep and write out/sweep.json, their scores on the validation fields."""
    todo = tries(config)
    images = max(round(config.train_autoencoder.images * SHARE), config.train_autoencoder.batch)
    short = replace(config, train_autoencoder=replace(config.train_autoencoder, images=images))
    seed = config.replicas[0]
    folders = [out / "sweep" / f"{one.arm}-{one.setting.replace(', ', '-').replace(' ', '-')}" for one in todo]

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
