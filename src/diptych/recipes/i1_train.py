"""How i1's small networks are made: an autoencoder for all three sets of pictures, the shipped model, each ablation's cells.

    diptych train i1 --stage autoencoder      then --stage model, and --stage long_skip, adapter, ... (any ablation)

A cell is trained once however many ablations have it: its folder is cells/KEY/REPLICA, the key that of everything that makes
it. Running a stage again goes on where it stopped and skips what is finished.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diptych.config import fingerprint, to_json
from diptych.data.images import contact_sheet
from diptych.models.autoencoder import AutoencoderConfig
from diptych.models.hub import save_model
from diptych.models.i1 import I1
from diptych.models.i1_config import PRESETS, I1Config
from diptych.recipes import i1_autoencoder
from diptych.recipes.i1_cells import ABLATIONS, PAPER, PAPER_SETS, Cell, cells
from diptych.recipes.i1_cost import cost, per_image, total
from diptych.recipes.i1_data import Latents, chosen_sets, feed, small_sets
from diptych.recipes.i1_draw import DRAWN, drawn
from diptych.recipes.i1_loss import flow_loss, held_loss, held_out
from diptych.schedule import LogitNormal
from diptych.train import parallel
from diptych.train.loop import Start, TrainConfig, train

OUT = "models/i1"
"""Where everything of this recipe is trained unless --out says otherwise, so that the studies find it."""
TAIL = 0.3
"""Share of a cell's pictures over which its rate falls to zero."""
DROP = 0.1
"""Share of captions replaced by the null text; i1, arXiv 2606.11289."""


@dataclass(frozen=True)
class I1Training:
    """How the small networks are trained.

    Args:
        autoencoder: its shape; the quickstart's, whose weights it begins with.
        train_autoencoder: its run over an equal mix of the three sets.
        base: the cell that the ablations change one thing of. Training times lean to the prior, as the quickstart's do and for
            its reason: below t = 0.85 so small a picture is told by its own noisy latent, and words are not learnt.
        model: the shipped model.
        replicas: training seeds of a cell, 0 to replicas - 1.
        held: pictures of each kind held out for the log.
        ema: decay of the averaged weights of all cells.
        ema_model: of the shipped model.
        tail_model: share of the shipped model's pictures over which its rate falls to zero; of a cell's `TAIL`.
        save_every_images: checkpoint interval of all cells and of the model.
        pictures: what the autoencoder and the model learn from, in equal parts: emoji, shapes, words, or paths of sets of
            your own (`diptych data prepare`); empty = the three, for the model half of them emoji.
        init_from: weights the shipped model begins with, a safetensors file or a folder with model.safetensors; "" = none.
        encoder: folder of a published text encoder for the model; "" = the cell's.
        latents: folder of an autoencoder for the model; "" = the cell's.
        accumulate: micro-batches a step of all cells, a multiple of the number of ranks; the noise goes by them.
        accumulate_model: of the shipped model.
        precision, compile, tensor: as in `TrainConfig`.
        recompute: forget activations and compute them again for the gradients.
        published: constant rate without warm-up and an average that does not warm up, as i1 was trained.
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
        images=32_000,
        batch=16,
        lr=1e-3,
        pixels=64,
        encoder="minilm",
        latents="mixed",
        tokens=12,
        density=LogitNormal(1.5, 1.0),
    )
    model: Cell = Cell(
        PRESETS["small"],
        replace(small_sets(12_288, 12_288), weights=(2.0, 1.0, 1.0), short=0.7),
        images=400_000,
        batch=32,
        lr=8e-4,
        pixels=64,
        encoder="minilm",
        latents="mixed",
        tokens=24,
        density=LogitNormal(1.5, 1.0),
    )
    replicas: int = 5
    held: int = 64
    ema: float = 0.998
    ema_model: float = 0.9995
    tail_model: float = 0.45
    save_every_images: int = 16_000
    pictures: tuple[str, ...] = ()
    init_from: str = ""
    encoder: str = ""
    latents: str = ""
    accumulate: int = 1
    accumulate_model: int = 4
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    tensor: int = 1
    recompute: bool = False
    published: bool = False

    @property
    def shipped(self) -> Cell:
        """The model's cell and those it goes on from, on `pictures`, by `encoder` and `latents`."""
        return self._chosen(self.model)

    def _chosen(self, cell: Cell) -> Cell:
        return replace(
            cell,
            sets=chosen_sets(cell.sets, self.pictures) if self.pictures else cell.sets,
            encoder=self.encoder or cell.encoder,
            latents=self.latents or cell.latents,
            after=self._chosen(cell.after) if cell.after else None,
        )


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
        accumulate=2,
        held=6,
        save_every_images=16,
    )


