"""Drawing pictures with a cell's network: the rule, the guidance, the conditions, the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from diptych.denoise import parameterize
from diptych.guide import ClassifierFree
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.recipes.i1_cells import Cell
from diptych.recipes.i1_data import Latents, encode_texts
from diptych.sample import sample
from diptych.samplers.continuous import Heun
from diptych.schedule import uniform_grid

STEPS = 12
GUIDANCE = 3.0
SHIFT = 2.0
DRAWN = (
    "red apple, noto style",
    "rocket, twemoji style",
    "a red star",
    "two blue circles",
    "a square left of a ring",
    'a sign that says "MOON"',
    'a sign that says "GREEN TEA"',
    "owl, fluent style",
)
"""What training logs show."""


def drawn(cell: Cell, net: Any, how: Latents, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """Pictures (seeds x prompts, H, W, 3) uint8, prompts fastest."""
    device = str(next(net.parameters()).device)
    text, mask = encode_texts(cell.encoder, prompts)
    parts = []
    for seed in seeds:
        made = sample(
            Gaussian(),
            Heun(),
            parameterize(net, cell.target, Gaussian()),
            uniform_grid(STEPS, SHIFT),
            (cell.model.channels, cell.side, cell.side),
            Noise(tuple(f"{prompt}#{seed}" for prompt in prompts), device),
            cond={"text": text.to(device), "text_mask": mask.to(device)},
            guidance=ClassifierFree(GUIDANCE),
        )
        with torch.no_grad():
            parts.append(how.decode(made.x)["image"])
    return np.concatenate(parts)
