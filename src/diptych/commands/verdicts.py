"""The verdicts of a report.json as text: the primary metric first, each arm against the baseline, then warnings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.commands.terminal import grid, show_grid, stdout

STYLES = {"better": "green", "worse": "red", "equivalent": "cyan", "undecided": "yellow", "too few units": "yellow"}


def print_report(report: Mapping[str, Any], page: Path) -> None:
    """Print question, one table a metric, the primary metric's sentences, warnings, and where the page is."""
    from rich.text import Text

    from diptych.compare.reading import metrics

    console = stdout()
    console.print(report["title"], style="bold")
    if report["question"] and report["question"] != report["title"]:
        console.print(report["question"])
    units = report["units"]
    seeds = len(units["seeds"])
    claim = "about a training recipe" if report["claim"] == "recipe" else "about these checkpoints"
    console.print(
        f"{units['count']} units ({units['items']} items x {seeds} seed{'s' * (seeds != 1)}); a claim {claim}; 95 % intervals"
    )
    for metric in metrics(report):
        console.print()
        console.print(heading(metric), style="bold")
        table = grid("  arm", ">value", ">difference", "interval", "verdict")
        for cells in rows(report, metric):
            verdict = cells[-1]
            table.add_row(*cells[:-1], Text(verdict, style=STYLES.get(verdict.partition(" (")[0], "")))
        show_grid(console, table)
    sentences = [c["sentence"] for c in report["cells"] if c["metric"] == report["primary"] and c["delta"] is not None]
    if sentences:
        console.print()
        for sentence in sentences:
            console.print(sentence)
    for warning in report["warnings"]:
        console.print()
        console.print(f"warning: {warning}", style="yellow")
    console.print()
    console.print(f"report: {page.as_posix()}")


def heading(metric: Mapping[str, Any]) -> str:
    """A metric in one line: what it is called, its unit, which way is better, the margin."""
    words = ["primary"] if metric["primary"] else []
    words += [] if metric["better"] == "none" else [f"{metric['better']} is better"]
    words += [] if metric["margin"] is None else [f"margin {metric['margin']:g}"]
    words += ["distance from the baseline's sample"] if metric["against"] == "baseline" else []
    unit = f" [{metric['unit']}]" if metric["unit"] else ""
    return f"{metric['label'] or metric['name']}{unit}" + (f": {', '.join(words)}" if words else "")


def rows(report: Mapping[str, Any], metric: Mapping[str, Any]) -> list[list[str]]:
    """One line an arm: label, value, difference, interval (of the difference; of the value for drift), verdict."""
    from diptych.compare.reading import cells

    found, held, places = [], cells(report), decimals_of(report, metric)
    for arm in {arm["name"]: arm for arm in report["arms"]}.values():
        cell = held.get((arm["name"], metric["name"]))
        if cell is None:
            continue
        drift = metric["against"] == "baseline"
        low_high = cell["value_interval"] if drift else cell["interval"] if cell["delta"] is not None else None
        span = f"[{', '.join(figure(end, places, sign=not drift) for end in low_high)}]" if low_high else ""
        verdict = "" if cell["verdict"] == "none" else cell["verdict"]
        verdict += f" (needs {cell['needed']:,})" if cell["needed"] else ""
        delta = figure(cell["delta"], places, sign=True)
        found.append([f"  {arm['label'] or arm['name']}", figure(cell["value"], places), delta, span, verdict])
    return found


def decimals_of(report: Mapping[str, Any], metric: Mapping[str, Any]) -> int:
    """Decimals that show the narrowest interval of a difference, or else of a value, with one or two digits."""
    from diptych.compare.numbers import decimals

    held = [cell for cell in report["cells"] if cell["metric"] == metric["name"]]
    for name, number in (("interval", "delta"), ("value_interval", "value")):
        known = [cell for cell in held if cell[name] and None not in cell[name]]
        spreads = [(cell[name][1] - cell[name][0]) / 2 or abs(cell[number]) for cell in known]
        if any(spreads):
            return decimals(min(spread for spread in spreads if spread > 0))
    values = [abs(cell["value"]) for cell in held if cell["value"]]
    return 0 if all(float(value).is_integer() for value in values) else decimals(max(values) / 100)


def figure(value: float | None, places: int, sign: bool = False) -> str:
    """A number in ASCII with so many decimals; powers of ten where the whole column is tiny, or it is huge; blank when None."""
    if value is None:
        return ""
    text = f"{value:.2e}" if value and (places >= 6 or abs(value) >= 1e7) else f"{value:,.{places}f}"
    text = text.lstrip("-") if not any(digit in text for digit in "123456789") else text
    return f"+{text}" if sign and value > 0 and any(digit in text for digit in "123456789") else text
