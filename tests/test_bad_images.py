"""Planted bad files: replaced, listed, limited; in a run, killed or not, and within memory."""

import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone
from PIL import Image
from test_decode import png
from test_run import assert_same_end

from keras_vit_scale import cli
from keras_vit_scale.data import (
    BadImageError,
    ImageFolder,
    ReplaceBad,
    TooManyBadImagesError,
    digits,
    hold_out,
)
from keras_vit_scale.data.ledger import Ledger
from keras_vit_scale.runs import RunError, TrainConfig, train

IMAGES = 41

CONFIG = TrainConfig(
    "width=6,depth=1,mlp_dim=7,heads=2,patch_size=4",
    "",
    steps=17,
    validation=7,
    evaluate_every=7,
    image_size=8,
    batch_size=13,
    crop="shift",
    resize="none",
    dropout=0.1,
    peak=0.01,
    warmup=2,
    checkpoint_every=5,
    log_every=5,
    bad_images="replace",
    max_bad=10,
)


def sound(root):
    """A folder of digits in two classes, as JPEG; every fifth is named as what it is not."""
    source = digits()
    for i in range(IMAGES):
        path = root / ("even", "odd")[i % 2] / f"{i:02d}.{'png' if i % 5 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(source[i][0][..., 0]).resize((32, 27))
        picture.save(path, "JPEG", quality=90)
    return root


def plant(root):
    """Makes ten files of a sound folder bad, each in its way; their names."""
    files = sorted(root.glob("*/*"))
    ways = [
        lambda path: path.write_bytes(path.read_bytes()[:3]),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:-2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("This was a picture once."),
        # Whole, 12 kilobytes, and a hundred million pixels.
        lambda path: path.write_bytes(bomb()),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        lambda path: Image.new("F", (3, 2)).save(path, "TIFF"),
    ]
    planted = files[1 : 1 + 3 * len(ways) : 3]
    for path, make_bad in zip(planted, ways, strict=True):
        make_bad(path)
    return {str(path) for path in planted}


