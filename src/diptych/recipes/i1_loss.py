"""What i1's networks are trained on and validated by: the error of the predicted flow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from diptych.recipes.i1_cells import Cell
from diptych.recipes.i1_data import KINDS, Latents, encode_texts, held_pictures, own_pictures
from diptych.train.losses import mean_squared

NEAREST = 0.05
"""Times below it count as this where clean data are predicted, as in i1's code."""


def flow_loss(cell: Cell, net: nn.Module, batch: Mapping[str, Tensor], t: Tensor, eps: Tensor, null: Tensor) -> Tensor:
    """Rectified flow's error of each row, (B,), whatever the network predicts.

    With `target="x0"` the prediction becomes the flow (x - x0_hat) / max(t, 0.05) first, so that losses compare.
    """
    x0 = batch["latent"]
    x = torch.lerp(x0, eps, t[:, None, None, None])
    cond = {"text": batch["text"].float(), "text_mask": batch["text_mask"], "null": null}
    made = net(x, t, cond)
    if cell.target == "x0":
        made = (x - made) / t.clamp(min=NEAREST)[:, None, None, None]
    return mean_squared(made, eps - x0)


def held_out(cell: Cell, root: Path, count: int) -> dict[str, dict[str, Tensor]]:
    """Pictures of each kind that training has not seen, as latents with their captions' states."""
    found = {}
    how = Latents(cell.latents, root, cell.pixels)
    own = {Path(name).name: own_pictures(name, count) for name, _ in cell.sets.sizes if name not in KINDS}
    for kind, (pixels, captions) in {**held_pictures(count), **own}.items():
        latent = how.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        text, mask = encode_texts(cell.encoder, captions)
        found[kind] = {"latent": latent, "text": text, "text_mask": mask}
    return found


def held_loss(cell: Cell, net: nn.Module, batch: Mapping[str, Tensor], device: torch.device) -> float:
    """Mean flow error at eight fixed times, each with noise of its own."""
    rows = {name: value.to(device) for name, value in batch.items()}
    x0 = rows["latent"]
    generator = torch.Generator(device).manual_seed(0)
    null = torch.zeros(len(x0), dtype=torch.bool, device=device)
    found = []
    for step in range(8):
        eps = torch.randn(x0.shape, generator=generator, device=device)
        t = torch.full((len(x0),), (step + 0.5) / 8, device=device)
        found.append(flow_loss(cell, net, rows, t, eps, null).mean())
    return float(torch.stack(found).mean())
