"""AdamW with decay on matrices only, and the learning rate as a pure function of images seen."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Decay = Literal["constant", "cosine", "linear_tail"]


def rate(images: int, *, lr: float, batch: int, total: int, warmup: int, decay: Decay, tail: float) -> float:
    """Learning rate of the step that starts at `images` seen.

    Args:
        images: images seen before the step.
        lr: peak rate.
        batch: images a step; the first step of the warm-up already moves.
        total: images of the whole run.
        warmup: images of the linear warm-up; 0 = none.
        decay: "constant"; "cosine" to zero at `total`; "linear_tail" to zero over the last `tail` share of `total`.
        tail: share of the run the linear tail takes, in (0, 1].
    """
    warm = min(1.0, (images + batch) / warmup) if warmup else 1.0
    if decay == "constant":
        return lr * warm
    if decay == "cosine":
        done = min(1.0, max(0.0, (images - warmup) / max(1, total - warmup)))
        return lr * warm * 0.5 * (1 + math.cos(math.pi * done))
    left = max(0, total - images) / (tail * total)
    return lr * warm * min(1.0, left)


def adamw(model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the parameters that want gradients; norms, biases and other vectors are not decayed.

    With `weight_decay` 0 it is Adam. The fused kernel is taken on CPU and CUDA alike.

    Raises:
        ValueError: a model without a trainable parameter.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("model: no parameter wants a gradient; nothing to train")
    matrices = [parameter for parameter in trained if parameter.ndim >= 2] if weight_decay else []
    others = [parameter for parameter in trained if parameter.ndim < 2] if weight_decay else trained
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, eps=1e-8, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimiser's state under names, "<parameter>|<slot>", ready for safetensors."""
    return {
        f"{name}|{slot}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def restore(optimizer: torch.optim.Optimizer, model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put back what `tensors` gave, bit for bit.

    Raises:
        ValueError: state of a parameter the model has not.
    """
    parameters = dict(model.named_parameters())
    for key, value in state.items():
        name, _, slot = key.rpartition("|")
        if name not in parameters:
            raise ValueError(f"checkpoint: optimiser state of {name!r}, which the model has not; resume with the same model")
        # the step counter stays where the fused kernel wants it: beside the weights
        optimizer.state[parameters[name]][slot] = value.to(parameters[name].device)
