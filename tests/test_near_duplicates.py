"""Near-duplicates: hashes, search, check, lists and pages, on photographs and digits.

The oracle of the search compares every pair in NumPy. The photographs are scikit-learn's two,
in pieces of prime sizes.
"""

import json
import multiprocessing
import os
import re
import signal
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import numpy_alone
from PIL import Image

from keras_vit_scale import FineTune, ViT, ViTConfig, cli
from keras_vit_scale.data import (
    ArraySource,
    BadImageError,
    EvalTransform,
    Excluding,
    ImageFolder,
    PartsMissingError,
    ReplaceBad,
    Subset,
    TooManyBadImagesError,
    calibrate,
    deduplicate,
    digits,
    perceptual_hash,
    read_exclusions,
)
from keras_vit_scale.data.near_duplicates import neighbours
from keras_vit_scale.data.near_duplicates.hashing import (
    FREQUENCIES,
    are_plain,
    hashes_of,
    mirrored,
    part_thumbnails,
    thumbnail,
)
from keras_vit_scale.data.near_duplicates.planted import KINDS, planted
from keras_vit_scale.evaluation import Classifier, save_classifier
from keras_vit_scale.formats import FormatError
from keras_vit_scale.models import architecture
from keras_vit_scale.ownership import OwnedError, owning
from keras_vit_scale.runs import TrainConfig
from keras_vit_scale.runs.images import open_data
from keras_vit_scale.scaling import load_config, study_data

HIGH, WIDE = 101, 127

SMALL = ViTConfig(width=12, depth=1, mlp_dim=17, heads=2, patch_size=8)


@cache
def photographs():
    """Pieces of two photographs that are not plain sky or petal, uint8 (27, 101, 127, 3)."""
    from sklearn.datasets import load_sample_images

    pieces = np.stack(
        [
            photo[y : y + HIGH, x : x + WIDE]
            for photo in load_sample_images().images
            for y in range(0, 427 - HIGH, HIGH)
            for x in range(0, 640 - WIDE + 1, WIDE)
        ]
    )
    return pieces[~are_plain(np.stack([thumbnail(piece) for piece in pieces]))]


def source_of(images):
    return ArraySource(np.stack(images), np.arange(len(images)) % 3)


def distances(one, other):
    """Bits in which hashes differ, (N, M), by unpacking them."""
    one, other = (np.unpackbits(h, axis=-1).astype(int) for h in (one, other))
    return (one[:, None] != other[None]).sum(-1)


def expected(train, against, threshold, within):
    """What is to go, from every pair: {image: (source, other, distance)}."""

    def all_hashes(source):
        return np.stack([perceptual_hash(source[i][0]) for i in range(len(source))])

    def compared(source):
        return ~are_plain(np.stack([thumbnail(source[i][0]) for i in range(len(source))]))

    own, usable, found = all_hashes(train), compared(train), {}
    for number, source in [*enumerate(against), *([(-1, train)] if within else [])]:
        others = all_hashes(source)
        near = np.minimum(distances(own, others), distances(mirrored(own), others))
        near[~usable] = 999
        near[:, ~compared(source)] = 999
        if number == -1:
            near[np.triu_indices(len(own))] = 999
        for i in np.flatnonzero(near.min(1) <= threshold):
            best = near[i].min()
            if i not in found or (number != -1 and best < found[i]):
                found[int(i)] = int(best)
    return found


# ---- hashes ----


@numpy_alone
def test_bits_are_the_signs_of_a_cosine_transform():
    """The sum of its definition; a bit may differ where rounding decides the sign."""
    grey = thumbnail(photographs()[3]).astype(float)
    x = np.arange(32)
    signs = []
    for v, u in zip(*FREQUENCIES, strict=True):
        down, right = (np.cos(np.pi * (2 * x + 1) * f / 64) for f in (v, u))
        signs.append(down @ grey @ right > 0)
    bits = np.unpackbits(perceptual_hash(photographs()[3]))
    assert (bits != signs).sum() <= 1
    assert 80 < bits.sum() < 176


