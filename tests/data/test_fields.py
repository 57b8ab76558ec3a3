"""Users' fields: every file format written for real and read back, what is refused, leaks, splits and transforms."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from diptych.data.field_files import Source, from_xarray, read
from diptych.data.fields import Fields, Transform, check, check_halvings, leak_test, split, stretches


def waves(*shape: int, seed: int = 0) -> np.ndarray:
    """Periodic smooth random fields, (*shape) with two grid axes last, float32."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    k = np.hypot(
        *np.meshgrid(np.fft.fftfreq(shape[-2], 1 / shape[-2]), np.fft.fftfreq(shape[-1], 1 / shape[-1]), indexing="ij")
    )
    return np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((k / 3) ** 2))).real.astype(np.float32)


def test_a_folder_of_npy_files_is_one_channel(tmp_path: Path) -> None:
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", waves(4, 8, 6) + index)
    found = read(Source(str(tmp_path), layout="tyx"))
    assert found.values.shape == (12, 1, 8, 6)
    assert found.channels == ("value",) and found.sources == ("0.npy", "1.npy", "2.npy")


def test_npy_by_number_of_axes(tmp_path: Path) -> None:
    held = waves(3, 5, 2, 8, 12)
    np.save(tmp_path / "a.npy", held)
    found = read(Source(str(tmp_path / "a.npy"), periodic="yx", spacing=(0.1, 0.2)))
    assert found.values.shape == (15, 2, 8, 12)
    assert found.sources == ("a.npy [0]", "a.npy [1]", "a.npy [2]")
    assert np.array_equal(found.values[7], held[1, 2])
    assert np.array_equal(found.source, np.repeat([0, 1, 2], 5))
    assert (found.periodic, found.spacing, found.channels) == ((True, True), (0.1, 0.2), ("value0", "value1"))
    assert found.grid().lengths == pytest.approx((0.8, 2.4))


def test_a_layout_names_axes_in_any_order(tmp_path: Path) -> None:
    held = waves(4, 3, 8, 12)
    np.save(tmp_path / "a.npy", held.transpose(3, 1, 2, 0))
    found = read(Source(str(tmp_path / "a.npy"), layout="xcyt"))
    assert np.array_equal(found.values, held)
    np.save(tmp_path / "b.npy", held[:, 0, 0])
    assert read(Source(str(tmp_path / "b.npy"), layout="tx")).values.shape == (4, 1, 12)


def test_a_folder_of_npz_has_a_source_a_file(tmp_path: Path) -> None:
    u, v = waves(4, 8, 8), waves(4, 8, 8, seed=1)
    for index in range(3):
        np.savez(tmp_path / f"run{index}.npz", u=u + index, v=v)
    found = read(Source(str(tmp_path), variables=("v", "u")))
    assert found.channels == ("v", "u")
    assert found.sources == ("run0.npz", "run1.npz", "run2.npz")
    assert np.array_equal(found.values[4:8, 1], u + 1)
    with pytest.raises(ValueError, match=r"run0\.npz: holds variables u, v; name which are the channels"):
        read(Source(str(tmp_path)))
    with pytest.raises(ValueError, match="no variable 'vv'; did you mean 'v'"):
        read(Source(str(tmp_path), variables=("vv",)))


def test_netcdf_classic_by_scipy(tmp_path: Path) -> None:
    from scipy.io import netcdf_file

    rain = (waves(5, 6, 8) * 100).astype(np.int16)
    rain[2, 3, 4] = -9999
    with netcdf_file(str(tmp_path / "rain.nc"), "w") as file:
        for name, size in (("time", 5), ("lat", 6), ("lon", 8)):
            file.createDimension(name, size)
        lat, lon = file.createVariable("lat", "f8", ("lat",)), file.createVariable("lon", "f8", ("lon",))
        lat[:], lon[:] = 10 - 0.5 * np.arange(6), 0.25 * np.arange(8)
        lat.units, lon.units = "degrees_north", "degrees_east"
        one = file.createVariable("rain", "i2", ("time", "lat", "lon"))
        one[:] = rain
        one.scale_factor, one.add_offset, one._FillValue = 0.01, 2.0, np.int16(-9999)
    path = str(tmp_path / "rain.nc")
    with pytest.raises(ValueError, match=r"rain\.nc, field 2, channel rain: nan at y 3, x 4 .*pass nan=mask"):
        read(Source(path))
    found = read(Source(path, nan="mask"))
    assert found.spacing == pytest.approx((0.5, 0.25))
    assert found.units == "degrees_north, degrees_east"
    assert found.mask is not None and found.mask.sum() == rain.size - 1 and not found.mask[2, 0, 3, 4]
    assert np.allclose(found.values[found.mask], rain[rain != -9999] * 0.01 + 2, atol=1e-5)
    assert found.values[2, 0, 3, 4] == 0


