"""Spectral bias of a zone: how much of the truth's power a model keeps there. It says nothing about phases.

Three forms, all means over a zone's shells of log10(model power / true power) [dex]:

  paired  each sample against the truth of its own unit, then the mean: for reconstructions.
  log     each sample against the mean spectrum of the truth, then the mean: the paper's (arXiv 2606.11691) for generated
          samples. The mean of a logarithm lies below the logarithm of the mean (Jensen), so that the truth itself scores
          below zero; hold it against that floor, never against zero.
  ratio   mean spectrum against mean spectrum: the truth scores zero on average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diptych.metrics.base import OfSums
from diptych.metrics.field import as_is, halves, held, held_pair, shell_power, zone_edges
from diptych.physics.shells import SpectralGrid
from diptych.physics.zones import Zones
from diptych.study import Against, Metric, Samples

Form = Literal["paired", "log", "ratio"]
LOST = 1e-12  # of the truth's: power below it counts as this much


def log_ratio(mine: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """log10(model / truth) of powers, never below log10(`LOST`)."""
    return np.log10(np.maximum(mine, LOST * truth)) - np.log10(truth)


@dataclass(frozen=True)
class ZonePower:
    """Rows of power metrics: powers of a zone's shells, (N, n); with a truth its powers follow, (N, 2 n)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        low, high = self.shells
        if reference is None:
            return shell_power(held(samples, self.array, self.grid, "zone power"), self.grid)[:, low : high + 1]
        pair = held_pair(samples, reference, self.array, self.grid, "zone power")
        mine, truth = (shell_power(x, self.grid)[:, low : high + 1] for x in pair)
        if not truth.min() > 0:
            raise ValueError(
                f"zone power: the truth has no power in shells {low}-{high} of some field; end the zone before them"
            )
        return np.concatenate([mine, truth], axis=1)


def _paired_terms(rows: np.ndarray) -> np.ndarray:
    return np.stack([log_ratio(*halves(rows)).mean(1), np.ones(len(rows))], axis=1)


def _log_terms(rows: np.ndarray) -> np.ndarray:
    mine, truth = halves(rows)
    return np.concatenate([np.log10(np.maximum(mine, LOST * truth)), truth, np.ones((len(rows), 1))], axis=1)


def _paired_bias(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def _log_bias(sums: np.ndarray) -> np.ndarray:
    logs, truth = halves(sums[:, :-1] / sums[:, -1:])
    return (logs - np.log10(truth)).mean(1)


def _ratio_bias(sums: np.ndarray) -> np.ndarray:
    return log_ratio(*halves(sums)).mean(1)


def _weighted_mean(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ rows / weights.sum(1, keepdims=True)


def set_log_bias(rows: np.ndarray, weights: np.ndarray, there: np.ndarray, there_weights: np.ndarray) -> np.ndarray:
    """The form "log" against a set: rows are powers, (N, n) and (M, n)."""
    truth = _weighted_mean(there, there_weights)
    floor = LOST * there.mean(0)
    return (_weighted_mean(np.log10(np.maximum(rows, floor)), weights) - np.log10(truth)).mean(1)


def set_ratio_bias(rows: np.ndarray, weights: np.ndarray, there: np.ndarray, there_weights: np.ndarray) -> np.ndarray:
    """The form "ratio" against a set: rows are powers, (N, n) and (M, n)."""
    return log_ratio(_weighted_mean(rows, weights), _weighted_mean(there, there_weights)).mean(1)


BIASES = {
    ("paired", "truth"): OfSums("bias, paired", 0, _paired_terms, _paired_bias),
    ("log", "truth"): OfSums("bias, log", 0, _log_terms, _log_bias),
    ("ratio", "truth"): OfSums("bias, ratio", 0, as_is, _ratio_bias),
    ("log", "set"): set_log_bias,
    ("ratio", "set"): set_ratio_bias,
}


def percent(bias: np.ndarray) -> np.ndarray:
    """Retained power of a bias [%]: 100 x 10^bias."""
    return 100.0 * 10.0**bias


def _then(reduce: Callable[..., np.ndarray], last: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """A reducer whose result goes through one more function."""
    if isinstance(reduce, OfSums):
        finish = reduce.finish
        return OfSums(reduce.name, reduce.columns, reduce.prepare, lambda sums: last(finish(sums)))
    return lambda *tables: last(reduce(*tables))


def _bias(form: Form, against: Against) -> Callable[..., np.ndarray]:
    if (form, against) not in BIASES:
        raise ValueError(f"bias: form={form!r} against={against!r} is not there; choose from {sorted(BIASES)}")
    return BIASES[form, against]


WORDS = {
    "paired": "each field against its own truth",
    "log": "each field against the mean spectrum of the truth; the truth itself scores below zero",
    "ratio": "mean spectrum against mean spectrum",
}


def zone_bias(
    grid: SpectralGrid, zones: Zones, zone: str, form: Form = "paired", against: Against = "truth", array: str = "field"
) -> Metric:
    """log10 of model power over true power, mean over a zone's shells [dex]: below zero power is lost, above there is too much.

    Args:
        grid: of the fields. zones, zone: where. form: "paired" goes with the truth alone.
        against: "truth" (fields of the same units) or "set" (the reference set). array: name of the fields.
    """
    rows = ZonePower(grid, zone_edges(grid, zones, zone), array)
    about = f"log10 of model power over true power in the zone {zone}, {WORDS.get(form, '')}. Says nothing about phases."
    name = f"bias_{zone}" if form == "paired" else f"bias_{form}_{zone}"
    label = f"{zone} bias" if form == "paired" else f"{zone} bias, {form}"
    return Metric(name, rows, _bias(form, against), "none", None, against, _level(against), "dex", label, about)


def zone_error(
    grid: SpectralGrid,
    zones: Zones,
    zone: str,
    form: Form = "paired",
    against: Against = "truth",
    array: str = "field",
    margin: float | None = None,
) -> Metric:
    """Size of `zone_bias` [dex]: power lost counts as much as power in excess."""
    bias = zone_bias(grid, zones, zone, form, against, array)
    reduce = _then(_bias(form, against), np.abs)
    about = f"Size of log10 of model power over true power in the zone {zone}, {WORDS[form]}. Says nothing about phases."
    name, label = bias.name.replace("bias", "error"), bias.label.replace("bias", "power error")
    return Metric(name, bias.rows, reduce, "lower", margin, against, bias.level, "dex", label, about)


def retained_power(
    grid: SpectralGrid, zones: Zones, zone: str, form: Form = "paired", against: Against = "truth", array: str = "field"
) -> Metric:
    """`zone_bias` as a percentage, 100 x 10^bias: the geometric mean over shells (and fields, unless form="ratio")."""
    bias = zone_bias(grid, zones, zone, form, against, array)
    about = f"Model power over true power in the zone {zone}, {WORDS[form]}. Noise of the right power keeps 100 %."
    name, label = bias.name.replace("bias", "retained"), bias.label.replace("bias", "power kept")
    return Metric(name, bias.rows, _then(_bias(form, against), percent), "none", None, against, bias.level, "%", label, about)


def _level(against: Against) -> Literal["unit", "set"]:
    return "set" if against == "set" else "unit"


METRICS = {"zone_bias": zone_bias, "zone_error": zone_error, "retained_power": retained_power}
