"""A lean convolutional autoencoder: pictures (or fields) to a small grid of standardised latents and back.

Shape letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.models.blocks import init_weight


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of an `Autoencoder`; the defaults are the quickstart's (64 x 64 x 3 -> 8 x 8 x 16).

    Args:
        channels: channels of the pictures (1 for a scalar field).
        size: height and width of the pictures, a multiple of `factor`.
        latent_channels: channels of the latents.
        stem: side of the square folded into channels at the start (space to depth) and unfolded at the end.
        widths: channels at each resolution, finest first; each further one halves the grid.
        encoder_blocks, decoder_blocks: residual blocks at each of these resolutions.
        refine: channels of the light refinement at full resolution; 0 leaves it out.
        latent_noise: standard deviation of the noise added in training to the latents (whose own is 1).

    Raises:
        ValueError: lists of different lengths, or a size that the folds do not divide.
    """

    channels: int = 3
    size: int = 64
    latent_channels: int = 16
    stem: int = 4
    widths: tuple[int, ...] = (64, 192)
    encoder_blocks: tuple[int, ...] = (1, 1)
    decoder_blocks: tuple[int, ...] = (1, 2)
    refine: int = 16
    latent_noise: float = 0.05

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks) >= 1:
            raise ValueError("autoencoder: widths, encoder_blocks and decoder_blocks must have one entry a resolution")
        if self.size % self.factor:
            raise ValueError(f"autoencoder: size {self.size} is not a multiple of the factor {self.factor}")

    @property
    def factor(self) -> int:
        """How many pixels one latent covers, along each side."""
        return self.stem * 2 ** (len(self.widths) - 1)


class ResidualBlock(nn.Module):
    """x + 1x1(silu(3x3(silu(norm(x))))): a convolution that mixes space, then one that mixes channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(1, width // 32), width)
        self.space = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.silu(self.space(F.silu(self.norm(x)))))


class Autoencoder(nn.Module):
    """Encoder to standardised latents, decoder back, and the loss that trains both.

    No KL term and no discriminator: in training the latents are divided by the batch's own deviation per channel, so
    that the noise added to them has a fixed meaning and the decoder grows smooth around them; running averages stand in
    elsewhere until `calibrate` sets exact ones (as the batch norm on FLUX.2's latents does).

    Args:
        config: the shape.
        generator: draws the initial weights; None takes one seeded with 0.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        widths, folded = config.widths, config.channels * config.stem**2
        encoder: list[nn.Module] = [nn.PixelUnshuffle(config.stem), nn.Conv2d(folded, widths[0], 3, padding=1)]
        for i, count in enumerate(config.encoder_blocks):
            if i:
                encoder += [nn.PixelUnshuffle(2), nn.Conv2d(4 * widths[i - 1], widths[i], 1)]
            encoder += [ResidualBlock(widths[i]) for _ in range(count)]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(widths[-1], config.latent_channels, 1))
        decoder: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)]
        for i in reversed(range(len(widths))):
            decoder += [ResidualBlock(widths[i]) for _ in range(config.decoder_blocks[i])]
            if i:
                decoder += [nn.Conv2d(widths[i], 4 * widths[i - 1], 1), nn.PixelShuffle(2)]
        decoder += [nn.SiLU(), nn.Conv2d(widths[0], folded, 3, padding=1), nn.PixelShuffle(config.stem)]
        self.decoder = nn.Sequential(*decoder)
        self.refine = None
        if config.refine:
            c, r = config.channels, config.refine
            self.refine = nn.Sequential(nn.Conv2d(c, r, 3, padding=1), nn.SiLU(), nn.Conv2d(r, c, 3, padding=1))
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        self._init(torch.Generator().manual_seed(0) if generator is None else generator)

    def _init(self, generator: torch.Generator) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                init_weight(module, generator, 0.5 if name.endswith("mix") or name.startswith("refine.2") else 1.0)

    def _raw(self, images: Tensor) -> Tensor:
        c, size = self.config.channels, self.config.size
        if images.shape[1:] != (c, size, size):
            raise ValueError(f"autoencoder: pictures of shape {tuple(images.shape)}; expected (batch, {c}, {size}, {size})")
        return self.encoder(images)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [-1, 1] -> latents (B, latent_channels, H / factor, W / factor), about N(0, 1)."""
        return (self._raw(images) - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents -> pictures (B, C, H, W), about [-1, 1], not clamped."""
        images = self.decoder(latents)
        return images if self.refine is None else images + self.refine(images)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """`loss`: what a data-parallel wrapper calls."""
        return self.loss(images, generator)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruction loss of each picture, (B,): Charbonnier plus differences of neighbours at three scales.

        Args:
            images: (B, C, H, W) in [-1, 1].
            generator: draws the noise on the latents, on its own device.
        """
        raw = self._raw(images)
        if self.training:
            std, mean = torch.std_mean(raw.float(), dim=(0, 2, 3), correction=0)
            std = std + 1e-4
            with torch.no_grad():
                self.latent_mean.lerp_(mean.float(), 0.02)
                self.latent_std.lerp_(std.float(), 0.02)
        else:
            mean, std = self.latent_mean, self.latent_std
        latents = (raw - mean[:, None, None]) / std[:, None, None]
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents.device)
        decoded = self.decode(latents + self.config.latent_noise * noise)
        return reconstruction_loss(decoded.float(), images)

    @torch.no_grad()
    def calibrate(self, images: Tensor, batch: int = 64) -> None:
        """Set latent_mean and latent_std to those of these pictures, channel by channel, so that `encode` standardises.

        Args:
            images: (N, C, H, W) in [-1, 1], a thousand or so from the training set.
            batch: pictures encoded at a time.
        """
        device = self.latent_mean.device
        raw = torch.cat([self._raw(part.to(device)).double() for part in images.split(batch)])
        std, mean = torch.std_mean(raw, dim=(0, 2, 3), correction=0)
        if not bool((std > 0).all()):
            raise ValueError(f"autoencoder: latent channels {(std <= 0).nonzero().flatten().tolist()} are constant")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)


def reconstruction_loss(decoded: Tensor, images: Tensor, edges: float = 1.0, scales: int = 3) -> Tensor:
    """Charbonnier distance plus that of horizontal and vertical differences on an average-pooled pyramid.

    Args:
        decoded, images: (B, C, H, W).
        edges: weight of the differences, which is what keeps outlines crisp.
        scales: levels of the pyramid, each half the size of the one before.

    Returns:
        (B,) float32.
    """
    error = decoded - images
    total = charbonnier(error)
    for level in range(scales):
        if level:
            error = F.avg_pool2d(error, 2)
        steps = charbonnier(error.diff(dim=2)) + charbonnier(error.diff(dim=3))
        total = total + edges / (2 * scales) * steps
    return total


def charbonnier(error: Tensor, eps: float = 0.01) -> Tensor:
    """Mean over all but the batch of sqrt(error^2 + eps^2) - eps (Charbonnier et al. 1994): L1 with a round bottom."""
    return ((error.square() + eps * eps).sqrt() - eps).flatten(1).mean(1)
