"""A text being written: one row a step, one column a position; what was given, written, taken back and written again."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from diptych.compare.plots import _svg, _text

KEY = (("given", "given"), ("fresh", "written in this step"), ("back", "taken back in this step"), ("held", "stands"))
FILLS = {"given": "var(--soft)", "fresh": "var(--better)", "back": "var(--worse)", "held": "none", "mask": "none"}


def decode_strip(
    states: np.ndarray, words: Sequence[str], mask: int, block: int, *, title: str, width: int = 720, groups: int = 0
) -> str:
    """The states (S + 1, L) of one decode as a strip.

    Args:
        words: what each token is written as.
        mask: id of the mask.
        block: block length; blocks are parted by lines.
        title: for readers of the page's text.
        groups: a thinner gap after so many positions (a row of a square); 0 = none.
    """
    length = states.shape[1]
    left, top, gap = 34, 30, 5
    gaps = [0.0]
    for place in range(1, length):
        gaps.append(gaps[-1] + (gap if groups and place % groups == 0 else 0))
    side = min((width - left - 6 - gaps[-1]) / length, 24.0)
    tall = max(min(side + 3, 21.0), 14.0)
    small = f' style="font-size:{1.3 * side:.1f}px"' if side < 9 else ""
    out, given = [], states[0] != mask
    spot = 0.0
    for name, label in KEY:
        out.append(
            f'<rect x="{left + spot:.1f}" y="5" width="12" height="12" rx="2" fill="{FILLS[name]}" '
            f'fill-opacity="{1 if name == "given" else 0.75}" stroke="var(--strong)"/>'
        )
        out.append(_text(left + spot + 17, 15, label, "tick", "start"))
        spot += 30 + 6.4 * len(label)
    for step, state in enumerate(states):
        y = top + tall * step
        out.append(_text(left - 8, y + tall / 2 + 4, str(step) if step else "start", "tick", "end"))
        for place, token in enumerate(state.tolist()):
            x = left + side * place + gaps[place]
            before = int(states[step - 1, place]) if step else token
            kind = "given" if given[place] else "mask" if token == mask else "held"
            if token != before:
                kind = "back" if token == mask else "fresh"
            if kind in ("given", "fresh", "back"):
                out.append(
                    f'<rect x="{x + 0.7:.1f}" y="{y + 0.7:.1f}" width="{side - 1.4:.1f}" height="{tall - 1.4:.1f}" rx="2" '
                    f'fill="{FILLS[kind]}" fill-opacity="{1 if kind == "given" else 0.34}"/>'
                )
            shown = "\u00b7" if token == mask else str(words[token])
            shown = str(words[before]) if kind == "back" else shown
            struck = ' text-decoration="line-through"' if kind == "back" else ""
            out.append(
                f'<text class="{"tick" if kind == "mask" else "lab"}" x="{x + side / 2:.1f}" y="{y + tall / 2 + 4:.1f}" '
                f'text-anchor="middle"{struck}{small}>{escape(shown)}</text>'
            )
    bottom = top + tall * len(states)
    for start in range(block, length, block):
        x = left + side * start + gaps[start] - (gap / 2 if groups and start % groups == 0 else 0)
        out.append(f'<line class="rule" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
    return _svg(width, bottom + 6, title, out)