def test_netcdf4(tmp_path: Path) -> None:
    writer = pytest.importorskip("netCDF4")
    pytest.importorskip("h5py")
    held = waves(4, 2, 6, 8)
    with writer.Dataset(tmp_path / "a.nc", "w") as file:
        for name, size in (("time", 4), ("member", 2), ("y", 6), ("x", 8)):
            file.createDimension(name, size)
        for name, step in (("y", 2.0), ("x", 3.0)):
            line = file.createVariable(name, "f8", (name,))
            line[:] = step * np.arange(len(line))
            line.units = "km"
        one = file.createVariable("sst", "f4", ("time", "member", "y", "x"), zlib=True)
        one[:] = held
        file.createVariable("land", "i1", ("y", "x"))[:] = np.arange(48).reshape(6, 8) % 5 > 0
    found = read(Source(str(tmp_path / "a.nc"), variables=("sst",), mask="land"))
    assert found.values.shape == (8, 1, 6, 8)
    assert found.sources == ("a.nc [0]", "a.nc [1]")
    assert (found.spacing, found.units) == ((2.0, 3.0), "km")
    valid = np.arange(48).reshape(6, 8) % 5 > 0
    assert np.array_equal(found.values[4:, 0], np.where(valid, held[:, 1], 0))


def test_hdf5_with_groups(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    u, v = waves(4, 8, 8), waves(4, 8, 8, seed=1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/u"], file["run/v"] = u, v
        file["note"] = "text is not a field"
    found = read(Source(str(tmp_path / "a.h5"), variables=("run/u", "run/v")))
    assert np.array_equal(found.values, np.stack([u, v], 1))
    assert found.spacing is None
    with pytest.raises(ValueError, match="spacing is unknown"):
        found.grid().units("a spectrum in cycles per metre")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path: Path, version: int) -> None:
    zarr = pytest.importorskip("zarr")
    held = waves(4, 6, 8)
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version)
    names = {"u": ("time", "y", "x"), "y": ("y",), "x": ("x",)}
    for name, values in {"u": held, "y": np.arange(6) * 0.5, "x": np.arange(8) * 0.25}.items():
        dims = {"dimension_names": names[name]} if version == 3 else {}
        one = group.create_array(name, shape=values.shape, dtype=values.dtype, **dims)
        one[...] = values
        if version == 2:
            one.attrs["_ARRAY_DIMENSIONS"] = list(names[name])
    found = read(Source(str(tmp_path / "a.zarr")))
    assert np.array_equal(found.values[:, 0], held)
    assert found.spacing == pytest.approx((0.5, 0.25))
    assert read(Source(str(tmp_path))).sources == ("a.zarr",)


def test_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    held = waves(4, 6, 8)
    held[1, 2, 3] = math.nan
    coords = {"x": ("x", np.arange(8) * 0.25, {"units": "m"}), "y": ("y", np.arange(6) * 0.5, {"units": "m"})}
    array = xarray.DataArray(held, dims=("time", "y", "x"), coords=coords, name="h")
    found = from_xarray(array)
    assert (found.spacing, found.units, found.channels) == ((0.5, 0.25), "m", ("h",))
    assert found.mask is not None and not found.mask[1, 0, 2, 3]
    both = from_xarray(xarray.Dataset({"h": array.fillna(0), "g": array.fillna(1)}))
    assert both.channels == ("h", "g")