def _paper() -> I1Training:
    """The 3B in its three stages: 256, 512 and 1,024 pixels, 2.0, 0.5 and 0.3 million steps."""
    sets = replace(PAPER_SETS.leaving("inaturalist"), weights="equal")
    first = replace(PAPER, model=PRESETS["i1-3B"], sets=sets, images=2_000_000 * 512)
    second = replace(first, sets=sets.leaving("yfcc100m"), images=500_000 * 512, pixels=512, after=first)
    few = sets.leaving("yfcc100m", "imagenet22k", "megalith10m", "places365", "pexels", "renderedtext")
    last = replace(
        second, sets=few, images=300_000 * 128, batch=128, pixels=1024, density=LogitNormal(factor=1 / 0.3), after=second
    )
    settings: dict[str, Any] = {
        "ema": 0.9999,
        "ema_model": 0.9999,
        "save_every_images": 512 * 5_000,
        "published": True,
        "recompute": True,
    }
    return replace(I1Training(), base=PAPER, model=last, replicas=1, accumulate=2, accumulate_model=2, **settings)


TRAIN = {"tiny": _tiny(), "core": I1Training(base=replace(I1Training().base, images=8_000), replicas=2), "full": I1Training()}
TRAIN["paper"] = _paper()


def cell_folder(root: Path, config: I1Training, cell: Cell, replica: int) -> Path:
    """Where a cell lies; the same cell of several ablations lies once."""
    autoencoder = to_json(config.train_autoencoder) if cell.latents == "mixed" else None
    key = fingerprint((to_json(cell), config.ema, config.accumulate, config.precision, config.published, autoencoder))
    return root / "cells" / key[:12] / str(replica)


def finished(folder: Path) -> bool:
    """Whether a cell is trained."""
    return (folder / "weights" / "config.json").exists()


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
    tail: float = TAIL,
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
    with parallel.ranks(device) as here:
        if here.first:
            feed(cell, seed, root, config.held, lambda line: print(line, file=sys.stderr))  # fills the caches
        here.wait()
        held = held_out(cell, root, config.held)
        run = _settings(config, cell, seed, folder, ema, tail)

        def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
            x0 = batch["latent"]
            t = cell.density(len(x0), generator)
            eps = torch.randn(x0.shape, generator=generator, device=x0.device)
            null = torch.rand(len(x0), generator=generator, device=x0.device) < DROP
            return flow_loss(cell, net, batch, t, eps, null)

        def validate(net: nn.Module) -> dict[str, float]:
            place = next(net.parameters()).device
            return {f"loss_{kind}": held_loss(cell, net, batch, place) for kind, batch in held.items()}

        def picture(net: nn.Module, path: Path) -> None:
            shown = drawn(cell, net, Latents(cell.latents, root, cell.pixels), DRAWN, seeds=(0, 1))
            contact_sheet(shown, len(DRAWN)).save(path / "samples.png")

        _, flops = per_image(cell.model, cell.side, cell.text_tokens)
        model = I1(cell.model, torch.Generator().manual_seed(seed))
        model.recompute = config.recompute
        done = train(
            run,
            model,
            loss,
            feed(cell, seed, root, config.held),
            folder,
            validate=validate,
            sample=picture,
            device=device,
            trackers=trackers,
            start=start,
            flops=flops,
        )
        assert isinstance(done.model, I1)
        if here.first:
            told = {"cell": to_json(cell), "replica": seed, "training": to_json(run)}
            save_model(done.model.cpu(), cell.model, folder / "weights", told)
        here.wait()
    return folder / "weights"


def _settings(config: I1Training, cell: Cell, seed: int, folder: Path, ema: float, tail: float) -> TrainConfig:
    """The run of a cell's network."""
    constant = config.published or cell.after is not None
    return TrainConfig(
        name=f"i1/{folder.parent.name}/{seed}" if folder.name == str(seed) else f"i1/{folder.name}",
        images=cell.images,
        batch=cell.batch,
        lr=cell.lr,
        warmup_images=0 if constant else 20 * cell.batch,
        decay="constant" if constant else "linear_tail",
        tail=tail,
        moment="bf16",
        accumulate=config.accumulate,
        ema=ema,
        ema_profile="constant" if config.published else "warmup",
        precision=config.precision,
        compile=config.compile,
        tensor=config.tensor,
        fsdp=-1 if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0,
        seed=seed + (1000 if cell.after else 0),
        log_every_images=max(cell.images // 40 // cell.batch, 1) * cell.batch,
        save_every_images=config.save_every_images,
        validate_every_images=max(cell.images // 8, 1000) // cell.batch * cell.batch,
        keep=1,
    )


def train_autoencoder(config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train the autoencoder of all three sets; see `i1_autoencoder`."""
    sizes = config.shipped.sets.sizes
    return i1_autoencoder.train_autoencoder(
        config.autoencoder, config.train_autoencoder, sizes, config.held, out, device, trackers
    )


def train_model(config: I1Training, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train the shipped model; returns out/model/weights."""
    config = replace(config, accumulate=config.accumulate_model)
    made = out / "model"
    return train_cell(
        config, config.shipped, 0, out, made, config.ema_model, device, trackers, config.init_from, config.tail_model
    )


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
            whole = cost(config.shipped)
            gpu = f"{whole.gpu_hours:,.0f} GPU-hours at 40 % of an H100's peak"
            hours = gpu if config.published else f"about {whole.core_hours:.3g} core-hours"
            lines.append(f"model: {whole.parameters:,} parameters, {whole.images:,} pictures, {whole.flops:.3g} FLOPs, {hours}")
    return lines
