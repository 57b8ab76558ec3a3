"""`diptych data turbulence | fields`: making turbulence, and a look at anybody's fields before anything is trained on them."""

from __future__ import annotations

import json as json_
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.commands.options import Json, Out, argument, option

if TYPE_CHECKING:
    from diptych.data.fields import Fields
    from diptych.data.turbulence import Turbulence


def turbulence(
    preset: Annotated[str, typer.Option("--preset", metavar="64|128|256|paper", help="Grid and flow to start from.")] = "64",
    trajectories: Annotated[str, option("--trajectories", "6,2,4", "Independent ones to train, validate and test on.")] = "",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the initial fields.")] = 0,
    set_: Annotated[list[str] | None, option("--set", "A.B=VALUE", "Change a field of the config; repeat for more.")] = None,
    out: Out = "",
    device: Annotated[str, option("--device", "cpu|cuda", "Where to compute (cpu).")] = "cpu",
    dry_run: Annotated[bool, option("--dry-run", None, "Print what would be made and its cost, and make nothing.")] = False,
    json: Json = False,
) -> None:
    """Simulate forced two-dimensional turbulence into a folder; run again to go on where it stopped."""
    from dataclasses import replace

    from diptych.commands.terminal import hint
    from diptych.config import override
    from diptych.data import turbulence as data

    wanted = data.preset(preset)
    wanted = override(replace(wanted, flow=replace(wanted.flow, seed=seed)), set_ or ())
    if trajectories:
        counts = trajectories.split(",")
        if len(counts) != len(data.SPLITS) or not all(one.strip().isdigit() for one in counts):
            raise ValueError(f"--trajectories {trajectories}: give three whole numbers, train,validation,test, as in 6,2,4")
        train, validation, test = (int(one) for one in counts)
        wanted = replace(wanted, train=train, validation=validation, test=test)
    folder = Path(out or f"data/turbulence-{preset}")
    if dry_run:
        _plan(wanted, folder, json)
        return
    hint(f"{wanted.steps:,} field-steps, about {_duration(wanted.seconds)} of one core")
    data.make(wanted, folder, device)
    print(json_.dumps({"out": folder.as_posix(), "splits": _splits(wanted)}) if json else folder.as_posix())


def _plan(wanted: Turbulence, folder: Path, as_json: bool) -> None:
    from diptych.config import to_json

    cost = {"field_steps": wanted.steps, "core_seconds": round(wanted.seconds, 1), "bytes": wanted.bytes}
    if as_json:
        print(json_.dumps({"out": folder.as_posix(), "config": to_json(wanted), "splits": _splits(wanted), **cost}, indent=1))
        return
    print(json_.dumps(to_json(wanted), indent=1))
    splits = ", ".join(f"{name} {count:,}" for name, count in _splits(wanted).items())
    print(f"\nfields: {splits}; {wanted.bytes / 1e6:,.0f} MB into {folder}/")
    print(f"{wanted.steps:,} field-steps, about {_duration(wanted.seconds)} of one core")


def _splits(wanted: Turbulence) -> dict[str, int]:
    return {name: getattr(wanted, name) * wanted.fields for name in ("train", "validation", "test")}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def fields(
    path: Annotated[str, argument("PATH", "A file (npy, npz, zarr, netCDF, HDF5, a picture) or a folder of one kind.")],
    variables: Annotated[list[str] | None, option("--variable", "NAME", "A variable that is a channel; repeat.")] = None,
    layout: Annotated[str, option("--layout", "tcyx", "Axes in order: s source, t field, c channel, y, x.")] = "",
    periodic: Annotated[str, option("--periodic", "x|y|yx", "Axes that wrap around.")] = "",
    spacing: Annotated[str, option("--spacing", "0.1,0.1", "Of grid points along the axes.")] = "",
    mask: Annotated[str, option("--mask", "NAME", "Variable that is true where points are valid.")] = "",
    nan: Annotated[str, typer.Option("--nan", metavar="error|mask", help="Points that are not finite.")] = "error",
    window: Annotated[str, option("--window", "64,64", "Cut fields into windows of this many points.")] = "",
    colour: Annotated[bool, option("--colour", None, "Pictures in three channels.")] = False,
    json: Json = False,
) -> None:
    """Show what is read of fields: counts, axes, spacing, whether periodic axes are, and the spectrum."""
    from diptych.commands.terminal import hint
    from diptych.config import from_json
    from diptych.data.field_files import Source, read

    asked = {"path": path, "layout": layout, "variables": list(variables or ()), "periodic": periodic, "mask": mask, "nan": nan}
    sizes = {"spacing": _numbers("--spacing", spacing, float), "window": _numbers("--window", window, int)}
    source = from_json(Source, {**asked, **sizes, "grey": not colour})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the leak test's words are printed below
        held = read(source)
    found = _found(held)
    if json:
        print(json_.dumps(found, indent=1))
        return
    for line in _lines(held, found):
        print(line)
    for leak in found["axes"]:
        if leak["leaks"] and leak["declared_periodic"]:
            hint(f"warning: {leak['words']}")


