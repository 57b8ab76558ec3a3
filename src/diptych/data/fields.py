"""Fields of any origin as values: sampled scalars on 1-D or 2-D grids, where they came from, and what is known of their axes.

`field_files.read` makes them from files. Here: what is refused, whether a periodic axis really is, splits that keep correlated
fields together, and transforms of their values. Arrays are (samples, channels, x) or (samples, channels, y, x), float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from diptych.load import suggest
from diptych.physics.shells import SpectralGrid

LEAK = 2.0
"""Jump across a wrap, in interior increments (root mean squares), from which an axis is taken for not periodic."""
SMOOTH = 1.25
"""Up to here an axis may well be periodic."""
TRANSFORMS = ("none", "log1p", "asinh")


@dataclass(frozen=True)
class Fields:
    """Fields on one grid.

    Args:
        values: (S, C, *grid) float32; 0 where masked.
        sources: names of the files or trajectories they came from; fields of one source are taken to be correlated.
        source: index into `sources`, (S,).
        channels: C names.
        periodic: one answer an axis.
        spacing: of grid points, one number an axis; None = unknown.
        units: of the spacing; "" = unknown.
        mask: valid points, bool, as `values`; None = all.
    """

    values: np.ndarray
    sources: tuple[str, ...]
    source: np.ndarray
    channels: tuple[str, ...]
    periodic: tuple[bool, ...]
    spacing: tuple[float, ...] | None = None
    units: str = ""
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) not in (3, 4) or len(shape) - 2 != len(self.periodic) or shape[1] != len(self.channels):
            raise ValueError(
                f"fields: values {shape} do not fit {len(self.channels)} channels and {len(self.periodic)} axes; "
                "give (samples, channels, x) or (samples, channels, y, x)"
            )
        if len(self.source) != shape[0] or (self.mask is not None and self.mask.shape != shape):
            raise ValueError(f"fields: source {self.source.shape} or mask do not fit values {shape}")
        if self.spacing is not None and (
            len(self.spacing) != len(self.periodic) or not all(math.isfinite(h) and h > 0 for h in self.spacing)
        ):
            raise ValueError(f"fields: spacing {self.spacing} is not one positive number for each of {len(self.periodic)} axes")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return self.values.shape[2:]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes: ("x",) or ("y", "x")."""
        return ("y", "x")[-len(self.shape) :]

    def grid(self) -> SpectralGrid:
        """Their grid, for spectra and losses; its window for axes that are not periodic is the default one."""
        return SpectralGrid(self.shape, self.spacing, self.periodic)

    def take(self, index: np.ndarray) -> Fields:
        """Some of the fields, by index."""
        mask = None if self.mask is None else self.mask[index]
        return replace(self, values=self.values[index], source=self.source[index], mask=mask)

    def cropped(self, multiple: int) -> Fields:
        """Their first points, as many as are a multiple; for networks that halve. A periodic axis that is cut is no longer so.

        Raises:
            ValueError: an axis shorter than the multiple.
        """
        if min(self.shape) < multiple:
            raise ValueError(f"fields: shape {self.shape} is below {multiple} points along an axis")
        keep = tuple(n - n % multiple for n in self.shape)
        part = (..., *(slice(n) for n in keep))
        periodic = tuple(wraps and n == whole for wraps, n, whole in zip(self.periodic, keep, self.shape))
        return replace(self, values=self.values[part], periodic=periodic, mask=None if self.mask is None else self.mask[part])


def check_halvings(shape: Sequence[int], times: int) -> None:
    """Complain about a grid that a network cannot halve.

    Raises:
        ValueError: an axis is not a multiple of 2^times.
    """
    step = 2**times
    for name, n in zip(("y", "x")[-len(shape) :], shape):
        if n % step:
            near = n - n % step
            raise ValueError(
                f"fields: {n} points along {name} cannot be halved {times} times; "
                + (f"crop to {near} (Fields.cropped({step})) or " if near else "")
                + f"resample to {near + step}"
            )


