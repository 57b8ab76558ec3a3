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


ROUNDS = (
    (
        2e-3,
        (1, 10, 100),
        (0.1, 0.3, 1),
        (0.4, 0.6, 0.8),
        ((0.6, 1), (0.6, 10), (0.6, 100)),
        ((0.6, 10, 0.1), (0.6, 10, 0.3), (0.6, 10, 1)),
    ),
    (4e-3, (0.1, 1), (1, 3), (0.8, 1.0), ((0.8, 10), (0.8, 30)), ((0.8, 10, 1), (0.8, 30, 1))),
)
"""Rate; log-spectral weights; whitened weights; exponents; (exponent, log-spectral weight); the same with a whitened weight."""


@dataclass(frozen=True)
class Try:
    """One setting of an arm.

    Args:
        arm: its name. setting: what is tried, in words.
    """

    arm: str
    setting: str
    training: ArmTraining


def tries() -> list[Try]:
    """Five an arm, in two rounds: the rate for plain squared error, for the others what only they have."""
    found = [Try("mse", f"rate {rate:g}", ArmTraining(lr=rate)) for rate in (1e-3, 2e-3, 4e-3, 6e-3, 8e-3)]
    for rate, log, whitened, exponents, joint, mixed in ROUNDS:
        settings = [
            *(("log", ArmTraining(log_weight=w, lr=rate)) for w in log),
            *(("whitened", ArmTraining(whitened=v, lr=rate)) for v in whitened),
            *(("pre_mse", ArmTraining(a, lr=rate)) for a in exponents),
            *(("pre_log", ArmTraining(a, w, lr=rate)) for a, w in joint),
            *(("pre_mix", ArmTraining(a, w, v, lr=rate)) for a, w, v in mixed),
        ]
        found += [Try(name, in_words(training), training) for name, training in settings]
    return found


def in_words(training: ArmTraining) -> str:
    """What was set, such as "rate 0.004, exponent 0.8, log-spectral x 10"."""
    parts = [("rate", training.lr), ("exponent", training.exponent), ("log-spectral x", training.log_weight)]
    return ", ".join(f"{name} {value:g}" for name, value in [*parts, ("whitened x", training.whitened)] if value)


def train_sweep(config: SpectralTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train every try in out/sweep and write out/sweep.json, their scores on the validation fields."""
    todo = tries()
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
