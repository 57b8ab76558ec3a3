"""What a sample cost: numbers the arm counted itself, taken from the trace of its samples."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.metrics import base
from diptych.study import Better, Metric, Samples


@dataclass(frozen=True)
class Traced:
    """Rows of a cost: `samples.trace[name]`, (N, 1) float64."""

    name: str

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        if self.name not in samples.trace:
            near = difflib.get_close_matches(self.name, samples.trace, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it holds {sorted(samples.trace) or 'nothing'}"
            raise ValueError(f"metric {self.name!r}: the arm's trace does not count it{hint}")
        values = np.asarray(samples.trace[self.name], dtype=np.float64)
        if values.ndim != 1:
            raise ValueError(f"metric {self.name!r}: trace has shape {values.shape}; give one number a unit")
        return values[:, None]


def trace(
    name: str, better: Better = "lower", unit: str = "", label: str = "", about: str = "", margin: float | None = None
) -> Metric:
    """Mean over units of any number an arm wrote into its trace ("tokens", "attended_pairs", "bytes", ...)."""
    return Metric(
        name=name,
        rows=Traced(name),
        better=better,
        margin=margin,
        unit=unit,
        label=label,
        about=about or f"Mean over units of {name!r}, as the arm counted it.",
    )


def evaluations() -> Metric:
    """Mean number of network evaluations a unit took (NFE): a guided step that runs the network twice counts two."""
    return trace("evaluations", label="evaluations", about="Network evaluations a unit took, counted by the sampling driver.")


def seconds() -> Metric:
    """Median over units of the wall time a unit took [s], its share of its batch; the median shrugs off a busy machine."""
    return Metric(
        name="seconds",
        rows=Traced("seconds"),
        reduce=base.median,
        better="lower",
        unit="s",
        label="seconds",
        about="Median wall time of a unit (its share of its batch), on the machine of the run; compare within one run only.",
    )


METRICS = {"evaluations": evaluations, "seconds": seconds, "trace": trace}
