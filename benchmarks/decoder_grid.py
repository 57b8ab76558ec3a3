"""How long does a grid of decoders take (14 decoders x 3 block lengths x 486 prompts)? And what does WINO's shadow pass cost?

    OMP_NUM_THREADS=1 python benchmarks/decoder_grid.py [--prompts 486] [--turns 9]

Two measures, on the Sudoku 4x4 model that comes with the package:
  * the grid, greedy, with its answers checked and its evaluations counted. The naive way decodes one prompt a call; it is timed
    on a few prompts of the same cells and scaled. Bar: 8 CPU minutes for the grid.
  * one pass with a shadow slot a position of the open block against one plain pass of the same rows, by turns. A canvas of L
    tokens grows to L + B; bar: 1.15 times (1 + B / L). Attended pairs are counted by the sampling driver's rule.
Seconds are the process's CPU seconds, so that other work on the machine counts for neither.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch

from diptych.data.puzzles import task as find
from diptych.denoise import Canvas
from diptych.models.hub import load_model
from diptych.recipes.remasking import ASSETS
from diptych.recipes.remasking_arms import Cell, Decoded
from diptych.recipes.remasking_decoders import rows
from diptych.samplers.remasking import with_shadows
from diptych.study import Unit

GRID = (
    "threshold-0.5", "threshold-0.7", "threshold-0.8", "threshold-0.9", "one", "fixed-2", "factor", "entropy-bound", "klass",
    "wino-0.5", "wino-0.7", "wino-0.9", "saber", "repair-0.5",
)  # fmt: skip
BLOCKS = (4, 8, 16)
MINUTES, OVERHEAD = 8.0, 1.15
TASK = find("sudoku4")
FOLDER = ASSETS / "sudoku4" / "0"


def grid(prompts: int) -> bool:
    """Decode the grid; whether it kept to the bar."""
    found = {row.name: row for row in rows()}
    arms = [(name, Decoded((("sudoku4-0", FOLDER),), found[name].decoder, TASK.answer_length)) for name in GRID]
    arms[0][1]([Unit(Cell("sudoku4", BLOCKS[0], 0.0).item(0))])  # loads the model
    samples = evaluations = 0
    begun = time.process_time()
    for _, arm in arms:
        for block in BLOCKS:
            made = arm([Unit(Cell("sudoku4", block, 0.0).item(i)) for i in range(prompts)])
            samples, evaluations = samples + len(made), evaluations + float(made.trace["evaluations"].sum())
    minutes = (time.process_time() - begun) / 60
    few, begun = max(prompts // 60, 1), time.process_time()
    for _, arm in arms:
        for block in BLOCKS:
            for i in range(few):
                arm([Unit(Cell("sudoku4", block, 0.0).item(i))])
    alone = (time.process_time() - begun) / 60 * prompts / few
    print(f"{len(GRID)} decoders x {len(BLOCKS)} blocks x {prompts} prompts: {samples} answers, {evaluations:.0f} evaluations")
    print(f"  in batches of {prompts}   {minutes:.2f} CPU minutes, {60e3 * minutes / samples:.2f} ms an answer")
    print(f"  one prompt a call   {alone:.2f} CPU minutes (from {few} prompts a cell): {alone / minutes:.1f} x")
    verdict = "met" if minutes <= MINUTES else "MISSED"
    print(f"bar of {MINUTES:g} minutes: {verdict}")
    return minutes <= MINUTES


def shadow(turns: int, batch: int = 256) -> bool:
    """Time a shadow pass against a plain one; whether it kept to the bar at every block length."""
    net = load_model(FOLDER)
    x = torch.from_numpy(TASK.canvas(*TASK.pairs("test", batch)))
    length, fits = x.shape[1], True

    def seconds(canvas: Canvas) -> float:
        begun = time.process_time()
        for _ in range(8):
            net(canvas)
        return time.process_time() - begun

    with torch.no_grad():
        for block in BLOCKS:
            span = (TASK.start, TASK.start + block)
            plain, slots = Canvas(x), with_shadows(x, span, TASK.mask_id, "joint")
            seconds(plain)
            seconds(slots)
            ratio = statistics.median(seconds(slots) / seconds(plain) for _ in range(turns))
            bar = OVERHEAD * (1 + block / length)
            fits &= ratio <= bar
            pairs = float(slots.pairs()[0]) / float(plain.pairs()[0])
            print(
                f"shadow pass, block {block} of {length} tokens: {ratio:.2f} times a plain pass, bar {bar:.2f} "
                f"{'met' if ratio <= bar else 'MISSED'}; attended pairs {pairs:.2f} times"
            )
    return fits


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=486)
    parser.add_argument("--turns", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    kept = [grid(asked.prompts), shadow(asked.turns)]
    sys.exit(0 if all(kept) else 1)
