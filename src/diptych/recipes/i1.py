"""i1: which design choice of an open text-to-image model moves quality? (arXiv 2606.11289)

`diptych compare i1:long_skip` (adapter, adaln, mixing, ...) holds the networks that `diptych train i1 --stage long_skip`
trained against each other, a claim about the recipe over training seeds. `diptych compare i1` asks whether the shipped model
is better than the quickstart's. `--size paper --dry-run` prints what the published run costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.denoise import Cond
from diptych.guide import ClassifierFree
from diptych.metrics.benchmarks import micro
from diptych.metrics.benchmarks.local_judges import Ocr, Shapes
from diptych.metrics.benchmarks.measured import metrics as scores
from diptych.metrics.cost import evaluations, seconds
from diptych.models.hub import load_model
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.recipes import quickstart
from diptych.recipes.i1_cells import ABLATIONS, Cell, cells
from diptych.recipes.i1_cost import Cost, cost, total
from diptych.recipes.i1_data import Latents, encode_texts
from diptych.recipes.i1_draw import SHIFT, STEPS
from diptych.recipes.i1_items import MARGINS, Asked, ask, measured
from diptych.recipes.i1_loss import flow_loss
from diptych.recipes.i1_train import OUT, TRAIN, I1Training, cell_folder, finished
from diptych.samplers.arm import Sampled, default_device, loaded
from diptych.samplers.continuous import Heun
from diptych.schedule import uniform_grid
from diptych.study import Arm, Comparison, Samples, Unit


@dataclass(frozen=True)
class I1Study:
    """Options of the comparisons.

    Args:
        training: what was trained.
        root: where it lies; empty = models/i1, where `diptych train i1` puts it.
        shapes: prompts of each of micro-GenEval's six tags.
        words: for the shipped model, four fifths of this many prompts of each of one, two, three lines. emoji: for it,
            held-out prompts of the quickstart.
        few: the same two for an ablation, whose small networks hardly write or draw emoji.
        seeds: pictures a prompt.
        steps: of Heun's rule.
        guidance: classifier-free guidance strength, of an ablation's networks.
        batch: pictures a call.
        paper: the paper's networks, for a dry run.
    """

    training: I1Training = TRAIN["full"]
    root: str = ""
    shapes: int = 10
    words: int = 40
    emoji: int = 160
    few: tuple[int, int] = (4, 40)
    seeds: tuple[int, ...] = (0,)
    steps: int = STEPS
    guidance: float = 3.0
    batch: int = 32
    paper: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "few", tuple(self.few))

    @property
    def folder(self) -> Path:
        return Path(self.root or OUT)


CONFIGS = {
    "tiny": I1Study(TRAIN["tiny"], shapes=1, words=1, emoji=2, few=(1, 2), steps=2),
    "core": I1Study(TRAIN["core"], words=10, emoji=40),
    "full": I1Study(),
    "paper": I1Study(TRAIN["paper"], paper=True),
}


TUNED = {"quickstart": 3.0, "i1": 3.0}
"""Guidance of either model in their comparison: of 2, 3 and 5 the best on 128 prompts that nothing is judged by."""


@dataclass(frozen=True)
class Trained:
    """Loads a cell's network; its weights are named by what made them.

    Args:
        folder: of the cell.
        advice: the command that trains it.
    """

    folder: Path = field(metadata={"fingerprint": False})
    advice: str = field(default="", metadata={"fingerprint": False})

    def __call__(self, device: str) -> Any:
        if not finished(self.folder):
            raise ValueError(f"{self.folder} is not trained; {self.advice}")
        return load_model(self.folder / "weights", device)


@dataclass(frozen=True)
class Encoded:
    """Text conditions of units by a cell's text encoder."""

    captions: tuple[tuple[str, str], ...]
    encoder: str

    def __call__(self, units: Sequence[Unit], device: str) -> Cond:
        words = dict(self.captions)
        text, mask = encode_texts(self.encoder, [words[unit.item] for unit in units])
        return {"text": text.to(device), "text_mask": mask.to(device)}


