"""Does the sampling driver cost anything? Pictures a second of `sample()` against the bare model at the same forwards.

    python benchmarks/sampling_driver.py [--batch 8] [--forwards 7] [--repeats 5] [--device cpu]

One process, one network (the quickstart's transformer, random weights: speed does not depend on them), the same batch and
number of forwards. "bare" calls the network in a Python loop and keeps nothing. `sample()` makes the keyed noise, steps,
counts and keeps the samples; the guided rule is held against the bare network at twice the batch. They take turns, so that
the machine's load falls on all alike. The bar: every rule at least 0.8 of bare, in the median of the paired turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from diptych.denoise import parameterize
from diptych.guide import ClassifierFree
from diptych.models.dit import DiT, DiTConfig
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import sample
from diptych.samplers.continuous import DPMSolver2M, Euler, Heun
from diptych.schedule import uniform_grid

BAR = 0.8
SHAPE = (16, 8, 8)
GUIDED = ClassifierFree(3.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 8), ("forwards", 7), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.forwards % 2 == 0:
        parser.error("--forwards: Heun needs an odd number, two a step and one in the last")
    config, process = DiTConfig(), Gaussian()
    net = DiT(config).eval().to(args.device)
    noise = Noise(tuple(f"a red fox, flat style {i}#0" for i in range(args.batch)), args.device)
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(args.batch, config.text_tokens, config.text_width, generator=generator).to(args.device)
    cond = {"text": text, "text_mask": torch.ones(text.shape[:2], dtype=torch.bool, device=args.device)}

    def bare(times: int) -> Callable[[], object]:
        x = noise.normal(SHAPE, "prior").repeat(times, 1, 1, 1)
        t = torch.full((len(x),), 0.5, device=args.device)
        many = {name: value.repeat(times, *[1] * (value.ndim - 1)) for name, value in cond.items()}

        def run() -> None:
            with torch.no_grad():
                for _ in range(args.forwards):
                    net(x, t, many)

        return run

    def driven(sampler, steps: int, guidance: ClassifierFree | None = None) -> Callable[[], object]:
        denoise, grid = parameterize(net, "flow", process), uniform_grid(steps)
        return lambda: sample(process, sampler, denoise, grid, SHAPE, noise, cond=cond, guidance=guidance)

    # name: (what runs, what it is held against)
    work = {
        "bare": (bare(1), None),
        "euler": (driven(Euler(), args.forwards), "bare"),
        "heun": (driven(Heun(), (args.forwards + 1) // 2), "bare"),
        "dpmpp_2m": (driven(DPMSolver2M(), args.forwards), "bare"),
        "bare, twice the batch": (bare(2), None),
        "euler, guided": (driven(Euler(), args.forwards, GUIDED), "bare, twice the batch"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(args.repeats + 1):
        for name, (run, _) in work.items():
            begun = time.perf_counter()
            run()
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begun)
    print(
        f"batch {args.batch}, {args.forwards} forwards, {args.repeats} turns, {torch.get_num_threads()} threads, {args.device}"
    )
    worst = float("inf")
    for name, (_, against) in work.items():
        line = f"{name:22s} {args.batch / statistics.median(seconds[name]):8.2f} pictures/s"
        if against:
            ratio = statistics.median(b / a for a, b in zip(seconds[name], seconds[against]))
            worst = min(worst, ratio)
            line += f"   {ratio:.3f} of {against}"
        print(line)
    print(f"bar {BAR}: {'met' if worst >= BAR else 'missed'}")
    return 0 if worst >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
