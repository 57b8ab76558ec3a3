"""The remasking study's own sections: answers with verdicts, frontiers, maps, mechanism, diversity, one decode step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych.compare.numbers import number
from diptych.compare.panels import figure, grid, prose, table
from diptych.compare.plot_decode import decode_strip
from diptych.compare.plot_verdicts import verdict_map
from diptych.compare.plots import Series, lines
from diptych.metrics.text import distinct, self_bleu
from diptych.recipes import remasking as recipe
from diptych.recipes.remasking_arms import Cell, known, prompt_of
from diptych.recipes.remasking_claims import claims
from diptych.recipes.remasking_decoders import rows as decoders
from diptych.recipes.remasking_detectors import detectors
from diptych.recipes.remasking_diversity import diversity
from diptych.recipes.remasking_field import Field, adjusted, interval_of, paired, told, verdict, weights
from diptych.recipes.remasking_frontier import COSTS, Matched, choices, matched
from diptych.recipes.remasking_log import replay
from diptych.recipes.remasking_published import published
from diptych.study import Panel

TRUTH = ("answers", "map", "mechanism", "detectors", "diversity", "paper")
"""Sections on answers that are right or wrong."""
UNITS = {"evaluations": "evaluations", "tokens": "processed tokens"}


@dataclass(frozen=True)
class Sections:
    """The panels of a run.

    Args:
        config: the recipe's.
    """

    config: recipe.Remasking

    def __call__(self, run: Path) -> Sequence[Panel]:
        config = self.config
        field = Field(run, {row.name: set(config.items_of(row)) for row in decoders(config.extra)})
        settings = [name for name in field.names if name.startswith("threshold-") or name == "one"]
        others = [name for name in field.names if name not in settings]
        cells = config.cells()
        judged = matched(field, others, settings, cells, recipe.margin)
        made = [
            ("answers", "What the study finds", claims(field, config, judged)),
            ("frontiers", "Accuracy at equal cost", frontiers(field, config, settings)),
            ("matched", "Every decoder against threshold decoding at equal cost", verdict_table(field, judged)),
            ("map", "Where remasking adds to the same threshold", maps(field, config)),
            ("mechanism", "What was checked, and what came of it", mechanism(field, config)),
            ("detectors", "Shadow slots against leave-one-out", detectors(field, config)),
            ("diversity", "Quality and diversity", diversity(field, config)),
            ("prose", "Prose", prose_table(field, config)),
            ("choice", "Thresholds chosen on other prompts", chosen(field, config, settings)),
            ("strip", "One prompt being written", strips(field, config)),
            ("paper", "Beside the published study", published(field, config)),
        ]
        left_out = () if config.judged() else TRUTH
        return [Panel(name, title, html) for name, title, html in made if html and name not in left_out]


def frontiers(field: Field, config: recipe.Remasking, settings: Sequence[str]) -> str:
    """Accuracy against both costs, one panel a block length; threshold decoding as a band."""
    out = []
    for task in config.named():
        for temperature in dict.fromkeys((config.cold, config.warm or config.cold)):
            figures = []
            for cost in COSTS:
                for block in config.shown(task):
                    cell = Cell(task, block, temperature, config.seeds_of(task)[0])
                    figures.append(
                        figure(
                            frontier_plot(field, settings, cell, cost),
                            f"Block {block}, by {UNITS[cost]}",
                            "Line and band: threshold decoding." if block == config.shown(task)[0] else "",
                            full=False,
                        )
                    )
            out.append(f'<h3 style="margin-top:26px">{known(task).label}, temperature {temperature:g}</h3>' + grid(figures))
    return prose(
        "Above the line a decoder does better than threshold decoding at the same cost. Costs are counted by the sampling "
        "driver: evaluations of the network, and the tokens they processed, shadow slots included. Bands are 95 % intervals "
        "over prompts."
    ) + "".join(out)


def frontier_plot(field: Field, settings: Sequence[str], cell: Cell, cost: str) -> str:
    """Threshold settings as a curve with a band, the shown decoders as points named at their end."""
    here = sorted((name for name in settings if field.has(name, cell)), key=lambda name: field.mean(name, cost, cell))
    spans = [_score(field, name, cell) for name in here]
    base = Series(
        "threshold",
        [field.mean(name, cost, cell) for name in here],
        [span[0] for span in spans],
        [span[1] for span in spans],
        [span[2] for span in spans],
    )
    families = {
        "WINO": [f"wino-{t:g}" for t in (0.5, 0.6, 0.7, 0.8, 0.9)],
        "repair": [f"repair-{t:g}" for t in (0.5, 0.7, 0.9)],
        "yours": ["yours"],
    }
    drawn = [base]
    for label, names in families.items():
        mine = sorted((n for n in names if field.has(n, cell)), key=lambda name: field.mean(name, cost, cell))
        if mine:
            drawn.append(Series(label, [field.mean(n, cost, cell) for n in mine], [field.mean(n, "score", cell) for n in mine]))
    quality = recipe.quality(cell.task)
    title = f"{quality} against {UNITS[cost]}, {recipe.told(cell)}"
    return lines(drawn, title=title, x_title=UNITS[cost], y_title=quality, width=312)


def _score(field: Field, arm: str, cell: Cell) -> tuple[float, float, float]:
    """Quality with its interval; that of an accuracy lies within 0 and 1."""
    rows = field.values(arm, "score", cell).mean(1)
    weight = weights(len(rows))
    found = interval_of(weight @ rows / weight.sum(1), len(rows))
    low, high = (found.value if end is None else end for end in (found.low, found.high))
    return (found.value, low, high) if rows.min() < 0 else (found.value, max(low, 0.0), min(high, 1.0))


def verdict_table(field: Field, judged: Sequence[Matched]) -> str:
    """Every decoder at every cell: quality, costs, difference to the frontier, verdicts."""
    out = []
    for cell in dict.fromkeys(one.cell for one in judged):
        rows = [
            (
                field.labels[one.arm],
                number(one.score, 3),
                number(one.cost["evaluations"], 2),
                number(one.cost["tokens"], 0),
                _told(one, "evaluations"),
                _told(one, "tokens"),
                one.overall,
            )
            for one in judged
            if one.cell == cell
        ]
        head = (
            "decoder",
            recipe.quality(cell.task),
            "evaluations",
            "tokens",
            "at equal evaluations",
            "at equal tokens",
            "in all",
        )
        out.append(f"<details><summary>{recipe.told(cell)}</summary>{table(head, rows)}</details>")
    return prose(
        "The difference in quality to the frontier of threshold decoding at equal cost, interpolated anew in each resample of "
        f"prompts; margin {recipe.MARGINS['accuracy']:g} (prose: {recipe.MARGINS['nll']:g} nats), Holm's adjustment over the "
        "decoders and cells of a checkpoint. Dominated: threshold decoding is as good in both units at least, better in one. "
        "Unit-dependent: better in one unit alone. Undecided cells name the number of prompts that would decide."
    ) + "".join(out)


def _told(one: Matched, cost: str) -> str:
    found, needed = one.found[cost], one.needed[cost]
    if one.verdicts[cost] == "identical":
        return "identical"
    more = f", {needed:,}" if needed else ""
    return f"{told(found)} {one.verdicts[cost]}{more}"


def prose_table(field: Field, config: recipe.Remasking) -> str:
    """Likelihood and variety of texts that are neither right nor wrong."""
    out = []
    for task in config.named():
        if task in config.judged():
            continue
        for cell in (c for c in config.cells() if c.task == task and config.is_shown(c) and config.is_first(c)):
            rows = [_prose_row(field, name, cell) for name in field.names if field.has(name, cell)]
            head = (
                "decoder",
                "nats a token",
                "perplexity",
                "distinct-4",
                "self-BLEU",
                "evaluations",
                "tokens",
                "coverage",
                "flip-flop",
            )
            out.append(f"<details><summary>{recipe.told(cell)}</summary>{table(head, rows)}</details>")
    return (
        ""
        if not out
        else prose(
            "Letters of the Python documentation, continued. There is no right answer, so quality is what the model that wrote "
            "it bounds its cost by, in nats a letter and as a perplexity. Low numbers praise dull text: distinct-4 (share of "
            "distinct runs of four letters among a prompt's samples) and self-BLEU stand beside them."
        )
        + "".join(out)
    )


def _prose_row(field: Field, name: str, cell: Cell) -> tuple[str, ...]:
    value, low, high = (-one for one in _score(field, name, cell))
    answers = field.arrays(name, "answer", cell)[..., : known(cell.task).answer_length]
    once = cell.temperature == 0
    return (
        field.labels[name],
        f"{number(value, 3)} [{number(high, 3)}, {number(low, 3)}]",
        number(float(np.exp(value)), 2),
        number(float(np.mean([distinct(rows[:1] if once else rows, 4) for rows in answers])), 3),
        "" if once else number(float(np.mean([self_bleu(rows) for rows in answers])), 3),
        number(field.mean(name, "evaluations", cell), 1),
        number(field.mean(name, "tokens", cell), 0),
        number(field.ratio(name, "covered", "asked", cell), 3),
        number(field.ratio(name, "returned", "remasks", cell), 2),
    )


def maps(field: Field, config: recipe.Remasking) -> str:
    """Paired differences of WINO to the threshold it writes by, block length x temperature."""
    asked = [(task, tau) for task in config.judged() for tau in (0.5, 0.7, 0.9)]
    keys = [(task, tau, b, t) for task, tau in asked for b in config.lengths(task) for t in config.temperatures]
    found = {}
    for task, tau, block, temperature in keys:
        cell = Cell(task, block, temperature, config.seeds_of(task)[0])
        ours, plain = (field.values(f"{name}-{tau:g}", "ok", cell) for name in ("wino", "threshold"))
        found[task, tau, block, temperature] = paired(ours, plain)
    chance = dict(zip(keys, adjusted(list(found.values()))))
    figures = []
    for task, tau in asked:
        blocks, temperatures = config.lengths(task), config.temperatures
        grid_ = [[(task, tau, b, t) for b in blocks] for t in temperatures]
        values = np.array([[found[key].value for key in line] for line in grid_])
        kinds = [[verdict(found[key], recipe.MARGINS["accuracy"], chance[key]) for key in line] for line in grid_]
        notes = [
            [f"{number(found[key].low, 3)} to {number(found[key].high, 3)}: {kind}" for key, kind in zip(line, words)]
            for line, words in zip(grid_, kinds)
        ]
        title = f"{known(task).label}, written above {tau:g}"
        svg = verdict_map(
            values, kinds, [f"T {t:g}" for t in temperatures], [str(b) for b in blocks],
            title=title, notes=notes, digits=3, x_title="block length", width=720 if len(blocks) > 4 else 350,
        )  # fmt: skip
        figures.append(figure(svg, title, full=len(blocks) > 4))
    return prose(
        "Accuracy of WINO less that of threshold decoding with the same threshold of writing: same prompts, same noise, no "
        "regard to cost. Circle: better; diamond: worse; square: equivalent or identical; hollow: undecided. Holm's adjustment "
        "over all cells."
    ) + grid(figures)


def mechanism(field: Field, config: recipe.Remasking) -> str:
    """Coverage and flip-flop against block length, and the counts behind them."""
    figures, rows = [], []
    names = [name for name in ("wino-0.5", "wino-0.7", "wino-0.9", "edit", "saber") if name in field.names]
    for task in config.judged():
        blocks = config.lengths(task)
        cells = [Cell(task, block, config.cold, config.seeds_of(task)[0]) for block in blocks]
        for title, above, below, about in (
            ("Coverage", "covered", "asked", "share of final tokens checked when they could still be reopened"),
            ("Flip-flop", "returned", "remasks", "share of reopened tokens that came back as they were"),
        ):
            series = []
            for name in names:
                points = [(c.block, field.ratio(name, above, below, c)) for c in cells if field.has(name, c)]
                held = [(float(b), share) for b, share in points if share is not None]
                if held:
                    series.append(Series(field.labels[name].partition("/")[0], [b for b, _ in held], [s for _, s in held]))
            if series:
                svg = lines(
                    series, title=f"{title}, {known(task).label}", x_title="block length", y_title=title.lower(),
                    log_x=True, width=312,
                )  # fmt: skip
                figures.append(figure(svg, f"{title}, {known(task).label}, T {config.cold:g}", about, full=False))
        for name in (n for n in field.names if n.startswith(("wino", "edit", "saber", "repair", "remdm", "path"))):
            rows += [_mechanism_row(field, name, c) for c in cells if c.block in config.shown(task) and field.has(name, c)]
    head = ("decoder", "cell", "remasks", "coverage", "flip-flop", "fixed", "broke", "against")
    about = (
        "Fixed and broke: first samples that were wrong under the plain decoder named last and are right now, and the reverse."
    )
    return grid(figures) + f"<details><summary>Counts</summary>{table(head, rows, about)}</details>"


def _mechanism_row(field: Field, name: str, cell: Cell) -> tuple[str, ...]:
    plain = plain_of(name, field)
    covered, returned = field.ratio(name, "covered", "asked", cell), field.ratio(name, "returned", "remasks", cell)
    ours = field.values(name, "ok", cell)[:, 0] > 0
    theirs = field.values(plain, "ok", cell)[: len(ours), 0] > 0
    return (
        field.labels[name],
        recipe.told(cell),
        number(field.mean(name, "remasks", cell), 2),
        number(covered, 3),
        number(returned, 2),
        str(int((ours & ~theirs).sum())),
        str(int((~ours & theirs).sum())),
        field.labels[plain],
    )


def plain_of(name: str, field: Field) -> str:
    """The decoder without remasking that one with it is built on."""
    if name.startswith("wino-bernoulli"):
        return "bernoulli"
    tau = f"threshold-{name.rpartition('-')[2]}"
    return tau if tau in field.names else "threshold-0.8" if name == "edit" else recipe.BASELINE


def chosen(field: Field, config: recipe.Remasking, settings: Sequence[str]) -> str:
    """Thresholds chosen on development prompts, reported on test prompts, and what choosing on the test would have claimed."""
    families = {"threshold": settings, "WINO": [n for n in field.names if n.startswith("wino-0.")]}
    if "yours" in field.names:
        families["yours"] = ["yours"]
    found = choices(field, families, config.cells(), recipe.margin)
    if not found:
        return ""
    rows = [
        (
            recipe.told(one.cell), field.labels[one.chosen], number(one.score, 3), number(one.evaluations, 2),
            field.labels[one.oracle], number(one.oracle_score - one.score, 3, sign=True),
        )
        for one in found
    ]  # fmt: skip
    head = ("cell", "chosen", "quality on the test", "evaluations", "chosen on the test", "what that would add")
    return prose(
        f"On {config.dev} prompts of the development split the cheapest setting within the margin of the best one is chosen. "
        "The last column is the bias that choosing on the judged prompts would bring."
    ) + table(head, rows)


def strips(field: Field, config: recipe.Remasking) -> str:
    """The prompt, among those of a cell, that one decoder reopened the most tokens of, under that decoder and its plain one."""
    out = []
    for task in config.named():
        cell = Cell(task, config.shown(task)[-1], config.cold, config.seeds_of(task)[0])
        arm = "wino-0.5"
        many = field.values(arm, "remasks", cell)[:, 0]
        ours, theirs = field.values(arm, "ok", cell)[:, 0], field.values("threshold-0.5", "ok", cell)[:, 0]
        good = np.flatnonzero((ours > theirs) & (many > 0))
        at = int(good[np.argmin(many[good])] if len(good) else np.argmax(many))
        for name in ("threshold-0.5", arm):
            svg, right = strip(field, name, cell, at)
            verdict_ = "" if task not in config.judged() else ": right" if right else ": wrong"
            words = f"{field.labels[name]}{verdict_}"
            out.append(figure(svg, f"{recipe.told(cell)}, {words}", "Rows are evaluations; lines part blocks."))
    return prose(
        "A prompt that remasking mended with the fewest reopened tokens, if there is one; else the one it reopened the most of."
    ) + grid(out)


def strip(field: Field, arm: str, cell: Cell, index: int, seed: int = 0) -> tuple[str, bool]:
    """One decode as a picture, and whether it is right."""
    task = known(cell.task)
    start = task.canvas(prompt_of(cell.item(index))[None])[0, task.start :]
    states = replay(field.arrays(arm, "log", cell)[index, seed], start, task.mask_id)
    side = int(task.answer_length**0.5)
    svg = decode_strip(
        states, task.words, task.mask_id, cell.block, title=f"prompt {index} under {field.labels[arm]}",
        groups=side if side * side == task.answer_length else 0,
    )  # fmt: skip
    return svg, bool(field.values(arm, "ok", cell)[index, seed])
