"""How i1's small networks are made: an autoencoder for all three sets of pictures, the shipped model, each ablation's cells.

    diptych train i1 --stage autoencoder      then --stage model, and --stage long_skip, adapter, ... (any ablation)

A cell is trained once however many ablations have it: its folder is cells/KEY/REPLICA, the key that of everything that makes
it. Running a stage again goes on where it stopped and skips what is finished.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from diptych.config import fingerprint, to_json
from diptych.data.images import contact_sheet
from diptych.models.autoencoder import AutoencoderConfig
from diptych.models.hub import save_model
from diptych.models.i1 import I1
from diptych.models.i1_config import PRESETS, I1Config
from diptych.recipes import i1_autoencoder
from diptych.recipes.i1_cells import ABLATIONS, Cell, cells
from diptych.recipes.i1_cost import cost_of_last, per_image, total
from diptych.recipes.i1_data import Latents, chosen_sets, encode_texts, feed, held_pictures, small_sets
from diptych.recipes.i1_draw import DRAWN, drawn
from diptych.train.loop import Start, TrainConfig, train
from diptych.train.losses import mean_squared

OUT = "models/i1"
"""Where everything of this recipe is trained unless --out says otherwise, so that the studies find it."""
DROP = 0.1
"""Share of captions replaced by the null text; i1, arXiv 2606.11289."""
NEAREST = 0.05
"""Times below it count as this where clean data are predicted, as in i1's code."""


@dataclass(frozen=True)
class I1Training:
    """How the small networks are trained.

    Args:
        autoencoder: its shape; the quickstart's, whose weights it begins with.
        train_autoencoder: its run over an equal mix of the three sets.
        base: the cell that the ablations change one thing of.
        model: the shipped model.
        replicas: training seeds of a cell, 0 to replicas - 1.
        held: pictures of each kind held out for the log.
        ema: decay of the averaged weights of all cells.
        ema_model: of the shipped model.
        save_every_images: checkpoint interval of all cells and of the model.
        pictures: what the autoencoder and the model learn from, in equal parts: emoji, shapes, words, or paths of sets of
            your own (`diptych data prepare`); empty = the three.
        init_from: weights the shipped model begins with, a safetensors file or a folder with model.safetensors; "" = none.
    """

    autoencoder: AutoencoderConfig = AutoencoderConfig()
    train_autoencoder: TrainConfig = TrainConfig(
        name="i1/autoencoder",
        images=96_000,
        batch=32,
        lr=5e-4,
        warmup_images=3_200,
        decay="cosine",
        ema=0.999,
        log_every_images=3_200,
        save_every_images=9_600,
        validate_every_images=16_000,
    )
    base: Cell = Cell(
        I1Config(
            backbone="cross",
            channels=16,
            patch=2,
            width=128,
            depth=7,
            heads=4,
            hidden=352,
            text_width=384,
            text_tokens=128,
            adapter_blocks=0,
            modulation="both",
            sandwich=False,
            base=4,
        ),
        small_sets(12_288, 3_072),
        images=160_000,
        batch=64,
        lr=1e-3,
        pixels=64,
        encoder="minilm",
        latents="mixed",
        tokens=24,
    )
    model: Cell = Cell(
        PRESETS["small"],
        replace(small_sets(12_288, 12_288), weights="equal", short=0.7),
        images=480_000,
        batch=64,
        lr=6e-4,
        pixels=64,
        encoder="minilm",
        latents="mixed",
        tokens=100,
    )
    replicas: int = 5
    held: int = 64
    ema: float = 0.998
    ema_model: float = 0.9995
    save_every_images: int = 16_000
    pictures: tuple[str, ...] = ()
    init_from: str = ""

    @property
    def shipped(self) -> Cell:
        """The model's cell, on `pictures`."""
        if not self.pictures:
            return self.model
        return replace(self.model, sets=chosen_sets(self.model.sets, self.pictures))


def _tiny() -> I1Training:
    full = I1Training()
    model = replace(full.base.model, width=32, depth=3, heads=2, hidden=32)
    sets = small_sets(24, 24, 24)
    base = replace(full.base, model=model, sets=sets, images=32, batch=16)
    return I1Training(
        train_autoencoder=TrainConfig(name="i1/autoencoder", images=32, batch=16, lr=5e-4),
        base=base,
        model=replace(
            full.model, model=replace(full.model.model, width=32, depth=3, heads=2, hidden=32), sets=sets, images=32, batch=16
        ),
        replicas=2,
        held=6,
        save_every_images=16,
    )


TRAIN = {"tiny": _tiny(), "core": I1Training(base=replace(I1Training().base, images=16_000), replicas=2), "full": I1Training()}


def cell_folder(root: Path, config: I1Training, cell: Cell, replica: int) -> Path:
    """Where a cell lies; the same cell of several ablations lies once."""
    autoencoder = to_json(config.train_autoencoder) if cell.latents == "mixed" else None
    key = fingerprint((to_json(cell), config.ema, autoencoder))
    return root / "cells" / key[:12] / str(replica)


def finished(folder: Path) -> bool:
    """Whether a cell is trained."""
    return (folder / "weights" / "config.json").exists()


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


