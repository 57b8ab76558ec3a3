"""`diptych compare` and `diptych report`: run a comparison, say what came out, render its page."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from diptych.commands.recipe import Asked, Resolved, recipe_module, resolve
from diptych.recipes import RECIPES


def compare(asked: Asked, out: str, *, dry_run: bool, as_json: bool, command: str) -> None:
    """Run the comparison of a recipe; print its verdicts, or report.json."""
    resolved = resolve(asked)
    if dry_run and not as_json:
        _show_costs(resolved)
    execute(resolved.comparison(), out, resolved.record(), dry_run=dry_run, as_json=as_json, command=command)


def _show_costs(resolved: Resolved) -> None:
    """Print what training the arms costs, where the recipe trains them and says so (`costs`)."""
    name, _, part = resolved.recipe.partition(":")
    told = getattr(recipe_module(name), "costs", None) if name in RECIPES else None
    if told is None:
        return
    from diptych.commands.terminal import grid, show_grid, stdout

    heads, *rows = told(resolved.config, part)
    table = grid(*heads)
    for row in rows:
        table.add_row(*row)
    show_grid(stdout(), table)
    print()


def execute(comparison: Any, out: str, record: dict[str, Any], *, dry_run: bool, as_json: bool, command: str) -> None:
    """Plan or run a comparison and print what came of it."""
    folder = Path(out or f"runs/{comparison.name}")
    if dry_run:
        from diptych.commands.planned import show_plan
        from diptych.compare.plan import plan

        show_plan(plan(comparison, folder), record, as_json)
        return
    from diptych.compare.run import run

    page = run(comparison, folder, resolved=record, command=command)
    if int(os.environ.get("RANK", "0")) == 0:
        show(folder, page, as_json)


def report(run: str, as_json: bool) -> None:
    """Render the page of a run again from its files, and print its verdicts."""
    from diptych.compare.report import render

    folder = Path(run)
    if not folder.is_dir() and (Path("runs") / run).is_dir():
        folder = Path("runs") / run
    show(folder, render(folder), as_json)


def show(folder: Path, page: Path, as_json: bool) -> None:
    text = (folder / "report.json").read_text(encoding="utf-8")
    if as_json:
        sys.stdout.write(text)
        return
    from diptych.commands.verdicts import print_report

    print_report(json.loads(text), page)