def check(fields: Fields, nan: Literal["error", "mask"] = "error") -> Fields:
    """The fields if they can be learned from; with nan="mask" points that are not finite are masked.

    Raises:
        ValueError: no field, a value that is not finite, or a constant field: which one, and what to do.
    """
    if not len(fields):
        raise ValueError("fields: there are none; is the path right?")
    finite = np.isfinite(fields.values)
    if nan == "mask" and not finite.all():
        mask = finite if fields.mask is None else fields.mask & finite
        fields = replace(fields, values=np.where(finite, fields.values, 0).astype(np.float32), mask=mask)
    elif not finite.all():
        sample, channel, *point = (int(one) for one in np.argwhere(~finite)[0])
        where = ", ".join(f"{name} {at}" for name, at in zip(fields.axes, point))
        raise ValueError(
            f"{_place(fields, sample)}, channel {fields.channels[channel]}: {fields.values[(sample, channel, *point)]} at "
            f"{where} ({int((~finite).any(tuple(range(1, finite.ndim))).sum())} of {len(fields)} fields hold such values); "
            "mend the file or pass nan=mask"
        )
    flat = fields.values.reshape(*fields.values.shape[:2], -1)
    valid = np.ones_like(flat, bool) if fields.mask is None else fields.mask.reshape(flat.shape)
    low, high = np.where(valid, flat, np.inf).min(2), np.where(valid, flat, -np.inf).max(2)
    if (flat_ones := np.argwhere(low >= high)).size:
        sample, channel = (int(one) for one in flat_ones[0])
        what = (
            f"is constant ({flat[sample, channel, 0]:g})" if low[sample, channel] == high[sample, channel] else "is all masked"
        )
        raise ValueError(
            f"{_place(fields, sample)}, channel {fields.channels[channel]}: {what}, one of {len(flat_ones)} such; it has no "
            "spectrum: leave it out"
        )
    return fields


def _place(fields: Fields, sample: int) -> str:
    """The source of a field and its number there."""
    own = int((fields.source[:sample] == fields.source[sample]).sum())
    return f"{fields.sources[int(fields.source[sample])]}, field {own}"


@dataclass(frozen=True)
class Leak:
    """What the ends of an axis say.

    Args:
        axis: its name. declared: whether it was said to be periodic.
        ratio: root-mean-square jump across the wrap, in root-mean-square increments between neighbours.
        leaks: whether the axis is not periodic, as far as the ratio tells; rough fields jump everywhere and hide it.
    """

    axis: str
    declared: bool
    ratio: float
    leaks: bool

    @property
    def words(self) -> str:
        """The verdict in a line."""
        jump = f"the jump across the wrap is {self.ratio:.3g} x the increments inside"
        if self.leaks and self.declared:
            return f"axis {self.axis}: declared periodic, but {jump}: spectra would leak; declare it not periodic"
        if self.leaks:
            return f"axis {self.axis}: not periodic ({jump})"
        if self.declared:
            return f"axis {self.axis}: periodic ({jump})"
        doubt = ", though it may be" if self.ratio < SMOOTH else ""
        return f"axis {self.axis}: declared not periodic{doubt} ({jump})"


def leak_test(fields: Fields) -> tuple[Leak, ...]:
    """Compare the jump from the last point of each axis to the first with the increments inside; masked points are left out.

    On a periodic axis the wrap is an increment like the others. It leaks where its root mean square is above LEAK times theirs
    and above that of every place inside, so that a shear layer elsewhere does not count as a leak.
    """
    values = fields.values.astype(np.float64)
    found = []
    for place, (name, declared) in enumerate(zip(fields.axes, fields.periodic)):
        axis = 2 + place
        steps = np.roll(values, -1, axis) - values
        both = np.ones_like(steps, bool) if fields.mask is None else fields.mask & np.roll(fields.mask, -1, axis)
        rest = tuple(one for one in range(values.ndim) if one not in (1, axis))
        # a channel's scale cancels: ratios first, then the mean over channels
        square = np.where(both, steps**2, 0.0).sum(rest) / np.maximum(both.sum(rest), 1)
        inside = np.maximum(square[:, :-1].mean(1), np.finfo(float).tiny)
        ratio = math.sqrt(float((square[:, -1] / inside).mean()))
        highest = math.sqrt(float((square[:, :-1].max(1) / inside).mean()))
        found.append(Leak(name, declared, ratio, ratio > max(LEAK, highest)))
    return tuple(found)


