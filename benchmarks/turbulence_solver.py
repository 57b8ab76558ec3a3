"""How fast is the turbulence solver? Field-steps a second against torch-cfd's spectral solver, the same flow, one run.

Both integrate decaying flow with drag on equal grids: ours by the classical Runge-Kutta rule with an integrating factor,
torch-cfd by its default (Carpenter-Kennedy, five stages, order 4 in transport; Crank-Nicolson in linear terms). At one step
torch-cfd errs a little less, so the bar is held against ours with steps of 15/17. The floor is our transforms alone. Get it by
pip install --no-deps torch-cfd einops xarray dill seaborn tqdm matplotlib pandas; without it its rows are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diptych.data.turbulence import PRESETS
from diptych.physics.navier_stokes import Flow, Solver, initial

BAR = 2.0
FIELDS = 8
SECONDS = 60.0
CASES = ((64, 6, 0.01, 1.2e-2), (128, 4, 0.006, 4e-3), (256, 1, 0.0025, 1e-3))


def peer(flow: Flow) -> Callable[[Tensor, int], Tensor] | None:
    """torch-cfd's solver, fields (B, y, x) to fields; None where it is not installed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from torch_cfd.grids import Grid
            from torch_cfd.spectral import NavierStokes2DSpectral, RK4CrankNicolsonStepper
    except ImportError as error:
        print(f"torch-cfd: not installed ({error.name}); its rows are left out", flush=True)
        return None
    grid = Grid((flow.size, flow.size), domain=((0, 2 * torch.pi), (0, 2 * torch.pi)))
    equation = NavierStokes2DSpectral(flow.viscosity, grid, flow.drag, step_fn=RK4CrankNicolsonStepper())
    equation = equation.to(getattr(torch, flow.dtype))

    def run(fields: Tensor, steps: int) -> Tensor:
        with torch.no_grad():
            modes, _ = equation(torch.fft.rfft2(fields.mT), flow.dt, steps)
        return torch.fft.irfft2(modes).mT

    return run


