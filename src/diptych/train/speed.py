"""How fast a device could be, and how much arithmetic a network asks of it: model-flops utilisation is the quotient."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12, "V100": 125e12}
"""Dense 16-bit matrix products a second by makers' data sheets (an NVL or PCIe board reaches less); keys are parts of names."""


def peak(device: torch.device, half: bool) -> float:
    """Floating point operations a second the device can do at most.

    A data sheet's number where the device is in `PEAKS` and computes in 16 bits; else the fastest of five measured products.

    Args:
        device: one device.
        half: matrix products in bfloat16, else float32.
    """
    if device.type == "cuda" and half:
        name = torch.cuda.get_device_name(device)
        found = next((flops for part, flops in PEAKS.items() if part in name), None)
        if found is not None:
            return found
    side = 8192 if device.type == "cuda" else 1024
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16 if half else torch.float32)
    best = 0.0
    for _ in range(5):
        start = _now(device)
        torch.mm(a, a)
        best = max(best, 2 * side**3 / (_now(device) - start))
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def flops(run: Callable[[], Tensor]) -> float:
    """Floating point operations of matrix products and attention in one forward and backward pass.

    Args:
        run: makes a loss; on the meta device it costs neither memory nor time. Recomputed activations are counted as they run.
    """
    with FlopCounterMode(display=False) as counter:
        run().sum().backward()
    return float(counter.get_total_flops())
