"""Spectral: does the latent space keep the small scales, and are they the right ones?

Autoencoders of turbulence that differ in their loss and in the filter they see fields through give back test fields of
trajectories they were not trained on. Power alone can be faked, so beside them stand fields that only have the spectrum, and
the plain model with one gain a shell. What a flow in the latents generates is `spectral:generation`.
"""

from __future__ import annotations

from collections.abc import Sequence

from diptych.metrics.channels import channel_coherence
from diptych.metrics.field import gap, zone_coherence
from diptych.metrics.structure import band_kurtosis, structure
from diptych.metrics.support import support_metric
from diptych.metrics.zone_bias import retained_power, zone_bias, zone_error
from diptych.recipes.spectral_arms import PhaseRandomised, RandomField, Reconstructed, Truth, setting_of
from diptych.recipes.spectral_config import CONFIGS, MARGINS, SEPARATIONS, Spectral, claim, last_zone
from diptych.recipes.spectral_data import Folder, Setting, part
from diptych.recipes.spectral_models import ARMS, LABELS, Trained, trained_in
from diptych.recipes.spectral_panels import Panels
from diptych.recipes.spectral_questions import QUESTIONS, own_fields
from diptych.recipes.spectral_scores import defect, relative_error, undone
from diptych.study import Arm, Comparison, Metric

__all__ = ["CONFIGS", "STUDIES", "study"]


def study(config: Spectral) -> Comparison:
    """Reconstruction: every trained arm and everything that can fake its power, held against the MSE autoencoder."""
    setting, source = setting_of(config.folder), config.source()
    found = trained_in(config.folder)
    held = part(source, "test")
    arms = [
        *(reconstruction(config, one, found) for one in found),
        *(reconstruction(config, one, found, gained=True) for one in found if one.name in ("mse", "pre_mse")),
        Arm(
            "other", Truth(source, "floor"), "true, another trajectory", "a true field that is not this one", batch=config.batch
        ),
        Arm(
            "random",
            RandomField(config.folder),
            "Gaussian random field",
            "the training spectrum, no structure",
            config.batch,
        ),
        Arm(
            "phases",
            PhaseRandomised(source, config.folder),
            "phase-randomised truth",
            "every mode's own power, the phases of noise",
            config.batch,
        ),
    ]
    return Comparison(
        name="spectral",
        title="Does the latent space keep the small scales?",
        question="Which autoencoder gives the dissipation range back with the right power and the right phases?",
        items=held.names,
        seeds=(0,),
        arms=tuple(arms),
        metrics=metrics(setting),
        baseline="mse",
        primary=f"defect_{last_zone(setting)}",
        claim=claim(found),
        truth=Truth(source),
        clusters=dict(zip(held.names, held.clusters, strict=True)),
        panels=Panels(config.folder, source),
    )


def reconstruction(config: Spectral, one: Trained, found: Sequence[Trained], gained: bool = False) -> Arm:
    """The arm of one autoencoder."""
    name = f"{one.name}_gain" if gained else one.name
    several = sum(other.name == one.name for other in found) > 1
    label = (
        LABELS[one.name] + (" + shell gain" if gained else "") + ("" if several or claim(found) != "recipe" else " (one run)")
    )
    about = "one factor a shell, fitted on training reconstructions" if gained else ARMS[one.name]
    return Arm(
        f"{name}-{one.replica}" if several else name,
        Reconstructed(config.source(), config.folder, one.autoencoder, gained=gained),
        label,
        about,
        batch=config.batch,
        replica=one.replica if several else None,
        group=name if several else "",
    )


def metrics(setting: Setting) -> tuple[Metric, ...]:
    """What a reconstruction is judged by; the last zone first."""
    grid, zones = setting.grid, setting.zones
    last = last_zone(setting)
    found = [
        defect(grid, zones, last, MARGINS["defect"]),
        zone_error(grid, zones, last, margin=MARGINS["error"]),
        *(retained_power(grid, zones, zone) for zone in zones.names[::-1]),
        *(zone_bias(grid, zones, zone) for zone in zones.names[::-1]),
        *(zone_coherence(grid, zones, zone, margin=MARGINS["coherence"]) for zone in zones.names[::-1]),
        relative_error(MARGINS["field"]),
        gap(band_kurtosis(grid, zones, last), MARGINS["gap"]),
        support_metric(grid, zones, last, "iou", margin=MARGINS["iou"]),
        support_metric(grid, zones, last, "chance"),
    ]
    if setting.source.vorticity:
        found.append(gap(structure(grid, SEPARATIONS, 3), MARGINS["gap"]))
    if setting.channels > 1:
        found.append(channel_coherence(grid, zones, last, setting.channels, margin=MARGINS["coherence"]))
    if isinstance(setting.source, Folder) and setting.source.transform.name != "none":
        again = (retained_power(grid, zones, last), zone_coherence(grid, zones, last), relative_error())
        found += [undone(metric, setting.source.transform) for metric in again]
    return tuple(found)


def fields(config: Spectral) -> Comparison:
    """The same on a user's own fields."""
    return own_fields(config, study)


STUDIES = {**QUESTIONS, "fields": fields}
