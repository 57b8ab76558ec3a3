"""Losses in wavenumber space, for any network and any loop: each is called as loss(prediction, truth) -> (B,), in float32.

What each sees: `LogSpectralLoss`, `BinnedPowerLoss` the power of shells and nothing of phases, so that noise of the right power
satisfies them; `WhitenedLoss`, `FocalFrequencyLoss` every mode with its phase. `Mix` adds them up. Where data are missing,
multiply both arguments by `transforms.tapered(mask)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diptych.physics.shells import SpectralGrid, coefficients, mode_power, over_modes, power_mean, tables
from diptych.physics.zones import Zones, zone_mask

Loss = Callable[[Tensor, Tensor], Tensor]
PAPER_WEIGHTS = (1e-3, 4e-3, 6e-3)  # of IR, DO, DD beside a mean squared error in unit variance; arXiv 2606.11691
PAPER_CLAMP = 50.0
FLOOR = 1e-12  # of the largest shell's power a mode: below it a shell is rounding, and no loss divides by it


def _pair(prediction: Tensor, truth: Tensor, grid: SpectralGrid) -> tuple[Tensor, Tensor]:
    """Both as (B, C, *shape), at least float32.

    Raises:
        ValueError: shapes that differ or do not fit the grid.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"loss: prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} differ in shape")
    grid.check(prediction, "loss: prediction")
    wide = [x if x.dtype == torch.float64 else x.float() for x in (prediction, truth)]
    if prediction.ndim <= grid.dims:
        raise ValueError(f"loss: prediction {tuple(prediction.shape)} has no batch axis; give (B, *shape) or (B, C, *shape)")
    channels = prediction.ndim - grid.dims - 1
    mine, theirs = (x.flatten(1, channels) if channels else x.unsqueeze(1) for x in wide)
    return mine, theirs


