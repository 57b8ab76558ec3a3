"""Shapes, standardised latents, the loss, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diptych.models.autoencoder import Autoencoder, AutoencoderConfig, charbonnier, reconstruction_loss

TINY = AutoencoderConfig(
    size=16, latent_channels=4, stem=2, widths=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1), refine=4
)


def pictures(count: int, config: AutoencoderConfig = TINY, seed: int = 0) -> Tensor:
    """Soft discs of random place and colour on white, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(count, 2, 1, 1, generator=generator) * config.size
    colour = torch.rand(count, config.channels, 1, 1, generator=generator) * 2 - 1
    row, column = torch.meshgrid(torch.arange(config.size), torch.arange(config.size), indexing="ij")
    distance = ((row - place[:, 0]) ** 2 + (column - place[:, 1]) ** 2).sqrt()
    inside = (config.size / 4 - distance).sigmoid()[:, None]
    return inside * colour + (1 - inside)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_quickstart_preset_has_its_parameters_and_shapes() -> None:
    config = AutoencoderConfig()
    model = Autoencoder(config).eval()
    assert sum(p.numel() for p in model.parameters()) == 1_376_627
    images = pictures(2, config)
    latents = model.encode(images)
    assert latents.shape == (2, 16, 8, 8)
    assert model.decode(latents).shape == images.shape


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"channels": 1}, 4),
        ({"size": 32}, 4),
        ({"widths": (8, 8, 16), "encoder_blocks": (0, 1, 1), "decoder_blocks": (1, 0, 1)}, 8),
        ({"widths": (16,), "encoder_blocks": (1,), "decoder_blocks": (1,), "stem": 4, "refine": 0}, 4),
    ],
)
def test_other_sizes_channels_and_factors(change: dict[str, object], factor: int) -> None:
    config = replace(TINY, **change)  # pyright: ignore[reportArgumentType]
    model, images = Autoencoder(config), pictures(3, config)
    latents = model.encode(images)
    assert latents.shape == (3, 4, config.size // factor, config.size // factor)
    assert model.decode(latents).shape == images.shape
    assert model.loss(images, generator()).shape == (3,)


def test_calibrated_latents_are_standard_channel_by_channel() -> None:
    model, images = Autoencoder(TINY), pictures(70)
    before = model.encode(images)
    assert (before.std(dim=(0, 2, 3)) - 1).abs().max() > 0.01
    model.calibrate(images, batch=32)
    latents = model.encode(images)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (latents.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4


def test_training_statistics_reach_the_calibrated_ones() -> None:
    model, images = Autoencoder(TINY).train(), pictures(4)
    with torch.no_grad():
        for step in range(200):
            model.loss(images, generator(step))
    running = model.latent_mean.clone(), model.latent_std.clone()
    model.calibrate(images)
    assert torch.allclose(running[0], model.latent_mean, atol=3e-2)
    assert torch.allclose(running[1], model.latent_std, rtol=6e-2)


def test_the_loss_of_a_row_is_its_own_outside_training() -> None:
    model, images = Autoencoder(replace(TINY, latent_noise=0.0)).eval(), pictures(4)
    together = model.loss(images, generator())
    alone = torch.cat([model.loss(image[None], generator()) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)
    kept = model.latent_mean.clone()
    model.loss(images, generator())
    assert torch.equal(model.latent_mean, kept)


def test_the_noise_comes_from_the_generator_given() -> None:
    model, images = Autoencoder(replace(TINY, latent_noise=0.5)).eval(), pictures(2)
    assert torch.equal(model.loss(images, generator(3)), model.loss(images, generator(3)))
    assert not torch.equal(model.loss(images, generator(3)), model.loss(images, generator(4)))


def test_gradients_reach_every_parameter() -> None:
    model = Autoencoder(TINY).train()
    model.loss(pictures(4), generator()).mean().backward()
    for name, parameter in model.named_parameters():
        if name != "encoder.6.bias":  # a shift of a latent channel is taken out again by standardising
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_it_learns_discs() -> None:
    model, images = Autoencoder(TINY).train(), pictures(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        loss = model.loss(images, generator(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    model.eval().calibrate(images)
    error = (model.decode(model.encode(images)) - images).abs().mean()
    assert error < 0.5 * (images - images.mean(dim=0)).abs().mean()


def test_the_loss_is_zero_at_the_truth_and_prefers_a_sharp_edge() -> None:
    truth = torch.zeros(2, 1, 16, 16)
    truth[..., 8:] = 1
    assert not reconstruction_loss(truth, truth).any()
    blurred = torch.nn.functional.avg_pool2d(truth, (1, 3), stride=1, padding=(0, 1), count_include_pad=False)
    paler = truth * (1 - (blurred - truth).abs().mean() / truth.mean())  # as far away in the mean, its edge still sharp
    blur, pale = reconstruction_loss(blurred, truth), reconstruction_loss(paler, truth)
    assert (blur > 1.2 * pale).all()
    assert torch.allclose(charbonnier(torch.full((1, 4), 3.0)), torch.tensor([3.0]), atol=0.01)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry a resolution"):
        replace(TINY, encoder_blocks=(1,))
    with pytest.raises(ValueError, match="multiple of the factor"):
        replace(TINY, size=18)
    with pytest.raises(ValueError, match=r"expected \(batch, 3, 16, 16\)"):
        Autoencoder(TINY).encode(torch.zeros(1, 1, 16, 16))
    flat = Autoencoder(TINY)
    flat.encoder[-1].weight.data[2] = 0  # pyright: ignore
    with pytest.raises(ValueError, match=r"channels \[2\] are constant"):
        flat.calibrate(pictures(4))
