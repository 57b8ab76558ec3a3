"""Animations of the spectral study: a flow beside its reconstructions, and samples on their way from noise to a field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diptych.compare.panels import figure
from diptych.denoise import parameterize
from diptych.noise import Noise
from diptych.physics.navier_stokes import simulate
from diptych.physics.shells import band
from diptych.process import Gaussian
from diptych.recipes.spectral_arms import FlowNetwork, autoencoder_of
from diptych.recipes.spectral_data import Simulated, part
from diptych.recipes.spectral_models import LABELS, Trained, trained_in
from diptych.recipes.spectral_pictures import film, joined, tile
from diptych.recipes.spectral_read import Finished
from diptych.sample import sample
from diptych.samplers.continuous import Heun
from diptych.schedule import uniform_grid

FRAMES = 16
BETWEEN = 0.15
"""Time units between frames, to the nearest whole step."""
STEPS = 20


def moving_flow(read: Finished, weights: Path) -> str:
    """The flow from the first test field on and what autoencoders give back: the field above, its smallest scales below."""
    setting, source = read.setting, read.setting.source
    assert isinstance(source, Simulated)
    start = torch.from_numpy(part(read.source, "test").fields[:1, 0])
    every = max(round(BETWEEN / source.flow.dt), 1) * source.flow.dt
    later = [field for _, field in simulate(source.flow, start, every, FRAMES - 1)]
    truth = torch.cat([start, *later]).float()[:, None]
    found = {one.name: one for one in reversed(trained_in(weights))}
    shown = [name for name in ("mse", "log", "pre_mix") if name in found]
    with torch.no_grad():
        nets = [autoencoder_of(found[name].autoencoder, "cpu") for name in shown]
        fields = [truth, *(net.decode(net.encode(truth)) for net in nets)]
    small = [band(one.double(), read.edges, setting.grid) for one in fields]
    limit, fine = (float(one[0].abs().quantile(0.997)) for one in (fields, small))
    frames = [
        joined([[tile(one[i, 0].numpy(), limit, 2) for one in fields], [tile(one[i, 0].numpy(), fine, 2) for one in small]])
        for i in range(FRAMES)
    ]
    first, last = read.edges
    names = ["truth", *(LABELS[name] for name in shown)]
    words = f"From left to right: {', '.join(names)}. Above the vorticity, below its shells {first} to {last} alone."
    return figure(film(frames, words), "A flow that no model has seen, and what the autoencoders give back of it", words)


def samples_appear(read: Finished, one: Trained, count: int = 4) -> str:
    """Samples on their way from noise: what the decoder makes of the latents at every step."""
    assert one.flow is not None
    net, autoencoder, process = FlowNetwork(one.flow)("cpu"), autoencoder_of(one.autoencoder, "cpu"), Gaussian()
    shape = autoencoder.config.latent_shape
    noise = Noise(tuple(f"film-{n}" for n in range(count)))
    drawn = sample(process, Heun(), parameterize(net, "flow", process), uniform_grid(STEPS), shape, noise, trajectory=True)
    states = [process.prior(shape, noise), *(state for _, state in drawn.trajectory)]
    with torch.no_grad():
        fields = [autoencoder.decode(state)[:, 0].numpy() for state in states]
    limit = float(np.quantile(np.abs(read.fields("truth")), 0.997))
    frames = [joined([[tile(field, limit, 3) for field in some]]) for some in fields]
    words = f"{count} samples of {LABELS[one.name]}, decoded after each of {STEPS} steps of Heun's rule, from noise to fields."
    return figure(film(frames, words, 7, 1500), "Samples appear", words)
