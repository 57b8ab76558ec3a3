"""A small image-text judge: a light convolutional image tower, trained into the space of frozen sentence embeddings.

It scores how well a 64x64 picture fits a caption such as "red apple, noto style". It is not CLIP: it knows emoji-like drawings
and the styles it was trained on, nothing else, and its accuracy on real pictures (see its card) is the ceiling of any score.

    Shapes: B pictures, C channels, H height, W width, D dimension of the shared space.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ASSET = Path(__file__).resolve().parents[1] / "assets" / "judge"
BATCH = 32


@dataclass(frozen=True)
class JudgeConfig:
    """Sizes of a judge.

    Args:
        widths: channels of the stages; the first works at size/4, each next at half of that.
        size: side of the pictures it sees [pixels].
        dim: dimension of the sentence embeddings.
        text: name of the frozen sentence encoder that made them.
    """

    widths: tuple[int, ...] = (16, 32, 64, 136)
    size: int = 64
    dim: int = 384
    text: str = "minilm"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"judge: widths={self.widths} must be positive and at least one")
        step = 2 ** (len(self.widths) + 1)
        if self.size % step:
            raise ValueError(f"judge: size={self.size} must be a multiple of {step} for {len(self.widths)} stages")


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x_BCHW)))
        return F.relu(x_BCHW + self.norm2(self.conv2(inner)))


class Stage(nn.Module):
    """Halve the resolution, then one residual block."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.block = Residual(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block(F.relu(self.norm(self.down(x_BCHW))))


class Judge(nn.Module):
    """Image tower: 2x2 pixels become channels, then stages at half the resolution each; a linear map of the last one's mean."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(Stage(a, b) for a, b in zip((12, *config.widths), config.widths))
        self.head = nn.Linear(config.widths[-1], config.dim)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """Feature maps of every stage, non-negative, coarser and coarser."""
        maps, x_BCHW = [], F.pixel_unshuffle(x_BCHW, 2).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return maps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Unit vectors (B, D) of pictures in [-1, 1]; their dot product with a sentence embedding is the score."""
        return F.normalize(self.head(self.maps(x_BCHW)[-1].mean(dim=(2, 3))), dim=-1)


def to_input(pictures: np.ndarray, size: int) -> Tensor:
    """Pictures (N, H, W, 3) uint8 as a tower sees them: (N, 3, size, size) in [-1, 1], resized with antialiasing."""
    x_NCHW = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    if x_NCHW.shape[2:] != (size, size):
        x_NCHW = F.interpolate(x_NCHW, (size, size), mode="bilinear", antialias=True)
    return x_NCHW


@torch.no_grad()
def by_batch(judge: Judge, pictures: np.ndarray, see: Callable[[Tensor], Tensor]) -> np.ndarray:
    """`see(inputs)` over pictures, float32 (N, ...).

    Every call gets exactly `BATCH` pictures, the last padded, so that a picture's row does not depend on its company.
    """
    rows = []
    for start in range(0, max(len(pictures), 1), BATCH):
        part = pictures[start : start + BATCH]
        padded = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])
        rows.append(see(to_input(padded, judge.config.size))[: len(part)].numpy())
    return np.concatenate(rows)


def embed(judge: Judge, pictures: np.ndarray) -> np.ndarray:
    """Unit vectors (N, D) of pictures (N, H, W, 3) uint8; the dot product with a caption's sentence embedding is the score."""
    return by_batch(judge, pictures, judge)


def pooled(judge: Judge, pictures: np.ndarray) -> np.ndarray:
    """Last feature map averaged over positions, (N, widths[-1]): a picture's content and style in few numbers."""
    return by_batch(judge, pictures, lambda x: judge.maps(x)[-1].mean(dim=(2, 3)))


def feature_vectors(judge: Judge, pictures: np.ndarray) -> list[np.ndarray]:
    """For every stage the unit feature vectors at every position, (N, C, H * W), of pictures (N, H, W, 3) uint8."""

    def flat(x_BCHW: Tensor) -> Tensor:
        return torch.cat([F.normalize(m, dim=1).flatten(1) for m in judge.maps(x_BCHW)], dim=1)

    rows = by_batch(judge, pictures, flat)
    sides = [judge.config.size // 2 ** (k + 2) for k in range(len(judge.config.widths))]
    sizes = [width * side * side for width, side in zip(judge.config.widths, sides)]
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(len(rows), width, -1) for part, width in zip(parts, judge.config.widths)]


def weights_file(folder: str | Path = "") -> Path:
    """The weights in a judge's folder; the shipped judge's where `folder` is empty.

    Raises:
        ValueError: there are none.
    """
    path = Path(folder or ASSET) / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"judge: {path} does not exist; train one with `diptych train judge` or use the shipped one")
    return path


@dataclass(frozen=True)
class JudgeFile:
    """A trained judge by its weights file, whose content identifies it (`config.fingerprint`); it loads on first use."""

    weights: Path = ASSET / "model.safetensors"

    @cached_property
    def network(self) -> Judge:
        return load(self.weights.parent)


def load(folder: str | Path = "") -> Judge:
    """A trained judge for scoring: float32, in evaluation mode, without gradients.

    Args:
        folder: holds model.safetensors and config.json; empty: the shipped judge.

    Raises:
        ValueError: files missing, or a config that names unknown fields.
    """
    from safetensors.torch import load_file

    path = weights_file(folder)
    stored = json.loads((path.parent / "config.json").read_text(encoding="ascii"))["model"]
    unknown = set(stored) - {f.name for f in fields(JudgeConfig)}
    if unknown:
        raise ValueError(f"judge: {path.parent / 'config.json'} has unknown fields {sorted(unknown)}")
    judge = Judge(JudgeConfig(**stored))
    judge.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return judge.eval().requires_grad_(False)


def save(judge: Judge, folder: str | Path, about: dict[str, object]) -> None:
    """Write a judge as float16 safetensors and config.json (`{"model": ..., **about}`), each atomically."""
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().half().contiguous() for key, value in judge.state_dict().items() if "num_batches" not in key}
    config = json.dumps({"model": asdict(judge.config), **about}, indent=1) + "\n"
    for name, data in (("model.safetensors", to_bytes(state)), ("config.json", config.encode("ascii"))):
        part = folder / f"{name}.part"
        part.write_bytes(data)
        os.replace(part, folder / name)
