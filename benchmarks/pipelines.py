"""Ways from JPEG files to batches for training, each measured alone in the process of this file.

    python benchmarks/pipelines.py '{"contestant": "torchvision", "antialias": true, ...}'

input_pipeline.py writes the settings and reads the last line that is printed, a JSON object: images
a second by the clock and by processor time, and the most memory that the process and those that it
started held. An environment that lacks a contestant's packages gives `{"missing": ...}` instead.
This file imports keras_vit_scale for ours alone.

All read the same files, cut out the inception crop (5 to 100 % of the area, 3:4 to 4:3), resize it
to one size by a bilinear filter, mirror half, and give batches of float32 in [-1, 1].
"""

import itertools
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from devices import host_memory

AREA, ASPECT = (0.05, 1.0), (3 / 4, 4 / 3)


class Ours:
    """As it comes: two threads of this process read."""

    packages = ("keras",)
    fast = False
    processes = False

    def batches(self, s):
        from keras_vit_scale.data import ImageFolder, TrainTransform, train_batches

        transform = TrainTransform(s.image_size, antialias=s.antialias, fast=self.fast)
        source = ImageFolder(s.folder, fast=self.fast)
        workers = s.cores if self.processes else 0
        return train_batches(source, transform, s.batch, workers=workers)


class OursProcesses(Ours):
    processes = True


class Fast(Ours):
    packages = ("keras", "simplejpeg", "opencv-python-headless", "nvidia-nvimgcodec-cu12")
    fast = True


class FastProcesses(Fast):
    processes = True


class Place:
    """A file and its class, read by Grain with Pillow."""

    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*/*.jpg"))
        names = sorted({file.parent.name for file in self.files})
        self.labels = [names.index(file.parent.name) for file in self.files]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.files[index], self.labels[index]


class GrainPillow:
    packages = ("grain", "pillow")

    def batches(self, s):
        import grain
        from PIL import Image

        def transform(example, rng):
            file, label = example
            with Image.open(file) as picture:
                picture = picture.convert("RGB")
            width, height = picture.size
            left, top, w, h = crop(width, height, rng)
            part = picture.crop((left, top, left + w, top + h))
            part = part.resize((s.image_size, s.image_size), Image.Resampling.BILINEAR)
            if rng.random() < 0.5:
                part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return np.asarray(part, np.float32) / 127.5 - 1, label

        images = grain.MapDataset.source(Place(s.folder)).seed(0).shuffle().repeat()
        images = images.random_map(transform).batch(s.batch)
        if s.cores == 1:
            return images.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))
        from absl import flags

        flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        processes = grain.MultiprocessingOptions(num_workers=s.cores, per_worker_buffer_size=2)
        return images.to_iter_dataset(options).mp_prefetch(processes)


def crop(width, height, rng):
    for _ in range(100):
        area, aspect = rng.uniform(*AREA) * width * height, rng.uniform(*ASPECT)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w <= width and h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    return 0, 0, width, height


class Torchvision:
    """Its image folder and loader as they are: Pillow reads, and resizes with antialiasing."""

    packages = ("torch", "torchvision")
    tensors = False

    def __init__(self):
        import torch
        import torchvision.transforms.v2

        torch.set_num_threads(1)
        self.torch, self.vision = torch, torchvision

    def read(self, path):
        """Pixels by its own decoder, uint8 (3, H, W)."""
        io = self.vision.io
        return io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB)

    def batches(self, s):
        v2 = self.vision.transforms.v2
        steps = [
            v2.RandomResizedCrop(s.image_size, AREA, ASPECT, antialias=s.antialias),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(self.torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
        options = {"loader": self.read} if self.tensors else {}
        data = self.vision.datasets.ImageFolder(s.folder, v2.Compose(steps), **options)
        loader = self.torch.utils.data.DataLoader(
            data, s.batch, shuffle=True, num_workers=s.cores, drop_last=True,
            persistent_workers=True,
        )  # fmt: skip
        return itertools.chain.from_iterable(itertools.repeat(loader))


class TorchvisionTensors(Torchvision):
    """Its own decoder, and its resizing of tensors."""

    tensors = True


class TfData:
    """tf.data's fused decoding and cropping."""

    packages = ("tensorflow",)

    def __init__(self):
        import tensorflow as tf

        self.tf = tf

    def batches(self, s):
        tf = self.tf
        place = Place(s.folder)

        def transform(file, label):
            encoded = tf.io.read_file(file)
            shape = tf.io.extract_jpeg_shape(encoded)
            begin, size, _ = tf.image.sample_distorted_bounding_box(
                shape, tf.zeros([1, 0, 4]), area_range=AREA, aspect_ratio_range=ASPECT,
                min_object_covered=0, max_attempts=100, use_image_if_no_bounding_boxes=True,
            )  # fmt: skip
            window = tf.concat([begin[:2], size[:2]], 0)
            image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
            image = tf.image.resize(image, [s.image_size] * 2, antialias=s.antialias)
            return tf.image.random_flip_left_right(image) / 127.5 - 1, label

        files = tf.data.Dataset.from_tensor_slices(([str(f) for f in place.files], place.labels))
        files = files.shuffle(len(place)).repeat()
        images = files.map(transform, num_parallel_calls=s.cores)
        return images.batch(s.batch, drop_remainder=True).prefetch(2)


CONTESTANTS = {
    "ours": Ours, "fast": Fast, "ours_processes": OursProcesses, "fast_processes": FastProcesses,
    "grain_pillow": GrainPillow, "torchvision": Torchvision,
    "torchvision_tensors": TorchvisionTensors, "tf_data": TfData,
}  # fmt: skip


def family():
    """The numbers of this process and of those that it started."""
    found, seen = [os.getpid()], 0
    while seen < len(found):
        for task in Path(f"/proc/{found[seen]}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
        seen += 1
    return found


def peak_memory():
    """Bytes that the process and its children held at most, each for itself, added up."""
    total = 0
    for process in family():
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        total += sum(int(w.split()[1]) for w in status.splitlines() if w.startswith("VmHWM"))
    return total * 1024


def processor_seconds():
    """Seconds that the process and its children have computed."""
    ticks = 0
    for process in family():
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        ticks += sum(map(int, fields.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(s):
    device = cpu()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: s.cores])
    contestant = CONTESTANTS[s.contestant]()
    batches = iter(contestant.batches(s))
    # As many as are read ahead at most, so that none of those counted was made before.
    for _ in range(s.warm_up):
        images = next(batches)[0]
    begun, busy = time.perf_counter(), processor_seconds() if host_memory() else None
    for _ in range(s.batches):
        images = next(batches)[0]
    seconds = time.perf_counter() - begun
    values = np.asarray(images)
    if values.dtype != np.float32 or values.shape[0] != s.batch or np.abs(values).max() > 1.01:
        raise ValueError(f"no batch of ours: {values.dtype} {values.shape} {values.max()}")
    count = s.batches * s.batch
    return {
        "rate": count / seconds,
        "busy": None if busy is None else 1e3 * (processor_seconds() - busy) / count,
        "memory": peak_memory() if host_memory() else None,
        "device": device,
        "versions": {package: metadata.version(package) for package in contestant.packages},
    }


def cpu():
    from devices import cpu_name

    return cpu_name()


def main():
    s = SimpleNamespace(**json.loads(sys.argv[1]))
    try:
        result = measure(s)
    except ImportError as error:
        result = {"missing": str(error)}
    print(json.dumps(result), flush=True)
    # Not through the ends of loaders that were stopped amid a batch.
    os._exit(0)


if __name__ == "__main__":
    main()
