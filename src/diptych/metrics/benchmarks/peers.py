"""The table of the i1 paper (arXiv 2606.11289), at 1024 pixels, and the average over its five benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FIVE = ("geneval", "dpg", "prism", "cvtg", "longtext")
PERCENT = {"geneval": 100.0, "dpg": 1.0, "prism": 1.0, "cvtg": 100.0, "longtext": 100.0}
"""What a score is times in the average."""


@dataclass(frozen=True)
class Peer:
    """A row of the table.

    Args:
        parameters: as the table gives them; "-" behind a company's interface. openness: weights, "data too", or an interface.
        scores: in the order of `FIVE`, as they are reported. quoted: which of them the table takes from elsewhere.
        average: in percent, as the table gives it; None where it gives none.
    """

    name: str
    parameters: str
    scores: tuple[float | None, float | None, float | None, float | None, float | None]
    quoted: tuple[str, ...] = ()
    average: float | None = None
    openness: str = "weights"


PEERS = (
    Peer(
        "GPT Image 1 High", "-", (0.84, 85.15, None, 0.8569, 0.956), ("geneval", "dpg", "cvtg", "longtext"), None, "interface"
    ),
    Peer("Seedream 3.0", "-", (0.84, 88.27, None, 0.5924, 0.896), ("geneval", "dpg", "cvtg", "longtext"), None, "interface"),
    Peer("Z-Image", "6B", (0.84, 88.14, 74.2, 0.8671, 0.935), ("geneval", "dpg", "cvtg", "longtext"), 85.3),
    Peer("Qwen-Image", "20B", (0.87, 88.32, 73.9, 0.8288, 0.943), ("geneval", "dpg", "cvtg", "longtext"), 85.3),
    Peer("i1", "3B", (0.84, 86.73, 70.1, 0.8531, 0.922), (), 83.7, "data too"),
    Peer("HiDream-I1-Full", "17B", (0.83, 85.89, 66.1, 0.7738, 0.543), ("geneval", "dpg", "cvtg", "longtext"), 73.3),
    Peer("FLUX.1 dev", "12B", (0.66, 83.84, 65.1, 0.4965, 0.607), ("geneval", "dpg", "cvtg", "longtext"), 65.1),
    Peer("BAGEL", "14B", (0.88, 85.44, 61.8, 0.3642, 0.373), ("geneval", "longtext"), 61.8),
    Peer("SD3 Medium", "2B", (0.62, 84.08, 61.9, 0.4037, 0.322), ("geneval", "dpg"), 56.1),
    Peer("BLIP3o-N-G-T", "3B", (0.86, 79.77, 56.8, 0.3330, 0.153), (), 54.2, "data too"),
    Peer("BLIP3o-N-G-G", "3B", (0.90, 81.93, 57.5, 0.2442, 0.114), (), 53.0, "data too"),
    Peer("BLIP3o-N-S", "3B", (0.87, 81.98, 56.8, 0.2493, 0.110), (), 52.3, "data too"),
    Peer("Lumina-Image 2.0", "3B", (0.73, 87.20, 63.5, 0.1577, 0.088), ("geneval", "dpg"), 49.7),
    Peer("Janus-Pro-7B", "7B", (0.80, 84.19, 60.0, 0.0667, 0.019), ("geneval", "dpg", "longtext"), 46.6),
    Peer("DeCo", "1B", (0.86, 81.4, 53.1, 0.0014, 0.003), ("geneval", "dpg"), 44.2, "data too"),
    Peer("BLIP3o-4B", "4B", (0.77, 79.73, 53.2, 0.0353, 0.023), (), 43.2, "data too"),
    Peer("PixNerd", "1B", (0.73, 80.9, 53.3, 0.0006, 0.020), ("geneval", "dpg"), 41.9, "data too"),
)


def average(scores: Mapping[str, float]) -> float:
    """The mean of the five in percent, as the paper takes it.

    Raises:
        ValueError: one of the five is missing.
    """
    absent = [name for name in FIVE if name not in scores]
    if absent:
        raise ValueError(f"average: {', '.join(absent)} missing; the average is over all five benchmarks")
    return sum(PERCENT[name] * scores[name] for name in FIVE) / len(FIVE)
