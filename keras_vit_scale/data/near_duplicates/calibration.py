"""What a threshold would find: duplicates planted in images of one's own, and what it confuses."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_vit_scale.checks import check_positive_integers
from keras_vit_scale.data.near_duplicates.check import CHUNK, Embed, directions
from keras_vit_scale.data.near_duplicates.deduplicate import LARGEST_THRESHOLD, check_threshold
from keras_vit_scale.data.near_duplicates.hashing import (
    BITS,
    are_plain,
    hashes_of,
    mirrored,
    part_thumbnails,
    thumbnail,
)
from keras_vit_scale.data.near_duplicates.planted import KINDS, planted
from keras_vit_scale.data.sources import Source


@dataclass(frozen=True)
class Calibration:
    """Distances of planted duplicates, and of different images.

    Attributes:
        duplicates: A row a planted duplicate: `image`, `kind`, `distance` in bits of 256, straight
            or mirrored, whichever is less, and with a model `similarity`.
        different: Likewise of pairs of different images of the sample, the nearest of each image:
            `image`, `other`, `distance`, `similarity`. Some may be true duplicates; look at them.
        counts: How many pairs of different images have each distance, int64 (257,).
        plain: How many images of the sample were plain, and left out.
    """

    duplicates: pd.DataFrame
    different: pd.DataFrame
    counts: np.ndarray
    plain: int

    def at(self, threshold: int, similarity: float | None = None) -> dict[str, float]:
        """Which part of each kind is found, and which part of the images has a false neighbour.

        Args:
            threshold: Bits in which hashes may differ.
            similarity: The least cosine, where a model was given.

        Returns:
            Recall by kind, and as `different` the part of the images with another of the sample
            that would be taken for a duplicate.

        Raises:
            ValueError: If an option is out of range, or there was no model.
        """
        check_threshold(threshold)
        if similarity is not None and "similarity" not in self.duplicates:
            raise ValueError("`similarity` needs a calibration with `embed`. Received: none")

        def found(rows):
            near = rows["distance"] <= threshold
            return near if similarity is None else near & (rows["similarity"] >= similarity)

        recall = found(self.duplicates).groupby(self.duplicates["kind"], sort=False).mean()
        return {**recall.to_dict(), "different": float(found(self.different).mean())}

    def table(self, similarity: float | None = None, step: int = 8) -> pd.DataFrame:
        """What `at` tells for many thresholds, a row each."""
        thresholds = range(0, LARGEST_THRESHOLD + 1, step)
        rows = [self.at(threshold, similarity) for threshold in thresholds]
        return pd.DataFrame(rows, pd.Index(thresholds, name="threshold"))


def calibrate(
    source: Source,
    images: int = 1000,
    *,
    seed: int = 0,
    crops: bool = False,
    embed: Embed | None = None,
) -> Calibration:
    """Plants duplicates of images of a source, and measures how near they and others are.

    Each image is stored as JPEG, halved, brightened or darkened, given more or less contrast,
    made grey, cropped, flipped, and written on; see `near_duplicates.planted`.

    Args:
        source: Images like those to compare.
        images: How many are drawn from it; all, if it has fewer.
        seed: Decides which, and how much each is changed.
        crops: Compare planted duplicates with parts of the images too, as for `deduplicate`.
        embed: Also measure cosines, as for `deduplicate`.

    Raises:
        ValueError: If there are not two images that are not plain, or `embed` does not fit.
        BadImageError: If an image cannot be read.

    Example:

    >>> from keras_vit_scale.data import calibrate, digits
    >>> found = calibrate(digits(), images=50).at(threshold=31)
    >>> found["grey"], found["flip"]
    (1.0, 1.0)
    """
    check_positive_integers(images=images)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(source))[:images])
    thumbnails = np.stack([thumbnail(source[int(i)][0]) for i in chosen])
    plain = are_plain(thumbnails)
    chosen, hashes = chosen[~plain], hashes_of(thumbnails[~plain])
    if len(chosen) < 2:
        raise ValueError(
            "A sample must hold two images that are not plain. "
            f"Received: {len(chosen)} of {len(plain)} drawn from {source!r}"
        )
    counts, nearest, distances = _between(hashes)
    parts, similarities = [], []
    for start in range(0, len(chosen), CHUNK):
        some = chosen[start : start + CHUNK]
        for k, kind in enumerate(KINDS):
            copies = [planted(source[int(i)][0], kind, (seed, int(i), k)) for i in some]
            theirs = hashes_of(np.stack([thumbnail(copy) for copy in copies]))
            if crops:
                views = [hashes_of(part_thumbnails(source[int(i)][0])) for i in some]
                pairs = [_distance(v, t) for v, t in zip(views, theirs, strict=True)]
                distance, turned = np.array([(d.min(), t[d.argmin()]) for d, t in pairs]).T
            else:
                distance, turned = _distance(hashes[start : start + CHUNK], theirs)
            parts.append(pd.DataFrame({"image": some, "kind": kind, "distance": distance}))
            if embed is not None:
                copies = [_mirror(c) if t else c for c, t in zip(copies, turned, strict=True)]
                similarities.append(_cosines(embed, [source[int(i)][0] for i in some], copies))
    found = pd.concat(parts, ignore_index=True)
    different = pd.DataFrame({"image": chosen, "other": chosen[nearest], "distance": distances})
    if embed is not None:
        found["similarity"] = np.concatenate(similarities)
        _, turned = _distance(hashes, hashes[nearest])
        different["similarity"] = np.concatenate(
            [
                _cosines(
                    embed,
                    [source[int(i)][0] for i in chosen[some]],
                    [
                        _mirror(source[int(i)][0]) if t else source[int(i)][0]
                        for i, t in zip(chosen[nearest[some]], turned[some], strict=True)
                    ],
                )
                for start in range(0, len(chosen), CHUNK)
                for some in [slice(start, start + CHUNK)]
            ]
        )
    return Calibration(found, different, counts, int(plain.sum()))


def _between(hashes):
    """How many pairs have each distance, and of each hash the nearest other with its distance."""
    counts = np.zeros(BITS + 1, np.int64)
    nearest, distances = [], []
    for i in range(len(hashes)):
        own, _ = _distance(hashes[i : i + 1], hashes)
        counts += np.bincount(own[i + 1 :], minlength=BITS + 1)
        own[i] = BITS + 1
        nearest.append(int(own.argmin()))
        distances.append(int(own.min()))
    return counts, np.array(nearest), np.array(distances)


def _distance(hashes, others):
    """Bits in which hashes differ, straight or mirrored, and whether mirrored is nearer."""
    straight = np.bitwise_count(hashes ^ others).sum(-1, dtype=np.int64)
    turned = np.bitwise_count(mirrored(hashes) ^ others).sum(-1, dtype=np.int64)
    return np.minimum(straight, turned), turned < straight


def _mirror(image):
    return np.ascontiguousarray(image[:, ::-1])


def _cosines(embed, images, others):
    one, other = (directions(embed, [_rgb(i) for i in some]) for some in (images, others))
    return (one * other).sum(1)


def _rgb(image):
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