def train_cell(
    config: I1Training,
    cell: Cell,
    seed: int,
    root: Path,
    folder: Path,
    ema: float,
    device: str | None = None,
    trackers: Sequence[str] = (),
    init_from: str = "",
) -> Path:
    """Train one network, after the stage it goes on from; returns the folder of its weights.

    Raises:
        ValueError: the autoencoder is missing, or `init_from` is.
    """
    if finished(folder):
        return folder / "weights"
    if init_from and not Path(init_from).exists():
        raise ValueError(f"init_from: {init_from} is missing; name a safetensors file, or a folder with model.safetensors")
    start = Start(Path(init_from)) if init_from else None
    if cell.after:
        before = cell_folder(root, config, cell.after, seed)
        train_cell(config, cell.after, seed, root, before, ema, device, trackers)
        start = Start(before, "everything")
    first = int(os.environ.get("RANK", "0")) == 0
    data = feed(cell, seed, root, (lambda line: print(line, file=sys.stderr)) if first else None)
    held = held_out(cell, root, config.held)
    run = TrainConfig(
        name=f"i1/{folder.parent.name}/{seed}" if folder.name == str(seed) else f"i1/{folder.name}",
        images=cell.images,
        batch=cell.batch,
        lr=cell.lr,
        warmup_images=0 if cell.after else 20 * cell.batch,
        decay="constant" if cell.after else "linear_tail",
        tail=0.3,
        moment="bf16",
        accumulate=2,  # so that two ranks can share a step, and none or one make the same run
        ema=ema,
        seed=seed + (1000 if cell.after else 0),
        log_every_images=max(cell.images // 40 // cell.batch, 1) * cell.batch,
        save_every_images=config.save_every_images,
        validate_every_images=max(cell.images // 8, 1000) // cell.batch * cell.batch,
        keep=1,
    )
    run = replace(run, fsdp=-1 if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0)

    def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0 = batch["latent"]
        t = cell.density(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device)
        null = torch.rand(len(x0), generator=generator, device=x0.device) < DROP
        return flow_loss(cell, net, batch, t, eps, null)

    def validate(net: nn.Module) -> dict[str, float]:
        here = next(net.parameters()).device
        return {f"loss_{kind}": held_loss(cell, net, batch, here) for kind, batch in held.items()}

    def picture(net: nn.Module, path: Path) -> None:
        shown = drawn(cell, net, Latents(cell.latents, root, cell.pixels), DRAWN, seeds=(0, 1))
        contact_sheet(shown, len(DRAWN)).save(path / "samples.png")

    _, flops = per_image(cell.model, cell.side, cell.text_tokens)
    model = I1(cell.model, torch.Generator().manual_seed(seed))
    done = train(
        run,
        model,
        loss,
        data,
        folder,
        validate=validate,
        sample=picture,
        device=device,
        trackers=trackers,
        start=start,
        flops=flops,
    )
    assert isinstance(done.model, I1)
    if first:
        told = {"cell": to_json(cell), "replica": seed, "training": to_json(run)}
        save_model(done.model.cpu(), cell.model, folder / "weights", told)
    return folder / "weights"


def held_out(cell: Cell, root: Path, count: int) -> dict[str, dict[str, Tensor]]:
    """Pictures of each kind that training has not seen, as latents with their captions' states."""
    found = {}
    how = Latents(cell.latents, root, cell.pixels)
    for kind, (pixels, captions) in held_pictures(count).items():
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


def train_autoencoder(config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train the autoencoder of all three sets; see `i1_autoencoder`."""
    sizes = config.shipped.sets.sizes
    return i1_autoencoder.train_autoencoder(
        config.autoencoder, config.train_autoencoder, sizes, config.held, out, device, trackers
    )


def train_model(config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train the shipped model; returns out/model/weights."""
    return train_cell(config, config.shipped, 0, out, out / "model", config.ema_model, device, trackers, config.init_from)


def train_ablation(name: str, config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train every cell of an ablation under every seed, replica after replica; returns the folder of all cells."""
    for replica in range(config.replicas):
        for cell in cells(name, config.base).values():
            train_cell(config, cell, replica, out, cell_folder(out, config, cell, replica), config.ema, device, trackers)
    return out / "cells"


def findings(config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Write out/findings.md, the paper's findings beside what runs/i1-* found; see `i1_findings`."""
    from diptych.recipes import i1_findings

    return i1_findings.write(out, Path("runs"))


def pack(config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Write the shipped form of model and autoencoder with a card; see `i1_pack`."""
    from diptych.recipes import i1_pack

    return i1_pack.pack(config, out)


STAGES = {
    "autoencoder": train_autoencoder,
    "model": train_model,
    **{name: partial(train_ablation, name) for name in ABLATIONS},
    "findings": findings,
    "pack": pack,
}


def _on_ray(stage: str) -> Callable[..., Path]:
    from diptych.recipes.i1_sweep import sweep

    return partial(sweep, stage)


SPREAD = {"ray": _on_ray}
"""Where else than here the networks of an ablation may be trained."""


def costs(config: I1Training, stages: Sequence[str], out: Path) -> list[str]:
    """Lines for a dry run: what each stage asks for, less what is finished."""
    lines = []
    for stage in stages:
        if stage in ABLATIONS:
            arms = cells(stage, config.base)
            folders = [cell_folder(out, config, cell, r) for cell in arms.values() for r in range(config.replicas)]
            left = sum(not finished(folder) for folder in folders)
            whole = total(arms, config.replicas)
            hours = whole.core_hours * left / len(folders)
            lines.append(f"{stage}: {left} of {len(folders)} networks to train, about {hours:.3g} core-hours")
        elif stage == "model":
            own = cost_of_last(config.model)
            lines.append(
                f"model: {own.parameters:,} parameters, {own.images:,} pictures, about {own.core_hours:.3g} core-hours"
            )
    return lines
