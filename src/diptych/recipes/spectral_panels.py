"""The report's own sections of the spectral study: bars, power and phases by zone, fields side by side, spectra, coherence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diptych.compare.panels import figure, image, prose, table
from diptych.compare.plot_paths import Kind, Track, Window, paths
from diptych.files import png, read_json
from diptych.physics.shells import band
from diptych.recipes.least_action_panels import fitted
from diptych.recipes.spectral_bars import bars_table, published, reconstruction_bars, zone_table
from diptych.recipes.spectral_data import Source
from diptych.recipes.spectral_film import moving_flow
from diptych.recipes.spectral_models import LABELS
from diptych.recipes.spectral_pictures import joined, tile
from diptych.recipes.spectral_read import Finished, fixed, trained_arms
from diptych.study import Panel

COLOURS = {"truth": 0, "mse": 1, "log": 2, "pre_mse": 3, "pre_log": 4, "whitened": 5, "pre_mix": 0, "mse_gain": 1, "random": 5}
"""Of an arm's curves; the truth is broad and pale."""
DRAWN = ("mse", "log", "pre_mse", "pre_log", "pre_mix")
NOTE = "What was to be reached was set before the run. Intervals are of 95 %."
GAP = "<p></p>"


@dataclass(frozen=True)
class Panels:
    """Makes the sections of the comparison of reconstructions from its folder.

    Args:
        weights: folder of the models. source: of the test fields.
    """

    weights: Path
    source: Source

    def __call__(self, run: Path) -> Sequence[Panel]:
        read = Finished.read(run, self.weights, self.source)
        arms = [arm for arm in read.there if arm != "other"] + ["other"]
        made = [
            ("bars", "What was to be reached", bars_table(reconstruction_bars(read), NOTE)),
            ("zones", "Power and phases", zone_table(read, arms) + GAP + published(read)),
            ("fields", "Fields side by side", side_by_side(read)),
            ("spectra", "Spectra and coherence", spectra(read, drawn(read)) + GAP + coherences(read, drawn(read))),
            ("sweep", "What the weights do", sweep_table(self.weights)),
            ("motion", "In motion", moving_flow(read, self.weights) if read.setting.source.vorticity else ""),
        ]
        return [Panel(name, title, html) for name, title, html in made if html]


def drawn(read: Finished) -> list[str]:
    """Trained arms that are drawn."""
    return [arm for arm in DRAWN if arm in read.there] or trained_arms(read.there)


def windows(read: Finished) -> list[Window]:
    """The zones as parts of the wavenumber axis."""
    grid, zones = read.setting.grid, read.setting.zones
    step = float(grid.wavenumbers[1])
    return [
        Window((low - 0.5) * step, (high + 0.5) * step, name)
        for name, (low, high) in zip(zones.names, zones.edges, strict=True)
    ]


def spectra(read: Finished, arms: Sequence[str], paired: bool = True) -> str:
    """Mean power a mode over wavenumber, with the middle nine tenths of the fields."""
    tracks = [curve("truth", read.compared(arms[0], paired).curves, "truth", "wide", bands=True)]
    for arm in [*arms, *(one for one in ("random",) if one in read.there)]:
        curves, colour = read.compared(arm, paired).curves, COLOURS.get(arm.removesuffix("_made"), 5)
        tracks += [curve(read.there[arm], curves, "model", "dashed" if arm == "random" else "line", colour)]
    draw = partial(paths, tracks, title="spectra", x_title="wavenumber", y_title="mean power a mode", log_y=True)
    plot = fitted(partial(draw, window=windows(read), height=340))
    return figure(plot, "Spectra", "Shaded band: nine tenths of the true fields. Power alone; the random field has it too.")


def curve(label: str, curves: dict[str, np.ndarray], what: str, kind: Kind, colour: int = 0, bands: bool = False) -> Track:
    """One spectrum, the mean left out."""
    low, high = (curves[f"{what}_{end}"][1:] if bands else None for end in ("low", "high"))
    return Track(label, curves["wavenumber"][1:], curves[what][1:], colour, kind, low=low, high=high)


def coherences(read: Finished, arms: Sequence[str]) -> str:
    """Phase coherence with the truth over wavenumber."""
    tracks = []
    for arm in [*arms, *(one for one in ("random",) if one in read.there)]:
        curves, kind = read.compared(arm).curves, "dashed" if arm == "random" else "line"
        tracks += [Track(read.there[arm], curves["wavenumber"][1:], curves["coherence"][1:], COLOURS.get(arm, 5), kind)]
    draw = partial(paths, tracks, title="coherence", x_title="wavenumber", y_title="coherence", within=(-0.1, 1.02))
    plot = fitted(partial(draw, window=windows(read), height=300))
    return figure(plot, "Phase coherence", "1: every mode in phase with the truth's; 0: noise. A gain a shell leaves it alone.")


