"""The training loop of every recipe: images seen are the clock, and a run that is killed and started again is the same run.

A step's batch is cut into `accumulate` micro-batches. Each has its own noise stream, seeded by (seed, images seen before
its first row), and the ranks share the micro-batches out in order; so neither a resume nor the number of processes
changes what the network sees or which noise it gets. Only the order of sums may differ: one process repeats itself bit
for bit, and so do two; more agree to rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from diptych import files, track
from diptych.train import checkpoint, optim, parallel, speed
from diptych.train.interrupt import Stopped, signals
from diptych.train.progress import Progress
from diptych.train.saving import Saver
from diptych.train.settings import TrainConfig, same
from diptych.train.shuffled import Shuffled
from diptych.train.state import State

__all__ = ["Data", "Diverged", "Shuffled", "Start", "Stopped", "TrainConfig", "Trained", "train"]

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch, torch.Generator], Tensor]
Validate = Callable[[nn.Module], Mapping[str, float]]
Sample = Callable[[nn.Module, Path], None]


class Data(Protocol):
    """Training data without state: the same position always gives the same rows."""

    def batch(self, position: int, size: int) -> Batch:
        """Rows position, ..., position + size - 1 of an endless stream, as named tensors (size, ...)."""
        ...


class Diverged(FloatingPointError):
    """A loss or a gradient norm that is not finite."""


@dataclass(frozen=True)
class Start:
    """What a new run begins from; a run that has a checkpoint of its own goes on from that.

    Args:
        folder: "weights": a folder with model.safetensors, or such a file. "everything": the folder of a run.
        what: "weights" only, the average beginning from them and the optimiser anew; or "everything" in the newest checkpoint
            of another run: weights, average, both moments and the count of steps, as the stages of one training do.
    """

    folder: Path
    what: Literal["weights", "everything"] = "weights"


@dataclass(frozen=True)
class Trained:
    """What a finished run left.

    Args:
        folder: config.json, log.jsonl, model.safetensors, checkpoints/.
        model: the network to use, in evaluation mode: the averaged weights, or the plain ones where no average was kept.
        images: images seen.
        step: optimiser steps.
        log: the lines of the log.
    """

    folder: Path
    model: nn.Module
    images: int
    step: int
    log: Sequence[Mapping[str, float]]


@dataclass
class _Since:
    """What the log has gathered since its last line; travels in checkpoints, so that a resumed log is the same log."""

    loss: float = 0.0
    norm: float = 0.0
    steps: int = 0
    smooth: float = math.nan  # over the whole run, for the progress line

    def add(self, loss: float, norm: float) -> None:
        self.loss, self.norm, self.steps = self.loss + loss, self.norm + norm, self.steps + 1
        self.smooth = loss if math.isnan(self.smooth) else 0.98 * self.smooth + 0.02 * loss


def train(
    config: TrainConfig,
    model: nn.Module,
    loss: Loss,
    data: Data,
    folder: Path | str,
    *,
    validate: Validate | None = None,
    sample: Sample | None = None,
    device: torch.device | str | None = None,
    trackers: Sequence[str] = (),
    start: Start | None = None,
    flops: float = 0.0,
) -> Trained:
    """Train `model` in place; run again on the same folder to go on where a killed run left off.

    Args:
        config: the settings; a resumed run must have the same, but for `settings.FREE` and a later end under a constant rate.
        model: the network, initialised by the caller.
        loss: `loss(model, batch, generator) -> (B,)`, a loss a row. All its randomness comes from the generator, which
            lives on the device; over several ranks it calls `model` itself, not its methods.
        data: see `Data`.
        folder: where the run lives.
        validate: `validate(model) -> numbers`, logged under "val/"; gets the averaged weights, without gradients, on rank 0.
        sample: `sample(model, path)`, may write pictures under `path`; as `validate`.
        device: where to compute; None = CUDA where there is any.
        trackers: names out of `track.TRACKERS`; log.jsonl is always written.
        start: where a new run begins; None = from the model as it is.
        flops: of one row, forward and backward (`speed.flops`); the log then tells the share of the device's peak.

    Raises:
        ValueError: a setting, a loss or a checkpoint that does not fit, or nothing to start from.
        StoreError: a checkpoint could not be written; those before it are intact.
        Diverged: a loss or gradient norm that is not finite; the last checkpoint is from before it.
        Stopped: SIGTERM or SIGINT came; a checkpoint was written.
    """
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(parallel.ranks(device))
        if here.world > 1 or config.tensor > 1:
            from diptych.train import sharding

            here = sharding.arrange(here, config.fsdp, config.tensor)
        if config.accumulate % here.rows:
            raise ValueError(
                f"train.accumulate: {config.accumulate} micro-batches cannot be shared by {here.rows} ranks; "
                f"set accumulate={here.rows * math.ceil(config.accumulate / here.rows)}"
            )
        stack.enter_context(parallel.threads(config.threads))
        # layers such as dropout draw from the global stream: it is keyed too, and given back as it was
        devices = [here.device] if here.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices))
        run = _Run(config, model, loss, data, Path(folder), here, start)
        run.flops = flops
        stack.callback(run.saver.close)
        stop = stack.enter_context(signals())
        for tracker in run.open(trackers):
            stack.callback(tracker.finish)
        return run.go(validate, sample, stop)


class _Run:
    """The course of a run: its place on the clock, what the log has gathered, and when to log, validate, save and stop."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        loss: Loss,
        data: Data,
        folder: Path,
        here: parallel.Ranks,
        start: Start | None,
    ) -> None:
        self.config, self.loss, self.data, self.folder, self.here = config, loss, data, folder, here
        self.images, self.since, self.flops, self.peak = 0, _Since(), 0.0, 0.0
        own = bool(checkpoint.numbered(folder))
        if start and start.what == "weights" and not own:
            checkpoint.load_weights(start.folder, model)
        self.state = State(config, model, here)
        if own:
            saved = self.state.take(folder)
            same(config, saved["config"], folder)
            self.images, self.since = saved["images"], _Since(**saved["since"])
        elif start and start.what == "everything":
            self.state.take(start.folder)
        # wrapping sends rank 0's weights to all, so it comes after the resume
        self.wrapped = here.wrap(model)
        self.generator = torch.Generator(here.device)
        # torch.manual_seed would queue a traceback a call for a CUDA that may never start
        cuda = here.device.type == "cuda"
        self.ambient = torch.cuda.default_generators[here.device.index] if cuda else torch.default_generator
        self.saver = Saver(folder, config.keep, here, config.background)
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and cuda)
        # checked one step late on CUDA, so that the device never waits for the host
        self.late = 1 if cuda else 0
        self.unchecked: list[tuple[int, int, Tensor]] = []
        self.stopping = False
        self.trackers: list[track.Tracker] = []

    def open(self, trackers: Sequence[str]) -> list[track.Tracker]:
        """Open the log and the trackers, on rank 0; the log is cut back to where the run stands."""
        if self.here.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            settings = dataclasses.asdict(self.config)
            files.write_json(self.folder / "config.json", settings)
            self.trackers = [track.Jsonl(self.folder / "log.jsonl", self.images)]
            for kind in trackers:
                self.trackers.append(track.open_tracker(kind, self.config.name, self.folder, settings, self.images))
        return self.trackers

    def go(self, validate: Validate | None, sample: Sample | None, stop: list[int]) -> Trained:
        """Run to the end of the clock."""
        config, total = self.config, self.config.images
        progress = Progress(config.name, self.images, total, sys.stderr if self.here.first else None)
        self.wrapped.train()
        fresh = self.images < total
        if self.flops and self.here.first and fresh:
            self.peak = self.here.world * speed.peak(self.here.device, self.bf16)
        while self.images < total:
            before = self.images
            self._step(stop)
            self.saver.check()
            while len(self.unchecked) > self.late:
                self._check()
            progress.at(self.images, self.since.smooth)
            done = self.images >= total
            crossed = [
                done or bool(every and before // every != self.images // every)
                for every in (config.log_every_images, config.validate_every_images, config.save_every_images)
            ]
            if crossed[1] and (validate or sample):
                crossed[0] = True
            if any(crossed) or self.stopping:
                self._check_all()
            if crossed[0]:
                values = self._line() | {"perf/images_per_s": progress.speed()}
                if self.peak:
                    values["perf/utilisation"] = values["perf/images_per_s"] * self.flops / self.peak
                if crossed[1]:
                    values |= self._validate(validate, sample)
                if self.here.first:
                    for tracker in self.trackers:
                        tracker.log(values, self.images)
                progress.line(self.images, values)
            if crossed[2] or self.stopping:
                self._save()
            if any(crossed):
                progress.resume(self.images)
            if self.stopping and not done:
                number = stop[0] if stop else signal.SIGTERM
                self.saver.wait()
                progress.say(
                    f"stopped by {signal.Signals(number).name} at {self.images:,} of {total:,} images; "
                    "run the same command to go on"
                )
                raise Stopped(128 + number)
        self.saver.wait()
        self.state.model.eval()
        path = self.folder / "model.safetensors"
        if fresh or not path.exists():
            best = self.state.best()
            if best is not None:
                checkpoint.save_weights(path, best.state_dict(), {"name": config.name, "images": str(self.images)})
        self.here.wait()
        progress.end()
        log = track.read(self.folder / "log.jsonl")
        return Trained(self.folder, self.state.finished(path), self.images, self.state.step, tuple(log))

    def _step(self, stop: list[int]) -> None:
        config, here = self.config, self.here
        size = config.batch // config.accumulate
        share = config.accumulate // here.rows
        total = torch.zeros((), device=here.device)
        for index in range(here.row * share, (here.row + 1) * share):
            position = self.images + index * size
            key = _key(config.seed, position)
            self.ambient.manual_seed(key)
            self.generator.manual_seed(key)
            rows = {name: value.to(here.device, non_blocking=True) for name, value in self.data.batch(position, size).items()}
            with parallel.syncing(self.wrapped, index + 1 == (here.row + 1) * share):
                with torch.autocast(here.device.type, torch.bfloat16, enabled=self.bf16):
                    losses = self.loss(self.wrapped, rows, self.generator)
                if losses.shape != (size,):
                    raise ValueError(f"loss: shape {tuple(losses.shape)} for {size} rows; return one loss a row")
                mean = losses.to(torch.promote_types(losses.dtype, torch.float32)).sum() / config.batch
                # ranks average their gradients; the step wants their sum
                (mean * here.rows).backward()
            total += mean.detach()
        norm = self.state.norm()
        # every rank has the same norm, and learns here of the others' losses and signals
        flag = torch.full((), float(bool(stop)), device=here.device)
        health = here.share(torch.stack([total, norm.float() / here.rows, flag]))
        self.unchecked.append((self.state.step + 1, self.images, health))
        if not self.late:
            self._check()  # before the weights are touched
        self.state.move(norm, self._rate())
        self.images += config.batch

    def _rate(self) -> float:
        config = self.config
        return optim.rate(
            self.images,
            lr=config.lr,
            batch=config.batch,
            total=config.images,
            warmup=config.warmup_images,
            decay=config.decay,
            tail=config.tail,
        )

    def _check(self) -> None:
        step, images, health = self.unchecked.pop(0)
        loss, norm, stop = health.tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.saver.wait()
            paths = checkpoint.numbered(self.folder)
            good = f"the last good checkpoint is {paths[-1]}" if paths else "no checkpoint was written yet"
            raise Diverged(
                f"step {step} ({images:,} images seen): loss {loss}, gradient norm {norm}; {good}. "
                "Lower lr, lengthen warmup_images, or look at the rows of this step"
            )
        self.since.add(loss, norm)
        self.stopping = self.stopping or stop > 0

    def _check_all(self) -> None:
        while self.unchecked:
            self._check()

    def _line(self) -> dict[str, float]:
        since = self.since
        values = {"train/loss": since.loss / since.steps, "train/grad_norm": since.norm / since.steps}
        self.since = _Since(smooth=since.smooth)
        return values | {"lr": self.state.optimizer.param_groups[0]["lr"], "step": self.state.step}

    def _validate(self, validate: Validate | None, sample: Sample | None) -> dict[str, float]:
        values: dict[str, float] = {}
        best = self.state.best() if validate or sample else None
        if best is not None:
            best.eval()
            with torch.no_grad():
                if validate:
                    values = {f"val/{name}": float(value) for name, value in validate(best).items()}
                if sample:
                    path = self.folder / "samples" / f"{self.images:012d}"
                    path.mkdir(parents=True, exist_ok=True)
                    sample(best, path)
        self.here.wait()
        self.wrapped.train()
        return values

    def _save(self) -> None:
        state = {
            **self.state.counts(),
            "config": dataclasses.asdict(self.config),
            "since": dataclasses.asdict(self.since),
            "noise": {"seed": self.config.seed, "position": self.images, "torch": torch.__version__},
        }
        self.saver.save(checkpoint.Checkpoint(self.images, state=state, **self.state.tensors()))


def _key(seed: int, position: int) -> int:
    """63 bits out of (seed, position)."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest(), "big") >> 1
