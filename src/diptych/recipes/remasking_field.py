"""The samples of a finished run as tables: a decoder's numbers at a cell, prompts x seeds, and paired intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from diptych.compare import stats, store
from diptych.compare.numbers import number
from diptych.compare.stats import Interval, Replicates
from diptych.metrics import base
from diptych.recipes.remasking_arms import Cell, known, parsed
from diptych.study import Samples, Unit

RESAMPLES = 2000
ROUNDING = 1e-12
"""Below this a difference of rates is rounding."""


@dataclass(eq=False)
class Field:
    """All decoders of a run.

    Args:
        run: its folder, measured and judged.
        items: decoder -> the items it is judged on; the folder may hold samples of others, from a larger run before.
    """

    run: Path
    items: Mapping[str, AbstractSet[str]]
    names: tuple[str, ...] = field(init=False)
    labels: dict[str, str] = field(init=False)
    _keys: dict[str, str] = field(init=False)
    _units: set[Unit] = field(init=False)
    _places: dict[str, dict[tuple[Cell, bool], np.ndarray]] = field(init=False, default_factory=dict)
    _samples: dict[str, Samples] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        arms = store.read_json(self.run / "report.json")["arms"]
        self._keys = {arm["name"]: arm["key"] for arm in arms}
        self.names = tuple(self._keys)
        lines = (self.run / "units.jsonl").read_text(encoding="utf-8").splitlines()
        self._units = {Unit(**json.loads(line)) for line in lines}
        self.labels = {arm["name"]: arm["label"] for arm in arms}

    def has(self, arm: str, cell: Cell, dev: bool = False) -> bool:
        return arm in self._keys and (cell, dev) in self._index(arm)

    def values(self, arm: str, name: str, cell: Cell, dev: bool = False) -> np.ndarray:
        """A number of the trace, (prompts, seeds); "score" is quality, higher better: 1 for a right answer, and for prose what
        its tokens cost its model at most, turned round [nats a token]."""
        place, trace = self._index(arm)[cell, dev], self._read(arm).trace
        if name == "score":
            return trace["ok"][place] if known(cell.task).judge is not None else -trace["nll"][place]
        return trace[name][place]

    def arrays(self, arm: str, name: str, cell: Cell, dev: bool = False) -> np.ndarray:
        """An array of the samples, (prompts, seeds, ...)."""
        return self._read(arm).arrays[name][self._index(arm)[cell, dev]]

    def mean(self, arm: str, name: str, cell: Cell, dev: bool = False) -> float:
        return float(self.values(arm, name, cell, dev).mean())

    def ratio(self, arm: str, above: str, below: str, cell: Cell) -> float | None:
        """A sum over another; None for none of the latter."""
        total = float(self.values(arm, below, cell).sum())
        return float(self.values(arm, above, cell).sum()) / total if total else None

    def _read(self, arm: str) -> Samples:
        if arm not in self._samples:
            found = store.read_samples(self.run, self._keys[arm])
            if found is None:
                raise ValueError(f"samples: {self.run} holds none of arm {arm!r}; run the comparison again")
            mine = self.items[arm]
            self._samples[arm] = found.take([unit for unit in found.units if unit.item in mine and unit in self._units])
        return self._samples[arm]

    def _index(self, arm: str) -> dict[tuple[Cell, bool], np.ndarray]:
        if arm not in self._places:
            groups: dict[tuple[Cell, bool], dict[int, dict[int, int]]] = {}
            for i, unit in enumerate(self._read(arm).units):
                cell, index, dev = parsed(unit.item)
                groups.setdefault((cell, dev), {}).setdefault(index, {})[unit.seed] = i
            self._places[arm] = {
                key: np.array([[rows[seed] for seed in sorted(rows)] for _, rows in sorted(prompts.items())])
                for key, prompts in groups.items()
            }
        return self._places[arm]


def draws(count: int) -> stats.Draws:
    """The bootstrap of `count` prompts, the same for all decoders."""
    return stats.draw([f"prompt {i:06d}" for i in range(count)], RESAMPLES)


def weights(count: int) -> np.ndarray:
    """How often each prompt counts: once each; in every resample; with each left out. (1 + RESAMPLES + count, count)."""
    drawn = np.concatenate([block.astype(np.float64) for block in draws(count).blocks()])
    return np.concatenate([np.ones((1, count)), drawn, 1.0 - np.eye(count)])


def interval_of(values: np.ndarray, count: int, scale: float = 1.0) -> Interval:
    """The interval of a statistic from its values under `weights(count)`."""
    point, drawn, left = float(values[0]), values[1 : 1 + RESAMPLES], values[1 + RESAMPLES :]
    return settled(stats.interval(Replicates(point, drawn, left, False, scale, count)))


def settled(found: Interval) -> Interval:
    """The interval with what is zero but for rounding set to zero."""
    value, low, high = (
        None if end is None else 0.0 if abs(end) < ROUNDING else end for end in (found.value, found.low, found.high)
    )
    return replace(found, value=value or 0.0, low=low, high=high)


def paired(a: np.ndarray, b: np.ndarray) -> Interval:
    """The interval of the mean difference of two decoders at a cell, (prompts, seeds) each; whole prompts are resampled."""
    count = min(len(a), len(b))
    rows = (a[:count].mean(1) - b[:count].mean(1))[:, None]
    every = draws(count)
    return settled(stats.interval(stats.replicate(base.mean, rows, np.arange(count), every)))


def verdict(found: Interval, margin: float, p: float | None = None) -> str:
    """better, worse, equivalent, identical or undecided, as everywhere in the report; `p` is the adjusted p-value."""
    if found.low is None or found.high is None or found.clusters < stats.FEWEST:
        return "too few units"
    if found.se == 0.0 and found.value == 0.0:
        return "identical"
    chance = found.p if p is None else p
    if chance is not None and chance < stats.ALPHA and not found.low <= 0.0 <= found.high:
        return "better" if found.value > 0 else "worse"
    return "equivalent" if -margin < found.low and found.high < margin else "undecided"


def adjusted(found: Sequence[Interval]) -> list[float]:
    """Holm-adjusted p-values of a family of contrasts."""
    return stats.holm([1.0 if one.p is None else one.p for one in found])


def told(found: Interval, digits: int = 3, sign: bool = True) -> str:
    """value [low, high]."""
    if found.low is None or found.high is None:
        return number(found.value, digits, sign=sign)
    ends = f"{number(found.low, digits, sign=sign)}, {number(found.high, digits, sign=sign)}"
    return f"{number(found.value, digits, sign=sign)} [{ends}]"


def beyond(found: Interval, bound: float) -> str:
    """ "above", "below" or "undecided": where the whole interval lies."""
    if found.low is None or found.high is None or found.clusters < stats.FEWEST:
        return "too few units"
    return "above" if found.low > bound else "below" if found.high < bound else "undecided"


def share_of(above: np.ndarray, below: np.ndarray) -> Interval:
    """The interval of a quotient of sums over prompts, (prompts,) each."""
    weight = weights(len(above))
    total = weight @ below
    found = interval_of(np.where(total > 0, (weight @ above) / np.where(total > 0, total, 1), 0.0), len(above))
    low, high = (None if end is None else min(max(end, 0.0), 1.0) for end in (found.low, found.high))
    return replace(found, low=low, high=high)
