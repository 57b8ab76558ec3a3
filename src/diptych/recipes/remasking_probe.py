"""Detectors of doubtful tokens held against leave-one-out on the same states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diptych.denoise import Denoiser
from diptych.noise import Noise
from diptych.process import Masked
from diptych.sample import Bound
from diptych.samplers.decoding import probability
from diptych.samplers.remasking import leave_one_out, shadow_probability, with_shadows

SHADOWS = ("joint", "alone")


def probe(
    process: Masked,
    denoise: Denoiser,
    states: np.ndarray,
    canvas: Tensor,
    block: int,
    keys: Sequence[str],
    answers: Sequence[np.ndarray | None],
) -> np.ndarray:
    """What the detectors say of the written tokens of one open block a row.

    The state is one of the row's own, drawn among those in which a block is partly written.

    Args:
        states: answers at the start and after each step, (S + 1, N, L).
        canvas: what decoding started from, (N, prompt + L).
        block: block length.
        keys: noise keys, N of them; they choose the states.
        answers: all right answers of each row, (S, L), or None where they are not known.

    Returns:
        (N, L, 6) of float32: probability of the written token under joint shadow slots, slots that see themselves alone, exact
        leave-one-out, and the model that sees the token; the token; whether it is at `fault` (-1 where that is not known). -1
        where there is none: outside the open block.
    """
    rows, length = states.shape[1:]
    start = canvas.shape[1] - length
    found = np.full((rows, length, 6), -1.0, np.float32)
    given = states[0] != process.mask_id
    choice = Noise(tuple(keys)).uniform((1,), "probe")[:, 0].numpy()
    picked: dict[tuple[int, int], list[int]] = {}
    for row in range(rows):
        partly = [(s, b) for s in range(1, len(states)) for b in _open(states[s, row], given[row], process.mask_id, block)]
        if partly:
            picked.setdefault(partly[int(choice[row] * len(partly))], []).append(row)
    whole = canvas.numpy().copy()
    spans: dict[int, list[int]] = {}
    for (step, place), members in picked.items():
        whole[members, start:] = states[step, members]
        spans.setdefault(place, []).extend(members)
    with torch.no_grad():
        for place, members in spans.items():
            index = np.array(sorted(members))
            x = torch.from_numpy(whole[index])
            span = (start + place * block, start + (place + 1) * block)
            inside = slice(place * block, (place + 1) * block)
            bound, every = Bound(denoise, {}, len(index)), torch.arange(len(index))
            wanted = (x[:, span[0] : span[1]] != process.mask_id) & torch.from_numpy(~given[index][:, inside])
            values = [
                shadow_probability(bound(with_shadows(x, span, process.mask_id, kind), 0.5), x, span, process)
                for kind in SHADOWS
            ]
            values.append(leave_one_out(process, bound, x, every, span, wanted))
            tokens = x[:, span[0] : span[1]].masked_fill(~wanted, 0)
            values.append(probability(bound(x, 0.5)[:, span[0] : span[1]], tokens))
            wrong = [fault(whole[row, start:], answers[row], process.mask_id)[inside] for row in index]
            values += [tokens, torch.from_numpy(np.stack(wrong))]
            table = torch.stack([value.float() for value in values], -1)
            found[index, inside] = table.masked_fill(~wanted[..., None], -1.0).numpy()
    return found


def fault(state: np.ndarray, answers: np.ndarray | None, mask: int) -> np.ndarray:
    """Which tokens of a partly written answer (L,) are at fault: no right answer (S, L) holds all that is written, but one
    would without this token. 1 or 0; -1 everywhere where the right answers are not known."""
    if answers is None:
        return np.full(len(state), -1.0, np.float32)
    differs = (answers != state) & (state != mask)
    alone = differs[differs.sum(1) == 1].any(0) if len(answers) else np.zeros(len(state), bool)
    return (alone & bool((differs.sum(1) > 0).all())).astype(np.float32)


def _open(state: np.ndarray, given: np.ndarray, mask: int, block: int) -> list[int]:
    """Blocks of a state (L,) in which something is written and something is still to be."""
    masked, mine = (state == mask).reshape(-1, block), ((state != mask) & ~given).reshape(-1, block)
    return np.flatnonzero(masked.any(1) & mine.any(1)).tolist()
