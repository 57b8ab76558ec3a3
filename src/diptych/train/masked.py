"""The objective of masked language models, by the number of masks: the evidence bound with less noise than a drawn time.

With the linear schedule the bound of `process.Masked.loss`, 1/t times the cross-entropy at masks, averaged over t, gives k
masks among L slots the weight 1/k, since the integral of C(L, k) t^(k-1) (1-t)^(L-k) is 1/k. So it equals the mean over k
uniform on 1 .. L of the mean cross-entropy at k random masks (Ou et al. 2024, arXiv:2406.03736; LLaDA's likelihood
evaluation, arXiv:2502.09992).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_bound(
    net: Callable[[Tensor, Tensor, Any], Tensor],
    ids: Tensor,
    asked: Tensor,
    mask_id: int,
    generator: torch.Generator,
    most: int = 0,
) -> Tensor:
    """One draw of the bound on the negative log-likelihood of the asked tokens given the others, nats a token, (B,).

    The numbers of masks are stratified over the batch. With `most` below the number asked for it bounds what the last `most`
    tokens cost when the others are given as well.

    Args:
        net: (x, t, cond) -> logits of the real tokens.
        ids: token ids, (B, L).
        asked: which tokens may be masked, (B, L) of bool, at least one a row.
        mask_id: id of the mask.
        generator: on the ids' device.
        most: the most masks in a row; 0 = all that are asked for.
    """
    rows = len(ids)
    place = (torch.arange(rows, device=ids.device) + torch.rand(rows, generator=generator, device=ids.device)) / rows
    score = torch.rand(ids.shape, generator=generator, device=ids.device)
    return bound_at(net, ids, asked, mask_id, place, score, most)


def bound_at(
    net: Callable[[Tensor, Tensor, Any], Tensor],
    ids: Tensor,
    asked: Tensor,
    mask_id: int,
    place: Tensor,
    score: Tensor,
    most: int = 0,
) -> Tensor:
    """`masked_bound` with its draws given: mean cross-entropy at the masks, (B,).

    Args:
        place: where between one mask (0) and all that may be (1), (B,) in [0, 1).
        score: the asked tokens with the lowest scores are masked, (B, L) in [0, 1).
    """
    limit = asked.sum(1)
    limit = limit.clamp(max=most) if most else limit
    masks = torch.minimum((place * limit).long(), limit - 1) + 1
    masked = (score + ~asked).argsort(1).argsort(1) < masks[:, None]
    logits = net(torch.where(masked, mask_id, ids), masks / ids.shape[1], {})
    nll = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="none").reshape(ids.shape)
    return torch.where(masked, nll, 0).sum(1) / masks
