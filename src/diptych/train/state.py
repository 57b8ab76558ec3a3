"""What a run trains: the weights, their average, the optimiser; where they compute, and whole or cut up over ranks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.train import checkpoint, optim, parallel
from diptych.train.ema import Ema
from diptych.train.settings import TrainConfig


class State:
    """Weights, average and optimiser of a run.

    Args:
        config: the settings.
        model: the network; trained in place.
        here: this rank.

    Attributes:
        model: the network, on its device.
        ema: its average, or None.
        optimizer: AdamW or `optim.Adam16`.
        step: optimiser steps made.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, here: parallel.Ranks) -> None:
        self.config, self.model, self.here, self.step = config, model, here, 0
        if here.mesh is None:
            model.to(here.device)
        copied = copy.deepcopy(model) if config.ema else None
        if config.compile:
            for block in parallel.units(model):
                block.compile()
        if here.mesh is not None:
            from diptych.train import sharding

            self._bare = sharding.twin(model)
            for one in (model, copied):
                if one is not None:
                    sharding.shard(one, here.mesh)
        self.ema = Ema(model, config.ema, config.ema_profile, copied) if config.ema else None
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if config.moment == "bf16":
            self.optimizer = optim.Adam16(model, config.lr, config.betas)
        else:
            self.optimizer = optim.adamw(model, config.lr, config.betas, config.weight_decay)

    def norm(self) -> Tensor:
        """The norm of all gradients together, the same on every rank."""
        grads = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        if self.here.mesh is None:
            return torch.nn.utils.get_total_norm(grads)
        from diptych.train import sharding

        return sharding.total_norm(grads)

    def move(self, norm: Tensor, rate: float) -> None:
        """One step of the optimiser and of the average, with gradients clipped to `config.clip`."""
        optim.set_rate(self.optimizer, rate)
        if self.config.clip:
            parts = [optim.local(parameter.grad) for parameter in self.trained if parameter.grad is not None]
            factor = (self.config.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(parts, factor)  # pyright: ignore[reportPrivateImportUsage]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update()
        self.step += 1

    def best(self) -> nn.Module | None:
        """The weights to use, the average where there is one, as a whole network on rank 0; None on the others.

        Every rank must call it.
        """
        best = self.ema.model if self.ema else self.model
        if self.here.mesh is None:
            return best if self.here.first else None
        from diptych.train import sharding

        weights = sharding.gather(best, self.here.first)
        return sharding.filled(self._bare, weights, self.here.device) if self.here.first else None

    def finished(self, path: Path) -> nn.Module:
        """The network to use on every rank; where it is cut up, read from the finished run's file."""
        if self.here.mesh is None:
            return self.ema.model if self.ema else self.model
        from diptych.train import sharding

        return sharding.filled(self._bare, checkpoint.read_weights(path), self.here.device)

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Everything a checkpoint holds, by kind and name; on each rank its part."""
        averaged = self.ema.model.state_dict() if self.ema else {}
        optimizer = optim.tensors(self.optimizer, self.model)
        return {"model": self.model.state_dict(), "ema": averaged, "optimizer": optimizer}

    def counts(self) -> dict[str, int]:
        """How often weights and average were moved."""
        return {"step": self.step, "ema_step": self.ema.step if self.ema else 0}

    def take(self, folder: Path) -> Mapping[str, Any]:
        """Take weights, average, optimiser and counts from a run's newest checkpoint; returns the rest of it.

        Raises:
            ValueError: there is none, or it does not fit.
        """
        if self.here.mesh is not None:
            from diptych.train import shards

            first = torch.bfloat16 if self.config.moment == "bf16" else torch.float32
            self.optimizer.state.update({p: optim.empty_state(p, first) for p in self.trained})
            rest = shards.take(checkpoint.newest(folder), self.tensors())
        else:
            saved = checkpoint.load(folder)
            checkpoint.put(self.model, saved.model, str(folder))
            if self.ema:
                checkpoint.put(self.ema.model, saved.ema, f"{folder} (average)")
            optim.restore(self.optimizer, self.model, saved.optimizer)
            rest = saved.state
        self.step = rest["step"]
        if self.ema:
            self.ema.step = rest["ema_step"]
        return rest
