"""Pack the quickstart's trained model for shipping: float16 weights, their logs, a card, and a grid of held-out prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from diptych.config import to_json
from diptych.files import write_bytes, write_json
from diptych.models.hub import load_model, save_model
from diptych.recipes.quickstart import held_out
from diptych.recipes.quickstart_sample import SAMPLE, sample
from diptych.recipes.quickstart_train import QuickstartTraining

SHOWN = 12
"""Held-out prompts on the card's grid: the first by hash, not chosen by eye."""

CARD = """# The quickstart's text-to-image model

A small two-stream diffusion transformer that draws emoji, 64 x 64 pixels, from captions such as "red apple, noto style".
It exists so that comparisons of samplers, guidance and number formats have something real to be run on.

![Twelve held-out prompts, seeds 0 to 3](samples.png)

Rows: the first {shown} held-out prompts by hash, not chosen by eye: {prompts}.
Heun, 20 steps, guidance {guidance:g}. Each concept was seen in other styles and each style on other concepts, the pairs never.

| | transformer (`dit/`) | autoencoder (`autoencoder/`) |
|---|---|---|
| parameters | {dit_parameters:,} | {autoencoder_parameters:,} |
| images seen | {dit_images:,} | {autoencoder_images:,} |
| last training loss | {dit_loss:.4f} | {autoencoder_loss:.4f} |
| on held-out pairs | flow error {dit_val:.4f} | {autoencoder_val:.2f} dB |
| stored as | float16, {dit_bytes:.1f} MB | float16, {autoencoder_bytes:.1f} MB |

* **Text**: token states of all-MiniLM-L6-v2 (Apache-2.0), frozen, not included; at most {tokens} tokens.
* **Data**: the "train" split (5,573 pictures) of the embedded emoji: Noto and Noto classic (Google, Apache-2.0), Fluent and
  Fluent flat (Microsoft, MIT), Twemoji (CC-BY-4.0, Twitter and contributors). See `../emoji/LICENSES.md`.
* **Recipe**: `diptych train quickstart`; `config.json` holds it, `*/log.jsonl` what it logged.
{notes}
* **Limits**: 1,943 concepts and five styles are all it knows. It draws flags and faces more surely than people doing things;
  it cannot count, place or spell. Licence of the weights: Apache-2.0, with attribution of the art as above.
"""


def pack(config: QuickstartTraining, out: Path) -> Path:
    """Write out/packed: what lies in the package under assets/quickstart.

    Raises:
        ValueError: a stage that was not trained.
    """
    packed, facts = out / "packed", {}
    for part, shape in (("dit", config.dit), ("autoencoder", config.autoencoder)):
        folder = out / part
        if not (folder / "weights").exists():
            raise ValueError(f"pack: {folder / 'weights'} is missing; run the stage {part!r} first")
        model = load_model(folder / "weights")
        save_model(model, shape, packed / part, dtype=torch.float16)
        shutil.copyfile(folder / "log.jsonl", packed / part / "log.jsonl")
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        facts |= {
            f"{part}_parameters": sum(p.numel() for p in model.parameters()),
            f"{part}_images": lines[-1]["images"],
            f"{part}_loss": lines[-1]["train/loss"],
            f"{part}_val": next(v for line in reversed(lines) for k, v in line.items() if k.startswith("val/")),
            f"{part}_bytes": (packed / part / "model.safetensors").stat().st_size / 1e6,
        }
    captions = list(held_out(SHOWN).values())
    sample(packed, captions, (0, 1, 2, 3), packed / "samples.png")
    notes = (out / "notes.md").read_text().rstrip() if (out / "notes.md").exists() else ""
    words = {
        "shown": SHOWN,
        "prompts": "; ".join(captions),
        "guidance": SAMPLE.guidance,
        "tokens": config.dit.text_tokens,
        "notes": notes,
    }
    write_bytes(packed / "card.md", CARD.format(**facts, **words).replace("\n\n* **Limits", "\n* **Limits").encode())
    write_json(packed / "config.json", {"recipe": "quickstart", "size": "full", "config": to_json(config)})
    return packed
