"""The embedded emoji, and building others from packages."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from diptych.data import emoji
from diptych.data.emoji_sources import SHIPPED, SOURCES, Source, fetch, licences
from diptych.data.images import split
from diptych.data.items import items, variants

SQUARE = '<path d="M0 0h8v8H0z" fill="#f00"/>'
BAR = '<path d="M0 0h8v4H0z" fill="#00f"/>'


@pytest.fixture(scope="module")
def embedded():
    return emoji.load()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with a real, small package of a style called "tiny"."""
    icons = {
        "width": 8,
        "height": 8,
        "icons": {
            "bear-face": {"body": SQUARE},
            "flag-for-norway": {"body": BAR},
            "flag-for-bouvet-island": {"body": BAR},
            "wide": {"body": BAR, "height": 4},
            "boy-dark-skin-tone": {"body": SQUARE},
            "police-car-light": {"body": '<circle cx="4" cy="4" r="4"/>'},
            "blank": {"body": '<path d="M0 0h8v8H0z" fill="#fff"/>'},
            "secret": {"body": '<circle cx="4" cy="4" r="1"/>', "hidden": True},
        },
    }
    kinds = {"categories": {"Animals Nature": ["bear-face"], "Travel & Places": ["police-car-light", "wide"]}}
    tarball = tmp_path / "cache" / "iconify-json-tiny-1.0.0.tgz"
    tarball.parent.mkdir()
    with tarfile.open(tarball, "w:gz") as archive:
        for name, value in (("icons.json", icons), ("metadata.json", kinds)):
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    sha256 = hashlib.sha256(tarball.read_bytes()).hexdigest()
    source = Source("tiny", "1.0.0", sha256, "Nobody", "https://example.org", "CC-BY-4.0")
    monkeypatch.setitem(SOURCES, "tiny", source)
    return tarball.parent


def test_the_embedded_shard_is_whole(embedded):
    counts = Counter(embedded.styles)
    assert tuple(counts) == SHIPPED and len(embedded) == 8000
    assert embedded.pixels.shape == (8000, 64, 64, 3)
    assert all(embedded.categories) and len(set(embedded.categories)) == 9
    where = {id: i for i, id in enumerate(embedded.ids)}
    i = where["noto/hot-pepper"]
    assert (embedded.names[i], embedded.styles[i], embedded.categories[i]) == ("hot pepper", "noto", "food and drink")
    red, green, blue = embedded.pixels[i].reshape(-1, 3).astype(float)[embedded.pixels[i].reshape(-1, 3).min(1) < 200].T
    assert red.mean() > 1.5 * green.mean() and red.mean() > 1.5 * blue.mean()
    assert embedded.names[where["twemoji/flag-malaysia"]] == "flag of malaysia"
    assert not [name for name in embedded.names if "skin tone" in name or "-" in name]


def test_every_picture_shows_something_on_white(embedded):
    darkest = embedded.pixels.reshape(len(embedded), -1).min(1)
    assert (darkest < 250).all()
    border = np.concatenate([embedded.pixels[:, 0], embedded.pixels[:, -1]], axis=1)
    assert (border == 255).all(-1).mean() > 0.7
    for style in SHIPPED:
        rows = [i for i, each in enumerate(embedded.styles) if each == style]
        assert len({embedded.pixels[i].tobytes() for i in rows}) == len(rows)


def test_concepts_are_shared_between_styles(embedded):
    styles_of = Counter(embedded.names)
    assert sum(count >= 2 for count in styles_of.values()) > 1600
    assert sum(count == 5 for count in styles_of.values()) > 1100
    assert (styles_of["bullseye"], styles_of["elf"], styles_of["deaf man"]) == (5, 4, 4)


def test_the_embedded_split(embedded):
    parts = split(embedded)
    assert len(parts["test"]) >= 300
    assert {embedded.styles[i] for i in parts["test"]} == set(SHIPPED)
    prompts = items(embedded, parts["test"])
    assert len({item.caption for item in prompts}) == len(prompts)
    train = {(embedded.names[i], embedded.styles[i]) for i in parts["train"]}
    captions = {wording for name, style in train for wording in variants(name, style) if wording != name}
    assert not captions & {item.caption for item in prompts}
    words = dict.fromkeys(name for name, _ in train)
    assert all(item.name in words for item in prompts)


def test_licences_and_size():
    files = sorted(path.name for path in emoji.EMBEDDED.iterdir())
    atlases = [f"{emoji.slug(style)}.webp" for style in SHIPPED]
    assert files == sorted([*atlases, "LICENSES.md", "index.json", "renames.json"])
    assert sum(path.stat().st_size for path in emoji.EMBEDDED.iterdir()) <= 15_000_000
    text = (emoji.EMBEDDED / "LICENSES.md").read_text()
    assert text == licences({style: SOURCES[style] for style in SHIPPED}, 64)
    for words in ("Google LLC", "Microsoft Corporation", "Twitter, Inc", "CC-BY-4.0", "Apache-2.0", "Permission is hereby"):
        assert words in text
    assert not {SOURCES[style].licence for style in SHIPPED} - {"Apache-2.0", "MIT", "CC-BY-4.0"}


