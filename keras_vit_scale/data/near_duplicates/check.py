"""A second look at pairs whose hashes are near: whether a model takes them for the same."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_vit_scale.data.near_duplicates.candidates import WITHIN
from keras_vit_scale.data.sources import Source

#: From uint8 images (H, W, 1 or 3), which may differ in size, to vectors (N, D), such as
#: `Classifier.embed`.
Embed = Callable[[Sequence[np.ndarray]], np.ndarray]

#: Pairs whose images are held at once.
CHUNK = 64

#: Components of the embedding of a known image by which a model is told from another.
PROBED = 8


def checked(
    pairs: np.ndarray,
    train: Source,
    sources: Sequence[Source],
    embed: Embed,
    similarity: float,
) -> np.ndarray:
    """The pairs whose embeddings have at least this cosine, with it as their similarity.

    Of a pair that was found mirrored the other image is mirrored.
    """
    kept = [pairs[:0]]
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK].copy()
        images: list[np.ndarray] = []
        places: dict[tuple[int, int, bool], int] = {}
        rows = [
            (
                _place(places, images, train, WITHIN, pair["image"], False),
                _place(
                    places,
                    images,
                    train if pair["source"] == WITHIN else sources[pair["source"]],
                    pair["source"],
                    pair["other"],
                    pair["mirrored"],
                ),
            )
            for pair in chunk
        ]
        vectors = directions(embed, images)
        one, other = np.array(rows).T
        chunk["similarity"] = (vectors[one] * vectors[other]).sum(1)
        kept.append(chunk[chunk["similarity"] >= similarity])
    return np.concatenate(kept)


def directions(embed: Embed, images: Sequence[np.ndarray]) -> np.ndarray:
    """The embeddings of images, float32 (N, D), of length 1.

    Raises:
        ValueError: If they are not one finite vector an image.
    """
    vectors = np.asarray(embed(images), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(images) or not np.isfinite(vectors).all():
        raise ValueError(
            "`embed` must return one finite vector an image, (N, D), for images of any sizes; "
            "`Classifier.embed` does. "
            f"Received: {vectors.dtype} of shape {vectors.shape} for {len(images)} images"
        )
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def probe(embed: Embed) -> list[float]:
    """What tells an embedding from another: its first components of a known image."""
    ramp = np.arange(64, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None] * 4, ramp * 3, ramp[:, None] ^ ramp), -1)
    return [round(float(x), 4) for x in directions(embed, [image.astype(np.uint8)])[0, :PROBED]]


def _place(places, images, source, number, index, turned):
    """Where an image stands among those to embed; it is read if it is not there."""
    key = (int(number), int(index), bool(turned))
    if key not in places:
        image = source[key[1]][0]
        image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
        places[key] = len(images)
        images.append(np.ascontiguousarray(image[:, ::-1]) if turned else image)
    return places[key]
