"""Other test sets of ImageNet's classes: ReaL, ImageNet-v2 and ObjectNet, from a user's files.

Labels are ImageNet's indices, classes sorted by their WordNet numbers (n01440764 is 0), as
folders so named make them. Nothing is downloaded.
"""

import json
import re
from collections import Counter
from pathlib import Path

from keras_vit_scale.data.folder import IMAGE_SUFFIXES
from keras_vit_scale.evaluation.accepted import AcceptedImages

CLASSES = 1000

#: A pixel of red, to recognise the test's images by, and one that compression has tinted.
OBJECTNET_BORDER = 2


def real(
    folder: str | Path, labels: str | Path, classes: int = CLASSES, *, orientation: str = "ignore"
) -> AcceptedImages:
    """ImageNet's validation images with the reassessed labels (ReaL).

    Args:
        folder: Holds `ILSVRC2012_val_00000001.JPEG` and so on, in folders of classes or
            not; other names are ignored.
        labels: `real.json`: a list with the accepted labels of each image, in the order of
            their numbers; an image whose list is empty is left out.
        classes: Labels are below this.
        orientation: "ignore" or "apply", as for `read_image`.

    Raises:
        ValueError: If the file is missing or no such list, a label is out of range, or
            there is not exactly one image for each of its entries.

    Source: Beyer et al., "Are we done with ImageNet?", arXiv 2006.07159.
    """
    accepted = _read_json(labels, list)
    for number, entry in enumerate(accepted, 1):
        fits = isinstance(entry, list) and all(type(c) is int and 0 <= c < classes for c in entry)
        if not fits:
            raise ValueError(
                f"Each entry of {str(labels)!r} must be a list of labels in [0, {classes}). "
                f"Received: {entry!r} for image {number}"
            )
    files: dict[int, Path] = {}
    for path in sorted(_existing(folder).rglob("*")):
        match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", path.name, re.IGNORECASE)
        if match is None:
            continue
        number = int(match[1])
        if number in files:
            raise ValueError(
                "A validation image must be there once. "
                f"Received: {str(files[number])!r} and {str(path)!r}"
            )
        files[number] = path
    expected = set(range(1, len(accepted) + 1))
    _check_same("images", "entries of " + repr(str(labels)), set(files), expected)
    return AcceptedImages(
        [files[number] for number in sorted(files)], accepted, orientation=orientation
    )


def imagenet_v2(
    folder: str | Path, classes: int = CLASSES, *, orientation: str = "ignore"
) -> AcceptedImages:
    """ImageNet-v2: one folder a class, named by its index, each image with that label.

    The names are read as the numbers they are. Sorted as text, as `ImageFolder` sorts, they
    come as 0, 1, 10, 100, 101, ..., and nearly every label is wrong.

    Args:
        folder: Holds the folders `0` to `999` of one of the three variants.
        classes: How many folders there must be.
        orientation: "ignore" or "apply", as for `read_image`.

    Raises:
        ValueError: If a folder is missing, is none of these or holds no image.

    Source: Recht et al., "Do ImageNet Classifiers Generalize to ImageNet?", arXiv 1902.10811.
    """
    folders = {path.name: path for path in _existing(folder).iterdir() if path.is_dir()}
    _check_same("folders", "classes", set(folders), {str(c) for c in range(classes)})
    files = {c: _images(folders[str(c)]) for c in range(classes)}
    paths = [path for c in files for path in files[c]]
    return AcceptedImages(paths, [[c] for c in files for _ in files[c]], orientation=orientation)


def objectnet(
    folder: str | Path, mappings: str | Path, classes: int = CLASSES, *, orientation: str = "ignore"
) -> AcceptedImages:
    """ObjectNet's images of the classes that ImageNet has too, 113 of its 313.

    A prediction, among all of ImageNet's classes, is right if it is any that its class is
    mapped to; images of the others are left out. A border of 2 pixels is cut off each image:
    ObjectNet's come in a red frame.

    Args:
        folder: `images`, with one folder a class.
        mappings: The folder `mappings` that comes with them: `folder_to_objectnet_label.json`,
            `objectnet_to_imagenet_1k.json`, `pytorch_to_imagenet_2012_id.json` and
            `imagenet_to_label_2012_v2`.
        classes: Labels are below this.
        orientation: "ignore" or "apply", as for `read_image`.

    Raises:
        ValueError: If a file is missing or malformed, a folder of images is in none of them,
            a mapped class has no folder, or what one file names another lacks.

    Source: Barbu et al., "ObjectNet: A large-scale bias-controlled dataset for pushing the
    limits of object recognition models", NeurIPS 2019.
    """
    indices = objectnet_indices(mappings, classes)
    folders = sorted(path for path in _existing(folder).iterdir() if path.is_dir())
    _check_same("folders", "classes", {path.name for path in folders}, set(indices))
    files, accepted = [], []
    for path in folders:
        images = _images(path)
        files += images
        accepted += [indices[path.name]] * len(images)
    return AcceptedImages(files, accepted, border=OBJECTNET_BORDER, orientation=orientation)


