"""The decoders of the remasking study, and which cells each is judged on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diptych.samplers.adaptive import Bernoulli, EntropyBound, Factor, Klass
from diptych.samplers.decoders import decoder as named
from diptych.samplers.editing import Edit, Saber
from diptych.samplers.fixed import Fixed
from diptych.samplers.masked import Threshold
from diptych.samplers.remasking import Repair, Wino
from diptych.samplers.resampling import PathPlanning, ReMDM

BASELINE = "threshold-0.9"
TAUS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
WRITES = (0.5, 0.6, 0.7, 0.8, 0.9)
"""WINO's thresholds of writing."""
CLAIMED = {"bernoulli", "wino-bernoulli", "repair-0.5", "saber", "order-entropy"}
"""Decoders beside the swept ones that answers rest on: on every checkpoint."""
PROSE = {"repair-0.5", "saber", "entropy-bound", "order-random", "remdm-cap"}
"""Decoders beside the swept ones that write prose."""
Where = Literal["swept", "all", "whole", "few"]


@dataclass(frozen=True)
class Row:
    """One arm to be.

    Args:
        decoder: block, temperature and prompt are the item's.
        where: "swept", every cell, and development prompts; "all", every greedy cell and the shown cells; "whole", shown cells
            of one block that is the answer; "few", some prompts of the shown greedy cells.
        steps: of decoders that walk along the grid, per answer token.
        probe: also hold shadow slots against leave-one-out.
    """

    name: str
    label: str
    about: str
    decoder: Any
    where: Where = "all"
    steps: float = 1.0
    probe: bool = False

    @property
    def repeated(self) -> bool:
        """Whether it is judged on every checkpoint of a task, not the first alone."""
        return self.where == "swept" or self.name in CLAIMED

    @property
    def prose(self) -> bool:
        """Whether it writes texts that are neither right nor wrong."""
        return self.where == "swept" or self.name in PROSE


ORDERS: dict[Any, str] = {
    "top": "largest probability",
    "entropy": "entropy",
    "margin": "margin",
    "random": "chance",
    "left": "position",
}


def rows(extra: str = "") -> list[Row]:
    """The decoders, the baseline first; `extra` is one more, as file.py:name."""
    found = list(_swept())
    found += [
        Row(f"wino-alone-{t:g}", f"WINO {t:g}, slots alone", "each shadow slot sees itself only", Wino(t, shadow="alone"))
        for t in (0.5, 0.7)
    ]
    found += [
        Row("wino-exact-0.7", "WINO 0.7, exact", "exact leave-one-out: the oracle", Wino(0.7, shadow="exact"), "few"),
        Row("bernoulli", "Bernoulli", "writes with probability confidence", Bernoulli()),
        Row("wino-bernoulli", "Bernoulli + WINO", "the same, verified by shadow slots", Wino(unmask="bernoulli")),
        *(Row(f"fixed-{n}", f"{n} a step", f"the {n} most confident tokens at once", Fixed(n)) for n in (2, 4)),
        Row("factor", "factor 1", "Fast-dLLM's factor rule", Factor()),
        Row("entropy-bound", "EB 0.1", "as many tokens as 0.1 nats of joint entropy allow", EntropyBound(0.1)),
        Row("klass", "KLASS", "confident and stable over two steps", Klass()),
        Row("saber", "Saber", "adaptive writing with backtracking", Saber()),
        Row("edit", "edit to mask", "reopens tokens that the model, seeing them, doubts", Edit(0.8)),
        *(_repair(t) for t in (0.5, 0.7, 0.9)),
        Row("remdm-cap", "ReMDM cap", "remasks at random by schedule", ReMDM("cap"), "whole"),
        Row("remdm-conf", "ReMDM conf", "remasks the doubtful by schedule", ReMDM("conf"), "whole"),
        Row("path", "P2", "keeps the best scored tokens at each step", PathPlanning(), "whole", 0.5),
        *(
            Row(f"order-{order}", f"one, by {words}", "one token a step in another order", Fixed(1, order), "whole")
            for order, words in ORDERS.items()
        ),
    ]
    if extra:
        found.append(Row("yours", extra.rpartition(":")[2], f"{Path(extra).name}", named(extra), "swept"))
    return found


def _swept() -> Iterable[Row]:
    """Threshold decoding and WINO over their thresholds of writing: what frontiers and maps are made of."""
    for t in (0.9, *(tau for tau in TAUS if tau != 0.9)):
        yield Row(f"threshold-{t:g}", f"threshold {t:g}", f"writes all above {t:g}", Threshold(t), "swept")
    yield Row("one", "one a step", "the most confident token alone", Fixed(1), "swept")
    for t in WRITES:
        about = f"writes above {t:g}, reopens below 0.9"
        yield Row(f"wino-{t:g}", f"WINO {t:g}/0.9", about, Wino(t), "swept", probe=t == 0.7)


def _repair(tau: float) -> Row:
    about = f"draft above {tau:g}, one check of it all, refill above 0.9"
    return Row(f"repair-{tau:g}", f"repair after {tau:g}", about, Repair(tau))
