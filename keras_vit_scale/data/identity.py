"""Whether images are those that a run has seen before."""

import hashlib

import numpy as np

from keras_vit_scale.data.sources import Source


def digest_of_labels(*sources: Source | None) -> str:
    """A digest of the labels of sources, in their order, and of the names of their classes.

    An image that was added, removed or given another label changes it, and with it the order
    of all images and what is held out. Pixels are not read.

    Args:
        sources: The sources; `None` for one that there is not.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data import ArraySource
    >>> from keras_vit_scale.data.identity import digest_of_labels
    >>> images = np.zeros((3, 8, 8), "uint8")
    >>> one, other = ArraySource(images, [0, 1, 1]), ArraySource(images[:2], [0, 1])
    >>> digest_of_labels(one, None) == digest_of_labels(one, None)
    True
    >>> digest_of_labels(one) == digest_of_labels(other)
    False
    """
    found = hashlib.blake2b(digest_size=16)
    for source in sources:
        if source is None:
            found.update(b"none")
            continue
        found.update(repr((len(source), source.class_names)).encode())
        labels = np.asarray(source.labels)
        if labels.ndim == 1:
            found.update(np.asarray(labels, "<i8").tobytes())
        else:
            kind = "<f4" if np.issubdtype(labels.dtype, np.floating) else "<i4"
            found.update(repr((labels.shape, kind)).encode())
            found.update(np.asarray(labels, kind).tobytes())
    return found.hexdigest()
