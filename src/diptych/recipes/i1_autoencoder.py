"""The autoencoder of i1's small models: the quickstart's, trained on until it also keeps drawn shapes and written words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diptych.config import to_json
from diptych.data.mixture import mix
from diptych.models.autoencoder import Autoencoder, AutoencoderConfig
from diptych.models.hub import save_model
from diptych.recipes.i1_data import ASSETS, held_pictures, source
from diptych.train.loop import Start, TrainConfig, train


def train_autoencoder(
    shape: AutoencoderConfig,
    run: TrainConfig,
    sizes: Sequence[tuple[str, int]],
    count: int,
    out: Path,
    device: str | None = None,
    trackers: Sequence[str] = (),
) -> Path:
    """Go on training the quickstart's autoencoder on an equal mix of sets; returns out/autoencoder/weights.

    Args:
        shape: the quickstart's.
        run: its settings.
        sizes: pictures of each set, by name.
        count: pictures of each kind held out for the log.
        out: the recipe's folder.
        device, trackers: as in `train.loop.train`.
    """
    folder = out / "autoencoder"
    if (folder / "weights" / "config.json").exists():
        return folder / "weights"
    sets = {name: source(name, count) for name, count in sizes}
    mixture = mix(sets, "equal", seed=run.seed)

    def pixels(position: int, size: int) -> Tensor:
        drawn = mixture.draw(position, size)
        names = [mixture.names[which] for which in drawn.which]
        rows = [sets[name][row].pixels() for name, row in zip(names, drawn.row.tolist())]
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)

    class Mixed:
        """Pictures of the mixture, drawn as they are asked for."""

        def batch(self, position: int, size: int) -> dict[str, Tensor]:
            return {"pixels": pixels(position, size)}

    def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        return net(batch["pixels"].float() / 127.5 - 1, generator)

    held = {
        name: torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1
        for name, (array, _) in held_pictures(count).items()
    }

    def validate(net: nn.Module) -> dict[str, float]:
        assert isinstance(net, Autoencoder)
        here = next(net.parameters()).device
        found = {}
        for name, images in held.items():
            error = (net.decode(net.encode(images.to(here))).cpu().clamp(-1, 1) - images).square().flatten(1).mean(1) / 4
            found[f"psnr_{name}"] = float(-10 * error.log10().mean())
        return found

    model = Autoencoder(shape, torch.Generator().manual_seed(run.seed))
    begin = Start(ASSETS / "quickstart" / "autoencoder")
    done = train(
        run,
        model,
        loss,
        Mixed(),
        folder,
        validate=validate,
        device=device,
        trackers=trackers,
        start=begin,
    )
    best = done.model
    assert isinstance(best, Autoencoder)
    with torch.no_grad():
        best.calibrate(pixels(0, min(1536, 4 * run.images)).float() / 127.5 - 1)
    save_model(best.cpu(), shape, folder / "weights", {"training": to_json(run)})
    return folder / "weights"
