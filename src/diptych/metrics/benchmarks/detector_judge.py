"""GenEval's judge from local folders through transformers: a detector for objects, CLIP for their colours.

Mask2Former (instance segmentation on COCO, as the published judge; here in transformers' own port, so scores may differ a
little) or OWLv2 (any class by its name). Colours follow the published rule: the object alone on grey #999, cut out by its box,
against three phrasings of each of ten colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.keys import fingerprint
from diptych.metrics.benchmarks.geneval import COLOURS
from diptych.metrics.benchmarks.t2i import Answer, Task
from diptych.metrics.benchmarks.t2i_files import pixels_of
from diptych.models.clip import ClipFolder

GREY = 0x99
LOWEST = 0.1  # detections below it are not kept; the rules ask for more than 0.3
TEMPLATES = ("a photo of a {colour} {kind}", "a photo of a {colour}-colored {kind}", "a photo of a {colour} object")
RENAMED = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
"""COCO's names that GenEval says otherwise."""


@dataclass(frozen=True)
class Seen:
    """A detected object: class, box in pixels, score, and which pixels are its own (None: all of the box)."""

    kind: str
    box: tuple[float, float, float, float]
    score: float
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Detector:
    """A detector's folder as published: config.json, weights, preprocessor_config.json, for OWLv2 a tokenizer.

    Args:
        folder: of a "mask2former" or "owlv2" model. device: to run on.
    """

    folder: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.architecture not in ("mask2former", "owlv2"):
            raise ValueError(f"{self.folder}: is a {self.architecture or 'folder without config'}; give Mask2Former or OWLv2")

    @property
    def architecture(self) -> str:
        path = self.folder / "config.json"
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type", "")) if path.is_file() else ""

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """(processor, network)."""
        try:
            import transformers
        except ImportError:
            raise ValueError('detector: transformers is not installed; pip install "diptych[hub]"') from None
        if self.architecture == "owlv2":
            kinds: tuple[Any, Any] = (transformers.Owlv2Processor, transformers.Owlv2ForObjectDetection)
        else:
            kinds = (transformers.Mask2FormerImageProcessor, transformers.Mask2FormerForUniversalSegmentation)
        processor = kinds[0].from_pretrained(self.folder, local_files_only=True)
        network = kinds[1].from_pretrained(self.folder, local_files_only=True, dtype=torch.float32)
        return processor, network.to(self.device).eval()

    @torch.no_grad()
    def find(self, pixels: np.ndarray, classes: Sequence[str]) -> list[Seen]:
        """Objects of these classes in a picture (H, W, 3) uint8."""
        found = self._by_name(pixels, classes) if self.architecture == "owlv2" else self._segmented(pixels)
        return [one for one in found if one.kind in classes]

    def _segmented(self, pixels: np.ndarray) -> list[Seen]:
        processor, network = self._parts
        inputs = processor(images=pixels, return_tensors="pt").to(self.device)
        made = processor.post_process_instance_segmentation(
            network(**inputs), threshold=LOWEST, target_sizes=[pixels.shape[:2]], return_binary_maps=True
        )[0]
        names = network.config.id2label
        maps = made["segmentation"]
        found = []
        for one, part in zip(made["segments_info"], maps if maps is not None and maps.ndim == 3 else ()):
            mask = part.cpu().numpy() > 0.5
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
                name = str(names[one["label_id"]])
                found.append(Seen(RENAMED.get(name, name), box, float(one["score"]), mask))
        return found

    def _by_name(self, pixels: np.ndarray, classes: Sequence[str]) -> list[Seen]:
        processor, network = self._parts
        inputs = processor(text=[[f"a photo of a {kind}" for kind in classes]], images=pixels, return_tensors="pt")
        made = processor.post_process_grounded_object_detection(
            network(**inputs.to(self.device)), threshold=LOWEST, target_sizes=[pixels.shape[:2]]
        )[0]
        rows = zip(made["labels"].tolist(), made["boxes"].tolist(), made["scores"].tolist(), strict=True)
        return [Seen(str(classes[int(label)]), (box[0], box[1], box[2], box[3]), score) for label, box, score in rows]


@dataclass(frozen=True)
class DetectorJudge:
    """Answers for GenEval.

    Args:
        detector: finds objects. clip: tells their colours.
    """

    detector: Detector
    clip: ClipFolder

    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        for task in tasks:
            pixels, asked = pixels_of(task.load()), task.prompt.detail
            objects = []
            for one in self.detector.find(pixels, asked.classes):
                row = {"class": one.kind, "box": list(one.box), "score": one.score}
                objects.append({**row, "color": self.colour(pixels, one)} if one.kind in asked.coloured else row)
            yield task, {"objects": objects}

    @property
    def name(self) -> str:
        """What identifies it: both folders' content."""
        return fingerprint((self.detector, self.clip))

    def colour(self, pixels: np.ndarray, one: Seen) -> str:
        """The colour whose phrasings are nearest to what is seen of an object."""
        nearest = self.clip.pictures(cut_out(pixels, one)[None]) @ self._named(one.kind).T
        return COLOURS[int(nearest.argmax())]

    def _named(self, kind: str) -> torch.Tensor:
        """Unit vectors of the colours, (10, D): the mean of the phrasings' unit vectors, again of length one."""
        held = self._vectors.get(kind)
        if held is None:
            texts = [form.format(colour=colour, kind=kind) for colour in COLOURS for form in TEMPLATES]
            means = self.clip.texts(texts).reshape(len(COLOURS), len(TEMPLATES), -1).mean(1)
            held = self._vectors[kind] = torch.nn.functional.normalize(means, dim=-1)
        return held

    @cached_property
    def _vectors(self) -> dict[str, torch.Tensor]:
        return {}


def cut_out(pixels: np.ndarray, one: Seen) -> np.ndarray:
    """An object by its box, what is not its own in grey, (h, w, 3) uint8; at least one pixel."""
    shown = pixels if one.mask is None else np.where(one.mask[..., None], pixels, np.uint8(GREY))
    x0, y0, x1, y1 = (round(value) for value in one.box)
    height, width = pixels.shape[:2]
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return shown[y0 : max(y0 + 1, min(y1, height)), x0 : max(x0 + 1, min(x1, width))]
