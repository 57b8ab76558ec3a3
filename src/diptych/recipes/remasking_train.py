"""How the masked language models of the remasking study are made: one network a task and training seed.

Every model is small enough for minutes on a CPU. bfloat16 arithmetic halves the time where the processor has it; it is slow
where it has not, so then set `TASK.train.precision=fp32`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diptych.data.puzzles import task as find
from diptych.data.task import Task
from diptych.denoise import parameterize
from diptych.models.hub import describe, load_model, save_model
from diptych.models.masked_lm import MaskedLM, MaskedLMConfig
from diptych.noise import Noise
from diptych.process import Masked
from diptych.sample import sample
from diptych.samplers.masked import Threshold
from diptych.train.loop import Shuffled, TrainConfig, train
from diptych.train.masked import masked_bound

JUDGED = 400
"""Prompts of the "test" split that a finished model is measured on."""


@dataclass(frozen=True)
class LanguageTraining:
    """How the model of one task is trained.

    Args:
        model: its shape; vocabulary and length are the task's.
        train: its run; one row is one masking of one item. The replica is its seed.
        rows: different items in the pool it learns from.
        judged: prompts of the "select" split decoded at each validation; 0 = none.
    """

    model: MaskedLMConfig
    train: TrainConfig
    rows: int = 200_000
    judged: int = 100


def _run(images: int, batch: int = 128, lr: float = 2e-3) -> TrainConfig:
    return TrainConfig(
        name="remasking",
        images=images,
        batch=batch,
        lr=lr,
        warmup_images=images // 30,
        decay="cosine",
        betas=(0.9, 0.98),
        weight_decay=0.01,
        ema=0.999,
        precision="bf16",
        log_every_images=images // 40,
        save_every_images=images // 10,
        validate_every_images=images // 10,
        keep=1,
    )


@dataclass(frozen=True)
class RemaskingTraining:
    """One training a task."""

    sudoku4: LanguageTraining = LanguageTraining(MaskedLMConfig(5, 32, positions="grid", box=(2, 2)), _run(128_000))
    latin6: LanguageTraining = LanguageTraining(MaskedLMConfig(6, 36, positions="grid", box=(1, 6)), _run(200_000))
    sudoku9: LanguageTraining = LanguageTraining(MaskedLMConfig(9, 81, positions="grid", box=(3, 3)), _run(160_000, 64))
    sum_chain: LanguageTraining = LanguageTraining(MaskedLMConfig(13, 38, positions="both"), _run(500_000, lr=3e-3))
    countdown: LanguageTraining = LanguageTraining(MaskedLMConfig(16, 26, positions="both"), _run(300_000))
    text: LanguageTraining = LanguageTraining(
        MaskedLMConfig(95, 128, width=128, depth=4, hidden=320, positions="rotary"), _run(96_000, 32, 1.5e-3), judged=0
    )


def _tiny(task: LanguageTraining) -> LanguageTraining:
    model = replace(task.model, width=16, depth=1, heads=2, hidden=16)
    run = TrainConfig(name="remasking", images=64, batch=16, lr=1e-3)
    return LanguageTraining(model, run, rows=64, judged=min(task.judged, 4))


FULL = RemaskingTraining()
TRAIN = {
    "tiny": RemaskingTraining(
        _tiny(FULL.sudoku4),
        _tiny(FULL.latin6),
        _tiny(FULL.sudoku9),
        _tiny(FULL.sum_chain),
        _tiny(FULL.countdown),
        _tiny(FULL.text),
    ),
    "full": FULL,
}


@dataclass(frozen=True)
class Stage:
    """Train the model of a task from one seed; the folder of its weights is out/TASK-REPLICA/weights.

    Args:
        task: name of the task.
        replica: training seed.
    """

    task: str
    replica: int

    def __call__(self, config: RemaskingTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
        plan: LanguageTraining = getattr(config, self.task)
        task, folder = find(self.task), out / f"{self.task}-{self.replica}"
        if (plan.model.vocab, plan.model.length) != (task.vocab, task.length):
            raise ValueError(
                f"{self.task}: the model has {plan.model.vocab} tokens and {plan.model.length} positions; "
                f"the task needs {task.vocab} and {task.length}"
            )
        weights = folder / "weights"
        if (weights / "config.json").exists() and "measured" in describe(weights)["extra"]:
            return weights
        run = replace(plan.train, name=f"remasking/{self.task}-{self.replica}", seed=self.replica)
        ids = torch.from_numpy(task.canvas(*task.pairs("train", plan.rows, self.replica))).to(torch.uint8)
        model = MaskedLM(plan.model, torch.Generator().manual_seed(self.replica))
        asked = torch.arange(task.length) >= task.start
        held = torch.from_numpy(task.canvas(*task.pairs("select", 400)))
        spent = Clock(folder / "log.jsonl")

        def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
            rows = batch["ids"].long()
            return masked_bound(net, rows, asked.to(rows.device).expand_as(rows), task.mask_id, generator, task.most)

        def validate(net: nn.Module) -> dict[str, float]:
            minutes = spent.minutes()  # before what is measured here
            here = next(net.parameters()).device
            generator = torch.Generator(here).manual_seed(0)
            rows = held.to(here)
            bound = masked_bound(net, rows, asked.to(here).expand_as(rows), task.mask_id, generator, task.most)
            found = {"bound": float(bound.mean()), "cpu_minutes": minutes}
            if plan.judged:
                found["valid"] = decoded(net, task, "select", plan.judged)["valid"]
            return found

        data = Shuffled({"ids": ids}, seed=self.replica)
        done = train(run, model, loss, data, folder, validate=validate, device=device, trackers=trackers)
        extra: dict[str, Any] = {"task": self.task, "replica": self.replica, "training": asdict(replace(plan, train=run))}
        assert isinstance(done.model, MaskedLM)
        save_model(done.model.cpu(), plan.model, weights, extra, dtype=torch.float16)
        minutes = [line["val/cpu_minutes"] for line in done.log if "val/cpu_minutes" in line][-1]
        extra |= {"measured": measure(weights, task, JUDGED), "cpu_minutes": round(minutes, 2)}
        save_model(done.model, plan.model, weights, extra, dtype=torch.float16)
        return weights


@dataclass
class Clock:
    """CPU minutes of this process, on top of those that the log of an earlier part of the run tells.

    Args:
        log: the run's log.jsonl; may be missing.
    """

    log: Path
    before: float = field(init=False, default=0.0)
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        if self.log.exists():
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            self.before = max([line["val/cpu_minutes"] for line in lines if "val/cpu_minutes" in line], default=0.0)
        self.begun = time.process_time()

    def minutes(self) -> float:
        return self.before + (time.process_time() - self.begun) / 60


def decoded(net: nn.Module, task: Task, split: str, count: int, tau: float = 1.0, block: int = 0) -> dict[str, float]:
    """Mean of the task's checks over greedily decoded answers, and "evaluations" an answer.

    Args:
        tau: confidence above which tokens are written together; 1 = one token a step.
        block: length of the blocks of the whole canvas; 1 = from left to right, 0 = any order.
    """
    prompts = task.prompts(split, count)
    process, here = Masked(task.vocab, task.mask_id), str(next(net.parameters()).device)
    drawn = sample(
        process,
        Threshold(tau, block),
        parameterize(net, "logits", process),
        torch.tensor([1.0, 0.0]),
        (task.length,),
        Noise(tuple(str(i) for i in range(count)), here),
        x=torch.from_numpy(task.canvas(prompts)).to(here),
        batch=100,
    )
    found = task.detail(prompts, drawn.x[:, task.start :].cpu().numpy())
    means = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    return means | {"evaluations": round(float(drawn.evaluations.double().mean()), 2)}


def measure(weights: Path, task: Task, count: int) -> dict[str, Any]:
    """What a card says of stored weights, on the first prompts of the "test" split.

    "bound": nats a token that the asked tokens cost at most, given the prompt (exp of it bounds the perplexity), with its
    standard error over prompts. "entropy": what they cost at least, the mean log of the number of right answers a token,
    where all right answers are equally likely. Greedy decoding by `decoded`: one token a step in order of confidence, from
    left to right, and together above 0.9.
    """
    net = load_model(weights)
    prompts, answers = task.pairs("test", count)
    ids = torch.from_numpy(task.canvas(prompts, answers))
    asked = torch.from_numpy(task.canvas(prompts)) == task.mask_id
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bound = torch.stack([masked_bound(net, ids, asked, task.mask_id, generator) for _ in range(16)]).mean(0).double()
    found: dict[str, Any] = {
        "prompts": count,
        "bound": round(float(bound.mean()), 4),
        "bound_error": round(float(bound.std() / count**0.5), 4),
    }
    if task.judge is None:
        return found
    if task.uniform:
        number = [len(answers) for prompt in prompts[:100] if (answers := task.solutions(prompt)) is not None]
        per_token = np.log(number) / asked[:100].sum(1).numpy()
        found["entropy"] = round(float(per_token.mean()), 4)
    found["one_by_one"] = decoded(net, task, "test", count)
    found["left_to_right"] = decoded(net, task, "test", count, block=1)
    found["above_0.9"] = decoded(net, task, "test", count, tau=0.9)
    return found


def pack(config: RemaskingTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Write the shipped form of every model that is trained, with a card each; see `remasking_pack`."""
    from diptych.recipes import remasking_pack

    return remasking_pack.pack(config, out)


REPLICAS = {"sudoku4": 3, "latin6": 3, "sum_chain": 2, "sudoku9": 3, "text": 1, "countdown": 1}
ORDER = [(task, replica) for replica in range(3) for task, count in REPLICAS.items() if replica < count]
STAGES = {f"{task}-{replica}": Stage(task, replica) for task, replica in ORDER} | {"pack": pack}