def test_pictures_by_windows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, size, np.uint8) for size in ((20, 34, 3), (16, 16, 3))]
    for index, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match=r"1\.png: shape \(16, 16\) .*but 0\.png has \(20, 34\).*or a window"):
        read(Source(str(tmp_path)))
    found = read(Source(str(tmp_path), window=(8, 8), grey=False, periodic="x"))
    assert found.values.shape == (2 * 4 + 4, 3, 8, 8)
    assert np.allclose(found.values[5], np.moveaxis(pixels[0][8:16, 8:16], -1, 0) / 255)
    assert found.periodic == (False, False)  # a window of a periodic axis is not periodic
    assert read(Source(str(tmp_path), window=(8, 8))).values.shape[1] == 1


def test_a_reader_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"a\.h5: reading it needs h5py; pip install 'diptych\[fields\]'"):
        read(Source(str(tmp_path / "a.h5")))


def test_bad_places_and_layouts_are_one_clear_line(tmp_path: Path) -> None:
    np.save(tmp_path / "field.npy", waves(4, 8, 8))
    (tmp_path / "a.csv").write_text("1,2")
    for source, words in (
        (Source(str(tmp_path / "fields.npy")), "does not exist; did you mean 'field.npy'"),
        (Source(str(tmp_path / "elsewhere")), "elsewhere does not exist$"),
        (Source(str(tmp_path / "a.csv")), r"\.csv is not read"),
        (Source(str(tmp_path / "field.npy"), layout="yx"), r"3 axes \(4, 8, 8\) do not fit layout 'yx'"),
        (Source(str(tmp_path / "field.npy"), spacing=(1.0,)), r"spacing: \(1\.0,\) for axes y, x"),
        (Source(str(tmp_path / "field.npy"), window=(9, 9)), r"window of \(9, 9\) does not fit"),
        (Source(str(tmp_path / "field.npy"), layout="tcx", periodic="y"), "there is no axis y"),
    ):
        with pytest.raises(ValueError, match=words):
            read(source)
    with pytest.raises(ValueError, match="layout: 'tyz'"):
        Source("a", layout="tyz")
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"is of type <U1"):
        read(Source(str(tmp_path / "text.npy")))
    np.savez(tmp_path / "b.npz", a=waves(2, 8, 8))
    with pytest.raises(ValueError, match=r"several kinds \(\.npy, \.npz\)"):
        read(Source(str(tmp_path)))


