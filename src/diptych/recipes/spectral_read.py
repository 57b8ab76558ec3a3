"""A finished run of a spectral study, read from its folder: fields, spectra, coherence and judged numbers by arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diptych.compare.numbers import DASH, number
from diptych.compare.panels import Results
from diptych.metrics.field_summary import FieldComparison, compare_fields
from diptych.recipes.spectral_data import Setting, Source, part
from diptych.recipes.spectral_models import ARMS
from diptych.study import Unit


@dataclass(frozen=True)
class Finished:
    """What the report's sections are made from.

    Args:
        results: of the run. setting: of its fields. source: of the test fields.
    """

    results: Results
    setting: Setting
    source: Source

    @classmethod
    def read(cls, run: Path, weights: Path, source: Source) -> Finished:
        return cls(Results.read(run), Setting.read(weights), source)

    @property
    def last(self) -> str:
        """The zone of the smallest scales."""
        return self.setting.zones.names[-1]

    @property
    def edges(self) -> tuple[int, int]:
        """Its first and last shell."""
        return self.setting.zones.edges[-1]

    @cached_property
    def there(self) -> dict[str, str]:
        """Arm -> label."""
        return {arm["name"]: arm["label"] for arm in self.results.report["arms"]}

    @cached_property
    def _fields(self) -> dict[str, np.ndarray]:
        return {}

    def fields(self, arm: str) -> np.ndarray:
        """(N, C, *shape) of an arm's first replica, in the order of the test fields; "truth" is an arm too."""
        if arm not in self._fields:
            held = part(self.source, "test")
            if arm == "truth":
                made = held.fields
            else:
                made = self.results.samples(arm, ["field"]).take([Unit(name) for name in held.names]).arrays["field"]
            self._fields[arm] = made.astype(np.float64)
        return self._fields[arm]

    @cached_property
    def _compared(self) -> dict[str, FieldComparison]:
        return {}

    def compared(self, arm: str, paired: bool = True) -> FieldComparison:
        """The arm's fields beside the true ones."""
        if arm not in self._compared:
            setting = self.setting
            self._compared[arm] = compare_fields(self.fields("truth"), self.fields(arm), setting.grid, setting.zones, paired)
        return self._compared[arm]

    def value(self, arm: str, metric: str) -> float:
        """The judged value; NaN where there is none."""
        cell = self.results.cell(arm, metric)
        return float("nan") if cell is None or cell["value"] is None else float(cell["value"])

    def interval(self, arm: str, metric: str) -> tuple[float, float] | None:
        """Its 95 % interval."""
        cell = self.results.cell(arm, metric)
        pair = None if cell is None else cell["value_interval"]
        return None if pair is None or None in pair else (float(pair[0]), float(pair[1]))

    def log_power(self, arm: str, zone: str) -> list[np.ndarray]:
        """Mean log10 power of a zone's shells of every field, (N,) in the order of the test fields; one a replica."""
        found = []
        order = [Unit(name) for name in part(self.source, "test").names]
        for entry in self.results.report["arms"]:
            if entry["name"] == arm:
                units, rows = self.results.rows(arm, f"bias_log_{zone}", entry["replica"])
                where = {unit: i for i, unit in enumerate(units)}
                found.append(np.log10(np.maximum(rows[[where[unit] for unit in order]], 1e-300)).mean(1))
        return found


def fixed(value: float, digits: int, sign: bool = False) -> str:
    """A number with so many decimals, however small it is."""
    if not np.isfinite(value):
        return DASH
    return number(round(value, digits) + 0.0, digits, sign=sign)


def said(value: float, interval: tuple[float, float] | None, digits: int, sign: bool = False) -> str:
    """A number with its interval."""
    if not np.isfinite(value):
        return DASH
    text = fixed(value, digits, sign)
    if interval is None:
        return text
    low, high = (fixed(end, digits, sign) for end in interval)
    return f"{text} [{low}, {high}]"


def trained_arms(there: Mapping[str, str]) -> list[str]:
    """Arms that were trained and that nothing was done to afterwards."""
    return [name for name in ARMS if name in there]
