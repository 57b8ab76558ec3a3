"""How much faster does i1's network sample and train here than a straightforward torch version, at the same outputs?

    python benchmarks/i1_sampler.py [--size wide,small] [--lengths 20,33,47,60] [--repeats 3] [--steps 2] [--clock wall]

One process, all take turns, one thread unless OMP_NUM_THREADS says otherwise, float32. The straightforward version
(tests/models/i1_reference.py) does what the official inference does: adapter output and tables of position kept over the
steps, both branches of guidance in one batch, padded text tokens computed and masked. Guidance 12 with full rescale, Euler in
float32. `wide`: 4 blocks of the 1B's width, 256 image and 256 text tokens; `small`: the same layout at the shipped
model's width and depth, 64 image and 128 text tokens. Four prompts of 20 to 60 tokens, as one batch. The lines below a ratio
take one trick back at a time; the floor is the matrix products alone. The bars: sampling 1.5 x, a training step (with AdamW)
1.3 x.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from diptych.denoise import parameterize
from diptych.guide import ClassifierFree, Guidance, null_flag
from diptych.models.i1 import I1
from diptych.models.i1_config import PUBLISHED, I1Config
from diptych.models.i1_names import published_name, to_published
from diptych.models.i1_sampling import OnFlow, prepared, stored_null
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import sample
from diptych.samplers.continuous import Euler
from diptych.schedule import uniform_grid

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import i1_reference as plain

SIZES: dict[str, tuple[I1Config, int]] = {
    "wide": (replace(PUBLISHED, depth=4, long_skip=False), 32),
    "small": (
        replace(
            PUBLISHED, channels=16, patch=1, width=256, depth=7, heads=4, hidden=512, text_width=384, text_tokens=128, base=8
        ),
        8,
    ),
}
BARS = {"sampling": 1.5, "training": 1.3}
STRENGTH = 12.0


class Case:
    """One size: our network, the same weights by their published names, prompts, noise."""

    def __init__(self, name: str, lengths: list[int], steps: int) -> None:
        self.config, side = SIZES[name]
        draw = torch.Generator().manual_seed(0)
        self.net = I1(self.config, draw)
        self.size, self.steps = (side, side), steps
        batch, tokens = len(lengths), self.config.text_tokens
        self.text = torch.randn(batch, tokens, self.config.text_width, generator=draw)
        self.mask = torch.arange(tokens) < torch.tensor(lengths)[:, None]
        self.noise = Noise(tuple(f"unit-{i}" for i in range(batch)))
        self.x = self.noise.normal((self.config.channels, side, side), "prior")
        self.t = torch.full((batch,), 0.5)
        self.drop = torch.arange(batch) == batch - 1

    def weights(self) -> dict[str, Tensor]:
        return {
            published_name(name, self.config.depth): to_published(name, value.detach(), self.config).clone()
            for name, value in self.net.state_dict().items()
        }

    def plain_sample(self, w: dict[str, Tensor]) -> Tensor:
        both = torch.cat([torch.zeros(len(self.x)), torch.ones(len(self.x))]).bool()
        text, mask = torch.cat([self.text] * 2), torch.cat([self.mask] * 2)
        ready = plain.prepare(w, text, mask, both, self.size, self.config.heads, self.config.base)
        x = self.x
        for _ in range(self.steps):
            c, u = plain.velocity(w, torch.cat([x, x]), ready, self.config.depth, self.config.heads).chunk(2)
            v = c + (STRENGTH - 1) * (c - u)
            v = v * (c.std((1, 2, 3), keepdim=True) / (v.std((1, 2, 3), keepdim=True) + 1e-8))
            x = x + v / self.steps
        return x

    def sample(self, anew: bool = False, apart: bool = False) -> Tensor:
        """Ours; `anew`: adapter and angles at every step; `apart`: the two branches one after the other."""
        cond = {"text": self.text, "text_mask": self.mask}
        denoise = parameterize(self.net, "flow", Gaussian())
        ready = cond if anew else prepared(self.net, cond, self.size)
        guidance = OnFlow(ClassifierFree(STRENGTH, null_flag if anew else stored_null, rescale=1.0))
        if apart:

            def halves(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
                parts = [{key: value.chunk(2)[i] for key, value in cond.items()} for i in (0, 1)]
                return torch.cat([denoise(x.chunk(2)[i], t.chunk(2)[i], parts[i]) for i in (0, 1)])

            return self._drawn(halves, guidance, ready)
        return self._drawn(denoise, guidance, ready)

    def _drawn(self, denoise: Callable[..., Tensor], guidance: Guidance, cond: dict[str, Tensor]) -> Tensor:
        shape = (self.config.channels, *self.size)
        return sample(Gaussian(), Euler(), denoise, uniform_grid(self.steps), shape, self.noise, cond=cond, guidance=guidance).x

    def plain_step(self, w: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> Tensor:
        ready = plain.prepare(w, self.text, self.mask, self.drop, self.size, self.config.heads, self.config.base)
        loss = (plain.velocity(w, self.x, ready, self.config.depth, self.config.heads) + self.x).square().mean()
        return stepped(loss, optimiser)

    def step(self, optimiser: torch.optim.Optimizer) -> Tensor:
        out = self.net(self.x, self.t, {"text": self.text, "text_mask": self.mask, "null": self.drop})
        return stepped((out - self.x).square().mean(), optimiser)

    def floor(self, training: bool) -> Callable[[], None]:
        """The products of all Linear layers that run, at their shapes, and nothing else."""
        shapes: list[tuple[int, nn.Linear]] = []
        hooks = [
            module.register_forward_hook(
                lambda layer, inputs, _: shapes.append((inputs[0].numel() // layer.in_features, layer))
            )
            for module in self.net.modules()
            if isinstance(module, nn.Linear)
        ]
        if training:
            self.net(self.x, self.t, {"text": self.text, "text_mask": self.mask})
        else:
            self.sample()
        for hook in hooks:
            hook.remove()
        work = [
            (torch.randn(rows, layer.in_features, generator=torch.Generator().manual_seed(1)), layer) for rows, layer in shapes
        ]

        def run() -> None:
            for x, layer in work:
                y = x @ layer.weight.detach().T
                if training:
                    y @ layer.weight.detach()
                    y.T @ x

        return run


def stepped(loss: Tensor, optimiser: torch.optim.Optimizer) -> Tensor:
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss.detach()


def turns(work: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each, round-robin, after one turn that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, do in work.items():
            begun = clock()
            do()
            if turn:
                seconds[name].append(clock() - begun)
    return seconds


def told(seconds: dict[str, list[float]], floor: str, images: int) -> float:
    """Print a table against its first row; the second row's ratio."""
    base, ours = list(seconds)[:2]
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[base], values))
        print(f"    {name:58s} {images / statistics.median(values):9.3f} images/s {ratio:6.2f} x")
    share = statistics.median(a / b for a, b in zip(seconds[floor], seconds[ours]))
    print(f"    share of the floor that ours reaches: {share:.2f}")
    return statistics.median(a / b for a, b in zip(seconds[base], seconds[ours]))


