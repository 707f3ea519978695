"""TensorFlow Datasets: data sets of ours, prepared by TFDS itself, read with random access."""

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_vit_scale.data import (
    BadShardError,
    EvalTransform,
    TFDSSource,
    TFRecordShards,
    TrainTransform,
    eval_batches,
    hold_out,
    open_source,
    train_batches,
)
from keras_vit_scale.data.example import parse_example

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(m) for m in ("tensorflow_datasets", "tensorflow")),
    reason="needs the extra `tfds`, and TensorFlow, with which TFDS prepares data",
)

# Image i of a split is (5 + i) x 7 pixels of value 20 i + 1, of class i mod 3.
PREPARE = """
import sys
from pathlib import Path
import numpy as np
import tensorflow_datasets as tfds

class Owls(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    pkg_dir_path = Path(sys.argv[1])
    channels, pair = 3, ("image", "label")

    def _info(self):
        image = tfds.features.Image(shape=(None, None, self.channels))
        label = tfds.features.ClassLabel(names=["cat", "dog", "owl"])
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            supervised_keys=self.pair,
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(11), "test": self._generate_examples(4)}

    def _generate_examples(self, n):
        for i in range(n):
            image = np.full((5 + i, 7, self.channels), 20 * i + 1, np.uint8)
            yield i, {"image": image, "label": i % 3}

class Unpaired(Owls):
    pair = None

class Transparent(Owls):
    channels = 4

for builder, folder, format in (
    (Owls, "random", "array_record"), (Owls, "serial", "tfrecord"),
    (Unpaired, "random", "array_record"), (Transparent, "random", "array_record"),
):
    builder(data_dir=f"{sys.argv[1]}/{folder}", file_format=format).download_and_prepare()
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folders of data sets, written by a process of its own, which imports TensorFlow."""
    root = tmp_path_factory.mktemp("tfds")
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return root


def test_examples_labels_and_classes(prepared):
    source = TFDSSource("owls", data_dir=prepared / "random")
    assert len(source) == 11
    assert source.class_names == ("cat", "dog", "owl")
    seen = set()
    for n in range(11):
        image, label = source[n]
        i = (int(image[0, 0, 0]) - 1) // 20  # which image TFDS shuffled here
        np.testing.assert_array_equal(image, np.full((5 + i, 7, 3), 20 * i + 1, np.uint8))
        assert image.dtype == np.uint8
        assert label == i % 3 == source.labels[n]
        seen.add(i)
    assert seen == set(range(11))
    assert source.labels.dtype == np.int64


