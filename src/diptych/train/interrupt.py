"""Signals that end a run: noted while it works, heeded once it has saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator


class Stopped(SystemExit):
    """Training stopped by a signal, after a checkpoint; uncaught, it ends the program with 128 + the signal's number."""


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """A list that SIGTERM and SIGINT are appended to while the block runs.

    Another SIGINT a second later interrupts at once; sooner it is the same key press, come by way of torchrun as well.
    """
    came: list[int] = []
    since = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: object) -> None:
        nonlocal since
        if came and number == signal.SIGINT and time.monotonic() - since > 1:
            raise KeyboardInterrupt
        since = since or time.monotonic()
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
