"""The progress line of a training run: live on a terminal, a plain line an interval elsewhere, silent on other ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO


class Progress:
    """Images seen, images a second, loss, time left.

    Args:
        name: name of the run, put first.
        images: images already seen.
        total: images in all.
        stream: where it is written; None = nowhere.
    """

    def __init__(self, name: str, images: int, total: int, stream: TextIO | None) -> None:
        self.name, self.total, self.stream = name, total, stream
        self.live = stream is not None and stream.isatty()
        self._since, self._images, self._now, self._shown = time.perf_counter(), images, images, 0.0
        self._speed = 0.0

    def at(self, images: int, loss: float) -> None:
        """Note a step; redraws a live line up to four times a second."""
        self._now = images
        if self.live and time.perf_counter() - self._shown > 0.25:
            self._shown = time.perf_counter()
            self._put(f"\r\033[K{self._text(images, self._measured(), loss)}")

    def speed(self) -> float:
        """Images a second since the last `resume`."""
        self._speed = self._measured()
        return self._speed

    def resume(self, images: int) -> None:
        """Start the clock again; what happened since `speed` (validation, saving) is not counted."""
        self._since, self._images = time.perf_counter(), images

    def line(self, images: int, values: Mapping[str, float]) -> None:
        """One plain line for a line of the log."""
        checked = "".join(f"  {key} {value:.4g}" for key, value in values.items() if key.startswith("val/"))
        self.say(self._text(images, self._speed, values["train/loss"]) + checked)

    def say(self, text: str) -> None:
        """Write a line of its own."""
        self._put(("\r\033[K" if self.live else "") + text + "\n")

    def end(self) -> None:
        """Leave the terminal clean."""
        if self.live:
            self._put("\r\033[K")

    def _measured(self) -> float:
        seconds = time.perf_counter() - self._since
        return (self._now - self._images) / seconds if seconds > 0 else 0.0

    def _text(self, images: int, speed: float, loss: float) -> str:
        left = f"{_clock((self.total - images) / speed)} left" if speed > 0 and images < self.total else ""
        share = f"{images:,}/{self.total:,} images"
        return f"{self.name}: {share}  {speed:,.4g} images/s  loss {loss:.4g}  {left}".rstrip()

    def _put(self, text: str) -> None:
        if self.stream:
            self.stream.write(text)
            self.stream.flush()


def _clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
