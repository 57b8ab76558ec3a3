"""Two ensembles of fields side by side, in numbers and in words: `compare_fields(truth, model, grid, zones)`.

What recipes, the command line and users call; the metrics of a study give the same numbers with intervals.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from diptych.metrics.field import amplitude_ratio, as_tensor, coherence, shell_power, shell_products, varies
from diptych.metrics.structure import GAUSSIAN, moments, structure_function
from diptych.metrics.support import support
from diptych.metrics.zone_bias import log_ratio
from diptych.physics.shells import SpectralGrid, band
from diptych.physics.zones import Zones

POWER_KEPT = (90.0, 110.0)  # per cent of the truth's: power is right
PHASES_RIGHT = 0.6  # coherence from here up: phases are right
PHASES_WRONG = 0.3  # coherence below: phases are wrong
STRUCTURE_RIGHT = 0.5  # of the way from Gaussian to the truth's kurtosis, on a logarithmic scale
NEARLY_GAUSSIAN = 0.1  # a truth whose kurtosis is this close to 3, relatively, cannot tell structure from noise


def reading(
    retained: float, coherent: float | None = None, kurtosis: tuple[float, float] | None = None, error: float = 0.0
) -> str:
    """A zone in plain words: "right", "power right, phases wrong", "power lost, phases partly right", ...

    Args:
        retained: power kept [%]. coherent: phase coherence with the truth, for pairs.
        kurtosis: (model, truth) of the band, for generated fields, whose phases have no truth to agree with.
        error: standard error of log10 of the power kept [dex]; power that is off by less than two of it is "undecided".
    """
    reach = 10.0 ** (2.0 * error)
    power = "right" if POWER_KEPT[0] <= retained <= POWER_KEPT[1] else "undecided"
    if retained * reach < POWER_KEPT[0]:
        power = "lost"
    elif retained / reach > POWER_KEPT[1]:
        power = "in excess"
    if coherent is not None:
        word = "right" if coherent >= PHASES_RIGHT else "wrong" if coherent < PHASES_WRONG else "partly right"
        return "right" if power == word == "right" else f"power {power}, phases {word}"
    if kurtosis is not None and abs(kurtosis[1] / GAUSSIAN - 1.0) > NEARLY_GAUSSIAN:
        way = float(np.log(kurtosis[0] / GAUSSIAN) / np.log(kurtosis[1] / GAUSSIAN))
        word = "exaggerated" if way > 1.0 / STRUCTURE_RIGHT else "right" if way >= STRUCTURE_RIGHT else "lost"
        return "right" if power == word == "right" else f"power {power}, structure {word}"
    return f"power {power}"


@dataclass(frozen=True)
class ZoneSummary:
    """One zone of a comparison; what needs pairs is None for two unpaired ensembles.

    Args:
        bias: log10 of power kept [dex]: paired, or in the form "log". spread: its standard deviation over shells and fields.
        error: standard error of bias, unpaired of bias - floor, as if fields were independent [dex].
        floor: the same of the truth, for unpaired ensembles: the truth's fields against their own mean spectrum.
        ratio_bias: log10 of the ratio of mean spectra [dex].
        retained: 100 x 10^bias, unpaired 100 x 10^(bias - floor) [%].
        coherent, amplitude: of modes. iou, chance, recall: of the strongest tenth. kurtosis: (model, truth).
        words: `reading`.
    """

    name: str
    shells: tuple[int, int]
    bias: float
    spread: float
    error: float
    floor: float
    ratio_bias: float
    retained: float
    coherent: float | None
    amplitude: float
    iou: float | None
    chance: float | None
    recall: float | None
    kurtosis: tuple[float, float]
    words: str


@dataclass(frozen=True)
class FieldComparison:
    """All zones, and curves over shells and separations.

    Args:
        zones: one a zone. paired: whether rows belong together.
        curves: "wavenumber", "truth", "model" (mean power a mode), their 5th and 95th percentile over fields ("truth_low",
            "truth_high", ...), "amplitude", and for pairs "coherence": each (k_max + 1,).
        structure: "separation" (cells) with "truth_S2", "model_S2", "truth_S3", "model_S3" where asked for.
    """

    zones: tuple[ZoneSummary, ...]
    paired: bool
    curves: dict[str, np.ndarray]
    structure: dict[str, np.ndarray] = field(default_factory=dict)


def compare_fields(
    truth: np.ndarray,
    model: np.ndarray,
    grid: SpectralGrid,
    zones: Zones,
    paired: bool = True,
    separations: tuple[int, ...] = (),
    of: str = "field",
) -> FieldComparison:
    """Judge a model's fields against true ones, zone by zone.

    Args:
        truth, model: (N, *shape) or (N, C, *shape); as many rows of both where `paired`.
        paired: row i of both belongs together (a reconstruction); False for generated fields.
        separations: cells at which to take structure functions; none by default.
        of: "field" or "velocity", see `structure_function`.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, constant true fields, zones beyond the grid.
    """
    there, mine = as_tensor(truth, grid, "truth"), as_tensor(model, grid, "model")
    if there.shape[1:] != mine.shape[1:] or (paired and len(there) != len(mine)):
        raise ValueError(f"compare: truth {tuple(there.shape)} and model {tuple(mine.shape)} do not fit; paired={paired}")
    if min(len(there), len(mine)) < 2:
        raise ValueError("compare: fewer than two fields; there is no spread to hold a difference against")
    varies(there, "truth")
    zones.on(grid)
    power_there, power_mine = shell_power(there, grid), shell_power(mine, grid)
    products = shell_products(mine, there, grid).sum(0) if paired else None
    found = []
    for name in zones.names:
        shells = zones.shells(name)
        found.append(_zone(name, shells, there, mine, grid, power_there, power_mine, products))
    return FieldComparison(
        tuple(found),
        paired,
        _curves(grid, power_there, power_mine, products),
        _structure(there, mine, grid, separations, of),
    )


def _zone(
    name: str,
    shells: np.ndarray,
    there: Tensor,
    mine: Tensor,
    grid: SpectralGrid,
    power_there: np.ndarray,
    power_mine: np.ndarray,
    products: np.ndarray | None,
) -> ZoneSummary:
    edges = int(shells[0]), int(shells[-1])
    inside_there, inside_mine = power_there[:, shells], power_mine[:, shells]
    mean_there = inside_there.mean(0)
    logs = log_ratio(inside_mine, inside_there if products is not None else mean_there)
    own = log_ratio(inside_there, mean_there)
    floor = 0.0 if products is not None else float(own.mean())
    error = float(np.hypot(_error(logs), 0.0 if products is not None else _error(own)))
    bands = band(mine, edges, grid), band(there, edges, grid)
    kurtosis = (_kurtosis(bands[0]), _kurtosis(bands[1]))
    bias = float(logs.mean())
    retained = float(100.0 * 10.0 ** (bias - floor))
    coherent = None
    seen: dict[str, float | None] = {"iou": None, "chance": None, "recall": None}
    amplitude = float(np.sqrt(inside_mine.mean(0).sum() / mean_there.sum()))
    if products is not None:
        summed = products[:, shells].sum(1)[:, None]
        coherent, amplitude = float(coherence(summed)[0]), float(amplitude_ratio(summed)[0])
        seen = {key: float(value.mean()) for key, value in support(*bands).items() if key in seen}
    words = reading(retained, coherent, None if products is not None else kurtosis, error)
    ratio = float(log_ratio(inside_mine.mean(0), mean_there).mean())
    return ZoneSummary(
        name,
        edges,
        bias,
        float(logs.std()),
        error,
        floor,
        ratio,
        retained,
        coherent,
        amplitude,
        **seen,
        kurtosis=kurtosis,
        words=words,
    )


def _error(logs: np.ndarray) -> float:
    return float(logs.mean(1).std(ddof=1) / np.sqrt(len(logs)))


def _kurtosis(fields: Tensor) -> float:
    square, fourth = moments(fields).mean(0)
    return float(fourth / square**2) if square > 0 else float("nan")


def _curves(
    grid: SpectralGrid, power_there: np.ndarray, power_mine: np.ndarray, products: np.ndarray | None
) -> dict[str, np.ndarray]:
    last = grid.k_max + 1
    out = {"wavenumber": grid.wavenumbers[:last]}
    for name, power in (("truth", power_there), ("model", power_mine)):
        out[name] = power.mean(0)[:last]
        out[f"{name}_low"], out[f"{name}_high"] = np.percentile(power, (5.0, 95.0), axis=0)[:, :last]
    with np.errstate(divide="ignore", invalid="ignore"):
        out["amplitude"] = np.sqrt(out["model"] / out["truth"])
    if products is not None:
        out["coherence"] = coherence(products)[:last]
    return out


def _structure(there: Tensor, mine: Tensor, grid: SpectralGrid, separations: tuple[int, ...], of: str) -> dict[str, np.ndarray]:
    if not separations:
        return {}
    out = {"separation": np.array(separations)}
    for name, fields in (("truth", there), ("model", mine)):
        for order in (2, 3):
            values = [float(structure_function(fields, r, order, grid, of).mean()) for r in separations]
            out[f"{name}_S{order}"] = np.array(values)
    return out


def words(comparison: FieldComparison) -> str:
    """The comparison in a sentence: "IR: right. DO: power right, phases wrong (92 % kept, coherence 0.21). ..." """
    parts = []
    for zone in comparison.zones:
        if zone.coherent is not None:
            figures = f"{zone.retained:.0f} % kept, coherence {zone.coherent:.2f}"
        else:
            figures = f"{zone.retained:.0f} % kept, kurtosis {zone.kurtosis[0]:.1f} for {zone.kurtosis[1]:.1f}"
        parts.append(f"{zone.name}: {zone.words} ({figures}).")
    return " ".join(parts)