@numpy_alone
def test_frequencies_are_the_lowest_but_the_mean():
    squares = FREQUENCIES[0] ** 2 + FREQUENCIES[1] ** 2
    assert len(set(zip(*FREQUENCIES, strict=True))) == 256
    assert squares.min() == 1
    outside = [v * v + u * u for v in range(32) for u in range(32)]
    assert sum(s < squares.max() for s in outside) - 1 <= 256


@numpy_alone
def test_hash_of_the_mirrored_image_follows_from_the_hash():
    straight = np.stack([perceptual_hash(image) for image in photographs()])
    turned = np.stack([perceptual_hash(image[:, ::-1]) for image in photographs()])
    assert np.bitwise_count(mirrored(straight) ^ turned).sum(1).max() <= 4
    assert np.bitwise_count(straight ^ turned).sum(1).min() > 64


@numpy_alone
def test_grey_and_colour_have_one_hash_and_grey_has_one_channel():
    grey = np.asarray(Image.fromarray(photographs()[5]).convert("L"))[..., None]
    assert (perceptual_hash(grey) == perceptual_hash(photographs()[5])).all()


@numpy_alone
def test_plain_images_are_told():
    sky = np.broadcast_to(np.linspace(90, 120, WIDE)[None, :, None], (HIGH, WIDE, 3))
    spot = sky.copy()
    spot[:5, :5] = 255
    thumbnails = [thumbnail(i.astype(np.uint8)) for i in (sky, spot, photographs()[0])]
    assert are_plain(np.stack(thumbnails)).tolist() == [True, True, False]


@numpy_alone
@pytest.mark.parametrize("kind", KINDS)
def test_planted_duplicates_are_near_and_others_far(kind):
    """At the default threshold; of cuttings with the parts of the original, at that of a check."""
    images = photographs()
    copies = [planted(image, kind, (1, i)) for i, image in enumerate(images)]
    hashes = hashes_of(np.stack([thumbnail(copy) for copy in copies]))
    if kind == "crop":
        views = np.stack([hashes_of(part_thumbnails(image)) for image in images])
        own = np.bitwise_count(views ^ hashes[:, None]).sum(-1).min(1)
        assert np.mean(own <= 72) >= 0.9
        return
    originals = hashes_of(np.stack([thumbnail(image) for image in images]))
    both = np.minimum(distances(originals, hashes), distances(originals, mirrored(hashes)))
    assert np.mean(np.diag(both) <= 32) >= (0.8 if kind == "text" else 0.95)
    assert both[~np.eye(len(both), dtype=bool)].min() > 48