def objectnet_indices(mappings: str | Path, classes: int = CLASSES) -> dict[str, list[int]]:
    """ImageNet's indices of each folder of ObjectNet, none where it has no such class.

    Arguments and errors are those of `objectnet`.
    """
    mappings = Path(mappings)
    label_of_folder = _read_mapping(mappings / "folder_to_objectnet_label.json", str)
    names_of_label = _read_mapping(mappings / "objectnet_to_imagenet_1k.json", str)
    line_of_index = _read_mapping(mappings / "pytorch_to_imagenet_2012_id.json", int)
    names = _read_text(mappings / "imagenet_to_label_2012_v2").splitlines()
    index_of_line = {}
    for index, line in line_of_index.items():
        if not (index.isdecimal() and int(index) < classes):
            raise ValueError(
                f"'pytorch_to_imagenet_2012_id.json' must map indices in [0, {classes}). "
                f"Received: {index!r}"
            )
        index_of_line[line] = int(index)
    if len(index_of_line) != len(line_of_index):
        raise ValueError(
            "'pytorch_to_imagenet_2012_id.json' must map each index to a number of its own. "
            f"Received: {len(index_of_line)} numbers for {len(line_of_index)} indices"
        )
    # A name that two classes share cannot be mapped; it is no mistake unless it is asked for.
    times = Counter(name.strip() for name in names)
    index_of_name = {
        name.strip(): index_of_line[line]
        for line, name in enumerate(names)
        if line in index_of_line and times[name.strip()] == 1
    }
    indices: dict[str, list[int]] = {folder: [] for folder in label_of_folder}
    folder_of_label = {label: folder for folder, label in label_of_folder.items()}
    if len(folder_of_label) != len(label_of_folder):
        raise ValueError("'folder_to_objectnet_label.json' must not name a class twice.")
    for label, text in names_of_label.items():
        wanted = [name.strip() for name in text.split(";")]
        unknown = [name for name in wanted if name not in index_of_name]
        if label not in folder_of_label or unknown:
            raise ValueError(
                "Each class of 'objectnet_to_imagenet_1k.json' must have a folder, and each of its "
                "names must be one line of 'imagenet_to_label_2012_v2'. "
                f"Received: {label!r}: {text!r}"
            )
        indices[folder_of_label[label]] = [index_of_name[name] for name in wanted]
    return indices


def _existing(folder):
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"A folder of images must exist. Received: {str(folder)!r}")
    return folder


def _images(folder):
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ValueError(f"The folder of a class must hold images. Received: {str(folder)!r}")
    return files


def _check_same(things, of, present, expected):
    missing, unknown = sorted(expected - present), sorted(present - expected)
    if missing or unknown:
        raise ValueError(
            f"There must be just the {things} of the {len(expected)} {of}. Received: "
            f"{len(missing)} missing {missing[:5]}, {len(unknown)} unknown {unknown[:5]}"
        )


def _read_text(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read the labels {str(path)!r}: {error}") from error


def _read_json(path, kind):
    """What a JSON file holds, a list or a dictionary that names nothing twice."""

    def unique(pairs):
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[:5]} are there twice")
        return dict(pairs)

    text = _read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The labels {str(path)!r} are no JSON: {error}") from error
    if not isinstance(value, kind):
        raise ValueError(
            f"The labels {str(path)!r} must be a JSON {kind.__name__}. "
            f"Received: a {type(value).__name__}"
        )
    return value


def _read_mapping(path, kind):
    mapping = _read_json(path, dict)
    for key, value in mapping.items():
        if type(value) is not kind:
            raise ValueError(
                f"The values of {str(path)!r} must be of type {kind.__name__}. "
                f"Received: {value!r} for {key!r}"
            )
    return mapping
