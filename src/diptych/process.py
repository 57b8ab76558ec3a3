"""Two processes from data to prior: Gaussian noise, and masking of tokens.

Each is five small functions of a decreasing signal curve: prior, corrupt, reverse given clean data, loss. Nothing else is
shared between continuous and discrete diffusion, and nothing more is forced to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.noise import Random
from diptych.schedule import Linear, Schedule


class Process(Protocol):
    """t in [0, 1]: 0 = data, 1 = prior; u < t is the next time. Times are (batch,) tensors."""

    def prior(self, shape: Sequence[int], noise: Random) -> Tensor: ...

    def corrupt(self, x0: Tensor, t: Tensor, noise: Random) -> Tensor: ...

    def reverse(self, x: Tensor, t: Tensor, u: Tensor, x0_hat: Tensor, noise: Random) -> Tensor: ...

    def loss(self, x0_hat: Tensor, x0: Tensor, x: Tensor, t: Tensor) -> Tensor: ...


def like(t: Tensor, x: Tensor) -> Tensor:
    """Times (batch,) reshaped to broadcast against x (batch, ...), in x's type and place."""
    return t.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Gaussian:
    """x = alpha(t) x0 + sigma(t) eps. The flow dx/dt is d_alpha x0 + d_sigma eps.

    Args:
        schedule: the curves.
    """

    schedule: Schedule = Linear()

    def prior(self, shape: Sequence[int], noise: Random) -> Tensor:
        """x at t = 1, (batch, *shape): noise of scale sigma(1)."""
        return noise.normal(shape, "prior") * self.schedule.sigma(torch.ones((), dtype=torch.float64)).item()

    def corrupt(self, x0: Tensor, t: Tensor, noise: Random) -> Tensor:
        """x at t, distributed as q(x | x0)."""
        eps = noise.normal(x0.shape[1:], "corrupt")
        return like(self.schedule.alpha(t), x0) * x0 + like(self.schedule.sigma(t), x0) * eps

    def reverse(self, x: Tensor, t: Tensor, u: Tensor, x0_hat: Tensor, noise: Random) -> Tensor:
        """x at u < t, distributed as q(x_u | x_t, x0 = x0_hat) (Kingma et al. 2021, arXiv:2107.00630, eq. 25-27)."""
        t, u = t.double(), u.double()
        alpha_u, sigma2_u, sigma2_t = self.schedule.alpha(u), self.schedule.sigma(u) ** 2, self.schedule.sigma(t) ** 2
        ratio = self.schedule.alpha(t) / alpha_u
        spread2 = (sigma2_t - ratio**2 * sigma2_u).clamp(min=0)
        mean = like(ratio * sigma2_u / sigma2_t, x) * x + like(alpha_u * spread2 / sigma2_t, x) * x0_hat
        return mean + like((spread2 * sigma2_u / sigma2_t).sqrt(), x) * noise.normal(x.shape[1:], "reverse")

    def loss(self, x0_hat: Tensor, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Mean squared error of the flow that x0_hat implies, (batch,); for `Linear` that is |x0_hat - x0|^2 / t^2."""
        gain = (self.schedule.d_alpha(t) - self.schedule.d_sigma(t) * self.schedule.alpha(t) / self.schedule.sigma(t)) ** 2
        return gain * (x0_hat - x0).square().flatten(1).mean(1)

    def eps(self, x: Tensor, t: Tensor, x0_hat: Tensor) -> Tensor:
        """The noise that x0_hat implies; t > 0."""
        return (x - like(self.schedule.alpha(t), x) * x0_hat) / like(self.schedule.sigma(t), x)

    def flow(self, x: Tensor, t: Tensor, x0_hat: Tensor) -> Tensor:
        """dx/dt of the probability-flow ODE that x0_hat implies; t > 0."""
        eps = self.eps(x, t, x0_hat)
        return like(self.schedule.d_alpha(t), x) * x0_hat + like(self.schedule.d_sigma(t), x) * eps


@dataclass(frozen=True)
class Masked:
    """Each token is replaced by the mask with probability 1 - alpha(t) (Sahoo et al. 2024, arXiv:2406.07524).

    Args:
        vocab: number of real tokens; ids 0 .. vocab - 1.
        mask_id: id of the mask, not a real token.
        schedule: the probability alpha of being kept.

    Raises:
        ValueError: a mask id that collides with the vocabulary; a schedule that keeps tokens at t = 1.
    """

    vocab: int
    mask_id: int
    schedule: Schedule = Linear()

    def __post_init__(self) -> None:
        if 0 <= self.mask_id < self.vocab:
            raise ValueError(f"masked: mask_id {self.mask_id} is a token of the vocabulary of {self.vocab}; use {self.vocab}")
        kept = self.schedule.alpha(torch.ones((), dtype=torch.float64)).item()
        if kept > 0.01:
            raise ValueError(f"masked: schedule {self.schedule} keeps {kept:g} of the tokens at t = 1; use Linear or Cosine")

    def prior(self, shape: Sequence[int], noise: Random) -> Tensor:
        """All masks, (batch, *shape) of int64."""
        draw = noise.uniform(shape, "prior")
        return torch.full(draw.shape, self.mask_id, dtype=torch.int64, device=draw.device)

    def corrupt(self, x0: Tensor, t: Tensor, noise: Random) -> Tensor:
        """x0 (batch, L) with each token masked with probability 1 - alpha(t)."""
        draw = noise.uniform(x0.shape[1:], "corrupt")
        return torch.where(draw < like(self.schedule.alpha(t), draw), x0, self.mask_id)

    def reverse(self, x: Tensor, t: Tensor, u: Tensor, x0_hat: Tensor, noise: Random) -> Tensor:
        """Each mask is revealed with probability (alpha_u - alpha_t) / (1 - alpha_t), its token drawn from x0_hat.

        Args:
            x0_hat: log-probabilities of the real tokens, (batch, L, vocab).
        """
        alpha_t, alpha_u = self.schedule.alpha(t.double()), self.schedule.alpha(u.double())
        tokens = categorical(x0_hat, noise.uniform(x.shape[1:], "token"))
        draw = noise.uniform(x.shape[1:], "reveal")
        revealed = (x == self.mask_id) & (draw < like((alpha_u - alpha_t) / (1 - alpha_t), draw))
        return torch.where(revealed, tokens, x)

    def loss(self, x0_hat: Tensor, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Negative evidence bound, nats a token, (batch,): -alpha' / (1 - alpha) x cross-entropy at masks, over L (eq. 8)."""
        weight = -self.schedule.d_alpha(t) / (1 - self.schedule.alpha(t))
        nll = F.nll_loss(x0_hat.flatten(0, -2), x0.flatten(), reduction="none").reshape(x0.shape)
        return weight * torch.where(x == self.mask_id, nll, 0).flatten(1).mean(1)


def categorical(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw tokens by inverting the cumulative distribution in float64, one uniform number a position.

    Args:
        log_probs: (..., vocab); need not be normalised.
        uniform: (...) in (0, 1).
    """
    cumulative = torch.softmax(log_probs.double(), -1).cumsum(-1)
    target = uniform.double().unsqueeze(-1) * cumulative[..., -1:]
    tokens = torch.searchsorted(cumulative, target).squeeze(-1)
    return tokens.clamp(max=log_probs.shape[-1] - 1)
