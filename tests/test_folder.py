"""Folders of images: their index, links out of them, and what they refuse."""

import os
import shutil
import time

import numpy as np
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale.data import ImageFolder, folder, indices, open_source
from keras_vit_scale.data.texts import Texts

pytestmark = numpy_alone


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KERAS_VIT_SCALE_CACHE", str(path))
    return path


@pytest.fixture
def pets(tmp_path):
    """Three cats and two dogs, of names that sort and encode with difficulty."""
    for i, name in enumerate(("cat/b.png", "cat/ä.PNG", "cat/B.png", "dög/x y.jpg", "dög/a.webp")):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3 + i, 2), (50 * i, 0, 0)).save(path)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    return tmp_path / "pets"


def rested(root):
    """As if nothing had changed for a minute."""
    for path in (root, *root.iterdir()):
        os.utime(path, (time.time() - 60,) * 2)


@pytest.fixture
def kept_from_one(monkeypatch):
    monkeypatch.setattr(folder, "KEPT_FROM", 1)


def names(source):
    return [f"{path.parent.name}/{path.name}" for path in source.files]


def test_texts_are_what_they_were():
    words = ["", "a", "ä\udcff", "", "日本"]
    texts = Texts.of(words)
    assert list(texts) == words == texts[:]
    assert texts[-1] == words[-1]
    assert texts[1:3] == words[1:3]
    with pytest.raises(IndexError):
        texts[5]


def test_the_index_holds_what_listing_finds(pets, cache, kept_from_one):
    rested(pets)
    listed = ImageFolder(pets)
    assert names(listed) == [
        "cat/B.png", "cat/b.png", "cat/ä.PNG", "dög/a.webp", "dög/x y.jpg",
    ]  # fmt: skip
    assert len(list(cache.iterdir())) == 1
    again = ImageFolder(pets)
    assert names(again) == names(listed)
    assert again.class_names == ("cat", "dög")
    np.testing.assert_array_equal(again.labels, [0, 0, 0, 1, 1])
    for i in range(5):
        np.testing.assert_array_equal(again[i][0], listed[i][0])


def test_the_index_is_what_is_read(pets, cache, kept_from_one, monkeypatch):
    rested(pets)
    ImageFolder(pets)

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(ImageFolder, "_scan", refuse)
    assert len(ImageFolder(pets)) == 5


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "class", "class gone"])
def test_a_changed_folder_is_listed_anew(pets, kept_from_one, change):
    rested(pets)
    before = names(ImageFolder(pets))
    if change == "added":
        shutil.copy(pets / "cat/b.png", pets / "cat/c.png")
    elif change == "removed":
        (pets / "cat/b.png").unlink()
    elif change == "renamed":
        (pets / "cat/b.png").rename(pets / "cat/c.png")
    elif change == "class":
        shutil.copytree(pets / "cat", pets / "owl")
    else:
        shutil.rmtree(pets / "cat")
    found = names(ImageFolder(pets))
    assert found != before
    assert found == sorted(
        (f"{p.parent.name}/{p.name}" for p in pets.rglob("*.*") if p.suffix != ".txt"),
        key=lambda name: name.split("/"),
    )


def test_a_folder_that_may_still_change_is_not_kept(pets, cache, kept_from_one):
    """A file that comes within the clock's tick of the listing would never be seen."""
    ImageFolder(pets)
    assert not list(cache.iterdir())


def test_small_folders_are_listed_each_time(pets, cache):
    rested(pets)
    ImageFolder(pets)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_a_damaged_index_is_made_again(pets, cache, kept_from_one, damage):
    rested(pets)
    expected = names(ImageFolder(pets))
    [path] = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert names(ImageFolder(pets)) == expected
    assert path.read_bytes()[:2] == b"PK"


def test_a_cache_that_cannot_be_written_is_done_without(pets, cache, kept_from_one, monkeypatch):
    rested(pets)
    monkeypatch.setenv("KERAS_VIT_SCALE_CACHE", str(pets / "cat" / "b.png"))
    assert len(ImageFolder(pets)) == 5


def test_the_cache_is_where_it_says(monkeypatch, tmp_path):
    assert indices.cache_folder().name.startswith("cache")
    monkeypatch.delenv("KERAS_VIT_SCALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(indices.cache_folder()) == "/somewhere/keras_vit_scale"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert indices.cache_folder() == tmp_path / ".cache" / "keras_vit_scale"


def test_links_out_of_the_folder_are_refused_or_followed(pets, tmp_path):
    outside = tmp_path / "outside.png"
    Image.new("RGB", (2, 2)).save(outside)
    (pets / "cat" / "inside.png").symlink_to(pets / "dög" / "a.webp")
    assert len(ImageFolder(pets)) == 6
    (pets / "cat" / "link.png").symlink_to(outside)
    with pytest.raises(ValueError, match=r"must not lead out.*link\.png'.*outside\.png'"):
        ImageFolder(pets)
    with pytest.raises(ValueError, match="must not lead out"):
        open_source(pets)
    assert len(ImageFolder(pets, links="follow")) == 7
    (pets / "cat" / "link.png").unlink()
    (tmp_path / "others").mkdir()
    shutil.copy(outside, tmp_path / "others" / "o.png")
    (pets / "owl").symlink_to(tmp_path / "others")
    with pytest.raises(ValueError, match=r"must not lead out.*pets/owl'"):
        ImageFolder(pets)
    assert ImageFolder(pets, links="follow").class_names == ("cat", "dög", "owl")
    with pytest.raises(ValueError, match="`links` must be one of"):
        ImageFolder(pets, links="inside")


def test_a_folder_that_is_itself_a_link_is_one(pets, tmp_path):
    (tmp_path / "link").symlink_to(pets)
    assert len(ImageFolder(tmp_path / "link")) == 5


@pytest.mark.parametrize("other", ["Cat", "do\u0308g", "DO\u0308G"])
def test_classes_that_differ_by_case_or_accents_written_otherwise_are_refused(pets, other):
    """As two folders they would be one class on a disk that does not tell them apart."""
    shutil.copytree(pets / "cat", pets / other)
    with pytest.raises(ValueError, match=r"must differ by more than case.*Received: '.*' and '"):
        ImageFolder(pets)


def test_names_open_folders_with_links(pets, tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    (pets / "cat" / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(ValueError, match=r"links='follow' \(--links follow\)"):
        open_source(pets)
    assert len(open_source(pets, links="follow")) == 6
    with pytest.raises(ValueError, match="`links` must be one of"):
        open_source("digits", links="some")
