"""What any model of fields is to be held against: a gain a shell on top of a model, and linear codes of equal size.

Random fields of a given spectrum are in `physics.random_fields`. Everything here is fitted on training fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diptych.metrics.field import as_tensor, coherence, shell_products, varies
from diptych.physics.shells import SpectralGrid, coefficients, fields, filtered, invertible

LEAST_COHERENCE = 0.1  # a shell whose phases agree less holds noise, and a gain would only make it louder
CAP = 10.0  # of the gain in amplitude


@dataclass(frozen=True)
class ShellGain:
    """One factor a shell that gives reconstructions the truth's mean power, for any model and without training.

    It cannot mend phases: coherence a shell stays as it is.

    Args:
        grid: of the fields. gain: amplitude factor of each shell, (shells,).
    """

    grid: SpectralGrid
    gain: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        recon: np.ndarray,
        truth: np.ndarray,
        grid: SpectralGrid,
        least_coherence: float = LEAST_COHERENCE,
        cap: float = CAP,
    ) -> ShellGain:
        """sqrt(P_truth / P_recon) of each shell over all fields; 1 where the coherence is below a bound, at most `cap`.

        Args:
            recon, truth: fields of the training set, (N, *shape) or (N, C, *shape), row by row.
            least_coherence: 0 or less lifts every shell, noise included. cap: > 0.

        Raises:
            ValueError: shapes that differ, or a true field that is constant.
        """
        mine, there = as_tensor(recon, grid, "shell gain: recon"), as_tensor(truth, grid, "shell gain: truth")
        if mine.shape != there.shape:
            raise ValueError(f"shell gain: recon {tuple(mine.shape)} and truth {tuple(there.shape)} differ in shape")
        varies(there, "shell gain: truth")
        plain = invertible(grid)
        products = shell_products(mine, there, plain).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.minimum(np.sqrt(products[2] / products[1]), cap)
        trusted = (coherence(products) >= least_coherence) & (products[1] > 0)
        trusted[0] = False  # the mean is not a matter of power
        return cls(grid, tuple(np.where(trusted, wanted, 1.0).tolist()))

    def __call__(self, x: Tensor) -> Tensor:
        """Fields (..., *shape) with the gain applied."""
        return filtered(x, torch.tensor(self.gain, dtype=torch.float64, device=x.device), self.grid)


@dataclass(frozen=True)
class LowPass:
    """Keeps the modes of smallest |k| that `numbers` real numbers can hold: the truncated series of equal latent size.

    Modes of one |k| stay or go together, so that up to a handful of numbers may be left over.
    """

    grid: SpectralGrid
    numbers: int

    def __post_init__(self) -> None:
        if not 1 <= self.numbers <= self.grid.points:
            raise ValueError(f"low pass: {self.numbers} numbers; a field of {self.grid.shape} has {self.grid.points}")

    def __call__(self, x: Tensor) -> Tensor:
        """Fields (..., *shape), channel by channel."""
        plain = invertible(self.grid)
        sizes, level = np.unique(plain.magnitude.round(9), return_inverse=True)
        held = np.cumsum(np.bincount(level.ravel(), plain.weight.ravel(), len(sizes)))
        keep = (held <= self.numbers)[level].reshape(plain.spectral_shape)
        c = coefficients(x, plain)
        return fields(c * torch.as_tensor(keep, device=x.device), plain)


@dataclass(frozen=True, eq=False)
class Principal:
    """The best linear code of `numbers` numbers: projection on the principal components of the training fields.

    Args:
        mean: (values,). basis: orthonormal rows, (numbers, values); values = all numbers of a field, its channels included.
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, training: Tensor, numbers: int) -> Principal:
        """From training fields (N, ...); fewer fields than numbers span less.

        Raises:
            ValueError: numbers outside 1 .. N - 1 or beyond the size of a field.
        """
        flat = training.flatten(1)
        most = min(len(flat) - 1, flat.shape[1])
        if not 1 <= numbers <= most:
            raise ValueError(f"principal components: numbers={numbers}; {len(flat)} fields of {flat.shape[1]} give 1 to {most}")
        mean = flat.mean(0)
        centred = flat - mean
        if len(flat) <= flat.shape[1]:  # the smaller of the two Gram matrices
            values, vectors = torch.linalg.eigh(centred @ centred.T)
            top = vectors[:, -numbers:] / values[-numbers:].clamp(min=math.ulp(1.0) * float(values[-1])).sqrt()
            return cls(mean, (centred.T @ top).T)
        return cls(mean, torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -numbers:].T)

    def __call__(self, x: Tensor) -> Tensor:
        """Fields (N, ...) as the code gives them back."""
        flat = x.flatten(1) - self.mean
        return (self.mean + flat @ self.basis.T @ self.basis).view(x.shape)