@numpy_alone
def test_planting_is_a_function_of_the_seed():
    image = photographs()[2]
    for kind in KINDS:
        one, same, other = (planted(image, kind, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        drawn = one.shape != other.shape or (one != other).any()
        assert drawn == (kind not in ("grey", "flip")), kind
    assert planted(image, "half", 0).shape == (HIGH // 2, WIDE // 2, 3)


# ---- search ----


@pytest.fixture(scope="module")
def crowded():
    """Hashes among which many are near: some bits of a few turned, and equal ones."""
    rng = np.random.default_rng(3)
    centres = rng.integers(0, 256, (97, 32), dtype=np.uint8)
    hashes = centres[rng.integers(97, size=1511)]
    turned = rng.random((1511, 256)) < rng.choice([0, 0.02, 0.06, 0.13], (1511, 1))
    return hashes ^ np.packbits(turned, axis=1)


@numpy_alone
@pytest.mark.parametrize("radius", [0, 15, 16, 31, 47])
@pytest.mark.parametrize("expected_hashes", [0, 10**9], ids=["whole", "tables"])
def test_search_finds_what_comparing_all_does(crowded, radius, expected_hashes):
    index = neighbours.Neighbours(radius, expected_hashes)
    multi = type(index._index).__name__ == "IndexBinaryMultiHash"
    assert multi == (expected_hashes > 0)
    index.add(crowded[:700])
    index.add(crowded[700:])
    queries = crowded[::37]
    found, places = index.search(queries)
    near = distances(queries, crowded)
    for row, (own, others) in enumerate(zip(found, places, strict=True)):
        there = others >= 0
        want = np.sort(near[row][near[row] <= radius])[: neighbours.NEAREST]
        assert own[there].tolist() == want.tolist()
        assert near[row][others[there]].tolist() == own[there].tolist()
        assert len(set(others[there].tolist())) == there.sum()


@numpy_alone
def test_comparing_some_is_as_the_index_where_all_are_allowed(crowded):
    queries, others = crowded[:31], crowded[31:431]
    allowed = np.random.default_rng(0).random((31, 400)) < 0.5
    found, places = neighbours.compared(queries, others, 40, allowed)
    near = np.where(allowed, distances(queries, others), 999)
    for row in range(31):
        order = np.lexsort((np.arange(400), near[row]))[: neighbours.NEAREST]
        order = order[near[row][order] <= 40]
        assert places[row][places[row] >= 0].tolist() == order.tolist()
        assert found[row][: len(order)].tolist() == near[row][order].tolist()


# ---- the whole ----


@numpy_alone
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("block", [13, 211, 65_536])
def test_list_is_what_comparing_all_pairs_gives(tmp_path, monkeypatch, within, block):
    """Digits resemble each other enough; block 13 makes 24 groups of files."""
    # The package's function has the name of its file.
    monkeypatch.setattr(sys.modules[deduplicate.__module__], "GROUP", 2)
    train = Subset(digits(), range(613))
    against = [Subset(digits(), range(600, 660)), Subset(digits(), range(700, 741))]
    found = deduplicate(
        train, against, folder=tmp_path, within=within, threshold=36, block=block, workers=2
    )
    want = expected(train, against, 36, within)
    assert found.indices.tolist() == sorted(want)
    rows = found.pairs()
    assert rows["distance"].tolist() == [want[i] for i in found.indices]
    assert (rows["source"] >= -1 if within else rows["source"] >= 0).all()
    assert set(range(600, 613)) <= set(found.indices)
    kept = Excluding(train, found)
    assert len(kept) == 613 - len(want)
    assert kept.labels.tolist() == np.delete(train.labels, found.indices).tolist()


@numpy_alone
def test_planted_duplicates_go_and_the_rest_stays(tmp_path):
    images = photographs()
    originals = np.arange(3, 10)
    copies = [
        np.asarray(Image.fromarray(planted(images[i], kind, 5)).resize((WIDE, HIGH)))
        for i in originals
        for kind in ("jpeg", "half", "grey", "flip")
    ]
    others = np.setdiff1d(np.arange(len(images)), originals)
    train = source_of([*images[others], *copies, np.full_like(images[0], 90)])
    found = deduplicate(train, [source_of(images[originals])], folder=tmp_path)
    assert found.indices.tolist() == list(range(len(others), len(train) - 1))
    rows = found.pairs()
    assert rows["other"].tolist() == np.repeat(np.arange(7), 4).tolist()
    assert rows["mirrored"].tolist() == [False, False, False, True] * 7
    assert found.about["plain"] == 1


@numpy_alone
def test_crops_are_found_by_parts_of_the_originals(tmp_path):
    images = photographs()[:20]
    cut = [i[round(HIGH * 0.07) :, : round(WIDE * 0.93)] for i in images]
    cut = [np.asarray(Image.fromarray(i).resize((WIDE, HIGH))) for i in cut]
    found = [
        deduplicate(
            source_of(cut), [source_of(images)], folder=tmp_path / str(crops), crops=crops,
            threshold=48,
        )
        for crops in (False, True)
    ]  # fmt: skip
    assert len(found[0]) <= 2
    assert len(found[1]) >= 12
    assert (found[1].pairs()["other"] == found[1].indices).all()


class Deadly:
    """A source in which reading an image for the n-th time kills the process."""

    def __init__(self, source, reads):
        self.source, self.left = source, reads
        self.labels, self.class_names = source.labels, source.class_names

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.source[index]


def brightness_of_parts(images):
    """An embedding: a 4 x 4 thumbnail without its mean."""
    small = [Image.fromarray(i).convert("L").resize((4, 4)) for i in images]
    vectors = np.stack([np.asarray(s, np.float32).ravel() for s in small])
    return vectors - vectors.mean(1, keepdims=True)


def find(folder, reads=0, part=None):
    train = Subset(digits(), range(401))
    return deduplicate(
        Deadly(train, reads) if reads else train, [Subset(digits(), range(390, 450))],
        folder=folder, within=True, threshold=40, embed=brightness_of_parts, similarity=0.9,
        block=64, workers=1, part=part,
    )  # fmt: skip


@pytest.mark.slow
@numpy_alone
def test_killed_runs_go_on_and_give_the_same_bytes(tmp_path):
    """Killed while hashing, between files, and while pairs are looked at again."""
    find(tmp_path / "whole")
    for reads in (30, 100, 64, 345):
        # Not a fork, which would wait for threads of the search that it does not have.
        process = multiprocessing.get_context("spawn").Process(
            target=find, args=(tmp_path / "killed", reads)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, reads
        assert not (tmp_path / "killed" / "excluded.parquet").exists()
    find(tmp_path / "killed")
    for name in ("excluded.parquet", "pairs.html", "dedup.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes(), name
    leftovers = [p for p in (tmp_path / "killed").iterdir() if p.name.startswith(".")]
    assert [p.name for p in leftovers] == [".owner"]


@numpy_alone
def test_parts_make_the_same_list(tmp_path):
    find(tmp_path / "whole")
    for part in ((2, 3), (1, 3)):
        with pytest.raises(PartsMissingError, match=r"of 7 files of hashes not there yet"):
            find(tmp_path / "parts", part=part)
    for part in ((3, 3), (1, 3), (2, 3)):
        assert find(tmp_path / "parts", part=part) is None
    # All is done: what is left is to write it down.
    assert find(tmp_path / "parts", reads=5_000).indices.tolist()
    name = "excluded.parquet"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@numpy_alone
def test_second_look_keeps_what_it_finds_alike(tmp_path):
    train, against = Subset(digits(), range(300)), [Subset(digits(), range(290, 380))]
    loose = deduplicate(train, against, folder=tmp_path / "loose", threshold=60)
    strict = deduplicate(
        train, against, folder=tmp_path / "strict", threshold=60,
        embed=brightness_of_parts, similarity=0.97,
    )  # fmt: skip
    assert 10 <= len(strict) < len(loose)
    for row in strict.pairs().itertuples():
        one, other = train[row.image][0], against[0][row.other][0]
        other = other[:, ::-1] if row.mirrored else other
        pair = [np.repeat(image, 3, axis=-1) for image in (one, other)]
        a, b = brightness_of_parts(pair)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert cosine == pytest.approx(row.similarity, abs=1e-5)
        assert cosine >= 0.97 - 1e-5


def test_a_model_looks_again(tmp_path):
    """One of ours, of random weights: copies are alike, and what is mirrored is mirrored back."""
    images = photographs()[:11]
    model = ViT(SMALL, 3, image_size=16)
    classifier = Classifier(model, EvalTransform(16, resize="squash"), ["0", "1", "2"])
    train = source_of([images[3][:, ::-1], images[7], images[9]])
    found = deduplicate(
        train, [source_of(images)], folder=tmp_path, embed=classifier.embed, similarity=0.9999
    )
    rows = found.pairs()
    assert rows["other"].tolist() == [3, 7, 9]
    assert rows["mirrored"].tolist() == [True, False, False]
    np.testing.assert_allclose(rows["similarity"], 1, atol=1e-4)


# ---- lists ----


@numpy_alone
def test_lists_are_refused_for_other_data(tmp_path):
    train = Subset(digits(), range(97))
    found = deduplicate(train, [Subset(digits(), range(80, 130))], folder=tmp_path)
    path = tmp_path / "excluded.parquet"
    assert read_exclusions(path).indices.tolist() == found.indices.tolist()
    assert len(Excluding(train, path)) == 97 - len(found)
    with pytest.raises(ValueError, match=r"of 97 images with fingerprint .* for 98 with"):
        Excluding(Subset(digits(), range(98)), path)
    same_labels = ArraySource(np.roll(digits().images[:97], 1, axis=0), train.labels)
    with pytest.raises(ValueError, match=r"looks otherwise here, in \d+ of 256 bits"):
        Excluding(same_labels, path)
    pd.DataFrame({"image": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="that `deduplicate` wrote"):
        Excluding(train, tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="Cannot read the exclusion list"):
        read_exclusions(tmp_path / "broken.parquet")
    everything = deduplicate(train, [train], folder=tmp_path / "all")
    with pytest.raises(ValueError, match="must hold at least one image"):
        Excluding(train, everything)


@numpy_alone
def test_nothing_found_is_a_list_too(tmp_path):
    found = deduplicate(
        source_of(photographs()[:5]), [source_of(photographs()[20:27])], folder=tmp_path
    )
    assert len(found) == 0
    assert len(Excluding(source_of(photographs()[:5]), found)) == 5
    assert "No pairs were found" in (tmp_path / "pairs.html").read_text()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@numpy_alone
def test_page_shows_the_pairs_and_asks_no_network(tmp_path):
    names = ["<b>cat</b>", "dog", "owl"]
    images = photographs()[:7]
    train = ArraySource(images, np.arange(7) % 3, names)
    deduplicate(train, [ArraySource(images[2:5], [0, 1, 2], names)], folder=tmp_path)
    page = (tmp_path / "pairs.html").read_text()
    parser = Tags()
    parser.feed(page)
    sources = [attrs["src"] for tag, attrs in parser.found if tag == "img"]
    assert len(sources) == 6
    assert all(re.match(r"data:image/(png|jpeg);base64,", s) for s in sources)
    assert not re.search(r"https?:|<script|<b>cat", page)
    assert "3 of 7 training images are near-duplicates" in page


# ---- bad input ----


@pytest.fixture
def folder(tmp_path):
    for i, image in enumerate(photographs()[:9]):
        (tmp_path / "photos" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / "abc"[i % 3] / f"{i}.png")
    (tmp_path / "photos" / "a" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    return ImageFolder(tmp_path / "photos")


@numpy_alone
def test_unreadable_images_are_an_error_or_skipped(folder, tmp_path):
    with pytest.raises(BadImageError, match=r"3\.png.*bad_images='skip'"):
        deduplicate(folder, [source_of(photographs()[:2])], folder=tmp_path / "error")
    with pytest.raises(TooManyBadImagesError, match="At most 0 images may be skipped"):
        deduplicate(folder, [folder], folder=tmp_path / "many", bad_images="skip", max_bad=0)
    found = deduplicate(
        folder, [source_of(photographs()[:2])], folder=tmp_path / "skip", bad_images="skip"
    )
    assert found.about["unread"] == 1
    assert [str(folder.files[i]) for i in found.indices] == [
        str(tmp_path / "photos" / name) for name in ("a/0.png", "b/1.png")
    ]
    assert "3.png" in (tmp_path / "skip" / "bad_images.csv").read_text()
    kept = ReplaceBad(Excluding(folder, found), limit=1)
    assert len([kept[i] for i in range(len(kept))]) == 7


@numpy_alone
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"against": []}, "something to compare with"),
        ({"threshold": 101}, "from 0 to 100.*threshold=101"),
        ({"threshold": -1}, "threshold=-1"),
        ({"threshold": 12.5}, r"threshold=12\.5"),
        ({"similarity": 0.9}, "belong together"),
        ({"embed": brightness_of_parts}, "belong together"),
        ({"embed": brightness_of_parts, "similarity": 1.5}, r"cosine in \(0, 1\]"),
        ({"part": (3, 2)}, r"`part` must be \(k, n\)"),
        ({"bad_images": "ignore"}, "`bad_images` must be one of"),
        ({"max_bad": -1}, "limit of bad images"),
        ({"block": 0}, "`block` must be a positive integer"),
        ({"workers": 0}, "`workers` must be a positive integer"),
        (
            {"embed": lambda images: np.zeros((len(images), 2, 2)), "similarity": 0.9},
            r"one finite vector an image.*Received: float32 of shape \(1, 2, 2\) for 1 images",
        ),
        (
            {"embed": lambda images: np.full((len(images), 3), np.nan), "similarity": 0.9},
            "one finite vector an image",
        ),
    ],
)
def test_bad_options_are_refused_before_any_work(tmp_path, options, message):
    options = {"against": [Subset(digits(), range(5))], **options}
    with pytest.raises(ValueError, match=message):
        deduplicate(Subset(digits(), range(7)), folder=tmp_path / "work", **options)
    assert not (tmp_path / "work").exists()


@numpy_alone
def test_a_folder_is_for_one_comparison_and_one_process(tmp_path):
    train, test = Subset(digits(), range(50)), Subset(digits(), range(45, 60))
    deduplicate(train, [test], folder=tmp_path)
    before = (tmp_path / "excluded.parquet").read_bytes()
    with pytest.raises(ValueError, match="threshold=20 where it has 31"):
        deduplicate(train, [test], folder=tmp_path, threshold=20)
    with pytest.raises(ValueError, match=r"fingerprint=.* images=49 where it has 50"):
        deduplicate(Subset(digits(), range(49)), [test], folder=tmp_path)
    with owning(tmp_path), pytest.raises(OwnedError, match="Another process works in"):
        deduplicate(train, [test], folder=tmp_path)
    assert (tmp_path / "excluded.parquet").read_bytes() == before
    manifest = tmp_path / "dedup.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
    with pytest.raises(FormatError, match="a later one is read"):
        deduplicate(train, [test], folder=tmp_path)


@numpy_alone
def test_another_model_is_another_comparison(tmp_path):
    train, test = Subset(digits(), range(50)), Subset(digits(), range(45, 60))
    options = {"folder": tmp_path, "similarity": 0.9}
    deduplicate(train, [test], embed=brightness_of_parts, **options)
    with pytest.raises(ValueError, match="with model="):
        deduplicate(train, [test], embed=lambda x: brightness_of_parts(x)[:, :5], **options)


# ---- calibration, command ----


@numpy_alone
def test_calibration_tells_what_the_search_would_find():
    source = source_of(photographs())
    found = calibrate(source, images=23, embed=brightness_of_parts)
    assert set(found.duplicates["kind"]) == set(KINDS)
    kept = 23 - found.plain
    assert len(found.duplicates) == 8 * kept
    assert found.counts.sum() == kept * (kept - 1) // 2
    at = found.at(32)
    assert {at[kind] for kind in ("grey", "flip")} == {1.0}
    assert at["jpeg"] == (found.duplicates.query("kind == 'jpeg'")["distance"] <= 32).mean()
    assert at["different"] == 0
    assert found.at(32, similarity=0.99)["text"] <= at["text"]
    grey = found.duplicates.query("kind == 'grey'")
    np.testing.assert_allclose(grey["similarity"], 1, atol=1e-3)
    with_parts = calibrate(source, images=23, crops=True)
    assert with_parts.at(72)["crop"] > at["crop"] + 0.5
    assert with_parts.at(0)["flip"] == 1
    assert found.table().index.tolist() == list(range(0, 101, 8))
    nearest = found.different.iloc[0]
    one, other = (perceptual_hash(photographs()[int(i)]) for i in nearest[["image", "other"]])
    straight, turned = (np.bitwise_count(h ^ other).sum() for h in (one, mirrored(one)))
    assert min(straight, turned) == nearest["distance"]
    with pytest.raises(ValueError, match="needs a calibration with `embed`"):
        calibrate(source, 5).at(32, similarity=0.9)
    with pytest.raises(ValueError, match="two images that are not plain"):
        calibrate(ArraySource(np.zeros((5, 8, 8), np.uint8), [0] * 5))


def test_command_lists_checks_and_calibrates(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = photographs()
    np.savez("train.npz", images=images[:9], labels=np.arange(9))
    np.savez("test.npz", images=images[5:12, :, ::-1], labels=np.arange(7))
    assert cli.run(["dedup", "train.npz", "--against", "test.npz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["excluded"], told["threshold"]) == (4, 31)
    assert read_exclusions("dedup/excluded.parquet").indices.tolist() == [5, 6, 7, 8]
    model = ViT(SMALL, 3, image_size=16)
    save_classifier(model, "m.keras", EvalTransform(16, resize="squash"), ["a", "b", "c"])
    checked = ["--model", "m.keras", "--similarity", "0.999", "--out", "checked"]
    assert cli.run(["dedup", "train.npz", "--against", "test.npz", *checked]) == 0
    assert "4 of 9 images are near-duplicates" in capsys.readouterr().out
    assert cli.run(["dedup", "train.npz", "--calibrate", "9", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["thresholds"][4]["threshold"] == 32
    assert table["thresholds"][4]["grey"] == 1
    assert cli.run(["dedup", "train.npz"]) == 2
    assert "something to compare with" in capsys.readouterr().err
    assert cli.run(["dedup", "train.npz", "--within", "--part", "2"]) == 2
    assert "--part must be K/N" in capsys.readouterr().err


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """The digits that resemble some of the last seventeen, those themselves among them."""
    folder = tmp_path_factory.mktemp("clean")
    return deduplicate(digits(), [Subset(digits(), range(1780, 1797))], folder=folder)


def test_runs_fine_tuning_and_studies_leave_out_a_list(listed):
    assert len(listed) >= 17
    left = len(digits()) - len(listed)
    kept = np.delete(digits().labels, listed.indices)
    config = TrainConfig("mu/4", "digits", steps=1, image_size=8, exclude=str(listed.path))
    source, _ = open_data(config)
    np.testing.assert_array_equal(source.labels, kept)
    rest, held_out = open_data(replace(config, validation=100))
    assert len(rest) + len(held_out) == left
    # What is left of a part is a part of what is left.
    assert not set(source.indices) & set(listed.indices.tolist())
    recipe = FineTune(exclude=str(listed.path), images=50, validation=5)
    run = recipe.run("", architecture(ViT("mu/4", 2, image_size=8)), "digits", 0.1, held_out=False)
    assert len(open_data(run)[0]) == 50
    with pytest.raises(ValueError, match=f"and {left} in 'digits'"):
        open_data(replace(run, images=left + 1))
    study = load_config("digits")
    study = replace(study, data=replace(study.data, exclude=str(listed.path)))
    assert len(study_data.open_data(study).upstream) == left - study.data.held_out


def test_a_list_of_other_data_and_a_file_that_is_none_are_refused(listed, tmp_path, capsys):
    other = tmp_path / "other.npz"
    np.savez(other, images=digits().images[:90], labels=digits().labels[:90])
    config = TrainConfig("mu/4", str(other), steps=1, image_size=8, exclude=str(listed.path))
    with pytest.raises(ValueError, match="of the data set that it is used for"):
        open_data(config)
    for name, message in (
        (listed.path, "of the data set that it is used for"),
        (tmp_path / "gone.parquet", "Cannot read the exclusion list"),
    ):
        out = tmp_path / "run"
        for verb in (
            ["train", "mu/4", "--data", str(other), "--steps", "1", "--image-size", "8"],
            ["study", "run", "digits", "--upstream", str(other), "--held-out", "20"],
        ):
            assert cli.run([*verb, "--exclude", str(name), "--out", str(out)]) != 0
            assert message in " ".join(capsys.readouterr().err.split())
        assert not (out / "config.yaml").exists()
