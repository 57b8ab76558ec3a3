"""AdamW with decay on matrices only, its first moment in bfloat16 where asked; the rate as a pure function of images seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

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


class Adam16:
    """Adam without decay whose first moment is kept in bfloat16: two bytes a weight less (i1, arXiv 2606.11289, training).

    All arithmetic is float32: the moment is read, moved, used for the step, and only then rounded to nearest for keeping, so
    the step itself sees no rounding of this step's gradient. Everything is elementwise, each rank doing its own part.

    Args:
        model: its parameters that want gradients are trained.
        lr: learning rate.
        betas: decay of the two moments.

    Raises:
        ValueError: a model without a trainable parameter.
    """

    def __init__(self, model: nn.Module, lr: float, betas: tuple[float, float]) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trained:
            raise ValueError("model: no parameter wants a gradient; nothing to train")
        self.betas = betas
        self.param_groups: list[dict[str, Any]] = [{"params": trained, "lr": lr}]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every weight that has a gradient."""
        lr, (b1, b2) = self.param_groups[0]["lr"], self.betas
        moved = [parameter for parameter in self.param_groups[0]["params"] if parameter.grad is not None]
        for parameter in moved:
            if parameter not in self.state:
                self.state[parameter] = empty_state(parameter, torch.bfloat16)
        for part in _pieces(moved):
            states = [self.state[parameter] for parameter in part]
            weights, grads = [local(p) for p in part], [local(p.grad).float() for p in part if p.grad is not None]
            first, second = [local(s["exp_avg"]) for s in states], [local(s["exp_avg_sq"]) for s in states]
            for state in states:
                state["step"] += 1
            steps = [state["step"].item() for state in states]
            mean = [moment.float() for moment in first]
            torch._foreach_lerp_(mean, grads, 1 - b1)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_mul_(second, b2)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_addcmul_(second, grads, grads, 1 - b2)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_copy_(first, mean)  # pyright: ignore[reportPrivateImportUsage]
            below = torch._foreach_sqrt(second)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_div_(below, [math.sqrt(1 - b2**n) for n in steps])  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(below, EPS)  # pyright: ignore[reportPrivateImportUsage]
            scale = [-lr / (1 - b1**n) for n in steps]
            torch._foreach_addcdiv_(weights, mean, below, scale)  # pyright: ignore[reportPrivateImportUsage]


EPS = 1e-8
PIECE = 1 << 26
"""Weights handled together: few kernels, and temporary float32 copies of at most a quarter of a gibibyte each."""

Optimizer = torch.optim.AdamW | Adam16


def _pieces(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters, in runs of about `PIECE` numbers."""
    part: list[Tensor] = []
    for parameter in parameters:
        part.append(parameter)
        if sum(one.numel() for one in part) >= PIECE:
            yield part
            part = []
    if part:
        yield part


def local(tensor: Tensor) -> Tensor:
    """This rank's own part of a tensor that is cut up over ranks; any other as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # pyright: ignore[reportAttributeAccessIssue]


def empty_state(parameter: Tensor, first: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The state of a weight before its first step, cut up over ranks as the weight is.

    Args:
        parameter: the weight.
        first: number format of the first moment.
    """
    # counted where the fused kernel wants it: beside the weights; Adam16 reads it on the host at every step
    step = torch.zeros((), device="cpu" if first == torch.bfloat16 else local(parameter).device)
    moments = (torch.zeros_like(parameter, dtype=dtype, requires_grad=False) for dtype in (first, torch.float32))
    return {"step": step} | dict(zip(("exp_avg", "exp_avg_sq"), moments))


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group the rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state under names, "<parameter>|<slot>", ready for safetensors."""
    return {
        f"{name}|{slot}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def restore(optimizer: Optimizer, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `tensors` gave, bit for bit.

    Raises:
        ValueError: state of a parameter the model has not.
    """
    parameters = dict(model.named_parameters())
    for key, value in state.items():
        name, _, slot = key.rpartition("|")
        if name not in parameters:
            raise ValueError(f"checkpoint: optimiser state of {name!r}, which the model has not; resume with the same model")
        host = slot == "step" and isinstance(optimizer, Adam16)
        own = optimizer.state.setdefault(parameters[name], {})
        own[slot] = value.to("cpu" if host else parameters[name].device)