def transforms(flow: Flow, batch: int) -> Callable[[Tensor, int], Tensor]:
    """The transforms of the steps and nothing else."""
    kept, n = flow.k_max + 1, flow.size
    columns = torch.zeros(2, batch, kept, n, dtype=torch.complex64)
    padded = torch.zeros(2, batch, n, n // 2 + 1, dtype=torch.complex64)

    def run(fields: Tensor, steps: int) -> Tensor:
        for _ in range(4 * steps):
            torch.fft.ifft(columns, dim=-1)
            made = torch.fft.irfft(padded, n=n, dim=-1)
            torch.fft.rfft(made, dim=-1)
            torch.fft.fft(columns, dim=-1)
        return fields

    return run


def race(jobs: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """CPU seconds of each job, by turns, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(turns + 1):
        for name, job in jobs.items():
            begun = time.process_time()
            job()
            if turn:
                taken[name].append(time.process_time() - begun)
    return taken


def contest(case: tuple[int, int, float, float], turns: int) -> float | None:
    """One grid; torch-cfd's time over ours at equal tolerance, where it is there."""
    size, batch, dt, viscosity = case
    steps = 15 * max(1, 4 * 64 * 64 * 6 // (size * size * batch))
    flow = Flow(size=size, viscosity=viscosity, amplitude=0.0, dt=dt)
    shorter = replace(flow, dt=dt * 15 / 17)
    start = initial(flow, [str(index) for index in range(batch)])
    solver, finer, other, floor = Solver(flow), Solver(shorter), peer(flow), transforms(flow, batch)
    jobs: dict[str, Callable[[], object]] = {
        "ours": lambda: solver.advance(start, 0.0, steps),
        "ours, dt 15/17": lambda: finer.advance(start, 0.0, steps * 17 // 15),
        "transforms": lambda: floor(start, steps),
    }
    if other:
        jobs["torch-cfd"] = lambda: other(start, steps)
    taken = race(jobs, turns)
    print(f"{batch} x {size}^2, {steps} steps of {dt:g}", flush=True)
    for name, held in taken.items():
        ratio = statistics.median(a / b for a, b in zip(held, taken["ours"]))
        cost = statistics.median(held) / steps / batch
        print(f"  {name:14s} {1e3 * cost:7.3f} ms a field-step {1 / cost:8,.0f} field-steps/s {ratio:6.2f} x the time of ours")
    if not other:
        return None
    return statistics.median(a / b for a, b in zip(taken["torch-cfd"], taken["ours, dt 15/17"]))


def accuracy() -> None:
    """Errors at the steps of the race, in float64, so that it is run at equal tolerance or better."""
    flow = Flow(size=64, amplitude=0.0, dt=0.01, dtype="float64")
    start = initial(flow, ["0", "1"])
    fine = Solver(replace(flow, dt=0.00125)).advance(start, 0.0, 840)
    rows = {
        "ours": Solver(flow).advance(start, 0.0, 105),
        "ours, dt 15/17": Solver(replace(flow, dt=flow.dt * 15 / 17)).advance(start, 0.0, 119),
    }
    other = peer(flow)
    if other:
        rows["torch-cfd"] = other(start, 105)
    for name, made in rows.items():
        error = float((made - fine).square().mean().sqrt() / fine.square().mean().sqrt())
        print(f"relative error at time 1.05 on 64^2: {name:14s} {error:.2e}")


def threads() -> None:
    """Wall time with one thread and with two; other work on the machine counts against two."""
    for size, batch, dt, viscosity in CASES:
        flow = Flow(size=size, viscosity=viscosity, dt=dt)
        start, solver = initial(flow, [str(index) for index in range(batch)]), Solver(flow)
        wall: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(4):
            for count in wall:
                torch.set_num_threads(count)
                begun = time.perf_counter()
                solver.advance(start, 0.0, 4)
                if turn:
                    wall[count].append(time.perf_counter() - begun)
        torch.set_num_threads(1)
        one, two = (1e3 * min(held) / 4 / batch for held in wall.values())
        print(f"threads at {batch} x {size}^2: one {one:.3f}, two {two:.3f} ms of wall time a field-step", flush=True)


def peak(batch: int) -> int:
    """Most bytes that stepping a batch of 512^2 holds, but for the fields it starts from."""
    flow = Flow(size=512, wavenumber=2, dt=1e-4)
    solver = Solver(flow)
    start = initial(flow, ["0"]).repeat(batch, 1, 1)
    solver.advance(start[:1], 0.0, 1)
    status = Path("/proc/self/status")

    def read(name: str) -> int:
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    before = read("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    solver.advance(start, 0.0, 1)
    return read("VmHWM:") - before


def memory() -> float:
    """Field-sized arrays a trajectory, by two batches, so that what they share cancels; freed memory is given back at once."""
    found = []
    for batch in (2, 6):
        command = [sys.executable, __file__, "--peak", str(batch)]
        run = subprocess.run(
            command, env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}, capture_output=True, text=True, check=True
        )
        found.append(int(run.stdout))
    return (found[1] - found[0]) / (4 * 4 * 512 * 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="turns of each (default: %(default)s)")
    parser.add_argument("--peak", type=int, default=0, metavar="B", help="print the bytes that a batch of B needs, and stop")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.peak:
        print(peak(asked.peak))
        return
    bars = []
    if sys.platform == "linux":
        held = memory()
        bars.append((f"memory: {held:.2f} field-sized arrays a trajectory beside its start; bar {FIELDS}", held <= FIELDS))
    ratios = [ratio for case in CASES if (ratio := contest(case, asked.turns))]
    accuracy()
    threads()
    ladder = PRESETS["64"]
    start, solver = initial(ladder.flow, [f"train/{index}" for index in range(ladder.train)]), Solver(ladder.flow)
    cost = statistics.median(race({"": lambda: solver.advance(start, 0.0, 200)}, 3)[""]) / 200
    whole = cost * (ladder.spin_up + ladder.fields * ladder.every) / ladder.flow.dt
    bars.append(
        (f"1440 forced fields of 64^2 (6 x 145 time units): {whole:.1f} CPU seconds; bar {SECONDS:g}", whole <= SECONDS)
    )
    if ratios:
        least = min(ratios)
        bars.append((f"torch-cfd's time over ours at equal tolerance: {least:.2f} or more; bar {BAR:g}", least >= BAR))
    for words, met in bars:
        print(f"{words}: {'met' if met else 'MISSED'}")
    sys.exit(not all(met for _, met in bars))


if __name__ == "__main__":
    main()
