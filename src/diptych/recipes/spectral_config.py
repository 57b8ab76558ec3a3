"""Options of the spectral comparisons, and what was committed before they were run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.recipes.spectral_arms import setting_of
from diptych.recipes.spectral_data import Setting, Source
from diptych.recipes.spectral_models import ASSETS, Trained

MARGINS = {"defect": 0.05, "error": 0.05, "coherence": 0.05, "gap": 0.1, "iou": 0.05, "field": 0.005}
"""What does not matter: a twentieth of a decade or of a coherence, a tenth of a statistic, half a per cent of the variance.

Set before any test field was seen by a model of the study; settings were chosen on the validation trajectories.
"""
SEPARATIONS = (4, 8, 12)
"""Cells between the points of structure functions: an eighth to three eighths of the forcing's wavelength at 64 x 64."""


@dataclass(frozen=True)
class Spectral:
    """Options of the comparisons.

    Args:
        weights: folder that `diptych train spectral` made; empty = the shipped models.
        trajectories: test trajectories. fields: of each. A folder of a user's own fields has as many as it has.
        evaluations: of the flow network, for each sample that a verdict rests on.
        sweep: numbers of evaluations for the curve of cost against fidelity.
        memorised: look for copies of training fields among the samples (makes the training fields again).
        batch: fields at once.

    Raises:
        ValueError: too few of something.
    """

    weights: str = ""
    trajectories: int = 12
    fields: int = 8
    evaluations: int = 20
    sweep: tuple[int, ...] = (4, 8, 12, 20, 40)
    memorised: bool = False
    batch: int = 48

    def __post_init__(self) -> None:
        object.__setattr__(self, "sweep", tuple(self.sweep))
        for name, least in (("trajectories", 2), ("fields", 1), ("evaluations", 4), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too few; give {least} or more")
        if not self.sweep or min(self.sweep) < 1:
            raise ValueError(f"sweep: {self.sweep}; give numbers of evaluations, 1 or more")

    @property
    def folder(self) -> Path:
        return Path(self.weights) if self.weights else ASSETS

    def source(self) -> Source:
        """The source of the weights' fields, with as many test fields as asked for."""
        return setting_of(self.folder).source.tested(self.trajectories, self.fields)


CONFIGS = {
    "tiny": Spectral(trajectories=2, fields=4, evaluations=4, sweep=(4,)),
    "core": Spectral(),
    "full": Spectral(trajectories=16, memorised=True),
}


def last_zone(setting: Setting) -> str:
    """The zone of the smallest scales, which carries the verdict."""
    return setting.zones.names[-1]


def claim(found: Sequence[Trained]) -> Literal["checkpoint", "recipe"]:
    """About the recipe where every arm that has replicas has five or more."""
    counts = {one.name: sum(other.name == one.name for other in found) for one in found}
    several = [count for count in counts.values() if count > 1]
    return "recipe" if several and min(several) >= 5 else "checkpoint"
