"""What holds for every test: one thread, no network, no deadlines, the same examples every time."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DIPTYCH_DEVICE"] = "cpu"

from hypothesis import HealthCheck, settings

settings.register_profile(
    "diptych", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("diptych")