def some(values: np.ndarray, periodic: tuple[bool, ...]) -> Fields:
    return Fields(values, ("a", "b"), np.arange(len(values)) * 2 // len(values), ("u",), periodic)


def test_constant_and_infinite_fields_are_named() -> None:
    held = waves(4, 1, 8, 8)
    held[3] = 0.5
    with pytest.raises(ValueError, match=r"b, field 1, channel u: is constant \(0\.5\), one of 1 such"):
        check(some(held, (False, False)))
    held[3, 0, 1, 2] = math.inf
    with pytest.raises(ValueError, match=r"b, field 1, channel u: inf at y 1, x 2 \(1 of 4 fields"):
        check(some(held, (False, False)))
    held[3] = math.nan
    with pytest.raises(ValueError, match="is all masked"):
        check(some(held, (False, False)), "mask")


def test_the_leak_test_knows_a_ramp_from_a_wave(tmp_path: Path) -> None:
    wave = waves(6, 1, 32, 32)
    ramp = wave + 2 * np.linspace(0, 1, 32, dtype=np.float32)  # along x
    good, bad = leak_test(some(wave, (True, True))), leak_test(some(ramp, (True, True)))
    assert [one.leaks for one in good] == [False, False]
    assert all(0.5 < one.ratio < 1.5 for one in good)
    assert [one.leaks for one in bad] == [False, True]
    assert "axis x: declared periodic, but the jump" in bad[1].words
    np.save(tmp_path / "ramp.npy", ramp[:, 0])
    with pytest.warns(UserWarning, match=r"ramp\.npy: axis x: declared periodic"):
        read(Source(str(tmp_path / "ramp.npy"), periodic="yx"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(Source(str(tmp_path / "ramp.npy"), periodic="y"))


def test_the_leak_test_leaves_shear_layers_and_masked_points_alone() -> None:
    y = np.arange(64) * 2 * np.pi / 64
    layer = np.tanh(20 * np.sin(y))[:, None] + 0.01 * waves(4, 1, 64, 64)  # steep inside, and at the wrap too
    assert not any(one.leaks for one in leak_test(some(layer.astype(np.float32), (True, True))))
    ramp = waves(4, 1, 32, 32) + 9 * np.linspace(0, 1, 32, dtype=np.float32)
    mask = np.ones_like(ramp, bool)
    mask[..., -1] = False
    hidden = Fields(ramp, ("a",), np.zeros(4, int), ("u",), (True, True), mask=mask)
    assert leak_test(hidden)[1].ratio == 0.0


def test_fields_of_a_windowed_signal_leak() -> None:
    signal = np.cumsum(np.random.default_rng(0).standard_normal((16, 1, 128)), -1).astype(np.float32)
    (leak,) = leak_test(some(signal, (True,)))
    assert leak.leaks and leak.ratio > 5


def test_splits_keep_sources_whole() -> None:
    fields = Fields(waves(40, 1, 8, 8), tuple("abcdefghij"), np.arange(40) // 4, ("u",), (True, True))
    parts = split(fields, seed=1)
    sources = [set(one.source.tolist()) for one in parts.values()]
    assert list(parts) == ["train", "validation", "test"]
    assert sum(len(one) for one in parts.values()) == 40
    assert not (sources[0] & sources[1] or sources[0] & sources[2] or sources[1] & sources[2])
    assert [len(one) for one in sources] == [6, 2, 2]
    assert np.array_equal(split(fields, seed=1)["test"].values, parts["test"].values)
    two = Fields(waves(4, 1, 8, 8), ("a", "b"), np.arange(4) // 2, ("u",), (True, True))
    with pytest.raises(ValueError, match="2 files or trajectories cannot be parted into train, validation, test"):
        split(two)


def test_stretches_leave_gaps() -> None:
    values = np.arange(20, dtype=np.float32).reshape(20, 1, 1) + np.arange(4, dtype=np.float32)
    fields = Fields(values, ("a",), np.zeros(20, int), ("u",), (False,))
    parts = stretches(fields, 3, gap=2)
    assert parts.values[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18]
    assert parts.sources == ("a [0]", "a [1]", "a [2]")
    with pytest.raises(ValueError, match="too few for 11 stretches"):
        stretches(fields, 11, gap=2)


@pytest.mark.parametrize("name", ["none", "log1p", "asinh"])
def test_a_transform_is_inverted(name: Literal["none", "log1p", "asinh"]) -> None:
    values = np.abs(waves(4, 2, 8, 8)) * 100
    made = Transform(name, scale=3.0)
    assert np.allclose(made.invert(made.apply(values)), values, rtol=1e-12, atol=1e-12)
    small, large = made.apply(np.array([1e-6])), made.apply(np.array([3e6, 3e7]))
    assert small[0] == pytest.approx(1e-6 / (1 if name == "none" else 3.0), rel=1e-5)
    assert name == "none" or large[1] - large[0] == pytest.approx(np.log(10), rel=1e-5)


def test_a_transform_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="log1p needs values from 0 up, and there is -2"):
        Transform("log1p").apply(np.array([1.0, -2.0]))
    with pytest.raises(ValueError, match="'logp' is unknown; did you mean 'log1p'"):
        Transform("logp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="scale 0 is not a positive number"):
        Transform("asinh", 0.0)


def test_odd_grids_are_cropped_or_refused() -> None:
    with pytest.raises(ValueError, match=r"65 points along y cannot be halved 3 times; crop to 64 .* resample to 72"):
        check_halvings((65, 64), 3)
    check_halvings((64, 24), 3)
    fields = some(waves(4, 1, 10, 8), (True, True))
    cut = fields.cropped(8)
    assert cut.shape == (8, 8)
    assert cut.periodic == (False, True)
    with pytest.raises(ValueError, match="below 16 points"):
        fields.cropped(16)


def test_mismatched_values_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 2 channels"):
        Fields(waves(4, 1, 8, 8), ("a",), np.zeros(4, int), ("u", "v"), (True, True))
    with pytest.raises(ValueError, match="spacing"):
        Fields(waves(4, 1, 8, 8), ("a",), np.zeros(4, int), ("u",), (True, True), spacing=(1.0, -1.0))
