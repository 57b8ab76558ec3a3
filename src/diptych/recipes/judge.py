"""Train the image-text judge that scores captions: contrastively, on pictures that no generator is trained or tested on.

Two kinds of pictures: the judge's own split of the embedded emoji, and art styles that are not embedded at all. Its accuracy on
the test split, which neither it nor a generator has seen, is the ceiling written beside the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data import emoji, images, items
from diptych.metrics import alignment
from diptych.models import judge as judges
from diptych.models.text_encoder import TextEncoder
from diptych.train.loop import Shuffled, TrainConfig
from diptych.train.loop import train as run

OTHERS = ("openmoji", "emojione", "emojione classic", "streamline", "fxemoji")
LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class JudgeTraining:
    """How a judge is trained.

    Args:
        model: its sizes.
        train: the clock, the rate and the seed.
        others: art styles that are drawn anew from their npm packages, besides the judge's split of the embedded ones.
        share: how often the judge's split is seen for each time that the others are.
        drawn: captions of all training pictures drawn into every batch as negatives, beside those of the batch itself and
            the same names in other styles.
        strength: of the augmentation, 1 = as described in `augment`; 0 = none.
        candidates: captions each picture chooses among when the judge is measured.
        limit: use only so many pictures, for training and for measuring alike; None = all.
    """

    model: judges.JudgeConfig = judges.JudgeConfig()
    train: TrainConfig = TrainConfig(
        name="judge",
        images=500_000,
        batch=64,
        lr=2e-3,
        warmup_images=16_000,
        decay="cosine",
        betas=(0.9, 0.98),
        weight_decay=0.05,
        ema=0.0,
    )
    others: tuple[str, ...] = OTHERS
    share: int = 2
    drawn: int = 1024
    strength: float = 1.0
    candidates: int = 100
    limit: int | None = None


TRAIN = {
    "tiny": JudgeTraining(
        judges.JudgeConfig(widths=(4, 8), size=16),
        TrainConfig(name="judge", images=128, batch=32, lr=2e-3, ema=0.0),
        others=(),
        drawn=32,
        candidates=10,
        limit=64,
    ),
    "full": JudgeTraining(),
}


@dataclass(frozen=True)
class Pictures:
    """What a judge learns from: pixels (N, H, W, 3) uint8, and the name and caption of each."""

    pixels: np.ndarray
    names: tuple[str, ...]
    captions: tuple[str, ...]


def training_pictures(embedded: images.ImageSet, config: JudgeTraining, folder: Path) -> Pictures:
    """The judge's split of the embedded pictures `share` times over, and the `others`, drawn into `folder` on first use.

    Raises:
        ValueError: an embedded style among `others` (its test pictures would be seen), or a style that cannot be drawn.
    """
    seen = sorted(set(config.others) & set(embedded.styles))
    if seen:
        raise ValueError(f"judge: others: {seen[0]!r} is embedded; its test pictures would be trained on, so leave it out")
    parts = [embedded.take(images.split(embedded)["judge"])] * config.share
    if config.others:
        if not (folder / "index.json").is_file():
            for _ in emoji.build(config.others, folder, folder / "packages"):
                pass
        parts.append(emoji.load(folder, config.others))
    names = tuple(name for part in parts for name in part.names)
    captions = tuple(items.caption(name, style) for part in parts for name, style in zip(part.names, part.styles))
    kept = spread(len(names), config.limit)
    pixels = np.concatenate([part.pixels for part in parts])[kept]
    return Pictures(pixels, tuple(names[i] for i in kept), tuple(captions[i] for i in kept))


def spread(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` of `count` rows, evenly spaced; all where it is None."""
    return np.arange(count) if limit is None or limit >= count else np.arange(limit) * count // limit


