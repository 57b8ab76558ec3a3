"""A network, its data and its loss, small enough for a test; run as a program it trains one, for torchrun and signals."""

import json
import sys

import torch
from torch import nn

from diptych.models.blocks import SwiGLU
from diptych.train.loop import Shuffled, TrainConfig, train
from diptych.train.losses import rectified_flow

ROWS = 22  # not a multiple of any batch, so that batches span epochs


class Net(nn.Module):
    """Predicts the flow of 4 numbers; dropout makes it draw from torch's own stream as well."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, 16), nn.LayerNorm(16), nn.Linear(16, 4)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x, t, cond):
        h = self.norm(torch.tanh(self.a(torch.cat([x, t[:, None].to(x.dtype)], 1))))
        return self.b(self.drop(h)) * self.scale


class Gated(nn.Module):
    """As `Net`, of two gated blocks in a list: what is cut up over ranks; one weight has fewer numbers than there are ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 4)
        self.blocks = nn.ModuleList(SwiGLU(6, 8) for _ in range(2))
        self.scale = nn.Parameter(torch.ones(()).reshape(1))

    def forward(self, x, t, cond):
        h = self.a(torch.cat([x, t[:, None].to(x.dtype)], 1))
        for block in self.blocks:
            h = h + block(h)
        return self.b(h) * self.scale


def gated(seed: int = 0) -> Gated:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Gated()


def net(seed: int = 0, dropout: float = 0.1) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(dropout)


def loss(model, batch, generator):
    x0 = batch["x"]
    t = torch.rand(len(x0), generator=generator)
    return rectified_flow(model, x0, None, t, torch.randn(x0.shape, generator=generator))


def fixed_loss(model, batch, generator):
    """As `loss`, with times and noise out of the row itself."""
    x0 = batch["x"]
    return rectified_flow(model, x0, None, x0[:, 0].sigmoid(), x0.flip(1).sin())


def data(augment=None) -> Shuffled:
    generator = torch.Generator().manual_seed(5)
    return Shuffled({"x": torch.randn(ROWS, 4, generator=generator)}, seed=3, augment=augment)


def config(**changes) -> TrainConfig:
    settings = {
        "name": "toy",
        "images": 96,
        "batch": 8,
        "lr": 1e-2,
        "accumulate": 2,
        "ema": 0.9,
        "warmup_images": 16,
        "weight_decay": 0.1,
        "save_every_images": 24,
        "log_every_images": 20,
        "keep": 3,
    }
    return TrainConfig(**{**settings, **changes})


if __name__ == "__main__":
    torch.set_num_threads(1)
    changes = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    model = gated() if "fsdp" in changes else net()
    done = train(config(images=int(sys.argv[2]), **changes), model, loss, data(), sys.argv[1], device="cpu")
    assert all(torch.isfinite(p).all() for p in done.model.parameters())
