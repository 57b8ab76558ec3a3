"""How options are declared, and those that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer


def option(name: str, metavar: str | None, words: str, complete: Callable[[str], list[str]] | None = None) -> Any:
    """An option whose default is not shown."""
    return typer.Option(name, metavar=metavar, help=words, autocompletion=complete, show_default=False)


def argument(metavar: str, words: str, complete: Callable[[str], list[str]] | None = None) -> Any:
    """An argument whose default is not shown."""
    return typer.Argument(metavar=metavar, help=words, autocompletion=complete, show_default=False)


Out = Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Where results go.", show_default=False)]
Json = Annotated[bool, option("--json", None, "Print JSON on stdout.")]
