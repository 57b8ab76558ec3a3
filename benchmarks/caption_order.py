"""What do a step's rows in order of their captions' length buy in training i1's small model?

    python benchmarks/caption_order.py [--batch 32] [--micro 4] [--steps 12] [--repeats 3] [--precision fp32]

A step has the same rows either way; as drawn, every micro-batch is padded to the longest of its few captions, and dense
captions are many times as long as bare ones. Real captions of the three sets that the model is trained on, states of MiniLM,
latents of the shipped autoencoder; whole training steps (AdamW included), all taking turns on the same positions, one
thread unless OMP_NUM_THREADS says otherwise.
Printed beside the speed: the share of the computed tokens, image and text, that are no padding; at 100 % nothing is left to
gain this way.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from diptych.data.feed import MixedLatents
from diptych.models.i1 import I1
from diptych.recipes.i1_cells import Cell
from diptych.recipes.i1_data import feed, small_sets
from diptych.recipes.i1_loss import flow_loss
from diptych.recipes.i1_train import DROP, TRAIN


def steps(
    net: I1, optimiser: torch.optim.Optimizer, cell: Cell, data: MixedLatents, count: int, micro: int, bf16: bool
) -> tuple[float, float]:
    """Train for `count` steps; seconds, and the share of computed tokens that are real."""
    draw = torch.Generator().manual_seed(0)
    size, real, computed = cell.batch // micro, 0, 0
    begun = time.perf_counter()
    for step in range(count):
        for part in range(micro):
            rows = data.batch(step * cell.batch + part * size, size)
            x0 = rows["latent"]
            t, eps = cell.density(size, draw), torch.randn(x0.shape, generator=draw)
            null = torch.rand(size, generator=draw) < DROP
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = flow_loss(cell, net, rows, t, eps, null)
            (loss.float().sum() / cell.batch).backward()
            real += int(rows["text_mask"].sum()) + size * cell.side**2
            computed += rows["text_mask"].numel() + size * cell.side**2
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return time.perf_counter() - begun, real / computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro", type=int, default=4, help="micro-batches a step")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model = TRAIN["full"].model
    sets = replace(model.sets, sizes=small_sets(512, 512, 1024).sizes)
    cell = replace(model, sets=sets, batch=args.batch, latents="quickstart")
    with tempfile.TemporaryDirectory() as folder:
        sorted_rows = feed(cell, 0, Path(folder), 0)
        drawn = feed(replace(cell, batch=0), 0, Path(folder), 0)
        assert drawn.step == 0 and sorted_rows.step == args.batch
        net = I1(cell.model)
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
        ways = {
            "as drawn, one batch": (drawn, 1),
            "as drawn, micro-batches": (drawn, args.micro),
            "by length, micro-batches": (sorted_rows, args.micro),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(args.repeats + 1):
            for name, (data, micro) in ways.items():
                told = steps(net, optimiser, cell, data, args.steps, micro, args.precision == "bf16")
                if turn:  # the first turn warms up
                    found[name].append(told)
    print(f"{torch.get_num_threads()} threads, {args.precision}; steps of {args.batch} in {args.micro} micro-batches")
    base = [seconds for seconds, _ in found["as drawn, one batch"]]
    for name, told in found.items():
        speed = args.steps * args.batch / statistics.median(seconds for seconds, _ in told)
        ratio = statistics.median(a / seconds for a, (seconds, _) in zip(base, told))
        print(f"{name:25s} {speed:7.1f} pictures/s  {ratio:5.2f} x   real tokens {100 * told[0][1]:.0f} %")


if __name__ == "__main__":
    main()
