"""Does saving hold training up? Time of a step while a checkpoint is written against the steps before, and the naive way.

    python benchmarks/checkpoint_overlap.py [--width 256] [--depth 7] [--batch 32] [--steps 24] [--device cpu]

One run with everything in it: the transformer of the shipped small text-to-image model, AdamW, an average of the weights.
"beside": `Saver` copies the tensors and a thread writes them; a step belongs to the save from the copying until the files
are on disk. "naive": the same checkpoint written where training stands, its time added to one step. Steps are compared with
those right before, so that the machine's load falls on both; the core that writes must not be the one that trains. The bar: a
step during a save takes at most 1.2 times one without, in the median over saves.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from diptych.models.i1 import I1
from diptych.models.i1_config import PRESETS
from diptych.train.checkpoint import Checkpoint
from diptych.train.losses import rectified_flow
from diptych.train.parallel import Ranks
from diptych.train.saving import Saver
from diptych.train.settings import TrainConfig
from diptych.train.state import State

BAR = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 256), ("depth", 7), ("batch", 32), ("steps", 16), ("saves", 6), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    shape = replace(PRESETS["small"], width=args.width, hidden=2 * args.width, depth=args.depth)
    state = State(TrainConfig("bench", 1, args.batch), I1(shape), Ranks(0, 1, device))
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device)

    x0, text = normal(args.batch, 16, 8, 8), normal(args.batch, 24, 384)
    mask = torch.ones(args.batch, 24, dtype=torch.bool, device=device)
    cond = {"text": text, "text_mask": mask, "null": torch.zeros(args.batch, dtype=torch.bool, device=device)}

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step() -> float:
        begun = now()
        t = torch.rand(args.batch, generator=generator, device=device)
        rectified_flow(state.model, x0, cond, t, normal(*x0.shape)).mean().backward()
        state.move(state.norm(), 1e-4)
        return now() - begun

    for _ in range(3):
        step()
    ratios: dict[str, list[float]] = {"beside": [], "naive": []}
    first, steps = list[float](), list[int]()
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2 * args.saves):
            way = ("beside", "naive")[turn % 2]
            saver = Saver(Path(folder), 1, Ranks(0, 1, device), background=way == "beside")
            plain = statistics.median(step() for _ in range(args.steps // 2))
            begun = now()
            saver.save(Checkpoint(turn, state={"config": {}}, **state.tensors()))
            stood = now() - begun
            during = [stood + step()]  # the copying belongs to the first step
            while saver.busy():
                during.append(step())
            saver.wait()
            saver.close()
            ratios[way].append(statistics.mean(during) / plain)
            if way == "beside":
                first.append(during[0] / plain)
                steps.append(len(during))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors")) / 1e6
    weights = sum(p.numel() for p in state.model.parameters()) / 1e6
    print(f"{weights:.1f} M weights, checkpoints of {size:.0f} MB, batch {args.batch}, {device}, {args.threads} thread(s)")
    for way, values in ratios.items():
        print(f"{way:7s} step during a save / step without: median {statistics.median(values):.3f}, worst {max(values):.3f}")
    print(f"beside: a save spans {statistics.median(steps):g} steps, the first of which copies: {statistics.median(first):.3f}")
    met = statistics.median(ratios["beside"]) <= BAR
    print(f"bar {BAR}: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
