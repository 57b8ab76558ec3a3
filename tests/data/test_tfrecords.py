"""TFRecord: the published checksum, the wire format against protobuf's own, damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png

from diptych.data.records import Broken
from diptych.data.sources import open_source
from diptych.data.tfrecords import masked, parse, serialise, write_tfrecord

pytest.importorskip("google_crc32c")


def example(i: int, captions: int = 2) -> dict:
    return {
        "image": [png(i)],
        "image/shape": [30, 40, 3],
        "caption": [f"caption {n} of picture {i}".encode() for n in range(captions)],
        "image_name": [f"name-{i}".encode()],
    }


def official():
    """`tf.train.Example` by protobuf itself, from its published definition."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example_test.proto", package="t", syntax="proto3")
    kinds = {"BytesList": 12, "FloatList": 2, "Int64List": 3}
    for name, kind in kinds.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}.items(), 1
    ):
        feature.field.add(name=name, number=number, label=1, type=11, type_name=f".t.{kind}", oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".t.Feature")
    features.field.add(name="feature", number=1, label=3, type=11, type_name=".t.Features.FeatureEntry")
    file.message_type.add(name="Example").field.add(name="features", number=1, label=1, type=11, type_name=".t.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def test_checksums_are_those_of_the_standard():
    # RFC 3720 B.4: CRC-32C of 32 zero bytes; and its rotated form
    crc = 0x8A9136AA
    assert masked(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    stub = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    for data in (b"", b"123456789", png(1)):
        assert masked(data) == stub.masked_crc32c(data)


VALUES = st.one_of(
    st.lists(st.binary(max_size=300), min_size=1, max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
)
OFFICIAL = official()


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=20), VALUES, min_size=1, max_size=3))
def test_bytes_are_those_of_protobuf_and_are_read_back(features):
    message = OFFICIAL()
    for name, values in features.items():
        field = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
        getattr(message.features.feature[name], field).value.extend(values)
    theirs, ours = message.SerializeToString(deterministic=True), serialise(features)
    again = OFFICIAL.FromString(ours)
    assert again == message
    for data in (theirs, ours):
        assert {name: list(values) for name, values in parse(data).items()} == features


def test_unpacked_numbers_are_read():
    # int64_list and float_list without packing, as old writers have them
    data = bytes.fromhex("0a180a160a0178121111"[:0]) or b""
    inner = bytes([0x08, 5, 0x08, 9])  # value = 5, value = 9
    feature = bytes([0x1A, len(inner)]) + inner
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a" + bytes([len(features)]) + features
    assert parse(data) == {"x": [5, 9]}


def test_i1s_records(tmp_path):
    for shard in range(2):
        write_tfrecord(tmp_path / f"set-train.tfrecord-0000{shard}-of-00002", [example(3 * shard + i) for i in range(3)])
    source = open_source(tmp_path)
    assert len(source) == 6
    record = source[4]
    assert record.key == "name-4" and record.image == png(4)
    assert record.captions == ("caption 0 of picture 4", "caption 1 of picture 4")
    assert record.pixels().shape == (30, 40, 3)


def test_tensorboards_writer_makes_the_same_file(tmp_path):
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    data = [serialise(example(i)) for i in range(3)]
    with (tmp_path / "theirs").open("wb") as file:
        for one in data:
            writer.RecordWriter(file).write(one)
    write_tfrecord(tmp_path / "ours.tfrecord", [example(i) for i in range(3)])
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours.tfrecord").read_bytes()


def test_damage_is_found_and_named(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_tfrecord(path, [example(i) for i in range(3)])
    whole = bytearray(path.read_bytes())
    length = int.from_bytes(whole[:8], "little")
    second = length + 16
    rng = np.random.default_rng(0)
    for at in rng.integers(second + 12, second + 12 + 500, 5):  # a bit anywhere in the data
        torn = whole.copy()
        torn[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(torn)
        source = open_source(path)
        assert source[0].key == "name-0" and source[2].key == "name-2"
        with pytest.raises(Broken, match="its checksum does not fit"):
            source[1]
    torn = whole.copy()
    torn[second] ^= 4  # in a length
    path.write_bytes(torn)
    source = open_source(path)
    assert len(source) == 2 and source[0].key == "name-0"
    with pytest.raises(Broken, match="checksum of a length"):
        source[1]
    path.write_bytes(whole[:-100])
    with pytest.raises(Broken, match="cut off"):
        open_source(path)[2]
    write_tfrecord(path, [{"caption": [b"x"]}])
    with pytest.raises(Broken, match="no picture under 'image'"):
        open_source(path)[0]
