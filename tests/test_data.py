"""Sources, splits, preprocessing and batches, on arrays and on real image files."""

from typing import ClassVar

import keras
import numpy as np
import pytest
from PIL import Image

from keras_vit_scale.data import (
    ArraySource,
    EvalTransform,
    ImageFolder,
    Subset,
    TrainTransform,
    digits,
    eval_batches,
    hold_out,
    hold_out_classes,
    open_source,
    train_batches,
)
from keras_vit_scale.data.preprocessing import (
    central_crop,
    inception_box,
    random_shift,
    resize,
    resize_short,
    to_input,
)


@pytest.fixture
def folder(tmp_path, rng):
    """Digits as files: two classes, PNG and JPEG, grey and colour, of mixed sizes."""
    source = digits()
    for i, (name, suffix, mode, size) in enumerate(
        [
            ("three/b.png", "PNG", "L", (8, 8)),
            ("three/a.jpg", "JPEG", "RGB", (13, 11)),
            ("three/c.JPEG", "JPEG", "L", (9, 17)),
            ("one/z.png", "PNG", "RGBA", (12, 8)),
            ("one/y.webp", "WEBP", "RGB", (10, 10)),
        ]
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(source[i][0][..., 0]).resize(size).convert(mode).save(path, suffix)
    (tmp_path / "one" / "notes.txt").write_text("not an image")
    (tmp_path / "README").write_text("not a class")
    return tmp_path


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = load_digits()
    source = digits()
    assert len(source) == 1797
    assert source.class_names == tuple("0123456789")
    image, label = source[5]
    assert image.shape == (8, 8, 1)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[..., 0] / 255, data.images[5] / 16, atol=0.5 / 255)
    assert label == data.target[5]


def test_folder_is_read_in_the_order_of_its_names(folder):
    source = ImageFolder(folder)
    assert source.class_names == ("one", "three")
    assert [f.name for f in source.files] == ["y.webp", "z.png", "a.jpg", "b.png", "c.JPEG"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    shapes = [source[i][0].shape for i in range(len(source))]
    assert shapes == [(10, 10, 3), (8, 12, 3), (11, 13, 3), (8, 8, 3), (17, 9, 3)]
    np.testing.assert_array_equal(source[3][0][..., :1], digits()[0][0])


def test_sixteen_bit_grey_keeps_its_values(tmp_path):
    (tmp_path / "a").mkdir()
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a" / "deep.png")
    image, _ = ImageFolder(tmp_path)[0]
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]


def test_unreadable_file_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    with pytest.raises(ValueError, match=r"broken\.png"):
        ImageFolder(tmp_path)[0]


def test_names_open(tmp_path, folder):
    whole = digits()
    np.savez(
        tmp_path / "d.npz",
        images=whole.images[:7],
        labels=whole.labels[:7],
        class_names=[f"digit {i}" for i in range(10)],
    )
    source = open_source(tmp_path / "d.npz")
    np.testing.assert_array_equal(source.images, whole.images[:7])
    assert source.class_names[3] == "digit 3"
    assert len(open_source("digits")) == 1797
    assert len(open_source(str(folder))) == 5


def test_npz_may_be_named_as_keras_names_its_data(tmp_path):
    """Splits behind an "@", and labels of shape (N, 1)."""
    images, labels = digits().images, digits().labels
    path = tmp_path / "k.npz"
    np.savez(
        path, x_train=images[:5], y_train=labels[:5, None], x_test=images[5:8], y_test=labels[5:8]
    )
    train, test = open_source(path), open_source(f"{path}@test")
    assert open_source(f"{path}@train").labels.tolist() == train.labels.tolist()
    np.testing.assert_array_equal(train.images, images[:5])
    assert train.labels.tolist() == labels[:5].tolist()
    assert test.labels.tolist() == labels[5:8].tolist()
    with pytest.raises(ValueError, match=r"without \['x_valid', 'y_valid'\], with \['x_test'"):
        open_source(f"{path}@valid")