def _numbers(name: str, text: str, kind: type) -> list[Any]:
    try:
        return [kind(one) for one in text.split(",")] if text else []
    except ValueError:
        raise ValueError(f"{name} {text}: give one number an axis, with commas between") from None


def _found(held: Fields) -> dict[str, Any]:
    """What there is to say, as plain data."""
    import torch

    from diptych.data.fields import leak_test
    from diptych.physics.shells import power_sum

    grid = held.grid()
    sums = power_sum(torch.from_numpy(held.values), grid).double().mean(0)[:, : grid.k_max + 1]
    leaks = leak_test(held)
    return {
        "fields": len(held),
        "sources": {name: int((held.source == index).sum()) for index, name in enumerate(held.sources)},
        "channels": {
            name: _channel(held, index) | {"power by shell": [float(f"{one:.6g}") for one in sums[index].tolist()]}
            for index, name in enumerate(held.channels)
        },
        "shape": list(held.shape),
        "spacing": list(held.spacing) if held.spacing else None,
        "units": held.units or None,
        "k_max": grid.k_max,
        "masked": 0.0 if held.mask is None else float(1 - held.mask.mean()),
        "axes": [
            {"axis": one.axis, "declared_periodic": one.declared, "ratio": one.ratio, "leaks": one.leaks, "words": one.words}
            for one in leaks
        ],
    }


def _channel(held: Fields, index: int) -> dict[str, float]:
    values = held.values[:, index]
    valid = values.ravel() if held.mask is None else values[held.mask[:, index]]
    low, high = float(valid.min()), float(valid.max())
    return {"mean": float(valid.mean(dtype="f8")), "std": float(valid.std(dtype="f8")), "min": low, "max": high}


def _lines(held: Fields, found: dict[str, Any]) -> list[str]:
    counts = list(found["sources"].values())
    each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    plural = "" if len(counts) == 1 else "s"
    shape = " x ".join(f"{n} {axis}" for axis, n in zip(held.axes, held.shape))
    spacing = ", ".join(f"{h:.4g}" for h in held.spacing) if held.spacing else "unknown: wavenumbers count waves"
    lines = [
        f"{found['fields']:,} fields of {shape} in {len(counts)} source{plural} ({each} each)",
        f"spacing: {spacing}{f' ({held.units})' if held.units else ''}",
    ]
    if found["masked"]:
        lines.append(f"masked: {100 * found['masked']:.3g} % of the points")
    lines += [one["words"] for one in found["axes"]]
    for name, channel in found["channels"].items():
        span = f"{channel['min']:.4g} to {channel['max']:.4g}"
        lines.append(f"channel {name}: mean {channel['mean']:.4g}, std {channel['std']:.4g}, {span}")
        lines.append(f"  {_spectrum(channel['power by shell'])}")
    if len(counts) < 3:
        lines.append("fewer than 3 sources: they cannot be parted into train, validation and test; give more files")
    return lines


def _spectrum(power: list[float]) -> str:
    """Where the power is and how fast it falls, in a line."""
    import numpy as np

    held = np.array(power[1:])
    share = np.cumsum(held) / held.sum()
    half, most = (1 + int(np.searchsorted(share, part)) for part in (0.5, 0.99))
    peak = 1 + int(np.argmax(held))
    low = max(peak, 1)
    shells = np.arange(low, len(held) + 1)
    inside = held[low - 1 :] > 1e-12 * held.max()
    words = f"spectrum: peak at shell {peak}, half of the power up to {half}, 99 % up to {most} of {len(held)}"
    if inside.sum() > 3:
        slope = np.polyfit(np.log(shells[inside]), np.log(held[low - 1 :][inside]), 1)[0]
        words += f"; falls as k^{slope:.1f} beyond the peak"
    return words
