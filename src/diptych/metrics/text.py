"""Quality and diversity of sampled texts, several a prompt, where right answers can be told from wrong ones and counted.

Raw diversity (distinct texts, n-grams, self-BLEU) confounds two things: wrong answers differ from one another more than right
ones do. So repeats are counted among right answers alone, and a change of raw repeats is split into what validity did and what
happened among right answers.

Samples hold the answers as an array of tokens (N, L) and say in the trace which are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.metrics import base
from diptych.metrics.base import OfSums
from diptych.metrics.cost import Traced
from diptych.study import Metric, Samples

Solutions = Callable[[str], int]
"""Item -> number of its right answers."""


def pass_at_k(right: np.ndarray, count: int, k: int) -> np.ndarray:
    """Unbiased chance that one of k samples is right (Chen et al. 2021, arXiv:2107.03374): 1 - C(n - c, k) / C(n, k).

    Args:
        right: right ones among the samples of each prompt, c. count: samples a prompt, n. k: 1 to n.

    Raises:
        ValueError: k outside 1 to n.
    """
    if not 1 <= k <= count:
        raise ValueError(f"pass@{k}: there are {count} samples a prompt; ask for 1 to {count}")
    wrong = count - np.asarray(right, dtype=np.float64)
    factors = 1.0 - k / np.arange(1, count + 1)
    return np.array([1.0 if w < k else 1.0 - float(np.prod(factors[int(w) :])) for w in wrong])


def pass_at_budget(right: np.ndarray, count: int, cost: float, budget: float) -> np.ndarray:
    """pass@k with the k that a budget buys at `cost` a sample, linear between whole k, 0 to n."""
    k = min(max(budget / cost, 0.0), float(count))
    low = int(k)
    below = pass_at_k(right, count, low) if low else np.zeros(len(right))
    above = pass_at_k(right, count, min(low + 1, count))
    return below + (k - low) * (above - below)


def repeats(answers: np.ndarray) -> int:
    """Pairs of equal rows among answers (n, L)."""
    _, times = np.unique(answers, axis=0, return_counts=True) if len(answers) else (None, np.zeros(0))
    return int((times * (times - 1) // 2).sum())


def effective_number(answers: np.ndarray) -> float:
    """Exponential of the entropy of answers (n, L): how many equally frequent ones they amount to."""
    _, times = np.unique(answers, axis=0, return_counts=True)
    share = times / times.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def distinct(answers: np.ndarray, n: int = 0) -> float:
    """Share of distinct n-grams among all n-grams of answers (count, L); n = 0: of whole answers."""
    rows = answers if n == 0 else np.lib.stride_tricks.sliding_window_view(answers, n, axis=1).reshape(-1, n)
    return len(np.unique(rows, axis=0)) / len(rows)


def self_bleu(answers: np.ndarray, order: int = 4) -> float:
    """Mean BLEU of each answer (count, L) against the others (Zhu et al. 2018, arXiv:1802.01886); 1 = all alike.

    Texts have one length, so no brevity penalty; a precision of zero counts as a tenth of a match.
    """
    grams = [[Counter(zip(*(row[i:] for i in range(n)))) for row in answers.tolist()] for n in range(1, order + 1)]
    scores = []
    for i in range(len(answers)):
        logs = []
        for level in grams:
            most: Counter[Any] = Counter()
            for j, other in enumerate(level):
                if j != i:
                    most |= other
            hits, total = sum((level[i] & most).values()), sum(level[i].values())
            logs.append(np.log(max(hits, 0.1) / total))
        scores.append(np.exp(np.mean(logs)))
    return float(np.mean(scores))


def pairs(answers: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of samples of one prompt: all, both right, both wrong, equal and right, equal and wrong, (5,)."""
    n, c = len(answers), int(right.sum())
    both = [n * (n - 1) / 2, c * (c - 1) / 2, (n - c) * (n - c - 1) / 2]
    return np.array([*both, repeats(answers[right]), repeats(answers[~right])], dtype=np.float64)


def split_change(arm: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """A change of the chance that two samples are equal, and its parts, exactly: (change, validity, among right, among wrong).

    With a, b the shares of pairs both right and both wrong, and C, W the chances that such a pair is equal, the chance is
    aC + bW. "Validity" is the change of a and b at mean C and W, "among right" that of C at mean a, "among wrong" of W at b.

    Args:
        arm, baseline: summed `pairs`, (..., 5).
    """

    def shares(table: np.ndarray) -> tuple[np.ndarray, ...]:
        all_, right, wrong, equal, other = np.moveaxis(np.asarray(table, dtype=np.float64), -1, 0)
        return right / all_, _quotient(equal, right), wrong / all_, _quotient(other, wrong)

    (a1, c1, b1, w1), (a0, c0, b0, w0) = shares(arm), shares(baseline)
    validity = (a1 - a0) * (c1 + c0) / 2 + (b1 - b0) * (w1 + w0) / 2
    among_right, among_wrong = (a1 + a0) / 2 * (c1 - c0), (b1 + b0) / 2 * (w1 - w0)
    return np.stack([validity + among_right + among_wrong, validity, among_right, among_wrong], -1)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), 0.0)