def test_slices_and_parts(prepared):
    folder = prepared / "random"
    first = TFDSSource("owls:1.2.0", "train[:4]", folder)
    last = TFDSSource("owls", "train[4:]+test", folder)
    assert (len(first), len(last)) == (4, 11)
    rest, held_out = hold_out(last, 3, stratified=True)
    assert (len(rest), len(held_out)) == (8, 3)
    image, label = held_out[2]
    assert label == held_out.labels[2] == ((int(image[0, 0, 0]) - 1) // 20) % 3


def test_batches_are_read_in_threads(prepared):
    source = TFDSSource("owls", data_dir=prepared / "random")
    images, labels = next(iter(train_batches(source, TrainTransform(6), 5, stop=1)))
    assert images.shape == (5, 6, 6, 3)
    value = np.rint((images[:, 0, 0, 0] + 1) * 127.5).astype(int)
    np.testing.assert_array_equal(labels, (value - 1) // 20 % 3)
    batches = list(eval_batches(source, EvalTransform(6), 4))
    assert [len(labels) for _, labels in batches] == [4, 4, 3]


def test_a_name_is_read_without_tensorflow(prepared):
    code = (
        "import sys; from keras_vit_scale.data import open_source\n"
        "source = open_source('tfds:owls:1.2.0@test[:3]')\n"
        "print(len(source), source[0][0].shape[1:], sorted(source.labels.tolist()) != [],"
        " 'tensorflow' in sys.modules)"
    )
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "TFDS_DATA_DIR": str(prepared / "random"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split("\n")[0] == "3 (7, 3) True False", done.stderr


def test_what_tensorflow_itself_writes(tmp_path):
    """By a process of its own; our parser reads every kind of feature as TensorFlow's does."""
    code = """
import sys, io, numpy as np, tensorflow as tf
def example(i):
    f = lambda **kind: tf.train.Feature(**kind)
    image = tf.io.encode_png(np.full((3 + i, 4, 3), i, np.uint8)).numpy()
    return tf.train.Example(features=tf.train.Features(feature={
        "image": f(bytes_list=tf.train.BytesList(value=[image])),
        "label": f(int64_list=tf.train.Int64List(value=[i, i + 1])),
        "negative": f(int64_list=tf.train.Int64List(value=[-2**62 - i])),
        "floats": f(float_list=tf.train.FloatList(value=[0.5, -i])),
        "nothing": f(),
    })).SerializeToString()
with tf.io.TFRecordWriter(sys.argv[1]) as writer:
    for i in range(3):
        writer.write(example(i))
open(sys.argv[1] + ".one", "wb").write(example(2))
"""
    path = tmp_path / "a.tfrecord"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)
    source = TFRecordShards(path)
    assert source.labels.tolist() == [[0, 1], [1, 2], [2, 3]]
    for i in range(3):
        np.testing.assert_array_equal(source[i][0], np.full((3 + i, 4, 3), i))
    found = parse_example((tmp_path / "a.tfrecord.one").read_bytes())
    assert found["negative"] == [-(2**62) - 2]
    assert found["floats"] == [0.5, -2.0]
    assert found["nothing"] == []


def test_both_formats_have_the_same_pixels_and_order(prepared):
    """What TFDS prepared as TFRecord is found by an index, without TensorFlow."""
    for split in ("train", "train[:4]", "train[3:9]", "test+train[70%:]", "train[:2]+train[5:]"):
        serial, random = (TFDSSource("owls", split, prepared / f) for f in ("serial", "random"))
        assert len(serial) == len(random)
        np.testing.assert_array_equal(serial.labels, random.labels)
        assert serial.class_names == random.class_names
        for i in range(len(serial)):
            (image, label), (expected, other) = serial[i], random[i]
            np.testing.assert_array_equal(image, expected)
            assert label == other
    again = pickle.loads(pickle.dumps(serial))
    np.testing.assert_array_equal(again[1][0], serial[1][0])


def test_pixels_are_those_of_tfds_itself(prepared):
    import tensorflow_datasets as tfds

    own = tfds.builder("owls", data_dir=prepared / "random").as_data_source("train")
    source = TFDSSource("owls", "train", prepared / "serial")
    for i in range(11):
        np.testing.assert_array_equal(source[i][0], own[i]["image"])


def test_a_damaged_file_of_tfds_is_named(prepared, tmp_path):
    shutil.copytree(prepared / "serial", tmp_path / "serial")
    [path] = (tmp_path / "serial" / "owls").rglob("*train*tfrecord*")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(BadShardError, match=r"owls-train\.tfrecord.*truncated"):
        TFDSSource("owls", "train", tmp_path / "serial")


@pytest.mark.parametrize(
    ("name", "split", "folder", "message"),
    [
        ("owls", "trian", "random", r"must be one of \['test', 'train'\].*Received: 'trian'"),
        ("owls", "train[5%", "random", "a slice such as"),
        ("owls", "train[:0]", "random", "hold images"),
        ("owls", "trian", "serial", r"must be one of \['test', 'train'\].*Received: 'trian'"),
        ("owls", "train[:0]", "serial", "hold images"),
        ("cifar10", "train", "random", "must be prepared first: .*download_and_prepare"),
        ("cifar10:9.9.9", "train", "random", "cannot be loaded at version 9.9.9"),
        ("cifr10", "train", "random", r"near it are \['cifar10'"),
        ("unpaired", "train", "random", "a class as its supervised pair"),
        ("transparent", "train", "random", r"one channel or three.*\(None, None, 4\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_cure(prepared, name, split, folder, message):
    with pytest.raises(ValueError, match=message):
        TFDSSource(name, split, prepared / folder)


def test_another_format_is_refused(prepared, tmp_path):
    shutil.copytree(prepared / "serial", tmp_path / "other")
    [info] = (tmp_path / "other" / "owls").rglob("dataset_info.json")
    info.write_text(info.read_text().replace('"tfrecord"', '"riegeli"'))
    with pytest.raises(ValueError, match=r"file_format='array_record'.*as \['riegeli'\]"):
        TFDSSource("owls", "train", tmp_path / "other")


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"keras-vit-scale\[tfds\]"):
        open_source("tfds:cifar10")