def split(fields: Fields, shares: Mapping[str, float] | None = None, seed: int = 0) -> dict[str, Fields]:
    """Disjoint parts by whole sources, in an order drawn from the seed, each at least one; never by neighbouring fields.

    Args:
        shares: name -> share of the sources; train 0.7, validation 0.15, test 0.15 if left out.

    Raises:
        ValueError: fewer sources than parts, or shares that do not add up to 1.
    """
    shares = dict(shares or {"train": 0.7, "validation": 0.15, "test": 0.15})
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9) or min(shares.values()) <= 0:
        raise ValueError(f"split: shares {shares} must be positive and add up to 1")
    count = len(fields.sources)
    if count < len(shares):
        raise ValueError(
            f"split: {count} file{'s' * (count > 1)} or trajectories cannot be parted into {', '.join(shares)}; fields of one "
            f"resemble each other, so give at least {len(shares)}, or cut one into separate stretches (`stretches`)"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    sizes = [max(1, round(share * count)) for share in shares.values()]
    while sum(sizes) != count:  # rounding: the largest part gives or takes
        sizes[int(np.argmax(sizes))] += 1 if sum(sizes) < count else -1
    ends = np.cumsum(sizes)
    return {
        name: fields.take(np.flatnonzero(np.isin(fields.source, order[end - size : end])))
        for name, size, end in zip(shares, sizes, ends)
    }


def stretches(fields: Fields, count: int, gap: int) -> Fields:
    """A single long record cut into `count` consecutive stretches with `gap` fields left out between, each a source of its own.

    Raises:
        ValueError: stretches that would be empty.
    """
    names, source, kept = [], [], []
    for index, name in enumerate(fields.sources):
        own = np.flatnonzero(fields.source == index)
        size = (len(own) - gap * (count - 1)) // count
        if size < 1:
            raise ValueError(f"stretches: {name} has {len(own)} fields, too few for {count} stretches with gaps of {gap}")
        for part in range(count):
            kept.append(own[part * (size + gap) : part * (size + gap) + size])
            source += [len(names)] * size
            names.append(f"{name} [{part}]")
    return replace(fields.take(np.concatenate(kept)), sources=tuple(names), source=np.array(source))


@dataclass(frozen=True)
class Transform:
    """An invertible function of values, for data that are positive or have heavy tails; it acts point by point.

    Args:
        name: "none", "log1p" (values from 0 up, such as rain) or "asinh" (heavy tails of both signs).
        scale: in the data's own unit; values well below it change in proportion, those above it by their logarithm.

    Raises:
        ValueError: an unknown name, or a scale that is not positive.
    """

    name: Literal["none", "log1p", "asinh"] = "none"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in TRANSFORMS:
            raise ValueError(f"transform: {self.name!r} is unknown{suggest(self.name, TRANSFORMS)}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"transform: scale {self.scale:g} is not a positive number")

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The data's own values to transformed ones, float64.

        Raises:
            ValueError: log1p of values below 0.
        """
        wide = np.asarray(values, np.float64)
        if self.name == "log1p" and wide.min(initial=0.0) < 0:
            raise ValueError(f"transform: log1p needs values from 0 up, and there is {wide.min():g}; take asinh or none")
        if self.name == "none":
            return wide
        return np.log1p(wide / self.scale) if self.name == "log1p" else np.arcsinh(wide / self.scale)

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Transformed values to the data's own, float64."""
        wide = np.asarray(values, np.float64)
        if self.name == "none":
            return wide
        return self.scale * (np.expm1(wide) if self.name == "log1p" else np.sinh(wide))