def by_item(samples: Samples) -> list[np.ndarray]:
    """Rows of each item, in the order the items first come."""
    groups: dict[str, list[int]] = {}
    for i, unit in enumerate(samples.units):
        groups.setdefault(unit.item, []).append(i)
    return [np.array(rows) for rows in groups.values()]


@dataclass(frozen=True)
class PassRows:
    """Rows of pass@k, one an item."""

    k: int
    ok: str

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        right = samples.trace[self.ok] > 0
        found = [pass_at_k(np.array([right[rows].sum()]), len(rows), min(self.k, len(rows))) for rows in by_item(samples)]
        return np.array(found)


@dataclass(frozen=True)
class CollisionRows:
    """Rows of `collision`: pairs of right samples that are equal, and all pairs of right samples, one row an item."""

    answer: str
    ok: str

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        answers, right = samples.arrays[self.answer], samples.trace[self.ok] > 0
        return np.array([pairs(answers[rows], right[rows])[[3, 1]] for rows in by_item(samples)])


@dataclass(frozen=True)
class CoverageRows:
    """Rows of `coverage`: distinct right answers over what as many samples could find at most, one row an item."""

    answer: str
    ok: str
    solutions: Solutions

    def __call__(self, samples: Samples, reference: Any = None) -> np.ndarray:
        answers, right, rows = samples.arrays[self.answer], samples.trace[self.ok] > 0, []
        for index in by_item(samples):
            found = len(np.unique(answers[index][right[index]], axis=0))
            most = min(self.solutions(samples.units[index[0]].item), len(index))
            rows.append([found, max(most, 1)])
        return np.array(rows, dtype=np.float64)


def _as_is(rows: np.ndarray) -> np.ndarray:
    return rows


def _safe(sums: np.ndarray) -> np.ndarray:
    return _quotient(sums[:, 0], sums[:, 1])


share = OfSums("share", 2, _as_is, _safe)
"""Sum of column 0 over the sum of column 1; 0 where there is nothing to count."""


def accuracy(
    name: str = "accuracy", items: Sequence[str] | None = None, margin: float | None = None, label: str = "", ok: str = "ok"
) -> Metric:
    """Share of samples that are right."""
    return Metric(
        name,
        Traced(ok),
        base.accuracy,
        margin=margin,
        label=label or "accuracy",
        about="Share of samples that an exact checker calls right.",
        items=None if items is None else tuple(items),
    )


def passes(
    k: int, items: Sequence[str] | None = None, margin: float | None = None, name: str = "", label: str = "", ok: str = "ok"
) -> Metric:
    """pass@k."""
    return Metric(
        name or f"pass@{k}",
        PassRows(k, ok),
        margin=margin,
        level="item",
        label=label or f"pass@{k}",
        about=f"Chance that one of {k} samples of a prompt is right, unbiased (Chen et al. 2021).",
        items=None if items is None else tuple(items),
    )


def collision(
    items: Sequence[str] | None = None, margin: float | None = None, name: str = "collision", label: str = "",
    answer: str = "answer", ok: str = "ok",
) -> Metric:  # fmt: skip
    """Chance that two right samples of one prompt are the same answer."""
    return Metric(
        name,
        CollisionRows(answer, ok),
        share,
        better="lower",
        margin=margin,
        level="item",
        label=label or "collision",
        about="Chance that two right samples of one prompt are equal. Wrong answers do not count.",
        items=None if items is None else tuple(items),
    )


def coverage(
    solutions: Solutions, items: Sequence[str] | None = None, margin: float | None = None, name: str = "coverage",
    label: str = "", answer: str = "answer", ok: str = "ok",
) -> Metric:  # fmt: skip
    """Distinct right answers found, of those that as many samples could find."""
    return Metric(
        name,
        CoverageRows(answer, ok, solutions),
        share,
        margin=margin,
        level="item",
        label=label or "coverage",
        about="Distinct right answers among the samples of a prompt, over the number of samples or of right answers there are.",
        items=None if items is None else tuple(items),
    )


def likelihood(items: Sequence[str] | None = None, margin: float | None = None, name: str = "nll", label: str = "") -> Metric:
    """What a model bounds the cost of the samples by, from the trace; its exponential bounds the perplexity."""
    return Metric(
        name,
        Traced("nll"),
        better="lower",
        margin=margin,
        unit="nats",
        label=label or "negative log-likelihood",
        about="Bound on nats a token under a model, as the arm counted it. Low for dull text too: read it beside diversity.",
        items=None if items is None else tuple(items),
    )


METRICS = {"nll": likelihood, "accuracy": accuracy, "pass_at_k": passes, "collision": collision, "coverage": coverage}