def test_damaged_and_pickled_npz_files_are_named(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, images=IMAGES, labels=[0, 1, 1])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"images", b"imagez", 1)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"d\.npz"):
            open_source(path)
    np.savez(path, images=np.array([{}, {}, {}]), labels=[0, 1, 1])
    with pytest.raises(ValueError, match=r"d\.npz.*(allow_pickle|Object arrays)"):
        open_source(path)


def test_misspelt_names_get_a_suggestion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers").mkdir()
    (tmp_path / "list.csv").write_text("a,b")
    for name, message in (
        ("digit", "Did you mean 'digits'"),
        ("flower", "Did you mean 'flowers'"),
        (str(tmp_path / "flowrs"), r"Did you mean '.*flowers'"),
        ("list.csv", "exists but is neither folder nor .npz"),
        ("nothing at all", r"'tfds:NAME@SPLIT'.*Received: 'nothing at all'$"),
        ("tfds:", "'tfds:NAME' or 'tfds:NAME@SPLIT'"),
        ("tfds:mnist@", "'tfds:NAME' or 'tfds:NAME@SPLIT'"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(name)


IMAGES = np.zeros((3, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IMAGES[:0], []), "at least one image"),
        ((IMAGES.astype("float32"), [0, 1, 1]), r"must be uint8.*\(images \* 255\)\.round"),
        ((IMAGES.astype("int64"), [0, 1, 1]), r"must be uint8.*images\.astype\('uint8'\)"),
        ((np.zeros((3, 4, 4, 2), np.uint8), [0, 1, 1]), "must be uint8"),
        ((IMAGES, [0, 1]), "one integer an image"),
        ((IMAGES, [0.0, 1.0, 1.0]), "one integer an image"),
        ((IMAGES, [0, -1, 1]), r"in \[0, 2\).*\[-1\]"),
        ((IMAGES, [0, 1, 2], ["a", "b"]), r"in \[0, 2\).*\[2\]"),
    ],
)
def test_bad_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArraySource(*arguments)


def test_bad_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must exist"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"one folder of images a class.*holds no folder$"):
        ImageFolder(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "loose.png").touch()
    with pytest.raises(ValueError, match="but images; is the folder above it meant"):
        ImageFolder(tmp_path / "empty")
    (tmp_path / "empty" / "loose.png").unlink()
    with pytest.raises(ValueError, match=r"empty' without any"):
        ImageFolder(tmp_path)
    with pytest.raises(ValueError, match="must be 'digits'"):
        open_source("cifar")
    np.savez(tmp_path / "x.npz", images=IMAGES)
    with pytest.raises(ValueError, match=r"without \['labels'\], with \['images'\]"):
        open_source(tmp_path / "x.npz")


def test_parts_share_no_image():
    source = digits()
    rest, held_out = hold_out(source, 597, seed=3)
    assert (len(rest), len(held_out)) == (1200, 597)
    assert not set(rest.indices) & set(held_out.indices)
    image, label = held_out[11]
    np.testing.assert_array_equal(image, source[held_out.indices[11]][0])
    assert label == source.labels[held_out.indices[11]]
    assert set(hold_out(source, 597, seed=4)[1].indices) != set(held_out.indices)


def test_classes_held_out_are_renumbered():
    source = digits()
    rest, held_out = hold_out_classes(source, ["7", "3"])
    assert held_out.class_names == ("3", "7")
    assert len(rest) + len(held_out) == len(source)
    for part in (rest, held_out):
        for i in (0, len(part) - 1):
            label = part[i][1]
            assert part.class_names[label] == str(source.labels[part.indices[i]])
            assert part.labels[i] == label


def test_a_share_is_held_out():
    """One percent upstream, as the paper keeps it: the same images as that number of them."""
    source = digits()
    rest, held_out = hold_out(source, 0.01, seed=3)
    assert (len(rest), len(held_out)) == (1779, 18)
    np.testing.assert_array_equal(held_out.indices, hold_out(source, 18, seed=3)[1].indices)