def _exact(x: Tensor) -> torch.autocast:
    """No half precision inside, whatever surrounds the call: a spectrum spans more decades than it has."""
    return torch.autocast(x.device.type, enabled=False)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _zone_means(zones: Zones, grid: SpectralGrid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(shells, zones): averages over the shells of each zone by a matrix product."""
    mask = zone_mask(zones, grid)
    return (mask / mask.sum(1, keepdim=True)).T.to(device, dtype)


@dataclass(frozen=True)
class LogSpectralLoss:
    """Squared difference of the logarithms of shell powers, averaged over each zone's shells, weighted over zones.

    Rafiq and Nair 2026 (arXiv 2606.11691): sum_z weight_z mean_(k in z) [ln(Z_prediction + eps) - ln(Z_truth + eps)]^2, with Z
    the mean power of a shell's modes. Blind to phases; unchanged by any filter that both arguments went through.

    Args:
        grid: of the fields. zones: where it looks; nothing outside counts.
        weights: one a zone, >= 0; the paper's are `PAPER_WEIGHTS`, found by a search on a score that contains them.
        eps: added to the power of the transform without any factor, as in the paper, i.e. eps / points^2 in our units.
        per_sample: compare every field with its own truth; False: the batch's mean powers, which leaves fields free to differ.
        clamp: largest value of a zone's loss. It silences the gradient of a zone that is above, the worst ones first:
            the paper's is `PAPER_CLAMP`, ours none.

    Raises:
        ValueError: weights that do not fit, zones beyond the grid.
    """

    grid: SpectralGrid
    zones: Zones
    weights: tuple[float, ...]
    eps: float = 1e-6
    per_sample: bool = True
    clamp: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        self.zones.on(self.grid)
        if len(self.weights) != len(self.zones) or not all(weight >= 0 for weight in self.weights):
            raise ValueError(
                f"log-spectral loss: weights {self.weights} are not one number >= 0 for each of {self.zones.names}"
            )
        if not self.eps > 0:
            raise ValueError(f"log-spectral loss: eps {self.eps:g} is not positive")

    def by_zone(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """The zones' losses before weights and clamp, (B, zones); channels are averaged."""
        mine, theirs = _pair(prediction, truth, self.grid)
        with _exact(mine):
            a, b = power_mean(mine, self.grid), power_mean(theirs, self.grid)
            if not self.per_sample:
                a, b = a.mean(0, keepdim=True), b.mean(0, keepdim=True)
            eps = self.eps / self.grid.points**2
            square = ((a + eps).log() - (b + eps).log()).square().mean(1)
            return (square @ _zone_means(self.zones, self.grid, a.device, a.dtype)).expand(len(mine), -1)

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        losses = self.by_zone(prediction, truth)
        if self.clamp is not None:
            losses = losses.clamp(max=self.clamp)
        return (losses * losses.new_tensor(self.weights)).sum(1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _whitening(power: tuple[tuple[float, ...], ...], grid: SpectralGrid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(channels, *spectral_shape): what squared mode errors are multiplied by, adding up to one for errors of size `power`."""
    z = torch.tensor(power, dtype=torch.float64, device=device)
    used = z > FLOOR * z.amax(1, keepdim=True)
    inverse = torch.where(used, 1.0 / torch.where(used, z, 1.0), 0.0)
    held = tables(grid, device, torch.float64)
    counted = (used * held.counts[: z.shape[1]]).sum(1).view(-1, *[1] * grid.dims)
    return (over_modes(inverse, grid) * held.weight / counted).to(dtype)


@dataclass(frozen=True)
class WhitenedLoss:
    """Squared error of every mode over the training power of its shell, averaged over modes: the phases count at every scale.

    1 for a prediction of zero, 2 for noise of the right power, 0 only for the truth. Shells without a power (below the first,
    past the last) do not count.

    Args:
        grid: of the fields.
        power: mean power a mode in each shell, (channels, up to shells), all zeros where nothing shall count; see `fit`.
    """

    grid: SpectralGrid
    power: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "power", tuple(tuple(float(p) for p in row) for row in self.power))
        if not self.power or any(not all(p >= 0 for p in row) or not max(row) > 0 for row in self.power):
            raise ValueError("whitened loss: power is not a row of numbers >= 0 a channel, one of them positive; use fit")

    @classmethod
    def fit(cls, fields: Tensor, grid: SpectralGrid, shells: tuple[int, int] | None = None) -> WhitenedLoss:
        """The loss for data like these.

        Args:
            fields: training fields, (B, *shape) or (B, C, *shape).
            shells: first and last that count; None = 1 to `k_max`.
        """
        first, last = shells or (1, grid.k_max)
        with torch.no_grad():
            power = power_mean(_pair(fields, fields, grid)[0].double(), grid).mean(0)
        power[:, :first] = 0.0
        return cls(grid, tuple(map(tuple, power[:, : last + 1].tolist())))

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        mine, theirs = _pair(prediction, truth, self.grid)
        if mine.shape[1] != len(self.power):
            raise ValueError(f"whitened loss: {mine.shape[1]} channels, fitted on {len(self.power)}")
        with _exact(mine):
            error = mode_power(coefficients(mine - theirs, self.grid))
            return (error * _whitening(self.power, self.grid, error.device, error.dtype)).flatten(2).sum(2).mean(1)


@dataclass(frozen=True)
class BinnedPowerLoss:
    """Mean squared relative error of shell powers, mean_k (1 - (E_prediction + eps) / (E_truth + eps))^2: BSP loss.

    Chakraborty, Mohan and Maulik 2025 (arXiv 2502.00472). Losing a shell costs one, doubling it as much, ten times it 81.

    Args:
        grid: of the fields. shells: first and last that count; None = 1 to `k_max`.
        eps: as in `LogSpectralLoss`.
    """

    grid: SpectralGrid
    shells: tuple[int, int] | None = None
    eps: float = 1e-6

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        mine, theirs = _pair(prediction, truth, self.grid)
        first, last = self.shells or (1, self.grid.k_max)
        with _exact(mine):
            a, b = (power_mean(x, self.grid)[..., first : last + 1] for x in (mine, theirs))
            eps = self.eps / self.grid.points**2
            return (1.0 - (a + eps) / (b + eps)).square().mean((1, 2))


@dataclass(frozen=True)
class FocalFrequencyLoss:
    """Squared error of modes, each weighted by its own error's size to the power alpha, the largest of a field being one.

    Jiang et al. 2021 (arXiv 2012.12821), equations 8 to 10: orthonormal transform, weights without gradient.

    Args:
        grid: of the fields. alpha: 0 = mean squared error.
    """

    grid: SpectralGrid
    alpha: float = 1.0

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        mine, theirs = _pair(prediction, truth, self.grid)
        with _exact(mine):
            error = mode_power(coefficients(mine - theirs, self.grid)).flatten(2)
            focus = error.detach().pow(0.5 * self.alpha)
            focus = focus / focus.amax(2, keepdim=True).clamp(min=torch.finfo(focus.dtype).tiny)
            weight = tables(self.grid, error.device, error.dtype).weight.flatten()
            return (focus * error * weight).sum(2).mean(1)


@dataclass(frozen=True)
class Mix:
    """A weighted sum of losses: Mix(((1.0, mean_squared), (1.0, log_spectral), (0.1, whitened)))."""

    terms: tuple[tuple[float, Loss], ...]

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return torch.stack([weight * loss(prediction, truth) for weight, loss in self.terms]).sum(0)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), averaged over latent numbers: (B, ...) to (B,), nats."""
    mean, log_variance = mean.float(), log_variance.float()
    return (0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)).flatten(1).mean(1)
