"""How a camera was held, as EXIF tells it: eight ways to store one picture."""

import numpy as np
from PIL import ExifTags, Image

#: What may be done about it.
ORIENTATIONS = ("ignore", "apply")

#: For each orientation whether the stored rows are the picture's columns, and then whether the
#: picture's rows and its columns come in reverse.
_STORED = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

#: The orientation that undoes another; the other six undo themselves.
_UNDONE_BY = {6: 8, 8: 6}


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """The picture, (H, W, channels), that a file stores in an orientation from 1 to 8.

    Source: CIPA DC-008, "Exchangeable image file format for digital still cameras", 4.6.5.

    Example:

    >>> import numpy as np
    >>> from keras_vit_scale.data.orientation import upright
    >>> upright(np.array([[[1], [2]], [[3], [4]]]), 6)[..., 0]
    array([[3, 1],
           [4, 2]])
    """
    swapped, rows, columns = _STORED[orientation]
    picture = stored.swapaxes(0, 1) if swapped else stored
    return np.ascontiguousarray(picture[:: -1 if rows else 1, :: -1 if columns else 1])


def as_stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    """What `upright` makes the picture of."""
    return upright(picture, _UNDONE_BY.get(orientation, orientation))


def stored_orientation(image: Image.Image) -> int:
    """What an image's EXIF says; 1, upright, if it says nothing, or nothing that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return orientation if orientation in _STORED else 1
    # Pillow raises whatever the damaged part of it led it to; the picture may still be whole.
    except Exception:
        return 1
