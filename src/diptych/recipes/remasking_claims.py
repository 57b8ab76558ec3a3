"""What the remasking study answers: the published findings and five claims of ours, each with a verdict on every task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diptych.compare.panels import figure, grid, prose, table
from diptych.compare.stats import FEWEST, Interval, needed
from diptych.recipes.remasking_arms import Cell, known
from diptych.recipes.remasking_decoders import BASELINE
from diptych.recipes.remasking_detectors import flags
from diptych.recipes.remasking_diversity import change, collisions
from diptych.recipes.remasking_field import Field, adjusted, beyond, interval_of, paired, share_of, told, verdict, weights
from diptych.recipes.remasking_frontier import Matched

if TYPE_CHECKING:
    from diptych.recipes.remasking import Remasking

STRUCTURAL, HIDDEN, LITTLE = 0.10, 0.20, 0.02
"""Coverage below which a null is structural; by how much agreement must exceed recall to hide it; a small change of collisions.

Set before any judged prompt was decoded.
"""
WINOS = ("wino-0.5", "wino-0.6", "wino-0.7", "wino-0.8", "wino-0.9")


Answer = tuple[str, str]
"""What is said, and the numbers behind it."""


def claims(field: Field, config: Remasking, judged: Sequence[Matched]) -> str:
    """The table of answers: each claim on each task, asked of each of its checkpoints."""
    found = {
        task: [
            answers(field, config, [one for one in judged if one.cell.replica == seed], task, seed)
            for seed in config.seeds_of(task)
        ]
        for task in config.judged()
    }
    head = ("claim", *(known(task).label for task in found))
    lines = [
        (claim, *(_together([one[claim][0] for one in made]) for made in found.values()))
        for claim in (next(iter(found.values()))[0] if found else ())
    ]
    cards = {
        task: [
            figure(
                prose(*(_numbered(seed, one[claim], len(made)) for seed, one in zip(config.seeds_of(task), made))),
                claim,
                full=False,
            )
            for claim in made[0]
        ]
        for task, made in found.items()
    }
    return (
        prose(
            "Each verdict follows a rule fixed before the run and holds for these models on these tasks. Where the rule's "
            "interval straddles its bound the verdict is undecided. Where a task has several models, trained from different "
            "seeds, each is asked, and the count says how many answer so."
        )
        + table(head, lines)
        .replace("<td>", '<td style="white-space:normal">')
        .replace("<tr><th>", '<tr><th style="min-width:13em">')
        + "".join(
            f"<details><summary>{known(task).label}: the numbers</summary>{grid(made)}</details>"
            for task, made in cards.items()
        )
    )


def answers(field: Field, config: Remasking, judged: Sequence[Matched], task: str, replica: int) -> dict[str, Answer]:
    """What one checkpoint answers, by claim."""
    shown = config.shown(task)
    short, whole = (Cell(task, b, config.cold, replica) for b in (shown[0], shown[-1]))
    brief, hot = (Cell(task, b, config.warm, replica) for b in (shown[0], shown[-1]))
    found = {
        "Paper: at short blocks remasking brings little or nothing": _same(field, short),
        "Paper: it repairs part of the noise of sampling": _noise(field, brief, hot),
        "Paper: it costs diversity": _loss(field, hot),
        "Paper: it helps a stochastic unmasker more": _stochastic(field, whole),
        "C1: the null at short blocks is structural, nothing is checked": _structural(field, short),
        "C2: the gain at long blocks depends on the unit of cost": _unit(judged, whole),
        "C3: order makes the collapse, remasking adds little to it": _order(field, hot),
        "C4: agreement of shadow slots hides their recall": _hidden(field, whole),
        "C5: one global repair helps fast drafts at any block length": _repair(judged, task, config.cold, shown),
    }
    if min(len(field.values(BASELINE, "ok", cell)) for cell in (short, whole, brief, hot)) < FEWEST:
        return dict.fromkeys(found, ("too few prompts", f"Fewer than {FEWEST} of a cell say nothing."))
    return found


def _together(said: Sequence[str]) -> str:
    """The answers of several checkpoints in one."""
    counts = Counter(said)
    if len(said) == 1:
        return said[0]
    return "; ".join(f"{words} ({count} of {len(said)})" for words, count in counts.most_common())


def _numbered(replica: int, answer: Answer, many: int) -> str:
    model = f"Model {replica}, " if many > 1 else ""
    return f"{model}{answer[0]}. {answer[1]}"


def _pairs_at_equal_tau(field: Field, cell: Cell) -> dict[str, Interval]:
    found = {}
    for name in WINOS:
        tau = f"threshold-{name.removeprefix('wino-')}"
        if field.has(name, cell) and field.has(tau, cell):
            found[name] = paired(field.values(name, "ok", cell), field.values(tau, "ok", cell))
    return found


def _listed(field: Field, found: dict[str, Interval]) -> str:
    return "; ".join(f"{field.labels[name]} {told(one)}" for name, one in found.items())


def _same(field: Field, cell: Cell) -> Answer:
    """Equivalent to the same threshold without remasking, for every tau1?"""
    from diptych.recipes.remasking import MARGINS

    found = _pairs_at_equal_tau(field, cell)
    chance = adjusted(list(found.values()))
    kinds = [verdict(one, MARGINS["accuracy"], p) for one, p in zip(found.values(), chance)]
    numbers = f"block {cell.block}: {_listed(field, found)}"
    if {*kinds} <= {"equivalent", "identical"}:
        return "confirmed: " + " and ".join(sorted({*kinds})), numbers
    if "better" in kinds:
        return "refuted", numbers
    unsettled = [one for one, kind in zip(found.values(), kinds) if kind == "undecided"]
    prompts = [n for one in unsettled if (n := needed(one, MARGINS["accuracy"], len(found))) is not None]
    return "undecided", numbers + (f"; {max(prompts):,} prompts would decide" if prompts else "")


def _noise(field: Field, short: Cell, whole: Cell) -> Answer:
    from diptych.recipes.remasking import MARGINS

    if whole.temperature == 0:
        return "not asked", "no temperature above 0"
    parts, kinds = [], []
    for cell in (short, whole):
        found = {k: v for k, v in _pairs_at_equal_tau(field, cell).items() if k in ("wino-0.5", "wino-0.7")}
        chance = adjusted(list(found.values()))
        kinds.append({verdict(one, MARGINS["accuracy"], p) for one, p in zip(found.values(), chance)})
        parts.append(f"block {cell.block}: {_listed(field, found)}")
    gains = ["better" in one for one in kinds]
    said = (
        "confirmed" if all(gains) else "confirmed at the long block alone" if gains[1] else "confirmed at the short block alone"
    )
    if not any(gains):
        said = "refuted" if all(one <= {"equivalent", "identical", "worse"} for one in kinds) else "undecided"
    return said, "; ".join(parts)


def _stochastic(field: Field, cell: Cell) -> Answer:
    from diptych.recipes.remasking import MARGINS

    found = paired(field.values("wino-bernoulli", "ok", cell), field.values("bernoulli", "ok", cell))
    more = field.mean("wino-bernoulli", "evaluations", cell) - field.mean("bernoulli", "evaluations", cell)
    said = {"better": "confirmed", "worse": "refuted"}.get(verdict(found, MARGINS["accuracy"]), "undecided")
    return said, f"Bernoulli + WINO less Bernoulli {told(found)} for {more:+.2f} evaluations, block {cell.block}"


def _loss(field: Field, cell: Cell) -> Answer:
    """Two samples alike more often, and is that so among right ones?"""
    if cell.temperature == 0 or field.values("wino-0.5", "ok", cell).shape[1] < 2:
        return "not asked", "needs a temperature and several samples"
    raw, parts, kinds, inside = [], [], [], []
    for tau in ("0.5", "0.7"):
        total, validity, right, _ = change(field, f"wino-{tau}", f"threshold-{tau}", cell)
        raw.append(beyond(total, 0.0))
        within = collisions(field, f"wino-{tau}", f"threshold-{tau}", cell)
        inside.append(beyond(within, 0.0))
        kinds.append(validity.value)
        parts.append(
            f"WINO {tau}: two samples alike {told(total)}, of it by validity {told(validity)}, among right {told(right)}; "
            f"collision of right ones {told(within)}"
        )
    if "above" in inside:
        said = "confirmed, among right answers too"
    elif "above" in raw:
        said = "confirmed on raw repeats alone"
    else:
        said = "undecided" if "undecided" in raw else "refuted"
    return said, "; ".join(parts)


def _structural(field: Field, cell: Cell) -> Answer:
    rows = [name for name in WINOS if field.has(name, cell)]
    found = {
        name: share_of(field.values(name, "covered", cell).mean(1), field.values(name, "asked", cell).mean(1)) for name in rows
    }
    where = {beyond(one, STRUCTURAL) for one in found.values()}
    said = "holds" if where == {"below"} else "does not hold" if where == {"above"} else "holds for some thresholds"
    return said, f"block {cell.block}, coverage: {'; '.join(f'{n} {told(one, sign=False)}' for n, one in found.items())}"


def _unit(judged: Sequence[Matched], cell: Cell) -> Answer:
    mine = [one for one in judged if one.cell == cell and one.arm in WINOS]
    kinds = [one.overall for one in mine]
    if "better" in kinds:
        said = "does not hold: better in both units"
    elif "unit-dependent" in kinds:
        said = "holds"
    else:
        said = "does not hold: no gain in either unit" if "undecided" not in kinds else "undecided"
    numbers = "; ".join(
        f"{one.arm} {told(one.found['evaluations'])} by evaluations, {told(one.found['tokens'])} by tokens: {one.overall}"
        for one in mine
    )
    return said, f"block {cell.block}: {numbers}"


def _order(field: Field, cell: Cell) -> Answer:
    if cell.temperature == 0 or not field.has("order-entropy", cell) or field.values("one", "ok", cell).shape[1] < 2:
        return "not asked", "needs a temperature and several samples"
    order = collisions(field, "one", "order-entropy", cell)
    added = collisions(field, "wino-0.7", "threshold-0.7", cell)
    first, second = beyond(order, 0.0), beyond(added, LITTLE)
    said = (
        "holds" if (first, second) == ("above", "below") else "does not hold" if "above" in second or first == "below" else ""
    )
    return said or "undecided", (
        f"collision, one token a step: by the drawn token's probability less by entropy {told(order)}; "
        f"WINO 0.7 less threshold 0.7 {told(added)}; block {cell.block}, T {cell.temperature:g}"
    )


def _hidden(field: Field, cell: Cell) -> Answer:
    counts = flags(field, "wino-0.7", cell)
    if not counts["flagged"].any():
        return "not asked", "leave-one-out doubts nothing"
    weight = weights(len(counts["tokens"]))

    def quotient(a: str, b: str) -> np.ndarray:
        below = weight @ counts[b]
        return np.where(below > 0, (weight @ counts[a]) / np.where(below > 0, below, 1), 0.0)

    agree, recall = quotient("joint agree", "tokens"), quotient("joint hits", "flagged")
    gap = interval_of(agree - recall, len(counts["tokens"]))
    said = {"above": "holds", "below": "does not hold"}.get(beyond(gap, HIDDEN), beyond(gap, HIDDEN))
    return said, f"agreement {agree[0]:.3f}, recall {recall[0]:.3f}, difference {told(gap)}; block {cell.block}"


def _repair(judged: Sequence[Matched], task: str, cold: float, shown: Sequence[int]) -> Answer:
    cells = [(task, block, cold) for block in shown]
    mine = [one for one in judged if one.arm == "repair-0.5" and one.cell[:3] in cells]
    kinds = [one.overall for one in mine]
    if all(kind == "better" for kind in kinds):
        said = "holds"
    elif {"dominated", "worse"} & {*kinds}:  # one counterexample refutes what is said of any block length
        lost = [str(one.cell.block) for one in mine if one.overall in ("dominated", "worse")]
        said = f"does not hold: worse at block {', '.join(lost)}"
    else:
        won = [str(one.cell.block) for one in mine if one.overall == "better"]
        said = f"holds at block {', '.join(won)} alone" if won else "undecided" if "undecided" in kinds else "does not hold"
    return said, "; ".join(
        f"block {one.cell.block}: {told(one.found['evaluations'])} by evaluations, {told(one.found['tokens'])} by tokens"
        for one in mine
    )
