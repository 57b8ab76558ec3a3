"""The arm of the remasking study: one decoder on every cell, with what happened while it wrote.

An item is checkpoint/block/temperature/prompt, such as "latin6-0/B6/T0.8/0007": the decoder takes block and temperature from
it, so that all decoders meet the same cells. A checkpoint is a task and the training seed of its model; those of one task meet
the same prompts and noise. Development prompts, on which thresholds are chosen, are named "dev0007".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.data.puzzles import task as find
from diptych.data.task import Task
from diptych.denoise import parameterize
from diptych.models.hub import load_model
from diptych.noise import Noise
from diptych.process import Masked
from diptych.recipes.remasking_log import Decode, decode_log, verifier
from diptych.recipes.remasking_probe import probe
from diptych.sample import Drawn, sample
from diptych.samplers.arm import default_device, loaded
from diptych.samplers.masked import Ancestral
from diptych.samplers.resampling import ReMDM
from diptych.schedule import uniform_grid
from diptych.study import Samples, Unit
from diptych.train.masked import bound_at

MOST = {"sudoku4": 486}
"""Prompts of a judged split, where they are few."""
STOCK = 256
"""Prompts are drawn by so many at once."""


class Cell(NamedTuple):
    """Where a decoder is judged.

    Args:
        task: name. block: its length. temperature: of the token draw. replica: training seed of the model.
    """

    task: str
    block: int
    temperature: float
    replica: int = 0

    @property
    def checkpoint(self) -> str:
        return f"{self.task}-{self.replica}"

    @property
    def name(self) -> str:
        return f"{self.checkpoint}/B{self.block}/T{self.temperature:g}"

    def item(self, index: int, dev: bool = False) -> str:
        return f"{self.name}/{'dev' if dev else ''}{index:04d}"


@lru_cache(maxsize=1 << 18)
def parsed(item: str) -> tuple[Cell, int, bool]:
    """(cell, number of the prompt, whether it is of the development split) of an item.

    Raises:
        ValueError: an id that is no such item.
    """
    parts = item.split("/")
    try:
        checkpoint, block, temperature, index = parts
        (task, _, replica), dev = checkpoint.rpartition("-"), index.startswith("dev")
        return Cell(task, int(block[1:]), float(temperature[1:]), int(replica)), int(index.removeprefix("dev")), dev
    except ValueError:
        raise ValueError(f"item {item!r}: write it as TASK-0/B8/T0.8/0007") from None


@lru_cache(maxsize=16)
def known(name: str) -> Task:
    return find(name)


@lru_cache(maxsize=64)
def prompts(name: str, dev: bool, count: int) -> np.ndarray:
    """The first prompts of a task's development ("select") or "test" split, (count, prompt length)."""
    return known(name).prompts("select" if dev else "test", count)


