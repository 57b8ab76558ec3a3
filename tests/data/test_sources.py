"""Every kind of file a set can be kept in gives the same records; what is damaged is named."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pictures import folder, photo, png
from PIL import Image

from diptych.data.records import Broken, Layout, Record
from diptych.data.sources import content, emoji_source, open_sets, open_source
from diptych.data.tars import open_tars


def read(source):
    return {record.key: (record.image, record.captions) for record in (source[i] for i in range(len(source)))}


EXPECTED = {f"p{i:02d}": (png(i), (f"picture number {i} of soft blobs",)) for i in range(6)}


def test_a_folder_with_words_beside_the_pictures(tmp_path):
    folder(tmp_path / "set")
    (tmp_path / "set/p01.txt").unlink()
    (tmp_path / "set/p01.json").write_text(json.dumps({"caption1": "one", "caption2": "", "caption3": "two"}))
    (tmp_path / "set/.hidden").mkdir()
    (tmp_path / "set/.hidden/x.png").write_bytes(png(0))
    (tmp_path / "set/sub").mkdir()
    (tmp_path / "set/sub/q.jpeg").write_bytes(png(9))
    found = read(open_source(tmp_path / "set"))
    assert found == {**EXPECTED, "p01": (png(1), ("one", "two")), "sub/q": (png(9), ())}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "list"])
def test_lists(tmp_path, kind):
    folder(tmp_path / "set")
    for path in (tmp_path / "set").glob("*.txt"):
        path.unlink()
    rows = [{"file_name": f"p{i:02d}.png", "text": f"picture number {i} of soft blobs"} for i in range(6)]
    name = {"jsonl": "metadata.jsonl", "csv": "metadata.csv", "list": "mine.jsonl"}[kind]
    with (tmp_path / "set" / name).open("w", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n\n" for row in rows)
    place = tmp_path / "set" / name if kind == "list" else tmp_path / "set"
    source = open_source(place)
    assert read(source) == EXPECTED
    if kind == "list":
        with place.open("a") as file:
            file.write('{"file_name": "gone.png"}\n{"text": "no picture"}\n{"file_name": \n')
        source = open_source(place)
        for row, words in ((6, "there is no file"), (7, "names no picture"), (8, "JSON cannot be read")):
            with pytest.raises(Broken, match=words):
                source[row]


def test_parquet_as_the_hub_keeps_it(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "set").mkdir()
    for part in range(2):
        rows = range(3 * part, 3 * part + 3)
        table = pa.table(
            {
                "image": [{"bytes": png(i), "path": f"p{i:02d}.png"} for i in rows],
                "caption": [f"picture number {i} of soft blobs" for i in rows],
                "id": [10 + i for i in rows],
            }
        )
        parquet.write_table(table, tmp_path / f"set/train-{part}.parquet", row_group_size=2)
    source = open_source(tmp_path / "set")
    assert read(source) == EXPECTED
    assert source[5].key == "p05" and source[0].key == "p00"
    assert read(open_source(tmp_path / "set", layout=Layout(key="{id}")))["13"] == EXPECTED["p03"]
    plain = pa.table({"png": [png(0), None], "text": ["a", "b"]})
    parquet.write_table(plain, tmp_path / "plain.parquet")
    source = open_source(tmp_path / "plain.parquet")
    assert source[0].image == png(0) and source[0].captions == ("a",)
    with pytest.raises(Broken, match="holds no picture here"):
        source[1]
    with pytest.raises(ValueError, match="no column output"):
        open_source(tmp_path / "plain.parquet", layout=Layout(image="output"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        open_source(tmp_path / "bad.parquet")


def write_tar(path: Path, members: dict[str, bytes], **options) -> None:
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def members(rows) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for i in rows:
        found[f"p{i:02d}.png"] = png(i)
        found[f"p{i:02d}.txt" if i % 2 else f"p{i:02d}.json"] = (
            EXPECTED[f"p{i:02d}"][1][0].encode() if i % 2 else json.dumps({"caption": EXPECTED[f"p{i:02d}"][1][0]}).encode()
        )
        found[f"p{i:02d}.cls"] = b"7"
    return found


def test_tars_of_webdataset(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    (tmp_path / "set").mkdir()
    with webdataset.TarWriter(str(tmp_path / "set/a-000000.tar")) as writer:
        for i in range(3):
            writer.write({"__key__": f"p{i:02d}", "png": png(i), "json": {"captions": list(EXPECTED[f"p{i:02d}"][1])}})
    write_tar(tmp_path / "set/a-000001.tar", members(range(3, 6)))
    assert read(open_source(tmp_path / "set")) == EXPECTED


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_of_every_tar_format(tmp_path, style):
    deep = "/".join(["folder" * 3] * (4 if style == tarfile.USTAR_FORMAT else 12))
    write_tar(tmp_path / "x.tar", {f"{deep}/name.png": png(0), f"{deep}/name.txt": b"words"}, format=style)
    assert read(open_source(tmp_path / "x.tar")) == {f"{deep}/name": (png(0), ("words",))}


def test_a_damaged_tar_gives_what_can_be_read_and_names_the_rest(tmp_path):
    path = tmp_path / "set.tar"
    write_tar(path, members(range(6)))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        places = {member.name: member.offset for member in archive}
    path.write_bytes(whole[: places["p04.png"] + 600])  # within a picture
    source = open_tars("set", [path])
    assert [source[i].key for i in range(4)] == ["p00", "p01", "p02", "p03"]
    errors = []
    for i in range(4, len(source)):
        with pytest.raises(Broken) as caught:
            source[i]
        errors.append(str(caught.value))
    assert any("set.tar is cut off within it" in error for error in errors) and any("cut off at byte" in e for e in errors)
    torn = bytearray(whole)
    torn[places["p03.png"] : places["p03.png"] + 512] = b"x" * 512
    path.write_bytes(bytes(torn))
    source = open_tars("set", [path])
    assert [source[i].key for i in range(3)] == ["p00", "p01", "p02"] and len(source) == 4
    with pytest.raises(Broken, match="damaged at byte"):
        source[3]
    (tmp_path / "no.tar").write_bytes(b"hello" * 300)
    with pytest.raises(ValueError, match="is no tar archive"):
        open_source(tmp_path / "no.tar")
    write_tar(tmp_path / "words.tar", {"only.txt": b"words"})
    with pytest.raises(Broken, match="only: no picture among its files"):
        open_source(tmp_path / "words.tar")[0]


def test_keys_by_template():
    row = {"id": 7, "class": "x"}
    cases = {"{folder}_{stem}": "b_c", "{id}": "7", "{path}": "a/b/c", "{folder}{file}": "bc.png", "x:{id}": "x:7", "": "a/b/c"}
    assert {key: Layout(key=key).named("a/b/c.png", row) for key in cases} == cases
    assert Layout().named("a/b.png", {"key": "own"}) == "own" and Layout().named("v1.5/file", {}) == "v1.5/file"
    with pytest.raises(Broken, match="no field 'nr'"):
        Layout(key="{nr}").named("c.png", row)
    for key in ("plain", "{id.__class__}", "{0}", "{id"):
        with pytest.raises(ValueError, match="write a template of plain fields"):
            Layout(key=key)


def picture(mode: str, **options) -> Record:
    buffer = io.BytesIO()
    small = photo(3, 8, 8)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        image = small.convert("RGBA")
        image.putalpha(0)
    else:
        image = small.convert(mode)
    image.save(buffer, "PNG", **options)
    return Record("k", buffer.getvalue())


def test_every_mode_becomes_rgb():
    grey = np.asarray(photo(3, 8, 8).convert("L").convert("RGB"))
    assert np.array_equal(picture("L").pixels(), grey) and np.abs(picture("I;16").pixels().astype(int) - grey).max() <= 1
    assert (picture("RGBA").pixels() == 255).all()
    assert (picture("P", transparency=bytes(256)).pixels() == 255).all()
    assert picture("1").pixels().shape == picture("P").pixels().shape == (8, 8, 3)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(3, 8, 4).save(turned, "JPEG", exif=exif)
    assert Record("k", turned.getvalue()).pixels().shape == (8, 4, 3)


@pytest.mark.parametrize("data", [b"", b"no picture", png(0)[:200], png(0)[:-30]])
def test_a_corrupt_picture_is_broken_by_name(data):
    with pytest.raises(Broken, match="k: the picture cannot be read") as caught:
        Record("k", data).open()
    assert "\n" not in str(caught.value)


def test_a_bomb_is_broken(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(Broken, match="exceeds limit"):
        Record("k", png(0)).open()


def test_emoji_as_a_source():
    source = emoji_source(["fluent-flat"], "test")
    record = source[0]
    assert record.pixels().shape == (64, 64, 3) and record.captions[0].endswith(", fluent flat style")
    assert open_source("emoji/fluent-flat").name == "emoji/fluent-flat"
    assert not set(source.keys) & set(open_source("emoji/fluent-flat").keys)
    with pytest.raises(ValueError, match="style 'nto' is unknown; did you mean 'noto'"):
        emoji_source(["nto"])
    with pytest.raises(ValueError, match="part 'tst' is unknown; did you mean 'test'"):
        emoji_source(part="tst")


def test_sets_by_name_and_bad_places(tmp_path):
    folder(tmp_path / "set")
    sets = open_sets([str(tmp_path / "set"), f"again={tmp_path / 'set'}"])
    assert list(sets) == ["set", "again"]
    with pytest.raises(ValueError, match="'set' comes twice"):
        open_sets([str(tmp_path / "set"), str(tmp_path / "set")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    write_tar(tmp_path / "mixed/a.tar", {"a.png": png(0)})
    (tmp_path / "mixed/b.tfrecord").write_bytes(b"")
    (tmp_path / "notes.md").write_text("x")
    for place, words in (
        ("empty", "no tars, TFRecords"),
        ("none", "no such file or folder"),
        ("mixed", "several kinds"),
        ("notes.md", "holds no set"),
    ):
        with pytest.raises(ValueError, match=words):
            open_source(tmp_path / place)


def test_content_goes_by_keys_pictures_and_words(tmp_path):
    source = open_source(folder(tmp_path / "set"))
    before = content(source)
    assert content(open_source(folder(tmp_path / "copy"))) == before
    (tmp_path / "set/p00.txt").write_text("other words")
    assert content(source) != before