def side_by_side(read: Finished) -> str:
    """The first test field: truth and arms on one colour scale with an inset, and its smallest scales alone."""
    arms = ["truth", *drawn(read), *(one for one in ("mse_gain",) if one in read.there)]
    labels = {"truth": "truth", **read.there}
    whole = {arm: read.fields(arm)[0, 0] for arm in arms}
    if whole["truth"].ndim != 2:
        return lines_side_by_side(read, arms, labels)
    small = {arm: smallest(read, arm) for arm in arms}
    limit, fine = (float(np.quantile(np.abs(one["truth"]), 0.997)) for one in (whole, small))
    zoom = zoomed(np.abs(small["truth"]))
    rows = [[tile(whole[arm], limit, 3, zoom) for arm in arms], [tile(small[arm], fine, 3) for arm in arms]]
    columns = f"repeat({len(arms)},minmax(120px,1fr))"
    cells = "".join(
        f"<div>{image(png(joined([[top], [bottom]])), 'png', f'{labels[arm]}: the field and its smallest scales')}"
        f'<p class="small">{labels[arm]}</p></div>'
        for arm, top, bottom in zip(arms, *rows, strict=True)
    )
    first, last = read.edges
    told = prose(
        "The first test field, above; the same colour scale for all, with an inset. Below: its shells "
        f"{first} to {last} ({read.last}) alone, on a scale {limit / fine:.0f} times finer. Where patches do not sit "
        "where the truth's do, power is there and phases are not."
    )
    return told + f'<div class="scroll"><div style="display:grid;gap:10px;grid-template-columns:{columns}">{cells}</div></div>'


def smallest(read: Finished, arm: str) -> np.ndarray:
    """The first field of an arm in the shells of the last zone."""
    return band(torch.from_numpy(read.fields(arm)[0, 0]), read.edges, read.setting.grid).numpy()


def zoomed(size: np.ndarray, side: int = 0) -> tuple[int, int, int]:
    """The square with the most small-scale activity that the inset does not cover: (row, column, side)."""
    height, width = size.shape
    side = side or max(min(height, width) // 5, 4)
    best, where = -1.0, (0, 0)
    for row in range(2, height - side - 2, 2):
        for column in range(2, width - side - 2, 2):
            covered = row + side > height // 2 and column + side > width // 2
            found = float(size[row : row + side, column : column + side].sum())
            if found > best and not covered:
                best, where = found, (row, column)
    return (*where, side)


def lines_side_by_side(read: Finished, arms: Sequence[str], labels: dict[str, str]) -> str:
    """The first test signal of one axis: truth and arms, whole and small scales alone."""
    parts = []
    for title, small in (("Signal", False), ("Its smallest scales", True)):
        tracks = []
        for arm in arms:
            if arm == "truth" or arm in drawn(read):
                y = smallest(read, arm) if small else read.fields(arm)[0, 0]
                kind = "wide" if arm == "truth" else "line"
                tracks += [Track(labels[arm], np.arange(len(y)), y, COLOURS.get(arm, 5), kind)]
        plot = fitted(partial(paths, tracks, title=title, x_title="point", y_title="value", height=280))
        parts.append(figure(plot, title, "The first test signal."))
    return GAP.join(parts)


def sweep_table(weights: Path) -> str:
    """Every try on the validation fields; nothing where the sweep was not run."""
    if not (weights / "sweep.json").is_file():
        return ""
    rows = read_json(weights / "sweep.json")
    zone = [key.removeprefix("bias_") for key in rows[0] if key.startswith("bias_")]
    lowest = {row["arm"]: min(r["score"] for r in rows if r["arm"] == row["arm"]) for row in rows}
    body = [
        [
            LABELS[row["arm"]],
            row["setting"] + (" \u25c0" if row["score"] == lowest[row["arm"]] else ""),
            fixed(row["score"], 3),
            *(f"{100 * 10 ** row[f'bias_{one}']:.0f} ({fixed(row[f'coherence_{one}'], 2)})" for one in zone[1:]),
            fixed(row["error"], 4),
        ]
        for row in sorted(rows, key=lambda row: [*LABELS].index(row["arm"]))
    ]
    head = ["", "setting", "score", *(f"{one}: kept, % (coherence)" for one in zone[1:]), "error"]
    about = (
        f"Validation trajectories, one seed, {rows[0]['images']:,} training rows each. Score: mean over zones, large scales "
        "too, of |power bias| + 1 - coherence; it holds no training weight. \u25c0: the lowest of an arm's tries."
    )
    return table(head, body, about)
