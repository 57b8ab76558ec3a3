"""Detectors of doubtful tokens: recall, precision, agreement and calibration against leave-one-out, and against true faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.compare.numbers import number
from diptych.compare.panels import figure, grid, prose, table
from diptych.compare.plots import Series, lines
from diptych.recipes.remasking_arms import Cell, known
from diptych.recipes.remasking_field import Field, share_of, told

if TYPE_CHECKING:
    from diptych.recipes.remasking import Remasking

DOUBT = 0.9
"""A token is doubted below this probability: WINO's tau2."""

DETECTORS = {"joint": 0, "alone": 1, "seen": 3, "exact": 2}
WORDS = {"joint": "shadow slots", "alone": "slots alone", "seen": "the token seen", "exact": "leave-one-out"}


def flags(field: Field, arm: str, cell: Cell) -> dict[str, np.ndarray]:
    """Counts a prompt of the probed state, (prompts,) each: tokens; flagged by leave-one-out; truly at fault; and per detector
    alarms, those that leave-one-out shares ("hits") and those that are at fault ("caught")."""
    probe = field.arrays(arm, "probe", cell)[:, 0]
    there = probe[..., 2] >= 0
    loo, wrong = there & (probe[..., 2] < DOUBT), there & (probe[..., 5] > 0)

    def count(where: np.ndarray) -> np.ndarray:
        return where.sum(1).astype(float)

    out = {"tokens": count(there), "flagged": count(loo), "wrong": count(wrong)}
    for name, k in DETECTORS.items():
        mine = there & (probe[..., k] < DOUBT)
        out |= {f"{name} hits": count(mine & loo), f"{name} alarms": count(mine), f"{name} agree": count(there & (mine == loo))}
        out |= {f"{name} caught": count(mine & wrong)}
        out[f"{name} gap"] = np.where(there, probe[..., k] - probe[..., 2], 0.0).sum(1)
    return out


def detectors(field: Field, config: Remasking) -> str:
    """Recall, precision, agreement and calibration of the detectors, on the same states."""
    rows, figures = [], []
    for task in config.judged():
        for block in config.shown(task):
            cell = Cell(task, block, config.cold, config.seeds_of(task)[0])
            counts = flags(field, "wino-0.7", cell)
            if counts["tokens"].any():
                where = f"{known(task).label}, {block}"
                rows += [(where, WORDS[name], *_figures(counts, name)) for name in DETECTORS]
        figures += calibration(field, Cell(task, config.shown(task)[-1], config.cold, config.seeds_of(task)[0]))
    head = (
        "task, block",
        "detector",
        "doubted",
        "agreement",
        "recall",
        "precision",
        "mean less",
        "faults",
        "recall ",
        "precision ",
    )
    return (
        prose(
            "One state a prompt, drawn from WINO 0.7's own run; every written token of its open block is judged by joint "
            "shadow slots, by slots that see themselves alone, by the model that sees the token, and exactly (leave-one-out). "
            f"A token is doubted below {DOUBT:g}. Agreement, recall, precision and the mean probability less that of "
            "leave-one-out hold a detector against leave-one-out: high agreement can stand beside low recall where few tokens "
            "are doubted. Then against the truth: faults is the share of tokens without which what is written could be "
            "completed, and with which it cannot; recall and precision are those of doubt as a sign of such a fault. A doubted "
            "token need not be at fault: another right answer lowers its probability too."
        )
        + table(head, rows)
        + grid(figures)
    )


def _figures(counts: dict[str, np.ndarray], name: str) -> tuple[str, ...]:
    """The table's figures of a detector."""

    def share(above: str, below: str) -> str:
        return told(share_of(counts[above], counts[below]), sign=False) if counts[below].any() else "none"

    tokens = counts["tokens"].sum()
    against = ("itself", "", "", "")
    if name != "exact":
        gap = number(counts[f"{name} gap"].sum() / tokens, 3, sign=True)
        against = (
            share(f"{name} agree", "tokens"),
            share(f"{name} hits", "flagged"),
            share(f"{name} hits", f"{name} alarms"),
            gap,
        )
    return (
        number(counts[f"{name} alarms"].sum() / tokens, 3), *against, number(counts["wrong"].sum() / tokens, 3),
        share(f"{name} caught", "wrong"), share(f"{name} caught", f"{name} alarms"),
    )  # fmt: skip


def calibration(field: Field, cell: Cell) -> list[str]:
    """Mean of leave-one-out in ten bins of each detector's probability."""
    probe = field.arrays("wino-0.7", "probe", cell)[:, 0]
    held = probe[probe[..., 2] >= 0]
    series = []
    for k, label in ((0, "shadow"), (1, "alone"), (3, "seen")):
        bins = np.minimum((held[:, k] * 10).astype(int), 9)
        full = [b for b in range(10) if (bins == b).sum() >= 8]
        if len(full) > 1:
            series.append(
                Series(
                    label, [float(held[bins == b, k].mean()) for b in full], [float(held[bins == b, 2].mean()) for b in full]
                )
            )
    if not series:
        return []
    svg = lines(series, title="calibration", x_title="detector's probability", y_title="leave-one-out", width=312)
    about = "A sound detector lies on the diagonal; above the truth it misses errors."
    return [figure(svg, f"Calibration, {known(cell.task).label}, block {cell.block}", about, full=False)]
