"""Samplers of masked diffusion: the process's own reverse, a fixed quota a step, and a confidence threshold.

x holds token ids (B, L); tokens that are not masks at the start are given and never change. Every rule ends without masks.
Rules that adapt how many tokens a step writes are in adaptive.py; those that reopen written tokens in remasking.py, editing.py
and resampling.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from diptych.noise import Noise
from diptych.process import Masked
from diptych.sample import Bound
from diptych.samplers.decoding import Look, Order, Steps, blocks, check, see, share, top, walk, write


@dataclass(frozen=True)
class Ancestral:
    """The reverse kernel of the process along the grid (Sahoo et al. 2024, arXiv:2406.07524); one evaluation a step.

    Raises:
        ValueError: a grid that does not end at 0, where every mask is revealed.
    """

    def __call__(self, process: Masked, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        if grid[-1] != 0:
            raise ValueError(f"masked ancestral: the grid ends at {float(grid[-1]):g} and would leave masks; end it at 0")
        for step, (t, u) in enumerate(pairwise(grid.double().tolist())):
            now, then = torch.full((1,), t, dtype=torch.float64), torch.full((1,), u, dtype=torch.float64)
            x = process.reverse(x, now, then, denoise(x, t), noise.at(step))
            yield x, u


@dataclass(frozen=True)
class Quota:
    """Semi-autoregressive blocks with a fixed number of tokens a step, the best scored first (LLaDA, arXiv:2502.09992).

    The grid's steps are shared out equally over the blocks, and a block's masks equally over its steps, the remainders first.

    Args:
        block: block length; 0 = the whole answer.
        temperature: of the token draw.
        order: the score, see `decoding.ORDERS`; "left" is left to right, "random" any order.
        prompt: given positions before the answer.
        late: tokens written last whatever their score (LLaDA's end-of-text, which padding has made over-confident).
        upstream: reproduce two published slips: LLaDA's loop forgets `late` at temperatures above 0 (it edits a copy of the
            scores), and KLASS's order by entropy writes the most uncertain first.

    Raises:
        ValueError: a negative temperature; an unknown order; fewer steps than blocks.
    """

    block: int = 0
    temperature: float = 0.0
    order: Order = "confidence"
    prompt: int = 0
    late: tuple[int, ...] = ()
    upstream: bool = False

    def __post_init__(self) -> None:
        check(temperature=self.temperature, order=self.order)

    def __call__(self, process: Masked, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        spans = blocks(x.shape[1] - self.prompt, self.block, self.prompt)
        steps, step = len(grid) - 1, 0
        if steps < len(spans):
            raise ValueError(f"quota: {steps} steps for {len(spans)} blocks; give each block a step, or make blocks longer")
        everyone = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for n, span in enumerate(spans):
            masked = (x[:, span[0] : span[1]] == process.mask_id).sum(1)
            turns = steps // len(spans) + (n < steps % len(spans))
            for i in range(turns):
                look = see(process, denoise, x, everyone, span, noise, step, self.temperature)
                count = masked // turns + (i < masked % turns)
                x = write(x, look.rows, span[0], torch.where(top(self._score(look), look.masked, count), look.tokens, look.ids))
                step += 1
                yield x, share(x, process)

    def _score(self, look: Look) -> Tensor:
        score = look.score(self.order, self.temperature)
        if self.upstream and self.order == "entropy":
            score = -score
        return demoted(score, look, () if self.upstream and self.temperature > 0 else self.late)


@dataclass(frozen=True)
class Threshold:
    """Blocks in which every mask whose score is above `tau` is written, and always the best one (Fast-dLLM, arXiv:2505.22618).

    Args:
        tau: threshold on the score.
        block: block length; 0 = the whole answer.
        temperature: of the token draw.
        order: the score, a probability: "confidence" (LLaDA), "tempered" (Dream) or "top".
        prompt: given positions before the answer.
        cap: most tokens a step; 0 = no cap.

    Raises:
        ValueError: a negative temperature or cap; an order that is no probability.
    """

    tau: float = 0.9
    block: int = 0
    temperature: float = 0.0
    order: Order = "confidence"
    prompt: int = 0
    cap: int = 0

    def __post_init__(self) -> None:
        check(temperature=self.temperature, order=self.order)
        if self.order not in ("confidence", "tempered", "top"):
            raise ValueError(f"threshold: order {self.order!r} is no probability; use confidence, tempered or top")
        if self.cap < 0:
            raise ValueError(f"threshold: cap {self.cap} is negative; 0 means none")

    def __call__(self, process: Masked, denoise: Bound, x: Tensor, grid: Tensor, noise: Noise) -> Steps:
        def select(look: Look) -> Tensor:
            score = look.score(self.order, self.temperature)
            above = (score > self.tau) & look.masked
            cap = torch.full((len(above),), self.cap or above.shape[1], device=above.device)
            return top(score, above, cap)

        yield from walk(process, denoise, x, noise, select, block=self.block, prompt=self.prompt, temperature=self.temperature)


def demoted(score: Tensor, look: Look, late: tuple[int, ...]) -> Tensor:
    """The score with positions whose drawn token is one of `late` moved behind all others, in their own order."""
    if not late:
        return score
    behind = torch.isin(look.tokens, torch.tensor(late, device=score.device))
    return torch.where(behind, score - 1e6, score)


SAMPLERS = {"ancestral": Ancestral, "quota": Quota, "threshold": Threshold}
