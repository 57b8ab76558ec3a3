"""How the command line prints: plain columns that fit 80 characters, colour on a terminal only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def stdout() -> Console:
    """A console on stdout that marks nothing up by itself; in a pipe it folds no line."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 10_000)


def grid(*columns: str) -> Table:
    """A table without lines; a column whose title starts with ">" is right-aligned, with "~" may be folded."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">~"), justify="right" if column[:1] == ">" else "left", no_wrap=column[:1] != "~")
    return table


def show_grid(console: Console, table: Table) -> None:
    """Print a table, in a pipe without the blanks that fill its lines."""
    with console.capture() as captured:
        console.print(table)
    text = captured.get()
    sys.stdout.write(text if console.is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines()))


def hint(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr)
