"""A moving average of the weights: a second copy of the network that trails the trained one."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from diptych.train.optim import local

Profile = Literal["constant", "warmup", "power"]


def decay_at(step: int, decay: float, profile: Profile) -> float:
    """Weight of the old average at update `step` (1, 2, ...).

    Args:
        step: number of this update, from 1.
        decay: the decay; for "power" the relative width sigma_rel of the profile, in (0, 0.289).
        profile: "constant" is `decay` from the first update on; "warmup" is min(decay, (1 + n) / (10 + n)) with n updates
            made so far; "power" is (1 - 1/n)^(1 + gamma), Karras et al. 2024 (arXiv 2312.02696), equation 2.
    """
    if profile == "constant":
        return decay
    if profile == "warmup":
        return min(decay, step / (9 + step))
    return (1 - 1 / step) ** (1 + power_of(decay))


def power_of(width: float) -> float:
    """Exponent gamma whose power profile has relative width `width`; arXiv 2312.02696, section 3.1.

    Raises:
        ValueError: a width outside (0, 0.2886), where no positive exponent has it.
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"ema: relative width {width} of the power profile is outside (0, 0.2886); 0.05 to 0.15 is usual")
    # width^2 (g + 2)^2 (g + 3) = g + 1, a cubic in g
    square = width**-2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())


class Ema:
    """The averaged copy of a network; half-precision weights are averaged in float32.

    Args:
        model: the network that is trained; copied, never changed.
        decay: see `decay_at`.
        profile: see `decay_at`.
        copied: the copy, where the caller has made it (and cut it up over ranks as `model` is); None makes it here.

    Attributes:
        model: the copy, in evaluation mode, without gradients.
        step: updates made.
    """

    def __init__(self, model: nn.Module, decay: float, profile: Profile = "warmup", copied: nn.Module | None = None) -> None:
        decay_at(1, decay, profile)
        self.decay, self.step = decay, 0
        self.profile: Profile = profile
        self.model = (copy.deepcopy(model) if copied is None else copied).eval().requires_grad_(False)
        for parameter in self.model.parameters():
            if parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))
        # frozen weights never move, so averaging them would only cost time
        moving: list[tuple[Tensor, Tensor]] = [(a, b) for a, b in pairs if b.requires_grad]
        self._mine, self._theirs = [local(a) for a, _ in moving], [local(b) for _, b in moving]

    @torch.no_grad()
    def update(self) -> None:
        """Move the copy towards the trained network; call once after each optimiser step."""
        self.step += 1
        weight = 1 - decay_at(self.step, self.decay, self.profile)
        theirs = [b if a.dtype == b.dtype else b.to(a.dtype) for a, b in zip(self._mine, self._theirs)]
        torch._foreach_lerp_(self._mine, theirs, weight)  # pyright: ignore[reportPrivateImportUsage]
        for mine, buffer in self._buffers:
            mine.copy_(buffer)
