"""How the quickstart's model is made: an autoencoder, then a text-conditioned transformer by rectified flow in its latents.

Both see the "train" pictures of the embedded emoji only; "test" (concept, style) pairs and the judge's pictures are held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diptych.data import emoji, items
from diptych.data.images import ImageSet, contact_sheet, split
from diptych.denoise import parameterize
from diptych.guide import ClassifierFree
from diptych.models.autoencoder import Autoencoder, AutoencoderConfig
from diptych.models.dit import DiT, DiTConfig
from diptych.models.hub import load_model, save_model
from diptych.models.text_encoder import TextEncoder
from diptych.noise import Noise
from diptych.process import Gaussian
from diptych.sample import sample
from diptych.samplers.continuous import Heun
from diptych.schedule import LogitNormal, uniform_grid
from diptych.train.loop import Shuffled, TrainConfig, train
from diptych.train.losses import rectified_flow

SHOWN = (
    "red apple, noto style",
    "red apple, fluent flat style",
    "cat face, twemoji style",
    "hot pepper, noto classic style",
    "pizza, fluent style",
    "green heart, fluent flat style",
    "rocket, twemoji style",
    "owl, noto style",
)


@dataclass(frozen=True)
class QuickstartTraining:
    """How the shipped model was trained.

    Args:
        autoencoder: shape of the autoencoder.
        dit: shape of the transformer.
        train_autoencoder: its run; one row is one picture.
        train_dit: its run.
        density: training times, leaning to the prior: below t = 0.85 a noisy latent of 1,024 numbers already tells which of
            the pictures it came from, so only later times teach what the words mean.
        drop: share of captions replaced by the null text.
        pictures: use this many training pictures only; 0 = all.
    """

    autoencoder: AutoencoderConfig = AutoencoderConfig()
    dit: DiTConfig = DiTConfig()
    train_autoencoder: TrainConfig = TrainConfig(
        name="quickstart/autoencoder",
        images=150_000,
        batch=32,
        lr=1e-3,
        warmup_images=3_200,
        decay="cosine",
        ema=0.999,
        log_every_images=3_200,
        save_every_images=16_000,
        validate_every_images=16_000,
    )
    train_dit: TrainConfig = TrainConfig(
        name="quickstart/dit",
        images=208_000,
        batch=32,
        lr=8e-4,
        warmup_images=12_800,
        decay="linear_tail",
        tail=0.4,
        betas=(0.9, 0.99),
        ema=0.9995,
        log_every_images=6_400,
        save_every_images=12_800,
        validate_every_images=51_200,
    )
    density: LogitNormal = LogitNormal(1.5, 1.0)
    drop: float = 0.1
    pictures: int = 0


TRAIN = {
    "tiny": QuickstartTraining(
        AutoencoderConfig(),
        DiTConfig(width=64, depth=3, heads=2, hidden=64),
        TrainConfig(name="quickstart/autoencoder", images=64, batch=16, lr=1e-3),
        TrainConfig(name="quickstart/dit", images=64, batch=16, lr=1e-3),
        pictures=64,
    ),
    "full": QuickstartTraining(),
}


def train_autoencoder(config: QuickstartTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train the autoencoder and standardise its latents; returns the folder of its weights, out/autoencoder."""
    pictures = training_pictures(config)
    held = to_float(_held_out().pixels)
    torch.manual_seed(config.train_autoencoder.seed)
    model = Autoencoder(config.autoencoder)

    def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        return net(to_float(batch["pixels"]), generator)

    def validate(net: nn.Module) -> dict[str, float]:
        error = (_reconstructed(net, held).clamp(-1, 1) - held).square().flatten(1).mean(1) / 4
        return {"psnr": float(-10 * error.log10().mean())}

    def picture(net: nn.Module, path: Path) -> None:
        shown = held[:24]
        pair = torch.cat([shown, _reconstructed(net, shown)])
        contact_sheet(to_pixels(pair), 24).save(path / "pairs.png")

    data = Shuffled({"pixels": torch.from_numpy(pictures.pixels)}, seed=config.train_autoencoder.seed, augment=_shifted)
    folder = out / "autoencoder"
    done = train(
        config.train_autoencoder, model, loss, data, folder, validate=validate, sample=picture, device=device, trackers=trackers
    )
    best = done.model
    assert isinstance(best, Autoencoder)
    with torch.no_grad():
        best.calibrate(to_float(pictures.pixels).to(next(best.parameters()).device))
    save_model(best, config.autoencoder, folder / "weights", {"training": asdict(config.train_autoencoder)})
    return folder / "weights"