def prompt_of(item: str) -> np.ndarray:
    """The prompt of an item, (prompt length,)."""
    cell, index, dev = parsed(item)
    stock = -(-(index + 1) // STOCK) * STOCK
    return prompts(cell.task, dev, max(min(stock, MOST.get(cell.task, stock)), index + 1))[index]


@lru_cache(maxsize=4096)
def right_answers(task: str, prompt: tuple[int, ...], most: int = 4096) -> np.ndarray | None:
    """All right answers of a prompt, (S, answer length) of uint8; None where there are more than `most`, or no list."""
    found = known(task).solutions(np.array(prompt), most)
    return None if found is None else found.astype(np.uint8)


def divisors(task: Task) -> tuple[int, ...]:
    """Block lengths above 1 that divide the answer; blocks of one leave a decoder nothing to choose."""
    return tuple(n for n in range(2, task.answer_length + 1) if task.answer_length % n == 0)


def placed(decoder: Any, block: int, temperature: float, prompt: int) -> Any:
    """The decoder on a cell: those of its fields that say block, temperature and prompt, set."""
    there = {one.name for one in fields(decoder)}
    values = {"block": block, "temperature": temperature, "prompt": prompt}
    return replace(decoder, **{name: value for name, value in values.items() if name in there})


def drawn_alike(decoder: Any) -> bool:
    """Whether two seeds of a prompt are the same at temperature 0. Decoders we do not know are taken to draw."""
    if not type(decoder).__module__.startswith("diptych."):
        return False
    random = getattr(decoder, "order", "") == "random" or getattr(decoder, "unmask", "") == "bernoulli"
    return not (random or isinstance(decoder, ReMDM | Ancestral) or type(decoder).__name__ == "Bernoulli")


@dataclass(frozen=True)
class Decoded:
    """Decodes units with one rule.

    Samples hold "answer" (tokens, padded) and "log" (what was written and reopened when, see `remasking_log`); the trace
    "ok", "evaluations", "tokens", "pairs", "seconds", the counts of the log, and "nll": of answers that are neither right nor
    wrong, what the model that wrote them bounds their cost by [nats a token]; 0 for the others.

    Args:
        models: (checkpoint, folder of the model) pairs.
        decoder: the rule; block, temperature and prompt are the item's.
        width: length that answers are padded to, that of the longest answer among the tasks.
        steps: of decoders that walk along the grid, per answer token.
        probe: also hold shadow slots against leave-one-out on one state of each unit (array "probe").
        device: where to run; empty = the default.
    """

    models: tuple[tuple[str, Path], ...]
    decoder: Any
    width: int
    steps: float = 1.0
    probe: bool = False
    device: str = field(default="", metadata={"fingerprint": False})

    def __call__(self, units: Sequence[Unit]) -> Samples:
        groups: dict[Cell, list[int]] = {}
        for i, unit in enumerate(units):
            groups.setdefault(parsed(unit.item)[0], []).append(i)
        arrays: dict[str, np.ndarray] = {}
        trace: dict[str, np.ndarray] = {}
        for cell, index in groups.items():
            made, counted = self._cell(cell, [units[i] for i in index])
            for into, values in ((arrays, made), (trace, counted)):
                for name, value in values.items():
                    into.setdefault(name, np.zeros((len(units), *value.shape[1:]), value.dtype))[index] = value
        return Samples(tuple(units), arrays, trace)

    def _cell(self, cell: Cell, units: Sequence[Unit]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Arrays and trace of units of one cell; seeds that cannot differ are decoded once."""
        task, rule = known(cell.task), placed(self.decoder, cell.block, cell.temperature, known(cell.task).start)
        once = cell.temperature == 0 and drawn_alike(self.decoder)
        first = {(unit.item, 0 if once else unit.seed): i for i, unit in reversed([*enumerate(units)])}
        chosen = sorted(first.values())
        back = [chosen.index(first[unit.item, 0 if once else unit.seed]) for unit in units]
        mine = [units[i] for i in chosen]
        device = self.device or default_device()
        net = loaded(Network(dict(self.models)[cell.checkpoint]), None, device)
        process = Masked(task.vocab, task.mask_id)
        asked = np.stack([prompt_of(unit.item) for unit in mine])
        start = torch.from_numpy(task.canvas(asked)).to(device)
        noise = Noise(tuple(keyed(unit) for unit in mine), device)
        begun = time.perf_counter()
        drawn = self._sample(net, process, rule, start, noise, round(self.steps * task.answer_length))
        seconds = (time.perf_counter() - begun) / len(mine)
        answers = drawn.x[:, task.start :].cpu().numpy()
        states = torch.stack([start.cpu(), *(x for _, x in drawn.trajectory)])[:, :, task.start :].numpy()
        log = decode_log(states.astype(np.int16), task.mask_id, cell.block, verifier(self.decoder), 3 * self.width)
        arrays = {"answer": np.pad(answers, ((0, 0), (0, self.width - answers.shape[1]))).astype(np.uint8), "log": log.events}
        if self.probe:
            denoise = parameterize(net, "logits", process)
            truth = [right_answers(cell.task, tuple(prompt.tolist())) for prompt in asked]
            found = probe(process, denoise, states, start.cpu(), cell.block, [keyed(unit) for unit in mine], truth)
            arrays["probe"] = np.pad(found, ((0, 0), (0, self.width - found.shape[1]), (0, 0)), constant_values=-1.0)
        ok = nll = np.zeros(len(mine))
        if task.judge is not None:
            ok = task.check(asked, answers).astype(np.float64)
        else:
            nll = likelihood(net, drawn.x, start == task.mask_id, task.mask_id, noise)
        trace = {"ok": ok, "nll": nll, **costs(drawn), **counts(log), "seconds": np.full(len(mine), seconds)}
        return {k: v[back] for k, v in arrays.items()}, {k: v[back] for k, v in trace.items()}

    def _sample(self, net: Any, process: Masked, rule: Any, start: Tensor, noise: Noise, steps: int) -> Drawn:
        denoise, grid = parameterize(net, "logits", process), uniform_grid(max(steps, 1))
        return sample(process, rule, denoise, grid, start.shape[1:], noise, x=start, trajectory=True)


@dataclass(frozen=True)
class Network:
    """Loads a stored model."""

    folder: Path

    def __call__(self, device: str) -> Any:
        return load_model(self.folder, device)


def keyed(unit: Unit) -> str:
    """The noise key of a unit: its prompt and seed, so that cells and checkpoints too share their noise."""
    cell, index, dev = parsed(unit.item)
    return f"{cell.task}/{'dev' if dev else 'test'}/{index}#{unit.seed}"


LOOKS = 8
"""Numbers of masks that the likelihood of an answer is averaged over, one evaluation each."""


def likelihood(net: Any, ids: Tensor, asked: Tensor, mask_id: int, noise: Noise) -> np.ndarray:
    """Nats a token that answers cost the model at most, given their prompts, (B,): the bound at `LOOKS` stratified numbers of
    masks, the same masks for answers to one prompt and seed whatever wrote them."""
    with torch.no_grad():
        parts = []
        for look in range(LOOKS):
            drawn = noise.at(look)
            place = (look + drawn.uniform((1,), "masks")[:, 0].to(ids.device)) / LOOKS
            score = drawn.uniform(tuple(ids.shape[1:]), "hidden").to(ids.device)
            parts.append(bound_at(net, ids, asked, mask_id, place, score))
        return torch.stack(parts).mean(0).double().cpu().numpy()


def costs(drawn: Drawn) -> dict[str, np.ndarray]:
    return {name: getattr(drawn, name).numpy().astype(np.float64) for name in ("evaluations", "tokens", "pairs")}


def counts(log: Decode) -> dict[str, np.ndarray]:
    """The log's counts, per unit."""
    return {
        "commits": log.commits,
        "remasks": log.remasks,
        "returned": log.returned,
        "covered": log.covered,
        "asked": log.asked,
    }