def sampling(case: Case, repeats: int, clock: Callable[[], float]) -> float:
    w, net = case.weights(), case.net.requires_grad_(False)

    def padded() -> Tensor:
        net.trim = case.config.text_tokens
        x = case.sample()
        net.trim = 0
        return x

    def whole() -> Tensor:
        net.blocks[-1].ends = False
        x = case.sample()
        net.blocks[-1].ends = True
        return x

    with torch.no_grad():
        wanted, found = case.plain_sample(w), case.sample()
        for name, x in {"ours": found, "padding kept": padded(), "last text kept": whole()}.items():
            error = ((x - wanted).norm() / wanted.norm()).item()
            print(f"    relative difference to the straightforward version, {name}: {error:.1e}")
            assert error < 1e-4
        work: dict[str, Callable[[], object]] = {
            "straightforward": lambda: case.plain_sample(w),
            "ours": case.sample,
            "  ours, padding not dropped after the adapter": padded,
            "  ours, text computed to the end of the last block": whole,
            "  ours, adapter and angles made anew at every step": lambda: case.sample(anew=True),
            "  ours, guidance in two forwards": lambda: case.sample(apart=True),
            "floor: the matrix products of ours": case.floor(training=False),
        }
        return told(turns(work, repeats, clock), "floor: the matrix products of ours", len(case.x))


def training(case: Case, repeats: int, clock: Callable[[], float]) -> float:
    w = {name: value.requires_grad_() for name, value in case.weights().items()}
    net = case.net.requires_grad_(True)
    theirs = torch.optim.AdamW(list(w.values()), lr=1e-4, fused=True)
    ours = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    begun = [
        case.plain_step(w, theirs).item(),
        case.step(ours).item(),
        case.plain_step(w, theirs).item(),
        case.step(ours).item(),
    ]
    print(f"    losses of two steps: straightforward {begun[0]:.5f} {begun[2]:.5f}, ours {begun[1]:.5f} {begun[3]:.5f}")
    assert abs(begun[0] - begun[1]) < 1e-4 * begun[0] and abs(begun[2] - begun[3]) < 1e-3 * begun[2]

    def padded() -> Tensor:
        net.trim = case.config.text_tokens
        loss = case.step(ours)
        net.trim = 0
        return loss

    work: dict[str, Callable[[], object]] = {
        "straightforward": lambda: case.plain_step(w, theirs),
        "ours": lambda: case.step(ours),
        "  ours, padding not dropped after the adapter": padded,
        "floor: the matrix products of ours": case.floor(training=True),
    }
    return told(turns(work, repeats, clock), "floor: the matrix products of ours", len(case.x))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="wide,small")
    parser.add_argument("--lengths", default="20,33,47,60", help="tokens of the prompts, one batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    args = parser.parse_args()
    lengths = list(map(int, args.lengths.split(",")))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    print(f"{torch.get_num_threads()} threads, {args.clock} clock; median of {args.repeats} paired turns")
    missed = False
    for name in args.size.split(","):
        config, side = SIZES[name]
        print(
            f"{name}: {config.depth} blocks of width {config.width}, {(side // config.patch) ** 2} image and "
            f"{config.text_tokens} text tokens, prompts of {args.lengths}"
        )
        for what, measure in {"sampling": sampling, "training": training}.items():
            print(f"  {what}")
            ratio = measure(Case(name, lengths, args.steps), args.repeats, clock)
            missed |= ratio < BARS[what]
            print(f"    bar {BARS[what]} x: {'met' if ratio >= BARS[what] else 'missed'} ({ratio:.2f} x)")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
