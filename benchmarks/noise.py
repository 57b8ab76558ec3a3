"""What does keyed noise cost? A draw for 24 units against a sampling step, and against 24 torch generators.

    python benchmarks/noise.py [--units 24] [--repeats 15]

One process; the three take turns, so that the machine's load falls on all alike. A step is one Euler step (one forward of
the quickstart's transformer, random weights) of all units; a draw is one normal number an element of their latents,
16 x 8 x 8. "generators" is the usual way to give each unit its own noise: hash its key, seed a generator, draw, stack. The
bar: a draw costs at most 2 % of a step, in the median of the paired turns.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from diptych.denoise import parameterize
from diptych.models.dit import DiT, DiTConfig
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import sample
from diptych.samplers.continuous import Euler

BAR = 0.02
SHAPE = (16, 8, 8)


def generators(keys: tuple[str, ...]) -> Tensor:
    """One freshly seeded torch generator a unit."""
    rows = []
    for key in keys:
        seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1
        rows.append(torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(rows)


def step(keys: tuple[str, ...]) -> Callable[[], object]:
    """One Euler step of the quickstart's transformer for all units."""
    config, process = DiTConfig(), Gaussian()
    net = DiT(config).eval()
    generator = torch.Generator().manual_seed(0)
    cond = {
        "text": torch.randn(len(keys), config.text_tokens, config.text_width, generator=generator),
        "text_mask": torch.ones(len(keys), config.text_tokens, dtype=torch.bool),
    }
    x, grid, noise = torch.randn(len(keys), *SHAPE, generator=generator), torch.tensor([0.5, 0.4]), Noise(keys)
    return lambda: sample(process, Euler(), parameterize(net, "flow", process), grid, SHAPE, noise, cond=cond, x=x)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    keys = tuple(f"a red fox, flat style {i}#0" for i in range(args.units))
    noise = Noise(keys)
    work: dict[str, Callable[[], object]] = {
        "draw": lambda: noise.normal(SHAPE, "prior"),
        "generators": lambda: generators(keys),
        "step": step(keys),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(args.repeats + 1):
        for name, do in work.items():
            begun = time.perf_counter()
            do()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begun)
    print(f"{args.units} units of {' x '.join(map(str, SHAPE))}, {torch.get_num_threads()} threads, {args.repeats} turns")
    for name, values in seconds.items():
        print(f"{name:10s} {1e3 * statistics.median(values):9.2f} ms")
    share = statistics.median(a / b for a, b in zip(seconds["draw"], seconds["step"]))
    against = statistics.median(a / b for a, b in zip(seconds["draw"], seconds["generators"]))
    print(f"draw / generators {against:.2f}")
    print(f"draw / step       {share:.4f}")
    print(f"bar {BAR}: {'met' if share <= BAR else 'missed'}")
    return 0 if share <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