@pytest.mark.parametrize("count", [3, 100, 0.4])
def test_stratified_parts_have_the_shares_of_scikit_learn(count):
    """Unequal classes: 2, 5, 11, 40 and 139 images."""
    from sklearn.model_selection import train_test_split

    labels = np.repeat(np.arange(5), [2, 5, 11, 40, 139])
    source = ArraySource(np.zeros((197, 2, 2), np.uint8), labels)
    rest, held_out = hold_out(source, count, seed=1, stratified=True)
    assert not set(rest.indices) & set(held_out.indices)
    assert len(rest) + len(held_out) == 197
    share = np.bincount(labels) * len(held_out) / 197
    assert np.abs(np.bincount(held_out.labels, minlength=5) - share).max() < 1
    if len(held_out) >= 5:  # scikit-learn wants one of each class
        _, expected = train_test_split(labels, test_size=len(held_out), stratify=labels)
        np.testing.assert_array_equal(np.bincount(held_out.labels), np.bincount(expected))
    again = hold_out(source, count, seed=1, stratified=True)[1]
    np.testing.assert_array_equal(again.indices, held_out.indices)
    other = hold_out(source, count, seed=2, stratified=True)[1]
    assert set(other.indices) != set(held_out.indices)


@pytest.mark.parametrize("count", [0, 1797, -1, 1e-4])
def test_impossible_splits_are_refused(count):
    with pytest.raises(ValueError, match="leave some on both sides"):
        hold_out(digits(), count)


@pytest.mark.parametrize("count", [1.0, 0.0, 2.5, True, "10%"])
def test_counts_that_are_neither_number_nor_share_are_refused(count):
    with pytest.raises(ValueError, match="a number of images or a share"):
        hold_out(digits(), count)


@pytest.mark.parametrize("names", [[], ["eleven"], list("0123456789")])
def test_impossible_class_splits_are_refused(names):
    with pytest.raises(ValueError, match="some, but not all"):
        hold_out_classes(digits(), names)


def test_subset_refuses_classes_it_does_not_keep():
    with pytest.raises(ValueError, match="must be of its classes"):
        Subset(digits(), [0, 1], classes=[0])


def test_resizes_keep_what_they_should(rng):
    image = rng.integers(0, 256, (30, 45, 3), dtype=np.uint8)
    assert resize(image, (7, 11)).shape == (7, 11, 3)
    assert resize(image[..., :1], (7, 11)).shape == (7, 11, 1)
    assert resize(image, (30, 45)) is image
    assert resize_short(image, 20).shape == (20, 30, 3)
    assert resize_short(image.transpose(1, 0, 2), 20).shape == (30, 20, 3)
    np.testing.assert_array_equal(central_crop(image, (10, 5)), image[10:20, 20:25])
    # Halving averages, so a board of black and white turns grey.
    board = np.indices((8, 8)).sum(0)[..., None].astype(np.uint8) % 2 * 255
    assert np.abs(resize(board, (4, 4))[1:-1, 1:-1].astype(int) - 127).max() <= 16


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    # 256 for the short side; 333 * 256 / 500 = 170.496, 500 * 256 / 333 = 384.384.
    [(500, 333, (384, 256)), (333, 500, (256, 384)), (256, 256, (256, 256)), (3, 7, (256, 597))],
)
def test_short_side_sizes_by_hand(height, width, expected):
    assert resize_short(np.zeros((height, width, 1), np.uint8), 256).shape[:2] == expected


def test_inception_box_of_an_unfit_image_is_all_of_it(rng):
    """No part of 3:4 to 4:3 with all of this area lies in a strip."""
    assert inception_box(2, 40, rng, area=(1.0, 1.0)) == (0, 0, 2, 40)


def test_inception_crop_is_its_box_alone(rng):
    """Resized as jax does; what lies around the box has no part in it."""
    import jax

    image = rng.integers(0, 256, (30, 45, 3), dtype=np.uint8)
    top, left, height, width = inception_box(30, 45, np.random.default_rng(5))
    part = image[top : top + height, left : left + width].astype(np.float32)
    expected = np.asarray(jax.image.resize(part, (7, 11, 3), "linear", antialias=True))
    found = TrainTransform((7, 11), flip=False)(image, np.random.default_rng(5))
    np.testing.assert_allclose(found, expected, atol=1.01)