def bomb():
    """A PNG of 10,000 x 10,000 white pixels."""
    # Of one bit each.
    return png(np.full((10_000, 1250), 255, np.uint8), 0, (10_000, 10_000), depth=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A sound folder, one with bad files, and what is bad in it."""
    root = tmp_path_factory.mktemp("images")
    good = sound(root / "good")
    shutil.copytree(good, root / "bad")
    return good, root / "bad", plant(root / "bad")


def listed(path):
    table = pd.read_csv(path)
    assert list(table.columns) == ["file", "reason"]
    assert len(set(table["file"])) == len(table)
    return set(table["file"])


@numpy_alone
def test_another_of_its_class_stands_in_whatever_was_read_before(folders, tmp_path):
    _, bad, planted = folders
    source = ImageFolder(bad)
    assert len(source) == IMAGES
    orders = [range(IMAGES), reversed(range(IMAGES)), np.random.default_rng(1).permutation(IMAGES)]
    first = None
    for number, order in enumerate(orders):
        whole = ReplaceBad(source, tmp_path / f"{number}.csv", limit=10)
        items = {int(i): whole[i] for i in order}
        assert [items[i][1] for i in range(IMAGES)] == source.labels.tolist()
        assert listed(tmp_path / f"{number}.csv") == planted
        first = first or items
        for i, (image, _) in items.items():
            np.testing.assert_array_equal(image, first[i][0])
            if str(source.files[i]) not in planted:
                np.testing.assert_array_equal(image, source[i][0])
    # No two of the ten have the same in their place, here.
    replacements = {first[source.files.index(Path(name))][0].tobytes() for name in planted}
    assert len(replacements) > 5


class Named:
    """A source in memory, some of whose items are bad."""

    def __init__(self, labels, bad):
        self.labels, self.bad = np.array(labels), bad
        self.class_names = tuple("abc")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if index in self.bad:
            raise BadImageError(f"image {index}", "broken")
        return np.full((2, 2, 3), index, np.uint8), int(self.labels[index])


@numpy_alone
def test_a_class_without_others_is_replaced_with_its_label():
    source = ReplaceBad(Named([0, 1, 1, 2], bad={0}), limit=1)
    image, label = source[0]
    assert image[0, 0, 0] in (1, 2, 3)
    assert label == source.labels[image[0, 0, 0]]
    source = ReplaceBad(Named([0, 1, 1, 2], bad={1}), limit=1)
    assert (source[1][0] == 2).all()
    source = ReplaceBad(Named([0, 1, 1], bad={0, 1, 2}), limit=3)
    with pytest.raises(TooManyBadImagesError, match=r"none of which can; first 'image 0': broken"):
        source[0]


@numpy_alone
def test_beyond_the_limit_the_first_are_named(tmp_path):
    source = ReplaceBad(Named([0] * 100, bad={3, 5, 7}), tmp_path / "l.csv", limit=0.02)
    assert source.limit == 2
    for index in (3, 5, 3, 5):
        source[index]
    message = r"At most 2 images.*Received: 3 so far; first 'image 3': broken; 'image 5'.*l\.csv"
    with pytest.raises(TooManyBadImagesError, match=message):
        source[7]
    # Another process, or the run that goes on, counts what is listed.
    with pytest.raises(TooManyBadImagesError, match="Received: 3 so far"):
        ReplaceBad(Named([0] * 100, bad={3}), tmp_path / "l.csv", limit=2)[3]
    with pytest.raises(TooManyBadImagesError, match="At most 0 images"):
        ReplaceBad(Named([0] * 100, bad={3}), limit=0)[3]
    for limit in (-1, 1.0, 0.0, 1.5, True, "3"):
        with pytest.raises(ValueError, match="must be a number of images, from 0 on, or a part"):
            ReplaceBad(Named([0], bad=()), limit=limit)


@numpy_alone
def test_other_errors_are_not_replaced(folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "disk")
    source = ReplaceBad(ImageFolder(tmp_path / "disk"), tmp_path / "l.csv")
    shutil.rmtree(tmp_path / "disk" / "odd")
    odd = int(np.flatnonzero(source.labels == 1)[0])
    with pytest.raises(FileNotFoundError):
        source[odd]
    assert not (tmp_path / "l.csv").exists()


def note_all(path, start):
    ledger = Ledger(path)
    for i in range(30):
        ledger.note(f"{(start + i) % 30}.jpg", f"found by {start}")


@numpy_alone
def test_threads_and_processes_list_each_image_once(tmp_path):
    path = tmp_path / "l.csv"
    workers = [threading.Thread(target=note_all, args=(path, 7 * i)) for i in range(3)]
    context = multiprocessing.get_context("spawn")
    workers.append(context.Process(target=note_all, args=(path, 11)))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert listed(path) == {f"{i}.jpg" for i in range(30)}


@numpy_alone
def test_a_ledger_outlives_what_happens_to_it(tmp_path):
    path = tmp_path / "l.csv"
    ledger = Ledger(path)
    names = ["plain.jpg", 'quote",comma.jpg', "two\nlines.jpg", os.fsdecode(b"latin-\xe9.jpg")]
    for name in names:
        ledger.note(name, "a reason,\nof two lines")
    shown = ["plain.jpg", 'quote",comma.jpg', "two\\nlines.jpg", "latin-\\udce9.jpg"]
    assert listed(path) == set(shown)
    # A kill or a full disk within a line.
    with open(path, "ab") as file:
        file.write(b'"half of a li')
    other = pickle.loads(pickle.dumps(ReplaceBad(Named([0], bad=()), path))).ledger
    assert other.note("new.jpg", "broken") == 5
    assert [other.note(name, "again") for name in names] == [5] * 4
    assert listed(path) == {*shown, "new.jpg"}
    assert "half" not in path.read_text()
    # Thrown away while a process works.
    path.unlink()
    other.note("last.jpg", "broken")
    assert listed(path) == {"last.jpg"}
    path.write_text("step,loss,rate\n")
    with pytest.raises(ValueError, match=r"must have the columns file, reason.*l\.csv"):
        Ledger(path).note("a.jpg", "broken")


@numpy_alone
def test_a_full_disk_that_takes_a_part_of_a_line_is_told(tmp_path):
    """A file may become no longer, which the first write past the end does not tell."""
    path = tmp_path / "l.csv"
    ledger = Ledger(path)
    ledger.note("a.jpg", "broken")
    before = path.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            ledger.note("b.jpg", "broken")
        assert path.read_text() == before + "b.jpg"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ledger.note("b.jpg", "broken") == 2
    assert path.read_text() == before + "b.jpg,broken\n"


KILLED = """
import os, signal, sys
from keras_vit_scale.runs import load_run_config, train

def kill(progress):
    if progress.doing == "training" and progress.done_steps >= 11:
        os.kill(os.getpid(), signal.SIGKILL)

train(load_run_config(sys.argv[1]), sys.argv[2], kill)
"""


@pytest.mark.slow
def test_a_run_over_bad_files_killed_and_resumed_ends_the_same(folders, tmp_path):
    """More than four epochs, so every image is read; the held-out ones three times."""
    _, bad, planted = folders
    config = replace(CONFIG, data=str(bad))
    train(config, tmp_path / "twin")
    assert listed(tmp_path / "twin" / "bad_images.csv") == planted
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "twin"), str(tmp_path / "run")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "run" / "results.json").exists()
    # Read by others from here on, which list what is bad in the same file.
    train(replace(config, workers=2), tmp_path / "run")
    assert listed(tmp_path / "run" / "bad_images.csv") == planted
    assert_same_end(tmp_path / "run", tmp_path / "twin")


@pytest.mark.slow
def test_by_default_the_file_is_named_and_the_run_can_go_on_without_it(folders, tmp_path, capsys):
    good, _, _ = folders
    shutil.copytree(good, tmp_path / "images")
    config = replace(CONFIG, data=str(tmp_path / "images"), bad_images="error", steps=3)
    # A held-out one, which comes only when all steps are done.
    _, held_out = hold_out(ImageFolder(config.data), 7)
    spoilt = str(held_out.source.files[held_out.indices[0]])
    Path(spoilt).write_bytes(b"")
    with pytest.raises(RunError, match=r"Cannot read the image .* the file is empty\. Replace"):
        train(config, tmp_path / "run")
    arguments = ["train", config.size, "--data", config.data, "--steps", "3", "--out"]
    arguments += [str(tmp_path / "other"), "--image-size", "8", "--batch-size", "13"]
    arguments += ["--workers", "1"]
    Path(spoilt).with_name("also.jpg").write_bytes(b"")
    assert cli.run(arguments) == 2
    told = capsys.readouterr().err
    assert "the file is empty" in told.splitlines()[-1]
    Path(spoilt).with_name("also.jpg").unlink()
    results = train(replace(config, bad_images="replace", max_bad=1), tmp_path / "run")
    assert results["steps"] == 3
    assert listed(tmp_path / "run" / "bad_images.csv") == {spoilt}


@numpy_alone
def test_no_part_takes_images_of_another(folders):
    from keras_vit_scale.runs.images import open_data

    source, held_out = open_data(replace(CONFIG, data=str(folders[1])))
    whole = ImageFolder(folders[1])
    readable = {image.tobytes(): i for i, image in enumerate(_readable(whole))}
    del readable[b""]
    for part in (source, held_out):
        own = set(part.source.indices.tolist())
        assert {readable[part[i][0].tobytes()] for i in range(len(part))} <= own


def _readable(source):
    for i in range(len(source)):
        try:
            yield source[i][0]
        except BadImageError:
            yield np.zeros(0)


@numpy_alone
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bad_images": "skip"}, r"must be one of \('error', 'replace'\)"),
        ({"orientation": "up"}, r"must be one of \('ignore', 'apply'\)"),
        ({"max_pixels": 0}, "`max_pixels` must be a positive integer"),
        ({"max_bad": 1.5}, "or a part of them"),
    ],
)
def test_misspelt_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **options)


@numpy_alone
def test_options_of_files_need_files(tmp_path):
    config = replace(CONFIG, data="digits", orientation="apply")
    with pytest.raises(ValueError, match="Received: bad_images, orientation for 'digits'"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


MEASURED = """
import resource, sys
from keras_vit_scale.data import ImageFolder, ReplaceBad, TrainTransform, train_batches

source = ReplaceBad(ImageFolder(sys.argv[1]), limit=20)
seen = 0
for images, _ in train_batches(source, TrainTransform(8), 13, stop=16):
    seen += len(images)
print(seen, source.ledger.note("", "") - 1, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@numpy_alone
def test_bad_files_take_less_than_50_megabytes(folders, tmp_path):
    """Five epochs over the folder, beside as many over the same without bad files."""
    good, bad, planted = folders
    found = []
    for folder in (good, bad):
        out = subprocess.run(
            [sys.executable, "-c", MEASURED, str(folder)],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        found.append([int(word) for word in out.stdout.split()])
    (seen, none, before), (seen_too, counted, after) = found
    assert seen == seen_too == 13 * 16
    assert (none, counted) == (0, len(planted))
    assert after - before < 50_000  # kilobytes


@numpy_alone
def test_a_study_replaces_in_each_part(folders, tmp_path):
    from keras_vit_scale.scaling import DataConfig, ProbeConfig, RecipeConfig, StudyConfig
    from keras_vit_scale.scaling.study_data import open_data

    data = DataConfig(str(folders[1]), held_out=16, validation=5, bad_images="replace", max_bad=10)
    probe = ProbeConfig(shots=(1,), seeds=(0,))
    recipe = RecipeConfig(warmup_steps=2)
    config = StudyConfig(("mu/4",), (9,), data, image_size=8, probe=probe, recipe=recipe)
    opened = open_data(config, tmp_path / "l.csv")
    probed = opened.probes["held-out"]
    for part in (opened.upstream, opened.validation, probed.train, probed.test):
        assert all(part[i][0].shape[-1] == 3 for i in range(len(part)))
    assert listed(tmp_path / "l.csv") <= folders[2]
    with pytest.raises(ValueError, match="must be one of"):
        replace(data, bad_images="skip")
    of_none = replace(data, upstream="digits", held_out=597, validation=100)
    with pytest.raises(ValueError, match="Received: bad_images for 'digits'"):
        open_data(replace(config, data=of_none))
    assert open_data(replace(config, data=replace(data, downstream=("digits",))))
