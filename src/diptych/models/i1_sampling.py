"""What a sampler of `I1` keeps over its steps: everything that depends on neither x nor t."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.denoise import Cond, Denoiser, parameterize
from diptych.guide import Guidance
from diptych.process import Gaussian
from diptych.samplers.arm import loaded
from diptych.study import Unit

NULL = "null_"


def prepared(net: Any, cond: Cond, size: tuple[int, int]) -> dict[str, Tensor]:
    """The adapter's output and the rotary angles of both branches of guidance, made once for all steps.

    Text columns are cut to the longest prompt at hand, so prompts of like length belong in one batch.

    Args:
        net: an `I1`.
        cond: "text" (B, L, C) and "text_mask" (B, L).
        size: height and width of the latents.

    Returns:
        Conditions for the network, and those of the null text under "null_...", for `ClassifierFree(strength, stored_null)`.
    """
    rows = len(cond["text_mask"])
    null = torch.arange(2 * rows, device=cond["text_mask"].device) >= rows
    with torch.no_grad():
        both = net.prepare(
            {**{name: torch.cat([value, value]) for name, value in cond.items()}, "null": null}, size, max(1, net.trim)
        )
    return {name: value[:rows] for name, value in both.items()} | {NULL + name: value[rows:] for name, value in both.items()}


def stored_null(cond: Cond) -> Cond:
    """The unconditional twin that `prepared` made."""
    return {name.removeprefix(NULL): value for name, value in cond.items() if name.startswith(NULL)}


@dataclass(frozen=True)
class OnFlow:
    """A guidance that acts on the flow instead of x0_hat. Mixing is the same on both; rescaling, as i1 does it, is not.

    Args:
        guidance: `ClassifierFree` with a rescale.
        process: turns one into the other.
    """

    guidance: Guidance
    process: Gaussian = Gaussian()

    def __call__(self, denoise: Denoiser) -> Denoiser:
        guided = self.guidance(lambda x, t, cond: self.process.flow(x, t, denoise(x, t, cond)))
        return parameterize(guided, "flow", self.process)


@dataclass(frozen=True)
class Prepared:
    """The condition of a `Sampled` arm, prepared by the network that the arm samples.

    Args:
        load: the arm's own `load`, possibly the same after a `transform`.
        condition: units -> "text" and "text_mask".
        size: height and width of the latents.
    """

    load: Callable[[str], Any]
    condition: Callable[[Sequence[Unit], str], Cond]
    size: tuple[int, int]
    transform: Callable[[Any], Any] | None = None

    def __call__(self, units: Sequence[Unit], device: str) -> Cond:
        return prepared(loaded(self.load, self.transform, device), self.condition(units, device), self.size)