def augment(x_BCHW: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Pictures in [-1, 1] on white, moved, scaled, turned, tinted, blurred and made noisy, each a little and never mirrored.

    At strength 1: scale 0.85 to 1.2, shift to an eighth of the side, turn to 0.1 rad, contrast 0.85 to 1.15, tint 0.1,
    every second picture blurred by up to a 5x5 box (generated pictures are soft), noise to 0.05.
    """
    count = len(x_BCHW)

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator, device=x_BCHW.device) * 2 - 1) * strength

    shrink, turn, shift = 1.0 + 0.17 * uniform(count), 0.1 * uniform(count), 0.125 * uniform(count, 2)
    cos, sin = shrink * turn.cos(), shrink * turn.sin()
    affine = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(x_BCHW.shape), align_corners=False)
    x_BCHW = 1 - F.grid_sample(1 - x_BCHW, grid, align_corners=False)
    x_BCHW = x_BCHW * (1 + 0.15 * uniform(count, 1, 1, 1)) + 0.1 * uniform(count, 3, 1, 1)
    soft = F.avg_pool2d(F.pad(x_BCHW, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    x_BCHW = torch.lerp(x_BCHW, soft, uniform(count, 1, 1, 1).clamp(min=0))
    grain = torch.randn(x_BCHW.shape, generator=generator, device=x_BCHW.device)
    return x_BCHW + 0.05 * uniform(count, 1, 1, 1).abs() * grain


@dataclass(frozen=True)
class Contrastive:
    """InfoNCE of pictures over captions (van den Oord et al. 2018, eq. 4), with a learnt temperature.

    Candidates of a batch are the distinct captions of its pictures, the same names in every other style, and `drawn` others;
    as captions are distinct, no duplicate is ever a negative.

    Args:
        sentences: embedding of every caption, (M, E).
        same_name: captions that share a caption's name, (M, most) padded with the caption itself.
        drawn: further captions a batch.
        strength: of the augmentation.
    """

    sentences: Tensor
    same_name: Tensor
    drawn: int
    strength: float

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        network = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        assert isinstance(network, judges.Judge)
        x_BCHW, own_B = batch["pixels"].float() / 127.5 - 1.0, batch["caption"]
        if self.strength:
            x_BCHW = augment(x_BCHW, self.strength, generator)
        sentences, same_name = self.sentences.to(own_B.device), self.same_name.to(own_B.device)
        further = torch.randperm(len(sentences), generator=generator, device=own_B.device)[: self.drawn]
        candidates = torch.unique(torch.cat([same_name[own_B].flatten(), further]))
        scores_BK = model(x_BCHW) @ sentences[candidates].T * network.log_scale.exp().clamp(max=LARGEST_SCALE)
        return F.cross_entropy(scores_BK, torch.searchsorted(candidates, own_B), reduction="none")


def objective(pictures: Pictures, config: JudgeTraining, encoder: TextEncoder) -> tuple[Contrastive, Tensor]:
    """The loss, and the row of each picture's caption in it, (N,) int64."""
    distinct = sorted(set(pictures.captions))
    place = {text: i for i, text in enumerate(distinct)}
    by_name: dict[str, set[int]] = {}
    for name, text in zip(pictures.names, pictures.captions):
        by_name.setdefault(name, set()).add(place[text])
    name_of = dict(zip(pictures.captions, pictures.names))
    most = max(map(len, by_name.values()))
    same = [sorted(by_name[name_of[text]]) for text in distinct]
    padded = torch.tensor([group + [i] * (most - len(group)) for i, group in enumerate(same)])
    rows = torch.tensor([place[text] for text in pictures.captions])
    return Contrastive(encoder.embed(distinct), padded, config.drawn, config.strength), rows


def measure(folder: Path, embedded: images.ImageSet, candidates: int = 100, limit: int | None = None) -> dict[str, list[float]]:
    """Accuracies of the judge in `folder` on real pictures that neither it nor a generator was trained on.

    Args:
        folder: of the judge.
        embedded: the pictures whose test split is scored.
        candidates: captions a picture chooses among.
        limit: score only so many.

    Returns:
        "retrieval" (own caption first of `candidates` test captions) and "style" (own style first of the embedded ones,
        the name being right), each [value, low, high] with a 95 % Wilson interval.
    """
    rows = images.split(embedded)["test"]
    real = embedded.take(rows[spread(len(rows), limit)])
    asked, styles = items.items(real), sorted(set(embedded.styles))
    captions = {item.id: item.caption for item in asked}
    rivals = {item.id: [items.caption(item.name, other) for other in styles if other != item.style] for item in asked}
    metrics = {
        "retrieval": alignment.retrieval(captions, candidates=candidates, weights=folder),
        "style": alignment.choice(captions, rivals, "style", weights=folder),
    }
    return {name: list(alignment.ceiling(metric, real.ids, real.pixels)) for name, metric in metrics.items()}


def train(config: JudgeTraining, out: Path, device: torch.device | str | None = None, trackers: Sequence[str] = ()) -> Path:
    """Train a judge in `out`; its folder with weights, config and ceiling is returned.

    Args:
        config: how.
        out: holds the run (`run/`, resumable), drawn pictures (`pictures/`) and the finished judge (`judge/`).
        device: as in `train.loop.train`.
        trackers: as in `train.loop.train`.
    """
    embedded = emoji.load()
    pictures = training_pictures(embedded, config, out / "pictures")
    loss, rows = objective(pictures, config, TextEncoder.load(config.model.text))
    size = config.model.size
    x_NCHW = torch.cat([judges.to_input(part, size) for part in np.array_split(pictures.pixels, 64) if len(part)])
    pixels = ((x_NCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        judge = judges.Judge(config.model)
    data = Shuffled({"pixels": pixels, "caption": rows}, seed=config.train.seed)
    trained = run(config.train, judge, loss, data, out / "run", device=device, trackers=trackers)
    assert isinstance(trained.model, judges.Judge)
    folder = out / "judge"
    about: dict[str, object] = {"training": dataclasses.asdict(config), "pictures": len(pixels)}
    judges.save(trained.model, folder, about)
    judges.save(trained.model, folder, about | {"measured": measure(folder, embedded, config.candidates, config.limit)})
    return folder


STAGES = {"judge": train}
