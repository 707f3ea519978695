"""Pairs of images whose hashes are near, the nearest of each image, mirrored or not."""

import numpy as np

from keras_vit_scale.data.near_duplicates.hashing import mirrored
from keras_vit_scale.data.near_duplicates.neighbours import NEAREST, Neighbours, compared

#: Pairs: `image` of the training source resembles image `other` of evaluation source `source`,
#: or of the training source itself (`WITHIN`). NaN is a similarity that was not asked for.
PAIR = np.dtype(
    [
        ("image", np.int64),
        ("source", np.int32),
        ("other", np.int64),
        ("distance", np.int16),
        ("mirrored", np.bool_),
        ("similarity", np.float32),
        ("hash", np.uint8, 32),
    ]
)
WITHIN = -1

#: Images that are compared with each other in one step of a search within a source.
STEP = 1024


def against(
    images: np.ndarray,
    hashes: np.ndarray,
    index: Neighbours,
    sources: np.ndarray,
    others: np.ndarray,
) -> np.ndarray:
    """The pairs of images with what is in an index: `PAIR` (P,), by image, the nearest first.

    Args:
        images: Indices of the images, (N,).
        hashes: Their hashes, uint8 (N, 32).
        index: Of M hashes.
        sources, others: Which image of which source each of these is, (M,).
    """
    straight, turned = ([index.search(view)] for view in (hashes, mirrored(hashes)))
    return _pairs(images, hashes, straight, turned, sources, others)


def among(images: np.ndarray, hashes: np.ndarray, radius: int) -> np.ndarray:
    """The pairs of images with earlier ones of the same: `PAIR` (P,).

    Arguments as for `against`; images are sorted.
    """
    index = Neighbours(radius, len(hashes))
    found = [np.zeros(0, PAIR)]
    everywhere = np.full(len(images), WITHIN, np.int32)
    for start in range(0, len(images), STEP):
        some = slice(start, start + STEP)
        own = hashes[some]
        earlier = np.tri(len(own), k=-1, dtype=bool)
        straight, turned = (
            [index.search(view), _later(compared(view, own, radius, earlier), start)]
            for view in (own, mirrored(own))
        )
        found.append(_pairs(images[some], own, straight, turned, everywhere, images))
        index.add(own)
    return np.concatenate(found)


def best(pairs: np.ndarray) -> np.ndarray:
    """Of each image one pair: with an evaluation source before one within, then the nearest.

    Sorted by image.
    """
    within = pairs["source"] == WITHIN
    order = np.lexsort(
        (
            pairs["other"],
            pairs["source"],
            pairs["mirrored"],
            pairs["distance"],
            within,
            pairs["image"],
        )
    )
    pairs = pairs[order]
    return pairs[np.unique(pairs["image"], return_index=True)[1]]


def _pairs(images, hashes, straight, turned, sources, others):
    """The nearest of what was found of each image, straight and mirrored, as pairs.

    `straight` and `turned` are lists of (distances, places), each (N, 8).
    """
    distances, places = (
        np.concatenate([found[k] for found in (*straight, *turned)], axis=1) for k in (0, 1)
    )
    is_turned = np.arange(distances.shape[1]) >= NEAREST * len(straight)
    is_turned = np.broadcast_to(is_turned, distances.shape)
    order = np.lexsort((places, is_turned, distances), axis=1)[:, :NEAREST]
    rows, columns = np.nonzero(np.take_along_axis(places, order, 1) >= 0)
    columns = order[rows, columns]
    places = places[rows, columns]
    pairs = np.zeros(len(rows), PAIR)
    pairs["image"], pairs["hash"] = images[rows], hashes[rows]
    pairs["source"], pairs["other"] = sources[places], others[places]
    pairs["distance"], pairs["mirrored"] = distances[rows, columns], is_turned[rows, columns]
    pairs["similarity"] = np.nan
    # Of the parts of one image the nearest is enough; it comes first.
    _, first = np.unique(pairs[["image", "source", "other"]], return_index=True)
    return pairs[np.sort(first)]


def _later(found, start):
    """Places counted from `start` on."""
    distances, places = found
    return distances, np.where(places >= 0, places + start, -1)
