"""The report's own sections of the further spectral studies: generated fields, cost against fidelity, swapped halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import numpy as np

from diptych.compare.numbers import DASH
from diptych.compare.panels import figure, grid, image, prose, table
from diptych.compare.plot_paths import Track, paths
from diptych.files import png
from diptych.metrics.field_summary import reading
from diptych.recipes.least_action_panels import fitted
from diptych.recipes.spectral_bars import PUBLISHED, PUBLISHED_SWAP, bars_table, generation_bars
from diptych.recipes.spectral_data import Source
from diptych.recipes.spectral_film import samples_appear
from diptych.recipes.spectral_models import LABELS, trained_in
from diptych.recipes.spectral_panels import GAP, NOTE, spectra
from diptych.recipes.spectral_pictures import joined, tile
from diptych.recipes.spectral_read import Finished, fixed, said
from diptych.recipes.spectral_swap import PAIRS
from diptych.study import Panel

SHOWN = 4
"""Generated fields an arm that are drawn."""


@dataclass(frozen=True)
class GenerationPanels:
    """Makes the sections of spectral:generation from its folder."""

    weights: Path
    source: Source

    def __call__(self, run: Path) -> Sequence[Panel]:
        read = Finished.read(run, self.weights, self.source)
        made = [arm for arm in read.there if arm.endswith("_made")]
        with_flow = {one.name: one for one in reversed(trained_in(self.weights)) if one.flow}
        chosen = next((name for name in ("pre_mix", "pre_log", "mse") if name in with_flow), None)
        plane = read.fields("truth").ndim == 4
        sections = [
            ("bars", "What was to be reached", bars_table(generation_bars(read), NOTE)),
            ("kept", "Power and structure", made_table(read)),
            ("made", "Generated fields", made_fields(read, made)),
            ("spectra", "Spectra", spectra(read, made, paired=False)),
            (
                "appear",
                "Samples appear",
                samples_appear(read, with_flow[chosen]) if chosen and plane else "",
            ),
        ]
        return [Panel(name, title, html) for name, title, html in sections if html]


def made_table(read: Finished) -> str:
    """Every arm: power kept against the truth's mean spectrum, structure, the paper's temperature; the published beside."""
    zones, last = read.setting.zones.names, read.last
    kept = [f"{zone}: kept, %" for zone in zones]
    head = ["", *kept, f"{last} bias, dex", f"{last} kurtosis", "S3 / truth's", "T", f"{last} in words"]
    truth = read.compared("other", paired=False)
    true_kurtosis = truth.zones[-1].kurtosis[1]
    rows = []
    floor = read.value("other", f"bias_log_{last}")
    for arm in read.there:
        power = [read.value(arm, f"retained_ratio_{zone}") for zone in zones]
        bias = said(read.value(arm, f"bias_log_{last}") - floor, None, 3, sign=True)
        kurtosis = read.value(arm, f"kurtosis_{last}")
        third = read.value(arm, "S3") / read.value("other", "S3")
        spread = read.value(arm, "spread")
        words = reading(power[-1], None, (kurtosis, true_kurtosis))
        temperature = fixed(spread**-0.5, 3) if arm.endswith(("_made", "_warm")) else DASH
        cells = [*(fixed(one, 0) for one in power), bias, fixed(kurtosis, 1), fixed(third, 2), temperature, words]
        rows.append([read.there[arm], *cells])
    for label, *numbers in PUBLISHED:
        empty = [DASH, DASH, DASH, DASH, DASH]
        rows.append([f"published, {label}, prior widened", *(f"{one:.1f}" for one in numbers[3:]), *empty])
    about = (
        "Kept: ratio of mean spectra. Bias: mean log power, less that of true fields of other trajectories "
        f"({fixed(floor, 3)} dex against the mean spectrum). The truth's {last} kurtosis is {fixed(true_kurtosis, 1)}; a "
        "Gaussian field has 3, and no S3. T: the factor by which the prior would have to be wider (published: 1.15 and 1.17); "
        "it is 1 unless a row says so."
    )
    return table(head, rows, about)


def made_fields(read: Finished, arms: Sequence[str]) -> str:
    """The first generated fields of every arm, and true ones, on one colour scale; chosen by their place."""
    truth = read.fields("truth")
    if truth.ndim != 4:
        return ""
    limit = float(np.quantile(np.abs(truth), 0.997))
    step = max(len(truth) // SHOWN, 1)
    labels = {"truth": "truth", **read.there}
    figures = []
    for arm in ["truth", *arms, *(one for one in ("random",) if one in read.there)]:
        some = read.fields(arm)[::step][:SHOWN, 0]
        tiles = [tile(one, limit, 3) for one in some]
        sheet = joined([tiles[:2], tiles[2:]]) if len(tiles) == SHOWN else joined([tiles])
        shown = image(png(sheet), "png", f"{labels[arm]}: {len(tiles)} fields").replace("<img ", '<img style="width:100%" ', 1)
        figures.append(figure(shown, labels[arm], full=False))
    return grid(figures)


@dataclass(frozen=True)
class CostPanels:
    """Makes the sections of spectral:integrators from its folder."""

    weights: Path
    source: Source

    def __call__(self, run: Path) -> Sequence[Panel]:
        read = Finished.read(run, self.weights, self.source)
        names = list(dict.fromkeys(arm.rsplit("_", 2)[0] for arm in read.there if arm.rsplit("_", 1)[-1].isdigit()))
        return [Panel("fidelity", "Cost against fidelity", GAP.join(cost_figure(read, name) for name in names))]


def cost_figure(read: Finished, name: str) -> str:
    """Bias of the last zone over evaluations, a curve a rule, over the bias of the same autoencoder's reconstructions."""
    floor = read.value("other", f"bias_log_{read.last}")
    tracks, most = [], 1.0
    for colour, rule in enumerate(("euler", "heun", "rk4"), 1):
        points = sorted(
            (read.value(arm, "evaluations"), read.value(arm, f"bias_log_{read.last}") - floor)
            for arm in read.there
            if arm.startswith(f"{name}_{rule}_")
        )
        if points:
            x, y = np.array(points).T
            most = max(most, float(x.max()))
            tracks += [Track(rule, x, y, colour), Track("", x, y, colour, "dot")]
    own = read.value(f"{name}_given", f"bias_log_{read.last}") - floor
    tracks.insert(0, Track("its own reconstructions", np.array([1.0, most]), np.array([own, own]), 0, "wide"))
    titles = {"x_title": "evaluations of the network", "y_title": f"{read.last} bias, dex"}
    draw = partial(paths, tracks, title=f"cost, {LABELS[name]}", height=280, **titles)
    about = "Mean log power less that of true fields of other trajectories; one training seed."
    return figure(fitted(draw), f"{LABELS[name]}: bias against evaluations", about)


