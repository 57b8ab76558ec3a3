"""Pictures to standardised latents and back: published autoencoders through diffusers, and our own small one.

Shape letters: B batch, C latent channels, H, W latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.config import suggest
from diptych.files import read_json
from diptych.models.autoencoder import Autoencoder
from diptych.models.tensor_files import some

Statistics = tuple[Tensor, Tensor, int]
"""Mean and deviation of each channel after folding squares of the third number's side into channels."""


def flux1(network: Any) -> Statistics:
    """One shift and scale for all channels: (z - 0.1159) 0.3611."""
    shift = torch.tensor([network.config.shift_factor or 0.0])
    return shift, 1 / torch.tensor([network.config.scaling_factor]), 1


def flux2(network: Any) -> Statistics:
    """The running statistics of a batch norm over 2 x 2 squares in channels, eps 1e-4."""
    return network.bn.running_mean, (network.bn.running_var + network.config.batch_norm_eps).sqrt(), 2


def qwen_image(network: Any) -> Statistics:
    """Each channel's mean and deviation, from the config."""
    return torch.tensor(network.config.latents_mean), torch.tensor(network.config.latents_std), 1


AUTOENCODERS: dict[str, Callable[[Any], Statistics]] = {
    "AutoencoderKLFlux2": flux2,
    "AutoencoderKL": flux1,
    "AutoencoderKLQwenImage": qwen_image,
}
"""Classes of diffusers that are read, and what standardises their latents. i1's is FLUX.2's."""


def fold(z: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C side^2, H / side, W / side); channel side^2 c + side dy + dx."""
    return F.pixel_unshuffle(z, side)


def unfold(z: Tensor, side: int) -> Tensor:
    """The inverse of `fold`."""
    return F.pixel_shuffle(z, side)


@dataclass(frozen=True)
class LatentCodec:
    """An autoencoder whose latents are standardised.

    Args:
        name: class of diffusers, or "Autoencoder".
        network: in evaluation mode.
        channels: of the latents.
        factor: pixels a latent covers along a side.
    """

    name: str
    network: Any = field(repr=False)
    channels: int
    factor: int

    @torch.no_grad()
    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents (B, C, H, W) float32.

        Args:
            images: (B, 3, factor H, factor W) in [-1, 1]; H and W even for FLUX.2.
            generator: draws from the posterior, as i1's training does; None takes its mode.
        """
        if isinstance(self.network, Autoencoder):
            return self.network.encode(images)
        video = self.name == "AutoencoderKLQwenImage"
        posterior = self.network.encode((images[:, :, None] if video else images).to(self.network.dtype)).latent_dist
        z = posterior.mode()
        if generator is not None:
            eps = torch.randn(z.shape, generator=generator, device=generator.device).to(z)
            z = posterior.mean + posterior.std * eps
        mean, std, side = self._statistics(z)
        z = (z[:, :, 0] if video else z).float()
        return unfold((fold(z, side) - mean) / std, side)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, factor H, factor W), about [-1, 1], not clamped, float32."""
        if isinstance(self.network, Autoencoder):
            return self.network.decode(latents)
        mean, std, side = self._statistics(latents)
        z = unfold(fold(latents.float(), side) * std + mean, side).to(self.network.dtype)
        if self.name == "AutoencoderKLQwenImage":
            return self.network.decode(z[:, :, None]).sample[:, :, 0].float()
        return self.network.decode(z).sample.float()

    def _statistics(self, z: Tensor) -> Statistics:
        mean, std, side = AUTOENCODERS[self.name](self.network)
        return mean.to(z.device).float().view(-1, 1, 1), std.to(z.device).float().view(-1, 1, 1), side


def load_autoencoder(folder: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LatentCodec:
    """An autoencoder from its folder: ours, or one of diffusers (of a pipeline, the folder vae/).

    Args:
        folder: with config.json and weights.
        device: where it runs.
        dtype: of its weights; i1 runs FLUX.2's in float32.

    Raises:
        ValueError: no such folder, another class, or weights that do not fill the network.
    """
    folder = Path(folder)
    folder = folder / "vae" if (folder / "vae").is_dir() else folder
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder}: no autoencoder there; give a folder with config.json and weights (FLUX.2's is the folder vae/ of "
            f"black-forest-labs/FLUX.2-dev, whose licence must be accepted before it can be fetched)"
        )
    told = read_json(folder / "config.json")
    if told.get("class") == "Autoencoder":
        from diptych.models.hub import load_model

        ours = load_model(folder, device)
        assert isinstance(ours, Autoencoder)
        return LatentCodec("Autoencoder", ours, ours.config.latent_channels, ours.config.factor)
    name = str(told.get("_class_name"))
    if name not in AUTOENCODERS:
        raise ValueError(f"{folder}: {name!r} is no autoencoder that is read{suggest(name, (*AUTOENCODERS, 'Autoencoder'))}")
    import diffusers

    network, info = getattr(diffusers, name).from_pretrained(
        folder, local_files_only=True, torch_dtype=dtype, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"{folder}: weights of the autoencoder are missing: {some(missing)}")
    network = network.to(device).eval().requires_grad_(False)
    if name == "AutoencoderKLQwenImage":
        return LatentCodec(name, network, network.config.z_dim, 2 ** len(network.temperal_downsample))
    return LatentCodec(name, network, network.config.latent_channels, 2 ** (len(network.config.block_out_channels) - 1))