def test_central_crop_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="must fit the image"):
        central_crop(np.zeros((5, 9, 1), np.uint8), (6, 6))


def test_inception_boxes_cover_the_stated_areas(rng):
    boxes = np.array([inception_box(60, 80, rng) for _ in range(2000)])
    top, left, height, width = boxes.T
    area = width * height / (60 * 80)
    assert (boxes >= 0).all()
    assert (top + height <= 60).all()
    assert (left + width <= 80).all()
    assert area.min() == pytest.approx(0.05, abs=0.02)
    assert area.max() > 0.9
    # Sides are rounded to pixels, which moves the smallest aspects by a few percent.
    assert (width / height).min() > 0.70
    assert (width / height).max() < 1.42


def test_inception_boxes_are_drawn_evenly(rng):
    """By area, and by width over height, as Szegedy et al. have it; all of these boxes fit."""
    from scipy.stats import kstest

    boxes = [inception_box(4000, 4000, rng, area=(0.05, 0.5))[2:] for _ in range(2000)]
    height, width = np.array(boxes).T
    assert kstest(width * height / 4000**2, "uniform", (0.05, 0.45)).pvalue > 0.01
    assert kstest(width / height, "uniform", (3 / 4, 4 / 3 - 3 / 4)).pvalue > 0.01
    # A quarter of 6 x 6 pixels lies at sixteen places.
    places = {inception_box(6, 6, rng, area=(0.25, 0.25), aspect=(1, 1)) for _ in range(400)}
    assert places == {(top, left, 3, 3) for top in range(4) for left in range(4)}


def test_random_shift_moves_by_at_most_its_pixels(rng):
    image = np.zeros((5, 5, 1), np.uint8)
    image[2, 2] = 9
    places = {tuple(np.argwhere(random_shift(image, 1, rng)[..., 0])[0]) for _ in range(200)}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}


def test_to_input_is_rgb_between_minus_one_and_one():
    batch = np.array([0, 255, 51], np.uint8).reshape(1, 1, 3, 1)
    values = to_input(batch)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0, 0], [[-1] * 3, [1] * 3, [-0.6] * 3], atol=1e-6)


def test_eval_transforms_follow_the_paper(rng):
    image = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    short = resize(image, (256, 341))
    np.testing.assert_array_equal(
        EvalTransform(224, "short")(image), short[16 : 16 + 224, 58 : 58 + 224]
    )
    squashed = resize(image, (256, 256))
    np.testing.assert_array_equal(EvalTransform(224, "squash")(image), squashed[16:240, 16:240])
    np.testing.assert_array_equal(EvalTransform(224, "none")(image), resize(image, (224, 224)))
    # Fine-tuned models: short side 448, central 384.
    short = resize(image, (448, 597))
    np.testing.assert_array_equal(
        EvalTransform(384, margin=448 / 384)(image), short[32 : 32 + 384, 106 : 106 + 384]
    )
    # Of sides 40 and 60 the longer has its margin: short side 90.
    np.testing.assert_array_equal(
        EvalTransform((40, 60), margin=1.5)(image), resize(image, (90, 120))[25:65, 30:90]
    )


