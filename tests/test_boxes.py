"""Parts of images that are cut out while they are read: those of the items, whatever the source."""

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale.data import (
    ArraySource,
    ImageFolder,
    Mixture,
    ReplaceBad,
    Subset,
    TrainTransform,
    WithAncestors,
    open_source,
    resize,
    subset,
    train_batches,
)
from keras_vit_scale.data.boxes import cut, read_from
from keras_vit_scale.data.pipeline import _Part
from keras_vit_scale.data.resizing import FILTERS

pytestmark = numpy_alone


@pytest.fixture
def folder(tmp_path, rng):
    """Eleven images of two classes, of sizes that no two share."""
    for i in range(11):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (19 + i, 31 - i, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def tar_shards(folder):
    import tarfile

    with tarfile.open(folder.parent / "images-000.tar", "w") as tar:
        for i, path in enumerate(sorted(folder.glob("*/*.png"))):
            label = folder.parent / "label.cls"
            label.write_text(str("ab".index(path.parent.name)))
            tar.add(path, f"{i}.png")
            tar.add(label, f"{i}.cls")
    return open_source(folder.parent / "images-000.tar")


def mixture(folder):
    return Mixture({"all": ImageFolder(folder), "few": Subset(ImageFolder(folder), [3, 1])})


SOURCES = {
    "folder": ImageFolder,
    "tar shards": tar_shards,
    "subset": lambda folder: subset(ImageFolder(folder), 7),
    "ancestors": lambda folder: WithAncestors(ImageFolder(folder), {"a": "letter", "b": "letter"}),
    "mixture": mixture,
    "part of a mixture": lambda folder: _Part(mixture(folder), mixture(folder).parts[1]),
    "replaced": lambda folder: ReplaceBad(ImageFolder(folder)),
    "nested": lambda folder: Subset(ReplaceBad(subset(ImageFolder(folder), 7)), [5, 2]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_cuts_while_it_reads(folder, name):
    source = SOURCES[name](folder)
    for index in range(len(source)):
        whole, label = source[index]
        box = (index % 5, 3, 7, 11)
        sizes = []
        found, same = read_from(source, index, lambda *size, b=box, s=sizes: s.append(size) or b)
        # No array was made of it: what was asked for reached the decoder.
        assert isinstance(found, Image.Image)
        np.testing.assert_array_equal(np.asarray(found), cut(whole, box))
        np.testing.assert_array_equal(same, label)
        assert sizes == [whole.shape[:2]]


def test_items_of_other_sources_are_cut(rng):
    images = rng.integers(0, 256, (3, 13, 17, 1), dtype=np.uint8)
    found, label = read_from(ArraySource(images, [0, 1, 1]), 2, lambda *_: (1, 2, 3, 5))
    np.testing.assert_array_equal(found, images[2, 1:4, 2:7])
    assert label == 1


def test_a_class_of_its_own_items_is_asked_for_them(folder):
    """Somebody's image folder that changes what it reads."""

    class Inverted(ImageFolder):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return 255 - image, label

    transform = TrainTransform(8)
    plain, inverted = (
        next(iter(train_batches(source, transform, 11, seed=3)))[0]
        for source in (Subset(ImageFolder(folder), range(11)), Subset(Inverted(folder), range(11)))
    )
    np.testing.assert_allclose(inverted, -plain, atol=2.01 / 255)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(7, 11), (31, 19), (23, 29), (61, 97)])
def test_pillows_pictures_are_resized_like_arrays(rng, filter, antialias, size):
    image = rng.integers(0, 256, (23, 29, 3), dtype=np.uint8)
    found = resize(Image.fromarray(image), size, filter, antialias)
    assert (type(found), found.dtype) == (np.ndarray, np.uint8)
    np.testing.assert_array_equal(found, resize(image, size, filter, antialias))


def test_batches_are_of_what_the_transform_makes_of_items(folder):
    """Drawn from the same generator, in the same order: a box, then a flip."""
    source, transform = ImageFolder(folder), TrainTransform((13, 17))
    drawn = []

    class Noted(TrainTransform):
        def box(self, height, width, rng):
            drawn.append((height, width, rng.bit_generator.state))
            return super().box(height, width, rng)

    found = train_batches(source, Noted((13, 17)), 11, seed=5, stop=1)
    (images, _), sizes = next(iter(found)), {source[i][0].shape[:2]: i for i in range(11)}
    expected = []
    for height, width, state in drawn:
        rng = np.random.Generator(np.random.Philox())
        rng.bit_generator.state = state
        expected.append(transform(source[sizes[height, width]][0], rng) / 127.5 - 1)
    np.testing.assert_allclose(images, expected, atol=1e-6)
