"""Pack the trained small model for shipping: float16 weights, logs, a card with a grid and micro-benchmark scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diptych.config import to_json
from diptych.files import read_json, write_bytes, write_json
from diptych.models.hub import load_model, save_model
from diptych.models.i1_config import I1Config

if TYPE_CHECKING:
    from diptych.recipes.i1_train import I1Training

CARD = """# The small text-to-image model of i1's recipe

{kind}, trained as i1 is (arXiv 2606.11289).

![Held-out prompts of three kinds, seeds 0 to 3](samples.png)

Rows, the first of each kind by an order fixed beforehand, not chosen by eye: {prompts}.
{rule}.

| | transformer (`dit/`) | autoencoder (`autoencoder/`) |
|---|---|---|
| parameters | {dit_parameters:,} | {autoencoder_parameters:,} |
| images seen | {dit_images:,} | {autoencoder_images:,} |
| held out | {dit_val} | {autoencoder_val} |
| stored as | float16, {dit_bytes:.1f} MB | float16, {autoencoder_bytes:.1f} MB |

{scores}

* **Text**: token states of all-MiniLM-L6-v2 (Apache-2.0), frozen, not included.
* **Data**: {data}.
* **Recipe**: `diptych train i1`; `config.json` holds it, `*/log.jsonl` what it logged.
{terms}"""
SETS = {
    "emoji": 'the "train" split of the embedded emoji (Noto, Google, Apache-2.0; Fluent, Microsoft, MIT; Twemoji, '
    "CC-BY-4.0, see `../emoji/LICENSES.md`)",
    "shapes": "drawn shapes (`data/shapes.py`)",
    "words": "written words (`data/words.py`, Aileron, CC0)",
}
TERMS = """* **Limits**: the emoji's concepts and five styles, six shapes in ten colours, words of capitals are all it knows.
* **Licence** of the weights: Apache-2.0, with attribution of the art as above.
"""
"""Of a model that has seen nothing else; of one on sets of one's own its maker says."""


def pack(config: I1Training, out: Path) -> Path:
    """Write out/packed: what lies in the package under assets/i1.

    Scores come from runs/i1 (`diptych compare i1 --size full`) where it was run on these weights; the card says so where not.

    Raises:
        ValueError: a stage that was not trained.
    """
    from diptych.recipes.i1_data import ASSETS
    from diptych.recipes.i1_items import ask
    from diptych.recipes.i1_sample import I1Sample, sample

    packed, facts = out / "packed", {}
    for part, folder in (("dit", out / "model"), ("autoencoder", out / "autoencoder")):
        weights, log = folder / "weights", folder / "log.jsonl"
        if part == "autoencoder" and not weights.exists():  # then the model learnt from the shipped one's latents
            weights = ASSETS / "i1" / "autoencoder"
            log = weights / "log.jsonl"
        if not weights.exists():
            raise ValueError(f"pack: {weights} is missing; run the stage {folder.name!r} first")
        shape = config.model.model if part == "dit" else config.autoencoder
        model = load_model(weights)
        save_model(model, shape, packed / part, dtype=torch.float16)
        shutil.copyfile(log, packed / part / "log.jsonl")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        held = {k.removeprefix("val/"): v for k, v in lines[-1].items() if k.startswith("val/")}
        facts |= {
            f"{part}_parameters": sum(p.numel() for p in model.parameters()),
            f"{part}_images": lines[-1]["images"],
            f"{part}_val": ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in held.items()),
            f"{part}_bytes": (packed / part / "model.safetensors").stat().st_size / 1e6,
        }
    asked = ask(1, 2, 4)
    prompts = [*asked.emoji.values(), *(p.text for p in asked.shapes[:4]), *(p.text for p in asked.words[:4])]
    how = I1Sample(scale=2)
    sample(packed, list(dict.fromkeys(prompts)), (0, 1, 2, 3), packed / "samples.png", how)
    facts["rule"] = f"{how.sampler.capitalize()}, {how.steps} steps, shift {how.shift:g}, guidance {how.guidance:g}"
    sets = config.shipped.sets
    facts["kind"] = _kind(config.model.model)
    named = [SETS.get(name, name) for name, _ in sets.sizes]
    if isinstance(sets.weights, str):
        data = f"{sets.weights} parts of {', '.join(named)}"
    else:
        data = ", ".join(f"{weight / sum(sets.weights):.0%} {name}" for name, weight in zip(named, sets.weights))
    facts |= {"data": data, "terms": TERMS if {name for name, _ in sets.sizes} <= set(SETS) else ""}
    words = {"prompts": "; ".join(dict.fromkeys(prompts)), "scores": _scores(Path("runs/i1/report.json"))}
    write_bytes(packed / "card.md", CARD.format(**facts, **words).encode())
    write_json(packed / "config.json", {"recipe": "i1", "size": "full", "config": to_json(config)})
    return packed


def _kind(model: I1Config) -> str:
    """The network in words: what its design choices are."""
    streams = {"dual": "A two-stream", "single": "A one-stream", "cross": "A cross-attention"}[model.backbone]
    reads = {
        "none": "without modulation",
        "time": "modulated by time",
        "text": "modulated by text",
        "both": "modulated by time and text",
    }
    adapter = f"{model.adapter_blocks} transformer blocks" if model.adapter_blocks else "a small MLP"
    skips, sandwich = ("with" if has else "without" for has in (model.long_skip, model.sandwich))
    norms = f"{skips} long skips, {sandwich} sandwich norms"
    return f"{streams} transformer, {reads[model.modulation]}, {norms}, {adapter} on the text"


def _scores(report: Path) -> str:
    """A table of a report's scores with intervals."""
    if not report.is_file():
        return "Scores: not measured yet (`diptych compare i1 --size full`)."
    held = read_json(report)
    rows = ["| | " + " | ".join(arm["label"] for arm in held["arms"]) + " |", "|---|" + "---|" * len(held["arms"])]
    for metric in held["metrics"]:
        cells = {cell["arm"]: cell for cell in held["cells"] if cell["metric"] == metric["name"]}
        if metric["name"] in ("retrieval", "micro_longtext", "micro_geneval"):
            shown = [_with_interval(cells.get(arm["name"])) for arm in held["arms"]]
            rows.append(f"| {metric['name'].replace('_', ' ')} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def _with_interval(cell: dict | None) -> str:
    if cell is None:
        return "-"
    low, high = cell["value_interval"]
    return f"{cell['value']:.3f} ({low:.3f} to {high:.3f})"
