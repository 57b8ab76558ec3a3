"""What does starting a text-to-image network from a sharded checkpoint cost in memory, against its weights?

    python benchmarks/load_memory.py [--width 1152] [--depth 29] [--shard 512] [--ways ours,bfloat16]

The network is built without values on the meta device, then filled from shards: as they are stored, and converted to bfloat16
on the way; each way in a process of its own, whose peak resident memory above that of the imports is held against the bytes of
the loaded weights. --ways usual: the same weights by the usual three lines (build, load all files, load_state_dict). The
default is the 1B, 4.1 GB in float32; --width 2016 is the 3B, 12.7 GB. The bar: 1.1 x the weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from diptych.config import to_json
from diptych.files import write_json
from diptych.models.i1 import I1
from diptych.models.i1_config import PUBLISHED, I1Config, sized
from diptych.models.i1_weights import CLASS, STEM, load_i1
from diptych.models.tensor_files import tensor_files, write_tensors

BAR = 1.1
WAYS = {"ours": "as stored", "bfloat16": "converted to bfloat16", "usual": "built, then load_file and load_state_dict"}


def write(config: I1Config, folder: Path, shard: int) -> None:
    """A checkpoint of zeros with every page written, shard by shard, so that writing needs no memory either."""
    with torch.device("meta"):
        shapes = I1(config).state_dict()
    page = torch.zeros(max(value.numel() for value in shapes.values()))
    tensors: dict[str, Tensor] = {name: page[: value.numel()].view(value.shape) for name, value in shapes.items()}
    write_tensors(tensors, folder / "transformer", STEM, shard)
    write_json(folder / "transformer" / "config.json", {"_class_name": CLASS, "layout": "diptych", **to_json(config)})


def peak() -> int:
    """Peak resident memory of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def load(folder: Path, way: str) -> None:
    """Load, read every weight once, print bytes of the weights, peak above the imports, seconds."""
    before, begun = peak(), time.perf_counter()
    if way == "usual":
        files = tensor_files(folder / "transformer", STEM)
        net = I1(load_config(folder))
        net.load_state_dict({name: value for file in files for name, value in load_file(file).items()})
    else:
        net = load_i1(folder, dtype=torch.bfloat16 if way == "bfloat16" else None)
    seconds = time.perf_counter() - begun
    total = sum(float(value.detach().float().sum()) for value in net.parameters() if value.ndim < 2)
    for value in net.parameters():
        total += float(value.detach().flatten()[:: 1024 if value.element_size() == 4 else 2048].sum())  # one number a page
    print(sum(value.nbytes for value in net.parameters()), peak() - before, seconds, total)


def load_config(folder: Path) -> I1Config:
    from diptych.config import from_json
    from diptych.files import read_json

    told = read_json(folder / "transformer" / "config.json")
    return from_json(I1Config, {name: value for name, value in told.items() if name not in ("_class_name", "layout")})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1152)
    parser.add_argument("--depth", type=int, default=29)
    parser.add_argument("--shard", type=int, default=512, help="megabytes a file")
    parser.add_argument(
        "--ways", default="ours,bfloat16", help="usual is the third: it draws the weights first, which takes minutes"
    )
    parser.add_argument("--load", default="", help=argparse.SUPPRESS)
    parser.add_argument("--way", default="ours", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        load(Path(args.load), args.way)
        return 0
    config = replace(sized(PUBLISHED, args.width), depth=args.depth)
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        write(config, Path(folder), args.shard * 10**6)
        files = tensor_files(Path(folder) / "transformer", STEM)
        print(
            f"width {args.width}, depth {args.depth}: {len(files)} shards, {sum(f.stat().st_size for f in files) / 1e9:.2f} GB"
        )
        for way in args.ways.split(","):
            command = [sys.executable, __file__, "--load", folder, "--way", way]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            weights, above, seconds, _ = map(float, done.stdout.split())
            ratio = above / weights
            print(f"  {WAYS[way]:44s} weights {weights / 1e9:6.2f} GB  peak {ratio:5.2f} x  {seconds:6.1f} s")
            missed |= way != "usual" and ratio > BAR
    print(f"bar {BAR} x the weights: {'missed' if missed else 'met'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
