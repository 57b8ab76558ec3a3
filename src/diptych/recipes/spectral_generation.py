"""What flows in the latents generate: is the latent space their ceiling, and how many evaluations does it take to reach it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.metrics.cost import evaluations, seconds
from diptych.metrics.structure import band_kurtosis, structure, zone_flux
from diptych.metrics.support import neighbour
from diptych.metrics.zone_bias import retained_power, zone_bias, zone_error
from diptych.models.hub import describe
from diptych.process import Gaussian
from diptych.recipes.spectral_arms import (
    Decoded,
    FlowNetwork,
    RandomField,
    Reconstructed,
    Reference,
    Truth,
    Warmed,
    autoencoder_of,
    setting_of,
)
from diptych.recipes.spectral_config import SEPARATIONS, Spectral, claim, last_zone
from diptych.recipes.spectral_data import Setting, Source, part
from diptych.recipes.spectral_made import CostPanels, GenerationPanels
from diptych.recipes.spectral_models import LABELS, Trained, trained_in
from diptych.sample import Sampler
from diptych.samplers.arm import Sampled
from diptych.samplers.continuous import RK4, Euler, Heun
from diptych.schedule import uniform_grid
from diptych.study import Arm, Claim, Comparison, Metric, Samples

RULES: dict[str, tuple[Sampler, int, int]] = {"euler": (Euler(), 1, 0), "heun": (Heun(), 2, 1), "rk4": (RK4(), 4, 1)}
"""Rule, evaluations a step, and how many fewer the last step takes."""
NEAR = 0.1
"""Margin of the power error of generated fields [dex]."""


def steps_for(rule: str, wanted: int) -> int:
    """The most steps that take no more than `wanted` evaluations; at least one."""
    _, each, fewer = RULES[rule]
    return max((wanted + fewer) // each, 1)


def sampled(config: Spectral, one: Trained, rule: str, wanted: int, temperature: float = 1.0) -> Sampled:
    """Fields from the flow in the latents of one autoencoder."""
    assert one.flow is not None
    grid = tuple(uniform_grid(steps_for(rule, wanted)).tolist())
    shape = autoencoder_of(one.autoencoder, "cpu").config.latent_shape
    start = None if temperature == 1.0 else Warmed(temperature, shape)
    return Sampled(
        FlowNetwork(one.flow), "flow", Gaussian(), RULES[rule][0], grid, shape, Decoded(one.autoencoder), start=start
    )


def generation(config: Spectral) -> Comparison:
    """Generated fields beside the reconstructions of the same autoencoder: is the latent space the ceiling?"""
    source, found = config.source(), [one for one in trained_in(config.folder) if one.flow]
    arms = [*_floors(config, source)]
    for one in found:
        several = sum(other.name == one.name for other in found) > 1
        for kind, produce, words in (
            ("made", sampled(config, one, "heun", config.evaluations), "generated"),
            ("given", Reconstructed(source, config.folder, one.autoencoder), "reconstructed"),
        ):
            name = f"{one.name}_{kind}"
            arms.append(
                Arm(
                    f"{name}-{one.replica}" if several else name,
                    produce,
                    f"{LABELS[one.name]}, {words}",
                    "what a flow in these latents makes" if kind == "made" else "test fields through the same autoencoder",
                    config.batch,
                    replica=one.replica if several else None,
                    group=name if several else "",
                )
            )
    for one in (one for one in found if one.replica == min(other.replica for other in found)):
        warm = describe(one.flow or one.autoencoder)["extra"]["temperature"]
        words = f"{LABELS[one.name]}, prior x {warm:.3f}"
        about = "the prior widened until samples spread as the training latents do (one run)"
        arms.append(Arm(f"{one.name}_warm", sampled(config, one, "heun", config.evaluations, warm), words, about, config.batch))
    title = "Is the latent space the ceiling of what a flow in it can generate?"
    question = f"At {config.evaluations} evaluations, do generated fields have the truth's power and structure?"
    return _unpaired(config, "spectral-generation", title, question, arms, claim(found), GenerationPanels)


def integrators(config: Spectral) -> Comparison:
    """Cost against fidelity: three rules at several numbers of evaluations, on the first replica."""
    found = [one for one in trained_in(config.folder) if one.flow]
    first = min(one.replica for one in found)
    arms = [*_floors(config, config.source())]
    for one in (one for one in found if one.replica == first):
        given = Reconstructed(config.source(), config.folder, one.autoencoder)
        arms.append(Arm(f"{one.name}_given", given, f"{LABELS[one.name]}, reconstructed", "its ceiling", config.batch))
        for rule in RULES:
            done = set()
            for wanted in config.sweep:
                steps = steps_for(rule, wanted)
                if steps in done:
                    continue
                done.add(steps)
                produce = sampled(config, one, rule, wanted)
                label = f"{LABELS[one.name]}, {rule} {produce.evaluations()}"
                arms.append(Arm(f"{one.name}_{rule}_{wanted}", produce, label, f"{steps} steps of {rule}", config.batch))
    title = "How many evaluations does it take until only the latent space is left?"
    question = "Which rule reaches the bias of the autoencoder itself with the fewest evaluations?"
    return _unpaired(config, "spectral-integrators", title, question, arms, "checkpoint", CostPanels)


def _floors(config: Spectral, source: Source) -> tuple[Arm, ...]:
    return (
        Arm(
            "other",
            Truth(source, "floor"),
            "true, other trajectories",
            "how far apart two sets of truths are",
            batch=config.batch,
        ),
        Arm(
            "random",
            RandomField(config.folder),
            "Gaussian random field",
            "the training spectrum, no structure",
            batch=config.batch,
        ),
    )


def _unpaired(
    config: Spectral,
    name: str,
    title: str,
    question: str,
    arms: Sequence[Arm],
    claimed: Claim,
    panels: type[GenerationPanels] | type[CostPanels],
) -> Comparison:
    setting, source = setting_of(config.folder), config.source()
    held = part(source, "test")
    last = last_zone(setting)
    return Comparison(
        name=name,
        title=title,
        question=question,
        items=held.names,
        seeds=(0,),
        arms=tuple(arms),
        metrics=_generated(config, setting),
        baseline="other",
        primary=f"error_ratio_{last}",
        claim=claimed,
        truth=Truth(source) if config.memorised else None,
        reference=Reference(source),
        clusters=dict(zip(held.names, held.clusters, strict=True)),
        panels=panels(config.folder, source),
    )


def _generated(config: Spectral, setting: Setting) -> tuple[Metric, ...]:
    grid, zones = setting.grid, setting.zones
    last = last_zone(setting)
    found = [
        zone_error(grid, zones, last, "ratio", "set", margin=NEAR),
        *(zone_bias(grid, zones, zone, "log", "set") for zone in zones.names[::-1]),
        *(zone_bias(grid, zones, zone, "ratio", "set") for zone in zones.names[::-1]),
        *(retained_power(grid, zones, zone, "ratio", "set") for zone in zones.names[::-1]),
        band_kurtosis(grid, zones, last),
        spread(),
        evaluations(),
        seconds(),
    ]
    if setting.source.vorticity:
        found += [structure(grid, SEPARATIONS, 3), zone_flux(grid, zones, zones.names[0])]
    if config.memorised:
        found.append(neighbour(grid, Training(config.source())))
    return tuple(found)


@dataclass(frozen=True)
class Training:
    """The training fields, for the distance to the nearest."""

    source: Source

    def __call__(self) -> np.ndarray:
        return part(self.source, "train").fields


@dataclass(frozen=True)
class SpreadRows:
    """Rows of `spread`, (N, 1)."""

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        return samples.arrays["spread"][:, None]


def spread() -> Metric:
    """Mean square of the latents over that of the training's: 1 / T^2 of the paper's prior temperature. 1 without latents."""
    about = "Mean square of sampled latents, 1 for those of the training fields; 1 / sqrt of it is the paper's temperature."
    return Metric("spread", SpreadRows(), better="none", label="latent spread", about=about)
