"""What does the log-spectral loss cost? Its share of a training step at 64 x 64, and against shells taken in a loop.

    OMP_NUM_THREADS=1 python benchmarks/spectral_loss.py [--turns 15]

One process, CPU seconds, the jobs take turns; figures are medians over turns. A step is that of the lean field autoencoder with
mean squared error and KL: forward, backward, Adam. The loss is its value and its gradient on the prediction. "loop" averages
the power under one mask a shell, the masks made beforehand; "masks each time" makes them in every call from |k|, as code
written for one figure does. The floor is the transforms alone, of prediction and truth, and the gradient back through the
first. The bar: the log-spectral loss takes at most 15 % of a step that holds it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from diptych.models.field_autoencoder import FieldAutoencoder, FieldAutoencoderConfig
from diptych.physics.shells import SpectralGrid
from diptych.physics.zones import Zones
from diptych.train.losses import mean_squared
from diptych.train.spectral_loss import PAPER_WEIGHTS, LogSpectralLoss, WhitenedLoss, gaussian_kl

BAR = 0.15


def looped(grid: SpectralGrid, zones: Zones, masks: list[Tensor] | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The same loss with a Python loop over shells; eps, one-sided columns and all."""
    k = torch.hypot(*(torch.as_tensor(one, dtype=torch.float32) for one in grid.modes))
    double = torch.as_tensor(grid.weight, dtype=torch.float32)

    def loss(prediction: Tensor, truth: Tensor) -> Tensor:
        powers = [torch.fft.rfft2(x).abs().square() for x in (prediction, truth)]
        total = prediction.new_zeros(len(prediction))
        for weight, (low, high) in zip(PAPER_WEIGHTS, zones.edges):
            parts = []
            for shell in range(low, high + 1):
                inside = masks[shell] if masks else (k >= shell - 0.5) & (k < shell + 0.5)
                means = [(p[..., inside] * double[inside]).sum(-1) / double[inside].sum() for p in powers]
                parts.append(((means[0] + 1e-6).log() - (means[1] + 1e-6).log()).square())
            total = total + weight * torch.stack(parts).mean(0).mean(1)
        return total

    return loss


def median_seconds(jobs: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(turns + 2):
        for name, job in jobs.items():
            begun = time.process_time()
            job()
            if turn >= 2:  # the first two warm up
                taken[name].append(time.process_time() - begun)
    return {name: statistics.median(held) for name, held in taken.items()}


def with_gradient(loss: Callable[[Tensor, Tensor], Tensor], truth: Tensor, prediction: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(prediction, truth).sum(), prediction)


def race(size: int, batch: int, turns: int) -> dict[str, float]:
    grid = SpectralGrid((size, size), dealiased=True)
    zones = Zones.fractions(grid)
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(batch, 1, size, size, generator=generator)
    model = (truth + 0.1 * torch.randn(truth.shape, generator=generator)).requires_grad_()
    masks = [torch.as_tensor(grid.shell == shell) for shell in range(grid.shells)]
    ours = LogSpectralLoss(grid, zones, PAPER_WEIGHTS)
    naive = looped(grid, zones, masks)
    assert torch.allclose(ours(model, truth), naive(model, truth), rtol=1e-3)

    def transforms(prediction: Tensor, truth: Tensor) -> Tensor:
        return torch.fft.rfft2(prediction).real + torch.fft.rfft2(truth).real

    taken = median_seconds(
        {
            "ours": with_gradient(ours, truth, model),
            "whitened": with_gradient(WhitenedLoss.fit(truth, grid), truth, model),
            "loop": with_gradient(naive, truth, model),
            "masks each time": with_gradient(looped(grid, zones, None), truth, model),
            "floor": with_gradient(transforms, truth, model),
        },
        turns,
    )
    print(f"{batch} x {size} x {size}, value and gradient")
    for name, seconds in taken.items():
        print(f"  {name:16s} {1e3 * seconds:8.2f} ms   {seconds / taken['ours']:6.1f} x ours")
    return taken


def steps(batch: int, turns: int) -> dict[str, float]:
    """A step of the lean autoencoder without and with the loss."""
    config = FieldAutoencoderConfig()
    grid = SpectralGrid(config.shape, dealiased=True)
    log = LogSpectralLoss(grid, Zones.fractions(grid), PAPER_WEIGHTS)
    fields = torch.randn(batch, 1, *config.shape, generator=torch.Generator().manual_seed(0))

    def job(spectral: bool) -> Callable[[], object]:
        draws = torch.Generator().manual_seed(1)
        network = FieldAutoencoder(config)
        optimiser = torch.optim.Adam(network.parameters(), 1e-4)

        def step() -> None:
            optimiser.zero_grad()
            coded = network(fields, draws)
            loss = mean_squared(coded.decoded, coded.target) + 7.5e-3 * gaussian_kl(coded.mean, coded.log_variance)
            if spectral:
                loss = loss + log(coded.decoded, coded.target)
            loss.mean().backward()
            optimiser.step()

        return step

    return median_seconds({"plain": job(False), "spectral": job(True)}, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15, metavar="N", help="turns of each (default: %(default)s)")
    turns = parser.parse_args().turns
    batch = 12
    alone = race(64, batch, turns)
    race(256, 4, turns)
    taken = steps(batch, turns)
    share = alone["ours"] / (taken["plain"] + alone["ours"])
    looped_share = alone["loop"] / (taken["plain"] + alone["loop"])
    plain, spectral = (f"{1e3 * taken[name]:.1f} ms" for name in ("plain", "spectral"))
    print(f"step of the lean autoencoder, batch {batch}: {plain}, with the loss {spectral}")
    print(f"share of a step: {share:.1%}; by the loop {looped_share:.1%}")
    print(f"bar {BAR:.0%}: {'met' if share <= BAR else 'missed'}")
    sys.exit(share > BAR)


if __name__ == "__main__":
    main()
