"""Pictures from the quickstart's model: `diptych sample quickstart --prompt "red apple, noto style" -o grid.png`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from diptych.data.images import contact_sheet
from diptych.files import picture_path, png, write_bytes
from diptych.guide import ClassifierFree
from diptych.recipes.quickstart import Quickstart, sampled
from diptych.samplers.continuous import SAMPLERS
from diptych.study import Unit

Rule = Literal["euler", "heun", "rk4", "dpmpp_2m", "ancestral", "edm_stochastic"]


@dataclass(frozen=True)
class QuickstartSample:
    """How pictures are drawn.

    Args:
        sampler: the rule.
        steps: of the rule.
        guidance: classifier-free guidance strength; 1 = conditional only.
        shift: of the grid towards the prior.
        batch: pictures at once.
        scale: pixels of the grid per pixel of a picture.
    """

    sampler: Rule = "heun"
    steps: int = 20
    guidance: float = 2.0
    shift: float = 4.0
    batch: int = 16
    scale: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "scale"):
            if getattr(self, name) < 1:
                raise ValueError(f"sample.{name}: {getattr(self, name)} is not positive")


SAMPLE = QuickstartSample()


def sample(
    weights: Path | None, prompts: Sequence[str], seeds: Sequence[int], out: Path, config: QuickstartSample = SAMPLE
) -> list[Path]:
    """Draw every prompt under every seed.

    Args:
        weights: folder with dit/ and autoencoder/; None = the shipped ones.
        prompts: one row of the grid each.
        seeds: one column each.
        out: a .png for the grid alone, or a folder for grid.png and every picture.

    Returns:
        The files written, the grid first.

    Raises:
        ValueError: an empty or doubled prompt.
    """
    prompts = [prompt.strip() for prompt in prompts]
    if not all(prompts) or len(set(prompts)) < len(prompts):
        raise ValueError("prompts: one is empty or there twice; give different, non-empty prompts")
    captions = {prompt: prompt for prompt in prompts}
    options = Quickstart(weights=str(weights or ""), shift=config.shift)
    arm = sampled(options, captions, SAMPLERS[config.sampler](), config.steps, ClassifierFree(config.guidance))
    units = [Unit(prompt, seed) for prompt in prompts for seed in seeds]
    parts = [arm(units[start : start + config.batch]) for start in range(0, len(units), config.batch)]
    pixels = np.concatenate([part.arrays["image"] for part in parts])
    grid = out if out.suffix == ".png" else out / "grid.png"
    columns = len(seeds) if len(prompts) > 1 else min(len(seeds), 8)
    sheet = contact_sheet(pixels.repeat(config.scale, 1).repeat(config.scale, 2), columns)
    write_bytes(grid, png(np.asarray(sheet)))
    files = [grid]
    if grid != out:
        for unit, picture in zip(units, pixels, strict=True):
            files.append(picture_path(out, "pictures", unit))
            write_bytes(files[-1], png(picture))
    return files
