"""The settings of a training run, and which of them may change when it goes on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.train.ema import Profile
from diptych.train.optim import Decay

# what may change when a run goes on; anything else would make it another run
FREE = frozenset(
    {"name", "save_every_images", "log_every_images", "validate_every_images", "keep", "threads"}
    | {"background", "compile", "fsdp"}
)


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained; every count is in images (rows) seen.

    Args:
        name: name of the run.
        images: images to see in all; the last step is a whole one.
        batch: images a step, over all ranks.
        lr: peak learning rate.
        warmup_images: linear warm-up of the rate; 0 = none.
        decay: what the rate does afterwards; see `optim.rate`.
        tail: share of the run taken by `decay="linear_tail"`.
        betas: Adam's two averages.
        weight_decay: decoupled decay of the matrices; 0 makes it Adam.
        clip: largest global gradient norm; 0 = no clipping.
        accumulate: micro-batches a step, over all ranks; a multiple of their number, and it divides `batch`.
        ema: decay of the averaged weights; 0 = no average. With `ema_profile="power"`, its relative width.
        ema_profile: see `ema.decay_at`.
        seed: seed of the training noise.
        precision: "auto" = bfloat16 autocast on CUDA and float32 elsewhere; "bf16" = autocast anywhere; "fp32".
        save_every_images: checkpoint interval; 0 = only at the end.
        log_every_images: interval of the log's lines.
        validate_every_images: interval of `validate` and `sample`; 0 = only at the end.
        keep: checkpoints kept, >= 1.
        threads: CPU threads; None = as they are.
        background: write checkpoints while training goes on; needs memory for a copy of all that is saved.
        moment: number format of Adam's first moment; "bf16" is `optim.Adam16`, which has no weight decay.
        compile: compile the network's blocks with torch.compile; the first step takes a minute.
        fsdp: ranks that share one set of weights (FSDP2); 0 = each rank has its own (DDP), -1 = all share one.
        tensor: ranks that share the work of the SwiGLUs on one row (tensor parallel).

    Raises:
        ValueError: a value out of its range.
    """

    name: str
    images: int
    batch: int
    lr: float = 1e-4
    warmup_images: int = 0
    decay: Decay = "constant"
    tail: float = 0.2
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    ema: float = 0.9999
    ema_profile: Profile = "warmup"
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    save_every_images: int = 0
    log_every_images: int = 10_000
    validate_every_images: int = 0
    keep: int = 2
    threads: int | None = None
    background: bool = True
    moment: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    fsdp: int = 0
    tensor: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        least = {"images": 1, "batch": 1, "accumulate": 1, "keep": 1, "log_every_images": 1}
        least |= {
            "tensor": 1,
            "fsdp": -1,
            "warmup_images": 0,
            "save_every_images": 0,
            "validate_every_images": 0,
            "weight_decay": 0,
            "clip": 0,
        }
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"train.{name}: {getattr(self, name)} is too small; it is at least {low}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"train.lr: {self.lr} is not a positive number")
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema: {self.ema} is outside [0, 1); 0 keeps no average")
        if not 0 < self.tail <= 1:
            raise ValueError(f"train.tail: {self.tail} is outside (0, 1]")
        if self.batch % self.accumulate:
            raise ValueError(f"train.accumulate: {self.accumulate} does not divide the batch of {self.batch}")
        if self.moment == "bf16" and self.weight_decay:
            raise ValueError(f"train.weight_decay: {self.weight_decay} with moment='bf16', which decays nothing; set it to 0")
        for name, known in (
            ("precision", ("auto", "bf16", "fp32")),
            ("decay", ("constant", "cosine", "linear_tail")),
            ("ema_profile", ("constant", "warmup", "power")),
            ("moment", ("fp32", "bf16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"train.{name}: {getattr(self, name)!r} is unknown; choose from {', '.join(known)}")


def same(config: TrainConfig, saved: Mapping[str, object], folder: Path) -> None:
    """Refuse to go on with other settings than the run was started with."""
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    free = FREE | ({"images"} if config.decay == "constant" else set())
    for field in dataclasses.fields(config):
        # a setting that is newer than the run had its default
        name, then = field.name, saved.get(field.name, field.default)
        if name not in free and now[name] != then:
            raise ValueError(
                f"train.{name}: {now[name]!r}, but the run in {folder} was started with {then!r}; "
                "set it back to go on, or train in another folder"
            )
