"""What `--dry-run` prints: the resolved config, units x arms, what is on disk already, expected evaluations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from diptych.commands.terminal import grid, show_grid, stdout

if TYPE_CHECKING:
    from diptych.compare.plan import Job, Plan


def show_plan(planned: Plan, record: dict[str, Any], as_json: bool) -> None:
    """Print a plan, or the same as JSON."""
    comparison = planned.comparison
    jobs = [_job(job) for job in (*planned.jobs, planned.again)]
    if as_json:
        print(json.dumps({**record, "out": planned.out.as_posix(), "units": len(comparison.units), "arms": jobs}, indent=1))
        return
    console = stdout()
    console.print(json.dumps({"recipe": record["recipe"], "size": record["size"], "config": record["config"]}, indent=1))
    items, seeds = len(comparison.items), len(comparison.seeds)
    console.print(f"\n{items} items x {seeds} seeds = {items * seeds} units, {len(planned.jobs)} arms, into {planned.out}/\n")
    table = grid("arm", ">units", ">to do", ">evaluations to do", "key")
    for job in jobs:
        evaluations = "?" if job["evaluations"] is None else f"{job['evaluations']:,}"
        table.add_row(job["name"], str(job["units"]), str(job["pending"]), evaluations, job["key"])
    show_grid(console, table)
    metrics = ", ".join(
        f"{metric.name}" + (" (primary)" if metric.name == comparison.primary else "") for metric in comparison.metrics
    )
    console.print(f"\nmetrics: {metrics}")


def _job(job: Job) -> dict[str, Any]:
    return {
        "name": job.arm.name,
        "key": job.key,
        "units": len(job.units) + len(job.extra),
        "pending": len(job.pending),
        "evaluations": job.evaluations(),
    }
