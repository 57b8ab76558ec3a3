"""Does the training loop cost anything? Images a second of `diptych.train` against loops written by hand.

    python benchmarks/train_loop.py [--steps 60] [--turn 2] [--batch 32] [--network dit] [--device cpu]

One process, one network, the same rows and steps. The loops live in threads and take turns of a few steps, so that the
machine's load falls on all alike; only one runs at a time. All do the same work: flow matching, clipping, AdamW, an average
of the weights. "plain" is what one writes in ten minutes (torch's defaults, a Python loop over the weights for the
average); "tuned" has the fused optimiser and a foreach average. The bar: at least 0.95 of "tuned", in the median of the
paired turns.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from io import StringIO

import torch
from torch import Tensor, nn

from diptych.models.dit import DiT, DiTConfig
from diptych.train.loop import Shuffled, TrainConfig, train
from diptych.train.losses import rectified_flow

BAR = 0.95


class Transformer(nn.Module):
    """A small transformer over 64 tokens of 16 numbers."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.into, self.time, self.out = nn.Linear(16, width), nn.Linear(1, width), nn.Linear(width, 16)
        layer = nn.TransformerEncoderLayer(width, max(1, width // 64), 4 * width, 0.0, "gelu", batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return self.out(self.blocks(self.into(x) + self.time(t[:, None])[:, None]))


class Turns:
    """Hands the machine round: a thread works for `turn` steps, then waits for the others."""

    def __init__(self, names: list[str], turn: int, device: str) -> None:
        self.names, self.turn, self.device, self.whose = names, turn, device, 0
        self.change = threading.Condition()

    def now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    def wait(self, name: str) -> None:
        with self.change:
            self.change.wait_for(lambda: self.names[self.whose] == name)

    def next(self) -> None:
        with self.change:
            self.whose = (self.whose + 1) % len(self.names)
            self.change.notify_all()


class Clocked:
    """Data that times the turns of the loop that reads it."""

    def __init__(self, data: Shuffled, turns: Turns, name: str) -> None:
        self.data, self.turns, self.name = data, turns, name
        self.seconds: list[float] = []
        self.calls, self.start = 0, 0.0

    def batch(self, position: int, size: int) -> dict[str, Tensor]:
        if self.calls % self.turns.turn == 0:
            if self.calls:
                self.seconds.append(self.turns.now() - self.start)
                self.turns.next()
            self.turns.wait(self.name)
            self.start = self.turns.now()
        self.calls += 1
        return self.data.batch(position, size)


def flow_loss(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    x0 = batch["x"]
    t = torch.rand(len(x0), generator=generator, device=x0.device)
    cond = {name: value for name, value in batch.items() if name != "x"}
    return rectified_flow(model, x0, cond, t, torch.randn(x0.shape, generator=generator, device=x0.device))


def ours(model: nn.Module, data: Clocked, steps: int, batch: int, device: str) -> None:
    config = TrainConfig("bench", steps * batch, batch, log_every_images=10 * batch, ema_profile="constant", precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        train(config, model, flow_loss, data, folder, device=device)


def by_hand(tuned: bool) -> Callable[[nn.Module, Clocked, int, int, str], None]:
    def run(model: nn.Module, data: Clocked, steps: int, batch: int, device: str) -> None:
        model.to(device).train()
        generator = torch.Generator(device).manual_seed(0)
        average = copy.deepcopy(model).requires_grad_(False)
        mine, theirs = list(average.parameters()), list(model.parameters())
        optimizer = torch.optim.AdamW(theirs, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=tuned or None)
        for step in range(steps):
            rows = {name: value.to(device) for name, value in data.batch(step * batch, batch).items()}
            loss = flow_loss(model, rows, generator).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(theirs, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                if tuned:
                    torch._foreach_lerp_(mine, theirs, 1e-4)
                else:
                    for a, b in zip(mine, theirs):
                        a.lerp_(b, 1e-4)
            if step % 10 == 9:
                print(f"{step} {loss.item():.4f}", file=StringIO())

    return run


LOOPS = {"ours": ours, "plain": by_hand(False), "tuned": by_hand(True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("steps", 60), ("turn", 2), ("batch", 32), ("width", 192), ("depth", 4), ("threads", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--network", choices=("transformer", "dit"), default="transformer")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    if args.network == "dit":
        arrays = {
            "x": torch.randn(512, 16, 8, 8, generator=generator),
            "text": torch.randn(512, 32, 384, generator=generator),
            "text_mask": torch.ones(512, 32, dtype=torch.bool),
        }
    else:
        arrays = {"x": torch.randn(512, 64, 16, generator=generator)}
    data = Shuffled(arrays)

    def network() -> nn.Module:
        return DiT(DiTConfig()) if args.network == "dit" else Transformer(args.width, args.depth)

    turns = Turns(list(LOOPS), args.turn, args.device)
    clocked = {name: Clocked(data, turns, name) for name in LOOPS}

    def work(name: str) -> None:
        model = network()
        # a last batch is asked for only to close the last turn
        LOOPS[name](model, clocked[name], args.steps + 1, args.batch, args.device)
        turns.next()

    workers = [threading.Thread(target=work, args=(name,)) for name in LOOPS]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    weights = sum(p.numel() for p in network().parameters())
    print(f"{weights / 1e6:.2f} M weights, batch {args.batch}, {args.steps} steps by turns of {args.turn}, {args.device}")
    seconds = {name: clock.seconds[2:] for name, clock in clocked.items()}  # the first two turns warm up
    for name, values in seconds.items():
        print(f"{name:6s} {args.turn * args.batch / statistics.median(values):10.1f} images/s")
    ratios = {}
    for name in ("plain", "tuned"):
        paired = sorted(theirs / mine for mine, theirs in zip(seconds["ours"], seconds[name]))
        ratios[name] = statistics.median(paired)
        low, high = paired[len(paired) // 4], paired[(3 * len(paired)) // 4]
        print(f"ours / {name} {ratios[name]:.3f}  (quartiles {low:.3f} to {high:.3f})")
    print(f"bar {BAR}: {'met' if ratios['tuned'] >= BAR else 'missed'}")
    return 0 if ratios["tuned"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
