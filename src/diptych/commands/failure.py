"""One line and an exit code for an exception: 2 where the input was bad, 1 where the work failed."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
PLACES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and message. A failure nobody foresaw gets its traceback written to a file that the message names."""
    if isinstance(error, ValueError) and _raised_by_us(error):
        return 2, str(error)
    if isinstance(error, PLACES) and error.filename is not None:
        return 2, f"{error.filename}: {(error.strerror or type(error).__name__).lower()}"
    if type(error).__module__.startswith("diptych."):  # its message is written to be read
        return 1, str(error)
    said = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    return 1, f"{said} (traceback in {_log(error)}; --debug shows it)"


def _raised_by_us(error: Exception) -> bool:
    """Whether the innermost frame is in this package: a ValueError of a library below it is not a message of ours."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)


def _log(error: Exception) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="diptych-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    return file.name
