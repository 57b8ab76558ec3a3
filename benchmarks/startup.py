"""How long does the command line take to answer? Wall time of `diptych --help` and its light verbs, against importing torch.

    python benchmarks/startup.py [--turns 5]

Every command is a fresh process; they take turns, so that the machine's load falls on all alike, and the fastest turn counts.
"typer, rich help" is a two-verb typer program with its default help, to show what plain help saves. The bar: `diptych --help`
within a tenth of `import torch` (on an idle machine, where that takes 2.6 s, 0.26 s).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

RICH = """
import typer
app = typer.Typer()
@app.command()
def one(name: str): ...
@app.command()
def two(name: str): ...
app(["--help"])
"""
OURS = "import sys; sys.argv = ['diptych', *sys.argv[1:]]; from diptych.cli import main; main()"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import typer": ["-c", "import typer"],
    "typer, rich help": ["-c", RICH],
    "import pydantic": ["-c", "from pydantic import TypeAdapter"],
    "import numpy": ["-c", "import numpy"],
    "import torch": ["-c", "import torch"],
    "diptych --help": ["-c", OURS, "--help"],
    "diptych compare --help": ["-c", OURS, "compare", "--help"],
    "diptych ls samplers": ["-c", OURS, "ls", "samplers"],
}
BAR = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(turns):
        for name, words in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - begun)
    torch = best["import torch"]
    print(f"{'command':24} {'best of ' + str(turns):>10} {'of torch':>9}")
    for name, seconds in best.items():
        print(f"{name:24} {seconds:8.3f} s {seconds / torch:9.2f}")
    share = best["diptych --help"] / torch
    print(f"diptych --help: {share:.2f} of import torch, bar {BAR}: {'kept' if share < BAR else 'MISSED'}")
    return 0 if share < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