@dataclass(frozen=True)
class Painter:
    """The arm of one trained network: its pictures, and in the trace its flow error on pictures that fit the prompts.

    Args:
        cell, replica: what was trained; the arm's key.
        asked: the prompts.
        steps, guidance: how it is sampled.
        network: loads it.
        root: below which the autoencoder lies.
    """

    cell: Cell
    replica: int
    asked: Asked
    steps: int
    guidance: float
    network: Trained
    root: Path = field(metadata={"fingerprint": False})

    def __call__(self, units: Sequence[Unit]) -> Samples:
        cell = self.cell
        how = Latents(cell.latents, self.root, cell.pixels)
        condition = Encoded(tuple(self.asked.captions.items()), cell.encoder)
        arm = Sampled(
            load=self.network,
            kind=cell.target,
            process=Gaussian(),
            sampler=Heun(),
            grid=tuple(uniform_grid(self.steps, SHIFT).tolist()),
            shape=(cell.model.channels, cell.side, cell.side),
            decode=how.decode,
            condition=condition,
            guidance=ClassifierFree(self.guidance),
        )
        made = arm(units)
        device = default_device()
        errors = self._errors(loaded(self.network, None, device), units, how, condition(units, device), device)
        return Samples(made.units, made.arrays, {**made.trace, "flow_error": errors})

    def _errors(self, net: Any, units: Sequence[Unit], how: Latents, cond: Cond, device: str) -> np.ndarray:
        """Of each unit with a picture that fits its prompt, (N,); the others have 0 and are not in the metric."""
        errors = np.zeros(len(units))
        rows = [i for i, unit in enumerate(units) if unit.item in self.asked.truth]
        if not rows:
            return errors
        pixels = torch.from_numpy(np.stack([self.asked.truth[units[i].item] for i in rows])).permute(0, 3, 1, 2)
        latent = how.encode(pixels.to(device))
        batch = {"latent": latent, "text": cond["text"][rows], "text_mask": cond["text_mask"][rows]}
        null = torch.zeros(len(rows), dtype=torch.bool, device=device)
        noise = Noise(tuple(units[i].key for i in rows), device)
        found: list[Tensor] = []
        with torch.no_grad():
            for step in range(4):
                t = torch.full((len(rows),), (step + 0.5) / 4, device=device)
                eps = noise.at(step).normal(latent.shape[1:], "flow_error")
                found.append(flow_loss(self.cell, net, batch, t, eps, null))
        errors[rows] = torch.stack(found).mean(0).cpu().numpy()
        return errors


@lru_cache(maxsize=4)
def _asked(shapes: int, words: int, emoji: int, forms: bool) -> Asked:
    return ask(shapes, words, emoji, forms=forms)


def ablation(name: str, config: I1Study) -> Comparison:
    """One of i1's controlled experiments."""
    about = ABLATIONS[name]
    asked = _asked(config.shapes, *config.few, name == "caption_length")
    arms: list[Arm] = []
    made = cells(name, config.training.base, config.paper)
    base = next(iter(made.values()))
    for replica in range(config.training.replicas):
        for arm, cell in made.items():
            folder = cell_folder(config.folder, config.training, cell, replica)
            network = Trained(folder, _advice(name, config))
            painter = Painter(cell, replica, asked, config.steps, config.guidance, network, config.folder)
            label = about.label.format(arm)
            arms.append(Arm(f"{arm}-{replica}", painter, label, batch=config.batch, replica=replica, group=arm))
    return Comparison(
        name=f"i1-{name.replace('_', '-')}",
        title=about.question,
        question=f"Networks of {cost(base).parameters:,} parameters (the baseline) after {base.images:,} pictures. "
        "The arms differ in one thing; every network draws from the same noise.",
        items=tuple(asked.captions),
        seeds=config.seeds,
        arms=tuple(arms),
        metrics=(*measured(asked), evaluations()),
        baseline=next(iter(made)),
        primary="flow_error",
        claim="recipe",
        captions=asked.captions,
        shown="image",
    )


