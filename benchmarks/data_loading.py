"""Does data loading keep up with training on one core? Records a processor second, against plain files and training.

    python benchmarks/data_loading.py [--records 1500] [--turns 7]

One process, one thread, processor time; all take turns, so that the machine's load falls on all alike. The records are
embedded emoji at 64 x 64 with their captions. "plain files" is the usual way: a folder of PNGs, a JSON file beside each,
opened one by one in shuffled order. "shards" is `MixedPictures` on the same pictures prepared, batches of 64 (draws, reads,
decoding, stacking). "latents" is `MixedLatents` on cached latents 16 x 8 x 8 and states of 16 tokens x 384. "decoding alone"
is the floor of the first two: Pillow on PNGs that lie in memory. "training step" is the quickstart's transformer, batch 32,
forward and backward.
The bar: shards and latents each deliver at least 5 times what the training step eats, in the median of the paired turns.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diptych.data import latent_cache
from diptych.data.feed import MixedLatents, MixedPictures
from diptych.data.mixture import mix
from diptych.data.prepare import Settings, prepare
from diptych.data.records import Source
from diptych.data.sources import Pictures, emoji_source
from diptych.models.dit import DiT, DiTConfig
from diptych.train.losses import rectified_flow

BAR, BATCH = 5.0, 64


def plain_files(source: Source, folder: Path) -> Callable[[], int]:
    """Each record opened by name: its JSON, its PNG, to an array."""
    folder.mkdir()
    for row in range(len(source)):
        record = source[row]
        assert isinstance(record.image, bytes)
        (folder / f"{row:06d}.png").write_bytes(record.image)
        (folder / f"{row:06d}.json").write_text(json.dumps({"captions": record.captions}))
    order = np.random.default_rng(0).permutation(len(source)).tolist()

    def read() -> int:
        for start in range(0, len(order), BATCH):
            pixels = []
            for row in order[start : start + BATCH]:
                with (folder / f"{row:06d}.json").open() as file:
                    json.load(file)["captions"][0]
                with Image.open(folder / f"{row:06d}.png") as picture:
                    pixels.append(np.asarray(picture.convert("RGB")))
            torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        return len(order)

    return read


def decoding(source: Source) -> Callable[[], int]:
    """Pillow alone, from memory."""
    files = [record.image for record in map(source.__getitem__, range(len(source))) if isinstance(record.image, bytes)]

    def decode() -> int:
        for data in files:
            Image.open(io.BytesIO(data)).load()
        return len(files)

    return decode


def batches(data: MixedPictures | MixedLatents, records: int) -> Callable[[], int]:
    """Batches on from where the last turn stopped."""
    position = [0]

    def read() -> int:
        for _ in range(records // BATCH):
            data.batch(position[0], BATCH)
            position[0] += BATCH
        return records // BATCH * BATCH

    return read


def training(batch: int = 32) -> Callable[[], int]:
    """One step of the quickstart's transformer."""
    config = DiTConfig()
    net = DiT(config)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(batch, config.in_channels, config.size, config.size, generator=generator)
    text = torch.randn(batch, config.text_tokens, config.text_width, generator=generator)
    cond = {"text": text, "text_mask": torch.ones(batch, config.text_tokens, dtype=torch.bool)}
    t, eps = torch.rand(batch, generator=generator), torch.randn(x0.shape, generator=generator)

    def step() -> int:
        net.zero_grad()
        rectified_flow(net, x0, cond, t, eps).mean().backward()
        return batch

    return step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    every = emoji_source()
    taken = Pictures("emoji", every.keys[: args.records], every.array[: args.records], every.captions[: args.records])
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        source = prepare(taken, root / "shards", Settings(size=64, per_shard=512))
        generator = torch.Generator().manual_seed(0)

        def encode(pixels: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(pixels), 16, 8, 8, generator=generator)

        def states(words: object) -> tuple[torch.Tensor, torch.Tensor]:
            count = len(list(words))  # type: ignore[call-overload]
            return torch.randn(count, 16, 384, generator=generator), torch.ones(count, 16, dtype=torch.bool)

        mixture = mix({"emoji": source})
        latents = latent_cache.latents(source, encode, root / "cache", network="noise")
        texts = latent_cache.texts(source, states, root / "cache", network="noise")
        work: dict[str, Callable[[], int]] = {
            "plain files": plain_files(source, root / "plain"),
            "shards": batches(MixedPictures(mixture, (64, 64)), args.records),
            "latents": batches(MixedLatents(mixture, {"emoji": latents}, {"emoji": texts}), args.records),
            "decoding alone": decoding(source),
            "training step": training(),
        }
        speed: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(args.turns + 1):
            for name, do in work.items():
                begun = time.process_time()
                count = do()
                if turn:  # the first turn warms up, files into the page cache too
                    speed[name].append(count / (time.process_time() - begun))

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(speed[one], speed[other], strict=True))

    print(f"{len(source):,} records of 64 x 64, one thread, {args.turns} turns")
    for name, values in speed.items():
        print(f"{name:16s} {statistics.median(values):10,.0f} records/s")
    print(f"shards / plain files         {ratio('shards', 'plain files'):6.2f}")
    print(f"shards / decoding alone      {ratio('shards', 'decoding alone'):6.2f}  (1 = the floor)")
    print(f"shards / training step       {ratio('shards', 'training step'):6.1f}")
    print(f"latents / training step      {ratio('latents', 'training step'):6.1f}")
    met = min(ratio("shards", "training step"), ratio("latents", "training step")) >= BAR
    print(f"bar {BAR:g}: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
