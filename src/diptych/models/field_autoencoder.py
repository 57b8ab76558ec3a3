"""Variational autoencoders of fields: the paper's network (arXiv:2606.11691), and a lean one that trains on a CPU in minutes.

Both see the field through a fixed spectral filter, so that a plain squared error weighs small scales as much as large ones
(pre-emphasis), and undo it after decoding. Latents are the encoder's means, standardised channel by channel.

Shape letters: B batch, C channels, N... the grid (one or two axes), K... its wavenumbers, L latent channels, M... their grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from diptych.models.field_layers import FieldConv, Folding, LeanBlock, PaperBlock, Upsample, initialise
from diptych.models.spectral_filter import filtered, inverse, modes

CLAMP = (-6.0, 2.0)
"""Range of the log-variance, arXiv:2606.11691."""


@dataclass(frozen=True)
class FieldAutoencoderConfig:
    """Shape of a `FieldAutoencoder`; the defaults are the lean one's (64 x 64 -> 8 x 8 x 8, eight times fewer numbers).

    Args:
        channels: of the fields.
        shape: of the grid, one or two axes, multiples of `factor`.
        periodic: one flag an axis.
        latent_channels: of the latents.
        network: "lean" folds patches into channels; "paper" convolves at full resolution.
        stem: "lean": side of the patch folded at the start.
        widths: channels at each resolution, finest first; each further one halves the grid.
        encoder_blocks, decoder_blocks: "lean": residual blocks at each resolution.
        refine: "lean": channels of a last pair of convolutions at full resolution; 0 leaves it out.

    Raises:
        ValueError: lists of different lengths, a grid that the factor does not divide, latents too few to pad.
    """

    channels: int = 1
    shape: tuple[int, ...] = (64, 64)
    periodic: tuple[bool, ...] = (True, True)
    latent_channels: int = 8
    network: Literal["lean", "paper"] = "lean"
    stem: int = 4
    widths: tuple[int, ...] = (48, 96)
    encoder_blocks: tuple[int, ...] = (1, 1)
    decoder_blocks: tuple[int, ...] = (2, 1)
    refine: int = 8

    def __post_init__(self) -> None:
        for name in ("shape", "periodic", "widths", "encoder_blocks", "decoder_blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.shape) not in (1, 2) or len(self.periodic) != len(self.shape):
            raise ValueError(f"autoencoder: shape {self.shape}, periodic {self.periodic}; give one or two axes, a flag each")
        if self.network == "lean" and not len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks) >= 1:
            raise ValueError("autoencoder: widths, encoder_blocks and decoder_blocks must have one entry a resolution")
        least = 4 if self.network == "paper" else 2
        for n, wraps in zip(self.shape, self.periodic, strict=True):
            if n % self.factor or n // self.factor < (1 if wraps else least):
                raise ValueError(
                    f"autoencoder: an axis of {n} points; give a multiple of {self.factor}"
                    + ("" if wraps else f", {least * self.factor} or more")
                )

    @property
    def factor(self) -> int:
        """How many points one latent covers along each axis."""
        return (self.stem if self.network == "lean" else 1) * 2 ** (len(self.widths) - 1)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of a field's latents, channels first."""
        return (self.latent_channels, *(n // self.factor for n in self.shape))

    @property
    def compression(self) -> float:
        """Numbers of a field over those of its latents."""
        count = float(self.channels)
        for n in self.shape:
            count *= n
        for n in self.latent_shape:
            count /= n
        return count


def paper_autoencoder(size: int = 256, channels: int = 1) -> FieldAutoencoderConfig:
    """The network of arXiv:2606.11691: 4.96 M parameters, 256 x 256 -> 16 x 16 x 8."""
    return FieldAutoencoderConfig(channels, (size, size), (True, True), 8, "paper", 1, (64, 64, 128, 128, 256), (), (), 0)


class Coded(NamedTuple):
    """What training sees of a batch.

    Args:
        decoded, target: reconstruction and truth, both standardised and pre-emphasised, (B, C, N...).
        mean, log_variance: of the latents before standardisation, (B, L, M...).
    """

    decoded: Tensor
    target: Tensor
    mean: Tensor
    log_variance: Tensor


class FieldAutoencoder(nn.Module):
    """Encoder, decoder, and the fixed numbers around them.

    Args:
        config: the shape.
        generator: draws the initial weights; None takes one seeded with 0.
    """

    centre: Tensor
    scale: Tensor
    gain: Tensor
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: FieldAutoencoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        build = _lean if config.network == "lean" else _paper
        self.encoder, self.decoder, self.refine = build(config)
        self.register_buffer("centre", torch.zeros(config.channels))
        self.register_buffer("scale", torch.ones(config.channels))
        self.register_buffer("gain", torch.ones(config.channels, *modes(config.shape, config.periodic)))
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        initialise(self, torch.Generator().manual_seed(0) if generator is None else generator, ("mix.conv", "refine.2.conv"))

    @torch.no_grad()
    def fit_scale(self, fields: Tensor, gain: Tensor | None = None) -> None:
        """Set the standardisation and the pre-emphasis from training fields.

        Args:
            fields: (B, C, N...).
            gain: filter to see fields through, (C or 1, K...), up to a factor: the filtered fields are scaled to unit variance;
                None = no filter. Modes of gain 0 are neither seen nor made.

        Raises:
            ValueError: fields or a filter of another shape, a channel that is constant.
        """
        self._check(fields)
        if gain is not None:
            if gain.shape[1:] != self.gain.shape[1:] or len(gain) not in (1, len(self.gain)):
                raise ValueError(f"autoencoder: a filter of {tuple(gain.shape)}; expected {tuple(self.gain.shape)}")
            self.gain.copy_(gain.expand_as(self.gain))
        dims = (0, *range(2, fields.ndim))
        std, mean = torch.std_mean(fields.double(), dim=dims, correction=0)
        if not bool((std > 0).all()):
            raise ValueError(f"autoencoder: channels {(std <= 0).nonzero().flatten().tolist()} are constant; leave them out")
        self.centre.copy_(mean)
        self.scale.copy_(std)
        after = torch.cat([self.emphasised(part) for part in fields.split(64)]).double().std(dim=dims, correction=0)
        self.gain.div_(after.to(self.gain).reshape(-1, *[1] * (self.gain.ndim - 1)))

    def emphasised(self, fields: Tensor) -> Tensor:
        """Fields as the network sees them: standardised, then filtered."""
        self._check(fields)
        standard = (fields - _wide(self.centre, fields)) / _wide(self.scale, fields)
        return filtered(standard, self.gain, self.config.periodic)

    def plain(self, emphasised: Tensor) -> Tensor:
        """The inverse of `emphasised`, on the modes the filter keeps."""
        standard = filtered(emphasised, inverse(self.gain), self.config.periodic)
        return standard * _wide(self.scale, standard) + _wide(self.centre, standard)

    def moments(self, emphasised: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, before standardisation."""
        mean, log_variance = self.encoder(emphasised).chunk(2, dim=1)
        return mean, log_variance.clamp(*CLAMP)

    def raw_decode(self, latents: Tensor) -> Tensor:
        """Latents before standardisation -> pre-emphasised fields, without the modes that the filter drops."""
        out = self.decoder(latents)
        out = out if self.refine is None else out + self.refine(out)
        kept = self.gain != 0
        return out if bool(kept.all()) else filtered(out, kept.float(), self.config.periodic)

    def encode(self, fields: Tensor) -> Tensor:
        """Fields (B, C, N...) -> standardised latents (B, L, M...), the encoder's means."""
        mean, _ = self.moments(self.emphasised(fields))
        return (mean - _wide(self.latent_mean, mean)) / _wide(self.latent_std, mean)

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents -> fields (B, C, N...)."""
        raw = latents * _wide(self.latent_std, latents) + _wide(self.latent_mean, latents)
        return self.plain(self.raw_decode(raw))

    def forward(self, fields: Tensor, generator: torch.Generator) -> Coded:
        """Encode, draw latents, decode: what a training loss is made of.

        Args:
            fields: (B, C, N...). generator: draws the latents, on its own device.
        """
        target = self.emphasised(fields)
        mean, log_variance = self.moments(target)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
        return Coded(self.raw_decode(mean + (log_variance / 2).exp() * noise), target, mean, log_variance)

    @torch.no_grad()
    def calibrate(self, fields: Tensor, batch: int = 64) -> None:
        """Set latent_mean and latent_std to those of these fields, channel by channel, so that `encode` standardises.

        Raises:
            ValueError: a latent channel that is constant (collapsed).
        """
        raw = torch.cat([self.moments(self.emphasised(part))[0] for part in fields.split(batch)]).double()
        std, mean = torch.std_mean(raw, dim=(0, *range(2, raw.ndim)), correction=0)
        if not bool((std > 0).all()):
            raise ValueError(f"autoencoder: latent channels {(std <= 0).nonzero().flatten().tolist()} are constant")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def _check(self, fields: Tensor) -> None:
        wanted = (self.config.channels, *self.config.shape)
        if fields.shape[1:] != wanted:
            raise ValueError(
                f"autoencoder: fields of shape {tuple(fields.shape[1:])} (channels first); this one takes {wanted}"
            )


def _wide(per_channel: Tensor, like: Tensor) -> Tensor:
    """(C,) shaped to go with (B, C, N...)."""
    return per_channel.reshape(-1, *[1] * (like.ndim - 2))


def _lean(config: FieldAutoencoderConfig) -> tuple[nn.Module, nn.Module, nn.Module | None]:
    periodic, widths = config.periodic, config.widths
    folded = config.channels * config.stem ** len(periodic)
    corners = 2 ** len(periodic)
    encoder: list[nn.Module] = [Folding(config.stem), FieldConv(folded, widths[0], periodic)]
    for i, count in enumerate(config.encoder_blocks):
        if i:
            encoder += [Folding(2), FieldConv(corners * widths[i - 1], widths[i], periodic, 1)]
        encoder += [LeanBlock(widths[i], periodic) for _ in range(count)]
    encoder += [nn.GELU(), FieldConv(widths[-1], 2 * config.latent_channels, periodic, 1)]
    decoder: list[nn.Module] = [FieldConv(config.latent_channels, widths[-1], periodic)]
    for i in reversed(range(len(widths))):
        decoder += [LeanBlock(widths[i], periodic) for _ in range(config.decoder_blocks[i])]
        if i:
            decoder += [FieldConv(widths[i], corners * widths[i - 1], periodic, 1), Folding(2, back=True)]
    decoder += [nn.GELU(), FieldConv(widths[0], folded, periodic), Folding(config.stem, back=True)]
    refine = None
    if config.refine:
        wide = config.refine
        refine = nn.Sequential(
            FieldConv(config.channels, wide, periodic), nn.GELU(), FieldConv(wide, config.channels, periodic)
        )
    return nn.Sequential(*encoder), nn.Sequential(*decoder), refine


def _paper(config: FieldAutoencoderConfig) -> tuple[nn.Module, nn.Module, None]:
    periodic, widths = config.periodic, config.widths
    encoder: list[nn.Module] = [FieldConv(config.channels, widths[0], periodic), PaperBlock(widths[0], periodic)]
    for before, width in pairwise(widths):
        encoder += [FieldConv(before, width, periodic, stride=2), PaperBlock(width, periodic)]
    encoder.append(FieldConv(widths[-1], 2 * config.latent_channels, periodic, 1))
    decoder: list[nn.Module] = [FieldConv(config.latent_channels, widths[-1], periodic, 1)]
    for width, after in pairwise(widths[::-1]):
        decoder += [PaperBlock(width, periodic), FieldConv(width, after, periodic), Upsample(periodic)]
    decoder += [PaperBlock(widths[0], periodic), FieldConv(widths[0], config.channels, periodic)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder), None
