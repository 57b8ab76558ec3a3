"""Pictures from an i1 model: `diptych sample i1 --prompt "..." --seeds 0-3`, from a trained folder or a published checkpoint.

A benchmark's prompts: `diptych sample i1 --set benchmark=geneval --set files=evaluation_metadata.jsonl -o pictures` draws as
many pictures a prompt as the benchmark asks for, under the names that its scorer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from diptych.config import load_object, suggest
from diptych.data.images import contact_sheet
from diptych.denoise import Cond, Denoiser
from diptych.files import picture_path, png, write_bytes, write_lines
from diptych.guide import ClassifierFree, Guidance
from diptych.metrics.benchmarks.t2i import Benchmark
from diptych.models.i1_sampling import OnFlow, Prepared, stored_null
from diptych.models.i1_weights import load_i1
from diptych.models.text_to_image import Pictures, System, codec_of, find_system, shape_of, texts_of, token_count
from diptych.process import Gaussian
from diptych.samplers.arm import Sampled, default_device, loaded
from diptych.samplers.continuous import SAMPLERS
from diptych.schedule import uniform_grid
from diptych.study import Unit

BENCHMARKS = {
    "geneval": "diptych.metrics.benchmarks.geneval:GENEVAL",
    "dpg": "diptych.metrics.benchmarks.dpg:DPG",
    "prism": "diptych.metrics.benchmarks.prism:PRISM",
    "cvtg": "diptych.metrics.benchmarks.cvtg:CVTG",
    "longtext": "diptych.metrics.benchmarks.longtext:LONGTEXT",
    "micro_geneval": "diptych.metrics.benchmarks.micro:MICRO_GENEVAL",
    "micro_longtext": "diptych.metrics.benchmarks.micro:MICRO_LONGTEXT",
}
ASSETS = Path(__file__).parent.parent / "assets" / "i1"
Rule = Literal["euler", "heun", "rk4", "dpmpp_2m", "ancestral", "edm_stochastic"]


@dataclass(frozen=True)
class I1Sample:
    """How pictures are drawn; the defaults suit the shipped model, published ones say their own.

    Args:
        sampler: the rule.
        steps: of the rule; times and latents are float32 whatever the network computes in.
        guidance: classifier-free guidance strength; 1 = conditional only. The published models were judged with 12.
        rescale: 0 to 1, of the guided flow's deviation to the conditional one's; the published models: 1.
        shift: of the grid towards the prior, 1 = none; the published models: 3.33.
        height, width: of a picture in pixels; 0 = the size that the network's positions count by one at.
        count: pictures a prompt; 0 = one a seed of --seeds, or what the benchmark asks for.
        batch: pictures at once, of prompts of like length.
        tokens: the longest prompt, in tokens; 0 = 256. Published models: always 256.
        dtype: floating type of the network; empty = as stored.
        autoencoder, text: folders of these parts where they are not beside the network; text may be minilm.
        benchmark: name of a benchmark whose prompts are drawn: geneval, dpg, prism, cvtg, longtext, micro_geneval or
            micro_longtext.
        files: its published prompt files; the micro ones need none.
        limit: its first so many prompts; 0 = all.
        rewriter: address of a server with an OpenAI-style API whose model rewrites prompts; empty = as they are. Noise, file
            names and benchmarks go by the original; prompts.jsonl holds both.
        rewriter_model: its model.
        scale: pixels of the grid per pixel of a picture.
    """

    sampler: Rule = "heun"
    steps: int = 12
    guidance: float = 3.0
    rescale: float = 0.0
    shift: float = 2.0
    height: int = 0
    width: int = 0
    count: int = 0
    batch: int = 16
    tokens: int = 0
    dtype: Literal["", "float32", "bfloat16", "float16"] = ""
    autoencoder: str = ""
    text: str = ""
    benchmark: str = ""
    files: tuple[str, ...] = ()
    limit: int = 0
    rewriter: str = ""
    rewriter_model: str = ""
    scale: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "scale"):
            if getattr(self, name) < 1:
                raise ValueError(f"sample.{name}: {getattr(self, name)} is not positive")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"sample.rescale: {self.rescale} is not in [0, 1]")
        for name in ("count", "limit"):
            if getattr(self, name) < 0:
                raise ValueError(f"sample.{name}: {getattr(self, name)} is negative; leave it at 0")


SAMPLE = I1Sample()


@dataclass(frozen=True)
class Network:
    """Loads a system's network, quantised or not; called once for each device.

    Args:
        path: where it lies.
        dtype: its floating type, "" as stored.
    """

    path: Path
    dtype: str = ""

    def __call__(self, device: str) -> Any:
        from diptych.quant.read import load, quantized

        if self.path.is_dir() and quantized(self.path) is not None:
            return load(self.path, device)
        return load_i1(self.path, device, getattr(torch, self.dtype) if self.dtype else None)


@dataclass(frozen=True)
class Watched:
    """A guidance that tells of every evaluation of the rows of a batch."""

    guidance: Guidance | None
    tell: Callable[[int], None] = field(metadata={"fingerprint": False})

    def __call__(self, denoise: Denoiser) -> Denoiser:
        inner = self.guidance(denoise) if self.guidance else denoise

        def told(x: Any, t: Tensor, cond: Cond) -> Tensor:
            out = inner(x, t, cond)
            self.tell(len(t))
            return out

        return told


def sample(
    weights: Path | None, prompts: Sequence[str], seeds: Sequence[int], out: Path, config: I1Sample = SAMPLE
) -> list[Path]:
    """Draw every prompt under every seed.

    Args:
        weights: folder of a system, or a checkpoint of the network; None = the shipped one.
        prompts: one row of the grid each.
        seeds: one column each; `count` takes the first so many from seeds[0] on.
        out: a .png for the grid alone, or a folder for grid.png and every picture.

    Returns:
        The files written, the grid first; for a benchmark its pictures and prompts.jsonl.

    Raises:
        ValueError: an empty or doubled prompt, a benchmark that is not known, parts that do not fit together.
    """
    system = find_system(weights or ASSETS, config.autoencoder, config.text)
    if config.benchmark:
        return _benchmark(system, out, seeds[0], config)
    prompts = [prompt.strip() for prompt in prompts]
    if not all(prompts) or len(set(prompts)) < len(prompts) or not prompts:
        raise ValueError("prompts: one is empty or there twice; give different, non-empty prompts")
    if config.count:
        seeds = range(seeds[0], seeds[0] + config.count)
    units = [Unit(prompt, seed) for prompt in prompts for seed in seeds]
    captions = _worded({prompt: prompt for prompt in prompts}, out.parent if out.suffix == ".png" else out, config)
    pictures = dict(draw(system, captions, units, config))
    grid = out if out.suffix == ".png" else out / "grid.png"
    columns = len(seeds) if len(prompts) > 1 else min(len(seeds), 8)
    pixels = np.stack([pictures[unit] for unit in units])
    write_bytes(grid, png(np.asarray(contact_sheet(pixels.repeat(config.scale, 1).repeat(config.scale, 2), columns))))
    files = [grid]
    if grid != out:
        for unit in units:
            files.append(picture_path(out, "pictures", unit))
            write_bytes(files[-1], png(pictures[unit]))
    return files


def draw(
    system: System, captions: Mapping[str, str], units: Sequence[Unit], config: I1Sample
) -> Iterator[tuple[Unit, np.ndarray]]:
    """Each unit with its picture (H, W, 3) uint8, in batches of prompts of like length.

    Args:
        system: the model.
        captions: item -> text.
        units: what to draw.
        config: how.
    """
    device, load = default_device(), Network(system.network, config.dtype)
    net = loaded(load, None, device)
    shape = shape_of(net, codec_of(system.autoencoder, device), config.height, config.width)
    texts = texts_of(net, system, captions, config.tokens)
    counts = {item: token_count(system.text, text, texts.tokens, device) for item, text in captions.items()}
    guidance = OnFlow(ClassifierFree(config.guidance, stored_null, config.rescale)) if config.guidance != 1 else None
    arm = Sampled(
        load=load,
        kind="flow",
        process=Gaussian(),
        sampler=SAMPLERS[config.sampler](),
        grid=tuple(uniform_grid(config.steps, config.shift).tolist()),
        shape=shape,
        decode=Pictures(system.autoencoder),
        condition=Prepared(load, texts, shape[1:]),
    )
    ordered = sorted(units, key=lambda unit: counts[unit.item])
    with _bar(len(units) * (arm.evaluations() or 0)) as tell:
        watched = replace(arm, guidance=Watched(guidance, tell))
        for start in range(0, len(ordered), config.batch):
            some = ordered[start : start + config.batch]
            yield from zip(some, watched(some).arrays["image"], strict=True)


def _benchmark(system: System, out: Path, seed: int, config: I1Sample) -> list[Path]:
    """Pictures of a benchmark's prompts under the names its scorer reads; those that are there already are not drawn again."""
    if config.benchmark not in BENCHMARKS:
        raise ValueError(f"sample.benchmark: {config.benchmark!r} is not known{suggest(config.benchmark, BENCHMARKS)}")
    if out.suffix == ".png":
        raise ValueError(f"--out {out}: a benchmark's pictures are many files; give a folder")
    benchmark: Benchmark = load_object(BENCHMARKS[config.benchmark])
    chosen = list(benchmark.read([Path(file) for file in config.files]))
    prompts = {prompt.item: prompt for prompt in chosen[: config.limit or len(chosen)]}
    count = config.count or benchmark.images

    def path(unit: Unit) -> Path:
        prompt, number = prompts[unit.item], unit.seed - seed
        name = benchmark.file(prompt, number)
        return out / (f"{prompt.place:05d}/samples/{number:05d}.png" if "#" in name else name)

    captions = _worded({item: prompt.text for item, prompt in prompts.items()}, out, config)
    rows = [{"item": p.item, "prompt": p.text, "group": p.group, "drawn": captions[p.item]} for p in prompts.values()]
    write_lines(out / "prompts.jsonl", rows)
    units = [Unit(item, seed + number) for item in prompts for number in range(count)]
    waiting = [unit for unit in units if not path(unit).is_file()]
    for unit, picture in draw(system, captions, waiting, config):
        write_bytes(path(unit), png(picture))
    return [*(path(unit) for unit in units), out / "prompts.jsonl"]


def _worded(texts: Mapping[str, str], out: Path, config: I1Sample) -> dict[str, str]:
    """item -> what the network is given: the text, or its rewriting, whose answers are kept in out/rewritten.jsonl."""
    if not config.rewriter:
        return dict(texts)
    from diptych.data.chat_client import AnswerFile, Server
    from diptych.data.rewrite import Rewriting, rewrite

    # the official script's settings: temperature 0.6, top_p 0.95, top_k 20
    server = Server(config.rewriter, config.rewriter_model, temperature=0.6, seed=0, extra={"top_p": 0.95, "top_k": 20})
    out.mkdir(parents=True, exist_ok=True)
    found = rewrite(list(texts.values()), Rewriting(server), AnswerFile(out / "rewritten.jsonl"))
    return {item: one.text for item, one in zip(texts, found, strict=True)}


@contextmanager
def _bar(evaluations: int) -> Iterator[Callable[[int], None]]:
    """A bar of evaluations on stderr, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("evaluations"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=evaluations)
        yield lambda rows: progress.advance(task, rows)
