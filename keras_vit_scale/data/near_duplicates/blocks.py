"""The hashes of a source, in files of so many images each: streamed, and resumed by file."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_vit_scale.atomic import replacing
from keras_vit_scale.data.decode import BadImageError
from keras_vit_scale.data.near_duplicates.hashing import (
    BITS,
    VIEWS,
    are_plain,
    hashes_of,
    part_thumbnails,
    thumbnail,
)
from keras_vit_scale.data.sources import Source

#: What is known of an image besides its hashes: whether it can be compared by them.
COMPARED, PLAIN, UNREAD = 0, 1, 2

#: Images whose thumbnails are held at once.
CHUNK = 512

#: What to do with an image that cannot be read; it may raise.
OnBad = Callable[[BadImageError], None]


class Blocks:
    """Hashes of a source in a folder, a file for each `size` images.

    A file is there whole or not at all, and depends on nothing but its images; so any process
    may write any of them, and one that was killed goes on with what is missing.

    Args:
        source: The images.
        folder: Where the files are.
        size: Images a file.
        crops: Hash parts of each image too.
    """

    def __init__(self, source: Source, folder: Path, size: int, crops: bool = False):
        self.source, self.folder, self.size = source, folder, size
        self.views = VIEWS if crops else 1
        self.dtype = np.dtype([("hash", np.uint8, (self.views, BITS // 8)), ("state", np.uint8)])

    def __len__(self) -> int:
        return -(-len(self.source) // self.size)

    def images(self, block: int) -> range:
        """The indices of a block's images."""
        return range(block * self.size, min((block + 1) * self.size, len(self.source)))

    def is_done(self, block: int) -> bool:
        """Whether a block is hashed."""
        return self._path(block).exists()

    def write(self, block: int, on_bad: OnBad, workers: int, count: Callable[[int], None]) -> None:
        """Hashes the images of a block.

        Args:
            block: Which.
            on_bad: Is told of each image that cannot be read, in their order.
            workers: Threads that read images.
            count: Is told how many images are done, from time to time.
        """
        images = self.images(block)
        found = np.zeros(len(images), self.dtype)
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(images), CHUNK):
                chunk = images[start : start + CHUNK]
                # Threads give back thumbnails, so that no more than `workers` images are whole.
                read = list(pool.map(self._thumbnails, chunk))
                for item in read:
                    if isinstance(item, BadImageError):
                        on_bad(item)
                found[start : start + len(chunk)] = self._hashed(read)
                count(len(chunk))
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(block)) as path, open(path, "wb") as file:
            np.save(file, found)

    def read(self, blocks: range) -> tuple[np.ndarray, np.ndarray]:
        """Indices (N,) and hashes, uint8 (N, 32), of the images of some blocks to be compared.

        Where parts are hashed too, an image has a row for each.
        """
        indices, hashes = [np.zeros(0, np.int64)], [np.zeros((0, BITS // 8), np.uint8)]
        for block in blocks:
            found = np.load(self._path(block), allow_pickle=False)
            compared = found["state"] == COMPARED
            indices.append(np.repeat(np.asarray(self.images(block))[compared], self.views))
            hashes.append(found["hash"][compared].reshape(-1, BITS // 8))
        return np.concatenate(indices), np.ascontiguousarray(np.concatenate(hashes))

    def states(self) -> dict[int, int]:
        """How many images are compared, plain and unread."""
        counts = np.zeros(3, np.int64)
        for block in range(len(self)):
            states = np.load(self._path(block), allow_pickle=False)["state"]
            counts += np.bincount(states, minlength=3)
        return dict(enumerate(counts.tolist()))

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npy"

    def _thumbnails(self, index: int) -> np.ndarray | BadImageError:
        """Of the image and its parts, uint8 (views, 32, 32)."""
        try:
            image = self.source[index][0]
        except BadImageError as error:
            return error
        return thumbnail(image)[None] if self.views == 1 else part_thumbnails(image)

    def _hashed(self, read: Sequence[np.ndarray | BadImageError]) -> np.ndarray:
        """What is known of images of which thumbnails could be read, or not."""
        found = np.zeros(len(read), self.dtype)
        found["state"] = UNREAD
        sound = {i: item for i, item in enumerate(read) if not isinstance(item, BadImageError)}
        if sound:
            places, thumbnails = list(sound), np.stack(list(sound.values()))
            found["hash"][places] = hashes_of(thumbnails)
            found["state"][places] = np.where(are_plain(thumbnails[:, 0]), PLAIN, COMPARED)
        return found
