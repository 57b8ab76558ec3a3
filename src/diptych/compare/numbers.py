"""Numbers as they are read on the page, and axes as they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUS, DASH, TIMES = "\u2212", "\u2013", "\u00d7"
SUPERSCRIPT = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def decimals(spread: float) -> int:
    """Digits after the point that show `spread` with two significant digits, one where it begins with 4 or more; 0 to 6."""
    if not spread > 0 or not math.isfinite(spread):
        return 0
    power = math.floor(math.log10(spread))
    return min(6, max(0, (1 if spread / 10.0**power < 4 else 0) - power))


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number for reading: real minus, thousands separated, powers of ten when tiny or huge, a dash when there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    if value != 0 and (abs(value) >= 1e7 or abs(value) < min(1e-3, 0.5 * 10.0**-digits)):
        mantissa, power = f"{value:.1e}".split("e")
        text = f"{mantissa}{TIMES}10{str(int(power)).translate(SUPERSCRIPT)}"
    else:
        text = f"{value:,.{digits}f}"
        if float(text.replace(",", "")) == 0:
            text = text.lstrip("-")
    if sign and value > 0 and not set(text) <= set("0.,"):
        text = "+" + text
    return text.replace("-", MINUS)


@dataclass(frozen=True)
class Axis:
    """Maps data from [low, high] to drawing units [start, end], linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        a, b, v = (math.log(q) for q in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (v - a) / (b - a) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round positions inside the axis, with their text."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**p for p in powers for m in (1, 2, 5) if self.low <= m * 10.0**p <= self.high]
            if len(found) > count + 2:
                found = [v for v in found if abs(math.log10(v) % 1) < 1e-9]
            if len(found) > 1:
                return [(v, number(v, max(0, -math.floor(math.log10(v))))) for v in found]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda m: abs(m - rough / power))
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [(k * step, number(k * step, digits)) for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Sequence[float | None], start: float, end: float, *, pad: float = 0.06, log: bool = False) -> Axis:
    """An axis that holds every finite value with some air; log only where all are positive and span a factor of 8."""
    held = [float(v) for v in values if v is not None and math.isfinite(v)] or [0.0, 1.0]
    low, high = min(held), max(held)
    if log and low > 0 and high / low >= 8:
        grow = (high / low) ** pad
        return Axis(low / grow, high * grow, start, end, True)
    air = (high - low) * pad or abs(high) * 0.1 or 1.0
    return Axis(low - air, high + air, start, end)
