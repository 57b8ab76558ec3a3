"""Writes diffusers.json, the states that the schedulers of `diffusers` visit with a closed-form denoiser.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch diffusers==0.42.1
    /tmp/reference/bin/python tests/conformance/make_diffusers.py

Not part of the tests: they read the file, and do not need diffusers.
"""

import json
from pathlib import Path

import diffusers
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
)

START = [-2.0, -0.7, 0.1, 0.9, 1.6]
FLOW = [1.0, 0.85, 0.6, 0.4, 0.15, 0.0]  # sigma of x = (1 - sigma) x0 + sigma eps
EXPLODING = [80.0, 31.0, 9.0, 2.5, 0.6, 0.1, 0.0]  # sigma of x = x0 + sigma eps


def denoised(x, sigma):
    """Any smooth function will do."""
    return torch.tanh(1.5 * x / (1 + sigma)) * (1 - sigma / (2 + 2 * sigma))


def flow(x, sigma):
    return (x - denoised(x, sigma)) / sigma


def raw(x, sigma):
    """What EDM's preconditioning with sigma_data = 0.5 turns into `denoised`."""
    return (denoised(x, sigma) - 0.25 / (sigma**2 + 0.25) * x) / (sigma * 0.5 / (sigma**2 + 0.25) ** 0.5)


def walk(scheduler, sigmas, start, predict, doubled=False):
    """Set the scheduler's sigmas by hand (second-order ones list inner sigmas twice) and keep the state after every step."""
    scheduler.set_timesteps(len(sigmas) - 1)
    inner = [s for s in sigmas[1:-1] for _ in range(2 if doubled else 1)]
    scheduler.sigmas = torch.tensor([sigmas[0], *inner, sigmas[-1]], dtype=torch.float64)
    scheduler.timesteps = torch.arange(len(scheduler.sigmas) - 1, 0, -1).double()
    scheduler.num_inference_steps = len(scheduler.timesteps)
    x, states = start.clone(), []
    for i, time in enumerate(scheduler.timesteps):
        x = scheduler.step(predict(x, scheduler.sigmas[i]), time, x).prev_sample
        if not doubled or i % 2 or i == len(scheduler.timesteps) - 1:
            states.append([round(value, 8) for value in x.tolist()])
    return {"sigmas": list(sigmas), "start": start.tolist(), "states": states}


def main():
    start = torch.tensor(START, dtype=torch.float64)
    ve = {"prediction_type": "epsilon", "num_train_timesteps": 1000}
    cases = {
        "linear/euler": walk(FlowMatchEulerDiscreteScheduler(), FLOW, start, flow),
        "linear/heun": walk(FlowMatchHeunDiscreteScheduler(), FLOW, start, flow, doubled=True),
        "ve/euler": walk(EulerDiscreteScheduler(**ve), EXPLODING, 80 * start, flow),
        "ve/heun": walk(HeunDiscreteScheduler(**ve), EXPLODING, 80 * start, flow, doubled=True),
        "linear/dpmpp_2m": walk(
            DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, euler_at_final=True),
            FLOW,
            start,
            flow,
        ),
        "ve/dpmpp_2m": walk(
            EDMDPMSolverMultistepScheduler(sigma_data=0.5, euler_at_final=True),
            EXPLODING,
            80 * start,
            raw,
        ),
    }
    data = {"diffusers": diffusers.__version__, "command": "python tests/conformance/make_diffusers.py", "cases": cases}
    Path(__file__).with_name("diffusers.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
