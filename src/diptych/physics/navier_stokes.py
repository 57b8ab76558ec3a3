"""Forced two-dimensional turbulence: a batched pseudo-spectral solver of the vorticity equation on the square (0, 2 pi)^2.

    dw/dt + u . grad w = nu lap w - alpha w - A k_f cos(k_f y),   w = dv/dx - du/dy = curl u

Kolmogorov forcing A sin(k_f y) on the velocity along x, linear drag alpha. Fields are (..., y, x): axis -2 is y, axis -1 is x.
Square 2/3 dealiasing, the linear terms by an integrating factor, the rest by the classical Runge-Kutta rule of order 4. The
transport term is taken as its curl form, (d_xx - d_yy)(u v) + d_xy (v^2 - u^2) (Basdevant 1983), which needs two inverse and
two forward transforms a stage where u . grad w needs five; transforms skip the columns that dealiasing empties.

There is no mean flow. Nothing is scaled: the side is 2 pi, and time and viscosity are in the units that go with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.load import suggest
from diptych.noise import Noise
from diptych.physics.shells import SpectralGrid
from diptych.physics.vorticity import velocity

DTYPES = {"float32": torch.float32, "float64": torch.float64}
STABLE = 2 * math.sqrt(2)
"""Where the Runge-Kutta rule of order 4 stops being stable on the imaginary axis: the largest CFL number."""
SAFE = 0.7
"""Share of STABLE that an adaptive step may begin an interval with."""
HALVINGS = 8
"""Most times that an adaptive step is halved."""


class BlowUp(FloatingPointError):
    """The time step is too long for the flow: `cfl` is what was found in `row`; `fields` of `time` are good."""

    def __init__(self, words: str, time: float, fields: Tensor, cfl: float, row: int) -> None:
        super().__init__(words)
        self.time, self.fields, self.cfl, self.row = time, fields, cfl, row


@dataclass(frozen=True)
class Flow:
    """A forced flow and how it is integrated.

    Args:
        size: N, grid points a side; even. Modes with |k_x| or |k_y| above (N - 1) // 3 are not kept.
        viscosity: nu [L^2/T]. drag: alpha [1/T].
        wavenumber: k_f of the forcing. amplitude: A of the forcing [L/T^2]; 0 = unforced.
        dt: time step [T]; with `adaptive` the longest, halved for an interval and trajectory whose CFL number asks for it.
        start_wavenumber: where the energy of the random initial field lies; modes up to three times that are filled.
        start_speed: its root-mean-square speed.
        seed: of the initial fields.
        dtype: "float32" or "float64".
    """

    size: int = 64
    viscosity: float = 1.2e-2
    drag: float = 0.1
    wavenumber: int = 2
    amplitude: float = 1.0
    dt: float = 0.01
    adaptive: bool = False
    start_wavenumber: int = 4
    start_speed: float = 1.5
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.size < 8 or self.size % 2:
            raise ValueError(f"flow.size: {self.size} is odd or below 8; take an even number, 64 say")
        for name in ("dt", "start_speed"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"flow.{name}: {getattr(self, name)} must be a positive number")
        for name in ("viscosity", "drag"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"flow.{name}: {getattr(self, name)} must be zero or positive")
        if not math.isfinite(self.amplitude):
            raise ValueError(f"flow.amplitude: {self.amplitude} must be finite")
        if not 1 <= self.wavenumber <= self.k_max:
            raise ValueError(f"flow.wavenumber: {self.wavenumber} must lie in 1..{self.k_max} on a grid of {self.size}")
        if not 1 <= 3 * self.start_wavenumber <= self.k_max:
            raise ValueError(
                f"flow.start_wavenumber: {self.start_wavenumber} must lie in 1..{self.k_max // 3} on a grid of {self.size}"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"flow.dtype: {self.dtype!r} is unknown{suggest(self.dtype, DTYPES)}")

    @property
    def k_max(self) -> int:
        """Largest wavenumber kept along an axis."""
        return (self.size - 1) // 3

    @property
    def spacing(self) -> float:
        """Between grid points; the side is 2 pi."""
        return 2 * math.pi / self.size

    @property
    def grid(self) -> SpectralGrid:
        """Its grid points, for spectra and velocities."""
        return SpectralGrid((self.size, self.size), (self.spacing, self.spacing), dealiased=True)


def initial(flow: Flow, keys: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
    """Random initial vorticity, (len(keys), N, N): the energy a mode falls off as exp(-(|k| / k_0 - 1)^2 2), random phases.

    A field depends on (flow.seed, its key) alone, and is the same flow on any grid that holds its modes.
    """
    reach, size = 3 * flow.start_wavenumber, flow.size
    noise = Noise(tuple(f"{flow.seed}/{key}" for key in keys))
    drawn = noise.normal((2, 2 * reach + 1, reach + 1), "start").double()
    k_y, k_x = torch.arange(-reach, reach + 1).double()[:, None], torch.arange(reach + 1).double()
    k = torch.hypot(k_y, k_x)
    # vorticity a mode is k times the speed a mode
    shape = k * torch.exp(-((k / flow.start_wavenumber - 1) ** 2)) * (k <= reach)
    modes = torch.zeros(len(keys), size, size // 2 + 1, dtype=torch.complex128)
    rows = torch.arange(-reach, reach + 1) % size
    modes[:, rows, : reach + 1] = torch.complex(drawn[:, 0], drawn[:, 1]) * shape
    fields = torch.fft.irfft2(modes, s=(size, size))
    u, v = velocity(fields, flow.grid)
    speed = (u**2 + v**2).mean((1, 2), keepdim=True).sqrt()
    return (fields * (flow.start_speed / speed)).to(device, DTYPES[flow.dtype])


def simulate(flow: Flow, start: Tensor, every: float, count: int, after: float = 0.0) -> Iterator[tuple[float, Tensor]]:
    """Yield (time, vorticity (B, N, N)) `count` times, at after + every, after + 2 every, ...

    Each interval begins from the field the last one ended with, as it was yielded: going on from a stored field of the same
    dtype repeats the rest bit for bit. A trajectory does not depend on the others of its batch.

    Args:
        start: vorticity at time 0, (B, N, N), of any dtype; computed in `flow.dtype` on its device.
        every: between the fields; a whole number of steps dt.
        after: run first for this long without yielding; a whole number of steps.

    Raises:
        ValueError: fields of another grid, or times that are not whole numbers of steps.
        BlowUp: the CFL number (k_max max(|u| + |v|) dt) passed 2 sqrt 2, or a field is not finite.
    """
    if start.ndim != 3 or start.shape[1:] != (flow.size, flow.size):
        raise ValueError(f"simulate: start has shape {tuple(start.shape)}; give (B, {flow.size}, {flow.size})")
    solver = Solver(flow, start.device)
    time, fields = 0.0, start.to(DTYPES[flow.dtype])
    if after:
        fields = solver.advance(fields, time, steps(flow, after, "after"))
        time = after
    number = steps(flow, every, "every")
    for index in range(count):
        fields = solver.advance(fields, time, number)
        time = after + (index + 1) * every
        yield time, fields


def steps(flow: Flow, time: float, name: str) -> int:
    """Steps in `time`.

    Raises:
        ValueError: not a whole number of them.
    """
    number = round(time / flow.dt)
    if number < 1 or abs(number * flow.dt - time) > 1e-6 * time:
        raise ValueError(f"{name}: {time:g} is not a whole number of steps of {flow.dt:g}; take {max(number, 1) * flow.dt:g}")
    return number


class Solver:
    """The multipliers of a flow, and the stepping.

    The state is the half spectrum's kept columns, (B, K + 1, N) complex, ordered k_x, k_y: 0.69 of a field. The columns' axis
    comes first because torch transforms the last axis without copies. Real multipliers hold each number twice, for the real and
    the imaginary part. A step holds at most 7.4 field-sized arrays a trajectory, beside the fields an interval starts from
    (benchmarks/turbulence_solver.py).
    """

    CHECK = 16
    """Steps between looks at the CFL number."""

    def __init__(self, flow: Flow, device: torch.device | str = "cpu") -> None:
        self.flow, n, k = flow, flow.size, flow.k_max
        k_y = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=device)
        k_x = torch.arange(k + 1, dtype=torch.float64, device=device)[:, None]
        keep = (k_y.abs() <= k) & ((k_y != 0) | (k_x != 0))
        square = k_y**2 + k_x**2
        psi = keep / square.clamp(min=1)
        self.real = DTYPES[flow.dtype]
        complex_ = torch.complex64 if self.real == torch.float32 else torch.complex128
        self.keep = keep
        self.to_speed = torch.stack([1j * k_y * psi, -1j * k_x * psi])[:, None].to(complex_)
        self.to_rate = [self._wide(factor * keep) for factor in (k_y * k_x, k_x**2 - k_y**2)]
        self.linear = -(flow.viscosity * square + flow.drag)
        # the two modes of -A k_f cos(k_f y), unnormalised
        self.forced = slice(flow.wavenumber, n - flow.wavenumber + 1, n - 2 * flow.wavenumber)
        self.force = -0.5 * flow.amplitude * flow.wavenumber * n * n
        self._factors: dict[float, Tensor] = {}

    def advance(self, fields: Tensor, time: float, number: int) -> Tensor:
        """Fields (B, N, N) of `time`, `number` steps of dt on. With `adaptive`, each trajectory's steps are halved as it needs.

        Raises:
            BlowUp: with the fields given.
        """
        flow = self.flow
        if not flow.adaptive:
            return self._run(fields, time, number, flow.dt)
        modes = self.modes(fields)
        asked = torch.log2(self.cfl(modes, self.scratch(modes), flow.dt) / (SAFE * STABLE)).ceil().clamp(0, HALVINGS)
        made = torch.empty_like(fields)
        for level in asked.unique().tolist():
            rows = (asked == level).nonzero()[:, 0]
            made[rows] = self._run(fields[rows], time, number * 2 ** int(level), flow.dt / 2 ** int(level))
        return made

    def modes(self, fields: Tensor) -> Tensor:
        """Kept modes of fields (..., N, N), (..., K + 1, N), unnormalised."""
        columns = torch.fft.rfft(fields, dim=-1)[..., : self.flow.k_max + 1]
        return torch.fft.fft(columns.mT, dim=-1) * self.keep

    def fields(self, modes: Tensor) -> Tensor:
        """The inverse of `modes`."""
        return torch.fft.irfft(torch.fft.ifft(modes, dim=-1).mT, n=self.flow.size, dim=-1)

    def cfl(self, modes: Tensor, padded: Tensor, dt: float) -> Tensor:
        """k_max max(|u| + |v|) dt, (B,). `padded` as `scratch` makes it."""
        return self._speeds(modes, padded).abs_().sum(0).amax((1, 2)) * (self.flow.k_max * dt)

    def scratch(self, modes: Tensor) -> Tensor:
        """Room for the padded modes of u and v, (2, B, N, N / 2 + 1)."""
        return modes.new_empty(2, len(modes), self.flow.size, self.flow.size // 2 + 1)

    def _run(self, fields: Tensor, time: float, number: int, dt: float) -> Tensor:
        modes = self.modes(fields)
        stage, total, padded = torch.empty_like(modes), torch.empty_like(modes), self.scratch(modes)
        for index in range(number):
            if index % self.CHECK == 0:
                self._watch(modes, padded, dt, fields, time, index * dt)
            self._step(modes, stage, total, padded, dt)
        self._watch(modes, padded, dt, fields, time, number * dt)
        return self.fields(modes)

    def _watch(self, modes: Tensor, padded: Tensor, dt: float, fields: Tensor, time: float, gone: float) -> None:
        """Stop where the step is too long; `fields` are those of `time`, `gone` ago."""
        found = self.cfl(modes, padded, dt).nan_to_num(nan=math.inf)
        worst, row = float(found.max()), int(found.argmax())
        if worst <= STABLE:
            return
        shorter = SAFE * dt * STABLE / worst if math.isfinite(worst) else dt / 2
        raise BlowUp(
            f"the flow of row {row} blew up: CFL number {worst:.3g} (limit {STABLE:.2f}), time {time + gone:g}, dt {dt:.3g}; "
            f"last good fields: time {time:g}; take dt below {shorter:.2g}, or adaptive=true",
            time,
            fields,
            worst,
            row,
        )

    def _step(self, modes: Tensor, stage: Tensor, total: Tensor, padded: Tensor, dt: float) -> None:
        """One step in place; the rule of order 4 for exp(-L t) w, its stages brought forward by E = exp(L dt / 2)."""
        half, whole = self._factor(dt / 2), self._factor(dt)
        w, mid, sum_ = (torch.view_as_real(one) for one in (modes, stage, total))
        rate = self._rate(modes, padded)
        torch.add(w, rate, alpha=dt / 6, out=sum_).mul_(whole)
        torch.add(w, rate, alpha=dt / 2, out=mid).mul_(half)
        w.mul_(half)
        del rate  # each before the next is made
        rate = self._rate(stage, padded)
        sum_.addcmul_(rate, half, value=dt / 3)
        torch.add(w, rate, alpha=dt / 2, out=mid)
        del rate
        rate = self._rate(stage, padded)
        sum_.addcmul_(rate, half, value=dt / 3)
        torch.add(w, rate, alpha=dt, out=mid).mul_(half)
        del rate
        rate = self._rate(stage, padded)
        torch.add(sum_, rate, alpha=dt / 6, out=w)

    def _rate(self, modes: Tensor, padded: Tensor) -> Tensor:
        """Transport and forcing of modes, as real pairs (B, K + 1, N, 2). `padded`, (2, B, N, N / 2 + 1), is scratch."""
        kept, n = self.flow.k_max + 1, self.flow.size
        u, v = self._speeds(modes, padded).unbind(0)
        products = torch.view_as_real(padded).flatten(-2)[..., :n]
        torch.mul(v, v, out=products[0]).addcmul_(u, u, value=-1)
        torch.mul(u, v, out=products[1])
        del u, v
        columns = torch.fft.rfft(products, dim=-1)[..., :kept].mT.contiguous()
        difference, product = torch.view_as_real(torch.fft.fft(columns, dim=-1)).unbind(0)
        rate = difference.mul_(self.to_rate[0]).addcmul_(product, self.to_rate[1])
        rate[:, 0, self.forced, 0] += self.force
        return rate

    def _speeds(self, modes: Tensor, padded: Tensor) -> Tensor:
        """u and v, (2, B, N, N); leaves nothing of use in the scratch."""
        kept = self.flow.k_max + 1
        padded[..., :kept].copy_(torch.fft.ifft(modes * self.to_speed, dim=-1).mT)
        padded[..., kept:].zero_()
        return torch.fft.irfft(padded, n=self.flow.size, dim=-1)

    def _factor(self, time: float) -> Tensor:
        """exp(L time), wide."""
        if time not in self._factors:
            self._factors[time] = self._wide(torch.exp(self.linear * time) * self.keep)
        return self._factors[time]

    def _wide(self, factor: Tensor) -> Tensor:
        return factor.to(self.real)[..., None].expand(*factor.shape, 2).contiguous()