def study(config: I1Study) -> Comparison:
    """The shipped model against the quickstart's: the quickstart's held-out prompts, words to be written, shapes drawn."""
    written, shown = micro.word_prompts(max(config.words * 4 // 5, 1)), micro.shape_prompts(config.shapes)
    emoji = quickstart.held_out(config.emoji)
    asked = Asked(shown, (), written, emoji, {}, {})
    captions = asked.captions
    cell = config.training.model
    folder = config.folder / "model"
    if not finished(folder) and (ASSETS / "dit").exists():
        network: Any = quickstart.Network(ASSETS / "dit")
    else:
        network = Trained(folder, _advice("model", config))
    painter = Painter(cell, 0, asked, config.steps, TUNED["i1"], network, config.folder)
    old = quickstart.sampled(quickstart.Quickstart(), captions, Heun(), config.steps, ClassifierFree(TUNED["quickstart"]))
    return Comparison(
        name="i1",
        title="Is i1's small model better than the quickstart's?",
        question="Drawn by the same rule in as many steps, whose pictures show what was asked for: emoji, words, shapes?",
        items=tuple(captions),
        seeds=config.seeds,
        arms=(
            Arm("quickstart", old, "the quickstart's model", "trained on emoji alone", batch=config.batch),
            Arm("i1", painter, "i1's small model", "half its pictures emoji, then shapes and words", batch=config.batch),
        ),
        metrics=(
            replace(quickstart.judged(emoji, tuple(quickstart.held_out().values())), items=tuple(emoji)),
            scores(micro.MICRO_LONGTEXT, written, Ocr(), {"overall": MARGINS["micro_longtext"]})[0],
            scores(micro.MICRO_GENEVAL, shown, Shapes(), {"overall": MARGINS["micro_geneval"]})[0],
            evaluations(),
            seconds(),
        ),
        baseline="quickstart",
        primary="retrieval",
        captions=captions,
        shown="image",
    )


ASSETS = Path(__file__).parent.parent / "assets" / "i1"
STUDIES: dict[str, Callable[[I1Study], Comparison]] = {name: partial(ablation, name) for name in ABLATIONS}


def _advice(stage: str, config: I1Study) -> str:
    """The command that trains what is missing, and what it costs."""
    if config.paper:
        return "the paper's size is for --dry-run; give --size core or full"
    size = next((name for name, one in TRAIN.items() if one == config.training), "full")
    out = f" --out {config.folder.as_posix()}" if config.root else ""
    made = cells(stage, config.training.base) if stage in ABLATIONS else {stage: config.training.model}
    replicas = config.training.replicas if stage in ABLATIONS else 1
    folders = [cell_folder(config.folder, config.training, cell, r) for cell in made.values() for r in range(replicas)]
    left = sum(not finished(folder) for folder in folders) if stage in ABLATIONS else 1
    hours = total(made, replicas).core_hours * left / len(folders)
    return (
        f"`diptych train i1 --stage {stage} --size {size}{out}` trains {left} of {len(folders)} networks, "
        f"about {hours:.2g} core-hours in all"
    )


def costs(config: I1Study, part: str) -> list[tuple[str, ...]]:
    """Rows for a dry run, the first the heads: what every arm costs to train once, and all of them."""
    made = cells(part, config.training.base, config.paper) if part else {"model": config.training.model}
    replicas = config.training.replicas if part else 1
    rows = [("arm", ">parameters", ">tokens", ">FLOPs", f">{'GPU' if config.paper else 'core'}-hours")]
    rows += [_row(arm, cost(cell), config.paper) for arm, cell in made.items()]
    return [*rows, _row(f"all, {replicas} seed{'s' * (replicas > 1)}", total(made, replicas), config.paper)]


def _row(name: str, spent: Cost, paper: bool) -> tuple[str, ...]:
    hours = spent.gpu_hours if paper else spent.core_hours
    return (name, f"{spent.parameters:,}", f"{spent.tokens:.3g}", f"{spent.flops:.3g}", f"{hours:,.3g}")