def test_some_styles_only(embedded):
    two = emoji.load(styles=["twemoji", "noto-classic"])
    assert tuple(Counter(two.styles)) == ("twemoji", "noto classic")
    assert (two.pixels[-1] == embedded.pixels[embedded.ids.index(two.ids[-1])]).all()
    with pytest.raises(ValueError, match="did you mean 'twemoji'"):
        emoji.load(styles=["tweemoji"])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.index\.json does not exist"):
        emoji.load(tmp_path / "nowhere")


def test_damage_is_named(tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(emoji.EMBEDDED, folder)
    atlas = folder / "twemoji.webp"
    whole = atlas.read_bytes()
    atlas.write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"twemoji\.webp is damaged"):
        emoji.load(folder, ["twemoji"])
    atlas.unlink()
    with pytest.raises(ValueError, match=r"twemoji\.webp is missing"):
        emoji.load(folder, ["twemoji"])
    atlas.write_bytes(whole)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"size": 32}))
    with pytest.raises(ValueError, match=r"twemoji\.webp is 2560x\d+ pixels, its index says 1280x\d+"):
        emoji.load(folder, ["twemoji"])
    for text, words in (("{", "is damaged"), ("[]", "not an emoji index"), ('{"schema": 1}', "not an emoji index")):
        (folder / "index.json").write_text(text)
        with pytest.raises(ValueError, match=words) as caught:
            emoji.load(folder)
        assert "\n" not in str(caught.value)


def test_build_draws_names_and_repeats_itself(tiny, tmp_path):
    pytest.importorskip("resvg_py")
    assert list(emoji.build(["tiny"], tmp_path / "a", tiny, size=16)) == [("tiny", 4)]
    assert list(emoji.build(["tiny"], tmp_path / "b", tiny, size=16)) == [("tiny", 4)]
    for file in ("tiny.webp", "index.json", "LICENSES.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"tiny.webp", "index.json", "LICENSES.md"}
    built = emoji.load(tmp_path / "a")
    assert built.ids == ("tiny/bear", "tiny/flag-norway", "tiny/police-car-light", "tiny/wide")
    assert built.names == ("bear", "flag of norway", "police car light", "wide")
    assert built.categories == ("animals and nature", "", "travel and places", "travel and places")
    bear, flag, _, wide = built.pixels
    assert (bear == [255, 0, 0]).all()
    assert (flag[:8] == [0, 0, 255]).all() and (flag[8:] == 255).all()
    assert (wide[4:12] == [0, 0, 255]).all() and (wide[:4] == 255).all() and (wide[12:] == 255).all()
    assert "Copyright Nobody" in (tmp_path / "a" / "LICENSES.md").read_text()


@pytest.mark.parametrize(
    ("styles", "size", "words"),
    [
        (["noto", "flunet"], 64, "unknown style 'flunet'; did you mean 'fluent'"),
        ([], 64, "no styles given"),
        (["noto"], 8, r"size 8 is not in 16\.\.256"),
    ],
)
def test_build_refuses_before_it_starts(tmp_path, styles, size, words):
    with pytest.raises(ValueError, match=words):
        emoji.build(styles, tmp_path / "out", tmp_path, size)
    assert not (tmp_path / "out").exists()


def test_a_package_that_differs_or_cannot_be_had(tmp_path, monkeypatch):
    source = SOURCES["twemoji"]
    tarball = tmp_path / f"iconify-json-{source.package}-{source.version}.tgz"
    tarball.write_bytes(b"something else")
    with pytest.raises(ValueError, match="delete it and try again"):
        fetch(source, tmp_path)
    tarball.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="npm is not installed"):
        fetch(source, tmp_path)
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network offline' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(ValueError, match=r"could not deliver .*twemoji.*network offline") as caught:
        fetch(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_names_of_older_sets_become_todays():
    assert emoji.canonical("flag-for-flag-china", "noto classic") == "flag-china"
    assert emoji.canonical("direct-hit", "emojione") == "bullseye"
    assert emoji.canonical("robot-face-2", "streamline") == "robot"
    assert emoji.canonical("australia", "streamline") == "flag-australia"
    assert emoji.canonical("japanesepostoffice", "fxemoji") == "japanese-post-office"
    assert emoji.canonical("zzzz", "fxemoji") == ""
    assert emoji.plain("flag-in-hole") == "flag in hole"


@pytest.mark.slow
def test_the_embedded_shard_is_what_the_packages_draw(tmp_path):
    """Needs npm and the network."""
    pytest.importorskip("resvg_py")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    assert len(list(emoji.build(["noto classic", "twemoji"], tmp_path / "out", tmp_path / "cache"))) == 2
    rebuilt, held = emoji.load(tmp_path / "out"), emoji.load(styles=["noto classic", "twemoji"])
    assert rebuilt.ids == held.ids and rebuilt.categories == held.categories
    assert (rebuilt.pixels == held.pixels).all()
