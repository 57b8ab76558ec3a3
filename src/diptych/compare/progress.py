"""Progress of a comparison on stderr: one line an arm on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table as Grid

from diptych.compare.plan import Job, Plan
from diptych.study import Samples, Unit

FEWEST = 8
"""Pairs before a running difference is shown."""


class Progress:
    """Units done, evaluations a second, time left and the running difference of every arm.

    Args:
        planned: what will be done.
        shown: print nothing if false.
    """

    def __init__(self, planned: Plan, shown: bool) -> None:
        self.jobs = (*planned.jobs, planned.again)
        self.shown = shown
        self.done = {job.arm.name: 0 for job in self.jobs}
        self.spent = {job.arm.name: 0.0 for job in self.jobs}
        self.evaluations = {job.arm.name: 0.0 for job in self.jobs}
        self.values: dict[str, dict[Unit, float]] = {job.arm.name: {} for job in self.jobs}
        self.last = time.monotonic()
        console = Console(stderr=True)
        self.live = Live(console=console, refresh_per_second=4, transient=False) if shown and console.is_terminal else None

    def __enter__(self) -> Progress:
        pending = sum(len(job.pending) for job in self.jobs)
        total = sum(len(job.units) + len(job.extra) for job in self.jobs)
        self.say(f"{len(self.jobs) - 1} arms, {total} samples, {total - pending} of them on disk already")
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.update(self._grid())
            self.live.__exit__(kind, error, trace)

    def advance(self, job: Job, samples: Samples, values: Mapping[Unit, float]) -> None:
        """Count a batch that has been written, with the primary metric's value of each unit where it is known already."""
        name = job.arm.name
        self.values[name].update(values)
        self.done[name] += len(samples)
        self.spent[name] += float(samples.trace["seconds"].sum())
        if "evaluations" in samples.trace:
            self.evaluations[name] += float(samples.trace["evaluations"].sum())
        if self.live:
            self.live.update(self._grid())
        elif time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            done, pending = sum(self.done.values()), sum(len(job.pending) for job in self.jobs)
            self.say(f"{done}/{pending} samples, {self._left()} left")

    def say(self, line: str) -> None:
        """One plain line, or nothing when progress is off."""
        if self.shown:
            print(line, file=sys.stderr, flush=True)

    def _delta(self, job: Job) -> str:
        """The paired difference so far; the verdict rests on a better interval over all units."""
        base, mine = self.values[self.jobs[0].arm.name], self.values[job.arm.name]
        differences = np.array([value - base[unit] for unit, value in mine.items() if unit in base])
        if job is self.jobs[0] or len(differences) < FEWEST:
            return ""
        half = 1.96 * differences.std(ddof=1) / len(differences) ** 0.5
        return f"{differences.mean():+.3f} +- {half:.3f} so far"

    def _left(self) -> str:
        seconds = 0.0
        for job in self.jobs:
            done, rest = self.done[job.arm.name], len(job.pending) - self.done[job.arm.name]
            if rest and not done:
                return "?"
            seconds += self.spent[job.arm.name] / max(done, 1) * rest
        return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"

    def _grid(self) -> Grid:
        grid = Grid.grid(padding=(0, 1))
        for job in self.jobs:
            name, spent = job.arm.name, self.spent[job.arm.name]
            done, pending = self.done[name], len(job.pending)
            share = done / pending if pending else 1.0
            bar = "#" * round(8 * share) + "." * (8 - round(8 * share))
            speed = f"{self.evaluations[name] / spent:.0f}/s" if spent and self.evaluations[name] else ""
            left = f"{spent / done * (pending - done):.0f} s" if done and done < pending else ""
            grid.add_row(job.arm.label or name, bar, f"{done}/{pending}", speed, left, self._delta(job))
        return grid