@dataclass(frozen=True)
class SwapPanels:
    """Makes the section of spectral:swap from its folder."""

    weights: Path
    source: Source

    def __call__(self, run: Path) -> Sequence[Panel]:
        read = Finished.read(run, self.weights, self.source)
        return [Panel("swap", "Encoder, decoder or both", swap_tables(read))]


def swap_tables(read: Finished) -> str:
    """A table a pair of losses, and in words which half carries the gain."""
    zones = read.setting.zones.names
    head = ["", *(f"{zone}: bias, dex (coherence)" for zone in zones), "error"]
    parts = []
    for one, two in PAIRS:
        arms = [arm for arm in read.there if arm in (one, two) or is_of(arm, one, two)]
        rows = []
        for arm in arms:
            cells = [
                f"{fixed(read.value(arm, f'bias_{zone}'), 3, sign=True)} ({fixed(read.value(arm, f'coherence_{zone}'), 2)})"
                for zone in zones
            ]
            rows.append([read.there[arm], *cells, fixed(read.value(arm, "field_error"), 4)])
        parts.append(
            f"<h3>{escape(LABELS[one])} and {escape(LABELS[two])}</h3>" + prose(carried(read, one, two)) + table(head, rows)
        )
    rows = [
        [f"encoder {encoder}, decoder {decoder}", *(fixed(one, 3, sign=True) for one in biases)]
        for encoder, decoder, *biases in PUBLISHED_SWAP
    ]
    return (
        GAP.join(parts)
        + "<h3>Published</h3>"
        + table(["raw swaps", "IR", "DO", "DD"], rows, "arXiv:2606.11691; no coherence given.")
    )


def is_of(arm: str, one: str, two: str) -> bool:
    """Whether a swap's name puts these two together."""
    pairs = {f"{a}_{b}_{how}" for a, b in ((one, two), (two, one)) for how in ("raw", "adapter")}
    halves = {f"{half}_{a}_on_{b}" for half in ("encoder", "decoder") for a, b in ((one, two), (two, one))}
    return arm in pairs | halves


def carried(read: Finished, plain: str, spectral: str) -> str:
    """Which half must be trained with the spectral loss for the power to come back, and for the phases."""
    zone = read.last
    whole = {arm: read.value(arm, f"bias_{zone}") for arm in (plain, spectral)}
    halves = {half: f"{half}_{spectral}_on_{plain}" for half in ("decoder", "encoder")}
    if not set(halves.values()) <= set(read.there):
        return "The halves were not trained anew; raw swaps alone cannot tell missing information from other coordinates."
    gain = abs(whole[plain]) - abs(whole[spectral])
    parts = []
    for half, arm in halves.items():
        back = abs(whole[plain]) - abs(read.value(arm, f"bias_{zone}"))
        share = fixed(100 * back / gain, 0) if abs(gain) > 1e-6 else DASH
        phases = fixed(read.value(arm, f"coherence_{zone}"), 2)
        parts.append(
            f"the spectral loss on the {half} alone, the other half frozen as plain squared error left it, gives {share} % of "
            f"the gain in {zone} power, at a coherence of {phases}"
        )
    ends = ", ".join(f"{fixed(read.value(arm, f'coherence_{zone}'), 2)} ({LABELS[arm]})" for arm in (plain, spectral))
    return f"Trained anew: {'; '.join(parts)}. The whole autoencoders' coherences: {ends}."