def train_dit(config: QuickstartTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train the transformer in the autoencoder's latents; returns the folder of its weights, out/dit.

    Raises:
        ValueError: out/autoencoder is missing; train that stage first.
    """
    weights = out / "autoencoder" / "weights"
    if not weights.exists():
        raise ValueError(f"train: {weights} is missing; run the stage 'autoencoder' first")
    autoencoder = load_model(weights)
    assert isinstance(autoencoder, Autoencoder)
    pictures = training_pictures(config)
    with torch.no_grad():
        latents = torch.cat([autoencoder.encode(to_float(part)) for part in np.array_split(pictures.pixels, 40) if len(part)])
    captions = Captions(pictures, config.dit.text_tokens)
    torch.manual_seed(config.train_dit.seed)
    model = DiT(config.dit)

    def loss(net: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0 = batch["latent"]
        t = config.density(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device)
        null = torch.rand(len(x0), generator=generator, device=x0.device) < config.drop
        cond = {"text": batch["text"].float(), "text_mask": batch["text_mask"], "null": null}
        return rectified_flow(net, x0, cond, t, eps)

    held = _held_out()
    with torch.no_grad():
        held_latents = autoencoder.encode(to_float(held.pixels[:256]))
    held_text, held_mask = TextEncoder.load().encode([item.caption for item in items.items(held)][:256], config.dit.text_tokens)

    def validate(net: nn.Module) -> dict[str, float]:
        device = next(net.parameters()).device
        generator = torch.Generator(device).manual_seed(0)
        batch = {"latent": held_latents.to(device), "text": held_text.to(device), "text_mask": held_mask.to(device)}
        return {"loss": float(loss(net, batch, generator).mean())}

    def picture(net: nn.Module, path: Path) -> None:
        device = next(net.parameters()).device
        text, mask = TextEncoder.load().encode(list(SHOWN), config.dit.text_tokens)
        grids = []
        for seed in range(2):
            noise = Noise(tuple(f"{prompt}#{seed}" for prompt in SHOWN), str(device))
            drawn = sample(
                Gaussian(),
                Heun(),
                parameterize(net, "flow", Gaussian()),
                uniform_grid(16, 4.0),
                (config.dit.in_channels, config.dit.size, config.dit.size),
                noise,
                cond={"text": text.to(device), "text_mask": mask.to(device)},
                guidance=ClassifierFree(3.0),
            )
            grids.append(to_pixels(autoencoder.decode(drawn.x.cpu())))
        contact_sheet(np.concatenate(grids), len(SHOWN)).save(path / "samples.png")

    rows = torch.arange(len(pictures))
    data = Shuffled({"row": rows, "latent": latents}, seed=config.train_dit.seed, augment=captions.attach)
    folder = out / "dit"
    done = train(
        config.train_dit, model, loss, data, folder, validate=validate, sample=picture, device=device, trackers=trackers
    )
    assert isinstance(done.model, DiT)
    save_model(done.model, config.dit, folder / "weights", {"training": asdict(config.train_dit)})
    return folder / "weights"


def pack(config: QuickstartTraining, out: Path, device: str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Write the shipped form of both networks with a card; see `quickstart_pack`."""
    from diptych.recipes import quickstart_pack

    return quickstart_pack.pack(config, out)


STAGES = {"autoencoder": train_autoencoder, "dit": train_dit, "pack": pack}


class Captions:
    """Token states of every wording of every training caption, encoded once, kept as float16.

    Args:
        pictures: the training pictures.
        tokens: the longest text.
    """

    def __init__(self, pictures: ImageSet, tokens: int) -> None:
        wordings = [
            items.variants(n, s, c) for n, s, c in zip(pictures.names, pictures.styles, pictures.categories, strict=True)
        ]
        flat = sorted({text for texts in wordings for text in texts}, key=lambda text: (len(text), text))
        where = {text: i for i, text in enumerate(flat)}
        self.wordings = [torch.tensor([where[text] for text in texts]) for texts in wordings]
        self.states: list[Tensor] = []
        encoder = TextEncoder.load()
        for start in range(0, len(flat), 128):
            states, mask = encoder.encode(flat[start : start + 128], tokens)
            self.states += [row[keep].half() for row, keep in zip(states, mask, strict=True)]

    def attach(self, batch: dict[str, Tensor], keys: Tensor) -> dict[str, Tensor]:
        """Add a wording's states to each row, chosen by the row's own random number: the canonical one half of the time."""
        rows, keys_ = batch["row"].tolist(), keys.tolist()
        places = [0 if key & 1 else (key >> 1) % len(self.wordings[row]) for row, key in zip(rows, keys_, strict=True)]
        chosen = [self.wordings[row][place] for row, place in zip(rows, places, strict=True)]
        texts = [self.states[i] for i in chosen]
        text = nn.utils.rnn.pad_sequence(texts, batch_first=True)
        mask = torch.arange(text.shape[1]) < torch.tensor([len(states) for states in texts])[:, None]
        return {"latent": batch["latent"], "text": text, "text_mask": mask}


def training_pictures(config: QuickstartTraining) -> ImageSet:
    """The pictures training may see."""
    pictures = emoji.load()
    index = split(pictures)["train"]
    return pictures.take(index[:: max(len(index) // config.pictures, 1)] if config.pictures else index)


def _held_out() -> ImageSet:
    pictures = emoji.load()
    return pictures.take(split(pictures)["test"])


def _shifted(batch: dict[str, Tensor], keys: Tensor) -> dict[str, Tensor]:
    """Mirror half of the pictures: the autoencoder has no left and right to learn."""
    flip = (keys & 1).bool()[:, None, None, None]
    return {"pixels": torch.where(flip, batch["pixels"].flip(2), batch["pixels"])}


def _reconstructed(net: nn.Module, images: Tensor) -> Tensor:
    assert isinstance(net, Autoencoder)
    device = next(net.parameters()).device
    return torch.cat([net.decode(net.encode(part.to(device))).cpu() for part in images.split(64)])


def to_float(pixels: np.ndarray | Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) in [-1, 1]."""
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [-1, 1] to (N, H, W, 3) uint8."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
