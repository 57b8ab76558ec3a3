"""Further questions of the spectral study: which half carries the gain, what the weights do, filling in small scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from diptych.metrics.field import zone_coherence
from diptych.metrics.zone_bias import retained_power, zone_bias
from diptych.models.hub import describe
from diptych.process import Gaussian
from diptych.recipes.spectral_arms import (
    Decoded,
    FlowNetwork,
    LowPassed,
    Reconstructed,
    Smoothed,
    Truth,
    autoencoder_of,
    setting_of,
)
from diptych.recipes.spectral_config import MARGINS, Spectral, last_zone
from diptych.recipes.spectral_data import Folder, Setting, part
from diptych.recipes.spectral_generation import generation, integrators, steps_for
from diptych.recipes.spectral_made import SwapPanels
from diptych.recipes.spectral_models import LABELS, trained_in, weights_in
from diptych.recipes.spectral_scores import defect, relative_error
from diptych.recipes.spectral_swap import HALVES, PAIRS, half_folder, read_adapters
from diptych.samplers.arm import Sampled
from diptych.samplers.continuous import Heun
from diptych.schedule import uniform_grid
from diptych.study import Arm, Comparison, Metric


def swap(config: Spectral) -> Comparison:
    """Encoder, decoder or both: halves swapped raw, through an adapter, and trained anew against the frozen other."""
    found = trained_in(config.folder)
    first = min(one.replica for one in found)
    at = {one.name: one.autoencoder for one in found if one.replica == first}
    adapters = read_adapters(config.folder)
    if not adapters:
        raise ValueError(f"weights: {config.folder} holds no swap.json; run `diptych train spectral --stage swaps` there")
    source = config.source()
    arms = [
        Arm(name, Reconstructed(source, config.folder, at[name]), LABELS[name], "as trained", config.batch)
        for pair in PAIRS
        for name in pair
    ]
    for pair in PAIRS:
        for encoder, decoder in (pair, pair[::-1]):
            words = f"encoder {LABELS[encoder]}, decoder {LABELS[decoder]}"
            fitted = adapters[encoder, decoder]
            raw = Reconstructed(source, config.folder, at[encoder], at[decoder])
            through = Reconstructed(source, config.folder, at[encoder], at[decoder], matrix=fitted.matrix, offset=fitted.offset)
            arms.append(Arm(f"{encoder}_{decoder}_raw", raw, f"{words}: raw", "no map between the latents", config.batch))
            about = f"a linear map of channels that explains {100 * fitted.explained:.0f} % of the latents"
            arms.append(Arm(f"{encoder}_{decoder}_adapter", through, f"{words}: adapter", about, config.batch))
        for half in HALVES:
            for mine, other in (pair, pair[::-1]):
                folder = weights_in(half_folder(config.folder, half, mine, other))
                if folder is None:
                    continue
                kept = HALVES[1 - HALVES.index(half)]
                produce = Reconstructed(source, config.folder, folder)
                words = f"{half} trained with {LABELS[mine]} on the frozen {kept} of {LABELS[other]}"
                arms.append(Arm(f"{half}_{mine}_on_{other}", produce, words, "one half trained anew", config.batch))
    title = "Encoder, decoder or both: which half keeps the small scales?"
    question = "Which half must be trained with the spectral loss for the small scales to come back?"
    return _paired(config, "spectral-swap", title, question, arms, "mse", SwapPanels(config.folder, source))


def weights(config: Spectral) -> Comparison:
    """Every try of the sweep on the test fields: weights of the losses, the exponent of the pre-emphasis, the rate."""
    source = config.source()
    folders = {path.name: weights_in(path) for path in sorted((config.folder / "sweep").glob("*"))}
    held = {name: folder for name, folder in folders.items() if folder}
    if not held:
        raise ValueError(f"weights: {config.folder} holds no sweep; run `diptych train spectral --stage sweep` there")
    arms = [
        Arm(
            name, Reconstructed(source, config.folder, folder), name.replace("-", " "), "a try of the sweep", batch=config.batch
        )
        for name, folder in held.items()
    ]
    title = "What do the weights of the losses and the exponent of the pre-emphasis do?"
    question = "Which setting has the smallest defect on fields that chose nothing?"
    baseline = next((name for name in held if name.startswith("mse")), arms[0].name)
    return _paired(config, "spectral-weights", title, question, arms, baseline, None)


def downscaling(config: Spectral) -> Comparison:
    """Super-resolution: a flow told the large scales fills in the small ones, held against the large scales alone."""
    source = config.source()
    found = weights_in(config.folder / "downscaling")
    if found is None:
        raise ValueError(
            f"weights: {config.folder} holds no downscaling flow; run `diptych train spectral --stage downscaling` there"
        )
    extra = describe(found)["extra"]
    cut, name = int(extra["cut"]), str(extra["arm"])
    one = next(one for one in trained_in(config.folder) if one.name == name)
    shape = autoencoder_of(one.autoencoder, "cpu").config.latent_shape
    grid = tuple(uniform_grid(steps_for("heun", config.evaluations)).tolist())
    told = LowPassed(source, config.folder, one.autoencoder, cut)
    made = Sampled(FlowNetwork(found), "flow", Gaussian(), Heun(), grid, shape, Decoded(one.autoencoder), condition=told)
    arms = [
        Arm(
            "smooth",
            Smoothed(source, config.folder, cut),
            f"scales up to {cut} alone",
            "what the flow is told",
            batch=config.batch,
        ),
        Arm("flow", made, "flow told the large scales", "one draw of the small scales a field", config.batch),
        Arm(
            "given",
            Reconstructed(source, config.folder, one.autoencoder),
            "autoencoder, told everything",
            "its ceiling",
            batch=config.batch,
        ),
    ]
    title = "Super-resolution: can a flow in the latents fill in the small scales?"
    question = f"Told the scales up to wavenumber {cut}, does the flow add small scales of the right power, and right ones?"
    return _paired(config, "spectral-downscaling", title, question, arms, "smooth", None)


def _paired(
    config: Spectral, name: str, title: str, question: str, arms: Sequence[Arm], baseline: str, panels: SwapPanels | None
) -> Comparison:
    setting, source = setting_of(config.folder), config.source()
    held = part(source, "test")
    return Comparison(
        name=name,
        title=title,
        question=question,
        items=held.names,
        seeds=(0,),
        arms=tuple(arms),
        metrics=paired_metrics(setting),
        baseline=baseline,
        primary=f"defect_{last_zone(setting)}",
        truth=Truth(source),
        clusters=dict(zip(held.names, held.clusters, strict=True)),
        panels=panels,
    )


def paired_metrics(setting: Setting) -> tuple[Metric, ...]:
    """Power, phases and error of the field."""
    grid, zones = setting.grid, setting.zones
    return (
        defect(grid, zones, last_zone(setting), MARGINS["defect"]),
        *(retained_power(grid, zones, zone) for zone in zones.names[::-1]),
        *(zone_bias(grid, zones, zone) for zone in zones.names[::-1]),
        *(zone_coherence(grid, zones, zone, margin=MARGINS["coherence"]) for zone in zones.names[::-1]),
        relative_error(MARGINS["field"]),
    )


def own_fields(config: Spectral, whole: Callable[[Spectral], Comparison]) -> Comparison:
    """The whole comparison of reconstructions on a user's own fields.

    Raises:
        ValueError: the weights were trained on turbulence.
    """
    if not isinstance(setting_of(config.folder).source, Folder):
        raise ValueError(
            f"weights: {config.folder} was trained on turbulence; train on your own fields first: "
            "diptych train spectral --size fields --set own.files.path=FOLDER --out models/mine"
        )
    return replace(whole(config), name="spectral-fields", title="Does the latent space keep the small scales of these fields?")


QUESTIONS = {
    "generation": generation,
    "integrators": integrators,
    "swap": swap,
    "weights": weights,
    "downscaling": downscaling,
}
