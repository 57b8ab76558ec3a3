"""Per-row training losses, in float32 whatever the network computes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def mean_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error averaged over all but the first axis: (B, ...) and (B, ...) to (B,), in float32.

    Raises:
        ValueError: shapes that differ; broadcasting would hide it.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"loss: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def rectified_flow(model: Callable[[Tensor, Tensor, Any], Tensor], x0: Tensor, cond: Any, t: Tensor, eps: Tensor) -> Tensor:
    """Flow matching on the straight path x = (1 - t) x0 + t eps, whose flow is eps - x0; arXiv 2209.03003, equation 1.

    Args:
        model: predicts the flow dx/dt from (x, t, cond).
        x0: clean data, (B, ...).
        cond: whatever the model takes beside x and t.
        t: times, (B,), in [0, 1]: 0 = data, 1 = noise.
        eps: standard normal noise, shaped as x0.

    Returns:
        Mean squared error of each row, (B,).
    """
    along = t.view(-1, *[1] * (x0.ndim - 1))
    return mean_squared(model(torch.lerp(x0, eps, along), t, cond), eps - x0)