def test_flip_mirrors_half_of_the_images(rng):
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    transform = TrainTransform(2, crop="none", flip=True)
    mirrored = [np.array_equal(transform(image, rng), image[:, ::-1]) for _ in range(400)]
    assert 150 < sum(mirrored) < 250
    still = TrainTransform(2, crop="none", flip=False)
    np.testing.assert_array_equal(still(image, rng), image)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainTransform(8, crop="incpetion"), "`crop` must be one of"),
        (lambda: TrainTransform(8, max_shift=-1), "`max_shift` must not be negative"),
        (lambda: TrainTransform(0), "`image_size` must be a positive integer"),
        (lambda: EvalTransform(8, resize="crop"), "`resize` must be one of"),
        (lambda: EvalTransform(8, margin=0.9), "`margin` must be at least 1"),
        (lambda: EvalTransform(8, margin=float("nan")), "`margin` must be at least 1"),
        (lambda: train_batches(digits(), TrainTransform(8), 0), "`batch_size` must be a positive"),
        (lambda: train_batches(digits(), TrainTransform(8), 4, start=-1), "must be a range"),
        (lambda: train_batches(digits(), TrainTransform(8), 4, start=3, stop=2), "must be a range"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Each image's first pixel is its index, so that batches can be traced to images.
TRACED = ArraySource(
    np.tile(np.arange(23, dtype=np.uint8)[:, None, None], (1, 4, 4)), np.arange(23) % 5
)
STILL = TrainTransform(4, crop="none", flip=False)


def indices(batches):
    return [np.rint((images[:, 0, 0, 0] + 1) * 127.5).astype(int).tolist() for images, _ in batches]


def test_every_image_comes_once_an_epoch_in_a_new_order():
    seen = np.concatenate(indices(train_batches(TRACED, STILL, 7, stop=23))).reshape(7, 23)
    for epoch in seen:
        assert sorted(epoch) == list(range(23))
    assert len({tuple(epoch) for epoch in seen}) == 7


def test_labels_belong_to_their_images():
    for images, labels in train_batches(TRACED, STILL, 7, stop=4):
        traced = np.rint((images[:, 0, 0, 0] + 1) * 127.5).astype(int)
        np.testing.assert_array_equal(labels, traced % 5)


def test_batches_are_a_function_of_seed_and_step():
    source, transform = digits(), TrainTransform(6, crop="inception", flip=True)

    def run(seed, start, stop):
        return list(train_batches(source, transform, 5, seed=seed, start=start, stop=stop))

    whole = run(1, 0, 9)
    for (a, la), (b, lb) in zip(whole[4:], run(1, 4, 9), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(la, lb)
    assert any(not np.array_equal(a, b) for (a, _), (b, _) in zip(whole, run(2, 0, 9), strict=True))


def test_neighbouring_seeds_do_not_share_their_permutations():
    epochs = {
        seed: np.concatenate(indices(train_batches(TRACED, STILL, 23, seed=seed, stop=4))).reshape(
            4, 23
        )
        for seed in (0, 1)
    }
    assert not {tuple(e) for e in epochs[0]} & {tuple(e) for e in epochs[1]}


def test_eval_batches_come_in_order_and_end_with_the_rest():
    batches = indices(eval_batches(TRACED, EvalTransform(4, resize="none"), 10))
    assert batches == [list(range(10)), list(range(10, 20)), [20, 21, 22]]


@pytest.mark.parametrize("hosts", [2, 3, 6])
def test_hosts_together_have_the_batches_of_one(hosts):
    """Host h has rows h B / n to (h + 1) B / n, whatever they are; pixels too."""
    options = {"seed": 3, "start": 2, "stop": 6, "offset": 5}
    source, transform = digits(), TrainTransform(7, crop="inception", flip=True)
    whole = list(train_batches(source, transform, 12, **options))
    parts = [
        list(train_batches(source, transform, 12, shard=(host, hosts), **options))
        for host in range(hosts)
    ]
    for batch, *pieces in zip(whole, *parts, strict=True):
        for array, *rows in zip(batch, *pieces, strict=True):
            assert {len(r) for r in rows} == {12 // hosts}
            np.testing.assert_array_equal(np.concatenate(rows), array)


def test_a_host_reads_its_own_images_alone():
    class Counted(ArraySource):
        read: ClassVar[list[int]] = []

        def __getitem__(self, index):
            self.read.append(index)
            return super().__getitem__(index)

    counted = Counted(TRACED.images, TRACED.labels)
    seen = np.concatenate(indices(train_batches(counted, STILL, 4, stop=3, shard=(1, 2))))
    assert sorted(counted.read) == sorted(seen)


def test_pixels_are_a_function_of_seed_epoch_and_image(rng):
    """By them alone: not of the place in the stream, nor of the size of batches."""
    images = rng.integers(0, 256, (11, 13, 17, 3), dtype=np.uint8)
    images[:, :, :, 0] = np.arange(11)[:, None, None]  # resizing keeps what is even
    source = ArraySource(images, np.arange(11))

    def seen(batch_size, epoch, seed):
        start = epoch * 11 // batch_size
        batches = train_batches(
            source, TrainTransform(5), batch_size, seed=seed,
            start=start, stop=start + 11 // batch_size, offset=epoch * 11 - start * batch_size,
        )  # fmt: skip
        found = {int(y): x for xs, ys in batches for x, y in zip(xs, ys, strict=True)}
        assert len(found) == 11
        return found

    one = seen(11, 2, 5)
    for label, pixels in seen(1, 2, 5).items():
        np.testing.assert_array_equal(pixels, one[label])
    for other in (seen(11, 3, 5), seen(11, 2, 6)):
        assert not any(np.array_equal(other[label], one[label]) for label in one)


@pytest.mark.parametrize("hosts", [1, 2, 5])
@pytest.mark.parametrize("images", [1, 20, 23])
def test_filled_batches_cover_each_image_once_on_all_hosts(hosts, images):
    source = Subset(TRACED, range(images))
    parts = [
        list(eval_batches(source, EvalTransform(4), 10, shard=(host, hosts), pad=True))
        for host in range(hosts)
    ]
    seen = []
    for pieces in zip(*parts, strict=True):
        x, y, weights = (np.concatenate(rows) for rows in zip(*pieces, strict=True))
        assert (len(x), weights.dtype) == (10, np.float32)
        traced = np.rint((x[:, 0, 0, 0] + 1) * 127.5).astype(int)
        np.testing.assert_array_equal(y[weights == 1], traced[weights == 1] % 5)
        assert set(weights.tolist()) <= {0, 1}
        assert np.isfinite(x).all()
        seen += traced[weights == 1].tolist()
    assert seen == list(range(images))


def test_evaluate_counts_the_weights_of_filled_batches():
    """23 images in batches of 10: what NumPy says of the 23 is what `weighted_metrics` say."""
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    exact = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="exact")
    model.compile("sgd", loss, weighted_metrics=["accuracy", exact])
    filled = eval_batches(TRACED, EvalTransform(4), 10, pad=True)
    found = model.evaluate(filled, steps=3, verbose=0, return_dict=True)
    [(x, y)] = eval_batches(TRACED, EvalTransform(4), 23)
    logits = keras.ops.convert_to_numpy(model(x))
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == y).mean(), abs=1e-6)
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(23), y]
    assert found["exact"] == pytest.approx(nll.mean(), rel=1e-5)
    assert found["loss"] == pytest.approx(nll.sum() / 30, rel=1e-5)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((2, 2), "counted from 0, and the number of hosts"),
        ((-1, 2), "counted from 0"),
        ((0, 0), "counted from 0"),
        ((0.0, 1), "counted from 0"),
        (3, "counted from 0"),
        ((0, 3), "a multiple of their number"),
    ],
)
def test_impossible_shards_are_refused(shard, message):
    with pytest.raises(ValueError, match=message):
        train_batches(TRACED, STILL, 4, shard=shard)
    with pytest.raises(ValueError, match=message):
        eval_batches(TRACED, EvalTransform(4), 4, shard=shard, pad=True)


def test_several_hosts_evaluate_filled_batches_alone():
    with pytest.raises(ValueError, match="pass `pad=True`"):
        eval_batches(TRACED, EvalTransform(4), 4, shard=(0, 2))


def test_fit_takes_the_batches_and_sees_each_step(folder):
    """A folder of mixed sizes trains a Keras model, on whichever backend."""
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = train_batches(ImageFolder(folder), TrainTransform(6), 3, stop=8)
    history = model.fit(data, steps_per_epoch=4, epochs=2, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 8
    assert np.isfinite(history.history["loss"]).all()
