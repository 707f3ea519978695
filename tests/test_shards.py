"""One data set in every kind of file: the same pixels, labels and order; and damaged ones."""

import importlib.util
import io
import json
import os
import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale.data import (
    ArrayRecordShards,
    BadImageError,
    BadShardError,
    HuggingFaceDataset,
    ParquetShards,
    ReplaceBad,
    TarShards,
    TFRecordShards,
    TrainTransform,
    open_source,
    shards,
    train_batches,
)
from keras_vit_scale.data.crc32c import crc32c, masked
from keras_vit_scale.data.example import parse_example
from keras_vit_scale.data.located import numbered

pytestmark = numpy_alone

CLASSES = ("cat", "dog", "owl")
#: How many images each of three shards has.
SHARDS = (3, 5, 2)
ENDINGS = ("png", "jpg", "webp")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KERAS_VIT_SCALE_CACHE", str(path))
    return path


def encoded(i):
    """Image i: (5 + i) x 7 noisy pixels, as PNG, JPEG or WebP."""
    pixels = np.random.default_rng(i).integers(0, 256, (5 + i, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, {"jpg": "JPEG"}.get(ENDINGS[i % 3], ENDINGS[i % 3]))
    return file.getvalue()


IMAGES = [encoded(i) for i in range(sum(SHARDS))]
LABELS = [i % 3 for i in range(sum(SHARDS))]
PARTS = np.split(np.arange(sum(SHARDS)), np.cumsum(SHARDS)[:-1])


def varint(number):
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def proto(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def example(image, label):
    """A `tf.train.Example` by the rules of protocol buffers, as TensorFlow would write it."""
    features = {
        "image": proto(1, proto(1, image)),
        "label": proto(3, proto(1, varint(label)))
        if isinstance(label, int)
        else proto(1, proto(1, label)),
        "score": proto(2, proto(1, struct.pack("<f", 0.5))),
    }
    entries = (proto(1, name.encode()) + proto(2, value) for name, value in features.items())
    return proto(1, b"".join(proto(1, entry) for entry in entries))


def write_tar(path, numbers, label=lambda i: ("cls", str(LABELS[i]))):
    with tarfile.open(path, "w") as tar:
        for i in numbers:
            ending, text = label(i)
            files = {f"{ENDINGS[i % 3]}": IMAGES[i], ending: text.encode(), "txt": b"a caption"}
            for suffix, data in files.items():
                info = tarfile.TarInfo(f"some/folder.d/{i:04d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def checksum(data):
    """CRC-32C, a bit after the other, turned and moved as TFRecord has it."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    state ^= 0xFFFFFFFF
    return struct.pack("<I", ((state >> 15 | state << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_tfrecord(path, numbers):
    with open(path, "wb") as file:
        for i in numbers:
            data = example(IMAGES[i], LABELS[i])
            length = struct.pack("<Q", len(data))
            file.write(length + checksum(length) + data + checksum(data))


def write_array_record(path, numbers):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for i in numbers:
        writer.write(example(IMAGES[i], LABELS[i]))
    writer.close()


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(CLASSES), "_type": "ClassLabel"},
}


def table(numbers):
    import pyarrow

    images = [{"bytes": IMAGES[i], "path": None} for i in numbers]
    return pyarrow.table({"image": images, "label": [LABELS[i] for i in numbers]})


def write_parquet(path, numbers):
    import pyarrow.parquet

    told = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    written = table(numbers).replace_schema_metadata(told)
    pyarrow.parquet.write_table(written, path, row_group_size=2)


def write_hugging_face(folder):
    """What `Dataset.save_to_disk` writes."""
    import pyarrow

    folder.mkdir()
    names = [f"data-{n:05d}-of-{len(PARTS):05d}.arrow" for n in range(len(PARTS))]
    for name, part in zip(names, PARTS, strict=True):
        with pyarrow.ipc.new_stream(folder / name, table(part).schema) as stream:
            stream.write_table(table(part), max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


KINDS = {
    "tar": (TarShards, write_tar),
    "tfrecord": (TFRecordShards, write_tfrecord),
    "array_record": (ArrayRecordShards, write_array_record),
    "parquet": (ParquetShards, write_parquet),
}


def written(folder, kind):
    """A pattern of shards of a kind."""
    folder.mkdir(exist_ok=True)
    for n, part in enumerate(PARTS):
        KINDS[kind][1](folder / f"train-{n}.{kind}", part)
    return str(folder / f"train-*.{kind}")


def opened(folder, kind, **options):
    if kind == "hugging_face":
        return HuggingFaceDataset(write_hugging_face(folder / "hf"), **options)
    if kind in ("tar", "tfrecord", "array_record"):
        options = {"class_names": CLASSES, **options}
    return KINDS[kind][0](written(folder, kind), **options)


EVERY = pytest.mark.parametrize("kind", [*KINDS, "hugging_face"])


@EVERY
def test_every_kind_has_the_same_pixels_labels_and_order(tmp_path, kind):
    source = opened(tmp_path, kind)
    assert source.class_names == CLASSES
    assert source.labels.tolist() == LABELS
    assert len(source) == len(IMAGES)
    for again in (source, pickle.loads(pickle.dumps(source))):
        # In an order that leaves and comes back to shards and groups.
        for i in [0, 9, 3, 1, 8, 2, 7, 4, 6, 5]:
            image, label = again[i]
            expected = np.asarray(Image.open(io.BytesIO(IMAGES[i])).convert("RGB"))
            np.testing.assert_array_equal(image, expected)
            assert (label, type(label)) == (LABELS[i], int)
    assert "10 images of 3 classes: cat, dog, owl" in repr(source)


@EVERY
def test_shards_feed_training(tmp_path, kind):
    source = opened(tmp_path, kind)
    seen = []
    for images, labels in train_batches(source, TrainTransform(6), 5, stop=2):
        assert images.shape == (5, 6, 6, 3)
        seen += labels.tolist()
    assert sorted(seen) == sorted(LABELS)


@pytest.mark.parametrize("kind", ["tar", "tfrecord", "parquet"])
def test_buckets_are_read_as_disks_are(tmp_path, kind):
    import fsspec

    local = opened(tmp_path, kind)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "*"), f"/bucket-{kind}/")
    options = {} if kind == "parquet" else {"class_names": CLASSES}
    remote = KINDS[kind][0](f"memory://bucket-{kind}/train-*.{kind}", **options)
    assert remote.labels.tolist() == LABELS
    for i in (0, 7):
        np.testing.assert_array_equal(remote[i][0], local[i][0])
    with pytest.raises(ValueError, match="Shards must exist"):
        KINDS[kind][0](f"memory://bucket-{kind}/test-*.{kind}")


@pytest.mark.parametrize("kind", ["tar", "tfrecord", "array_record"])
def test_a_shard_is_indexed_once_and_again_when_it_changes(tmp_path, kind, monkeypatch):
    opened(tmp_path, kind)
    module = sys.modules[KINDS[kind][0].__module__]
    index, made = module._index, []
    monkeypatch.setattr(
        module, "_index", lambda file, *rest: made.append(file) or index(file, *rest)
    )
    where = str(tmp_path / f"train-*.{kind}")
    assert len(KINDS[kind][0](where)) == 10
    assert made == []
    KINDS[kind][1](tmp_path / f"train-1.{kind}", PARTS[0])
    os.utime(tmp_path / f"train-1.{kind}", (1, 1))
    assert KINDS[kind][0](where).labels.tolist() == [*LABELS[:3], *LABELS[:3], *LABELS[8:]]
    assert [os.path.basename(file) for file in made] == [f"train-1.{kind}"]


def test_an_interrupted_indexing_goes_on(tmp_path, monkeypatch):
    where = written(tmp_path, "tar")
    module = sys.modules[TarShards.__module__]
    index, made = module._index, []

    def dies(file, *rest):
        if file.endswith("train-2.tar") and len(made) == 2:
            made.append(file)
            raise KeyboardInterrupt
        made.append(file)
        return index(file, *rest)

    monkeypatch.setattr(module, "_index", dies)
    with pytest.raises(KeyboardInterrupt):
        TarShards(where)
    assert len(TarShards(where)) == 10
    assert [os.path.basename(f) for f in made] == [f"train-{n}.tar" for n in (0, 1, 2, 2)]


DAMAGES = {
    "cut": lambda data: data[: len(data) * 2 // 3],
    "emptied": lambda data: b"",
    "text": lambda data: b"no such file <html>" * 40,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_shard_is_named_and_skipped_on_request(tmp_path, kind, damage):
    where = written(tmp_path, kind)
    path = tmp_path / f"train-1.{kind}"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    cls = KINDS[kind][0]
    with pytest.raises(
        BadShardError, match=rf"Cannot read the shard '.*train-1\.{kind}': "
    ) as told:
        cls(where)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
    with pytest.warns(UserWarning, match=rf"1 of 3 shards were skipped: .*train-1\.{kind}"):
        source = cls(where, bad_shards="skip")
    assert source.labels.tolist() == LABELS[:3] + LABELS[8:]
    np.testing.assert_array_equal(source[3][0].shape, (13, 7, 3))
    with pytest.raises(BadShardError, match="train-1"):
        cls(str(path), bad_shards="skip")
    with pytest.raises(ValueError, match="`bad_shards` must be one of"):
        cls(where, bad_shards="ignore")


@pytest.mark.parametrize("size", [0, 1, 4, 8, 255, 256, 257, 512, 5003])
def test_checksums_are_those_of_bits_one_after_the_other(size, rng):
    for data in (rng.bytes(size), bytes(size), b"\xff" * size):
        assert struct.pack("<I", masked(crc32c(data))) == checksum(data)


def test_checksums_are_the_examples_of_rfc_3720():
    for data, expected in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
                           (bytes(range(32)), 0x46DD794E)):  # fmt: skip
        assert crc32c(data) == expected


@pytest.mark.parametrize("part", ["length", "data", "its checksum"])
def test_a_wrong_checksum_is_found_on_request(tmp_path, part):
    """One bit of the second record of the second shard; what was indexed before counts for none."""
    where = written(tmp_path, "tfrecord")
    assert TFRecordShards(where, checksums="verify").labels.tolist() == LABELS
    path = tmp_path / "train-1.tfrecord"
    data = bytearray(path.read_bytes())
    second = 16 + struct.unpack("<Q", data[:8])[0]
    size = struct.unpack("<Q", data[second : second + 8])[0]
    # Within the image's bytes, which no parser looks at.
    at = {"length": second + 9, "data": second + 12 + size // 2, "its checksum": second + 13 + size}
    data[at[part]] ^= 16
    path.write_bytes(data)
    assert TFRecordShards(where).labels.tolist() == LABELS
    message = rf"train-1\.tfrecord': the record at byte {second} has another checksum"
    with pytest.raises(BadShardError, match=message):
        TFRecordShards(where, checksums="verify")
    with pytest.warns(UserWarning, match=rf"1 of 3 shards were skipped: .*{message}"):
        source = TFRecordShards(where, checksums="verify", bad_shards="skip")
    assert source.labels.tolist() == LABELS[:3] + LABELS[8:]
    with pytest.raises(ValueError, match="`checksums` must be one of"):
        TFRecordShards(where, checksums="check")


@pytest.mark.parametrize("lost", [1, 1024, 1200, 10241])
def test_a_tar_file_without_its_end_is_not_whole(tmp_path, lost):
    """Where `tarfile` itself would stop and say nothing."""
    path = tmp_path / "a.tar"
    write_tar(path, range(10))
    data = path.read_bytes().rstrip(b"\0")
    whole = data + bytes(-len(data) % 512) + bytes(1024)
    path.write_bytes(whole)
    assert len(TarShards(path)) == 10
    path.write_bytes(whole[: -512 - lost])
    with pytest.raises(BadShardError):
        TarShards(path)


def test_a_damaged_header_amid_a_tar_file_is_found(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, range(10))
    data = bytearray(path.read_bytes())
    at = data.index(b"0005.cls")
    data[at] ^= 255
    path.write_bytes(data)
    with pytest.raises(BadShardError, match="truncated or damaged at byte"):
        TarShards(path)


def members(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


P = IMAGES[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.png", P)], r"'a' has no label, no file ending in \.cls"),
        ([("a.cls", b"1")], "'a' has no image"),
        ([("a.png", P), ("b.cls", b"1")], "'a' has no label"),
        ([("a.png", P), ("a.jpg", P), ("a.cls", b"1")], "'a' has several images"),
        ([("a.png", P), ("a.cls", b"1"), ("a.cls", b"1")], "'a' has several labels"),
        (
            [(f"{n}.{e}", d) for n in "aba" for e, d in (("png", P), ("cls", b"1"))],
            "the key 'a' is there twice",
        ),
        ([("a.txt", b"hello")], "no image with a label"),
        ([("a.png", P), ("a.cls", b"cat")], r"the name of a.*'cat', and there are no .*a\.tar:a"),
        ([("a.png", P), ("a.cls", b"1.5")], "whole number"),
        ([("a.png", P), ("a.cls", b"1_0")], "whole number"),
        ([("a.png", P), ("a.cls", b"-1")], r"in \[0, 1\).*\[-1\]"),
    ],
)  # fmt: skip
def test_examples_that_are_none_are_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        TarShards(members(tmp_path / "a.tar", files))


def test_labels_that_the_classes_lack_are_refused(tmp_path):
    path = members(tmp_path / "a.tar", [("a.png", P), ("a.cls", b"bat")])
    with pytest.raises(ValueError, match=r"'bat', which is none of `class_names`, for .*a\.tar:a"):
        TarShards(path, class_names=CLASSES)
    path = members(tmp_path / "b.tar", [("a.png", P), ("a.cls", b"3")])
    with pytest.raises(ValueError, match=r"in \[0, 3\)"):
        TarShards(path, class_names=CLASSES)


def test_names_and_lists_are_labels(tmp_path):
    write_tar(tmp_path / "n.tar", range(3), lambda i: ("cls", f"{CLASSES[i]}\n"))
    assert TarShards(tmp_path / "n.tar", class_names=CLASSES).labels.tolist() == [0, 1, 2]
    several = [["owl"], [0, 1], 2]
    write_tar(tmp_path / "l.tar", range(3), lambda i: ("json", json.dumps({"tags": several[i]})))
    source = TarShards(tmp_path / "l.tar", label="json:tags", class_names=CLASSES)
    assert source.labels.tolist() == [[2, -1], [0, 1], [2, -1]]
    assert source[1][1].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"under the key 'tag' of JSON.*, for .*folder\.d/0000"):
        TarShards(tmp_path / "l.tar", label="json:tag")
    for label in ("json", "", ":", "cls:tags", "json:"):
        with pytest.raises(ValueError, match="`label` must be an ending"):
            TarShards(tmp_path / "l.tar", label=label)
    assert numbered([3, "03", b" 3 ", np.int64(3)], None, str).tolist() == [3] * 4
    with pytest.raises(ValueError, match="whole number"):
        numbered([True], None, str)


@pytest.mark.parametrize("kind", ["tar", "tfrecord"])
def test_compressed_shards_are_refused(tmp_path, kind):
    import gzip

    path = tmp_path / f"a.{kind}"
    KINDS[kind][1](path, range(3))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(BadShardError, match="compressed"):
        KINDS[kind][0](path)


@pytest.mark.parametrize("kind", KINDS)
def test_shards_must_be_there_and_once(tmp_path, kind):
    where = written(tmp_path, kind)
    with pytest.raises(ValueError, match=r"Shards must exist, such as '.*test-\*"):
        KINDS[kind][0](where.replace("train-", "test-"))
    with pytest.raises(ValueError, match=r"named once.*train-0"):
        KINDS[kind][0]([where, str(tmp_path / f"train-0.{kind}")])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_is_none_is_named_and_replaced(tmp_path, kind, monkeypatch):
    monkeypatch.setitem(globals(), "IMAGES", [*IMAGES[:4], b"\xff\xd8\xff broken", *IMAGES[5:]])
    source = opened(tmp_path, kind)
    name = {
        "tar": "train-1.tar:some/folder.d/0004",
        "tfrecord": "train-1.tfrecord:record 1",
        "array_record": "train-1.array_record:record 1",
        "parquet": "train-1.parquet:row 1 of group 0",
    }[kind]
    with pytest.raises(BadImageError, match=name):
        source[4]
    image, label = ReplaceBad(source)[4]
    assert label == LABELS[4]
    assert image.shape[0] in (5 + 1, 5 + 7)  # of the same class


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_records_of_other_features_are_refused(tmp_path, kind):
    where = written(tmp_path, kind)
    with pytest.raises(BadShardError, match=r"no \['picture'\], but \['image', 'label', 'score'\]"):
        KINDS[kind][0](where, image="picture")
    with pytest.raises(BadShardError, match="'label' is not one image file"):
        KINDS[kind][0](where, image="label")


def test_a_shard_that_shrinks_while_it_is_open_is_named(tmp_path):
    source = opened(tmp_path, "tar")
    path = tmp_path / "train-2.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(BadShardError, match=r"train-2\.tar.*was it changed"):
        source[9]


def test_array_records_in_buckets_are_refused(tmp_path):
    import fsspec

    fsspec.filesystem("memory").pipe("/records/a.array_record", b"")
    with pytest.raises(ValueError, match="must lie on a disk or be mounted"):
        ArrayRecordShards("memory://records/a.array_record")


def test_tables_of_other_columns_are_refused(tmp_path):
    where, folder = written(tmp_path, "parquet"), write_hugging_face(tmp_path / "hf")
    for cls, place in ((ParquetShards, where), (HuggingFaceDataset, folder)):
        for option in ("image", "label"):
            with pytest.raises(ValueError, match=r"'x' of .*which has \['image', 'label'\]"):
                cls(place, **{option: "x"})


def test_images_beside_a_table_are_told(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"bytes": None, "path": "/data/a.png"}, {"bytes": None, "path": None}]
    pyarrow.parquet.write_table(
        pyarrow.table({"image": rows, "label": [0, 1]}), tmp_path / "a.parquet"
    )
    source = ParquetShards(tmp_path / "a.parquet")
    with pytest.raises(BadImageError, match=r"lies elsewhere, '/data/a\.png'"):
        source[0]
    with pytest.raises(BadImageError, match="no bytes of it"):
        source[1]


def test_saved_splits(tmp_path):
    (tmp_path / "both").mkdir()
    write_hugging_face(tmp_path / "both" / "train")
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(HuggingFaceDataset(tmp_path / "both", "train")) == 10
    for split in ("trian", None):
        with pytest.raises(ValueError, match=rf"one of \['test', 'train'\]\. Received: {split!r}"):
            HuggingFaceDataset(tmp_path / "both", split)
    with pytest.raises(ValueError, match=r"one of \['train'\], the only one"):
        HuggingFaceDataset(tmp_path / "both" / "train", "test")
    with pytest.raises(ValueError, match=r"`dataset.save_to_disk` wrote"):
        HuggingFaceDataset(tmp_path)
    state = tmp_path / "both" / "train" / "state.json"
    state.write_text(state.read_text().replace("{", '{"_indices_files": [{"filename": "x"}], ', 1))
    with pytest.raises(ValueError, match="flatten_indices"):
        HuggingFaceDataset(tmp_path / "both", "train")
    state.write_text("{")
    with pytest.raises(BadShardError, match=r"state\.json"):
        HuggingFaceDataset(tmp_path / "both", "train")


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="needs Hugging Face's `datasets`"
)
def test_what_datasets_itself_saves(tmp_path):
    import datasets

    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )
    rows = {"image": [{"bytes": b, "path": None} for b in IMAGES], "label": LABELS}
    whole = datasets.Dataset.from_dict(rows, features=features)
    order = [4, 0, 7, 2]
    both = datasets.DatasetDict(train=whole, test=whole.select(order))
    both.save_to_disk(tmp_path / "saved", num_shards={"train": 3, "test": 1})
    train, test = (HuggingFaceDataset(tmp_path / "saved", s) for s in ("train", "test"))
    assert train.class_names == CLASSES
    assert train.labels.tolist() == LABELS
    assert test.labels.tolist() == [LABELS[i] for i in order]
    for i, j in enumerate(order):
        np.testing.assert_array_equal(test[i][0], np.asarray(whole[j]["image"].convert("RGB")))
    whole.to_parquet(tmp_path / "w.parquet")
    parquet = ParquetShards(tmp_path / "w.parquet")
    assert (parquet.class_names, parquet.labels.tolist()) == (CLASSES, LABELS)
    np.testing.assert_array_equal(parquet[9][0], train[9][0])


@pytest.mark.skipif(
    importlib.util.find_spec("webdataset") is None, reason="needs the package `webdataset`"
)
def test_what_webdataset_itself_writes(tmp_path):
    import webdataset

    with webdataset.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=4, verbose=0) as writer:
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            writer.write({"__key__": f"{i:05d}", ENDINGS[i % 3]: image, "cls": label})
    source = TarShards(str(tmp_path / "w-*.tar"))
    assert len(source.shards) == 3
    assert source.labels.tolist() == LABELS
    assert source[5][0].shape == (10, 7, 3)


def test_no_example_is_told():
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        parse_example(b"\xff\xff\xff")


def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    where = written(tmp_path, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"keras-vit-scale\[parquet\]"):
        ParquetShards(where)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImportError, match=r"keras-vit-scale\[hub\]"):
        shards.find_shards("memory://a", "")


@EVERY
def test_names_open_shards(tmp_path, kind):
    if kind == "hugging_face":
        name = f"hf:{write_hugging_face(tmp_path / 'hf')}"
        assert open_source(f"{name}@train").labels.tolist() == LABELS
    else:
        name = written(tmp_path, kind)
    source = open_source(name, max_pixels=7 * 13)
    assert source.labels.tolist() == LABELS
    with pytest.raises(BadImageError, match="more than max_pixels=91"):
        source[9]
