"""Which pairs are shown, and that pictures, fields and texts are packed without saying anything else."""

import base64
import io

import numpy as np
from PIL import Image

from diptych.compare import pairs
from diptych.study import Unit


def test_harm_follows_the_metric_direction():
    units = (Unit("a"), Unit("b"))
    arm, base = (units, np.array([[1.0], [0.0]])), (units, np.array([[0.0], [1.0]]))
    for better, expected in (("higher", [-1.0, 1.0]), ("lower", [1.0, -1.0])):
        found = pairs.harm({"better": better, "against": "none"}, arm, base)
        assert [found[u] for u in units] == expected
    assert pairs.harm({"better": "higher", "against": "baseline"}, arm, None)[units[0]] == -1.0


def test_pictures_are_packed_until_they_fit():
    noise = np.random.default_rng(0).integers(0, 256, (2, 260, 260, 3), dtype=np.uint8)
    pictures = {str(k): picture for k, picture in enumerate(noise)}
    whole, note = pairs.pack(pictures, 10_000_000)
    assert note == "" and sum(map(len, whole.values())) > 2 * 260 * 260 * 3
    packed, note = pairs.pack(pictures, 60_000)
    assert sum(map(len, packed.values())) <= 60_000
    edge = int(note.split(" pixels")[0].split()[-1])
    assert edge < 260
    assert Image.open(io.BytesIO(base64.b64decode(packed["0"].split(",")[1]))).size == (edge, edge)


def test_texts_are_marked_where_they_differ_and_escaped():
    left, right = pairs.marked("a <b> cat sat", "a <b> dog sat")
    assert left == "a &lt;b&gt; <del>cat</del> sat"
    assert right == "a &lt;b&gt; <ins>dog</ins> sat"
    assert pairs.marked("x" * 5000, "")[0].endswith("<i>(cut)</i>")


def test_fields_share_one_scale_of_the_baseline():
    units = (Unit("a"), Unit("b"))
    fields = np.stack([np.linspace(-1, 1, 256).reshape(16, 16), np.full((16, 16), 0.5)]).astype(np.float32)
    chosen = pairs.choose("arm", units, {})
    samples = {"base": dict(zip(units, fields, strict=True)), "arm": dict(zip(units, 9 * fields, strict=True))}
    found = pairs.gallery(chosen, samples, "base")
    assert found.show == "pictures" and "one colour scale" in found.note and len(found.pictures) == 4
    assert np.array_equal(pairs.colour(np.zeros((8, 8)), -2.0, 1.0)[0, 0], (0xF5, 0xF4, 0xF0)), "zero is the middle"
    assert {p.kind for p in found.pairs} == {"random"}, "nothing ranks them"
