"""Damaged files of weights: each is refused with `WeightsError`, or read as it declares itself.

A few hundred damages of every format, from fixed seeds: bits, bytes and integers changed, files cut
short, pieces repeated, numbers of a header replaced. Nothing may escape as another exception, and
no more may be allocated than the limit allows.
"""

import json
import random
import tracemalloc

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

from keras_vit_scale.weights.archive import open_archive
from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.npz import write_npz
from keras_vit_scale.weights.safetensors_file import write_safetensors

#: Bytes that a damaged file may declare; the whole ones have 2 kB.
LIMIT = 2**20

#: What Python and the libraries take beside the arrays, found by a run without damage.
BESIDE = 2**22

CASES = 300


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(3)
    return {
        "blocks.0/kernel": rng.normal(size=(7, 11)).astype("float32"),
        "blocks.0/bias": rng.normal(size=13).astype(ml_dtypes.bfloat16),
        "blocks.1/kernel": np.asfortranarray(rng.normal(size=(5, 3, 2))),
        "head/kernel": rng.integers(-9, 9, (17, 3), dtype="int8"),
        "step": np.array(12345, "int64"),
        "none": np.zeros((0, 3), "float16"),
    }


def stored(path, arrays):
    write_npz(path, arrays)


def deflated(path, arrays):
    np.savez_compressed(path, **arrays)


def safetensors(path, arrays):
    write_safetensors(path, arrays, {"format": "np"})


def hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def torch(path, arrays):
    import torch

    tensors = {k: torch.from_numpy(v.astype("float32")) for k, v in arrays.items() if v.size}
    tensors["half"] = torch.ones(3, 5, dtype=torch.bfloat16)
    torch.save(tensors, path)


WRITERS = {
    "npz stored": stored, "npz deflated": deflated, "safetensors": safetensors, "hdf5": hdf5,
    "torch": torch,
}  # fmt: skip


def changed_numbers(data, rng):
    """Other decimal numbers in the first place where a header has some."""
    start = rng.randrange(min(len(data), 1500))
    digits = [i for i in range(start, min(len(data), 1500)) if data[i : i + 1].isdigit()]
    if digits:
        number = rng.choice([b"0", b"-1", b"9", b"4294967296", b"9223372036854775808", b"1e9"])
        data[digits[0] : digits[0] + rng.choice([1, len(number)])] = number
    return data


def changed_integer(data, rng):
    """Four or eight bytes that say another length or offset."""
    value = rng.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, len(data)])
    width = rng.choice([4, 8])
    place = rng.randrange(len(data))
    data[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
    return data


def flipped(data, rng):
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def repeated(data, rng):
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:second] + data[first:]


def removed(data, rng):
    first = rng.randrange(len(data))
    return data[:first] + data[first + rng.choice([1, 4, 8, 100]) :]


DAMAGES = [flipped, flipped, changed_integer, changed_numbers, cut, repeated, removed]


def read(path):
    """The arrays of a file, each held against what the file declares."""
    with open_archive(path, allow_torch_pickle=True, max_bytes=LIMIT) as archive:
        assert sum(info.nbytes for info in archive.infos.values()) <= LIMIT
        found = {name: archive.read(name) for name in archive.infos}
        for name, array in found.items():
            assert (array.shape, array.dtype) == archive.infos[name]
    return found


def attack(path, whole):
    """Damages a file in every way; returns what was read all the same, and how often not."""
    survivors, refused = [], 0
    for seed in range(CASES):
        rng = random.Random(seed)
        path.write_bytes(rng.choice(DAMAGES)(bytearray(whole), rng))
        try:
            survivors.append(read(path))
        except WeightsError:
            refused += 1
    return survivors, refused


@pytest.fixture
def frugal():
    """Fails where a test allocated more than the limit and what stands beside it."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT + BESIDE


@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_refused_or_read_as_declared(name, arrays, tmp_path, request):
    if name == "torch" and keras.backend.backend() != "torch":
        pytest.skip("PyTorch is loaded where it is the backend")
    path = tmp_path / "weights.npz"
    WRITERS[name](path, arrays)
    whole = path.read_bytes()
    assert len(read(path)) >= 6
    request.getfixturevalue("frugal")
    survivors, refused = attack(path, whole)
    assert refused > CASES // 10
    if name.startswith("npz"):
        # Zip's checksums tell every change of an array: it comes whole, or not at all.
        known = {array.tobytes("A") for array in arrays.values()}
        for found in survivors:
            assert {array.tobytes("A") for array in found.values()} <= known


@pytest.mark.parametrize("part", ["model.safetensors.index.json", "model-2.safetensors"])
def test_damaged_shards_are_refused_or_read_as_declared(part, arrays, tmp_path, frugal):
    names = list(arrays)
    shards = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for shard, held in shards.items():
        write_safetensors(tmp_path / shard, {name: arrays[name] for name in held})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    assert read(tmp_path).keys() == arrays.keys()
    path = tmp_path / part
    whole = path.read_bytes()
    for seed in range(CASES):
        rng = random.Random(seed)
        path.write_bytes(rng.choice(DAMAGES)(bytearray(whole), rng))
        try:
            found = read(tmp_path)
        except WeightsError:
            continue
        assert found.keys() == arrays.keys()


def test_nothing_but_noise(tmp_path, frugal):
    rng = random.Random(5)
    path = tmp_path / "weights"
    for start in [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x20\0\0\0\0\0\0\0{", b"\x80\x02"]:
        for _ in range(20):
            path.write_bytes(start + rng.randbytes(rng.randrange(300)))
            with pytest.raises(WeightsError):
                read(path)
