"""Judges that look at one picture at a time on this machine: the detector of drawn shapes, and PP-OCR."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diptych.data.chat_client import Answer as Kept
from diptych.data.chat_client import AnswerFile, content_key
from diptych.metrics.benchmarks.cvtg import clip_score
from diptych.metrics.benchmarks.shape_detector import detect
from diptych.metrics.benchmarks.t2i import Answer, Task
from diptych.metrics.benchmarks.t2i_files import pixels_of
from diptych.metrics.ocr import Reader

if TYPE_CHECKING:
    from diptych.models.clip import ClipFolder


@dataclass(frozen=True)
class Shapes:
    """Finds drawn shapes; answers as GenEval's detector."""

    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        for task in tasks:
            yield task, {"objects": detect(pixels_of(task.load()))}


@dataclass(frozen=True)
class Ocr:
    """Reads pictures with PP-OCRv4.

    Args:
        says: "text", all in one; "lines", a list of what stands together.
        confidence: lines below it are dropped.
    """

    says: Literal["text", "lines"] = "text"
    confidence: float = 0.5

    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        reader = Reader(confidence=self.confidence)
        for task in tasks:
            lines = reader.lines(pixels_of(task.load()))
            yield task, {"text": " ".join(lines)} if self.says == "text" else {"lines": list(lines)}


@dataclass(frozen=True)
class Clipped:
    """A judge whose answers get CVTG-2K's CLIPScore beside what it says: the picture against "A photo depicts" and the prompt.

    Args:
        judge: the reader. clip: ViT-L/14 for the published numbers.
    """

    judge: Callable[[Iterable[Task]], Iterator[tuple[Task, Answer]]]
    clip: ClipFolder

    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        for task, answer in self.judge(tasks):
            seen, said = (
                self.clip.pictures(pixels_of(task.load())[None])[0],
                self.clip.texts([f"A photo depicts {task.prompt.text}"])[0],
            )
            yield task, {**answer, "clip": clip_score(float(seen @ said))}


@dataclass(frozen=True)
class Remembered:
    """A judge whose answers are kept by what the picture, the prompt and the judge are: nothing is judged twice.

    Args:
        judge: one that looks at a picture at a time. name: what identifies it, its weights included.
        file: JSON lines, appended to.
    """

    judge: Callable[[Iterable[Task]], Iterator[tuple[Task, Answer]]]
    name: str
    file: Path = field(metadata={"fingerprint": False})

    def __call__(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer]]:
        held, options = AnswerFile(self.file), {"judge": self.name}
        for task in tasks:
            key = content_key(task.load(), task.prompt.text, repr(task.prompt.detail))
            known = held.get(key, options)
            if known is None:
                ((_, made),) = self.judge([task])
                held.put(Kept(key, json.dumps(made)), options)
                yield task, made
            else:
                yield task, _object(known.text)


def _object(text: str) -> dict[str, Any]:
    return json.loads(text)
