"""Where the strong small-scale events are, and how strong: support and amplitude apart, each IoU beside its chance level.

Rafiq and Nair 2026 (arXiv 2606.11691): both fields are band-passed to a zone; the p-th percentile of |truth| in that field is
the threshold for both; the masks' overlap is the support, the sizes on the true support the amplitude.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diptych.metrics import base
from diptych.metrics.fidelity import chunks
from diptych.metrics.field import as_tensor, held_pair, zone_edges
from diptych.physics.shells import SpectralGrid, band
from diptych.physics.zones import Zones
from diptych.study import Metric, Samples

PERCENTILE = 90.0


def support(mine: Tensor, truth: Tensor, percentile: float = PERCENTILE) -> dict[str, np.ndarray]:
    """Overlap of the strong places of band-passed fields, and their amplitude; each entry (N,).

    Keys: iou, precision (0 where the model has no strong place), recall, amplitude (mean |model| over mean |truth| on the true
    support), chance (IoU of two independent masks of the same areas).

    Args:
        mine, truth: (N, ...) band-passed. percentile: of |truth| in each field, in (0, 100).

    Raises:
        ValueError: a percentile outside (0, 100).
    """
    if not 0.0 < percentile < 100.0:
        raise ValueError(f"support: percentile {percentile:g} is outside (0, 100)")
    a, b = mine.flatten(1).abs(), truth.flatten(1).abs()
    rank = min(max(round(percentile / 100.0 * b.shape[1]), 1), b.shape[1] - 1)
    threshold = b.kthvalue(rank, dim=1, keepdim=True).values
    here, there = a > threshold, b > threshold
    both, either, model, true = (mask.double().sum(1) for mask in (here & there, here | there, here, there))
    size = [(x * there).sum(1) for x in (a, b)]
    share = model / a.shape[1], true / a.shape[1]
    found = {
        "iou": both / either,
        "precision": both / model.clamp(min=1),
        "recall": both / true,
        "amplitude": size[0] / size[1],
        "chance": chance_iou(*share),
    }
    return {name: value.numpy() for name, value in found.items()}


def chance_iou(share: Tensor, other: Tensor) -> Tensor:
    """IoU expected of independent masks that cover these shares of the field: p q / (p + q - p q); 0.053 for two of 10 %."""
    product = share * other
    return product / (share + other - product)


@dataclass(frozen=True)
class SupportRows:
    """Rows of the support metrics: one entry of `support`, (N, 1)."""

    grid: SpectralGrid
    shells: tuple[int, int]
    what: str
    percentile: float
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        mine, truth = held_pair(samples, reference, self.array, self.grid, f"support {self.what}")
        rows = []
        for part in chunks(len(mine)):
            bands = [band(x[part], self.shells, self.grid) for x in (mine, truth)]
            rows.append(support(bands[0], bands[1], self.percentile)[self.what])
        return np.concatenate(rows)[:, None]


ABOUT = {
    "iou": "Overlap of the strongest places of model and truth over their union; hold it against support_chance.",
    "precision": "Share of the model's strong places that are strong in the truth.",
    "recall": "Share of the truth's strong places that the model has as strong.",
    "amplitude": "Mean size of the model over that of the truth, at the truth's strong places.",
    "chance": "IoU that independent masks of the same areas would have.",
}


def support_metric(
    grid: SpectralGrid,
    zones: Zones,
    zone: str,
    what: str = "iou",
    percentile: float = PERCENTILE,
    array: str = "field",
    margin: float | None = None,
) -> Metric:
    """One entry of the support-amplitude decomposition in a zone, mean over fields.

    Args:
        what: "iou", "precision", "recall", "amplitude" or "chance". percentile: of |truth|; 90 = the top tenth.
    """
    if what not in ABOUT:
        raise ValueError(f"support: what={what!r} is unknown; choose from {', '.join(ABOUT)}")
    rows = SupportRows(grid, zone_edges(grid, zones, zone), what, percentile, array)
    better = "none" if what in ("chance", "amplitude") else "higher"
    label = f"{zone} support {'IoU' if what == 'iou' else what}"
    name = f"support_{what}_{zone}"
    return Metric(name, rows, None, better, margin, "truth", "unit", "", label, ABOUT[what])


def nearest(fields: Tensor, training: Tensor) -> np.ndarray:
    """Root-mean-square distance of each field to its nearest training field, over the field's own root mean square, (N,).

    Independent fields of one law are about sqrt(2) apart; a copy has 0. Shifted copies are not looked for.

    Args:
        fields: (N, ...). training: (M, ...).
    """
    a, b = fields.flatten(1), training.flatten(1)
    squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2.0 * a @ b.T
    return (squared.amin(1).clamp(min=0.0) / a.square().sum(1)).sqrt().numpy()


@dataclass(frozen=True)
class NearestRows:
    """Rows of `neighbour`: `nearest` of the samples and of the truth, (N, 2)."""

    grid: SpectralGrid
    training: Callable[[], np.ndarray]
    array: str

    def __call__(self, samples: Samples, reference: Samples | None) -> np.ndarray:
        mine, truth = held_pair(samples, reference, self.array, self.grid, "neighbour")
        known = as_tensor(self.training(), self.grid, "neighbour: training fields")
        return np.stack([nearest(x, known) for x in (mine, truth)], axis=1)


def neighbour(grid: SpectralGrid, training: Callable[[], np.ndarray], array: str = "field") -> Metric:
    """Distance to the nearest training field over that of the truth: 1 = as fresh as the truth, near 0 = copies.

    Args:
        training: gives the training fields, (M, *shape) or (M, C, *shape); asked for once a chunk of units, so let it remember.
    """
    about = "Distance to the nearest training field, over that of true fields of other trajectories; near 0 are copies."
    rows = NearestRows(grid, training, array)
    label = "distance to training, over the truth's"
    return Metric("neighbour", rows, base.ratio, "none", None, "truth", "unit", "", label, about)


METRICS = {"support": support_metric, "neighbour": neighbour}
