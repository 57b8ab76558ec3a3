"""Pack the first replica's models for shipping: float16 weights, logs, the sweep and the adapters, and a card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from diptych.config import from_json, to_json
from diptych.files import write_bytes, write_json
from diptych.models.field_autoencoder import FieldAutoencoder, FieldAutoencoderConfig
from diptych.models.field_unet import FieldUNet, FieldUNetConfig
from diptych.models.hub import describe, load_model, save_model
from diptych.recipes.spectral_data import DATA, Setting, Simulated
from diptych.recipes.spectral_models import LABELS, trained_in
from diptych.recipes.spectral_settings import SpectralTraining

SHIPPED = ("mse", "log", "pre_mse", "pre_mix")
WITH_FLOW = ("mse", "pre_mix")
"""Arms whose autoencoder, and those whose flow too, is shipped; all of them would double the package."""
CARD = """# Autoencoders and flows of two-dimensional turbulence

Autoencoders of 64 x 64 vorticity fields (eight times fewer numbers) that differ in their loss and in the filter they see fields
through, and a flow in the latents of each. They exist to be compared: `diptych compare spectral` asks which of them keeps the
dissipation range, and whether with the right phases; `spectral:generation` what the flows make of it.

| arm | exponent of the pre-emphasis | log-spectral weight | DD power kept | DD coherence | error of the field |
|---|---|---|---|---|---|
{rows}

On validation trajectories, encoder means; settings were chosen there. One training seed (0); its peers are not shipped.

* **Networks**: `FieldAutoencoder`, {autoencoder:,} parameters, and `FieldUNet`, {flow:,}; float16; {size:.1f} MB in all.
* **Data**: forced two-dimensional turbulence, simulated ({trajectories} training trajectories); nothing else was seen. Made,
  not stored: `data.json` holds the equation and the seed, `diptych train spectral --stage data` makes the fields again.
* **Training**: {images:,} fields an autoencoder, {latents:,} latents a flow{speed}. `log.jsonl` beside each weight holds what
  was logged; `sweep.json` the tries on the validation trajectories, `swap.json` the adapters between latents.
* **Recipe**: `diptych train spectral --size core`.
* **Limits**: one forcing, one Reynolds number (about 390), one grid. Licence of the weights: Apache-2.0.
"""


def pack(config: SpectralTraining, out: Path) -> Path:
    """Write out/packed: what lies in the package under assets/spectral.

    Raises:
        ValueError: a shipped arm was not trained.
    """
    if not isinstance(Setting.read(out).source, Simulated):
        raise ValueError("pack: made for the turbulence that is shipped; models of your own fields are used where they are")
    packed, replica = out / "packed", config.replicas[0]
    found = {one.name: one for one in trained_in(out) if one.replica == replica}
    missing = [name for name in SHIPPED if name not in found]
    if missing:
        raise ValueError(
            f"pack: {out} holds no finished {missing[0]}-{replica}; run the stages 'autoencoders' and 'flows' first"
        )
    shutil.copyfile(out / DATA, packed_file(packed, DATA))
    for name in ("sweep.json", "swap.json"):
        if (out / name).is_file():
            shutil.copyfile(out / name, packed_file(packed, name))
    for name in SHIPPED:
        one = found[name]
        for kind, folder in (("autoencoder", one.autoencoder), ("flow", one.flow)):
            if folder and (kind == "autoencoder" or name in WITH_FLOW):
                shrink(folder, packed / f"{name}-{replica}" / kind)
    write_json(
        packed / "config.json", {"recipe": "spectral", "size": "core", "config": to_json(replace(config, replicas=(replica,)))}
    )
    write_bytes(packed / "card.md", card(config, packed, replica).encode())
    return packed


def packed_file(packed: Path, name: str) -> Path:
    packed.mkdir(parents=True, exist_ok=True)
    return packed / name


def shrink(folder: Path, target: Path) -> None:
    """Copy a model in float16, with its log."""
    model, described = load_model(folder), describe(folder)
    kind = FieldAutoencoderConfig if isinstance(model, FieldAutoencoder) else FieldUNetConfig
    save_model(model, from_json(kind, described["config"]), target, described["extra"], torch.float16)
    log = folder.parent / "log.jsonl"
    if log.is_file():
        shutil.copyfile(log, target / "log.jsonl")


def card(config: SpectralTraining, packed: Path, replica: int) -> str:
    """The card, with what was measured on the validation trajectories."""
    rows, speeds = [], []
    for name in SHIPPED:
        folder = packed / f"{name}-{replica}" / "autoencoder"
        extra = describe(folder)["extra"]
        arm, found = extra["arm"], extra["validation"]
        zone = [key for key in found if key.startswith("bias_")][-1].removeprefix("bias_")
        kept, phases = 100 * 10 ** found[f"bias_{zone}"], found[f"coherence_{zone}"]
        rows.append(
            f"| {LABELS[name]} | {arm['exponent']:g} | {arm['log_weight']:g} x published | {kept:.0f} % | {phases:.2f} | "
            f"{found['error']:.4f} |"
        )
        speeds += logged_speeds(folder / "log.jsonl")
    models: Mapping[str, torch.nn.Module] = {
        kind: load_model(packed / f"{SHIPPED[0]}-{replica}" / kind) for kind in ("autoencoder", "flow")
    }
    assert isinstance(models["flow"], FieldUNet)
    count = {kind: sum(p.numel() for p in model.parameters()) for kind, model in models.items()}
    source = Setting.read(packed).source
    assert isinstance(source, Simulated)
    return CARD.format(
        rows="\n".join(rows),
        **count,
        size=sum(path.stat().st_size for path in packed.rglob("*.safetensors")) / 1e6,
        trajectories=source.trajectories[0],
        images=config.train_autoencoder.images,
        latents=config.train_flow.images,
        speed=f"; {sorted(speeds)[len(speeds) // 2]:,.0f} fields/s on one core, shared with other work" if speeds else "",
    )


def logged_speeds(path: Path) -> list[float]:
    """Images a second of every line of a log."""
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["perf/images_per_s"] for line in lines if line.get("perf/images_per_s")]
