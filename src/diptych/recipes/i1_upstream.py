"""The official i1 sampler: what do half-precision times and one noise for all cost? The shipped quickstart model under each.

The official i1 sampler keeps its times and states in bfloat16, where 28 of 250 steps have no length, and starts every picture
of a prompt from the same noise (arXiv 2606.11289's code). Each arm changes one of these back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from diptych.guide import ClassifierFree
from diptych.metrics.cost import evaluations
from diptych.metrics.fidelity import psnr, ssim
from diptych.metrics.image import FeatureDistance, feature_distance
from diptych.models.judge import JudgeFile, weights_file
from diptych.process import Gaussian
from diptych.recipes.quickstart import LATENT, MARGINS, Captioned, Network, Pictures, held_out, judged, weights
from diptych.samplers.arm import Sampled
from diptych.samplers.continuous import Euler
from diptych.samplers.upstream import OneNoise, UpstreamEuler
from diptych.schedule import uniform_grid
from diptych.study import Arm, Comparison, Metric, Samples


@dataclass(frozen=True)
class Upstream:
    """Options of the comparison.

    Args:
        prompts: number of held-out prompts.
        split: "judge" is for choosing settings beforehand.
        seeds: sampling seeds; two or more, so that there is a spread to see.
        steps: of the official sampler.
        few: steps of the arm that spends less in float32.
        shift: s of the official grid, t' = s t / (1 + (s - 1) t) from noise to data.
        guidance: classifier-free guidance strength.
        batch: units a call.
    """

    prompts: int = 64
    split: Literal["test", "judge"] = "test"
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 250
    few: int = 50
    shift: float = 0.3
    guidance: float = 2.0
    batch: int = 16

    def __post_init__(self) -> None:
        if len(self.seeds) < 2:
            raise ValueError(f"seeds: {len(self.seeds)} of them; give two or more, so that a prompt has pictures to differ")
        if not 0 < self.few <= self.steps:
            raise ValueError(f"few: {self.few} is not in 1..{self.steps}, the steps of the baseline")


CONFIGS = {
    "tiny": Upstream(prompts=4, steps=6, few=3, batch=8),
    "core": Upstream(prompts=8),
    "full": Upstream(),
}


@dataclass(frozen=True)
class Spread:
    """Rows of `spread`: mean feature distance between all pairs of an item's pictures, one row an item."""

    distance: FeatureDistance

    def __call__(self, samples: Samples, reference: Samples | None = None) -> np.ndarray:
        where = {unit: i for i, unit in enumerate(samples.units)}
        seeds = sorted({unit.seed for unit in samples.units})
        total: dict[str, list[float]] = {}
        for turn in range(1, len(seeds)):
            later = dict(zip(seeds, seeds[turn:]))
            pairs = [(unit, replace(unit, seed=later[unit.seed])) for unit in samples.units if unit.seed in later]
            pairs = [(a, b) for a, b in pairs if b in where]
            a, b = (_rows(samples, [where[pair[side]] for pair in pairs]) for side in (0, 1))
            for (unit, _), value in zip(pairs, self.distance(a, replace(b, units=a.units))[:, 0]):
                total.setdefault(unit.item, []).append(value)
        items = dict.fromkeys(unit.item for unit in samples.units)
        return np.array([[np.mean(total.get(item, [0.0]))] for item in items])


def _rows(samples: Samples, index: list[int]) -> Samples:
    arrays = {name: value[index] for name, value in samples.arrays.items()}
    trace = {name: value[index] for name, value in samples.trace.items()}
    return Samples(tuple(samples.units[i] for i in index), arrays, trace)


def spread(margin: float | None = None) -> Metric:
    """How far apart a prompt's pictures are; 0 where all are the same."""
    return Metric(
        "spread",
        Spread(FeatureDistance(JudgeFile(weights_file("")))),
        margin=margin,
        level="item",
        label="spread within a prompt",
        about="Mean distance, in the drawing judge's features, between the pictures of one prompt; 0 = the same picture again.",
    )


def study(config: Upstream) -> Comparison:
    """The baseline is right in everything; each arm has one of the official sampler's choices, the last but one all of them."""
    captions, pool = held_out(config.prompts, config.split), tuple(held_out().values())
    folder = weights("")
    grid = uniform_grid(config.steps, 1 / config.shift)
    right = Sampled(
        load=Network(folder / "dit"),
        kind="flow",
        process=Gaussian(),
        sampler=Euler(),
        grid=tuple(grid.tolist()),
        shape=LATENT,
        decode=Pictures(folder / "autoencoder"),
        condition=Captioned(tuple(captions.items())),
        guidance=ClassifierFree(config.guidance),
    )
    half = UpstreamEuler(config.shift)
    few = tuple(uniform_grid(config.few, 1 / config.shift).tolist())
    one = OneNoise(LATENT)
    arms = (
        Arm("float32", right, f"float32, {config.steps} steps", "times and states in float32, own noise", batch=config.batch),
        Arm(
            "half-times",
            replace(right, sampler=replace(half, states=False)),
            "bfloat16 times",
            "the official grid, states in float32",
            batch=config.batch,
        ),
        Arm("half", replace(right, sampler=half), "bfloat16 times and states", "as the official sampler", batch=config.batch),
        Arm("one-noise", replace(right, start=one), "one noise", "every picture from the same noise", batch=config.batch),
        Arm(
            "official",
            replace(right, sampler=half, start=one),
            "all of it",
            "bfloat16 times and states, one noise",
            batch=config.batch,
        ),
        Arm("few", replace(right, grid=few), f"float32, {config.few} steps", "fewer steps, exact", batch=config.batch),
    )
    return Comparison(
        name="i1_upstream",
        title="What do half-precision times and one noise for all cost?",
        question="Does the official i1 sampler draw what the prompt asks for as well as the same rule in float32, as varied?",
        items=tuple(captions),
        seeds=config.seeds,
        arms=arms,
        metrics=(
            judged(captions, pool),
            spread(),
            feature_distance(margin=MARGINS["feature_distance"]),
            psnr(margin=MARGINS["psnr"]),
            ssim(margin=MARGINS["ssim"]),
            evaluations(),
        ),
        baseline="float32",
        primary="retrieval",
        captions=captions,
        shown="image",
    )
