"""What the spectral study set out to reach, held against what it reached; verdicts in words; the published tables beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from diptych.compare import stats
from diptych.compare.numbers import DASH
from diptych.compare.panels import prose, table
from diptych.metrics.field_summary import PHASES_RIGHT, POWER_KEPT, reading
from diptych.recipes.spectral_data import part
from diptych.recipes.spectral_read import Finished, fixed, said, trained_arms

CEILING = 0.1
"""Margin of "the ceiling is the autoencoder's own bias" [dex]."""
PAPERS = 0.117
"""The published bias at 20 evaluations [dex]."""
WRAPPED = 'style="white-space:normal;min-width:13em"'


@dataclass(frozen=True)
class Bar:
    """One thing to reach.

    Args:
        words: what, with the number to reach. figure: what was reached. met: None where the run cannot tell.
        beside: what it is to be seen beside.
    """

    words: str
    figure: str
    met: bool | None
    beside: str = ""


def bars_table(found: Sequence[Bar], note: str) -> str:
    """The bars with met, missed or open."""
    rows = []
    for bar in found:
        kind, word = ("undecided", "open") if bar.met is None else ("equivalent", "met") if bar.met else ("worse", "missed")
        rows.append(
            f'<tr><th style="min-width:13em">{escape(bar.words)}</th><td><b>{escape(bar.figure)}</b></td>'
            f'<td class="v-{kind}"><b style="color:var(--c)">{word}</b></td><td {WRAPPED}>{escape(bar.beside)}</td></tr>'
        )
    head = "".join(f"<th>{words}</th>" for words in ("bar", "reached", "", "beside it"))
    met, missed = (sum(bar.met is state for bar in found) for state in (True, False))
    left = len(found) - met - missed
    words = f"{met} met, {missed} missed" + (f", {left} not judged by this run" if left else "") + "."
    body = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return prose(words, note) + f'<div class="scroll">{body}</div>'


def best(read: Finished) -> str:
    """The trained arm with the smallest defect, no gain applied afterwards."""
    return min(trained_arms(read.there), key=lambda arm: read.value(arm, f"defect_{read.last}"))


def reconstruction_bars(read: Finished) -> list[Bar]:
    """Of the comparison of reconstructions."""
    zone, arm = read.last, best(read)
    power, phases = (read.value(arm, f"{what}_{zone}") for what in ("retained", "coherence"))
    ends = [read.interval(arm, f"{what}_{zone}") for what in ("retained", "coherence")]
    met = POWER_KEPT[0] <= power <= POWER_KEPT[1] and phases >= PHASES_RIGHT
    found = [
        Bar(
            f"Best arm keeps {POWER_KEPT[0]:g} to {POWER_KEPT[1]:g} % of {zone} power, coherence at least {PHASES_RIGHT:g}",
            f"{said(power, ends[0], 0)} %, coherence {said(phases, ends[1], 2)}",
            met,
            f"{read.there[arm]}; MSE alone keeps {fixed(read.value('mse', f'retained_{zone}'), 0)} %, "
            f"coherence {fixed(read.value('mse', f'coherence_{zone}'), 2)}",
        )
    ]
    for metric, what in ((f"kurtosis_{zone}_gap", f"{zone} kurtosis"), ("S3_gap", "third-order structure function")):
        mine, floor = read.value(arm, metric), read.value("other", metric)
        if np.isfinite(mine) and np.isfinite(floor):
            found.append(
                Bar(
                    f"Best arm's {what} as near the truth's as that of other true fields",
                    f"{fixed(100 * mine, 1)} % off",
                    mine <= floor,
                    f"true fields of other trajectories: {fixed(100 * floor, 1)} % off",
                )
            )
    other = "spectral:generation judges it"
    found.append(Bar(f"Generation at 20 evaluations within {PAPERS} dex of the truth", DASH, None, other))
    found.append(Bar("Generation bias equals the autoencoder's own within 0.1 dex", DASH, None, other))
    found.append(Bar("At 256 x 256 on a GPU: 94 % kept, 79 % generated", DASH, None, "not run: no GPU was at hand"))
    return found


def difference(read: Finished, name: str) -> tuple[float, float, float]:
    """(generated minus reconstructed, its 95 % interval) of one autoencoder's bias in the last zone [dex].

    Mean log power on both sides, so that what a mean of logarithms loses (Jensen) cancels. Over training seeds where there are
    five or more, else over test trajectories.
    """
    made, given = (read.log_power(f"{name}_{kind}", read.last) for kind in ("made", "given"))
    off = [a - b for a, b in zip(made, given, strict=len(made) == len(given))]
    if len(off) >= 5:
        found = stats.over_replicas([float(one.mean()) for one in off])
    else:
        clusters = np.array(part(read.source, "test").clusters)
        found = stats.over_replicas([float(off[0][clusters == one].mean()) for one in sorted(set(clusters))])
    return found.value, float(found.low or 0.0), float(found.high or 0.0)


def generation_bars(read: Finished) -> list[Bar]:
    """Of the comparison of generated fields."""
    zone = read.last
    names = [arm.removesuffix("_made") for arm in read.there if arm.endswith("_made")]
    floor = read.value("other", f"bias_log_{zone}")
    off = {name: read.value(f"{name}_made", f"bias_log_{zone}") - floor for name in names}
    nearest = min(off, key=lambda name: abs(off[name]))
    found = [
        Bar(
            f"Best latents: {zone} bias of generated fields within {PAPERS} dex of the truth's own",
            f"{fixed(off[nearest], 3, sign=True)} dex",
            abs(off[nearest]) < PAPERS,
            f"{read.there[f'{nearest}_made']}; {fixed(read.value(f'{nearest}_made', 'evaluations'), 0)} evaluations",
        )
    ]
    for name in names:
        value, low, high = difference(read, name)
        found.append(
            Bar(
                f"{read.there[f'{name}_made'].removesuffix(', generated')}: generated as reconstructed to {CEILING} dex",
                f"{fixed(value, 3, sign=True)} [{fixed(low, 3, sign=True)}, {fixed(high, 3, sign=True)}]",
                low > -CEILING and high < CEILING,
                f"reconstructed {fixed(read.value(f'{name}_given', f'bias_log_{zone}'), 3, sign=True)}, "
                f"generated {fixed(read.value(f'{name}_made', f'bias_log_{zone}'), 3, sign=True)} dex",
            )
        )
    return found


def zone_table(read: Finished, arms: Sequence[str]) -> str:
    """Power kept and coherence of every zone, with the verdict in words."""
    zones = read.setting.zones.names
    kept, phased = ([f"{zone}: {what}" for zone in zones] for what in ("power kept, %", "coherence"))
    head = ["", *kept, *phased, "error of the field, %", "defect", f"{read.last} in words"]
    rows = [["truth", *["100"] * len(zones), *["1"] * len(zones), "0", "0", "right"]]
    for arm in arms:
        power = [read.value(arm, f"retained_{zone}") for zone in zones]
        phases = [read.value(arm, f"coherence_{zone}") for zone in zones]
        defect = said(read.value(arm, f"defect_{read.last}"), read.interval(arm, f"defect_{read.last}"), 2)
        words = reading(power[-1], phases[-1])
        error = fixed(100 * read.value(arm, "field_error"), 2)
        numbers = [*(fixed(p, 0) for p in power), *(fixed(c, 2) for c in phases), error]
        rows.append([read.there[arm], *numbers, defect, words])
    low, high = POWER_KEPT
    about = (
        f"Right power is {low:g} to {high:g} % kept; right phases a coherence of {PHASES_RIGHT:g} or more, wrong ones less "
        f"than 0.3. Defect: |power bias in decades| + 1 - coherence in {read.last}; noise of the right power scores 1."
    )
    return table(head, rows, about)


PUBLISHED = (
    ("MSE", 90.8, 54.1, 24.8, 79.8, 43.8, 20.0),
    ("log-spectral 1:4:6", 97.1, 92.3, 93.6, 92.5, 79.6, 79.4),
)
"""Power kept [%] in IR, DO, DD: reconstructed, then generated; arXiv:2606.11691, 256 x 256, one training seed each."""
PUBLISHED_SWAP = (
    ("MSE", "MSE", -0.042, -0.267, -0.606),
    ("log", "log", -0.013, -0.035, -0.029),
    ("log", "mse", -0.286, -0.702, -0.961),
    ("mse", "log", -0.171, -0.321, -0.228),
)
"""(encoder, decoder, bias in IR, DO, DD [dex]) of the paper's swap."""


def published(read: Finished) -> str:
    """The paper's reconstructions beside ours."""
    rows = []
    for label, *numbers in PUBLISHED:
        rows.append([f"published, {label}, 256 x 256, 32-fold", *(f"{value:.1f}" for value in numbers[:3])])
    for arm in ("mse", "log", "pre_mse", "pre_log"):
        if arm in read.there and {"IR", "DO", "DD"} <= set(read.setting.zones.names):
            kept = [fixed(read.value(arm, f"retained_{zone}"), 1) for zone in ("IR", "DO", "DD")]
            rows.append([f"here, {read.there[arm]}", *kept])
    about = (
        "arXiv:2606.11691 gives no coherence, one seed, test fields 0.09 turnovers after the training fields, and chose its "
        "checkpoint on them. Here: 64 x 64, another viscosity, other trajectories: compare the pattern, not the digits."
    )
    return table(["power kept, %", "IR", "DO", "DD"], rows, about)
